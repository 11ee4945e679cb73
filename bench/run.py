#!/usr/bin/python3
"""The benchmark: run.py --tools DIR [--rounds N] [--seconds N] [--quick] [--only KEYS] [--out FILE]

Limits, psapi-fcgi and alternatives are measured in rounds, each on a new file system; each figure is the median of
the rounds. The stored files are counted and read back. All load is on loopback."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contenders
import extras
import harness
import report
from harness import Failed

# Requests to sign for each second: more than any contender answers. The same number for all, because wrk needs time
# to read the next request from the file.
MOST = {"ext4": 20000, "tmpfs": 45000, None: 90000}

# Rows that are compared with each other follow each other in a round: a disturbance of the machine affects all.
TOGETHER = ("null", "refusal", "null hmac", "duplicate", "accept tmpfs", "null store tmpfs", "null log tmpfs",
            "php tmpfs", "store 16", "accept", "php", "null store", "store 1", "accept 1", "null store 1")


def count_for(contender, seconds):
    stores = contender.store and not getattr(contender, "kind", "")
    return MOST[contender.fs if stores else None] * seconds


def check_stored(contender, place, answered):
    """One whole file for each answer, and at most one more for each connection, whose answer came too late."""
    files = contender.files(place)
    if not answered <= len(files) <= answered + contender.c:
        raise Failed(f"{contender.title}: {answered} answers, {len(files)} files")
    for path in files:
        text = path.read_text()
        if not text.startswith("{") or json.loads(text).get("event", {"type": ""})["type"] is None:
            raise Failed(f"{path}: not whole")
    if contender.store == "spool/events":
        waiting = len(os.listdir(place / "spool/new"))
        # A CGI process that was ended halfway has queued the event and not recorded it: recovery does.
        if not len(files) <= waiting <= len(files) + contender.c:
            raise Failed(f"{contender.title}: {waiting} in new/, {len(files)} in events/")


def sign(contender, setup, seconds):
    """The requests of a measurement, and one for probe()."""
    kind = getattr(contender, "kind", "")
    requests = harness.Requests(setup.tools, setup.dir / "requests", contender.path,
                               count_for(contender, seconds), kind)
    if kind == "same":
        return requests, requests.first()
    return requests, harness.Requests(setup.tools, setup.dir / "probe", contender.path, 1, kind).first()


def probe(contender, setup, request):
    """Wait for the first answer. Returns the milliseconds since the start."""
    port, wanted = setup.ports[contender.web], 401 if getattr(contender, "kind", "") == "forged" else 200
    status = 0

    def answers():
        nonlocal status
        status = harness.post(port, request)
        return status not in (0, 502, 503, 504)
    harness.wait_until(answers, f"{contender.title} answers; see {setup.log}")
    if status != wanted:
        raise Failed(f"{contender.title}: {status}, not {wanted}; see {setup.log}")
    return (time.monotonic() - contender.process.began) * 1000 if contender.process else None


def load(contender, setup, place, seconds, signed):
    """Measure a contender that was started. Returns its figures."""
    kind = getattr(contender, "kind", "")
    requests, first = signed
    before = len(contender.files(place)) if contender.store else 0
    start = probe(contender, setup, first)
    web = setup.servers[contender.web].pid
    pids = {"cpu": contender.process.pid if contender.counts and contender.process else None,
            "web": web if contender.counts else None}
    used = {name: harness.cpu_seconds(pid) for name, pid in pids.items() if pid}
    figures = {}

    def in_the_middle():
        if contender.process:
            figures["pss"] = harness.status_mib(contender.process.pid, "Pss", "smaps_rollup")
        idle, ticks = harness.processor_ticks()
        time.sleep(seconds * 0.4)
        idle_later, ticks_later = harness.processor_ticks()
        figures["idle"] = (idle_later - idle) / max(ticks_later - ticks, 1) * 100
    figures |= harness.wrk(setup.ports[contender.web], requests, contender.c, seconds, in_the_middle)
    n = max(figures["requests"], 1)
    figures["rate"] = figures["requests"] / figures["us"] * 1e6
    for name, seconds_before in used.items():
        figures[name] = (harness.cpu_seconds(pids[name]) - seconds_before) / n * 1000
    if contender.process:
        figures["rss"] = harness.status_mib(contender.process.pid, "VmHWM")
        figures["start"] = start
    refused = figures["requests"] if kind == "forged" else 0
    if figures["broken"] or figures["refused"] != refused:
        raise Failed(f"{contender.title}: {figures}; see {setup.log}")
    if contender.process and requests.count < figures["requests"]:
        raise Failed(f"{contender.title}: faster than expected: raise MOST")
    if contender.store and not kind:
        figures["answered"] = before + 1 + figures["requests"]
    return figures


def measure(contender, setup, seconds):
    with harness.fresh(contender.fs, setup.work) as place:
        signed = sign(contender, setup, seconds)     # before the start, whose time is measured
        try:
            contender.start(setup, place)
            figures = load(contender, setup, place, seconds, signed)
        finally:
            contender.stop()
        if "answered" in figures:
            check_stored(contender, place, figures["answered"])
    return figures


def store(setup, seconds, threads, fs, what=()):
    """The spool's system calls alone, or fsync alone."""
    with harness.fresh(fs, setup.work) as place:
        return store_in(setup, place, seconds, threads, what)


