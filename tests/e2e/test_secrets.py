"""The secret file: refused files and the messages about them, re-reading, rotation.

Neither the log nor a reply contains a secret.
"""

import base64
import json
import os
import re
import subprocess
import threading

import pytest

from load import Load
from receiver import wait_for
from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, SECRET, signed
from setup_command import psapi

BARE = SECRET.removeprefix("whsec_")

# case -> (line of the file, text of the log)
BAD_LINES = {
    "empty": ("", "secret"),
    "a comment only": ("# nothing yet", "secret"),
    "v1, pasted along": ("v1," + BARE, r"v1,|signature"),
    "double quotes": (f'"{SECRET}"', "quot"),
    "single quotes": (f"'{SECRET}'", "quot"),
    "public key": ("whpk_" + BARE, "whpk_|public"),
    "private key": ("whsk_" + BARE, "whsk_|private"),
    "23 bytes": ("whsec_" + base64.b64encode(b"a" * 23).decode(), "short|24"),
    "76 bytes": ("whsec_" + base64.b64encode(b"a" * 76).decode(), "long|75"),
    "not base64": ("whsec_" + "*" * 40, "base64"),
    "base64 of another alphabet": ("whsec_" + "-_" * 20, "base64"),
    "a word": ("changeme", "base64|short|24"),
}
# case -> (mode, owner or None, text of the log)
BAD_FILES = {
    "readable by others": (0o644, None, "mode|others|permission"),
    "writable by others": (0o642, None, "mode|others|permission"),
    "writable by the group": (0o660, None, "mode|group|permission"),
    "owner is somebody else": (0o640, 65534, "own|denied"),
}
# With no line that looks like a secret, and before the first accepted event, requests are held (test_hold.py).
EMPTY = ("empty", "a comment only")
SPELLINGS = [SECRET, BARE, SECRET.rstrip("="), f"  {SECRET}\t", SECRET + "\r",
             f"# a comment\n\n{OTHER_SECRET}\n  # another\n{SECRET}"]


class Row:
    """Names the row of a table for which an assertion in a loop failed."""

    def __init__(self, what):
        self.what = what

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, AssertionError):
            raise AssertionError(f"{self.what}: {error}") from error


def log_line(server, pattern, since=0):
    """The log's first line that matches, after `since` characters."""
    def look():
        return [line for line in server.log()[since:].splitlines() if re.search(pattern, line)]
    return wait_for(look, f"a log line with {pattern!r} in\n{server.log()}", 5)[0]


def test_spellings(server, place):
    for text in SPELLINGS:
        place.write_secret(text)
        assert_accepted(server.send(signed()))


def test_unusable_line(server, place):
    """The receiver starts: 503, and the reason in the log, until the line is corrected."""
    for what in sorted(BAD_LINES, key=lambda what: what in EMPTY):
        line, mentions = BAD_LINES[what]
        with Row(what):
            before = len(server.log())
            place.write_secret(line)
            server.renew()
            assert_refused(server.send(signed()), "no_secret")
            line = log_line(server, mentions, before)
            assert str(place.secret_file) in line or "secret" in line, line
            assert BARE not in server.log() and "*" * 40 not in server.log()
            place.write_secret(SECRET)
            assert_accepted(server.send(signed()))


def test_unusable_file(server, place):
    for what, (mode, owner, mentions) in BAD_FILES.items():
        if owner is not None and os.geteuid() != 0:
            continue    # only root can give a file away
        with Row(what):
            before = len(server.log())
            place.write_secret(SECRET, mode=mode, owner=owner)
            server.renew()
            assert_refused(server.send(signed()), "no_secret")
            assert str(place.secret_file) in log_line(server, mentions, before)
            place.write_secret(SECRET)
            assert_accepted(server.send(signed()))


def test_file_is_missing(server, place):
    place.secret_file.unlink()
    server.renew()
    assert_refused(server.send(signed()), "no_secret")
    log_line(server, str(place.secret_file))
    place.write_secret(SECRET)
    assert_accepted(server.send(signed()))


def test_file_is_a_directory(server, place):
    place.secret_file.unlink()
    place.secret_file.mkdir()
    server.renew()
    assert_refused(server.send(signed()), "no_secret")


