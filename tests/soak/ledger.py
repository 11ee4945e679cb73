"""The events of a soak: which were sent, how they were answered, and the checks at the end."""

import base64
import collections
import hmac
import threading
from dataclasses import dataclass, field

from sender import event, signature, signed

TYPES = ["producersync.npn.activated", "producersync.npn.deactivated"]
LANES = 20


@dataclass
class Event:
    webhook_id: str
    body: bytes
    acknowledged: bool = False
    accepted: int = 0       # answers "accepted"


class Ledger:
    """Shared by all clients."""

    def __init__(self):
        self.lock = threading.Lock()
        self.events = {}            # webhook_id: Event
        self.waiting = {}           # of them, those without a 200
        self.answers = collections.Counter()
        self.complaints = []

    def complain(self, text):
        with self.lock:
            self.complaints.append(text)

    def new(self, rng):
        """An event that was never sent. The end of its id tells the handler how to end."""
        with self.lock:
            number = len(self.events) + 1
            kind = rng.choices(["", "_later", "_fails", "_invalid"], [90, 3, 3, 4])[0]
            npn = 1000 + number if kind else rng.randrange(LANES)
            body = b"no JSON" if kind == "_invalid" else \
                event(rng.choice(TYPES), npn=str(npn), activatedAt="2025-07-25T15:53:01.579Z",
                      deactivatedAt="2025-07-25T15:53:01.579Z", filler="x" * rng.choice([0, 0, 9000]))
            one = Event(f"soak_{number}{kind}", body)
            self.events[one.webhook_id] = self.waiting[one.webhook_id] = one
            return one

    def some(self, rng, acknowledged):
        """An event that was sent before, or None."""
        with self.lock:
            if not acknowledged:
                return rng.choice(list(self.waiting.values())) if self.waiting else None
            one = self.events.get(rng.choice(list(self.events))) if self.events else None
            return one if one and one.acknowledged else None

    def answered(self, one, reply):
        """From now on the event must not be lost. `accepted` may come only once for an id."""
        with self.lock:
            word = reply.word
            self.answers[word] += 1
            if word not in ("accepted", "duplicate"):
                self.complaints.append(f"{one.webhook_id}: 200, and {word}")
                return
            one.accepted += word == "accepted"
            if one.accepted > 1:
                self.complaints.append(f"{one.webhook_id}: accepted twice")
            one.acknowledged = True
            self.waiting.pop(one.webhook_id, None)


# ---- requests ----

def authentic(one, secrets):
    return signed(one.body, one.webhook_id, secrets=secrets)


def forgery(ledger, rng, world):
    """A request that no secret in force has signed."""
    one = ledger.some(rng, rng.random() < 0.5) or ledger.new(rng)
    kind = rng.choice(["key", "dropped", "body", "id"])
    if kind == "key":
        unknown = "whsec_" + base64.b64encode(rng.randbytes(24)).decode()
        return signed(one.body, f"forged_{rng.random()}", secrets=(unknown,))
    if kind == "dropped" and world.secrets.dropped:
        return signed(one.body, f"forged_{rng.random()}", secrets=(world.secrets.dropped[-1],))
    good = authentic(one, world.secrets.of_the_sender)
    if kind == "id":
        return good.with_header("webhook-id", f"forged_{rng.random()}")
    good.body = one.body.replace(b"o", b"0", 1) if b"o" in one.body else one.body + b" "
    return good


# ---- the checks at the end ----

@dataclass
class FinalChecks:
    """A check with complaints fails the run."""
    ledger: Ledger
    spool: object
    handled: list           # (run of drain, webhook_id), as written by the handler
    killed: set             # runs of drain that were killed
    secrets: list           # all that were ever in force
    passed: list = field(default_factory=list)

    def check(self, what, complaints):
        complaints = list(complaints)
        for complaint in complaints[:10]:
            print(f"soak: {what}: {complaint}")
        if not complaints:
            self.passed.append(what)
        return not complaints

    def all(self):
        return all([self.check("no answer was wrong", self.ledger.complaints),
                    self.check("nothing acknowledged is lost", self.lost()),
                    self.check("nothing forged got in", self.forged()),
                    self.check("nothing is queued twice", self.twice()),
                    self.check("no event still waits", self.queue("new")),
                    self.check("each file is whole, and its signature can be verified", self.torn()),
                    self.check("no file is left in tmp/", self.spool.left_in_tmp())])

    def queue(self, directory):
        """Names that a drain would take."""
        return [name for name in self.spool.names(directory) if self.spool.is_work(directory, name)]

    def lost(self):
        handled = {webhook_id for _, webhook_id in self.handled}
        for one in self.ledger.events.values():
            queued = [d for d in ("new", "failed") if self.spool.is_work(d, one.webhook_id)]
            if one.acknowledged and one.webhook_id not in handled and not queued:
                yield f"{one.webhook_id} was answered 200, and is neither handled nor queued"
            if one.acknowledged and not self.spool.file("events", one.webhook_id).exists():
                yield f"{one.webhook_id} was answered 200, and events/ does not know it"

    def forged(self):
        there = {name for d in ("new", "failed", "events") for name in self.spool.names(d)}
        there |= {webhook_id for _, webhook_id in self.handled}
        yield from (f"{name} was never signed" for name in there - set(self.ledger.events))
        yield from self.spool.names("hold")

    def twice(self):
        """A handler gets an event again only after drain was killed."""
        runs = collections.defaultdict(list)
        for run, webhook_id in self.handled:
            runs[webhook_id].append(run)
        for webhook_id, seen in runs.items():
            if len([run for run in seen if run not in self.killed]) > 1 or len(seen) != len(set(seen)):
                yield f"{webhook_id} was handled in the runs {seen}, killed were " \
                      f"{sorted(self.killed & set(seen))}"
        yield from (f"{name} is in new/ and in failed/" for name in
                    set(self.queue("new")) & set(self.queue("failed")))

    def torn(self):
        for directory in ("events", "new", "failed"):
            for name in self.spool.names(directory):
                try:
                    stored = self.spool.read(directory, name)
                except (AssertionError, ValueError, LookupError) as error:
                    yield f"{directory}/{name}: {error!r}"
                    continue
                one = self.ledger.events.get(name)
                if one and stored.body != one.body:
                    yield f"{directory}/{name}: another body"
                if one and not self.is_verified(stored):
                    yield f"{directory}/{name}: no secret verifies its signature"

    def is_verified(self, stored):
        evidence = stored.evidence
        return any(hmac.compare_digest(
            signature(secret, evidence["webhook_id"], evidence["webhook_timestamp"], stored.body),
            evidence["webhook_signature"].encode()) for secret in self.secrets)
