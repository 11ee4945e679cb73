"""`psapi secret`: secrets as they are pasted, into a file that the receiver uses."""

import base64
import fcntl
import hashlib
import json
import os
import pty
import re
import subprocess
import time
from contextlib import contextmanager

import pytest

from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, SECRET, signed
from setup_command import PSAPI, psapi, psapi_on_a_terminal, read_until

BARE = SECRET.removeprefix("whsec_")


def fingerprint(secret):
    return hashlib.sha256(base64.b64decode(secret.removeprefix("whsec_"))).hexdigest()[:8]


PASTED = {
    "as it is": SECRET,
    "without whsec_": BARE,
    "without padding": SECRET.rstrip("="),
    "white space": f"\n  {SECRET}\t \r\n\n",
    "double quotes": f'"{SECRET}"\n',
    "single quotes": f"'{SECRET}'",
    "backquotes": f"`{SECRET}`",
    "quotes of a word processor": f"\u201c{SECRET}\u201d",
    "byte order mark and no-break space": f"\ufeff{SECRET}\u00a0",
    "UTF-16": SECRET.encode("utf-16-le").decode(),
    "NUL bytes around it": f"\0{SECRET}\0\0",
}
REFUSED = {
    "nothing": ("", "empty"),
    "quotes alone": ('""', "empty"),
    "a signature's prefix": ("v1," + SECRET, "v1,"),
    "a signature": ("v1," + base64.b64encode(b"x" * 32).decode(), "v1,"),
    "a public key": ("whpk_" + BARE, "whpk_"),
    "a private key": ("whsk_" + BARE, "whsk_"),
    "23 bytes": ("whsec_" + base64.b64encode(b"a" * 23).decode(), "24"),
    "76 bytes": ("whsec_" + base64.b64encode(b"a" * 76).decode(), "75"),
    "the dots of the portal": ("whsec_" + "\u2022" * 32, "base64"),
    "stars": ("whsec_" + "*" * 32, "base64"),
    "two lines": (f"{SECRET}\n{OTHER_SECRET}", "several lines: give one secret at a time"),
    "with its name": (f"SECRET={SECRET}", "NAME="),
    "a megabyte": ("A" * 1_000_000, "75|base64"),
    "NUL bytes alone": ("\0" * 40, "is empty"),
}


@pytest.mark.parametrize("what", PASTED)
def test_pasted(direct, place, what):
    """Surrounding characters are removed; the receiver verifies its next request with the secret."""
    place.write_secret(OTHER_SECRET)
    assert_refused(direct.send(signed()), "signature_mismatch")
    done = psapi(place, "secret", "add", stdin=PASTED[what])
    assert fingerprint(SECRET) in done.stdout
    assert BARE.rstrip("=") not in done.stdout + done.stderr
    assert_accepted(direct.send(signed()))
    assert_accepted(direct.send(signed(secrets=[OTHER_SECRET])))


@pytest.mark.parametrize("what", REFUSED)
def test_refused(place, what):
    text, says = REFUSED[what]
    place.write_secret(OTHER_SECRET)
    before = place.secret_file.read_bytes()
    done = psapi(place, "secret", "add", stdin=text, expect=65)
    assert re.search(says, done.stderr), done.stderr
    assert BARE[:12] not in done.stderr and done.stdout == ""
    assert place.secret_file.read_bytes() == before


@pytest.mark.parametrize("what", ["directory", "FIFO", "device", "circle"])
def test_path_that_is_no_file(place, what):
    """Each command says what -t and doctor say, of the path that was named: /dev/null is not to be moved away."""
    path = place.secret_file
    path.unlink()
    {"directory": path.mkdir, "FIFO": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/null"),
     "circle": lambda: path.symlink_to(path)}[what]()
    fault = "is a link that leads in a circle" if what == "circle" else "is not a regular file"
    told = f"{path}: {fault}: move it away: then psapi secret add makes a file"
    for status, *arguments in ((73, "add"), (66, "list"), (73, "drop", "01234567")):
        done = psapi(place, "secret", *arguments, stdin=SECRET, expect=status)
        assert told in done.stderr, done
    assert f"error: secret {told}\n" in place.run("-t").stdout
    assert [name for name in os.listdir(place.dir) if "secret" in name] == ["secret"]
    path.rename(place.dir / "away")
    psapi(place, "secret", "add", stdin=SECRET)


