#!/usr/bin/python3
"""Power cuts on real file systems, with the disk's cache lost: disk.py PROGRAMS

The real receiver is loaded on each file system, over a disk that logs each write and each flush
(record.py, logdisk.c). From the log come images as a power cut may leave them (history.py). The
kernel mounts each. Before any recovery of ours, every file must be whole, and every event that was
answered 200 must be there; the same after psapi recover (check.py). Then the controls: the test
must notice that a receiver does not wait for the disk (without.c), or it is blind.

PROGRAMS is the directory of logdisk and without.so. In the environment: PSAPI_BIN, the programs to
test; FULL=1, all file systems and more images (IMAGES=n: so many of each); SEED=n, the same events and the same choice
of cuts.
In the output, "broken" counts names or events, and in brackets the images with any.
"""

import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
# pylint: disable=wrong-import-position
import machine
from check import Checker, Findings
from filesystems import ALL, FILE_SYSTEMS, KEPT, TORN_MOUNTS, WHOLE
from history import History, images
from record import record

FULL = os.environ.get("FULL") not in (None, "", "0")
LOADS = [(32, False), (32, True)] + FULL * [(2, True)]      # clients; whether there is a consumer
IMAGES = int(os.environ.get("IMAGES") or 100)   # of a row, with FULL
VARIANT_IMAGES = max(IMAGES // 3, 1)            # of a row that differs from another in one option
LEAST = 200             # events answered in a recording: fewer would show little


@dataclass(frozen=True)
class Row:
    system: str
    sync: str               # PSAPI_SYNC
    images: int             # of a control: at most
    without: str = None     # a control: the call that is left out (without.c)
    expected: str = None    # a control: what must break

    @property
    def name(self):
        return f"{self.system}, {self.sync}" + (f", without {self.without}" if self.without else "")

    def is_seen(self, findings):
        """Whether the control has shown that the test is not blind."""
        return self.expected is not None and findings.counts[self.expected] > 0


SAMPLE = [
    Row("ext4", "auto", 40),
    Row("xfs", "auto", 40),
    Row("ext4", "auto", 80, "sync_file_range", WHOLE),
    Row("ext4", "auto", 80, "fsync", KEPT),
]
EVERYTHING = [Row(name, "auto", VARIANT_IMAGES if system.variant else IMAGES)
              for name, system in FILE_SYSTEMS.items()] + [
    Row("ext4", "two", IMAGES),
    Row("xfs", "two", IMAGES),
    Row("ext4", "auto", 200, "sync_file_range", WHOLE),
    Row("ext4", "auto", 200, "fsync", KEPT),
    Row("ext4", "two", 200, "O_DSYNC", WHOLE),
    Row("xfs", "auto", 200, "sync_file_range", WHOLE),
    Row("xfs", "auto", 200, "fsync", KEPT),
    Row("xfs", "two", 200, "O_DSYNC", WHOLE),
    Row("btrfs", "auto", 200, "O_DSYNC", WHOLE),
]


# ---- one row ----

def run_row(row, programs, seed):
    """Each load gives a share of the images. A control ends as soon as the fault is seen."""
    findings, begin = Findings(), time.monotonic()
    system = FILE_SYSTEMS[row.system]
    for clients, consumer in LOADS:
        dice = random.Random(f"{seed} {row.name} {clients} {consumer}")
        recording = record(programs, system, clients, consumer, dice, row.sync, row.without)
        answered = len(recording.answered)
        assert answered >= LEAST, f"only {answered} events were answered"
        check_images(row, system, recording, dice, findings)
        if row.is_seen(findings):
            break
    findings.counts["seconds"] = round(time.monotonic() - begin)
    return findings


def check_images(row, system, recording, dice, findings):
    directory = Path(tempfile.mkdtemp(prefix="images-"))
    target, image = directory / "mnt", directory / "disk.img"
    target.mkdir()
    image.touch()
    checker, history = Checker(recording, findings), History(recording.log)
    made = images(history, recording, row.images // len(LOADS), dice)
    for cut, content, pieces in made:
        write_image(image, content, pieces)
        checker.check(system, image, target, cut)
        if row.is_seen(findings):
            break
    shutil.rmtree(directory)


def write_image(image, content, pieces):
    with open(image, "r+b") as file:
        file.write(content)
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)


# ---- the report ----

def broken(findings):
    """The kinds of what was broken, in a fixed order."""
    return [kind for kind in (*sorted(ALL), TORN_MOUNTS) if findings.counts[kind]]


def line(row, findings):
    n = findings.counts
    kinds = [WHOLE, KEPT] + [kind for kind in broken(findings) if kind not in (WHOLE, KEPT)]
    counted = ", ".join(f"{kind} {n[kind]:,} ({n[f'{kind} images']})" for kind in kinds)
    again = f"; {n['may come again']} may come again" if n["may come again"] else ""
    return (f"{row.name:36} {n['images']:4} images {n['names']:8,} names  "
            f"broken: {counted}{again}  [{n['seconds']} s]")


def complaint(row, findings):
    """Why the test fails with this row, or None."""
    if row.expected:
        return None if row.is_seen(findings) else f"blind: {row.expected} should be broken"
    kinds = [kind for kind in broken(findings) if kind in FILE_SYSTEMS[row.system].promised]
    return f"promised, and broken: {', '.join(kinds)}" if kinds else None


def report(row, job):
    """Print what a row found. Whether it is good."""
    error = job.exception()
    if isinstance(error, machine.NotRun):
        print(f"not run: {row.name}: {error}", flush=True)
        return True
    if error:
        print(f"{row.name}: failed: {error.__cause__ or error}", flush=True)
        return False
    findings, why = job.result(), FILE_SYSTEMS[row.system].why
    bad = complaint(row, findings)
    print(line(row, findings), flush=True)
    if bad:
        print("\n".join([f"  {bad}", *(f"    {each}" for each in findings.examples)]), flush=True)
    elif why and broken(findings):
        print(f"  not promised there: {why}", flush=True)
    return not bad


def main():
    programs = Path(sys.argv[1]).resolve()
    seed = os.environ.get("SEED") or str(random.SystemRandom().randrange(1 << 32))
    try:
        machine.enter()
    except machine.NotRun as reason:
        print(f"not run: power cuts on real file systems: {reason}")
        return 0
    print(f"power cuts on real file systems, SEED={seed}", flush=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(run_row, row, programs, seed): row
                for row in (EVERYTHING if FULL else SAMPLE)}
        good = [report(jobs[job], job) for job in as_completed(jobs)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
