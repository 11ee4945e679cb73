#!/usr/bin/python3
"""The benchmark: run.py --tools DIR [--rounds N] [--seconds N] [--quick] [--only KEYS] [--out FILE]

One run, one table: limits, psapi-fcgi, alternatives, each on a file system of its own, in rounds
that take turns; each figure is the median of the rounds. What each claims to have stored is
counted and read back. All load is on loopback."""

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
import ground
import report
from ground import Failed

# Requests that nobody behind the web server answers in a second: as many are signed. For all alike, for to read the next
# one from its file is some of wrk's work.
MOST = {"ext4": 20000, "tmpfs": 45000, None: 90000}

# Rows that are compared with one another follow one another in a round: what else the machine does meets them all.
TOGETHER = ("null", "refusal", "null hmac", "duplicate", "accept tmpfs", "null store tmpfs", "null log tmpfs", "php tmpfs",
            "store 16", "accept", "php", "null store", "store 1", "accept 1", "null store 1")


def count_for(contender, seconds):
    stores = contender.store and not getattr(contender, "kind", "")
    return MOST[contender.fs if stores else None] * seconds


def check_stored(contender, place, answered):
    """As many files as were answered, but for those on their way at the end, and all of them whole."""
    files = contender.files(place)
    if not answered <= len(files) <= answered + contender.c:
        raise Failed(f"{contender.title}: {answered} answers, {len(files)} files")
    for path in files:
        text = path.read_text()
        if not text.startswith("{") or json.loads(text).get("event", {"type": ""})["type"] is None:
            raise Failed(f"{path}: not whole")
    if contender.store == "spool/events":
        waiting = len(os.listdir(place / "spool/new"))
        # A CGI process that was stopped half-way has queued it: recovery's business.
        if not len(files) <= waiting <= len(files) + contender.c:
            raise Failed(f"{contender.title}: {waiting} in new/, {len(files)} in events/")


def sign(contender, hall, seconds):
    """The requests of a measurement, and one for the probe before it."""
    kind = getattr(contender, "kind", "")
    requests = ground.Requests(hall.tools, hall.dir / "requests", contender.path,
                               count_for(contender, seconds), kind)
    if kind == "same":
        return requests, requests.first()
    return requests, ground.Requests(hall.tools, hall.dir / "probe", contender.path, 1, kind).first()


def probe(contender, hall, request):
    """Wait for the first answer. Returns the milliseconds since the start."""
    port, wanted = hall.ports[contender.web], 401 if getattr(contender, "kind", "") == "forged" else 200
    status = 0

    def answers():
        nonlocal status
        status = ground.post(port, request)
        return status not in (0, 502, 503, 504)
    ground.wait_until(answers, f"{contender.title} answers; see {hall.log}")
    if status != wanted:
        raise Failed(f"{contender.title}: {status}, not {wanted}; see {hall.log}")
    return (time.monotonic() - contender.process.began) * 1000 if contender.process else None


def load(contender, hall, place, seconds, signed):
    """One measurement of a contender that has been started. Returns its figures."""
    kind = getattr(contender, "kind", "")
    requests, first = signed
    before = len(contender.files(place)) if contender.store else 0
    start = probe(contender, hall, first)
    web = hall.servers[contender.web].pid
    pids = {"cpu": contender.process.pid if contender.counts and contender.process else None,
            "web": web if contender.counts else None}
    used = {name: ground.cpu_seconds(pid) for name, pid in pids.items() if pid}
    figures = {}

    def in_the_middle():
        if contender.process:
            figures["pss"] = ground.status_mib(contender.process.pid, "Pss", "smaps_rollup")
        idle, ticks = ground.processor_ticks()
        time.sleep(seconds * 0.4)
        idle_later, ticks_later = ground.processor_ticks()
        figures["idle"] = (idle_later - idle) / max(ticks_later - ticks, 1) * 100
    figures |= ground.wrk(hall.ports[contender.web], requests, contender.c, seconds, in_the_middle)
    n = max(figures["requests"], 1)
    figures["rate"] = figures["requests"] / figures["us"] * 1e6
    for name, seconds_before in used.items():
        figures[name] = (ground.cpu_seconds(pids[name]) - seconds_before) / n * 1000
    if contender.process:
        figures["rss"] = ground.status_mib(contender.process.pid, "VmHWM")
        figures["start"] = start
    refused = figures["requests"] if kind == "forged" else 0
    if figures["broken"] or figures["refused"] != refused:
        raise Failed(f"{contender.title}: {figures}; see {hall.log}")
    if contender.process and requests.count < figures["requests"]:
        raise Failed(f"{contender.title}: faster than was thought possible: sign more")
    if contender.store and not kind:
        figures["answered"] = before + 1 + figures["requests"]
    return figures


