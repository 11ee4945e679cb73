#!/usr/bin/python3
"""Proportional memory over time: memory.py --tools DIR --minutes N [--quick] --out FILE

A receiver with 64 threads accepts about 500 events a second over 64 connections. One figure for each minute."""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import contenders
import harness
import report
import run

CONNECTIONS, PAUSE_MS, MOST_A_SECOND = 64, 120, 64 * 1000 // 120


def one_minute(contender, setup, seconds):
    """Memory in the middle of the minute, MiB, and the number of accepted events."""
    requests = harness.Requests(setup.tools, setup.dir / "requests", contender.path, MOST_A_SECOND * seconds)
    found = []
    figures = harness.wrk(setup.port, requests, CONNECTIONS, seconds, lambda: found.append(
        harness.status_mib(contender.process.pid, "Pss", "smaps_rollup")), PAUSE_MS)
    if figures["broken"] or figures["refused"]:
        raise harness.Failed(f"{figures}; see {setup.log}")
    return found[0], figures["requests"]


def write(found, accepted):
    every = max(1, len(found) // 12)
    rows = [[str(minute + 1), f"{mib:.2f}"] for minute, mib in enumerate(found)
            if minute % every == every - 1 or minute == 0]
    return "\n".join([
        "# Results of `make bench-memory`", "",
        f"{time.strftime('%Y-%m-%d')}, {run.machine()}. {harness.describe_ext4()}. 64 threads, {CONNECTIONS} "
        f"connections, {accepted:,} events accepted in {len(found)} minutes. Proportional memory (Pss), MiB: "
        f"least {min(found):.2f}, most {max(found):.2f}.", "", report.table(["minute", "MiB"], rows), ""])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("--quick", action="store_true", help="only shows that it works: a minute has two seconds")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    tools = arguments.tools.resolve()
    contender = next(c for c in contenders.all_contenders() if c.key == "accept 64")
    with tempfile.TemporaryDirectory(prefix="psapi-bench-") as directory:
        os.chmod(directory, 0o755)
        setup = contenders.Setup(Path(directory), tools, [contender])
        try:
            setup.open()
            with harness.fresh("ext4", Path(directory), gib=24) as place:
                found, accepted = [], 0
                contender.start(setup, place)
                try:
                    harness.wait_until(lambda: (setup.dir / "psapi.sock").exists(), "the receiver listens")
                    for minute in range(arguments.minutes):
                        mib, n = one_minute(contender, setup, 2 if arguments.quick else 60)
                        found.append(mib)
                        accepted += n
                        print(f"minute {minute + 1}: {mib:.2f} MiB", file=sys.stderr, flush=True)
                finally:
                    contender.stop()
                if len(contender.files(place)) < accepted:
                    raise harness.Failed(f"{accepted} answers, {len(contender.files(place))} files")
        except harness.Failed as failed:
            sys.exit(f"bench: {failed}")
        finally:
            setup.close()
    text = write(found, accepted)
    print(text)
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
