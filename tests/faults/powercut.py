#!/usr/bin/python3
"""The power goes at any moment: every state of the disk that the crash model allows is built.

At once, before any program of ours has run: whatever has a name in new/, failed/, events/ or hold/ is
whole (I1); what was answered 200 is where it was promised; what events/ knows is queued, or was
handled (I3). Then recovery and the sender's retry come, in either order, and the spool must be sound.

And each sync that is taken out, each two steps that change places, each answer that is sent too early
must be noticed, but for those in HARMLESS. All of it is the way with two waits: that with one wait
rests on the file system, and make check-disk has it on real ones.

FULL=1 exhausts the kills and the orders of two receivers, else they are a seeded sample. -v: all mutations."""

import collections
import dataclasses
import functools
import itertools
import multiprocessing
import os
import re
import sys

import crashmodel
import scenarios
from histories import Recorder, calls, interleave, orders
from scenarios import EVENT, INVALID_EVENT
from testbed import (DOCTOR, FULL, GOOD, Event, Testbed, Torn, adopt_orphans, check_whole, record,
                     status_of, word_of)

PROBE = Event(DOCTOR, "")
STALE = (record(Event(GOOD, "new", "msg_2")), b"\x7fgarbage\n")  # the first is as long as ours
QUEUES = ("new", "failed")
LOOK = [("spool/new",), ("spool/failed",), ("spool/events",)]  # what a recovery syncs
ROSTER = "spool/state/roster"
MOVES = ("drain", "retry", "replay", "done")
VERBOSE = "-v" in sys.argv
SHOWN = 10  # complaints
ROUND = 40  # histories, after which it is known what is noticed


# ---- what is owed at the moment of the power cut ----

@dataclasses.dataclass(frozen=True)
class Owed:
    """What the operations up to that moment have promised."""
    places: tuple = ()  # it must be in one of these; (): nothing is promised
    gone: bool = False  # psapi done has ended: it must be in no queue
    handled: bool = False
    known: bool = False  # ... and events/ knows it, on the disk: it does not come again
    moved: bool = False  # it may be in two queues at once: new/ wins
    pruned: bool = False  # events/ may have forgotten it, if state/roster says what it said


def owed(history, done):
    event, handlers, ended, moved = history.event, set(), None, False
    answered = held = pruned = False
    for op in history.ops[:done]:
        word = op.role.partition("-")[0]
        if op.kind == "answer" and status_of(bytes.fromhex(op.args[0])) == 200:
            held |= word_of(bytes.fromhex(op.args[0])) == "held"
            # A probe that was put a moment ago may be called a duplicate before it is synced: nobody's loss.
            answered |= event.queue != "" or word_of(bytes.fromhex(op.args[0])) == "accepted"
        elif op.kind == "handled":
            handlers.add(word)
        elif op.kind == "ended":
            ended = word
            handlers = set() if word == "replay" else handlers
        elif word == "done" and op.kind == "unlink" and op.args[0].split("/")[1] in QUEUES:
            handlers.add("done")
        moved |= word in MOVES
        pruned |= word == "prune"
    if handlers:
        known = not pruned and (handlers <= {"drain", "done"} or history.known)
        return Owed(gone=ended == "done", handled=True, known=known, pruned=pruned)
    if not answered:
        return Owed()
    places = ("new",) if ended in ("retry", "replay") else QUEUES if moved else (event.queue or "events",)
    return Owed(places + (("hold",) if held and ended != "adopt" else ()), moved=moved)


@functools.cache
def kind_of(data, event):
    try:
        check_whole(data, event)
        return "whole"
    except Torn:
        return f"{len(data)} bytes, {hash(data) & 0xffff:x}"


def is_said(data):
    """Whether state/roster has what the event says of its producer."""
    return re.search(rb"(?m)^roster 1 .* 1\n\d+ \S+ activated\n\Z", data) is not None


