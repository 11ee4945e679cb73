"""The table of what is broken in faults.py: a state of the spool, a program, what must hold.

A new command (drain, adopt, prune, ...) is one row: what is there before, how it is run, and
the events that must survive it."""

import dataclasses
from collections.abc import Callable

from bench import (BORROW, CGI, DOCTOR, GOOD, NOT_JSON, ODD, RECOVER, SECRET, Event,
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
    there: tuple = ()  # events that were queued before, and must be afterwards
    succeeds: bool = False  # the command mends by itself what failed once
    without: str = ""  # what the system does not have, see shim.h


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


def two_secrets(bench):
    bench.empty()
    with open(bench.secret, "a", encoding="ascii") as file:
        file.write("# rotating\n" + SECRET[:-4] + "AAAA\n")


def borrow(bench):
    return [BORROW, bench.secret]


SCENARIOS = [
    Scenario("first event ever", nothing),
    Scenario("event", empty),
    Scenario("event, linked through /proc", empty, without="empty_path"),
    Scenario("event, no O_TMPFILE", empty, without="tmpfile"),
    Scenario("event, no /proc", empty, without="proc,empty_path"),
    Scenario("odd event", empty, Event(ODD, "failed")),
    Scenario("odd event, no O_TMPFILE", empty, Event(ODD, "failed"), without="tmpfile"),
    Scenario("no JSON", empty, Event(NOT_JSON, "failed")),
    Scenario("probe of doctor", empty, Event(DOCTOR, "")),
    Scenario("twin died", twin_died),
    Scenario("twin died, no O_TMPFILE", twin_died, without="tmpfile"),
    Scenario("duplicate", stored),
    Scenario("duplicate of what is done", handled, handled=True),
    Scenario("secrets", two_secrets, command=borrow, sends=False, succeeds=True),
    Scenario("recovery", unrecorded, command=recover, sends=False, there=LOST),
]
