"""The table of what is broken in faults.py: a state of the spool, a program, what must hold.

A new command (drain, adopt, prune, ...) is one row: what is there before, how it is run, and
the events that must survive it."""

import dataclasses
import os
from collections.abc import Callable

from testbed import (BORROW, CGI, CROWD, DOCTOR, GOOD, INVALID, NOT_JSON, PSAPI, RECOVER, SECRET, Event,
                     record)

EVENT = Event(GOOD, "new")
OLD = 7200


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    prepare: Callable  # of the testbed
    event: Event = EVENT  # that is sent, and sent again after the fault
    command: Callable = lambda testbed: [CGI]
    sends: bool = True  # the command is the receiver, with the event as its request
    handled: bool = False  # the event was done before: it must never be queued again
    holds: Callable = None  # of a command: complaints about (testbed, whether it ran again untouched)
    there: tuple = ()  # events that were queued before, and must be afterwards
    succeeds: bool = False  # the command mends by itself what failed once
    without: str = ""  # what the system does not have, see shim.h
    torn: bool = False  # files are, before
    typed: bytes = None  # standard input of a command


def nothing(testbed):
    pass  # not even the directories


def empty(testbed):
    testbed.empty()


def writer_died(testbed):
    testbed.empty()
    testbed.put(record(EVENT), f"new/{EVENT.name}")


def stored(testbed):
    testbed.empty()
    testbed.put(record(EVENT), f"new/{EVENT.name}", f"events/{EVENT.name}")


def handled(testbed):
    testbed.empty()
    testbed.put(record(EVENT), f"events/{EVENT.name}")


LOST = (Event(GOOD, "new", "msg_a"), Event(GOOD, "new", "msg_b"), Event(INVALID, "failed", "msg_c"))


def unrecorded(testbed):
    """What a power cut leaves: queued, but not recorded; a leftover in tmp/."""
    testbed.empty()
    for event in LOST:
        testbed.put(record(event), f"{event.queue}/{event.name}")
    testbed.put(b"half", "tmp/1.2.3", age=OLD)


def recover(testbed):
    return [RECOVER, testbed.spool]


def journal_alone(testbed):
    """What a power cut leaves of a crowd: the journal has it, and its file is torn."""
    testbed.empty()
    assert testbed.run([CROWD], A, shim={"CROWD": "dies"}).status == 200
    with open(testbed.at("new", A.name), "r+b") as file:
        file.truncate(100)
    os.unlink(testbed.at("events", A.name))


def recover_later(testbed):
    return [RECOVER, testbed.spool, "later"]


def after_recovery(testbed, again):
    """Until the recovery has gone through, the journal has what the files have not."""
    if again or not testbed.journals():
        yield from testbed.torn([A])
        yield from testbed.kept(A)
    if again and testbed.journals():
        yield f"left: {testbed.journals()}"


def crowd(testbed):
    return [CROWD]


def two_secrets(testbed):
    testbed.empty()
    with open(testbed.secret, "a", encoding="ascii") as file:
        file.write("# rotating\n" + SECRET[:-4] + "AAAA\n")


def borrow(testbed):
    return [BORROW, testbed.secret]


# ---- commands of the operator: the same run again, untouched, must finish their work ----

A, B, C = LOST


def work(testbed):
    """Two events wait, one has failed; all are recorded."""
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


def drain(testbed):
    return [PSAPI, "drain", "--", "/bin/sh", "-c",
            f'echo "$PSAPI_WEBHOOK_ID" >> {testbed.handled_log}']


def recorded(testbed, *events):
    for event in events:
        if event.name not in testbed.names("events"):
            yield f"{event.name} is lost from events/"


def after_drain(testbed, again):
    yield from recorded(testbed, *LOST)
    for event in A, B:
        if not testbed.queued(event) and event.webhook_id not in testbed.handled():
            yield f"{event.name} is in no queue, and was not handled"
        # What failed meanwhile waits for its next try: a minute.
        if again and testbed.queued(event) and event.name not in testbed.names("state"):
            yield f"{event.name} still waits, and nothing says why"
    if C.name not in testbed.names("failed"):
        yield f"{C.name} is lost from failed/"


