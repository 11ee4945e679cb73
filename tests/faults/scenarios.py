"""The table of what is broken in faults.py: a state of the spool, a program, what must hold.

A new command (drain, adopt, prune, ...) is one row: what is there before, how it is run, and
the events that must survive it."""

import dataclasses
import os
from collections.abc import Callable

from testbed import (BORROW, CGI, DIRS, DOCTOR, GOOD, INVALID, NOT_JSON, PSAPI, SECRET, Event, Torn, check_whole,
                     record)

EVENT = Event(GOOD, "new")
INVALID_EVENT = Event(INVALID, "failed")
OLD = 7200


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    prepare: Callable  # of the testbed
    event: Event = EVENT  # that is sent, and sent again after the fault
    command: Callable = lambda testbed: [CGI]
    sends: bool = True  # the command is the receiver, with the event as its request
    handled: bool = False  # the event was done before: it must never be queued again
    holds: Callable = None  # complaints about (testbed, outcome, whether it ran again untouched)
    there: tuple = ()  # events that were queued before, and must be afterwards
    succeeds: bool = False  # the command mends by itself what failed once
    without: str = ""  # what the system does not have, see shim.h
    one_wait: bool = False  # the file system is one where one wait is right
    torn: bool = False  # a file in new/ is no event, before
    typed: bytes = None  # standard input of a command
    code: int = 0  # its exit status, when nothing fails
    like: str = ""  # the scenario that begins with the same calls: there they are broken

    @property
    def shim(self):
        one_wait = {"FAULT_WITH": "one_wait", "PSAPI_SYNC": "auto"} if self.one_wait else {}
        return {"FAULT_WITHOUT": self.without} | one_wait


def nothing(testbed):
    pass  # not even the directories


def empty(testbed):
    testbed.empty()


def writer_died(testbed):
    testbed.empty()
    testbed.put(record(EVENT), f"new/{EVENT.name}")


def foreign(testbed):
    """Not by our invariants: but somebody has put it there."""
    testbed.empty()
    testbed.put(b"no event", f"new/{EVENT.name}")


def stored(testbed):
    testbed.empty()
    testbed.put(record(EVENT), f"new/{EVENT.name}", f"events/{EVENT.name}")


def handled(testbed):
    testbed.empty()
    testbed.put(record(EVENT), f"events/{EVENT.name}")


LOST = (Event(GOOD, "new", "msg_a"), Event(GOOD, "new", "msg_b"), Event(INVALID, "failed", "msg_c"))


def uncommitted(testbed):
    """What a power cut leaves: queued, and not in events/; a leftover in tmp/."""
    testbed.empty()
    for event in LOST:
        testbed.put(record(event), f"{event.queue}/{event.name}")
    testbed.put(b"half", "tmp/1.2.3", age=OLD)


def two_secrets(testbed):
    testbed.empty()
    with open(testbed.secret, "a", encoding="ascii") as file:
        file.write("# rotating\n" + SECRET[:-4] + "AAAA\n")


def borrow(testbed):
    return [BORROW, testbed.secret]


def try_it(_):
    return [CGI, "-t"]


def after_trial(testbed, outcome, again):
    """It leaves nothing behind; killed, or where it cannot remove them, names that nobody sees."""
    left = [f"{place}/{name}" for place in DIRS for name in testbed.names(place)]
    if any(not os.path.basename(name).startswith(".probe.") for name in left if not name.startswith("tmp/")):
        yield f"left: {left}"
    if left and outcome.code == 0 and not again:
        yield f"said that all is well, and left {left}"


# ---- before the first secret ----

def no_secret(testbed):
    testbed.empty()
    testbed.write_secret("")


def after_hold(testbed, outcome, again):
    """What is answered 200 is held, and whole."""
    for name in testbed.names("hold"):
        try:
            with open(testbed.at("hold", name), "rb") as file:
                check_whole(file.read(), EVENT)
        except Torn as error:
            yield f"hold/{name}: {error!r}"
    if (outcome.word == "held" or again) and not testbed.names("hold"):
        yield f"answered {outcome.word}, and nothing is held"


# ---- commands of the operator: the same run again, untouched, must finish their work ----

A, B, C = LOST


def work(testbed):
    """Two events wait, one has failed; all are committed."""
    testbed.empty()
    for event in LOST:
        testbed.put(record(event), f"{event.queue}/{event.name}", f"events/{event.name}")


def archive(testbed):
    """One is handled, one waits; both are old."""
    testbed.empty()
    testbed.put(record(A), f"events/{A.name}", age=200 * 86400)
    testbed.put(record(B), f"new/{B.name}", f"events/{B.name}", age=200 * 86400)


def psapi(*arguments):
    return lambda testbed: [PSAPI, *arguments]


def drain(status):
    return lambda testbed: [PSAPI, "drain", "--", "/bin/sh", "-c",
                            f'echo "$PSAPI_WEBHOOK_ID" >> {testbed.handled_log}; exit {status}']


def known(testbed, *events):
    for event in events:
        if event.name not in testbed.names("events"):
            yield f"{event.name} is lost from events/"


