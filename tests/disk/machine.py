"""Namespaces, mounts, loop devices: what the kernel has to give, and NotRun where it does not.

Everything happens in a mount and PID namespace of its own, on a tmpfs of its own. When its first
process ends, however it ends, the kernel ends the others, unmounts, and detaches the loop devices:
nothing is left behind, and nothing has to be tidied up after a failure.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import struct
import tempfile
import time

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000      # sched.h
MS_NOATIME, MS_REC, MS_PRIVATE = 1024, 16384, 1 << 18   # sys/mount.h
PR_SET_PDEATHSIG = 1
LOOP_CONFIGURE, LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82      # linux/loop.h
LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO = 4, 16
LOOP_CONFIG = "@II 40x I 8x I 240x"    # fd, block_size, info: lo_number, lo_flags; 304 bytes

# The kernel, or a container's rules, forbid it. Whatever else fails is a failure of the test.
FORBIDDEN = {errno.EPERM, errno.EACCES, errno.ENODEV, errno.ENXIO, errno.ENOSYS}

libc = ctypes.CDLL(None, use_errno=True)


class NotRun(Exception):
    """The machine cannot run this; the argument says what the kernel or the permissions lack."""


def check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


@contextlib.contextmanager
def needs(what, *more):
    """What is done in here needs `what` of the kernel."""
    try:
        yield
    except OSError as error:
        if error.errno in FORBIDDEN | set(more):
            raise NotRun(f"{what}: {os.strerror(error.errno)}") from error
        raise


# ---- mounts ----

def mount(source, target, kind, options=""):
    """mount(8) without its guesses. options: of the file system, and noatime."""
    words = [word for word in options.split(",") if word]
    flags = MS_NOATIME if "noatime" in words else 0
    data = ",".join(word for word in words if word != "noatime")
    check(libc.mount(str(source).encode(), str(target).encode(), kind.encode(), flags,
                     data.encode() or None), f"mount {kind}")


def unmount(target, deadline=20):
    """A kernel thread may use it for a moment still."""
    end = time.monotonic() + deadline
    while libc.umount2(str(target).encode(), 0) != 0:
        if ctypes.get_errno() != errno.EBUSY or time.monotonic() > end:
            check(-1, f"umount {target}")
        time.sleep(0.005)


# ---- loop devices ----

@contextlib.contextmanager
def loop(file, direct=False):
    """A loop device over the file: its path. The kernel detaches it when nobody has it open or mounted.

    direct: the file's page cache is left out, and many requests are under way at once."""
    with open(file, "r+b") as backing:
        device, path = attach(backing.fileno(), LO_FLAGS_DIRECT_IO if direct else 0)
    try:
        yield path
    finally:
        os.close(device)


def attach(backing, flags):
    """Two that run at once may be given the same number: the one that is late takes the next."""
    with open("/dev/loop-control", "rb") as control:
        while True:
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            path = f"/dev/loop{number}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, LOOP_CONFIGURE, struct.pack(
                    LOOP_CONFIG, backing, 0, number, flags | LO_FLAGS_AUTOCLEAR))
                return device, path
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise


# ---- a world of its own ----

def enter():
    """Go on as the first process of namespaces of its own, in which TMPDIR is a tmpfs."""
    if os.geteuid() != 0:
        raise NotRun("only root can mount")
    directory = tempfile.mkdtemp(prefix="psapi-disk-")
    try:
        with needs("a PID namespace"):
            check(libc.unshare(CLONE_NEWPID), "unshare")    # the next child is its first process
        child = os.fork()
        if child:
            os._exit(wait_for(child, directory))
    except BaseException:
        os.rmdir(directory)
        raise
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent ends us
    with needs("mounts"):
        check(libc.unshare(CLONE_NEWNS), "unshare")
        check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate /")
        mount("proc", "/proc", "proc")
        mount("tmpfs", directory, "tmpfs")
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    try_devices(directory)


def wait_for(child, directory):
    """The parent: passes on the exit status, and ends all when it is told to end."""
    def end(number, _frame):
        os.kill(child, signal.SIGKILL)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255
    except SystemExit as ending:
        os.waitpid(child, 0)
        return ending.code
    finally:
        os.rmdir(directory)


def try_devices(directory):
    with needs("/dev/fuse", errno.ENOENT):
        os.close(os.open("/dev/fuse", os.O_RDWR))
    file = os.path.join(directory, "probe")
    with open(file, "wb") as probe:
        probe.truncate(1 << 20)
    with needs("loop devices", errno.ENOENT), loop(file):
        pass
    os.unlink(file)
