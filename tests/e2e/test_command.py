"""psapi-fcgi as a command: -t, -V, -h, -f, -o, and settings that stop the start."""

import contextlib
import grp
import os
import shutil
import socket
import subprocess

import pytest

from fcgi_client import Connection
from receiver import BINARY, STATIC, WEB_USER, Receiver, start_on_a_port, wait_for
from replies import assert_accepted, parse_cgi
from sender import signed
from servers import Socket, pairs

EX_CONFIG = 78
BAD = {
    "PSAPI_TOLERANCE": ["abc", "-1", "", "1.5", "300s", "99999999999999999999"],
    "PSAPI_MAX_BODY": ["1M", "-1", "18446744073709551616"],
    "PSAPI_MIN_FREE": ["much", "-5"],
    "PSAPI_THREADS": ["0", "-3", "many", "1000000"],
    "PSAPI_READ_TIMEOUT": ["0", "x", "-1"],
}
GOOD = {"PSAPI_TOLERANCE": "1000000000", "PSAPI_MAX_BODY": "1", "PSAPI_MIN_FREE": "0",
        "PSAPI_THREADS": "1", "PSAPI_READ_TIMEOUT": "1"}


def assert_stopped(result, key, value, source):
    assert result.returncode == EX_CONFIG, result
    assert_names(result, key, value, source)


def assert_names(result, key, value, source):
    """One line with the setting and its source."""
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert key in line and value in line and source in line, line


@pytest.mark.parametrize("key", BAD)
def test_bad_setting_in_the_environment(place, key):
    for value in BAD[key]:
        assert_stopped(place.run(**{key: value}), key, value, "environment")


@pytest.mark.parametrize("key", BAD)
def test_bad_setting_in_the_file(place, key):
    for value in BAD[key]:
        place.conf.write_text(f"# comment\n{key}={value}\n")
        assert_stopped(place.run(), key, value, str(place.conf))


@pytest.mark.parametrize("key", BAD)
def test_bad_setting_on_the_command_line(place, key):
    for value in BAD[key]:
        assert_stopped(place.run("-o", f"{key}={value}"), key, value, "command line")


# The page is not built without shared libraries.
PRINTING = [("psapi-fcgi", ["-h"], 74), ("psapi-fcgi", ["-V"], 74), ("psapi-fcgi", ["-t"], 74), ("psapi", ["-h"], 74),
            ("psapi", ["-V"], 74), ("psapi", ["help"], 74), ("psapi", ["check"], 3),
            *([] if STATIC else [("psapi-web", ["-h"], 74), ("psapi-web", ["-V"], 74)])]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("program, arguments, status", PRINTING)
def test_standard_output_that_cannot_be_written(place, program, arguments, status):
    """Nobody has seen it, so the exit status is no success; of a monitoring plugin UNKNOWN, or what is worse."""
    with Socket(place):
        pass
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BINARY.with_name(program), *arguments], env=place.environment(), stdin=subprocess.DEVNULL,
                              stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == status and "standard output: No space left on device" in done.stderr, done


def test_all_sources_are_checked_with_t(place):
    assert_stopped(place.run("-t", PSAPI_TOLERANCE="x"), "PSAPI_TOLERANCE", "x", "environment")


def test_command_line_over_environment_over_file(place):
    """-t names the spool that is used."""
    listen = f"unix:{place.dir}/x.sock"
    for file, environment, option, expected in (("a", None, None, "a"), ("a", "b", None, "b"),
                                                ("a", "b", "c", "c"), ("a", None, "c", "c")):
        for name in "abc":
            (place.dir / name).mkdir(exist_ok=True)
        place.conf.write_text(f"PSAPI_SPOOL={place.dir}/{file}\nPSAPI_LISTEN={listen}\n")
        place.settings.pop("PSAPI_SPOOL", None)
        settings = {"PSAPI_SPOOL": place.dir / environment} if environment else {}
        options = ["-o", f"PSAPI_SPOOL={place.dir}/{option}"] if option else []
        result = place.run("-t", *options, **settings)
        assert result.returncode == 0, result
        assert f"{place.dir}/{expected}" in result.stdout + result.stderr


def test_file_of_another_path(place):
    other = place.dir / "other.conf"
    other.write_text("PSAPI_TOLERANCE=bad1\n")
    assert_stopped(place.run("-f", other), "PSAPI_TOLERANCE", "bad1", str(other))
    result = place.run("-f", place.dir / "missing.conf")
    assert result.returncode == EX_CONFIG and "missing.conf" in result.stderr
    result = place.run(PSAPI_CONF=place.dir / "missing.conf")
    assert result.returncode == EX_CONFIG and "missing.conf" in result.stderr


def test_file_for_the_shell_and_systemd(place):
    """Comments, blank lines, quotes: what `.` and EnvironmentFile= both understand."""
    place.conf.write_text('# a comment\n\n; another\nPSAPI_TOLERANCE="300"\nPSAPI_THREADS=\'4\'\n'
                          "OTHER_VARIABLE=ignored\n")
    result = place.run("-t", PSAPI_LISTEN=f"unix:{place.dir}/x.sock")
    assert result.returncode == 0, result


