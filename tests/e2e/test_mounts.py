"""A link in the place of a directory of the spool leads to files that are not ours: it is refused everywhere. A directory
that is a mount: test_disk.py."""

import json
import os
import subprocess
import time

import pytest

from receiver import BINARY
from servers import Socket

PSAPI = BINARY.parent / "psapi"
DIRECTORIES = ["new", "events", "failed", "state", "hold", "tmp"]


def test_no_mount_is_fine(place):
    with Socket(place):     # makes the spool
        pass
    assert f"ok: spool {place.spool.path}: " in place.run("-t").stdout


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
