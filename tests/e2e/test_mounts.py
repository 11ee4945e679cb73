"""A directory of the spool on a mount of its own: found by `psapi-fcgi -t`, by doctor and at the start, before an event
is refused for it. In a mount namespace of its own."""

import json
import os
import subprocess

import pytest

from receiver import BINARY
from servers import Socket

PSAPI = BINARY.parent / "psapi"
DIRECTORIES = ["new", "events", "failed", "state", "hold", "tmp"]
MOUNTS = {"another file system": 'mount -t tmpfs -o mode=2770 psapi-test "$1"', "a bind mount": 'mount --bind "$1" "$1"'}


def run_mounted(place, how, directory, *command):
    """Run a command where this directory of the spool is a mount."""
    done = subprocess.run(["unshare", "-m", "sh", "-c", MOUNTS[how] + ' && shift && exec "$@"', "sh",
                           place.spool.path / directory, *command], env=place.environment(), capture_output=True,
                          text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.stderr.startswith(("mount:", "unshare:")):
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    return done


@pytest.fixture
def spool(place):
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    with Socket(place):     # makes the spool
        pass
    return place.spool.path


@pytest.mark.parametrize("how", MOUNTS)
@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_mount_is_found(place, spool, how, directory):
    tested = run_mounted(place, how, directory, BINARY, "-t")
    assert tested.returncode == 78, tested
    [line] = [line for line in tested.stdout.splitlines() if line.startswith("error: spool")]
    checked = run_mounted(place, how, directory, PSAPI, "doctor", "--json")
    row = {row["check"]: row for row in map(json.loads, checked.stdout.splitlines())}["storing"]
    assert row["ok"] is False
    started = run_mounted(place, how, directory, BINARY, "-o", f"PSAPI_LISTEN=unix:{place.dir}/x.sock")
    assert started.returncode == 73, started
    for text in (line, row["text"], started.stderr):
        assert f"{spool}/{directory}: " in text and "Invalid cross-device link" in text, text
    for text in (line, row["remedy"], started.stderr):
        assert "keep the whole spool on one file system, without a mount inside it" in text, text
    assert place.spool.left_in_tmp() == []


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_read_only_directory_is_found(place, spool, directory):
    """In the way of an event, of a dead letter, of a state or of a held request."""
    done = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift '
                           '&& exec "$@"', "sh", spool / directory, BINARY, "-t"], env=place.environment(),
                          capture_output=True, text=True, timeout=60)
    if done.stderr.startswith(("mount:", "unshare:")):
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    assert done.returncode == 78 and f"{spool}/{directory}: " in done.stdout, done


def test_no_mount_is_fine(place, spool):
    assert f"ok: spool {spool}: " in place.run("-t").stdout
