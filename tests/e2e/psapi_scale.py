#!/usr/bin/python3
"""How much memory and time psapi takes on a large spool. Exit status 1 if it is too much.

  psapi_scale.py [--events 1000000] [--new 100000] [--dir /tmp] [--quick]

Builds a spool with that many events in events/, of which so many wait in new/, and runs drain (up to
its first handler), metrics, check, list, list --all, roster, prune and verify on it. The limits are 200 MiB for each, and 10 s
to the first handler. A million files take 4 GiB of an ext4, some minutes, and are removed at the end.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from receiver import BINARY
from sender import SECRET, signature

PSAPI = BINARY.parent / "psapi"
MEMORY_MIB = 200
FIRST_HANDLER_S = 10
QUICK_S, QUICK_MIB = 0.5, 64        # of metrics and check; the first metrics reads the whole attempts log
LOG_LINES = 400_000                 # 100 MB, at which the shipped logrotate begins another
STOP = 'date +%s.%N >"$PSAPI_TOLD"; kill -TERM $PPID'     # ends drain at its first handler


def event(n):
    """The file of an event. Of the 9,000 producers, some have events that arrive out of order."""
    at = f"2025-07-{n % 28 + 1:02}T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000Z"
    body = ('{"data":{"activatedAt":"%s","npn":"%d"},"id":"whe_%d","timestamp":"%s",'
            '"type":"producersync.npn.activated"}' % (at, 1000000 + n % 9000, n, at))
    sign = signature(SECRET, f"msg_{n:027}", 1753397465, body.encode()).decode()
    return ('{"webhook_id":"msg_%027d","webhook_timestamp":"1753397465","webhook_signature":"%s",'
            '"received_at":"2025-07-24T22:51:05.391Z","event":\n%s\n}\n' % (n, sign, body))


def build(spool, events, new):
    """A spool as the receiver leaves it, made faster."""
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (spool / name).mkdir(mode=0o770)
    old = time.time() - 100 * 86400
    for n in range(events):
        path = f"{spool}/events/msg_{n:027}.json"
        with open(path, "w") as file:
            file.write(event(n))
        os.utime(path, times=(old, old + n / events * 1000))
        if n % (events // new) == 0 and n // (events // new) < new:
            os.link(path, f"{spool}/new/msg_{n:027}.json")


def write_log(spool, lines):
    """Their attempts log; the last one is of a moment ago."""
    now = time.time()
    with open(spool / "attempts.jsonl", "w") as log:
        for n in range(lines):
            at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now - (lines - n) / 10))
            kind = "producersync.updates_available" if n % 9000 == 0 else "producersync.npn.activated"
            log.write(f'{{"at":"{at}","outcome":"accepted","status":200,"webhook_id":"msg_{n:027}","type":"{kind}",'
                      f'"event_id":"whe_{n}","remote_addr":"192.0.2.1","bytes":170,"skew_s":0,"key":"0123abcd","ms":2.345}}\n')


# getrusage(2) includes the process before its exec, so a small program must start it.
METER = """
import os, sys
child = os.fork()
if child == 0:
    os.execv(sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(child, 0)
open(sys.argv[1], "w").write(f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss} "
                               f"{usage.ru_utime + usage.ru_stime}")
"""


def measure(arguments, spool, told, **settings):
    """Exit status, start, seconds, peak MiB (about 8 are the meter's) and seconds of processor time of one psapi."""
    environment = {"PATH": os.environ["PATH"], "PSAPI_SPOOL": str(spool), "PSAPI_TOLD": str(told),
                   "PSAPI_SECRET_FILE": str(spool.parent / "secret"),
                   "PSAPI_CONF": str(spool.parent / "conf")} | settings
    usage = spool.parent / "usage"
    begun = time.time()
    subprocess.run([sys.executable, "-I", "-S", "-c", METER, usage, PSAPI, *arguments],
                   env=environment, stdout=subprocess.DEVNULL, check=True)
    seconds = time.time() - begun
    status, kibibytes, processor = usage.read_text().split()
    return int(status), begun, seconds, int(kibibytes) / 1024, float(processor)


def run_quick(spool, told, events):
    """What runs each minute. Processor time is judged: the time of the clock is also that of other programs."""
    write_log(spool, min(events, LOG_LINES))
    for what, arguments in (("metrics, the first run", ["metrics"]), ("metrics", ["metrics"]), ("check", ["check"])):
        status, _, seconds, memory, processor = measure(arguments, spool, told)
        yield f"{what} ({processor:.2f} s of processor)", seconds, memory, \
            status <= 2 and memory <= QUICK_MIB and (processor <= QUICK_S or "first" in what)


def run(directory, events, new, quick=False):
    """Rows: command, seconds, MiB, whether it is within the limits. quick: drain, metrics and check alone."""
    work = Path(tempfile.mkdtemp(prefix="psapi-scale-", dir=directory))
    try:
        (work / "conf").write_text("")
        (work / "secret").write_text(SECRET + "\n")
        (work / "secret").chmod(0o600)
        spool, told = work / "spool", work / "told"
        spool.mkdir()
        spool.chmod(0o2770)
        build(spool, events, new)
        status, begun, _, memory, _ = measure(["drain", "--", "sh", "-c", STOP], spool, told)
        first = float(told.read_text()) - begun
        yield "drain, to its first handler", first, memory, \
            status == 0 and first <= FIRST_HANDLER_S and memory <= MEMORY_MIB
        yield from run_quick(spool, told, events)
        if quick:
            return
        for arguments in (["list"], ["list", "--all"], ["list", "--all", "--json"], ["list", "--failed", "--by-cause"],
                          ["roster"], ["verify", "--all"], ["prune", "--older-than", "90d"]):
            status, _, seconds, memory, _ = measure(arguments, spool, told)
            yield " ".join(arguments), seconds, memory, status == 0 and memory <= MEMORY_MIB
        # The handled one is gone from new/: only the waiting ones are left.
        left = len(os.listdir(spool / "events"))
        yield f"left after prune: {left}", 0, 0, left == len(os.listdir(spool / "new")) == new - 1
    finally:
        shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=100_000)
    parser.add_argument("--dir", default=os.environ.get("TMPDIR", "/tmp"))
    parser.add_argument("--quick", action="store_true", help="drain, metrics and check alone")
    arguments = parser.parse_args()
    good = True
    print(f"{arguments.events} in events/, {arguments.new} in new/")
    for what, seconds, memory, within in run(arguments.dir, arguments.events, arguments.new, arguments.quick):
        print(f"{what:48} {seconds:8.2f} s {memory:8.1f} MiB {'' if within else '  TOO MUCH'}", flush=True)
        good &= within
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
