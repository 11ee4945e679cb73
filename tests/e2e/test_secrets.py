"""The secret file: refused files and the messages about them, re-reading, rotation.

Neither the log nor a reply contains a secret.
"""

import base64
import os
import re
import threading

import pytest

from load import Load
from receiver import wait_for
from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, SECRET, signed

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
