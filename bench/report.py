"""The report of a run: the tables of RESULTS.md."""

import statistics

ALTERNATIVES = ("php 8", "php 16", "php 32", "node", "flask")

COLUMNS = [("/s", "rate", "{:.0f}"), ("p50 ms", "p50", "{:.2f}"), ("p99 ms", "p99", "{:.2f}"),
           ("CPU s/1,000", "cpu", "{:.3f}"), ("web server", "web", "{:.3f}"), ("peak RSS MiB", "rss", "{:.1f}"),
           ("start ms", "start", "{:.1f}")]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figures(medians):
    for title, fs, found in medians:
        row = [title, fs]
        for _, name, form in COLUMNS:
            value = found.get(name)
            if value is not None and name in ("p50", "p99"):
                value /= 1000
            row.append("" if value is None else form.format(value))
        yield row


class Figure(list):
    """A figure of each round. What compares two is the median of the rounds: a disturbance affects both sides of a
    round."""

    def __truediv__(self, other):
        return statistics.median(mine / its for mine, its in zip(self, other, strict=True))

    def __sub__(self, other):
        return statistics.median(mine - its for mine, its in zip(self, other, strict=True))


def least(what, ratio, bound, unit=""):
    return (what, f"≥ {bound}{unit}", f"{ratio:.2f}{unit}", ratio >= bound)


def most(what, value, bound, unit="", digits=2):
    return (what, f"≤ {bound}{unit}", f"{value:.{digits}f}{unit}", value <= bound)


def reach(rounds, million):
    """Rows: what, the aim, the figure, whether it is reached."""
    def of(key, name="rate"):
        return Figure(f[name] for f in rounds[key])
    best = max(ALTERNATIVES, key=lambda key: statistics.median(of(key)))
    many, memory, (full, empty) = million
    yield least(f"accept, ext4, against the best alternative ({best})", of("accept") / of(best), 1.5, " ×")
    yield most("its p99 against that alternative's", of("accept", "p99") / of(best, "p99"), 0.9)
    yield most("accept, ext4, 1 connection: p50 over one write and fdatasync alone",
               (of("accept 1", "p50") - of("fdatasync 1", "p50")) / 1000, 0.35, " ms")
    yield least("one wait against two, 16 connections", of("accept") / of("accept two"), 1.25, " ×")
    yield least("one wait against two, 1 connection", of("accept 1") / of("accept 1 two"), 1.6, " ×")
    yield least("accept, 64 connections, against the store's own calls, 64 threads each",
                of("accept 64") / of("store 64"), 0.6)
    yield most("receiver's CPU an event against the best alternative's", of("accept", "cpu") / of(best, "cpu"), 0.6)
    yield least("accept, tmpfs, against a null responder that signs, parses, stores, logs and is sandboxed",
                of("accept tmpfs") / of("null store tmpfs"), 0.9)
    yield least("duplicates against the null responder", of("duplicate") / of("null"), 0.85)
    yield least("refusals against the null responder", of("refusal") / of("null"), 0.85)
    yield least(f"accept with {many:,} files against an empty spool", Figure(full) / Figure(empty), 0.9)
    yield most(f"memory, 64 threads, after {many:,} events", memory, 4, " MiB", 1)
    yield least("psapi drain: batches against a process for each event, both in Python",
                of("drain batch") / of("drain one"), 50, " ×")
    yield least("psapi drain: events per second in batches", max(statistics.median(of("drain batch")), statistics.median(
        of("drain batch 5000"))), 20_000)
    yield most("start to first answer", statistics.median(of("accept", "start")), 10, " ms", 1)


def write(about, rounds, million, medians, roster):
    """about: the sentences in front. million: what run.py's function measured; None: only the figures. roster: a row,
    or None."""
    parts = ["# Results of `make bench`", "", about]
    reached = [*(reach(rounds, million) if million else ()), *([roster] if roster else ())]
    if reached:
        words = {True: "yes", False: "**no**"}
        rows = [(what, bound, value, words[good]) for what, bound, value, good in reached]
        parts += ["", "## Reach", "", table(["", "at least / most", "found", "reached"], rows)]
    parts += ["", "## Figures", "",
              "CPU: seconds per 1,000 requests, of the program and of the web server before it; of CGI it is not "
              "known, because fcgiwrap starts its processes.", "",
              table(["", "on", *(head for head, _, _ in COLUMNS)], figures(medians)), ""]
    return "\n".join(parts)