def before_recovery(history, due, files):
    """Complaints about what is on the disk, when nothing has run yet."""
    event, there = history.event, {}
    for path, file in files.items():
        _, place, name = path.split("/")
        # What somebody else has put there before is nobody's promise.
        if place not in ("new", "failed", "events", "hold") or history.before[0].get(path) == file:
            continue
        there[place] = kind_of(file[1], event) if name == event.name or place == "hold" else name
        if there[place] != "whole":
            yield f"I1: {place}/ has {there[place]}"
    queued = [place for place in QUEUES if place in there]
    if due.places and not set(due.places) & set(there):
        yield f"promised in {due.places}, and it is in {list(there)}"
    if due.gone and queued:
        yield f"psapi done had ended, and it is in {queued}"
    if event.queue and "events" in there and not queued and not due.handled:
        yield "I3: events/ knows it, no queue has it, and nobody has handled it"
    if due.known and not queued and "events" not in there:
        yield "handled, and forgotten: a redelivery would be handled again"
    if due.pruned and "events" not in there and not is_said(files.get(ROSTER, ("", b""))[1]):
        yield "forgotten, and state/roster does not have what it said"


# ---- what becomes of one state of the disk: programs run ----

def key_of(event, files, directories):
    """States with one key are alike for those that come after the crash."""
    labels, shape = {}, []
    for path, (inode, data) in sorted(files.items()):
        _, place, name = path.split("/")
        label = labels.setdefault(inode, len(labels))
        matters = place in ("new", "failed", "events", "hold")
        # Names in tmp/ and hold/ hold the time.
        kind = kind_of(data, event) if matters else is_said(data) if path == ROSTER else "other"
        shape.append((place, "" if place in ("tmp", "hold") else name, label, kind))
    return event, tuple(shape), frozenset(directories)


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


@dataclasses.dataclass
class Aftermath:
    """How recovery and the sender's retry went, in that order or the other."""
    order: str
    failures: list
    before: list  # the queues that had it
    word: str  # of the answer to the retry
    after: list
    known: bool  # it is in events/
    one: bool  # and is the same file in all of them


def aftermath(event, files, directories, order):
    testbed, failures, word = Testbed(), [], ""
    try:
        build(testbed, files, directories)
        before = testbed.queued(event)
        for step in order.split(", "):
            if step == "recovery" and not os.path.isdir(testbed.at("tmp")):
                continue  # it makes no spool; psapi-recover.service has a condition
            outcome = testbed.recover() if step == "recovery" else testbed.send(event)
            if outcome.code != 0 or step == "retry" and outcome.status != 200:
                failures.append(f"{step} fails: {outcome.status} {outcome.stderr}")
            word = outcome.word or word
        after = testbed.queued(event)
        paths = [testbed.at(place, event.name) for place in [*after, "events"]]
        there = [os.stat(path).st_ino for path in paths if os.path.exists(path)]
        return Aftermath(order, failures + list(testbed.torn([event])), before, word, after,
                         os.path.exists(paths[-1]), len(set(there)) == 1)
    finally:
        testbed.remove()


def aftermaths(item):
    """Of one state, for the pool."""
    key, (files, directories) = item
    return key, [aftermath(key[0], files, directories, order) for order in ("recovery, retry", "retry, recovery")]


def after_recovery(event, due, found):
    yield from found.failures
    if not found.known:
        yield "in the end events/ does not know it"
    if due.known and not found.before and (found.after or found.word != "duplicate"):
        yield f"handled, and the redelivery is {found.word} and in {found.after}"
    if not due.handled and not found.one:
        yield "what is queued is not the file in events/"
    wanted = [event.queue] if event.queue else []
    if not due.handled and not (found.after == wanted or due.moved and found.after):
        yield f"in the end it is in {found.after}"


# ---- a history and its states ----

@dataclasses.dataclass
class Survey:
    """The states of a history: what is wrong with them at once, and the programs that are still to run."""
    wrong: list  # (operations done, complaint)
    states: dict  # key: the state
    open: dict  # (key, what is owed): operations done


