#!/usr/bin/python3
"""The power goes at any moment: every state of the disk that the crash model allows is built,
then come recovery and the sender's retry, in either order, and the spool must be sound. And
every fsync that is taken out, every two steps that change places, must be noticed. FULL=1
exhausts the orders of two receivers, else a seeded sample."""

import dataclasses
import itertools
import os
import re
import sys

import crashmodel
import scenarios
from histories import Recorder, interleave, orders
from testbed import DOCTOR, FULL, GOOD, INVALID, Event, Testbed, Torn, check_whole, status_of

EVENT = Event(GOOD, "new")
INVALID_EVENT = Event(INVALID, "failed")
PROBE = Event(DOCTOR, "")
VERBOSE = "-v" in sys.argv


# ---- one state of the disk ----

def answered(ops):
    """Whether a 200 had been sent."""
    return any(op.kind == "answer" and status_of(bytes.fromhex(op.args[0])) == 200 for op in ops)


def handled(history, done):
    return any(op.pid == 0 for op in history.ops[:done])


def kind_of(data, event):
    try:
        check_whole(data, event)
        return "whole"
    except Torn:
        return "zero" if data.strip(b"\0") == b"" and data else f"{len(data)} bytes"


def key_of(history, done, files, directories):
    """States with one key are alike for whoever comes after the crash."""
    labels = {}
    shape = []
    for path, (inode, data) in sorted(files.items()):
        # Names in tmp/ hold the time.
        label = labels.setdefault(inode, len(labels))
        is_journal = path.startswith("spool/tmp/journal.")
        path = re.sub(r"tmp/.*", "tmp/", path)
        is_event = path.split("/")[1] in ("new", "failed", "events")
        shape.append((path, label, kind_of(data, history.event) if is_event else
                      hash(data) if is_journal else "other"))
    return (history.event, tuple(shape), frozenset(directories), answered(history.ops[:done]),
            handled(history, done), history.known)


def build(testbed, files, directories):
    for directory in sorted(directories - {"."}):
        os.makedirs(os.path.join(testbed.path, directory), exist_ok=True)
    first = {}
    for path, (inode, data) in files.items():
        full = os.path.join(testbed.path, path)
        if inode in first:
            os.link(first[inode], full)
        else:
            with open(full, "wb") as file:
                file.write(data)
            first[inode] = full


def promised(testbed, event):
    """Whether it is where it has to be after a 200, whatever events/ has lost."""
    if event.queue:
        return testbed.queued(event) == [event.queue]
    return event.name in testbed.names("events")


def complaints_of(history, done, files, directories, recovery_first):
    """What is wrong after the crash, recovery and retry."""
    testbed, event = Testbed(), history.event
    was_handled = handled(history, done)
    try:
        build(testbed, files, directories)
        # With a journal it is whole, and where it was promised, after recovery.
        if not history.crowd:
            yield from (f"after the crash: {line}" for line in testbed.torn([event]))
        if answered(history.ops[:done]) and not was_handled and not history.crowd and \
                not promised(testbed, event):
            yield f"answered 200, but after the crash it is in {testbed.queued(event)}"
        for step in ["recovery", "retry"] if recovery_first else ["retry", "recovery"]:
            if step == "recovery":
                waited = bool(testbed.queued(event))
                if testbed.recover(later=True).code != 0:
                    yield "recovery fails"
                if testbed.journals():
                    yield f"not recovered: {testbed.journals()}"
                if history.known and was_handled and not waited and testbed.queued(event):
                    yield "handled and let go, and recovery queues it again"
                if history.crowd and recovery_first and answered(history.ops[:done]) and \
                        not was_handled and not promised(testbed, event):
                    yield f"answered 200, but after the recovery it is in {testbed.queued(event)}"
                continue
            known = testbed.queued(event)
            reply = testbed.send(event)
            if reply.status != 200:
                yield f"the retry gets {reply.status}: {reply.stderr}"
            if history.known and was_handled and not known and reply.word == "accepted":
                yield "handled, and the redelivery queues it again"
        yield from testbed.torn([event])
        if not was_handled:
            yield from testbed.kept(event)
        elif event.name not in testbed.names("events"):
            yield "handled and redelivered, and not recorded"
    finally:
        testbed.remove()