def test_unknown_setting(place):
    """A misspelt name is an error, not the default."""
    result = place.run("-t", "-o", "PSAPI_TOLERANZ=300")
    assert result.returncode != 0 and "PSAPI_TOLERANZ" in result.stderr


def test_t_on_a_good_configuration(place):
    before = set(os.listdir(place.dir))
    result = place.run("-t", PSAPI_LISTEN=f"unix:{place.dir}/x.sock", **GOOD)
    assert result.returncode == 0, result
    for text in (str(place.spool.path), str(place.secret_file), f"{place.dir}/x.sock"):
        assert text in result.stdout + result.stderr
    assert set(os.listdir(place.dir)) == before, "a check leaves nothing behind"
    assert place.spool.files() == {}


def test_t_beside_a_running_receiver(place):
    """Checking must not disturb it."""
    receiver = Receiver(place).start()
    inode = receiver.path.stat().st_ino
    place.run("-t", PSAPI_LISTEN=f"unix:{receiver.path}")
    assert receiver.path.stat().st_ino == inode
    assert receiver.process.poll() is None


def test_t_beside_a_running_receiver_on_a_port(place):
    _, (host, port) = start_on_a_port(place)
    result = place.run("-t", PSAPI_LISTEN=f"{host}:{port}")
    assert result.returncode == 0, result
    assert f"ok: socket {host}:{port}: something listens there" in result.stdout, result


@pytest.mark.skipif(WEB_USER is None, reason="only root can be somebody else")
def test_t_where_the_socket_cannot_be_reached(place):
    """Without access to the socket, -t does not report a running receiver."""
    closed = place.dir / "closed"
    closed.mkdir(mode=0o700)
    result = place.run("-t", via=["setpriv", "--reuid", WEB_USER, "--clear-groups"],
                       PSAPI_LISTEN=f"unix:{closed}/x.sock")
    [line] = [line for line in result.stdout.splitlines() if "socket" in line]
    assert line.startswith("error: ") and "denied" in line, result


def test_t_on_bad_set_ups(place):
    listen = f"unix:{place.dir}/x.sock"
    file = place.dir / "file"
    file.write_text("")
    place.write_secret("whpk_abc")
    bad_secret = place.run("-t", PSAPI_LISTEN=listen)
    place.write_secret("whsec_" + "A" * 40)
    for result, text in (
            (bad_secret, "whpk_"),
            (place.run("-t", PSAPI_LISTEN=listen, PSAPI_SPOOL=file), str(file)),
            (place.run("-t", PSAPI_LISTEN=listen, PSAPI_SPOOL=place.dir / "no/such"), "no/such"),
            (place.run("-t", PSAPI_LISTEN=listen, PSAPI_SECRET_FILE=place.dir / "no"), "no"),
            (place.run("-t", PSAPI_LISTEN="unix:/nonexistent/x.sock"), "/nonexistent/x.sock"),
            (place.run("-t", PSAPI_LISTEN=listen, PSAPI_LISTEN_GROUP="nosuchgroup"), "nosuchgroup"),
    ):
        assert result.returncode != 0, result
        assert text in result.stdout + result.stderr, result


@pytest.mark.skipif(WEB_USER is None, reason="only root can be somebody else")
@pytest.mark.parametrize("name", ["new", "events", "failed", "state", "hold", "tmp"])
def test_t_on_a_directory_of_another_user(place, name):
    """Of each of them: as after root wrote to the spool."""
    Receiver(place).start().stop()
    for path in place.spool.path.iterdir():
        if path.name != name:
            shutil.chown(path, WEB_USER, WEB_USER)
    (place.spool.path / name).chmod(0o2775)     # readable, but not writable
    place.spool.path.chmod(0o2775)
    result = place.run("-t", via=["setpriv", "--reuid", WEB_USER, "--regid", WEB_USER,
                                  "--clear-groups"])
    assert result.returncode == EX_CONFIG, result
    assert f"error: spool {place.spool.path}/{name}: " in result.stdout and "denied" in result.stdout


def test_t_on_a_disk_that_is_too_full(place):
    for _ in range(2):      # before its directories are made, and after
        result = place.run("-t", PSAPI_MIN_FREE=1 << 60)
        assert result.returncode == EX_CONFIG and "PSAPI_MIN_FREE" in result.stdout, result
        Receiver(place).start().stop()