@pytest.mark.needs("persistent")
def test_good_file_becomes_unusable(server, place):
    """The last good secrets stay in force, and the log says so."""
    for what in [*BAD_LINES, *BAD_FILES, "missing"]:
        if what in BAD_FILES and BAD_FILES[what][1] is not None and os.geteuid() != 0:
            continue    # only root can give a file away
        with Row(what):
            becomes_unusable(server, place, what)
            place.write_secret(SECRET)


def becomes_unusable(server, place, what):
    for _ in range(4):      # each of several receivers has read the good file
        assert_accepted(server.send(signed()))
    before = len(server.log())
    if what in BAD_LINES:
        place.write_secret(BAD_LINES[what][0])
    elif what in BAD_FILES:
        mode, owner, _ = BAD_FILES[what]
        place.write_secret(OTHER_SECRET, mode=mode, owner=owner)
    else:
        place.secret_file.unlink()
    assert_accepted(server.send(signed()))
    assert_refused(server.send(signed(secrets=[OTHER_SECRET])), "signature_mismatch")
    log_line(server, "last|previous|keep|still|stay|in force", before)
    for _ in range(12):
        assert_accepted(server.send(signed()))
    assert len(server.log()[before:].splitlines()) < 10, "repeated at every request"
    place.write_secret(OTHER_SECRET)
    assert_accepted(server.send(signed(secrets=[OTHER_SECRET])))
    assert_refused(server.send(signed()), "signature_mismatch")


def test_one_unusable_line(server, place):
    """The other lines stay in force."""
    place.write_secret("whpk_" + BARE, SECRET)
    assert_accepted(server.send(signed()))
    log_line(server, "whpk_|public")


def test_every_change_is_seen(server, place):
    """Also changes within one tick of the clock to a file of the same size."""
    for _ in range(10):
        for mine, other in ((SECRET, OTHER_SECRET), (OTHER_SECRET, SECRET)):
            place.write_secret(mine)
            assert_accepted(server.send(signed(secrets=[mine])))
            assert_refused(server.send(signed(secrets=[other])), "signature_mismatch")


def test_change_in_place(server, place):
    """An editor may write into the existing file."""
    assert_accepted(server.send(signed()))
    place.secret_file.write_text(f"{OTHER_SECRET}\n{SECRET}\n")
    for secret in (SECRET, OTHER_SECRET):
        assert_accepted(server.send(signed(secrets=[secret])))


def test_rotation_under_load(server, place):
    """old -> old + new -> new, while the sender signs with valid secrets: no request is refused."""
    phase = {"secrets": [SECRET]}
    lock = threading.Lock()

    def send():
        with lock:
            secrets = phase["secrets"]
        return server.send(signed(secrets=secrets))

    def sender_signs_with(*secrets):
        with lock:
            phase["secrets"] = secrets
        load.turn(2)    # requests signed before are answered

    with Load(send) as load:
        load.turn()
        sender_signs_with(OTHER_SECRET, SECRET)     # the portal: rotate; both are valid
        place.write_secret(SECRET, OTHER_SECRET)
        load.turn(3)
        sender_signs_with(OTHER_SECRET)             # the old one has expired
        place.write_secret(OTHER_SECRET)
        late = server.send(signed(secrets=[SECRET]))
        load.turn(3)
    assert_refused(late, "signature_mismatch")
    for reply in load.results:
        assert_accepted(reply)
    assert len(place.spool.names("new")) == len(load.results)


# ---- what nobody sees ----