def measure(contender, hall, seconds):
    with ground.fresh(contender.fs, hall.work) as place:
        signed = sign(contender, hall, seconds)     # now, or the start would seem to take that long
        try:
            contender.start(hall, place)
            figures = load(contender, hall, place, seconds, signed)
        finally:
            contender.stop()
        if "answered" in figures:
            check_stored(contender, place, figures["answered"])
    return figures


def store(hall, seconds, threads, fs, what=()):
    """The spool's system calls alone, or fsync alone."""
    with ground.fresh(fs, hall.work) as place:
        return store_in(hall, place, seconds, threads, what)


def store_in(hall, place, seconds, threads, what=()):
    done = subprocess.run([hall.tools / "store", str(threads), str(seconds), place, *what],
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


def run_rounds(hall, arguments, wanted):
    """All contenders, one after the other, again and again. Returns key -> the rounds' figures."""
    rounds = {}
    for number in range(arguments.rounds):
        jobs = [(key, lambda row=row: store(hall, arguments.seconds, *row[1:])) for key, row in ALONE.items()]
        jobs += [(c.key, lambda c=c: measure(c, hall, arguments.seconds)) for c in hall.contenders]
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
    parser.add_argument("--quick", action="store_true", help="does it work? the figures mean nothing")
    parser.add_argument("--only", help="of the rows those with such a key (a regular expression)")
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
        hall = contenders.Hall(Path(directory), tools, contenders.all_contenders(tools))
        hall.work = Path(directory)
        try:
            hall.open()
            rounds = run_rounds(hall, arguments, wanted)
            found = medians(rounds)
            more = {} if arguments.only else extras.all_of(
                hall, arguments, {"million": measure_million(hall, arguments), "memory": measure_memory(hall, arguments)})
        except Failed as failed:
            log = hall.log.read_text(errors="replace")[-3000:] if hall.log.exists() else ""
            sys.exit(f"bench: {failed}\n{log}")
        finally:
            hall.close()
    titles = {c.key: (c.title, ground.name_of(c.fs)) for c in hall.contenders} | \
        {key: (row[0], ground.name_of(row[2])) for key, row in ALONE.items()}
    text = report.write(found, rounds, more, titles, machine(), arguments, time.time() - began)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


def measure_million(hall, arguments):
    """Rates with many files in events/ and with none, taking turns on two file systems that are alike, from which
    nothing was ever deleted: (how many, {"accept": (with many, with none), "store": the spool's calls alone})."""
    many = 20_000 if arguments.quick else 1_000_000
    contender = next(c for c in hall.contenders if c.key == "accept")
    rates = {"accept": ([], []), "store": ([], [])}
    work = [hall.work / name for name in ("many", "none")]
    for directory in work:
        directory.mkdir()

    def accept(place):
        signed = sign(contender, hall, arguments.seconds)
        try:
            contender.start(hall, place)
            return load(contender, hall, place, arguments.seconds, signed)["rate"]
        finally:
            contender.stop()

    def store_alone(place):
        return store_in(hall, place / "spool", arguments.seconds, 16)["rate"]
    with ground.fresh("ext4", work[0], gib=12) as full:
        subprocess.run([hall.tools / "store", "1", "0", full / "spool", "fill", str(many)], check=True)
        os.sync()
        for _ in range(arguments.rounds):
            for key, job in (("accept", accept), ("store", store_alone)):
                rates[key][0].append(job(full))
                with ground.fresh("ext4", work[1], gib=12) as empty:
                    rates[key][1].append(job(empty))
    return many, rates


def measure_memory(hall, arguments):
    """Proportional memory with 64 threads under load, MiB: of one measurement, and of one ten times as long after it."""
    contender = next(c for c in hall.contenders if c.key == "accept 64")
    with ground.fresh("ext4", hall.work) as place:
        try:
            contender.start(hall, place)
            return [load(contender, hall, place, seconds, sign(contender, hall, seconds))["pss"]
                    for seconds in (arguments.seconds, 10 * arguments.seconds)]
        finally:
            contender.stop()


if __name__ == "__main__":
    main()