class Judge:
    """Remembers the states it has seen."""

    def __init__(self):
        self.seen = {}

    def state(self, history, done, files, directories):
        key = key_of(history, done, files, directories)
        if key not in self.seen:
            self.seen[key] = [line for first in (True, False) for line in
                              complaints_of(history, done, files, directories, first)]
        return self.seen[key]

    def history(self, history, find_all=False):
        """Complaints about any crash in this history: (operations done, complaint)."""
        found = []
        for done, files, directories in crashmodel.crashes(history.before, history.ops):
            for complaint in self.state(history, done, files, directories):
                found.append((done, complaint))
                if not find_all:
                    return found
        return found


# ---- the histories ----

PLAIN = [
    ("event", EVENT, scenarios.empty, ""),
    ("first event ever", EVENT, scenarios.nothing, ""),
    ("event, no O_TMPFILE", EVENT, scenarios.empty, "tmpfile"),
    ("invalid event", INVALID_EVENT, scenarios.empty, ""),
    ("invalid event, no O_TMPFILE", INVALID_EVENT, scenarios.empty, "tmpfile"),
    ("probe of doctor", PROBE, scenarios.empty, ""),
]


CROWDS = [
    ("crowd", EVENT, scenarios.empty, "", "dies"),
    ("crowd, turned", EVENT, scenarios.empty, "", "turns"),
    ("crowd, closed", EVENT, scenarios.empty, "", "closes"),
]
if FULL:
    CROWDS += [("crowd, invalid event", INVALID_EVENT, scenarios.empty, "", "dies"),
               ("crowd, no O_TMPFILE", EVENT, scenarios.empty, "tmpfile", "turns")]


def plain_histories():
    for row in PLAIN + CROWDS:
        with Recorder(*row) as recorder:
            assert recorder.send().status == 200
            yield recorder.history()
            if row[-1] in ("turns", "closes"):
                # What the journal has let go is not queued again.
                recorder.handle()
                yield recorder.history(", handled", known=True)


def killed_histories():
    """A writer dies before each of its calls; then comes a duplicate, recovery, or both."""
    for row in PLAIN[:1] + PLAIN[2:4] + CROWDS[:2] + CROWDS[3:] if FULL else \
            PLAIN[:1] + PLAIN[3:4] + CROWDS[:1]:
        for at in itertools.count(1):
            finished = False
            # With a journal a duplicate has too many states for a sample.
            for then in ["duplicate", "recovery", "recovery, handled"][0 if FULL or row not in CROWDS else 1:]:
                with Recorder(*row) as recorder:
                    finished = recorder.send(kill_before=at).status == 200
                    before = set(recorder.testbed.names("events"))
                    if then == "duplicate":
                        assert recorder.send().status == 200
                    else:
                        recorder.recover()
                    if then == "recovery, handled":
                        recorder.handle()
                    # What recovery recorded and synced is known for good.
                    fresh = not before and bool(recorder.testbed.names("events"))
                    yield recorder.history(f", killed before call {at}, {then}",
                                           known=fresh and then == "recovery, handled")
            if finished:
                break


FAULTS = {
    "": (None, None),
    ", one cannot record": ({"FAULT_FAIL": "linkat:events", "FAULT_ERROR": "28"}, None),
    ", one cannot sync": ({"FAULT_FAIL": "fsync:new", "FAULT_ERROR": "5"}, None),
}


def duplicate_histories():
    for seed, (suffix, faults) in enumerate(FAULTS.items()):
        for order in orders(seed):
            with Recorder("duplicates " + "".join(map(str, order)), EVENT, scenarios.empty) as recorder:
                interleave(recorder, order, faults)
                yield recorder.history(suffix)
    for order in itertools.chain(*(orders(seed, False) for seed in range(9, 19 if FULL else 10))):
        for script_at in range(len(order)):
            if script_at % 4 != sum(order[:7]) % 4:
                continue
            with Recorder("duplicates, a script " + "".join(map(str, order)), EVENT,
                          scenarios.empty) as recorder:
                interleave(recorder, order, script_at=script_at)
                yield recorder.history(f" at {script_at}")


