"""The benchmark's rows of psapi drain: waiting events, a handler in Python that parses each and reports it done."""

import os
import resource
import subprocess
import time

import harness
from harness import Failed

PSAPI = harness.HERE.parent / "psapi"

BATCH = """#!/usr/bin/python3
import json, sys
count = 0
for line in sys.stdin:
    event = json.loads(line)["event"]
    count += event["type"] == "producersync.npn.activated"
print("ok all", count)
"""
ONE = """#!/usr/bin/python3
import json, sys
sys.exit(0 if json.load(sys.stdin)["type"] == "producersync.npn.activated" else 1)
"""

ROWS = {    # key -> title, handler, its directory, events (and of a quick run), settings
    "drain one": ("psapi drain -j 2, Python, a process for each event", ONE, "handlers.d", (2_000, 40), {}),
    "drain batch": ("psapi drain -j 2, Python, batches of 500", BATCH, "batch.d", (100_000, 2_000), {}),
    "drain batch 5000": ("psapi drain -j 2, Python, batches of 5,000", BATCH, "batch.d", (100_000, 2_000),
                         {"PSAPI_BATCH": "5000"}),
}


def event(n):
    at = f"2025-07-{n % 28 + 1:02}T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000Z"
    return (f'{{"webhook_id":"msg_{n:027d}","webhook_timestamp":"1753397465",'
            '"webhook_signature":"v1,CMVfFHNS8HOFZHaPNsdiSntUQTOzRIn3oLxxFP4uyCg=",'
            '"received_at":"2025-07-24T22:51:05.391Z","event":\n'
            f'{{"data":{{"activatedAt":"{at}","npn":"{1_000_000 + n}"}},"id":"whe_{n}","timestamp":"{at}",'
            '"type":"producersync.npn.activated"}\n}\n')


def build(place, many):
    """As the receiver leaves it, made faster: each event of another NPN."""
    spool = place / "spool"
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (spool / name).mkdir(mode=0o770, parents=True)
    for n in range(many):
        path = f"{spool}/events/msg_{n:027d}.json"
        with open(path, "w", encoding="ascii") as file:
            file.write(event(n))
        os.link(path, f"{spool}/new/msg_{n:027d}.json")
    os.sync()


def measure(setup, key, quick):
    """Events per second from the start of the process to its end; the list of 100,000 is part of that."""
    _, handler, directory, counts, settings = ROWS[key]
    many = counts[quick]
    with harness.fresh("ext4", setup.dir) as place:
        build(place, many)
        home = setup.dir / f"home-{time.monotonic_ns()}"
        for name in ("handlers.d", "batch.d"):
            (home / name).mkdir(mode=0o755, parents=True)
        program = home / directory / "default"
        program.write_text(handler)
        program.chmod(0o755)
        (home / "conf").write_text("")
        environment = {"PATH": os.environ["PATH"], "PSAPI_CONF": str(home / "conf"),
                       "PSAPI_SPOOL": str(place / "spool"), "PSAPI_SECRET_FILE": str(home / "secret"),
                       "PSAPI_HANDLERS": str(home / "handlers.d"), "PSAPI_BATCH_HANDLERS": str(home / "batch.d")}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run([PSAPI, "drain", "-j", "2"], env=environment | settings, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, check=False)
        seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        left = len(os.listdir(place / "spool/new"))
    if done.returncode != 0 or left != 0 or done.stderr:
        raise Failed(f"{key}: exit status {done.returncode}, {left} left: {done.stderr}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"requests": many, "us": seconds * 1e6, "rate": many / seconds, "cpu": used / many * 1000}
