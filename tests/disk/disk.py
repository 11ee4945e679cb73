#!/usr/bin/python3
"""The power goes under load, on real file systems, and the disk loses what was only in its cache.

The real receiver is loaded on each file system, over a disk that logs each write and each flush
(record.py, logdisk.c). From the log, images are made as any power cut may leave them (history.py);
the kernel mounts each, and before any recovery of ours every file must be whole, and every event
that was answered 200 must be there (check.py). Then the controls: a receiver whose wait for the
disk is left out (without.c) must be caught, or this test is blind.

    disk.py PROGRAMS        PSAPI_BIN: the programs to test; FULL=1: all file systems, and more images;
                            SEED=n: the same events and cuts again, as far as the disk does the same
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "e2e"))
# pylint: disable=wrong-import-position
import machine
from check import Checker, Findings, has_recover
from filesystems import FILE_SYSTEMS, KEPT, MOUNTS, RECOVERED, TORN_MOUNTS, WHOLE
from history import History, images
from receiver import BINARY
from record import record

FULL = os.environ.get("FULL") not in (None, "", "0")
LOADS = [(32, False), (32, True)] + FULL * [(2, True)]      # clients, and whether a consumer is there
SCRIPT_EVERY = 10       # images to one on which README.md's loop runs: it takes its time
LEAST = 200             # events answered in a recording, or it shows little


@dataclass(frozen=True)
class Row:
    system: str
    sync: str               # PSAPI_SYNC
    images: int             # of a control: at most
    without: str = None     # a control: what is left out (without.c) ...
    expected: str = None    # ... and what must break

    @property
    def name(self):
        return f"{self.system}, {self.sync}" + (f", without {self.without}" if self.without else "")


SAMPLE = [
    Row("ext4", "auto", 40),
    Row("xfs", "auto", 40),
    Row("ext4", "auto", 80, "sync_file_range", WHOLE),
]
EVERYTHING = [Row(system, "auto", 300) for system in FILE_SYSTEMS] + [
    Row("ext4", "two", 300),
    Row("xfs", "two", 300),
    Row("ext4", "auto", 200, "sync_file_range", WHOLE),
    Row("ext4", "auto", 200, "fsync", KEPT),
    Row("ext4", "two", 200, "O_DSYNC", WHOLE),
    Row("xfs", "auto", 200, "sync_file_range", WHOLE),
    Row("xfs", "auto", 200, "fsync", KEPT),
    Row("xfs", "two", 200, "O_DSYNC", WHOLE),
    Row("btrfs", "auto", 200, "O_DSYNC", WHOLE),
]


def has_setting(name):
    return name in subprocess.run([BINARY, "-h"], capture_output=True, text=True, check=True).stdout


def run_row(row, programs, seed):
    """A share of the images from each load. A control ends as soon as the fault is seen."""
    findings, begin = Findings(), time.monotonic()
    settings = {"PSAPI_SYNC": row.sync} if has_setting("PSAPI_SYNC") else {}
    system = FILE_SYSTEMS[row.system]
    for clients, consumer in LOADS:
        dice = random.Random(f"{seed} {row.name} {clients} {consumer}")
        recording = record(programs, system, clients, consumer, dice, row.without, **settings)
        assert len(recording.answered) >= LEAST, f"only {len(recording.answered)} events were accepted"
        check_images(row, system, recording, dice, findings)
        if is_seen(row, findings):
            break
    findings.counts["seconds"] = round(time.monotonic() - begin)
    return findings


def is_seen(row, findings):
    """Whether a control has shown what it is for."""
    return row.expected is not None and findings.counts[row.expected] > 0


def check_images(row, system, recording, dice, findings):
    directory = Path(tempfile.mkdtemp(prefix="images-"))
    target, image = directory / "mnt", directory / "disk.img"
    target.mkdir()
    image.touch()
    checker, history = Checker(recording, findings), History(recording.log)
    made = images(history, recording, row.images // len(LOADS), dice)
    for number, (cut, content, pieces) in enumerate(made):
        write_image(image, content, pieces)
        findings.counts["pending"] += len(pieces)
        checker.check(system, image, target, cut, with_script=number % SCRIPT_EVERY == 0)
        if is_seen(row, findings):
            break
    shutil.rmtree(directory)


def write_image(image, content, pieces):
    with open(image, "r+b") as file:
        file.write(content)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


# ---- the report ----

def line(row, findings):
    """What was found, with the number of images of it in brackets."""
    n = findings.counts
    kinds = [WHOLE, KEPT] + [kind for kind in (RECOVERED, MOUNTS, TORN_MOUNTS) if n[kind]]
    broken = ", ".join(f"{kind} {n[kind]:,} ({n[f'{kind} images']})" for kind in kinds)
    return (f"{row.name:36} {n['images']:4} images {n['names']:8,} names  broken: {broken}  "
            f"[{n['pending'] // max(1, n['images'])} pieces pending, {n['seconds']} s]")


def complaint(row, findings):
    """Why this row makes the test fail, or None."""
    if row.without:
        return None if findings.counts[row.expected] else f"blind: without {row.without} nothing was noticed"
    promised = FILE_SYSTEMS[row.system].promised
    bad = [kind for kind in (WHOLE, KEPT, RECOVERED, MOUNTS) if findings.counts[kind]]
    return "not kept: " + ", ".join(kind for kind in bad if kind in promised) \
        if promised & set(bad) else None


def report(row, job):
    """Print the row's line; False for a failure."""
    try:
        findings = job.result()
    except machine.NotRun as reason:
        print(f"not run: {row.name}: {reason}", flush=True)
        return True
    except Exception:   # of a worker: the others go on
        print(f"{row.name}: failed\n{traceback.format_exc()}", flush=True)
        return False
    failure = complaint(row, findings)
    print(line(row, findings), flush=True)
    if failure:
        print("\n".join([f"  {failure}", *(f"    {example}" for example in findings.examples)]), flush=True)
    elif FILE_SYSTEMS[row.system].why and (findings.counts[KEPT] or findings.counts[MOUNTS]):
        print(f"  not promised: {FILE_SYSTEMS[row.system].why}")
    return failure is None


def main():
    programs = Path(sys.argv[1]).resolve()
    seed = os.environ.get("SEED") or str(random.SystemRandom().randrange(1 << 32))
    try:
        machine.enter()
    except machine.NotRun as reason:
        print(f"not run: power cuts on real file systems: {reason}")
        return 0
    rows = EVERYTHING if FULL else SAMPLE
    print(f"power cuts on real file systems, SEED={seed}"
          + ("" if has_recover() else "; psapi has no recover: only before recovery"), flush=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(run_row, row, programs, seed): row for row in rows}
        good = [report(jobs[job], job) for job in as_completed(jobs)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