def after_retry(testbed, again):
    yield from recorded(testbed, C)
    if not testbed.queued(C):
        yield f"{C.name} is in no queue"
    if again and testbed.queued(C) != ["new"]:
        yield f"{C.name} is in {testbed.queued(C)}"


def after_done(testbed, again):
    yield from recorded(testbed, A)
    if again and testbed.queued(A):
        yield f"{A.name} is in {testbed.queued(A)}"


def after_replay(testbed, again):
    yield from recorded(testbed, A, B)
    if testbed.queued(B) != ["new"] or (again and testbed.queued(A) != ["new"]):
        yield f"queued: {A.name} in {testbed.queued(A)}, {B.name} in {testbed.queued(B)}"


def after_prune(testbed, again):
    yield from recorded(testbed, B)
    if testbed.queued(B) != ["new"] or (again and A.name in testbed.names("events")):
        yield f"{B.name} in {testbed.queued(B)}, events/ has {testbed.names('events')}"


OTHER_SECRET = "whsec_" + "QUJD" * 10


def write_secret(testbed, text):
    with open(testbed.secret, "w", encoding="ascii") as file:
        file.write(text)


def held(testbed):
    """Two events came before their secret, as the receiver keeps them; then it came."""
    testbed.empty()
    write_secret(testbed, "")
    for event in A, B:
        assert testbed.send(event).word == "held"
    write_secret(testbed, SECRET + "\n")


def after_adopt(testbed, again):
    """Each is held, or stored, or both for a moment; in the end it is stored."""
    held_still = len(testbed.names("hold"))
    stored = [event for event in (A, B) if testbed.queued(event) == ["new"]]
    if held_still + len(stored) < 2:
        yield f"{held_still} are held, {len(stored)} stored"
    for event in stored if not again else (A, B):
        if again or event.name in testbed.names("events"):
            yield from testbed.kept(event)
    if again and held_still:
        yield f"still held: {testbed.names('hold')}"


def after_secret_add(testbed, again):
    """Whoever reads the file sees the old one or the new one, and nobody else may."""
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
    Scenario("first event ever", nothing),
    Scenario("event", empty),
    Scenario("event, linked through /proc", empty, without="empty_path"),
    Scenario("event, no O_TMPFILE", empty, without="tmpfile"),
    Scenario("event, no /proc", empty, without="proc,empty_path"),
    Scenario("event in a crowd", empty, command=crowd),
    Scenario("event in a crowd, no O_TMPFILE", empty, command=crowd, without="tmpfile"),
    Scenario("invalid event", empty, Event(INVALID, "failed")),
    Scenario("invalid event in a crowd", empty, Event(INVALID, "failed"), command=crowd),
    Scenario("invalid event, no O_TMPFILE", empty, Event(INVALID, "failed"), without="tmpfile"),
    Scenario("no JSON", empty, Event(NOT_JSON, "failed")),
    Scenario("probe of doctor", empty, Event(DOCTOR, "")),
    Scenario("writer died", writer_died),
    Scenario("writer died, in a crowd", writer_died, command=crowd),
    Scenario("writer died, no O_TMPFILE", writer_died, without="tmpfile"),
    Scenario("duplicate", stored),
    Scenario("duplicate of what is done", handled, handled=True),
    Scenario("secrets", two_secrets, command=borrow, sends=False, succeeds=True),
    Scenario("recovery", unrecorded, command=recover, sends=False, there=LOST),
    Scenario("recovery of a journal", journal_alone, command=recover_later, sends=False,
             holds=after_recovery, torn=True),
    Scenario("drain", work, command=drain, sends=False, holds=after_drain),
    Scenario("retry", work, command=psapi("retry", "--all"), sends=False, holds=after_retry),
    Scenario("done", work, command=psapi("done", "msg_a"), sends=False, holds=after_done),
    Scenario("replay", archive, command=psapi("replay", "msg_a"), sends=False,
             holds=after_replay),
    Scenario("prune", archive, command=psapi("prune", "--older-than", "90d"), sends=False,
             holds=after_prune),
    Scenario("adopt", held, command=psapi("adopt"), sends=False, holds=after_adopt),
    Scenario("secret add", empty, command=psapi("secret", "add"), sends=False,
             holds=after_secret_add, typed=OTHER_SECRET.encode() + b"\n"),
]
