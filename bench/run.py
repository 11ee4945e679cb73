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
import drain
import harness
import report
import roster
from harness import Failed

# Requests to sign for each second: more than any contender answers. The same number for all, because wrk needs time
# to read the next request from the file.
MOST = {"ext4": 20000, "tmpfs": 45000, None: 90000}

ALONE = {   # key -> title, threads, file system, more arguments of store.c
    "store 64": ("the store's own calls, 64 threads", 64, "ext4", ()),
    "fdatasync 1": ("one write and fdatasync, 1 thread", 1, "ext4", ("fdatasync",)),
}
# Rows that are compared with each other follow each other in a round: a disturbance of the machine affects all.
ORDER = ("php 8", "php 16", "php 32", "accept", "accept two", "node", "flask", "accept 1 two", "accept 1",
         "fdatasync 1", "accept 64", "store 64", "accept tmpfs", "null store tmpfs", "duplicate", "null", "refusal",
         "cgi", "cgi static", *drain.ROWS)


def count_for(contender, seconds):
    return MOST[contender.fs if contender.store and not contender.kind else None] * seconds


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
        # A CGI process that was ended halfway has queued the event and not committed it: recovery does.
        if not len(files) <= waiting <= len(files) + contender.c:
            raise Failed(f"{contender.title}: {waiting} in new/, {len(files)} in events/")


def sign(contender, setup, seconds):
    """The requests of a measurement, and one for probe()."""
    requests = harness.Requests(setup.tools, setup.dir / "requests", contender.path,
                                count_for(contender, seconds), contender.kind)
    if contender.kind == "same":
        return requests, requests.first()
    return requests, harness.Requests(setup.tools, setup.dir / "probe", contender.path, 1, contender.kind).first()


def probe(contender, setup, request):
    """Wait for the first answer. Returns the milliseconds since the start."""
    wanted = 401 if contender.kind == "forged" else 200
    status = 0

    def answers():
        nonlocal status
        status = harness.post(setup.port, request)
        return status not in (0, 502, 503, 504)
    harness.wait_until(answers, f"{contender.title} answers; see {setup.log}")
    if status != wanted:
        raise Failed(f"{contender.title}: {status}, not {wanted}; see {setup.log}")
    return (time.monotonic() - contender.process.began) * 1000


def load(contender, setup, seconds, signed):
    """Measure a contender that was started. Returns its figures."""
    requests, first = signed
    start = probe(contender, setup, first)
    pids = {"cpu": contender.process.pid, "web": setup.web.pid} if contender.counts else {}
    used = {name: harness.cpu_seconds(pid) for name, pid in pids.items()}
    memory = []
    figures = harness.wrk(setup.port, requests, contender.c, seconds, lambda: memory.append(
        harness.status_mib(contender.process.pid, "Pss", "smaps_rollup")))
    n = max(figures["requests"], 1)
    for name, before in used.items():
        figures[name] = (harness.cpu_seconds(pids[name]) - before) / n * 1000
    figures |= {"rate": figures["requests"] / figures["us"] * 1e6, "pss": memory[0], "start": start,
                "rss": harness.status_mib(contender.process.pid, "VmHWM")}
    refused = figures["requests"] if contender.kind == "forged" else 0
    if figures["broken"] or figures["refused"] != refused:
        raise Failed(f"{contender.title}: {figures}; see {setup.log}")
    if requests.count < figures["requests"]:
        raise Failed(f"{contender.title}: faster than expected: raise MOST")
    return figures


def measure(contender, setup, seconds):
    with harness.fresh(contender.fs, setup.dir) as place:
        signed = sign(contender, setup, seconds)     # before the start, whose time is measured
        try:
            contender.start(setup, place)
            figures = load(contender, setup, seconds, signed)
        finally:
            contender.stop()
        if contender.store and not contender.kind:
            check_stored(contender, place, 1 + figures["requests"])
    return figures


def alone(setup, seconds, threads, fs, what):
    """The store's own calls, or fdatasync, without HTTP."""
    with harness.fresh(fs, setup.dir) as place:
        done = subprocess.run([setup.tools / "store", str(threads), str(seconds), place, *what],
                              check=True, capture_output=True, text=True)
    figures = json.loads(done.stdout)
    return figures | {"rate": figures["requests"] / figures["us"] * 1e6}