def survey(history, first=None):
    """first: of a mutation, the operation that is another; then one complaint is enough."""
    found, seen = Survey([], {}, {}), set()
    dues = [owed(history, done) for done in range(len(history.ops) + 1)]
    for done, files, directories in crashmodel.crashes(history.before, history.ops, STALE, first or 0):
        key, due = key_of(history.event, files, directories), dues[done]
        if (key, due) in seen:
            continue
        seen.add((key, due))
        complaints = [(done, line) for line in before_recovery(history, due, files)]
        found.wrong += complaints
        if complaints and first is not None:
            break
        if not complaints:
            found.states[key] = (files, directories)
            found.open[key, due] = done
    return found


class Judge:
    """Runs the programs on each state once."""

    def __init__(self, pool):
        self.pool, self.known = pool, {}

    def learn(self, surveys):
        states = {key: state for one in surveys for key, state in one.states.items() if key not in self.known}
        self.known.update(self.pool.imap_unordered(aftermaths, states.items(), chunksize=4))

    def complaints(self, one):
        yield from one.wrong
        for (key, due), done in one.open.items():
            for found in self.known[key]:
                yield from ((done, f"{found.order}: {line}") for line in after_recovery(key[0], due, found))


# ---- the histories ----

PLAIN = {
    "event": (EVENT, scenarios.empty, ""),
    "first event ever": (EVENT, scenarios.nothing, ""),
    "event, no O_TMPFILE": (EVENT, scenarios.empty, "tmpfile"),
    "event, no /proc": (EVENT, scenarios.empty, "proc"),
    "invalid event": (INVALID_EVENT, scenarios.empty, ""),
    "invalid event, no O_TMPFILE": (INVALID_EVENT, scenarios.empty, "tmpfile"),
    "probe of doctor": (PROBE, scenarios.empty, ""),
    "held": (EVENT, scenarios.no_secret, ""),
}
# What is done; the last step is the one that is killed; what may follow then.
MOVED = {
    "drained": ("event", "send drain", ["drain", "recover again", "again recover"]),
    "drained to a retry": ("event", "send drain:75", ["drain:75"]),
    "drained to failed": ("event", "send drain:1", ["drain:1", "recover again"]),
    "tried again": ("event", "send drain:1 retry", ["retry", "drain", "recover again"]),
    "replayed": ("event", "send drain replay", ["replay", "recover again"]),
    "called handled": ("event", "send done", ["done", "recover again"]),
    "called handled after it failed": ("invalid event", "send done", ["done"]),
    "pruned": ("event", "send drain prune", ["again", "recover again", "prune"]),
    "adopted": ("held", "send secret:yes adopt", ["adopt", "again adopt", "adopt recover again"]),
    "recovered": ("event", "died recover", ["recover", "recover readme again", "again recover"]),
    "recovered, invalid event": ("invalid event", "died recover", ["recover", "again"]),
}
# What comes after a writer that was killed: each of these alone, or with a consumer in between.
FOLLOW = ["again", "recover", "recover again", "again recover", "readme again readme recover readme",
          "recover readme again readme", "blind again", "blind recover again"]


def row_of(plain):
    return (plain, *PLAIN[plain])


def run_steps(row, steps, killed=None, then=""):
    """Record one history. killed: the last of the steps is killed after that call, and others follow."""
    with Recorder(*row) as recorder:
        for number, step in enumerate(steps, 1):
            recorder.step(step, killed if killed and number == len(steps) else 0)
        victim = recorder.role if killed else ""
        for step in then.split():
            outcome = recorder.step(step)
            assert outcome is None or outcome.code in (0, 1, os.EX_DATAERR, os.EX_NOINPUT), (row, then, outcome)
        suffix = f", killed after call {killed}, {then}" if killed else ""
        return recorder.history(suffix, victim)


def run_pair(order, suffix, script, prepare=scenarios.empty, **more):
    with Recorder("duplicates " + "".join(map(str, order)) + suffix, EVENT, prepare) as recorder:
        interleave(recorder, order, script=script, **more)
        if more:
            # Whatever was killed or failed: the sender's retry completes it.
            assert recorder.step("again").status == 200
        return recorder.history()


