"""The file systems: how each is made and mounted, and what is promised on it."""

import contextlib
import subprocess
from dataclasses import dataclass

from machine import loop, mount, unmount
from servers import PATH

EXT4 = ("mkfs.ext4", "-q", "-F", "-N", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard")
XFS = ("mkfs.xfs", "-q", "-f", "-K", "--unsupported")       # for its size: 300 MiB is the least otherwise
BTRFS = ("mkfs.btrfs", "-q", "-f", "-K", "-m", "single", "-d", "single")

# What is looked for in each image; docs/design.md has the invariants.
WHOLE = "I1"                # each name in new/, failed/ and events/ is a whole file, before recovery
KEPT = "P1"                 # each event that was answered 200 is there, or was handled
RECOVERED = "recovered"     # both after psapi recover, and all that was answered is in events/
MOUNTS = "mount"            # the kernel can mount it
TORN_MOUNTS = "mount torn"  # the same of images in which blocks of the file system's own are torn: no promise
ALL = frozenset((WHOLE, KEPT, RECOVERED, MOUNTS))


@dataclass(frozen=True)
class FileSystem:
    name: str
    kind: str                   # as mount(8) knows it
    make: tuple
    options: str = "noatime"
    size: int = 64 << 20
    stale: int = 1 << 30        # bytes of old content at most, below what a test writes
    fsck: tuple = ()            # what boot runs before the mount
    promised: frozenset = ALL   # what holds there after a power cut; the rest is counted and printed
    why: str = ""               # the rest is not promised


FILE_SYSTEMS = {each.name: each for each in (
    FileSystem("ext4", "ext4", EXT4),
    FileSystem("ext4-writeback", "ext4", EXT4, "noatime,data=writeback"),
    FileSystem("ext4-nodelalloc", "ext4", EXT4, "noatime,nodelalloc"),
    FileSystem("xfs", "xfs", XFS, size=128 << 20),
    FileSystem("btrfs", "btrfs", BTRFS, size=128 << 20, stale=20 << 20),
    FileSystem("ext4-fast_commit", "ext4", EXT4 + ("-O", "fast_commit"), fsck=("e2fsck", "-fy"),
               promised=frozenset({WHOLE}),
               why="fast_commit replays links of unnamed files wrongly"),
    FileSystem("ext4-no-journal", "ext4", EXT4 + ("-O", "^has_journal"), fsck=("e2fsck", "-fy"),
               promised=frozenset(), why="without a journal nothing orders names and what they name"),
)}


def run(*command, good=(0,)):
    """A command of the system; its exit status."""
    result = subprocess.run(command, capture_output=True, text=True, check=False,
                            env={"PATH": PATH, "LC_ALL": "C"})
    assert result.returncode in good, f"{' '.join(map(str, command))}: {result.stderr or result.stdout}"
    return result.returncode


@contextlib.contextmanager
def mounted(system, file, target, direct=False):
    """The file system in the file. OSError where the kernel refuses to mount it."""
    with loop(file, direct) as device:
        mount(device, target, system.kind, system.options)
        try:
            yield
        finally:
            unmount(target)
            if system.kind == "btrfs":  # or it remembers the device, and refuses an older image of it
                run("btrfs", "device", "scan", "--forget", device, good=(0, 1))