def run_rounds(setup, arguments, wanted):
    """All contenders, one after the other, in each round. Returns {key: the figures of each round}."""
    jobs = {key: lambda row=row: alone(setup, arguments.seconds, *row[1:]) for key, row in ALONE.items()}
    jobs |= {key: lambda key=key: drain.measure(setup, key, arguments.quick) for key in drain.ROWS}
    jobs |= {c.key: lambda c=c: measure(c, setup, arguments.seconds) for c in setup.contenders}
    rounds = {}
    for number in range(arguments.rounds):
        for key in filter(wanted, ORDER[::-1] if number % 2 else ORDER):
            figures = jobs[key]()
            rounds.setdefault(key, []).append(figures)
            print(f"round {number + 1}: {key:16} {figures['rate']:9.0f}/s", file=sys.stderr, flush=True)
    return rounds


def medians(rounds):
    return {key: {name: statistics.median(f[name] for f in figures) for name in figures[0]}
            for key, figures in rounds.items()}


def accept(key, setup, place, seconds):
    """One measurement in a spool that is there or not, whose files are not read back."""
    contender = next(c for c in setup.contenders if c.key == key)
    signed = sign(contender, setup, seconds)
    try:
        contender.start(setup, place)
        return load(contender, setup, seconds, signed)
    finally:
        contender.stop()


def fill(setup, place, many):
    """One process with 64 threads accepts so many events. Returns its proportional memory under load then, MiB."""
    contender = next(c for c in setup.contenders if c.key == "accept 64")
    accepted, figures, seconds = 0, None, 1 if many < 100_000 else 10
    try:
        contender.start(setup, place)
        while accepted < many:
            figures = load(contender, setup, seconds, sign(contender, setup, seconds))
            accepted += 1 + figures["requests"]
            print(f"{accepted:9,} events accepted", file=sys.stderr, flush=True)
    finally:
        contender.stop()
    there = len(os.listdir(place / "spool/events"))
    if there < accepted:
        raise Failed(f"{accepted} answers, {there} files")
    return figures["pss"]


def measure_million(setup, arguments):
    """(how many, memory of the process that accepted them, (rates with so many files, with none)), the rates in turn
    on two equal file systems from which nothing was ever deleted."""
    many = 20_000 if arguments.quick else 1_000_000
    rates, work = ([], []), [setup.dir / name for name in ("many", "none")]
    for directory in work:
        directory.mkdir()
    with harness.fresh("ext4", work[0], gib=12) as full:
        memory = fill(setup, full, many)
        os.sync()
        for _ in range(arguments.rounds):
            rates[0].append(accept("accept", setup, full, arguments.seconds)["rate"])
            with harness.fresh("ext4", work[1], gib=12) as empty:
                rates[1].append(accept("accept", setup, empty, arguments.seconds)["rate"])
    return many, memory, rates


def measure_roster(setup, arguments):
    """The figures of roster.py, or None if they are not wanted."""
    if arguments.only and not re.search(arguments.only, "roster"):
        return None
    return roster.measure(setup.dir, 20_000 if arguments.quick else roster.EVENTS, arguments.rounds)


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
    began, before = time.time(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="psapi-bench-") as directory:
        os.chmod(directory, 0o755)
        setup = contenders.Setup(Path(directory), tools, contenders.all_contenders())
        try:
            setup.open()
            rounds = run_rounds(setup, arguments, lambda key: not arguments.only or re.search(arguments.only, key))
            million = None if arguments.only else measure_million(setup, arguments)
            names = measure_roster(setup, arguments)
        except Failed as failed:
            log = setup.log.read_text(errors="replace")[-3000:] if setup.log.exists() else ""
            sys.exit(f"bench: {failed}\n{log}")
        finally:
            setup.close()
    titles = {c.key: (c.title, harness.name_of(c.fs)) for c in setup.contenders} | \
        {key: (row[0], harness.name_of(row[2])) for key, row in ALONE.items()} | \
        {key: (row[0], harness.name_of("ext4")) for key, row in drain.ROWS.items()}
    about = f"{time.strftime('%Y-%m-%d')}, {machine()}. ext4: {harness.describe_ext4()}. Median of " \
            f"{arguments.rounds} rounds of {arguments.seconds} s, 16 connections over loopback unless the row says " \
            f"otherwise; {(time.time() - began) / 60:.0f} minutes, load average {before:.1f} before it, " \
            f"{os.getloadavg()[0]:.1f} after it."
    if arguments.quick:
        about += "\n\n**A quick run: it shows that the benchmark works. The figures mean nothing.**"
    text = report.write(about, rounds, million, [(*titles[key], found) for key, found in medians(rounds).items()],
                        roster.row(names) if names else None)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