def perform(job):
    function, arguments, more = job
    return function(*arguments, **more)


def job(function, *arguments, **more):
    return function, arguments, more


def plain_jobs():
    for plain in PLAIN:
        yield job(run_steps, row_of(plain), ["send"])
    for name, (plain, steps, _) in MOVED.items():
        yield job(run_steps, (name, *PLAIN[plain]), steps.split())


def killed_jobs():
    """Killed after each of its calls, then comes each of those that may follow."""
    rows = [(plain, PLAIN[plain], ["send"], FOLLOW) for plain in (PLAIN if FULL else ("event", "invalid event"))
            if plain not in ("first event ever", "held")]
    rows += [(name, PLAIN[plain], steps.split(), follow if FULL else follow[-1:])
             for name, (plain, steps, follow) in MOVED.items()]
    for name, plain, steps, follow in rows:
        for at in calls((name, *plain), steps):
            for then in follow:
                yield job(run_steps, (name, *plain), steps, at, then)


FAULTS = {
    ", one cannot commit": ({"FAULT_FAIL": "linkat:events", "FAULT_ERROR": "28"}, None),
    ", one cannot sync": ({"FAULT_FAIL": "fsync:new", "FAULT_ERROR": "5"}, None),
}


def pair_jobs():
    """Concurrent duplicates: alone, with one that fails or is killed, with a consumer in between."""
    for order in orders(1, None if FULL else 40):
        yield job(run_pair, order, "", None)
    for seed, (suffix, faults) in enumerate(FAULTS.items(), 2):
        for order in orders(seed, 300 if FULL else 20):
            yield job(run_pair, order, suffix, None, faults=faults)
    for order in orders(4, 400 if FULL else 40):
        yield job(run_pair, order, ", over another file", None, scenarios.foreign)
    for seed, script in enumerate(("readme", "blind"), 5):
        for number, order in enumerate(orders(seed, 400 if FULL else 30)):
            at = [(number + i * 5) % len(order) for i in range(3)]
            yield job(run_pair, order, f", {script} at {at}", script, script_at=at)
            kill = (number * 3) % len(order)
            yield job(run_pair, order, f", {script} at {at}, killed at {kill}", script, script_at=at, kill_at=kill)


def handled_wrongly(histories):
    """README.md's loop handles each event exactly once when nothing but a writer is killed. One that does not look
    into events/ may handle it twice: that is counted."""
    counts = collections.Counter()
    for history in histories:
        kind = "readme" if "readme" in history.name else "blind" if "blind" in history.name else ""
        if not kind or history.event.queue != "new":
            continue
        times = history.handled + history.left
        counts[kind] += 1
        counts[f"{kind} twice"] += times > 1
        if kind == "readme" and times != 1:
            yield f"{history.name}: handled {times} times"
    print(f"consumers: README.md's loop {counts['readme']} histories, one that does not look into events/ "
          f"{counts['blind']}, {counts['blind twice']} of them handled twice")


# ---- the code broken on purpose ----

def labels_of(history):
    """What each operation is for: mutations are asked for by these names."""
    names = collections.defaultdict(set)
    place_of = {path: inode for path, (inode, _) in history.before[0].items()}
    for op in history.ops:
        if op.kind == "link":
            names[op.args[0]].add(op.args[1].split("/")[1])
            place_of[op.args[1]] = op.args[0]
        elif op.kind == "rename":
            names[place_of.get(op.args[0])].add(op.args[1].split("/")[1])
    named = set(inode for inode, _ in history.before[0].values())
    for op in history.ops:
        where = op.args[-1].split("/")[1] if op.args and "/" in op.args[-1] else ""
        what = {"answer": "200", "mkdir": "directories"}.get(op.kind, where)
        if op.kind in ("write", "sync", "create"):
            what = "state" if "state" in names[op.args[0]] else \
                "data" if op.args[0] not in named else "file"
        if op.kind == "link" and where in ("new", "failed", "events", "hold"):
            named.add(op.args[0])
        yield f"{op.role.partition('-')[0]}: {op.kind} {what}".strip()


