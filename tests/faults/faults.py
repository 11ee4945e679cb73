#!/usr/bin/python3
"""Every system call on a file fails once, in every way its manual page gives; the process is
killed before and after each; every allocation fails once. After each fault, and again after the
sender's retry, the spool must be sound. FULL=1 exhausts, else a seeded sample; faults.py NAME...
exhausts the scenarios of these names."""

import collections
import errno
import functools
import itertools
import multiprocessing
import os
import random
import sys

from scenarios import KNOWN, SCENARIOS
from testbed import CHANGES, FULL, Testbed, adopt_orphans

SAMPLE = 400
LIMIT = int(os.environ.get("LIMIT", "30"))
WAY_BACK = 10  # calls from a failure to the answer

# What the manual pages give, by the name of the call.
OPEN = "EACCES EDQUOT EINTR EIO EMFILE ENFILE ENOMEM ENOSPC EROFS"
ERRNOS = {
    "open": OPEN, "openat": OPEN, "fopen": OPEN, "opendir": OPEN, "fdopendir": "ENOMEM",
    "read": "EINTR EIO", "pread": "EINTR EIO", "getdelim": "EIO", "getline": "EIO",
    "readdir": "EIO", "closedir": "EIO",
    "write": "EDQUOT EINTR EIO ENOSPC", "writev": "EDQUOT EINTR EIO ENOSPC",
    "pwrite": "EDQUOT EINTR EIO ENOSPC", "fdatasync": "EDQUOT EINTR EIO ENOSPC",
    "fsync": "EDQUOT EINTR EIO ENOSPC EROFS", "close": "EDQUOT EINTR EIO ENOSPC",
    "linkat": "EACCES EDQUOT EIO EMLINK ENOMEM ENOSPC EROFS",
    "unlinkat": "EACCES EIO ENOMEM EROFS", "unlink": "EACCES EIO ENOMEM EROFS",
    "renameat": "EACCES EDQUOT EIO ENOMEM ENOSPC EROFS",
    "rename": "EACCES EDQUOT EIO ENOMEM ENOSPC EROFS", "syncfs": "EDQUOT EIO ENOSPC",
    "fchmod": "EIO EPERM EROFS", "fchown": "EIO EPERM EROFS",
    "mkdirat": "EACCES EDQUOT EIO ENOMEM ENOSPC EROFS",
    "sync_file_range": "EINTR EIO ENOMEM ENOSPC", "statx": "EACCES EIO ENOMEM", "fstatfs": "EINTR EIO ENOMEM",
    "scandirat": "EACCES EIO EMFILE ENFILE ENOMEM", "ioctl": "EPERM ENOTTY",
    "fstat": "EIO ENOMEM", "fstatat": "EACCES EIO ENOMEM", "stat": "EACCES EIO ENOMEM",
    "lstat": "EACCES EIO ENOMEM", "faccessat": "EACCES EIO ENOMEM EROFS",
    "access": "EACCES EIO ENOMEM", "fstatvfs": "EINTR EIO ENOMEM",
    "fchmodat": "EIO ENOMEM EPERM EROFS", "flock": "EINTR ENOLCK", "allocation": "ENOMEM",
}
SHORT = {"read", "write", "writev", "pwrite"}

# A machine that stays broken: errno, and the calls that have it from then on.
LASTING = {
    "ENOSPC": ":openat:linkat:write:writev:sync_file_range:fsync:renameat:mkdirat:",
    "EIO": ":openat:linkat:read:write:writev:sync_file_range:fsync:renameat:unlinkat:",
    "EROFS": ":openat:linkat:fsync:renameat:unlinkat:mkdirat:",
    "EMFILE": ":open:openat:fopen:",
}

Case = collections.namedtuple("Case", "scenario what at do also kill_at", defaults=("", 0))


def shim_of(case):
    return SCENARIOS[case.scenario].shim | {
        "FAULT_WHAT": case.what, "FAULT_AT": str(case.at), "FAULT_DO": case.do, "FAULT_ALSO": case.also,
        "FAULT_KILL_AT": str(case.kill_at)}


def faults_of(scenario, what, at, name):
    """All that can happen at the call of that number."""
    for error in ERRNOS.get(name, "EIO").split():
        yield Case(scenario, what, at, f"fail={getattr(errno, error)}")
        if what == "calls" and name in LASTING.get(error, ""):
            yield Case(scenario, what, at, f"stick={getattr(errno, error)}", LASTING[error])
    if what == "calls":
        yield Case(scenario, what, at, "kill-before")
        if name in CHANGES:
            yield Case(scenario, what, at, "kill-after")
    if name in SHORT:
        yield Case(scenario, what, at, "short")


