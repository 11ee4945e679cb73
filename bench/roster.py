"""psapi roster over many events: of make bench, and alone: roster.py [--events N] [--rounds N]

A spool of that many events of 9,000 producers, on a new file system, read while the kernel has it in memory."""

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

import harness

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests/e2e")]
# pylint: disable=wrong-import-position
import psapi_scale

LIMIT_S = 20
EVENTS = 1_000_000


def measure(work, events, rounds):
    """(events, [seconds], [seconds of CPU], MiB at most)."""
    with harness.fresh("ext4", work, gib=12) as place:
        (place / "conf").write_text("")
        (place / "secret").write_text(psapi_scale.SECRET + "\n")
        (place / "secret").chmod(0o600)
        (place / "spool").mkdir()
        psapi_scale.build(place / "spool", events, events // 10)
        seconds, cpu, memory = [], [], 0
        for number in range(rounds):
            status, _, took, mib, processor = psapi_scale.measure(["roster"], place / "spool", place / "told")
            if status != 0:
                raise harness.Failed(f"psapi roster: exit status {status}")
            cpu.append(processor)
            seconds.append(took)
            memory = max(memory, mib)
            print(f"round {number + 1}: roster           {took:9.1f} s, {cpu[-1]:.1f} s of CPU", file=sys.stderr, flush=True)
    return events, seconds, cpu, memory


def row(figures):
    """What, the aim, the figure, whether it is reached."""
    events, seconds, cpu, memory = figures
    middle = statistics.median(seconds)
    return f"`psapi roster` of {events:,} events ({statistics.median(cpu):.0f} s of CPU, {memory:.0f} MiB)", f"≤ {LIMIT_S} s", f"{middle:.1f} s", middle <= LIMIT_S


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="psapi-bench-") as directory:
        os.chmod(directory, 0o755)
        *shown, good = row(measure(Path(directory), arguments.events, arguments.rounds))
    print(*shown, "yes" if good else "no", sep=" | ")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