def test_low_limit_of_open_files(place):
    """Fewer threads are started, so that each can have a connection: too many would leave none. -t warns."""
    limit = ["prlimit", "--nofile=104:104"]
    place.settings |= {"PSAPI_LISTEN": f"unix:{place.dir}/psapi.sock", "PSAPI_THREADS": "1024"}
    said = ("104 files may be open, enough for 12 of 1024 threads: raise the limit of open files (LimitNOFILE=, ulimit -n), "
            "or lower PSAPI_THREADS")
    result = place.run("-t", via=limit)
    assert f"warning: threads, by the limits of this process: {said}" in result.stdout and result.returncode == 0, result
    receiver = Receiver(place, via=limit).start()
    wait_for(lambda: said in receiver.log(), said)
    assert "could be started" not in receiver.log()
    tasks = f"/proc/{receiver.process.pid}/task"
    wait_for(lambda: len(os.listdir(tasks)) >= 13, "12 threads, and the main one")
    assert len(os.listdir(tasks)) == 13
    with contextlib.ExitStack() as kept:
        for connection in [kept.enter_context(Connection(receiver.path)) for _ in range(12)]:
            webhook = signed()
            assert_accepted(parse_cgi(connection.exchange(pairs(webhook), webhook.body, keep=True)))
    receiver.stop()
    result = place.run(via=["prlimit", "--nofile=36:36"])
    assert result.returncode == 71 and "36 files may be open, enough for 0 of 1024 threads" in result.stderr, result


def test_start_without_a_spool(place):
    result = place.run(PSAPI_LISTEN=f"unix:{place.dir}/x.sock", PSAPI_SPOOL="/proc/no/such")
    assert result.returncode != 0
    assert_names(result, "PSAPI_SPOOL", "/proc/no/such", "environment")


def test_start_without_a_socket(place):
    """A setting that fails only when it is used is named with its source as well."""
    result = place.run("-o", "PSAPI_LISTEN=unix:/nonexistent/x.sock")
    assert result.returncode != 0
    assert_names(result, "PSAPI_LISTEN", "/nonexistent/x.sock", "command line")
    place.conf.write_text("\nPSAPI_LISTEN=unix:/nonexistent/x.sock\n")
    result = place.run()
    assert_names(result, "PSAPI_LISTEN", "/nonexistent/x.sock", f"{place.conf}:2")


def test_start_on_a_port_that_is_taken(place):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        result = place.run(PSAPI_LISTEN=listen)
    assert result.returncode != 0
    assert_names(result, "PSAPI_LISTEN", listen, "environment")
    assert result.stderr.count("PSAPI_LISTEN") == 1, result.stderr


def test_start_without_the_group(place):
    place.settings.pop("PSAPI_LISTEN_GROUP", None)
    place.conf.write_text("PSAPI_LISTEN_GROUP=nosuchgroup\n")
    result = place.run(PSAPI_LISTEN=f"unix:{place.dir}/x.sock")
    assert result.returncode != 0
    assert_names(result, "PSAPI_LISTEN_GROUP", "nosuchgroup", f"{place.conf}:1")


@pytest.mark.skipif(WEB_USER is None, reason="only root can be somebody else")
def test_start_with_a_group_of_which_it_is_no_member(place):
    """Only a member may give a file to a group: the message says so."""
    for path in (place.dir, place.secret_file, place.spool.path):
        shutil.chown(path, "nobody")
    result = place.run(via=["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"],
                       PSAPI_LISTEN=f"unix:{place.dir}/x.sock",
                       PSAPI_LISTEN_GROUP=str(grp.getgrnam(WEB_USER).gr_gid))
    assert result.returncode != 0
    assert "chgrp" in result.stderr and "must be a member of PSAPI_LISTEN_GROUP" in result.stderr
    assert not list(place.dir.glob("x.sock*"))


def test_version_and_help(place):
    version = place.run("-V")
    assert version.returncode == 0 and "psapi" in version.stdout and version.stderr == ""
    usage = place.run("-h")
    assert usage.returncode == 0 and usage.stderr == ""
    for word in ("-t", "-f", "-o", "-V", "-h", "PSAPI_SPOOL", "PSAPI_LISTEN"):
        assert word in usage.stdout


def test_bad_usage(place):
    for arguments in (["-x"], ["-f"], ["-o"], ["-o", "noequals"], ["stray"]):
        result = place.run(*arguments)
        assert result.returncode != 0 and result.stderr, arguments


def test_mistyped_variable(place):
    """One that is named nearly as a setting would be ignored without a word: -t and the log of the start say it."""
    words = ("PSAPI_TOLERENCE (environment): no such setting: did you mean PSAPI_TOLERANCE? "
             "psapi-fcgi -h lists all settings")
    tested = place.run("-t", PSAPI_TOLERENCE=1, PSAPI_OF_A_HANDLER=1)
    assert tested.returncode == 0 and f"warning: setting {words}\n" in tested.stdout and "HANDLER" not in tested.stdout
    receiver = Receiver(place, PSAPI_TOLERENCE="1").start()
    assert f"psapi-fcgi: {words}\n" in receiver.log()
    place.conf.write_text("PSAPI_SPOL = /x\n")
    refused = place.run("-t")
    assert refused.returncode == EX_CONFIG and "did you mean PSAPI_SPOOL?" in refused.stderr, refused


def test_blanks_around_the_equals_sign(place):
    place.conf.write_text("PSAPI_TOLERANCE = many\n")
    refused = place.run("-t")
    assert f'PSAPI_TOLERANCE="many" ({place.conf}:1): must be a whole number' in refused.stderr, refused