def store_in(setup, place, seconds, threads, what=()):
    done = subprocess.run([setup.tools / "store", str(threads), str(seconds), place, *what],
                          check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    return figures | {"rate": figures["requests"] / figures["us"] * 1e6}


ALONE = {   # key -> title, threads, file system, more arguments
    "store 1": ("the spool's system calls, 1 thread", 1, "ext4", ()),
    "store 16": ("the spool's system calls, 16 threads", 16, "ext4", ()),
    "store 64": ("the spool's system calls, 64 threads", 64, "ext4", ()),
    "store tmpfs 1": ("the spool's system calls, 1 thread", 1, "tmpfs", ()),
    "store tmpfs": ("the spool's system calls, 16 threads", 16, "tmpfs", ()),
    "fsync 1": ("write and fsync alone, 1 thread", 1, "ext4", ("fsync",)),
    "fsync 16": ("write and fsync alone, 16 threads", 16, "ext4", ("fsync",)),
    "look": ("a look at a file's name alone, 1 thread", 1, "ext4", ("look",)),
}


def run_rounds(setup, arguments, wanted):
    """All contenders, one after the other, in each round. Returns {key: the figures of each round}."""
    rounds = {}
    for number in range(arguments.rounds):
        jobs = [(key, lambda row=row: store(setup, arguments.seconds, *row[1:])) for key, row in ALONE.items()]
        jobs += [(c.key, lambda c=c: measure(c, setup, arguments.seconds)) for c in setup.contenders]
        together = TOGETHER[::-1] if number % 2 else TOGETHER
        jobs.sort(key=lambda job: together.index(job[0]) if job[0] in together else len(together))
        for key, job in jobs:
            if not wanted(key):
                continue
            figures = job()
            rounds.setdefault(key, []).append(figures)
            print(f"round {number + 1}: {key:16} {figures['rate']:9.0f}/s", file=sys.stderr, flush=True)
    return rounds


def medians(rounds):
    return {key: {name: statistics.median([f[name] for f in figures if f.get(name) is not None] or [0])
                  for name in figures[0] if figures[0][name] is not None}
            for key, figures in rounds.items()}


def machine():
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    memory = re.search(r"^MemTotal: +(\d+)", Path("/proc/meminfo").read_text(), re.M)
    return f"{os.cpu_count()} × {model[1] if model else platform.machine()}, " \
           f"{int(memory[1]) / 1048576:.0f} GiB, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only shows that it works")
    parser.add_argument("--only", help="only the rows whose key matches this regular expression")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = arguments.seconds = 1
    tools = arguments.tools.resolve()
    contenders.prepare_alternatives(tools)
    began = time.time()

    def wanted(key):
        return not arguments.only or re.search(arguments.only, key)
    with tempfile.TemporaryDirectory(prefix="psapi-bench-") as directory:
        os.chmod(directory, 0o755)
        setup = contenders.Setup(Path(directory), tools, contenders.all_contenders(tools))
        setup.work = Path(directory)
        try:
            setup.open()
            rounds = run_rounds(setup, arguments, wanted)
            found = medians(rounds)
            more = {} if arguments.only else extras.all_of(
                setup, arguments, {"million": measure_million(setup, arguments),
                                   "memory": measure_memory(setup, arguments)})
        except Failed as failed:
            log = setup.log.read_text(errors="replace")[-3000:] if setup.log.exists() else ""
            sys.exit(f"bench: {failed}\n{log}")
        finally:
            setup.close()
    titles = {c.key: (c.title, harness.name_of(c.fs)) for c in setup.contenders} | \
        {key: (row[0], harness.name_of(row[2])) for key, row in ALONE.items()}
    text = report.write(found, rounds, more, titles, machine(), arguments, time.time() - began)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def measure_million(setup, arguments):
    """Rates with many files in events/ and with none, in turn, on two equal file systems from which nothing was ever
    deleted: (how many, {"accept": (with many, with none), "store": the same for the spool's calls alone})."""
    many = 20_000 if arguments.quick else 1_000_000
    contender = next(c for c in setup.contenders if c.key == "accept")
    rates = {"accept": ([], []), "store": ([], [])}
    work = [setup.work / name for name in ("many", "none")]
    for directory in work:
        directory.mkdir()

    def accept(place):
        signed = sign(contender, setup, arguments.seconds)
        try:
            contender.start(setup, place)
            return load(contender, setup, place, arguments.seconds, signed)["rate"]
        finally:
            contender.stop()

    def store_alone(place):
        return store_in(setup, place / "spool", arguments.seconds, 16)["rate"]
    with harness.fresh("ext4", work[0], gib=12) as full:
        subprocess.run([setup.tools / "store", "1", "0", full / "spool", "fill", str(many)], check=True)
        os.sync()
        for _ in range(arguments.rounds):
            for key, job in (("accept", accept), ("store", store_alone)):
                rates[key][0].append(job(full))
                with harness.fresh("ext4", work[1], gib=12) as empty:
                    rates[key][1].append(job(empty))
    return many, rates


def measure_memory(setup, arguments):
    """Proportional memory with 64 threads under load, MiB: of one measurement, and of a second, ten times as long."""
    contender = next(c for c in setup.contenders if c.key == "accept 64")
    with harness.fresh("ext4", setup.work) as place:
        try:
            contender.start(setup, place)
            return [load(contender, setup, place, seconds, sign(contender, setup, seconds))["pss"]
                    for seconds in (arguments.seconds, 10 * arguments.seconds)]
        finally:
            contender.stop()


if __name__ == "__main__":
    main()
