"""A load of the receiver on a file system whose disk is logged: what was sent, answered and
handled, at what time, and what the disk was told meanwhile."""

import contextlib
import itertools
import os
import subprocess
import threading
import time
from dataclasses import dataclass

from fcgi_client import Connection
from filesystems import mounted, run
from load import Load
from machine import unmount
from receiver import Place, Receiver, wait_for
from replies import parse_cgi
from sender import event, signed
from servers import pairs

DELIVERIES = 640        # of a load, at least
INVALID_EVERY = 31      # one event of so many goes to failed/
TWICE = 0.2             # of the events are delivered by two clients at once
PADDING = [0] * 12 + [2000, 3700, 5000, 9000, 20000]
WRITE_US, FLUSH_US = 100, 1000      # duration of a write and of a flush of the disk, on average
STALE = b'{"webhook_id":"stale","event":\n{"data":{"npn":"1"},"type":"stale"}\n}\n' * 1000


@dataclass
class Recording:
    """All times are CLOCK_MONOTONIC, in ns."""
    begin: int              # of the load
    sent: dict              # webhook-id: Request
    answered: dict          # webhook-id: when its first 200 had arrived
    handled: dict           # name in the spool, without .json: when the consumer had handled it
    base: bytearray = None  # the content of the disk before
    log: bytes = None       # of logdisk


class Traffic:
    """What the clients send, and the answers."""

    def __init__(self, dice):
        self.dice, self.lock = dice, threading.Lock()
        self.sent, self.answered, self.refused = {}, {}, []
        self.requests = self._requests()

    def _requests(self):
        for number in itertools.count(1):
            data = {"npn": str(number), "activatedAt": "2025-07-25T15:53:01.579Z",
                    "padding": "x" * self.dice.choice(PADDING)}
            if number % INVALID_EVERY == 0:
                del data["npn"]
            request = signed(event(**data), webhook_id=f"msg_{number:06}")
            self.sent[f"msg_{number:06}"] = request
            yield from [request] * (2 if self.dice.random() < TWICE else 1)

    def deliver(self, socket):
        """One job of a client."""
        with self.lock:
            request = next(self.requests)
        with Connection(socket) as connection:
            output = connection.exchange(pairs(request), request.body)
        now = time.monotonic_ns()
        with self.lock:
            if parse_cgi(output).status == 200:
                self.answered.setdefault(request.header("webhook-id").decode(), now)
            else:
                self.refused.append(output)


def consume(spool, handled, stop):
    """README.md's loop, again and again. In Python: the time of the work must be known exactly."""
    while not stop.wait(0.005):
        for name in os.listdir(spool / "new"):
            waiting = spool / "new" / name
            with contextlib.suppress(FileNotFoundError):
                if waiting.samefile(spool / "events" / name):
                    handled[name.removesuffix(".json")] = time.monotonic_ns()
                    waiting.unlink()


@contextlib.contextmanager
def consumer(spool, handled):
    stop = threading.Event()
    thread = threading.Thread(target=consume, args=(spool, handled, stop))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def load(place, receiver, clients, with_consumer, dice):
    traffic, handled, begin = Traffic(dice), {}, time.monotonic_ns()
    with contextlib.ExitStack() as stack:
        if with_consumer:
            stack.enter_context(consumer(place.spool.path, handled))
        with Load(lambda: traffic.deliver(receiver.path), clients) as running:
            running.turn(DELIVERIES // clients)
    failed = [result for result in running.results if result is not None] + traffic.refused
    assert not failed, f"{len(failed)} deliveries failed: {failed[0]!r}\n{receiver.log()}"
    return Recording(begin, traffic.sent, traffic.answered, handled)


# ---- the disk ----

def make_disk(place, system, image):
    """A file system with old content in its free blocks, and an empty spool on it."""
    with open(image, "wb") as file:
        file.truncate(system.size)
    run(*system.make, image)
    with mounted(system, image, place.spool.path):
        fill(place.spool.path / "stale", system.stale)
        place.spool.path.chmod(0o2770)
        Receiver(place).start().stop()


def fill(path, most):
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        while file.tell() < most:
            file.write(STALE)
    os.sync()
    path.unlink()


@contextlib.contextmanager
def logged(programs, image, log, target):
    """The image as a file (its path) whose writes and flushes are logged."""
    target.mkdir()
    with subprocess.Popen([programs / "logdisk", image, log, str(WRITE_US), str(FLUSH_US), target,
                           "-f", "-o", "max_idle_threads=16"]) as process:
        try:
            wait_for(lambda: os.path.ismount(target) or process.poll() is not None, "logdisk")
            assert process.poll() is None, f"logdisk: exit status {process.returncode}"
            yield target / "disk"
            unmount(target)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, f"logdisk: exit status {process.returncode}"


@contextlib.contextmanager
def running_receiver(place, **settings):
    """Ends by SIGKILL: the file system can be unmounted, whatever happened."""
    receiver = Receiver(place, **settings).start()
    try:
        yield receiver
    finally:
        receiver.end()


def record(programs, system, clients, with_consumer, dice, sync, without=None):
    """A Recording of a load by so many clients.

    sync: PSAPI_SYNC. without: the call that waits for the disk and is left out, see without.c."""
    place = Place({"PSAPI_MIN_FREE": "0", "PSAPI_SYNC": sync})
    place.tidy = False
    image, log = place.dir / "disk.img", place.dir / "log"
    preload = {"LD_PRELOAD": programs / "without.so", "WITHOUT": without} if without else {}
    try:
        make_disk(place, system, image)
        base = bytearray(image.read_bytes())
        with logged(programs, image, log, place.dir / "fuse") as file, \
                mounted(system, file, place.spool.path, direct=True), \
                running_receiver(place, **preload) as receiver:
            recording = load(place, receiver, clients, with_consumer, dice)
        recording.base, recording.log = base, log.read_bytes()
        return recording
    finally:
        place.close()
