"""What every measurement needs: a fresh file system, processes and their CPU time and memory, requests, wrk."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ROOT = os.geteuid() == 0
WEB_USER = "www-data" if ROOT else None
TICKS = os.sysconf("SC_CLK_TCK")
HERE = Path(__file__).resolve().parent


class Failed(Exception):
    pass


# ---- file systems ----

def describe_ext4():
    return "a new ext4 with a journal on a loop device" if ROOT else \
        "the current disk (not root: no file system of its own)"


@contextlib.contextmanager
def fresh(kind, work, gib=3):
    """A new file system, "ext4" or "tmpfs"; None: a directory."""
    mount = work / "mount"
    mount.mkdir(exist_ok=True)
    image = work / "disk.img"
    if kind is not None and ROOT:
        if kind == "ext4":
            with open(image, "wb") as file:
                file.truncate(gib << 30)
            # No initialisation in the background during the measurement.
            subprocess.run(["mkfs.ext4", "-q", "-F", "-i", "4096", "-J", "size=128", "-E",
                            "lazy_itable_init=0,lazy_journal_init=1", image], check=True)
            subprocess.run(["mount", "-o", "loop,noatime", image, mount], check=True)
            os.sync()
        else:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2g,nr_inodes=2m", "bench", mount],
                           check=True)
    elif kind == "tmpfs":
        mount = Path("/dev/shm") / f"psapi-bench-{os.getpid()}"
    place = mount / "here"
    place.mkdir(parents=True)
    place.chmod(0o777)
    try:
        yield place
    finally:
        if kind is not None and ROOT:
            # A killed process may use it for another moment.
            for _ in range(100):
                if subprocess.run(["umount", mount], stderr=subprocess.DEVNULL).returncode == 0:
                    break
                time.sleep(0.1)
            with contextlib.suppress(FileNotFoundError):
                image.unlink()
        else:
            shutil.rmtree(mount)


def name_of(kind):
    return {"ext4": "ext4" if ROOT else "disk", "tmpfs": "tmpfs", None: "–"}[kind]


# ---- processes ----

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.0005)


def family(pid):
    """A process and its descendants that are still running."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                found += family(int(child))
    return found


def cpu_seconds(pid):
    """Of a process and its descendants, including those that have ended."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def status_mib(pid, key, file="status"):
    """The sum of this line of /proc/PID/ over the process and its descendants, MiB."""
    kib = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/{file}").read_text().splitlines():
                if line.startswith(key + ":"):
                    kib += int(line.split()[1])
    return kib / 1024


class Process:
    """A server in a session of its own, so that all its processes can be ended."""

    def __init__(self, command, log, **more):
        self.began = time.monotonic()
        with open(log, "ab") as out:
            self.popen = subprocess.Popen([str(a) for a in command], stdout=out, stderr=out,
                                          start_new_session=True, **{"stdin": subprocess.DEVNULL} | more)
        self.pid = self.popen.pid

    def end(self):
        for number, seconds in ((signal.SIGTERM, 6), (signal.SIGKILL, 6)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


# ---- load ----

class Requests:
    """Newly signed requests in a file."""

    def __init__(self, tools, file, path, count, kind=""):
        self.file, self.count = file, count
        with open(file, "wb") as out:
            subprocess.run([tools / "sign", SECRET, str(count), path, *([kind] if kind else [])],
                           stdout=out, check=True)
        self.length = file.stat().st_size // count

    def first(self):
        with open(self.file, "rb") as file:
            return file.read(self.length)


def post(port, request):
    """Send one request. Returns the status, 0 for no answer."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 10) as s:
        s.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
        answer = b""
        while more := s.recv(65536):
            answer += more
        if answer.startswith(b"HTTP/1."):
            return int(answer[9:12])
    return 0


def wrk(port, requests, connections, seconds, during=None, pause=None):
    """The figures that wrk measures. during() is called halfway. pause: ms between an answer and the next request."""
    threads = 1 if connections == 1 else 2
    command = ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s",
               "-s", HERE / "load.lua", f"http://127.0.0.1:{port}/", "--",
               requests.file, str(requests.length), str(requests.count), str(threads), *([str(pause)] if pause else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        if during:
            time.sleep(seconds / 2)
            during()
        text = process.communicate()[0]
    lines = [line for line in text.splitlines() if line.startswith('{"requests"')]
    if process.returncode != 0 or not lines:
        raise Failed(f"wrk: {text}")
    return json.loads(lines[0])
