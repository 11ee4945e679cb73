#!/usr/bin/python3
"""Every system call on a file fails once, in every way its manual page gives; the process is
killed before and after each; every allocation fails once. After each fault, and again after the
sender's retry, the spool must be sound. FULL=1 exhausts, else a seeded sample; faults.py NAME...
exhausts the scenarios of these names."""

import collections
import errno
import itertools
import multiprocessing
import os
import random
import sys
import time

from scenarios import LOST, SCENARIOS
from testbed import FULL, Testbed

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
    "fstat": "EIO ENOMEM", "fstatat": "EACCES EIO ENOMEM", "stat": "EACCES EIO ENOMEM",
    "lstat": "EACCES EIO ENOMEM", "faccessat": "EACCES EIO ENOMEM EROFS",
    "access": "EACCES EIO ENOMEM", "fstatvfs": "EINTR EIO ENOMEM",
    "fchmodat": "EIO ENOMEM EPERM EROFS", "flock": "EINTR ENOLCK", "allocation": "ENOMEM",
}
SHORT = {"read", "write", "writev", "pwrite"}

# A machine that stays broken: errno, and the calls that have it from then on.
LASTING = {
    "ENOSPC": ":openat:linkat:write:writev:pwrite:fdatasync:fsync:renameat:mkdirat:",
    "EIO": ":openat:linkat:read:write:writev:pwrite:fdatasync:fsync:renameat:unlinkat:",
    "EROFS": ":openat:linkat:fsync:renameat:unlinkat:mkdirat:",
    "EMFILE": ":open:openat:fopen:",
}

Case = collections.namedtuple("Case", "scenario what at do also kill_at", defaults=("", 0))


def shim_of(case):
    return {"FAULT_WHAT": case.what, "FAULT_AT": str(case.at), "FAULT_DO": case.do,
            "FAULT_ALSO": case.also, "FAULT_KILL_AT": str(case.kill_at),
            "FAULT_WITHOUT": SCENARIOS[case.scenario].without}


def faults_of(scenario, what, at, name):
    """All that can happen at the call of that number."""
    for error in ERRNOS.get(name, "EIO").split():
        yield Case(scenario, what, at, f"fail={getattr(errno, error)}")
        if what == "calls" and name in LASTING.get(error, ""):
            yield Case(scenario, what, at, f"stick={getattr(errno, error)}", LASTING[error])
    if what == "calls":
        yield Case(scenario, what, at, "kill-before")
        yield Case(scenario, what, at, "kill-after")
    if name in SHORT:
        yield Case(scenario, what, at, "short")


def run(testbed, scenario, shim):
    event = scenario.event if scenario.sends else None
    return testbed.run(scenario.command(testbed), event, shim=shim, typed=scenario.typed)


def prepared(scenario):
    testbed = Testbed()
    scenario.prepare(testbed)
    return testbed


def calls_of(index, what, shim=None):
    """The names of the calls of a run with no fault, or with that one."""
    testbed = prepared(SCENARIOS[index])
    try:
        outcome = run(testbed, SCENARIOS[index], shim or shim_of(Case(index, what, 0, "")))
        assert shim or (outcome.status == 200 if SCENARIOS[index].sends else outcome.code == 0)
        return outcome.calls
    finally:
        testbed.remove()


def all_cases():
    for index, what in itertools.product(range(len(SCENARIOS)), ["calls", "allocations"]):
        calls = calls_of(index, what)
        for at, name in enumerate(calls, 1):
            yield from faults_of(index, what, at, name)
        if what == "calls":
            # A failure, and on the way back from it a kill.
            for at, ahead in itertools.product(range(1, len(calls) + 1), range(1, WAY_BACK)):
                yield Case(index, what, at, f"fail={errno.EIO}", kill_at=at + ahead)
        # The run after the last call goes through untouched: that was all of them.
        yield Case(index, what, len(calls) + 1, f"fail={errno.EIO}")


def after_fault(testbed, scenario, case, outcome):
    """What must hold at once."""
    event = scenario.event
    if not scenario.torn:
        yield from testbed.torn([event, *LOST])
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
        yield from scenario.holds(testbed, False)
    elif not outcome.killed:
        yield from (f"leak: {leak}" for leak in outcome.leaks)
    if outcome.status == 200:
        yield from testbed.kept(event, scenario.handled)
    if scenario.sends and len(testbed.queued(event)) > 1:
        yield f"queued twice: {testbed.queued(event)}"
    failed = failed_calls(case, outcome)
    may_remain = outcome.killed or "unlinkat" in failed or case.kill_at
    # A journal is kept when a sync has failed: it may be all that there is.
    left = [name for name in testbed.names("tmp") if "sync" not in failed or name not in testbed.journals()]
    if scenario.sends and left and not may_remain:
        yield f"left in tmp/: {left}"