# case -> (bytes of the file, words of the log)
UNSEEN = {
    "UTF-8 with a mark": (b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n", "byte order mark"),
    "UTF-16, little end": (("\ufeff" + SECRET + "\r\n").encode("utf-16-le"), "UTF-16"),
    "UTF-16, big end": (("\ufeff" + SECRET + "\r\n").encode("utf-16-be"), "UTF-16"),
    "UTF-16 without a mark": ((SECRET + "\n").encode("utf-16-le"), "UTF-16"),
    "a NUL at the end": (SECRET.encode() + b"\0", "NUL bytes"),
    "a page of NULs behind it": (SECRET.encode() + b"\n" + b"\0" * 4096, "NUL bytes"),
    "no-break spaces": (b"\xc2\xa0" + SECRET.encode() + b"\xc2\xa0\n", "not seen"),
}


def write_bytes(place, data, mode=0o640):
    draft = place.dir / "secret.bytes"
    draft.write_bytes(data)
    draft.chmod(mode)
    os.replace(draft, place.secret_file)


@pytest.mark.parametrize("case", UNSEEN)
def test_unseen_characters(direct, place, case):
    """The secret is used, and the log, doctor, -t and `psapi secret` agree; a change writes the file clean."""
    data, says = UNSEEN[case]
    write_bytes(place, data)
    assert_accepted(direct.send(signed()))
    line = log_line(direct, says)
    assert "it is read without" in line and "psapi secret add" in line and BARE not in line
    assert f"warning: secret {place.secret_file}: has " in place.run("-t").stdout
    rows = {row["check"]: row for row in map(json.loads, psapi(place, "doctor", "--json", expect=None)
                                             .stdout.splitlines())}
    assert rows["secret"]["remark"] and says in rows["secret"]["text"]
    listed = psapi(place, "secret", "list").stdout
    assert len(listed.splitlines()) >= 2 and "line" not in listed.splitlines()[1]
    psapi(place, "secret", "add", stdin=OTHER_SECRET)
    text = place.secret_file.read_bytes()
    assert text.isascii() and b"\0" not in text and text.startswith(SECRET.encode()[:20]), text
    assert_accepted(direct.send(signed()))
    assert_accepted(direct.send(signed(secrets=[OTHER_SECRET])))


@pytest.mark.parametrize("data", [b"\0", b"\0" * 64, b"\xff\xfe" + b"\0" * 10], ids=["one", "many", "UTF-16"])
def test_a_file_of_nothing_but_nuls_is_not_empty(direct, place, data):
    """A file that a crash has emptied is no file that waits for its first secret: 503, nothing is held or ignored."""
    write_bytes(place, data)
    direct.renew()
    assert_refused(direct.send(signed()), "no_secret")
    assert place.spool.names("hold") == []
    assert "holds NUL bytes alone: its contents were lost" in direct.log()
    assert "is held" not in direct.log()
    assert place.run("-t").returncode == 78
    assert "holds NUL bytes alone" in psapi(place, "secret", "list", expect=66).stderr
    psapi(place, "secret", "add", stdin=SECRET)
    assert_accepted(direct.send(signed()))


# ---- as containers get it ----

@pytest.fixture
def mounted(place):
    """A file on a file system that is mounted read-only, as Docker and Kubernetes mount secrets."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    directory = place.dir / "secrets"
    directory.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "psapi-test", directory], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    directory.chmod(0o755)
    place.secret_file = place.settings["PSAPI_SECRET_FILE"] = directory / "secret"

    def write(mode, owner=0, group=0):
        subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
        place.secret_file.write_text(SECRET + "\n")
        os.chown(place.secret_file, owner, group)
        place.secret_file.chmod(mode)
        subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
    yield write
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.mark.parametrize("mode, owner, user, says", [
    (0o444, 0, 0, "mode 0444 lets other users read"),       # Docker's default
    (0o644, 0, 0, "mode 0644 lets other users read"),       # Kubernetes's
    (0o400, 0, 65534, "Permission denied"),
    (0o440, 12345, 65534, "Permission denied"),
    (0o444, 12345, 65534, "owned by user 12345"),
])
def test_remedy_for_a_mounted_secret(place, mounted, mode, owner, user, says):
    """Nobody can chmod or chown it there: the remedy is where it is mounted."""
    mounted(mode, owner)
    done = place.run("-t", via=["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"])
    [line] = [line for line in done.stdout.splitlines() if line.startswith("error: secret")]
    assert says in line and "mode 0440" in line and "defaultMode 0440" in line and "Docker" in line, line
    assert "chmod" not in line and "chown" not in line and "chgrp" not in line, line


def test_mounted_as_told(place, mounted):
    mounted(0o440, 0, 65534)
    done = place.run("-t", via=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert f"ok: secret {place.secret_file}: 1 usable" in done.stdout


def test_a_mounted_secret_is_not_changed_here(place, mounted):
    mounted(0o440)
    done = psapi(place, "secret", "add", stdin=OTHER_SECRET, expect=73)
    assert "change it where it is mounted from" in done.stderr