def test_asked_on_a_terminal(place):
    """The screen does not show it."""
    place.write_secret("")
    status, screen = psapi_on_a_terminal(place, "secret", "add", typed=SECRET.encode() + b"\n")
    assert status == 0, screen
    assert BARE[:12].encode() not in screen
    assert fingerprint(SECRET).encode() in screen
    assert SECRET in place.secret_file.read_text()


@pytest.mark.parametrize("typed", [
    f"\n  \n\t\"{SECRET}\" \n", f" {SECRET}\r", f"'{SECRET}'\necho what comes behind it\n",
    f"{SECRET}\x04\x04"])
def test_pasted_on_a_terminal(place, typed):
    """A line break before it, blanks and quotes, more lines behind it, ^D instead of Enter."""
    place.write_secret("")
    status, screen = psapi_on_a_terminal(place, "secret", "add", typed=typed.encode())
    assert status == 0, screen
    assert BARE[:12].encode() not in screen and b"behind it" not in screen
    assert place.secret_file.read_text().count(SECRET) == 1


def test_nothing_on_a_terminal(place):
    place.write_secret("")
    status, screen = psapi_on_a_terminal(place, "secret", "add", typed=b"\n\x04")
    assert status == 65 and b"empty" in screen, (status, screen)


def test_stopped_on_a_terminal(place):
    """^Z restores the echo while it is stopped; fg asks again."""
    place.write_secret("")
    job = "set -m; {} secret add; stty | grep -c -- -echo; fg".format(PSAPI)
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm"} | place.environment()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/bash", ["bash", "-c", job], environment)
    screen = read_until(terminal, b": ")
    os.write(terminal, b"whsec_abc\x1a")
    screen += read_until(terminal, b": ")
    assert b"\r\n0\r\n" in screen, screen
    os.write(terminal, SECRET.encode() + b"\n")
    screen += read_until(terminal, b"added")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, screen
    assert BARE[:12].encode() not in screen


def test_interrupted_on_a_terminal(place):
    place.write_secret("")
    status, screen = psapi_on_a_terminal(place, "secret", "add", typed=b"whsec_abc\x03")
    assert status == -2, (status, screen)
    assert place.secret_file.read_text() == "\n" or place.secret_file.read_text() == ""


def test_never_as_an_argument(place):
    """All users of the machine can see a command line."""
    done = psapi(place, "secret", "add", SECRET, expect=64)
    assert BARE not in done.stderr and "command line" in done.stderr


def test_new_file(place):
    place.secret_file.unlink()
    psapi(place, "secret", "add", stdin=SECRET)
    stat = place.secret_file.stat()
    assert stat.st_mode & 0o7777 == 0o640
    assert stat.st_gid == place.spool.path.stat().st_gid
    text = place.secret_file.read_text()
    assert re.fullmatch(r"# added \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n" + re.escape(SECRET) + "\n", text)