def failed_calls(case, outcome):
    """The names of the calls that may have failed."""
    if case.what != "calls" or len(outcome.calls) < case.at:
        return ""
    return case.also + outcome.calls[case.at - 1]


def withdrawn(testbed, scenario, case, outcome):
    """Refused with an answer: nothing is left, unless the way back was broken, too."""
    if not scenario.sends or outcome.killed or outcome.status in (0, 200) or scenario.handled:
        return
    before = scenario.name.startswith(("writer died", "duplicate"))
    if before or testbed.absent(scenario.event) or "unlinkat" in failed_calls(case, outcome) or \
            "fstat" in failed_calls(case, outcome):
        return
    yield f"answered {outcome.status}, and yet it is in {testbed.queued(scenario.event)}"


def after_retry(testbed, scenario):
    """The sender tries again, then a recovery runs: all is as if nothing had been."""
    events = [scenario.event, *LOST]
    for step in ["retry", "recovery", "second retry"]:
        if step == "recovery":
            outcome = testbed.recover()
            fine = outcome.code == 0 and not testbed.journals()
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


def after_rerun(testbed, scenario, killed):
    """The operator, or cron, runs the command again: its work gets done. At the third time at
    the latest: what a killed drain started may hold the lock for a moment. A name in tmp/ that was
    left (no O_TMPFILE; a file that a recovery made again) goes when it is an hour old."""
    for _ in range(3):
        outcome = run(testbed, scenario, {})
        complaints = list(scenario.holds(testbed, True))
        if not complaints:
            break
        time.sleep(0.05)
    if outcome.code not in (0, 1, os.EX_DATAERR):  # EX_DATAERR: it was done before
        yield f"run again: code {outcome.code}: {outcome.stderr}"
    yield from testbed.torn(LOST)
    yield from complaints
    if (killed or scenario.torn) and testbed.names("tmp"):
        for name in testbed.names("tmp"):
            os.utime(os.path.join(testbed.spool, "tmp", name), (0, 0))
        testbed.recover()
    if testbed.names("tmp"):
        yield f"left in tmp/: {testbed.names('tmp')}"


def judge(case):
    """Complaints about one case."""
    scenario = SCENARIOS[case.scenario]
    testbed = prepared(scenario)
    try:
        outcome = run(testbed, scenario, shim_of(case))
        complaints = [*after_fault(testbed, scenario, case, outcome),
                      *withdrawn(testbed, scenario, case, outcome),
                      *(after_rerun(testbed, scenario, outcome.killed) if scenario.holds else
                        after_retry(testbed, scenario))]
        called = outcome.calls[case.at - 1] if len(outcome.calls) >= case.at else "nothing"
        return case, called, complaints
    finally:
        testbed.remove()


def missed_calls():
    """Calls that the kernel sees and the interposed library does not: it would be blind there."""
    wanted = ["linkat", "unlinkat", "fsync", "fdatasync", "syncfs", "writev", "rename", "renameat", "mkdirat", "fchmodat"]
    for index, scenario in enumerate(SCENARIOS):
        if scenario.without:
            continue
        testbed = prepared(scenario)
        seen = collections.Counter(run(testbed, scenario, shim_of(Case(index, "calls", 0, ""))).calls)
        testbed.remove()
        testbed = prepared(scenario)
        log = os.path.join(testbed.path, "strace")
        strace = ["strace", "-f", "-qq", "-o", log, "-e", "trace=" + ",".join(wanted)]
        testbed.run(strace + scenario.command(testbed), scenario.event if scenario.sends else None,
                  typed=scenario.typed)
        lines = [line.split(None, 1)[1] for line in open(log, encoding="utf-8")]
        real = collections.Counter(line.partition("(")[0] for line in lines)
        testbed.remove()
        for name in wanted:
            if real[name] != seen[name]:
                yield f"{scenario.name}: {name}: {real[name]} real, {seen[name]} interposed"


def chosen(case):
    """Whether it is among those that were asked for."""
    return not sys.argv[1:] or SCENARIOS[case.scenario].name in sys.argv[1:]


def main():
    missed = list(missed_calls())
    cases = [case for case in all_cases() if chosen(case)]
    total = len(cases)
    if not FULL and not sys.argv[1:]:
        random.seed(6)
        cases = random.sample(cases, min(SAMPLE, total))
    bad = 0
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for case, called, complaints in pool.imap_unordered(judge, cases, chunksize=8):
            if not complaints:
                continue
            bad += 1
            if bad <= LIMIT:
                print(f"{SCENARIOS[case.scenario].name}: {case.what} {case.at} ({called}) {case.do}"
                      f" {'kill ' + str(case.kill_at) if case.kill_at else ''}")
                for complaint in dict.fromkeys(complaints):
                    print(f"    {complaint}")
    for line in missed:
        print("not interposed: " + line)
    print(f"faults: {len(cases)} of {total} cases, {bad} bad")
    return 1 if bad or missed else 0


if __name__ == "__main__":
    sys.exit(main())
