"""The module for PSAPI_STORE: only a program that is told to use it loads it, and what is wrong with it is one line."""

import subprocess

import pytest

from receiver import BINARY, ROOT, STATIC

PSAPI = BINARY.parent / "psapi"
MODULE = "psapi-fcgi-postgresql.so"
STORE = "host=/nowhere dbname=psapi"
SECRET = "wrong-secret"


@pytest.fixture
def check(place):
    """The receiver's lines with these settings, which it refuses with one of them."""
    def run(**settings):
        place.settings |= settings
        done = place.run("-t")
        assert done.returncode == 78, done
        (line,) = [one for one in (done.stdout + done.stderr).splitlines() if "PSAPI_STORE" in one]
        return line
    place.spool.path.mkdir(mode=0o770, exist_ok=True)
    for folder in ("new", "events", "failed", "state", "hold", "tmp"):
        (place.spool.path / folder).mkdir(mode=0o770)
    return run


@pytest.mark.skipif(STATIC, reason="a static program loads no module")
@pytest.mark.parametrize("program", [BINARY, PSAPI], ids=["psapi-fcgi", "psapi"])
def test_programs_need_no_libpq(program):
    needed = subprocess.run(["readelf", "--dynamic", program], capture_output=True, text=True, check=True).stdout
    assert "libjansson" in needed and "libpq" not in needed
    assert "libpq" in subprocess.run(["readelf", "--dynamic", BINARY.parent / MODULE], capture_output=True, text=True,
                                     check=True).stdout


def test_without_the_setting_it_is_not_loaded(place, tmp_path):
    """A module that cannot be loaded is in nobody's way."""
    (tmp_path / MODULE).write_text("no module")
    place.settings["PSAPI_MODULE_DIR"] = tmp_path
    assert place.run("-t").returncode == 0


def test_missing(check, tmp_path):
    assert f"{tmp_path}/{MODULE}: No such file or directory: install psapi-fcgi-postgresql" in \
        check(PSAPI_STORE=STORE, PSAPI_MODULE_DIR=tmp_path)


def test_not_loadable(check, tmp_path):
    (tmp_path / MODULE).write_text("no module")
    line = check(PSAPI_STORE=STORE, PSAPI_MODULE_DIR=tmp_path)
    assert "cannot be loaded" in line and "libpq 14" in line


def test_of_another_version(check, tmp_path):
    """A table of another size, as another version would have it."""
    source = 'struct { const char *version; unsigned long size; } table = {"9.9", 16};\n' \
        "const void *postgresql_backend(void) { return &table; }\n"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-o", tmp_path / MODULE, "-"], input=source, text=True,
                   check=True)
    assert "of another version" in check(PSAPI_STORE=STORE, PSAPI_MODULE_DIR=tmp_path)


@pytest.mark.parametrize("value", [
    f"postgresql://psapi:{SECRET}@db1/psapi", f"host=db1 password={SECRET}", f"postgresql://db1/psapi?password={SECRET}",
    f"postgresql://db1/psapi?pass%77ord={SECRET}", f"host=db1 sslpassword = {SECRET}"])
def test_a_password_is_refused_and_not_shown(place, value):
    place.settings |= {"PSAPI_STORE": value, "PSAPI_MODULE_DIR": BINARY.parent}
    for program in ([BINARY, "-t"], [PSAPI, "list"]):
        done = subprocess.run(program, env=place.environment(), capture_output=True, text=True, timeout=30)
        shown = done.stdout + done.stderr
        assert done.returncode != 0 and "must hold no password" in shown and "passfile=" in shown, done
        assert SECRET not in shown


@pytest.mark.parametrize("value", ["/var/lib/postgresql", "mysql://db1/psapi", "host=db1 nonsense=1"])
def test_no_connection_string(check, value):
    assert value not in check(PSAPI_STORE=value, PSAPI_MODULE_DIR=BINARY.parent)


@pytest.mark.skipif(not (ROOT / "build/static/psapi-fcgi").exists(), reason="make static builds it")
def test_a_static_program_refuses_it(place):
    done = subprocess.run([ROOT / "build/static/psapi-fcgi", "-t"], env=place.environment() | {"PSAPI_STORE": STORE},
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 78 and "a static program can load no module" in done.stdout + done.stderr