def way_back(case, outcome):
    """A call has failed: killed on the way back from it, before each call that changes anything."""
    if case.what == "calls" and case.do == f"fail={errno.EIO}" and not case.kill_at:
        for ahead, name in enumerate(outcome.calls[case.at:case.at + WAY_BACK], 1):
            if name in CHANGES:
                yield case._replace(kill_at=case.at + ahead)


def run(testbed, scenario, shim):
    event = scenario.event if scenario.sends else None
    return testbed.run(scenario.command(testbed), event, shim=shim, typed=scenario.typed)


def prepared(scenario):
    testbed = Testbed()
    scenario.prepare(testbed)
    return testbed


@functools.cache
def calls_of(index, what):
    """The names of the calls of a run with no fault."""
    scenario = SCENARIOS[index]
    testbed = prepared(scenario)
    try:
        outcome = run(testbed, scenario, shim_of(Case(index, what, 0, "")))
        assert outcome.status == 200 if scenario.sends else outcome.code == scenario.code, (scenario, outcome)
        return outcome.calls
    finally:
        testbed.remove()


def in_common(index):
    """With how many calls it begins that another scenario begins with."""
    names = [scenario.name for scenario in SCENARIOS]
    if not SCENARIOS[index].like:
        return 0
    pairs = zip(calls_of(index, "calls"), calls_of(names.index(SCENARIOS[index].like), "calls"))
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def all_cases():
    for index, what in itertools.product(range(len(SCENARIOS)), ["calls", "allocations"]):
        calls = calls_of(index, what)
        skipped = in_common(index) if what == "calls" else 0
        for at, name in list(enumerate(calls, 1))[skipped:]:
            yield from faults_of(index, what, at, name)
        # The run after the last call goes through untouched: that was all of them.
        yield Case(index, what, len(calls) + 1, f"fail={errno.EIO}")


def after_fault(testbed, scenario, case, outcome):
    """What must hold at once."""
    event = scenario.event
    if not scenario.torn:
        yield from testbed.torn([event, *KNOWN])
    for there in scenario.there:
        if testbed.queued(there) != [there.queue]:
            yield f"{there.name} is lost from {there.queue}/"
    if outcome.crashed:
        yield f"died of signal {-outcome.code}"
    if scenario.succeeds and outcome.code > 0 and not case.also:
        yield f"did not get over it: {outcome.stderr}"
    if "/var/spool/psapi" in outcome.stderr or "/etc/psapi/secret" in outcome.stderr:
        yield f"went on without its configuration: {outcome.stderr}"
    if scenario.holds:
        yield from scenario.holds(testbed, outcome, False)
    elif not outcome.killed:
        yield from (f"leak: {leak}" for leak in outcome.leaks)
    if outcome.status == 200 and not scenario.holds:
        yield from testbed.kept(event, scenario.handled)
    if scenario.sends and len(testbed.queued(event)) > 1:
        yield f"queued twice: {testbed.queued(event)}"
    failed = failed_calls(case, outcome)
    # Without memory for a few bytes of JSON the program ends at once, as if it were killed.
    may_remain = outcome.killed or outcome.code == os.EX_OSERR or "unlinkat" in failed
    if scenario.sends and testbed.names("tmp") and not may_remain:
        yield f"left in tmp/: {testbed.names('tmp')}"


def failed_calls(case, outcome):
    """The names of the calls that may have failed."""
    if case.what != "calls" or len(outcome.calls) < case.at:
        return ""
    return case.also + outcome.calls[case.at - 1]


def taken_back(testbed, scenario):
    """Whatever had a name in a queue, or in events/, has it still: a writer that fails takes nothing back."""
    with open(testbed.log, encoding="ascii") as log:
        lines = [line.split() for line in log]
    for _, kind, *arguments in lines if scenario.sends else ():
        if kind not in ("link", "unlink", "rename"):
            continue
        _, place, name = arguments[-1].split("/")
        if place not in ("new", "failed", "events"):
            continue
        if kind == "unlink":
            yield f"removed {place}/{name}"
        if kind != "unlink" and name not in testbed.names(place):
            yield f"{place}/{name} was there, and is gone"


