"""The Debian package file: lintian, Debian's policy, and its contents."""

import re
import subprocess

import pytest

from receiver import ROOT


@pytest.fixture
def package(installed):
    [found] = [p for p in installed.glob("psapi-fcgi_*.deb") if "later" not in p.name]
    return found


def deb(*arguments):
    return subprocess.run(["dpkg-deb", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def test_lintian(package):
    """No error and no warning. Each override has its reason in debian/."""
    changes = package.with_suffix(".changes")
    done = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", changes], text=True,
                          capture_output=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_configuration_is_the_administrators(package, tmp_path):
    deb("--control", package, tmp_path)
    assert (tmp_path / "conffiles").read_text().split() == [
        "/etc/apache2/conf-available/psapi-web.conf", "/etc/apache2/conf-available/psapi.conf",
        "/etc/logrotate.d/psapi-fcgi", "/etc/nginx/snippets/psapi-web.conf", "/etc/nginx/snippets/psapi.conf",
        "/etc/psapi/psapi.conf"]
    assert "/etc/psapi/secret" not in deb("--contents", package)
    for script in ("postinst", "prerm", "postrm"):
        assert "debconf" not in (tmp_path / script).read_text()


def test_installed_paths_are_the_packages(package, tmp_path):
    """/usr/local belongs to the administrator."""
    deb("--extract", package, tmp_path)
    for path in ("lib/systemd/system", "usr/share/doc/psapi-fcgi/examples/nginx",
                 "usr/share/doc/psapi-fcgi/examples/apache"):
        for file in filter(lambda p: p.is_file(), (tmp_path / path).iterdir()):
            assert "/usr/local" not in file.read_text(), file
    assert "Type=notify\n" in (tmp_path / "lib/systemd/system/psapi-fcgi.service").read_text()
    shown = subprocess.run([tmp_path / "usr/bin/psapi-fcgi", "-V"], capture_output=True, text=True).stdout
    assert shown.split()[1] == deb("--field", package, "Version").strip()


def test_dist_has_what_a_release_contains(package):
    """prepare.sh has called make deb; test_destdir.py tests the tarball of make dist."""
    version = deb("--field", package, "Version").strip()
    made = {path.name.rsplit("_", 1)[0] for path in (ROOT / "dist").glob(f"*_{version}_*.deb")}
    assert made == {f"psapi-fcgi_{version}", f"psapi-fcgi-postgresql_{version}"}
    shown = subprocess.run(["make", "-n", "-C", ROOT, "deb"], capture_output=True, text=True).stdout
    assert "tools/deb.sh dist" in shown


def test_one_version():
    """Makefile and package have the same version; NEWS.md has it or a later one."""
    make = re.search(r"^VERSION = (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1)
    changelog = re.match(r"psapi-fcgi \((.*?)\)", (ROOT / "debian/changelog").read_text()).group(1)
    assert make == changelog
    assert re.search(rf"^## (Unreleased|{re.escape(make)})", (ROOT / "NEWS.md").read_text(), re.M)


def test_builds_with_what_make_deps_build_installs():
    """Both lists of libraries are the same."""
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    packages = re.search(r"^BUILD_PACKAGES = (.*)$", makefile, re.M).group(1).split()
    control = (ROOT / "debian/control").read_text().split("\nPackage:")[0]
    for name in packages:
        if name not in ("gcc", "libc6-dev", "make"):
            assert re.search(rf"^ {re.escape(name)}\b", control, re.M), name


def test_module_is_a_package_of_its_own(package, tmp_path):
    """It alone needs libpq; and the unit's network is opened only where it is installed."""
    assert "libpq" not in deb("--field", package, "Depends") and "postgresql.so" not in deb("--contents", package)
    [module] = [p for p in package.parent.glob("psapi-fcgi-postgresql_*.deb") if "later" not in p.name]
    contents = deb("--contents", module)
    assert "/psapi-fcgi/psapi-fcgi-postgresql.so" in contents
    assert "/psapi-fcgi.service.d/postgresql.conf" in contents and "/psapi-fcgi@.service.d/postgresql.conf" in contents
    depends = deb("--field", module, "Depends")
    assert "libpq5" in depends and f"psapi-fcgi (= {deb('--field', package, 'Version').strip()})" in depends