# ---- the code broken on purpose ----

def journals(history):
    return {op.args[0] for op in history.ops if op.kind == "link" and "/tmp/journal." in op.args[1]}


def label(history, op):
    """What an operation is for: mutations are asked for by this name."""
    writers = list(dict.fromkeys(o.pid for o in history.ops if o.pid))
    who = "crowd" if history.crowd else "receiver"
    if "recovery" in history.name and op.pid == writers[-1]:
        who = "recovery"
    elif "duplicate" in history.name and op.pid == writers[-1] and len(writers) > 1:
        who = "duplicate"
    what = {"sync": "the file", "link": op.args[-1:], "syncdir": op.args[-1:],
            "mkdir": "directories", "write": "the file", "answer": "200",
            "unlink": op.args[-1:]}.get(op.kind, "")
    if op.kind in ("sync", "write") and op.args[0] in journals(history):
        what = "the journal"
    where = "".join(what).removeprefix("spool/").partition("/")[0]
    return f"{who}: {op.kind} {where}"


def mutations(history):
    """(name, operations): one sync left out, two neighbours of one process swapped, the answer
    sent before something that it waited for."""
    ops = history.ops
    wanted = [i for i, op in enumerate(ops) if op.kind != "create" and op.pid != 0]
    for i in wanted:
        if ops[i].kind.startswith("sync"):
            yield f"without {label(history, ops[i])}", ops[:i] + ops[i + 1:]
    for i, k in zip(wanted, wanted[1:]):
        if ops[i].pid == ops[k].pid and k == i + 1:
            yield (f"swapped {label(history, ops[i])} | {label(history, ops[k])}",
                   ops[:i] + [ops[k], ops[i]] + ops[k + 1:])
    for k in wanted:
        for i in wanted:
            if ops[k].kind == "answer" and i < k and ops[i].pid == ops[k].pid:
                yield (f"answered before {label(history, ops[i])}",
                       ops[:i] + [ops[k]] + ops[i:k] + ops[k + 1:])


