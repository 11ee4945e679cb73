"""A directory of the spool on a mount of its own: found by `psapi-fcgi -t`, by doctor and at the start, before an event
is refused for it. In a mount namespace of its own. A link in the place of a directory leads to files that are not ours:
it is refused everywhere."""

import json
import os
import subprocess
import time

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


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_a_link_is_refused(place, directory):
    """Drain, recovery and prune move and remove files: none that lies behind a link."""
    with Socket(place):
        pass
    place.tidy = False
    other = place.dir / "photos"
    other.mkdir()
    photos = [other / "photo.jpg", other / "1.000000000.1.0"]
    for photo in photos:
        photo.write_text("of somebody else")
        os.utime(photo, (time.time() - 3 * 3600,) * 2)
    link = place.spool.path / directory
    link.rename(place.dir / "away")
    link.symlink_to(other)
    for command in (["drain", "--", "true"], ["recover"], ["prune", "--older-than", "100d"], ["list"]):
        done = subprocess.run([PSAPI, *command], env=place.environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 78 and done.stdout == "", done
        assert done.stderr == f"psapi: {link}: is a symbolic link: replace it by a directory\n", done
    tested = place.run("-t")
    assert tested.returncode == 78 and f"error: spool {link}: is a symbolic link: replace it by a directory" in tested.stdout
    assert place.run(PSAPI_LISTEN=f"unix:{place.dir}/x.sock").returncode == 73
    checked = subprocess.run([PSAPI, "doctor", "--json"], env=place.environment(), capture_output=True, text=True)
    row = {row["check"]: row for row in map(json.loads, checked.stdout.splitlines())}["spool"]
    assert (row["ok"], row["text"], row["remedy"]) == (False, f"{link}: is a symbolic link", "replace it by a directory")
    assert sorted(other.iterdir()) == sorted(photos)


def test_the_spool_itself_may_be_a_link(place):
    place.spool.path.rename(place.dir / "elsewhere")
    place.spool.path.symlink_to(place.dir / "elsewhere")
    with Socket(place):
        pass
    assert place.run("-t").returncode == 0


def test_files_of_others_in_tmp(place):
    """PSAPI_SPOOL=/ would make /tmp the directory that drain cleans."""
    with Socket(place):
        pass
    photo, left = (place.spool.path / "tmp" / name for name in ("photo.jpg", "1.000000000.1.0"))
    for file in (photo, left):
        file.write_text("")
        os.utime(file, (time.time() - 3 * 3600,) * 2)
    subprocess.run([PSAPI, "drain", "--", "true"], env=place.environment(), check=True, timeout=60)
    assert photo.exists() and not left.exists()
    photo.unlink()
