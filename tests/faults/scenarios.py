"""The table of what is broken in faults.py: a state of the spool, a program, what must hold.

A new command (drain, adopt, prune, ...) is one row: what is there before, how it is run, and
the events that must survive it."""

import dataclasses
import os
from collections.abc import Callable

from bench import (BORROW, CGI, CROWD, DOCTOR, GOOD, NOT_JSON, ODD, PSAPI, RECOVER, SECRET, Event,
                   record)

EVENT = Event(GOOD, "new")
OLD = 7200


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    prepare: Callable  # of the bench
    event: Event = EVENT  # that is sent, and sent again after the fault
    command: Callable = lambda bench: [CGI]
    sends: bool = True  # the command is the receiver, with the event as its request
    handled: bool = False  # the event was done before: it must never be queued again
    holds: Callable = None  # of a command: complaints about (bench, whether it ran again untouched)
    there: tuple = ()  # events that were queued before, and must be afterwards
    succeeds: bool = False  # the command mends by itself what failed once
    without: str = ""  # what the system does not have, see shim.h
    torn: bool = False  # files are, before
    typed: bytes = None  # standard input of a command


def nothing(bench):
    pass  # not even the directories


def empty(bench):
    bench.empty()


def twin_died(bench):
    bench.empty()
    bench.put(record(EVENT), f"new/{EVENT.name}")


def stored(bench):
    bench.empty()
    bench.put(record(EVENT), f"new/{EVENT.name}", f"events/{EVENT.name}")


def handled(bench):
    bench.empty()
    bench.put(record(EVENT), f"events/{EVENT.name}")


LOST = (Event(GOOD, "new", "msg_a"), Event(GOOD, "new", "msg_b"), Event(ODD, "failed", "msg_c"))


def unrecorded(bench):
    """What a power cut leaves: queued, but not recorded; a leftover in tmp/."""
    bench.empty()
    for event in LOST:
        bench.put(record(event), f"{event.queue}/{event.name}")
    bench.put(b"half", "tmp/1.2.3", age=OLD)


def recover(bench):
    return [RECOVER, bench.spool]


def journal_alone(bench):
    """What a power cut leaves of a crowd: the journal has it, and its file is torn."""
    bench.empty()
    assert bench.run([CROWD], A, shim={"CROWD": "dies"}).status == 200
    with open(bench.at("new", A.name), "r+b") as file:
        file.truncate(100)
    os.unlink(bench.at("events", A.name))


def recover_later(bench):
    return [RECOVER, bench.spool, "later"]


def after_recovery(bench, again):
    """Until the recovery has gone through, the journal has what the files have not."""
    if again or not bench.journals():
        yield from bench.torn([A])
        yield from bench.kept(A)
    if again and bench.journals():
        yield f"left: {bench.journals()}"


def crowd(bench):
    return [CROWD]


def two_secrets(bench):
    bench.empty()
    with open(bench.secret, "a", encoding="ascii") as file:
        file.write("# rotating\n" + SECRET[:-4] + "AAAA\n")


def borrow(bench):
    return [BORROW, bench.secret]


# ---- commands of the operator: the same run again, untouched, must finish their work ----

A, B, C = LOST


def work(bench):
    """Two events wait, one has failed; all are recorded."""
    bench.empty()
    for event in LOST:
        bench.put(record(event), f"{event.queue}/{event.name}", f"events/{event.name}")


def archive(bench):
    """One is handled, one waits; both are old."""
    bench.empty()
    bench.put(record(A), f"events/{A.name}", age=200 * 86400)
    bench.put(record(B), f"new/{B.name}", f"events/{B.name}", age=200 * 86400)


def psapi(*arguments):
    return lambda bench: [PSAPI, *arguments]


def drain(bench):
    return [PSAPI, "drain", "--", "/bin/sh", "-c",
            f'echo "$PSAPI_WEBHOOK_ID" >> {bench.handled_log}']


def recorded(bench, *events):
    for event in events:
        if event.name not in bench.names("events"):
            yield f"{event.name} is lost from events/"


def after_drain(bench, again):
    yield from recorded(bench, *LOST)
    for event in A, B:
        if not bench.queued(event) and event.webhook_id not in bench.handled():
            yield f"{event.name} is in no queue, and was not handled"
        # What failed meanwhile waits for its next try: a minute.
        if again and bench.queued(event) and event.name not in bench.names("state"):
            yield f"{event.name} still waits, and nothing says why"
    if C.name not in bench.names("failed"):
        yield f"{C.name} is lost from failed/"


def after_retry(bench, again):
    yield from recorded(bench, C)
    if not bench.queued(C):
        yield f"{C.name} is in no queue"
    if again and bench.queued(C) != ["new"]:
        yield f"{C.name} is in {bench.queued(C)}"


def after_done(bench, again):
    yield from recorded(bench, A)
    if again and bench.queued(A):
        yield f"{A.name} is in {bench.queued(A)}"


def after_replay(bench, again):
    yield from recorded(bench, A, B)
    if bench.queued(B) != ["new"] or (again and bench.queued(A) != ["new"]):
        yield f"queued: {A.name} in {bench.queued(A)}, {B.name} in {bench.queued(B)}"


def after_prune(bench, again):
    yield from recorded(bench, B)
    if bench.queued(B) != ["new"] or (again and A.name in bench.names("events")):
        yield f"{B.name} in {bench.queued(B)}, events/ has {bench.names('events')}"


OTHER_SECRET = "whsec_" + "QUJD" * 10


def write_secret(bench, text):
    with open(bench.secret, "w", encoding="ascii") as file:
        file.write(text)


def held(bench):
    """Two events came before their secret, as the receiver keeps them; then it came."""
    bench.empty()
    write_secret(bench, "")
    for event in A, B:
        assert bench.send(event).word == "held"
    write_secret(bench, SECRET + "\n")


def after_adopt(bench, again):
    """Each is held, or stored, or both for a moment; in the end it is stored."""
    held_still = len(bench.names("hold"))
    stored = [event for event in (A, B) if bench.queued(event) == ["new"]]
    if held_still + len(stored) < 2:
        yield f"{held_still} are held, {len(stored)} stored"
    for event in stored if not again else (A, B):
        if again or event.name in bench.names("events"):
            yield from bench.kept(event)
    if again and held_still:
        yield f"still held: {bench.names('hold')}"


def after_secret_add(bench, again):
    """Whoever reads the file sees the old one or the new one, and nobody else may."""
    with open(bench.secret, encoding="ascii") as file:
        secrets = [line.strip() for line in file if not line.startswith("#")]
    if secrets not in ([SECRET], [SECRET, OTHER_SECRET]) or (again and OTHER_SECRET not in secrets):
        yield f"the file has {secrets}"
    if os.stat(bench.secret).st_mode & 0o777 != 0o640:
        yield f"its mode is {os.stat(bench.secret).st_mode & 0o777:o}"
    for name in os.listdir(bench.path) if again else ():
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
    Scenario("odd event", empty, Event(ODD, "failed")),
    Scenario("odd event in a crowd", empty, Event(ODD, "failed"), command=crowd),
    Scenario("odd event, no O_TMPFILE", empty, Event(ODD, "failed"), without="tmpfile"),
    Scenario("no JSON", empty, Event(NOT_JSON, "failed")),
    Scenario("probe of doctor", empty, Event(DOCTOR, "")),
    Scenario("twin died", twin_died),
    Scenario("twin died, in a crowd", twin_died, command=crowd),
    Scenario("twin died, no O_TMPFILE", twin_died, without="tmpfile"),
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