def test_missing_directory(place):
    """The remedy is a command that mends it."""
    there = place.dir / "etc" / "psapi"
    add = ["secret", "add", "-o", f"PSAPI_SECRET_FILE={there / 'secret'}"]
    done = psapi(place, *add, stdin=SECRET, expect=73)
    assert f"its directory: No such file or directory: install -d -m 0755 {there}\n" in done.stderr, done
    subprocess.run(done.stderr.rpartition(": ")[2].split(), check=True, timeout=60)
    psapi(place, *add, stdin=SECRET)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_owner_and_group_are_kept(place):
    place.write_secret("# mine", mode=0o640)
    os.chown(place.secret_file, 0, 12345)
    psapi(place, "secret", "add", stdin=SECRET)
    stat = place.secret_file.stat()
    assert (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (0, 12345, 0o640)
    assert place.secret_file.read_text().startswith("# mine\n# added ")


def test_rotation(direct, place):
    """add, see which one matches, drop the old one: `list` shows when that is safe."""
    assert_accepted(direct.send(signed()))
    psapi(place, "secret", "add", stdin=OTHER_SECRET)
    old, new = (json.loads(line) for line in
                psapi(place, "secret", "list", "--json").stdout.splitlines())
    assert old["fingerprint"] == fingerprint(SECRET) and "added" not in old
    assert old["matched"] == place.spool.attempts()[0]["at"]
    assert new["fingerprint"] == fingerprint(OTHER_SECRET) and "matched" not in new
    assert_accepted(direct.send(signed(secrets=[OTHER_SECRET])))
    (place.spool.path / "attempts.jsonl").rename(place.spool.path / "attempts.jsonl.1")
    assert_accepted(direct.send(signed(secrets=[OTHER_SECRET])))
    table = psapi(place, "secret", "list").stdout
    first, second = table.splitlines()[1:]
    assert old["matched"] in first                  # from the rotated log
    assert place.spool.attempts()[0]["at"] in second
    psapi(place, "secret", "drop", fingerprint(SECRET))
    assert_refused(direct.send(signed()), "signature_mismatch")
    assert_accepted(direct.send(signed(secrets=[OTHER_SECRET])))
    assert SECRET not in place.secret_file.read_text()


def test_own_deliveries_are_no_match(direct, place):
    """`send` and `doctor` sign with every secret, which does not tell the secret of the sender."""
    assert_accepted(direct.send(signed(webhook_id="msg_psapi0123456789012345678901")))
    assert place.spool.attempts()[-1]["key"] == fingerprint(SECRET)
    assert "never" in psapi(place, "secret", "list").stdout
    assert_accepted(direct.send(signed()))
    assert "never" not in psapi(place, "secret", "list").stdout


def test_list_is_not_deceived(direct, place):
    """An id with the text of a member of a log line is not read as a fingerprint."""
    webhook_id = f'x","key":"{fingerprint(OTHER_SECRET)}","y":"'
    assert_refused(direct.send(signed(webhook_id=webhook_id, secrets=[OTHER_SECRET])),
                   "signature_mismatch")
    place.write_secret(OTHER_SECRET)
    (row,) = map(json.loads, psapi(place, "secret", "list", "--json").stdout.splitlines())
    assert "matched" not in row


def test_drop(place):
    done = psapi(place, "secret", "drop", "00000000", expect=65)
    assert "psapi secret list" in done.stderr
    psapi(place, "secret", "drop", "zz", expect=64)
    done = psapi(place, "secret", "drop", fingerprint(SECRET).upper())
    assert "0 left" in done.stdout and "restart" in done.stdout


def test_list_shows_what_is_wrong(place):
    place.write_secret("v1," + BARE, SECRET)
    out = psapi(place, "secret", "list").stdout
    assert "line 1 begins with \"v1,\"" in out and fingerprint(SECRET) in out
    assert BARE not in out
    place.secret_file.unlink()
    assert "psapi secret add" in psapi(place, "secret", "list", expect=66).stderr


def test_many_at_once(place):
    """Concurrent changes wait for each other: none is lost."""
    place.write_secret("")
    secrets = ["whsec_" + base64.b64encode(bytes([i]) * 24).decode() for i in range(6)]
    environment = place.environment()
    running = [subprocess.Popen([PSAPI, "secret", "add"], env=environment, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
               for _ in secrets]
    for child, secret in zip(running, secrets):
        child.stdin.write(secret)
        child.stdin.close()
    assert [child.wait(timeout=60) for child in running] == [0] * len(secrets)
    assert all(secret in place.secret_file.read_text() for secret in secrets)


def test_locked_directory(place):
    """Another process holds a lock on the directory: bounded, and said."""
    with open_directory(place.secret_file.parent) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        begin = time.monotonic()
        done = psapi(place, "secret", "add", stdin=OTHER_SECRET, expect=None)
        assert 9 < time.monotonic() - begin < 40
        assert done.returncode == 73 and "another process has locked it for over 10 s" in done.stderr, done
        assert "fuser -v" in done.stderr
    psapi(place, "secret", "add", stdin=OTHER_SECRET)


@contextmanager
def open_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