def after_drain(testbed, _, again):
    yield from known(testbed, *LOST)
    for event in A, B:
        if not testbed.queued(event) and event.webhook_id not in testbed.handled():
            yield f"{event.name} is in no queue, and was not handled"
        # What failed meanwhile waits for its next try, a minute; and the other, for they are in one lane.
        if again and "new" in testbed.queued(event) and not testbed.names("state"):
            yield f"{event.name} still waits, and nothing says why"
    if C.name not in testbed.names("failed"):
        yield f"{C.name} is lost from failed/"


def after_drain_in_vain(queue):
    """The handler never succeeds: no event leaves its queues."""
    def complaints(testbed, outcome, again):
        yield from after_drain(testbed, outcome, again)
        for event in A, B:
            if not testbed.queued(event) or again and testbed.queued(event) != [queue]:
                yield f"{event.name} is in {testbed.queued(event)}, not in {queue}/"
    return complaints


# ---- batches: events of several lanes for one process ----

D, E, F = (Event(GOOD.replace(b"123456789", npn), "new", name)
           for npn, name in ((b"1", "msg_d"), (b"2", "msg_e"), (b"3", "msg_f")))
KNOWN = (*LOST, D, E, F)

# By id. What is not reported waits; so does what comes after msg_a in its lane.
RESULTS = """
{ n[$6] = NR; print $6 >>seen }
function say(word, id) { if (id in n) { print word, n[id]; fflush() } }
END { close(seen); say("ok", "msg_a"); say("later", "msg_b"); say("ok", "msg_d"); system("")
      say("failed", "msg_d"); say("failed", "msg_e"); exit 75 }"""
ALL = '{ print $6 >>seen } END { close(seen); print "ok all", NR }'


def work_of_lanes(testbed):
    work(testbed)
    for event in D, E, F:
        testbed.put(record(event), f"new/{event.name}", f"events/{event.name}")


def batch(results):
    return lambda testbed: [PSAPI, "drain", "--batch", "9", "--", "/usr/bin/awk", "-F", '"', "-v",
                            f"seen={testbed.handled_log}", results]


def after_batch(testbed, _, again):
    yield from known(testbed, *KNOWN)
    for event in A, B, D, E, F:
        if not testbed.queued(event) and event.webhook_id not in testbed.handled():
            yield f"{event.name} is in no queue, and was not handled"
        if again and "new" in testbed.queued(event) and not testbed.names("state"):
            yield f"{event.name} still waits, and nothing says why"
    if C.name not in testbed.names("failed"):
        yield f"{C.name} is lost from failed/"


def after_batch_of_results(testbed, outcome, again):
    """What is not reported is never done; only what was reported as failed gets there."""
    yield from after_batch(testbed, outcome, again)
    for event in B, E, F:
        if not testbed.queued(event):
            yield f"{event.name} is in no queue"
    for event in A, B, F:
        if "failed" in testbed.queued(event):
            yield f"{event.name} is in failed/"


def after_retry(testbed, _, again):
    """Killed, it may be in both queues: new/ wins."""
    yield from known(testbed, C)
    if not testbed.queued(C) or again and "new" not in testbed.queued(C):
        yield f"{C.name} is in {testbed.queued(C)}"


def after_done(testbed, outcome, again):
    yield from known(testbed, A)
    if (again or outcome.code == 0) and testbed.queued(A):
        yield f"{A.name} is in {testbed.queued(A)}"


def after_replay(testbed, outcome, again):
    yield from known(testbed, A, B)
    if testbed.queued(B) != ["new"] or (again or outcome.code == 0) and testbed.queued(A) != ["new"]:
        yield f"queued: {A.name} in {testbed.queued(A)}, {B.name} in {testbed.queued(B)}"


def roster_of(testbed):
    """The lines of state/roster; complaints are in them."""
    try:
        with open(testbed.at("state", "roster"), encoding="ascii") as file:
            head, *lines = file.read().splitlines()
    except FileNotFoundError:
        return []
    return lines if head.split()[3] == str(len(lines)) else [f"torn: {head}"]


def after_prune(testbed, _, again):
    yield from known(testbed, B)
    there, said = A.name in testbed.names("events"), roster_of(testbed)
    if said not in ([], ["123456789 2025-07-25T15:53:01.579000000Z activated"]) or not (there or said):
        yield f"{A.name} is {'' if there else 'not '}in events/, and state/roster has {said}"
    if testbed.queued(B) != ["new"] or (again and A.name in testbed.names("events")):
        yield f"{B.name} in {testbed.queued(B)}, events/ has {testbed.names('events')}"


OTHER_SECRET = "whsec_" + "QUJD" * 10


def held(testbed):
    """Two events came before their secret, as the receiver keeps them; then it came."""
    no_secret(testbed)
    for event in A, B:
        assert testbed.send(event).word == "held"
    testbed.write_secret(SECRET + "\n")


def after_adopt(testbed, _, again):
    """Each is held, or stored, or both for a moment; in the end it is stored."""
    held_still = len(testbed.names("hold"))
    stored_now = [event for event in (A, B) if testbed.queued(event) == ["new"]]
    if held_still + len(stored_now) < 2:
        yield f"{held_still} are held, {len(stored_now)} stored"
    for event in stored_now if not again else (A, B):
        if again or event.name in testbed.names("events"):
            yield from testbed.kept(event)
    if again and held_still:
        yield f"still held: {testbed.names('hold')}"


