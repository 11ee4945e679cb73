"""A load of the receiver on a file system whose disk is logged: what was sent, answered and handled, and
when, and what the disk was told meanwhile."""

import contextlib
import itertools
import os
import subprocess
import threading
import time
from dataclasses import dataclass, field

from fcgi_client import Connection
from filesystems import mounted, run
from load import Load
from machine import needs, unmount
from receiver import Place, Receiver, wait_for
from replies import parse_cgi
from sender import event, signed
from servers import pairs
from spool import event_name

DELIVERIES = 640        # at least, of a load
ODD_EVERY = 31          # an event for failed/
TWICE = 0.2             # of the events are delivered by two clients at once
PADDING = [0] * 12 + [2000, 3700, 5000, 9000, 20000]
WRITE_US, FLUSH_US = 100, 1000      # what the disk takes, on average
STALE = b'{"webhook_id":"stale","event":\n{"data":{"npn":"1"},"type":"stale"}\n}\n' * 1000


@dataclass
class Recording:
    base: bytearray                                 # the disk before
    log: bytes                                      # of logdisk
    begin: int                                      # of the load, CLOCK_MONOTONIC, ns, as all times here
    sent: dict                                      # webhook-id: Request
    answered: dict = field(default_factory=dict)    # webhook-id: when its first 200 had arrived
    handled: dict = field(default_factory=dict)     # webhook-id: when the consumer had done its work


class Traffic:
    """What the clients send, and what they are told."""

    def __init__(self, dice):
        self.dice, self.lock, self.sent, self.answered, self.refused = dice, threading.Lock(), {}, {}, []
        self.requests = self._requests()

    def _requests(self):
        for number in itertools.count(1):
            data = {"npn": str(number), "activatedAt": "2025-07-25T15:53:01.579Z",
                    "padding": "x" * self.dice.choice(PADDING)}
            if number % ODD_EVERY == 0:
                del data["npn"]
            request = signed(event(**data), webhook_id=f"msg_{number:06}")
            self.sent[f"msg_{number:06}"] = request
            yield from [request] * (2 if self.dice.random() < TWICE else 1)

    def deliver(self, socket):
        """The next request: one job of a client."""
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
    """The README's loop: the work is done when it is written down, and then the name goes.

    In Python and not in sh, because the time of the work must be known exactly."""
    while not stop.wait(0.005):
        for name in os.listdir(spool / "new"):
            waiting = spool / "new" / name
            with contextlib.suppress(FileNotFoundError):
                if waiting.samefile(spool / "events" / name):
                    handled[name.removesuffix(".json")] = time.monotonic_ns()
                    waiting.unlink()


def load(place, receiver, clients, consumer, dice):
    traffic, handled, stop = Traffic(dice), {}, threading.Event()
    thread = threading.Thread(target=consume, args=(place.spool.path, handled, stop))
    begin = time.monotonic_ns()
    if consumer:
        thread.start()
    try:
        with Load(lambda: traffic.deliver(receiver.path), clients) as running:
            running.turn(DELIVERIES // clients)
    finally:
        stop.set()
        if consumer:
            thread.join()
    failed = [result for result in running.results if result is not None] + traffic.refused
    assert not failed, f"{len(failed)} deliveries failed: {failed[0]!r}\n{receiver.log()}"
    handled = {name: t for name, t in handled.items() if name in map(event_name, traffic.sent)}
    return Recording(bytearray(), b"", begin, traffic.sent, traffic.answered, handled)


# ---- the disk ----

def make_disk(place, system, image):
    """A file system with old content in its free blocks, and an empty spool that a receiver has made."""
    with open(image, "wb") as file:
        file.truncate(system.size)
    run(*system.make, image)
    with needs(f"{system.kind} in the kernel"), mounted(system, image, place.spool.path):
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
    """The image as a file whose writes and flushes go to the log: its path."""
    target.mkdir()
    with subprocess.Popen([programs / "logdisk", image, log, str(WRITE_US), str(FLUSH_US), target,
                           "-f", "-o", "max_idle_threads=16"]) as process:
        try:
            wait_for(lambda: os.path.ismount(target) or process.poll() is not None, "a FUSE file system")
            assert process.poll() is None, "logdisk ended"
            yield target / "disk"
            unmount(target)
        except BaseException:
            process.kill()
            raise
    assert process.returncode == 0, f"logdisk: exit status {process.returncode}"


def record(programs, system, clients, consumer, dice, without=None, **settings):
    """A Recording of a load by that many clients, with a consumer beside the receiver or not.

    without: a call that waits for the disk and is left out, without.c."""
    place = Place({"PSAPI_MIN_FREE": "0"} | settings)
    place.tidy = False
    image, log = place.dir / "disk.img", place.dir / "log"
    try:
        make_disk(place, system, image)
        base = bytearray(image.read_bytes())
        preload = {"LD_PRELOAD": programs / "without.so", "WITHOUT": without} if without else {}
        with logged(programs, image, log, place.dir / "fuse") as file, \
                mounted(system, file, place.spool.path, direct=True):
            receiver = Receiver(place, **preload).start()
            recording = load(place, receiver, clients, consumer, dice)
            receiver.end()
        recording.base, recording.log = base, log.read_bytes()
        return recording
    finally:
        for receiver in place.receivers:
            receiver.end()
        place.close()