def looks_of(ops):
    """The syncs of a recovery that finds nothing. Each command begins with one, and drain ends with one."""
    for role in {op.role for op in ops if op.role.startswith((*MOVES, "adopt"))}:
        mine = [(number, op) for number, op in enumerate(ops) if op.role == role and op.kind != "ended"]
        # What comes before and after are the notes of a drain: that it runs, and what it has done.
        mine = list(itertools.dropwhile(is_note, mine))
        mine = list(itertools.dropwhile(is_note, reversed(mine)))[::-1]
        for look in (LOOK, LOOK[1:]):   # without new/, if that has nothing
            if [op.args for _, op in mine[:len(look)] if op.kind == "syncdir"] == look:
                yield from (number for number, _ in mine[:len(look)])
        for number, op in itertools.takewhile(lambda item: item[1].kind == "syncdir", reversed(mine)):
            if role.startswith("drain") and any(one.kind in ("unlink", "rename") for _, one in mine):
                yield number


def is_note(item):
    """Of what is at the beginning or the end of a process."""
    return item[1].kind in ("create", "write", "link", "rename")


def numbered(labels, roles):
    """Each sync has its own name: the second of a process is another promise than the first."""
    seen = collections.Counter()
    for label, role in zip(labels, roles):
        seen[role, label] += 1
        yield f"{label} {seen[role, label]}" if seen[role, label] > 1 else label


def is_blind(history, label):
    """Whether the model sees no difference: the sync of a file that has its name, or of a directory that the event
    is never in; and what is in state/ and tmp/."""
    names = {op.args[-1].split("/")[1] for op in history.ops if op.kind in ("link", "rename")}
    kind, _, where = label.partition(": ")[2].partition(" ")
    return where in ("state", "tmp") and not label.startswith("prune") or label.endswith("sync file") or kind == "syncdir" and where not in names


def swaps(history, labels, wanted):
    """Neighbours of one process change places; and what is next to each other when what lies between is nothing
    that the model sees, or the link to events/, which may come at any time after its syncs."""
    ops, seen = history.ops, [i for i in wanted if not is_blind(history, labels[i])]
    late = [i for i in seen if not labels[i].endswith("link events")]
    for i, k in {pair for row in (wanted, seen, late) for pair in zip(row, row[1:])}:
        if ops[i].role == ops[k].role:
            yield f"{labels[k]} before {labels[i]}", i, ops[:i] + [ops[k]] + ops[i:k] + ops[k + 1:]


def is_promise(op):
    """An answer, or the end of a command that says that something is done."""
    return op.kind == "answer" or op.kind == "ended" and not op.role.startswith(("drain", "recover"))


def mutations(history):
    """(name, first operation that is another, operations): one sync left out; neighbours swapped; the answer, or
    the end of a command, before something that it waited for. Of a process that was killed, none."""
    looks = set(looks_of(history.ops))
    if looks:
        history = dataclasses.replace(history, ops=[op for i, op in enumerate(history.ops) if i not in looks])
        yield "without looks", min(looks), history.ops
    ops, labels = history.ops, list(labels_of(history))
    names = list(numbered(labels, [op.role for op in ops]))
    wanted = [i for i, op in enumerate(ops) if op.kind != "create" and (op.kind != "ended" or is_promise(op)) and
              op.role not in ("script", "drain", "receiver", history.killed)]
    for i in wanted:
        if ops[i].kind.startswith("sync"):
            yield f"without {names[i]}", i, ops[:i] + ops[i + 1:]
    yield from swaps(history, labels, wanted)
    for i, k in itertools.combinations(wanted, 2):
        if is_promise(ops[k]) and ops[i].role == ops[k].role:
            yield f"{labels[k]} before {labels[i]}", i, ops[:i] + [ops[k]] + ops[i:k] + ops[k + 1:]


