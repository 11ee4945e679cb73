"""The senders of a chaos test, one for each lane, the record of what they were answered, and the checks at the end.

A lane's sender sends its events one after the other: the next only after a 200 for the one before. So the handlers of a
lane must run in exactly this order, whatever dies.
"""

import collections
import http.client
import random
import threading
import time
from dataclasses import dataclass, field

from fcgi_client import NoAnswer
from load import at_once
from psapi_command import body
from sender import signed

NO_ANSWER = (OSError, http.client.HTTPException, NoAnswer, AssertionError)
ENOUGH = 5      # seconds that AgentSync waits for an answer


@dataclass
class Event:
    webhook_id: str
    body: bytes
    lane: int
    number: int
    first_sent: float = 0
    acknowledged: float = 0     # time of the first 200
    accepted: int = 0           # answers "accepted"


@dataclass
class Record:
    """Shared by all senders."""

    events: dict = field(default_factory=dict)      # webhook_id: Event
    answers: collections.Counter = field(default_factory=collections.Counter)
    acknowledgements: list = field(default_factory=list)    # times
    slowest: float = 0
    late: int = 0               # answers that took longer than the sender waits
    complaints: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def complain(self, text):
        with self.lock:
            self.complaints.append(text)

    def answered(self, one, reply, seconds):
        with self.lock:
            now = time.monotonic()
            self.slowest = max(self.slowest, seconds)
            self.late += seconds > ENOUGH
            self.answers[reply.word if reply.status == 200 else reply.status] += 1
            if reply.status == 200:
                self.acknowledgements.append(now)
                one.acknowledged = one.acknowledged or now
                one.accepted += reply.word == "accepted"

    def acknowledged(self):
        return [one for one in self.events.values() if one.acknowledged]

    def longest_gap(self):
        """Seconds between two acknowledgements that follow each other, at most."""
        times = sorted(self.acknowledgements)
        return max((b - a for a, b in zip(times, times[1:])), default=0)


class Lane:
    """The events of one producer. ways: functions that deliver a Request, one for each head or balancer."""

    def __init__(self, number, ways, record, seed, pause=(0.05, 0.3)):
        self.number, self.ways, self.record, self.pause = number, ways, record, pause
        self.rng, self.sent = random.Random(f"{seed} lane {number}"), 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def new(self):
        self.sent += 1
        later = "_later" if self.rng.random() < 0.005 else ""
        one = Event(f"lane{self.number}_{self.sent}{later}", body(self.sent, str(1000 + self.number)), self.number,
                    self.sent)
        with self.record.lock:
            self.record.events[one.webhook_id] = one
        return one

    def attempt(self, one, way):
        """One delivery. Only 503 and a missing answer are allowed beside 200 (502, 504: of a balancer)."""
        begun = time.monotonic()
        try:
            reply = way(signed(one.body, one.webhook_id))
        except NO_ANSWER:
            with self.record.lock:
                self.record.answers["none"] += 1
            return
        self.record.answered(one, reply, time.monotonic() - begun)
        if reply.status not in (200, 502, 503, 504):
            self.record.complain(f"{one.webhook_id}: authentic, and refused: {reply}")

    def deliver(self, one):
        """To one head; sometimes to all at the same moment. Repeated until there is a 200, sometimes once more."""
        one.first_sent = one.first_sent or time.monotonic()
        while not one.acknowledged:
            if self.rng.random() < 0.3:
                at_once([lambda way=way: self.attempt(one, way) for way in self.ways])
            else:
                self.attempt(one, self.rng.choice(self.ways))
            if not one.acknowledged and self.stopping.wait(0.2):
                return
        if self.rng.random() < 0.1:
            self.attempt(one, self.rng.choice(self.ways))

    def run(self):
        try:
            one = self.new()
            while not self.stopping.is_set():
                self.deliver(one)
                if one.acknowledged:
                    if self.stopping.wait(self.rng.uniform(*self.pause)):
                        break
                    one = self.new()
        except Exception as error:      # a fault of the test itself must be seen
            self.record.complain(f"lane {self.number}: {error!r}")

    def settle(self):
        """After the load: the event that is still without a 200."""
        self.stopping.clear()
        for one in list(self.record.events.values()):
            if one.lane == self.number and not one.acknowledged:
                self.deliver(one)


def stop(lanes):
    for lane in lanes:
        lane.stopping.set()
    for lane in lanes:
        lane.thread.join()


@dataclass
class Run:
    """A handler that ended: the line that it wrote."""

    at: float
    webhook_id: str

    @classmethod
    def parse(cls, line):
        at, webhook_id = line.split()
        return cls(float(at), webhook_id)


class Checks:
    """What must be true at the end. excuses: the times when something died that may make a handler run twice."""

    def __init__(self, record, runs, excuses):
        self.record, self.runs, self.excuses = record, sorted(runs, key=lambda run: run.at), excuses
        self.first = {}         # webhook_id: its first run
        self.again = []         # (earlier run, later run)
        last = {}
        for run in self.runs:
            self.first.setdefault(run.webhook_id, run)
            if run.webhook_id in last:
                self.again.append((last[run.webhook_id], run))
            last[run.webhook_id] = run
        self.passed, self.failed = [], []

    def check(self, what, faults):
        faults = list(faults)
        (self.failed if faults else self.passed).append(what)
        for fault in faults[:10]:
            print(f"chaos: FAILED: {what}: {fault}")

    def all(self):
        self.check("no complaint", self.record.complaints)
        self.check("every acknowledged event was handled", self.lost())
        self.check("none was accepted twice", (f"{one.webhook_id}: {one.accepted} times"
                                               for one in self.record.events.values() if one.accepted > 1))
        self.check("none overtook another of its lane", self.overtaken())
        self.check("none was handled twice without a death", self.unexplained())
        self.check("only what was sent was handled", set(self.first) - set(self.record.events))

    def lost(self):
        return (one.webhook_id for one in self.record.acknowledged() if one.webhook_id not in self.first)

    def overtaken(self):
        """Within a lane the runs are in the order in which the events were sent; one may run again before the next."""
        last = {}
        for run in self.runs:
            one = self.record.events.get(run.webhook_id)
            if one is None:
                continue
            before = last.get(one.lane)
            if before is not None and one.number < before.number:
                yield f"{one.webhook_id} after {before.webhook_id}"
            elif before is not None and one.number > before.number + 1:
                yield f"{one.webhook_id} right after {before.webhook_id}"
            last[one.lane] = one

    def unexplained(self):
        """Handled again, and nothing that could explain it died around the first run."""
        for earlier, later in self.again:
            if not any(earlier.at - 60 <= at <= later.at for at in self.excuses):
                yield f"{later.webhook_id} at {earlier.at:.1f} and {later.at:.1f}"