# What may change without harm, and why. All else must be noticed.
HARMLESS = [
    (r".*: (link|unlink|rename|write) (tmp|state|the file)? ?\| .*: (write the file|rename.*)",
     "the order of writes before their fsync; names in tmp/ and explanations in state/"),
    (r"swapped .*: (link events|write the file|rename.*) \| .*: unlink.*", "a name in tmp/ goes"),
    (r"swapped .*: unlink.* \| .*", "a name in tmp/ goes"),
    (r"answered before .*: (unlink|rename|link tmp|write the file).*",
     "as above; for data, its fsync and not its writing is what counts: see the row for it"),
    (r"answered before .*: link events|swapped .*: link events \| .*: answer 200",
     "what new/ has, recovery and a duplicate record: the link is there for those who come first"),
    (r"swapped .*: mkdir directories \| .*: (mkdir directories|syncfs)|"
     r"swapped .*: syncfs \| .*: mkdir directories",
     "the last directory before the sync is hold/ and the one after it tmp/: no event is there"),
    (r"answered before .*: mkdir directories", "its sync is what counts"),
    (r"swapped recovery: syncdir (new|failed) \| recovery: syncdir (failed|events)|"
     r"swapped recovery: link events \| recovery: syncdir failed", "they touch different queues"),
    (r".*duplicate: sync the file( \| duplicate: syncdir .*)?|swapped duplicate: write .* \| duplicate: sync .*",
     "a duplicate that meets a file throws its own away"),
    (r"(swapped|answered before) (crowd|duplicate): link (new|failed)( \| \2: link events)?",
     "what the journal holds is made again, whatever has its names; a kill in between is faults.py's"),
    (r"swapped (crowd|duplicate): (link tmp|write the file|sync the journal) \| \1: "
     r"(write the journal|syncdir (tmp|new|failed))",
     "all that is before the record, or a duplicate's, which it then does not need"),
    (r"swapped duplicate: syncdir tmp \| duplicate: answer 200",
     "a duplicate that meets what is done has recorded nothing"),
    (r"swapped recovery: (write the file|link (new|failed)|sync the journal) \| "
     r"recovery: (link (new|failed|events)|syncfs)",
     "as long as the journal is there, it is all made again"),
    (r"swapped recovery: syncdir tmp \| recovery: syncdir new", "they touch different directories"),
    (r"swapped (crowd|duplicate): answer 200 \| \1: syncfs", "the answer relies on the record alone"),
]
# What the recordings must have held: else the test is blind.
MUST_BE_THERE = [
    "without receiver: sync the file", "without receiver: syncdir new",
    "without receiver: syncdir failed", "without receiver: syncdir events",
    "without receiver: syncfs", "without duplicate: syncdir new", "without duplicate: syncdir failed",
    "without recovery: syncdir new", "without recovery: syncdir failed",
    "without recovery: syncdir events",
    "swapped receiver: write the file | receiver: sync the file",
    "swapped receiver: sync the file | receiver: link new",
    "swapped receiver: link new | receiver: syncdir new",
    "swapped receiver: syncdir new | receiver: link events",
    "swapped receiver: link events | receiver: syncdir events",
    "swapped receiver: syncdir events | receiver: answer 200",
    "swapped duplicate: syncdir new | duplicate: link events",
    "swapped recovery: syncdir new | recovery: link events",
    "answered before receiver: sync the file", "answered before receiver: link new",
    "answered before receiver: syncdir new", "answered before receiver: syncdir events",
    "answered before duplicate: syncdir new",
    "without crowd: sync the journal", "without crowd: syncdir tmp", "without crowd: syncfs",
    "swapped crowd: write the journal | crowd: sync the journal",
    "swapped crowd: sync the journal | crowd: link new",
    *(["swapped crowd: sync the journal | crowd: link failed"] if FULL else []),
    "swapped crowd: syncfs | crowd: write the journal",
    "without recovery: sync the journal", "without recovery: syncfs",
    "swapped recovery: syncfs | recovery: unlink tmp",
    "swapped crowd: syncfs | crowd: unlink tmp", "answered before crowd: sync the journal",
]


def unnoticed(judge, histories):
    """Mutations that no crash shows, and that are not harmless."""
    noticed = {}
    for history in histories:
        for name, ops in mutations(history):
            name = name.strip().replace("  ", " ")
            if not noticed.get(name):
                mutant = dataclasses.replace(history, ops=ops)
                noticed[name] = bool(judge.history(mutant))
    red = [name for name in noticed if noticed[name]]
    if VERBOSE:
        print(*(f"{'red  ' if noticed[name] else 'green'} {name}" for name in sorted(noticed)),
              sep="\n")
    print(f"mutations: {len(noticed)}, noticed: {len(red)}")
    yield from (f"not noticed: {name}" for name in noticed if not noticed[name] and
                not any(re.fullmatch(pattern, name) for pattern, _ in HARMLESS))
    yield from (f"never recorded, or not noticed: {name}" for name in MUST_BE_THERE
                if name not in red)


def main():
    judge, bad = Judge(), 0
    plain, killed = list(plain_histories()), list(killed_histories())
    count = 0
    for history in itertools.chain(plain, killed, duplicate_histories()):
        count += 1
        for done, complaint in judge.history(history)[:1]:
            bad += 1
            print(f"{history.name}: power cut after {done} operations: {complaint}")
            for number, op in enumerate(history.ops[:done], 1):
                print(f"    {number} {op.pid} {op.kind} {' '.join(op.args)[:60]}")
    print(f"power cuts: {count} histories, {len(judge.seen)} distinct states, {bad} bad")
    blind = list(unnoticed(judge, plain + killed))
    print(*blind, sep="\n", end="\n" if blind else "")
    return 1 if bad or blind else 0


if __name__ == "__main__":
    sys.exit(main())