# What may change without harm, and why. All else must be noticed.
HARMLESS = [
    (r".*sync file( before .*)?",
     "in the model the sync of the directory has made the name durable. An ext4 without a journal needs the file's "
     "as well: the directory's does not write the inode that has a name only now"),
    (r"(?!prune).*\b(state|tmp)\b.*", "a state explains, a name in tmp/ is nobody's: no promise rests on their order"),
    (r"prune: .*\btmp\b.*", "a name in tmp/ is nobody's"),
    (r"prune: ended before prune: .*", "its end promises nothing: what it did not forget, the next one does"),
    (r"without looks", "a recovery that finds nothing to commit: its syncs are for a move that was killed before its "
     "own, and that has promised nothing"),
    (r"(.*): write data before \1: write data", "the order of writes before their sync"),
    (r"(.*): syncdir \w+ before \1: syncdir \w+", "each directory is synced for itself"),
    (r"(.*): (answer 200|ended|unlink hold) before \1: link events",
     "what new/ has, recovery and a duplicate commit: events/ is for those who come before them"),
    (r"retry: ended before retry: unlink failed|adopt: ended before adopt: unlink hold|"
     r"drain: unlink new before drain: unlink failed|duplicate: unlink hold before duplicate: answer 200",
     "then it is in two places, of which new/ wins, and what is held is a duplicate"),
    (r"duplicate: syncdir (new|failed) before duplicate: sync data",
     "a duplicate that meets a file throws its own away"),
    (r"receiver: mkdir directories before receiver: mkdir directories", "their order before the sync of all"),
    (r"drain: link failed before drain: syncdir events", "events/ has to be there before the name in new/ goes"),
    (r"(recover|adopt): syncdir failed before \1: link events|adopt: ended before adopt: syncdir failed|"
     r"without adopt: syncdir failed", "no event of new/ is in failed/"),
    (r".*adopt: syncdir events.*", "recovery's, of what it has committed: nobody has handled it, and new/ has it"),
]
# What the recordings must have held: else the test is blind.
MUST_BE_THERE = [
    *(f"without {sync}" for sync in (
        "receiver: sync data", "receiver: syncdir new", "receiver: syncdir failed", "receiver: syncdir hold",
        "receiver: syncdir events", "receiver: syncfs", "duplicate: sync data", "duplicate: syncdir new",
        "duplicate: syncdir failed", "recover: syncdir new", "recover: syncdir failed", "recover: syncdir events",
        "drain: syncdir events", "drain: syncdir failed", "retry: syncdir new", "replay: syncdir new",
        "done: syncdir events", "done: syncdir new", "done: syncdir failed", "adopt: sync data",
        "adopt: syncdir new")),
    "receiver: sync data before receiver: write data",
    *(f"{who}: {later} before {who}: {earlier}" for who in ("receiver", "adopt") for later, earlier in (
        ("link new", "sync data"), ("syncdir new", "link new"), ("link events", "syncdir new"))),
    *(f"receiver: {later} before receiver: {earlier}" for later, earlier in (
        ("link failed", "sync data"), ("syncdir failed", "link failed"), ("link events", "syncdir failed"),
        ("link hold", "sync data"), ("syncdir hold", "link hold"))),
    *(f"receiver: answer 200 before receiver: {step}" for step in (
        "syncdir new", "syncdir failed", "syncdir hold", "syncdir events", "link new", "sync data")),
    *(f"{who}: link events before {who}: syncdir {queue}" for who in ("duplicate", "recover")
      for queue in ("new", "failed")),
    "duplicate: answer 200 before duplicate: syncdir new", "duplicate: answer 200 before duplicate: syncdir failed",
    "drain: unlink new before drain: syncdir events", "drain: unlink new before drain: syncdir failed",
    "drain: syncdir failed before drain: link failed",
    "retry: syncdir new before retry: link new", "retry: unlink failed before retry: syncdir new",
    "retry: ended before retry: syncdir new",
    "replay: syncdir new before replay: link new", "replay: ended before replay: syncdir new",
    "done: unlink new before done: syncdir events", "done: unlink failed before done: syncdir events",
    "done: syncdir new before done: unlink new", "done: ended before done: syncdir new",
    "done: ended before done: syncdir failed",
    "adopt: unlink hold before adopt: syncdir new",
    "without prune: sync state", "without prune: syncdir state", "prune: unlink events before prune: syncdir state",
]