def after_secret_add(testbed, _, again):
    """The file is the old one or the new one, whenever it is read, and nobody else may read it."""
    with open(testbed.secret, encoding="ascii") as file:
        secrets = [line.strip() for line in file if not line.startswith("#")]
    if secrets not in ([SECRET], [SECRET, OTHER_SECRET]) or (again and OTHER_SECRET not in secrets):
        yield f"the file has {secrets}"
    if os.stat(testbed.secret).st_mode & 0o777 != 0o640:
        yield f"its mode is {os.stat(testbed.secret).st_mode & 0o777:o}"
    for name in os.listdir(testbed.path) if again else ():
        if name.startswith("secret."):
            yield f"a draft is left: {name}"


SCENARIOS = [
    Scenario("event", empty),
    Scenario("first event ever", nothing, like="event"),
    Scenario("event, one wait", empty, one_wait=True, like="event"),
    Scenario("event, no O_TMPFILE", empty, without="tmpfile", like="event"),
    Scenario("event, no O_TMPFILE, one wait", empty, without="tmpfile", one_wait=True, like="event, one wait"),
    Scenario("event, no /proc", empty, without="proc", like="event"),
    Scenario("invalid event", empty, INVALID_EVENT, like="event"),
    Scenario("invalid event, one wait", empty, INVALID_EVENT, one_wait=True, like="event, one wait"),
    Scenario("invalid event, no O_TMPFILE", empty, INVALID_EVENT, without="tmpfile", like="invalid event"),
    Scenario("no JSON", empty, Event(NOT_JSON, "failed"), like="invalid event"),
    Scenario("probe of doctor", empty, Event(DOCTOR, ""), like="event"),
    Scenario("probe of doctor, one wait", empty, Event(DOCTOR, ""), one_wait=True, like="event, one wait"),
    Scenario("writer died", writer_died, like="event"),
    Scenario("writer died, one wait", writer_died, one_wait=True, like="event, one wait"),
    Scenario("writer died, no O_TMPFILE", writer_died, without="tmpfile", like="writer died"),
    Scenario("writer died, no /proc", writer_died, without="proc", like="writer died"),
    Scenario("another file of that name", foreign, torn=True, like="event"),
    Scenario("duplicate", stored, like="event"),
    Scenario("duplicate of what is done", handled, handled=True, like="event"),
    Scenario("held request", no_secret, holds=after_hold, like="event"),
    Scenario("held request, one wait", no_secret, one_wait=True, holds=after_hold, like="held request"),
    Scenario("secrets", two_secrets, command=borrow, sends=False, succeeds=True),
    Scenario("psapi-fcgi -t", empty, command=try_it, sends=False, holds=after_trial),
    Scenario("psapi-fcgi -t, one wait", empty, command=try_it, sends=False, one_wait=True, holds=after_trial,
             like="psapi-fcgi -t"),
    Scenario("recovery", uncommitted, command=psapi("recover"), sends=False, there=LOST),
    Scenario("recovery, one wait", uncommitted, command=psapi("recover"), sends=False, there=LOST, one_wait=True,
             like="recovery"),
    Scenario("drain", work, command=drain(0), sends=False, holds=after_drain),
    Scenario("drain, to be tried again", work, command=drain(75), sends=False, holds=after_drain_in_vain("new"),
             like="drain"),
    Scenario("drain, all fail", work, command=drain(1), sends=False, holds=after_drain_in_vain("failed"), code=1,
             like="drain, to be tried again"),
    Scenario("drain, all fail, one wait", work, command=drain(1), sends=False, one_wait=True,
             holds=after_drain_in_vain("failed"), code=1, like="drain, all fail"),
    Scenario("drain, a batch", work_of_lanes, command=batch(ALL), sends=False, holds=after_batch, like="drain"),
    Scenario("drain, a batch of results", work_of_lanes, command=batch(RESULTS), sends=False,
             holds=after_batch_of_results, code=1, like="drain, a batch"),
    Scenario("retry", work, command=psapi("retry", "--all"), sends=False, holds=after_retry),
    Scenario("done", work, command=psapi("done", "msg_a"), sends=False, holds=after_done, like="retry"),
    Scenario("replay", archive, command=psapi("replay", "msg_a"), sends=False, holds=after_replay, like="retry"),
    Scenario("prune", archive, command=psapi("prune", "--older-than", "90d"), sends=False, holds=after_prune,
             like="retry"),
    Scenario("prune, one wait", archive, command=psapi("prune", "--older-than", "90d"), sends=False, holds=after_prune,
             one_wait=True, like="prune"),
    Scenario("adopt", held, command=psapi("adopt"), sends=False, holds=after_adopt, like="retry"),
    Scenario("secret add", empty, command=psapi("secret", "add"), sends=False,
             holds=after_secret_add, typed=OTHER_SECRET.encode() + b"\n"),
]
