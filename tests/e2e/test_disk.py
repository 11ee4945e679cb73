"""Full disks: 503 until there is room, nothing half-written, and the log recovers too."""

import json
import os
import subprocess

import pytest

from replies import assert_accepted, assert_duplicate, assert_refused
from sender import event, signed


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


def fill(directory):
    """To the last byte."""
    with open(directory / "filler", "ab", buffering=0) as filler:
        for size in (65536, 4096, 1):
            try:
                while filler.write(b"x" * size):
                    pass
            except OSError:
                continue


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
