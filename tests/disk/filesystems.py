"""The file systems: how each is made, mounted and checked, and what is promised on it."""

import contextlib
import errno
import subprocess
from dataclasses import dataclass

from machine import NotRun, loop, mount, unmount
from servers import PATH

EXT4 = ("mkfs.ext4", "-q", "-F", "-N", "4096",
        "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard")
XFS = ("mkfs.xfs", "-q", "-f", "-K", "--unsupported")   # or 300 MiB are the least
BTRFS = ("mkfs.btrfs", "-q", "-f", "-K", "-m", "single", "-d", "single")
MIB = 1 << 20

# What is looked for in each image; docs/design.md has the invariants.
WHOLE = "I1"                # each name in new/, failed/ and events/ is a whole file
KEPT = "P1"                 # each event that was answered 200 waits there, or was handled
RECOVERED = "recovered"     # both after psapi recover, and each answered event is in events/
MOUNTS = "mount"            # the kernel can mount it
LISTED = "directory"        # the directories are there, and can be read
ALL = frozenset((WHOLE, KEPT, RECOVERED, MOUNTS, LISTED))
# The kernel refuses to mount it, but the file system's own blocks were torn as well: only counted.
TORN_MOUNTS = "mount torn"


@dataclass(frozen=True)
class FileSystem:
    name: str
    kind: str                   # for mount(2)
    make: tuple                 # the command, without the image
    options: str = "noatime"
    size: int = 64 * MIB
    stale: int = 64 * MIB       # bytes of old content that are written first, at most
    fsck: tuple = ()            # the command that boot runs before the mount
    promised: frozenset = ALL   # the rest is only counted ...
    why: str = ""               # ... for this reason
    variant: bool = False       # of another one, by one option


FILE_SYSTEMS = {system.name: system for system in (
    FileSystem("ext4", "ext4", EXT4),
    FileSystem("ext4-writeback", "ext4", EXT4, "noatime,data=writeback"),
    FileSystem("ext4-nodelalloc", "ext4", EXT4, "noatime,nodelalloc"),
    FileSystem("ext4-1k-blocks", "ext4", EXT4 + ("-b", "1024"), variant=True),
    FileSystem("ext4-data=journal", "ext4", EXT4, "noatime,data=journal", variant=True),
    FileSystem("ext4-dioread_lock", "ext4", EXT4, "noatime,dioread_lock", variant=True),
    FileSystem("ext4-inline_data", "ext4", EXT4 + ("-O", "inline_data"), variant=True),
    FileSystem("ext4-async-commit", "ext4", EXT4, "noatime,data=writeback,journal_async_commit", variant=True,
               promised=frozenset(), why="a commit is not ordered behind its own blocks"),
    FileSystem("ext4-nobarrier", "ext4", EXT4, "noatime,nobarrier", variant=True,
               promised=frozenset(), why="the disk's cache is not flushed"),
    FileSystem("xfs", "xfs", XFS, size=128 * MIB, stale=128 * MIB),
    FileSystem("btrfs", "btrfs", BTRFS, size=128 * MIB, stale=20 * MIB),
    FileSystem("ext4-fast_commit", "ext4", EXT4 + ("-O", "fast_commit"), fsck=("e2fsck", "-fy"),
               promised=frozenset(), why="fast_commit replays links of unnamed files wrongly"),
    FileSystem("ext4-no-journal", "ext4", EXT4 + ("-O", "^has_journal"), fsck=("e2fsck", "-fy"),
               promised=frozenset(), why="without a journal nothing orders names and files"),
)}


def run(*command, good=(0,)):
    """Run a command of the system. good: the exit statuses that are no failure."""
    result = subprocess.run(command, capture_output=True, text=True, check=False,
                            env={"PATH": PATH, "LC_ALL": "C"})
    assert result.returncode in good, \
        f"{' '.join(map(str, command))}: {result.stderr or result.stdout}"


@contextlib.contextmanager
def mounted(system, file, target, direct=False):
    """The file system in the file. OSError if the kernel refuses to mount it."""
    with loop(file, direct) as device:
        try:
            mount(device, target, system.kind, system.options)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise NotRun(f"the kernel has no {system.kind}") from error
            raise
        try:
            yield
        finally:
            unmount(target)
            if system.kind == "btrfs":  # the kernel would refuse an older image of the same UUID
                run("btrfs", "device", "scan", "--forget", device, good=(0, 1))
