"""Full disks: 503 until there is room, nothing half-written, and the log recovers too. And a directory of the spool that
is a mount of its own, or cannot be written: the start, -t, doctor and the answer name it, with cause and remedy."""

import contextlib
import json
import os
import re
import subprocess

import pytest

from receiver import BINARY, Receiver
from replies import assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import SECRET, event, signed
from servers import Socket, cgi_variables
from setup_command import psapi
from spool import fill


@pytest.fixture
def small_disk(place, request):
    """A file system of 1 MiB under the spool."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    options = getattr(request, "param", "size=1m")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=2770", "psapi-test",
                              place.spool.path], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        yield place.spool.path
        for receiver in place.receivers:
            receiver.stop()
    finally:
        subprocess.run(["umount", "--lazy", place.spool.path], check=True)


@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_full(place, small_disk, server):
    first = signed()
    assert_accepted(server.send(first))
    fill(small_disk)
    request = signed(event("x.large", filler="a" * 300_000))
    for _ in range(3):
        assert_refused(server.send(request), "spool_full")
        assert_refused(server.send(signed()), "spool_full")
    assert_duplicate(server.send(first))
    assert len(place.spool.names("new")) == len(place.spool.names("events")) == 1
    assert place.spool.left_in_tmp() == []
    (small_disk / "filler").unlink()
    assert_accepted(server.send(request))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_no_room_for_half_of_it(place, small_disk, server):
    """The write takes only a part."""
    assert_accepted(server.send(signed()))
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    (small_disk / "filler").write_bytes(b"x" * (free - 100_000))
    assert_refused(server.send(signed(event("x.large", filler="a" * 300_000))), "spool_full")
    assert_accepted(server.send(signed()))
    assert len(place.spool.names("new")) == 2


@pytest.mark.settings(PSAPI_MIN_FREE="0")
@pytest.mark.parametrize("small_disk", ["size=1m,nr_inodes=20"], indirect=True)
def test_no_inode(place, small_disk, server):
    replies = [server.send(signed()) for _ in range(20)]
    assert_accepted(replies[0])
    assert_refused(replies[-1], "spool_full")
    stored = [reply for reply in replies if reply.status == 200]
    assert len(stored) == len(place.spool.names("new")) == len(place.spool.names("events"))


@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_log_on_a_full_disk(place, small_disk, server):
    """After a torn line the next one is whole; the answers are the same."""
    known = signed()
    assert_accepted(server.send(known))
    fill(small_disk)
    for _ in range(40):     # more than fit into the last block of the log
        assert_duplicate(server.send(known))
    (small_disk / "filler").unlink()
    request = signed()
    assert_accepted(server.send(request))
    lines = (place.spool.path / "attempts.jsonl").read_bytes().splitlines()
    assert json.loads(lines[-1])["webhook_id"] == request.header("webhook-id").decode()
    broken = 0
    for line in lines:
        try:
            json.loads(line)
        except ValueError:
            broken += 1
    assert broken <= 1
    assert len(lines) < 42, "the disk was not full"


def test_disk_in_memory(place, small_disk):
    """It loses all events with a restart: that is said, and is no error."""
    place.settings |= {"PSAPI_MIN_FREE": "0", "PSAPI_LISTEN": f"unix:{place.dir}/psapi.sock"}
    with Socket(place) as server:
        assert_accepted(server.send(signed()))
        tried = place.run("-t")
        rows = map(json.loads, psapi(place, "doctor", "--json", expect=None).stdout.splitlines())
        (row,) = (row for row in rows if row["check"] == "storing")
    said = f"{small_disk}: a file system in memory loses all events"
    assert tried.returncode == 0 and f"warning: spool {said}" in tried.stdout, tried
    assert f"ok: spool {small_disk}: tmpfs, two waits for the disk (it is in memory)" in tried.stdout
    assert row["ok"] is True and said in row["text"] and "on a disk" in row["remedy"], row


# ---- each directory in turn ----

DIRECTORIES = ["new", "events", "failed", "state", "hold", "tmp"]
APART = ("Invalid cross-device link", "keep the whole spool on one file system")
READ_ONLY = ("Read-only file system", "mount its file system writable")
NO_ROOM = ("No space left on device", "make room on its file system")
KINDS = {
    "another file system": ["-t", "tmpfs", "tmpfs"],
    "bind": ["--bind"],
    "read-only": ["--bind"],
    "full": ["-t", "tmpfs", "-o", "size=4k", "tmpfs"],
    "no inode": ["-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs"],
}


def mount(*arguments):
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(kind, path):
    """A mount on the directory, of itself or of something small. The mode stays as it was."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    mode = path.stat().st_mode & 0o7777
    mount(*KINDS[kind], *([path] if kind in ("bind", "read-only") else []), path)
    try:
        if kind == "read-only":
            mount("-o", "remount,ro,bind", path)
        else:
            path.chmod(mode)
        if kind == "full":
            fill(path)
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextlib.contextmanager
def small(path, options):
    """A small tmpfs on the spool."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    mount("-t", "tmpfs", "-o", f"{options},mode=2770", "tmpfs", path)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def made(place):
    """A spool as the first start leaves it."""
    place.settings["PSAPI_MIN_FREE"] = "0"
    place.settings["PSAPI_LISTEN"] = f"unix:{place.dir}/psapi.sock"
    Receiver(place).start().stop()
    return place


def refused_start(place):
    """The log of a receiver that does not start."""
    receiver = Receiver(place, "refused").start(ready=False)
    assert receiver.wait() == 73    # sysexits.h, EX_CANTCREAT
    receiver.process = None
    return receiver.log()


def doctor_of(place):
    """The finding of doctor that is about storing."""
    rows = psapi(place, "doctor", "--json", expect=1).stdout.splitlines()
    (row,) = (row for row in rows if json.loads(row)["check"] == "storing")
    return row


def answer(place, request):
    """What one CGI request gets, and what the log says."""
    environment = place.environment()
    environment.update(cgi_variables(request))
    done = subprocess.run([BINARY], env=environment, input=request.body, capture_output=True, timeout=60, check=True)
    return parse_cgi(done.stdout), done.stderr.decode()


def request_by(place, directory):
    """One whose way goes through the directory, or None."""
    if directory == "hold":
        place.write_secret("# none yet")
    return {"new": signed(), "events": signed(), "failed": signed(b"no JSON"), "state": signed(b"no JSON"),
            "hold": signed()}.get(directory)


def assert_named(text, directory, cause, remedy):
    where = rf"/spool/{directory}\b" if directory else r"/spool/\w+\b"
    assert re.search(where, text) and cause in text and remedy in text, (directory, cause, remedy, text)


def cause_of(kind, directory):
    """The file is made in events/: there it is written; to the others it is linked."""
    if kind == "read-only":
        return READ_ONLY
    return NO_ROOM if kind in ("full", "no inode") and directory == "events" else APART


@pytest.mark.parametrize("directory", DIRECTORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_directory_is_a_mount(made, kind, directory):
    with mounted(kind, made.spool.path / directory):
        said = [refused_start(made)]
        tried = made.run("-t")
        assert tried.returncode == 78, tried    # sysexits.h, EX_CONFIG
        said.append(tried.stdout)
        said.append(doctor_of(made))
        request = request_by(made, directory)
        if request:
            reply, log = answer(made, request)
            assert_refused(reply, "spool_full" if cause_of(kind, directory) is NO_ROOM else "spool_error")
            # The file of a state comes by a rename, which is refused as a link is.
            if reply.json["reason"] == "spool_error":
                assert_named(log, directory, *(APART if directory == "state" else cause_of(kind, directory)))
        for text in said:
            assert_named(text, directory, *cause_of(kind, directory))
    # And without the mount all is well, whatever was tried.
    made.write_secret(SECRET)
    assert made.run("-t").returncode == 0
    assert [name for name in made.spool.files() if not name.startswith(("new/", "state/"))] == []
    if request:
        assert answer(made, request)[0].status == 200


@pytest.mark.parametrize("kind, cause", [("read-only", READ_ONLY), ("full", NO_ROOM), ("no inode", NO_ROOM)])
def test_whole_spool_cannot_be_written(made, kind, cause):
    """The same where the spool itself is the mount."""
    path = made.spool.path
    if kind == "read-only":
        here = mounted(kind, path)
    else:
        here = contextlib.ExitStack()
        here.enter_context(small(path, "size=64k" if kind == "full" else "size=64k,nr_inodes=8"))
    with here:
        if kind != "read-only":
            for name in DIRECTORIES:
                (path / name).mkdir(mode=0o770)
                (path / name).chmod(0o2770)
            fill(path)
        said = [refused_start(made), made.run("-t").stdout, doctor_of(made)]
        for text in said:
            assert_named(text, None, *cause)
        reply, _ = answer(made, signed())
        assert_refused(reply, "spool_error" if kind == "read-only" else "spool_full")
    assert made.run("-t").returncode == 0
