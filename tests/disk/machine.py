"""Namespaces, mounts, loop devices: what the kernel must provide, and NotRun where it does not.

Everything happens in a mount and PID namespace of its own, on a tmpfs of its own. When the first
process of it ends, for any reason, the kernel ends the others, unmounts, and detaches the loop
devices. So nothing stays behind, and no failure needs tidying up.
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
PR_SET_PDEATHSIG = 1                                    # sys/prctl.h
LOOP_CONFIGURE, LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82      # linux/loop.h
LO_FLAGS_AUTOCLEAR, LO_FLAGS_DIRECT_IO = 4, 16
LOOP_CONFIG = "@II 40x I 8x I 240x"     # fd, block_size; of its info: lo_number, lo_flags

# The kernel lacks it, or the permissions do. Any other error is a failure of the test.
FORBIDDEN = {errno.EPERM, errno.EACCES, errno.ENODEV, errno.ENXIO, errno.ENOSYS}

libc = ctypes.CDLL(None, use_errno=True)


class NotRun(Exception):
    """This machine cannot run it. The argument says what the kernel or the permissions lack."""


@contextlib.contextmanager
def needs(what, *more):
    """The body needs `what` of the kernel. more: further errors that mean that it is not there."""
    try:
        yield
    except OSError as error:
        if error.errno in FORBIDDEN | set(more):
            raise NotRun(f"{what}: {error.strerror}") from error
        raise


def call(name, *arguments):
    """A function of libc that returns 0, or OSError."""
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


# ---- mounts ----

def mount(source, target, kind, options=""):
    """options: of the file system, and noatime."""
    words = [word for word in options.split(",") if word]
    flags = MS_NOATIME if "noatime" in words else 0
    data = ",".join(word for word in words if word != "noatime")
    call("mount", os.fsencode(source), os.fsencode(target), kind.encode(), flags,
         data.encode() or None)


def unmount(target, deadline=20):
    """Waits up to `deadline` seconds: a process that has just ended may still use it."""
    end = time.monotonic() + deadline
    while True:
        try:
            return call("umount2", os.fsencode(target), 0)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
        time.sleep(0.005)


# ---- loop devices ----

@contextlib.contextmanager
def loop(file, direct=False):
    """A loop device over the file: its path. The kernel detaches it after its last user.

    direct: without the file's page cache, and with many requests at the same time."""
    with open(file, "r+b") as backing:
        device, path = attach(backing.fileno(), LO_FLAGS_DIRECT_IO if direct else 0)
    try:
        yield path
    finally:
        os.close(device)


def attach(backing, flags):
    """Another process may be given the same number: the later one takes the next."""
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


# ---- namespaces ----

def enter():
    """Go on as the first process of new namespaces, where TMPDIR is a new tmpfs."""
    if os.geteuid() != 0:
        raise NotRun("only root can mount")
    with needs("PID namespaces", errno.EINVAL):
        call("unshare", CLONE_NEWPID)   # the next child is the first process
    directory = tempfile.mkdtemp(prefix="psapi-disk-")
    child = os.fork()
    if child:
        os._exit(wait_for(child, directory))
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)    # the parent has it as well, and ends all
    with needs("mounts"):
        call("unshare", CLONE_NEWNS)
        call("mount", None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount("proc", "/proc", "proc")
        mount("tmpfs", directory, "tmpfs")
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    try_devices(directory)


def wait_for(child, directory):
    """The parent's part: the exit status of the child. SIGINT and SIGTERM end the child."""
    stopped = []

    def stop(number, _frame):
        stopped.append(number)
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.rmdir(directory)
    return 128 + stopped[0] if stopped else 128 - status if status < 0 else status


def try_devices(directory):
    with needs("/dev/fuse", errno.ENOENT):
        os.close(os.open("/dev/fuse", os.O_RDWR))
    file = os.path.join(directory, "probe")
    with open(file, "wb") as probe:
        probe.truncate(1 << 20)
    with needs("loop devices", errno.ENOENT), loop(file):
        pass
    os.unlink(file)