def after_retry(testbed, scenario):
    """The sender tries again, then a recovery runs: all is as if nothing had been."""
    events = [scenario.event, *KNOWN]
    for step in ["retry", "recovery", "second retry"]:
        if step == "recovery":
            outcome = testbed.recover()
            fine = outcome.code == 0
        else:
            outcome = testbed.send(scenario.event)
            fine = outcome.status == 200
        if not fine:
            yield f"{step}: code {outcome.code}, status {outcome.status}: {outcome.stderr}"
        yield from testbed.torn(events)
        yield from testbed.kept(scenario.event, scenario.handled)
        yield from testbed.log_is_readable()
    for there in scenario.there:
        yield from testbed.kept(there)


def after_rerun(testbed, scenario):
    """The operator, or cron, runs the command again: its work gets done. A name in tmp/ goes when it is an hour
    old."""
    outcome = run(testbed, scenario, {})
    if outcome.code not in (0, 1, os.EX_DATAERR):  # EX_DATAERR: it was done before
        yield f"run again: code {outcome.code}: {outcome.stderr}"
    yield from testbed.torn([scenario.event, *KNOWN])
    yield from scenario.holds(testbed, outcome, True)
    for name in testbed.names("tmp"):
        os.utime(os.path.join(testbed.spool, "tmp", name), (0, 0))
    if testbed.names("tmp"):
        testbed.recover()
    left = [name for name in testbed.names("tmp") if not name.startswith(".")]
    if left:
        yield f"left in tmp/: {left}"


def judge(case):
    """Complaints about one case."""
    scenario = SCENARIOS[case.scenario]
    testbed = prepared(scenario)
    try:
        outcome = run(testbed, scenario, shim_of(case) | {"FAULT_LOG": testbed.log})
        more = list(way_back(case, outcome))
        complaints = [*after_fault(testbed, scenario, case, outcome), *taken_back(testbed, scenario),
                      *(after_rerun if scenario.holds else after_retry)(testbed, scenario)]
        called = outcome.calls[case.at - 1] if len(outcome.calls) >= case.at else "nothing"
        return case, called, complaints, more
    finally:
        testbed.remove()


# What changes the spool, or waits for the disk.
WATCHED = ["linkat", "unlinkat", "fsync", "fdatasync", "sync_file_range", "syncfs", "writev", "rename", "renameat",
           "renameat2", "mkdirat", "fchmodat", "fchmod", "fchown", "ftruncate", "pwrite64", "symlinkat", "flock"]


def missed_calls():
    """Calls that the kernel sees and the interposed library does not: it would be blind there."""
    for index, scenario in enumerate(SCENARIOS):
        if scenario.without or scenario.one_wait:
            continue
        testbed = prepared(scenario)
        seen = collections.Counter(run(testbed, scenario, shim_of(Case(index, "calls", 0, ""))).calls)
        testbed.remove()
        testbed = prepared(scenario)
        log = os.path.join(testbed.path, "strace")
        strace = ["strace", "-f", "-qq", "-o", log, "-e", "trace=" + ",".join(WATCHED)]
        testbed.run(strace + scenario.command(testbed), scenario.event if scenario.sends else None,
                    typed=scenario.typed)
        lines = [line.split(None, 1)[1] for line in open(log, encoding="utf-8")]
        real = collections.Counter(line.partition("(")[0] for line in lines)
        testbed.remove()
        for name in WATCHED:
            if real[name] != seen[name]:
                yield f"{scenario.name}: {name}: {real[name]} real, {seen[name]} interposed"


def chosen(case):
    """Whether it is among those that were asked for."""
    return not sys.argv[1:] or SCENARIOS[case.scenario].name in sys.argv[1:]


def report(case, called, complaints):
    kill = f" kill {case.kill_at}" if case.kill_at else ""
    print(f"{SCENARIOS[case.scenario].name}: {case.what} {case.at} ({called}) {case.do}{kill}")
    for complaint in dict.fromkeys(complaints):
        print(f"    {complaint}")


def main():
    missed = list(missed_calls())
    cases = [case for case in all_cases() if chosen(case)]
    total, done, bad = len(cases), 0, 0
    if not FULL and not sys.argv[1:]:
        random.seed(6)
        cases = random.sample(cases, min(SAMPLE, total))
    with multiprocessing.Pool(2 * os.cpu_count(), adopt_orphans) as pool:
        while cases:
            done, more = done + len(cases), []
            for case, called, complaints, killed in pool.imap_unordered(judge, cases, chunksize=8):
                more += killed
                bad += bool(complaints)
                if complaints and bad <= LIMIT:
                    report(case, called, complaints)
            cases = more
    for line in missed:
        print("not interposed: " + line)
    print(f"faults: {done} cases of {total} and the kills on their ways back, {bad} bad")
    return 1 if bad or missed else 0


if __name__ == "__main__":
    sys.exit(main())