def mutants(item):
    """For the pool: of each mutation of a history whether it is noticed at once, else what is left to run. But for
    those that are known to be noticed."""
    history, known = item
    found = {}
    for name, first, ops in mutations(history):
        if name not in known and found.get(name) is not True:
            one = survey(dataclasses.replace(history, ops=ops), first)
            found[name] = True if one.wrong else [*found.get(name, []), one]
    return found


def unnoticed(judge, histories):
    """Mutations that no crash shows, and that are not harmless."""
    noticed, left = set(), collections.defaultdict(list)
    for start in range(0, len(histories), ROUND):
        items = [(history, noticed) for history in histories[start:start + ROUND]]
        for found in judge.pool.map(mutants, items, chunksize=1):
            noticed |= {name for name in found if found[name] is True}
            for name in found:
                left[name] += found[name] if name not in noticed else []
    judge.learn(one for name in left if name not in noticed for one in left[name])
    noticed |= {name for name in left if name not in noticed and
                any(True for one in left[name] for _ in judge.complaints(one))}
    if VERBOSE:
        print(*(f"{'red  ' if name in noticed else 'green'} {name}" for name in sorted(left)), sep="\n")
    print(f"mutations: {len(left)}, noticed: {len(noticed)}")
    yield from (f"not noticed: {name}" for name in sorted(left) if name not in noticed and
                not any(re.fullmatch(pattern, name) for pattern, _ in HARMLESS))
    yield from (f"harmless, and yet noticed always: {pattern}" for pattern, _ in HARMLESS
                if not any(re.fullmatch(pattern, name) for name in left if name not in noticed))
    yield from (f"never recorded, or not noticed: {name}" for name in MUST_BE_THERE if name not in noticed)


def distinct(histories):
    """Without those in which the same was done: inodes, times and process ids are their own."""
    seen = {}
    for history in histories:
        labels, ops = {}, []
        for op in history.ops:
            args = [re.sub(r"/(tmp|hold)/.*", r"/\1", arg) for arg in op.args]
            if op.kind in ("create", "write", "sync", "link"):
                args[0] = labels.setdefault(args[0], len(labels))
            ops.append((op.role, op.kind, *args[:1 if op.kind in ("write", "answer") else None]))
        seen.setdefault((history.event, tuple(ops), history.killed, history.known), history)
    return list(seen.values())


def show(history, done, complaint):
    print(f"{history.name}: power cut after {done} operations: {complaint}")
    for number, op in enumerate(history.ops[:done], 1):
        print(f"    {number} {op.role} {op.kind} {' '.join(op.args)[:60]}")


def main():
    with multiprocessing.Pool(os.cpu_count(), adopt_orphans) as pool:
        judge, bad = Judge(pool), 0
        plain = pool.map(perform, plain_jobs(), chunksize=1)
        killed = pool.map(perform, killed_jobs(), chunksize=4)
        histories = plain + killed + pool.map(perform, pair_jobs(), chunksize=4)
        surveys = pool.map(survey, histories, chunksize=4)
        judge.learn(surveys)
        for history, one in zip(histories, surveys):
            for done, complaint in list(judge.complaints(one))[:1]:
                bad += 1
                history.bad = True
                if bad <= SHOWN:
                    show(history, done, complaint)
        print(f"power cuts: {len(histories)} histories, {len(judge.known)} distinct states, {bad} bad")
        blind = [*handled_wrongly(histories), *unnoticed(judge, [history for history in distinct(plain + killed) if not history.bad])]
    print(*blind, sep="\n", end="\n" if blind else "")
    return 1 if bad or blind else 0


if __name__ == "__main__":
    sys.exit(main())
