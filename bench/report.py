"""The report of a run: the tables of RESULTS.md."""

import os
import statistics
import time

import harness

COLUMNS = [("/s", "rate", "{:.0f}"), ("p50 ms", "p50", "{:.2f}"), ("p99 ms", "p99", "{:.2f}"),
           ("CPU s/1,000", "cpu", "{:.3f}"), ("web server", "web", "{:.3f}"), ("idle %", "idle", "{:.0f}"),
           ("peak RSS MiB", "rss", "{:.1f}"), ("start ms", "start", "{:.1f}")]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figures(found, titles):
    for key, (title, fs) in titles.items():
        if key not in found:
            continue
        row = [title, fs]
        for _, name, form in COLUMNS:
            value = found[key].get(name)
            if value is not None and name in ("p50", "p99"):
                value /= 1000
            row.append("" if value is None else form.format(value))
        yield row


def best(found, keys):
    """The key of the fastest of them."""
    return max((key for key in keys if key in found), key=lambda key: found[key]["rate"])


class Rates(list):
    """The rate of each round. A ratio is the median of the ratios of the rounds: a disturbance affects both sides of a
    round."""

    def __truediv__(self, other):
        return statistics.median(mine / its for mine, its in zip(self, other, strict=True))


def reach(found, rounds, more):
    """Rows: what, the aim, the figure, whether it is reached; None where the row has no aim, but the figure of a program
    that does only what cannot be left out, with the same library code: that much is possible."""
    def rate(key):
        return Rates(figures["rate"] for figures in rounds[key])

    def ratio(what, of, to, least, unit=""):
        found = of / to
        return (what, f"≥ {least}{unit}", f"{found:.2f}{unit}", found >= least)

    def limit(what, of, to, unit=""):
        return (f"– possible here: {what}", "", f"{of / to:.2f}{unit}", None)

    def beside(what, of, to):
        """A comparison without an aim."""
        return (f"– {what}", "", f"{of / to:.2f}", None)

    def most(what, value, bound, unit, digits=1):
        return (what, f"≤ {bound:,} {unit}", f"{value:,.{digits}f} {unit}", value <= bound)
    alternatives = ["node", "express", "php", "flask", "webhook", "perl", "python"]
    disk = best(found, alternatives)
    memory = best(found, [f"{key} tmpfs" for key in alternatives])
    cost, (many, million) = more["cost"], more["million"]

    def added(key):
        """To the p50 of the spool's calls by one thread, ms."""
        return statistics.median(mine["p50"] - its["p50"] for mine, its in
                                 zip(rounds[key], rounds["store 1"], strict=True)) / 1000
    yield ratio("accept, ext4, against the spool's system calls alone, 16 threads each",
                rate("accept"), rate("store 16"), 0.80)
    yield limit("a null responder that does these calls, and an HMAC", rate("null store"), rate("store 16"))
    yield beside("accept, against that responder", rate("accept"), rate("null store"))
    yield ratio(f"accept, ext4, against the best alternative ({disk})", rate("accept"), rate(disk), 2.4, " ×")
    yield limit("the null responder with an HMAC that does the spool's calls", rate("null store"), rate(disk), " ×")
    yield ratio("accept, tmpfs, against the null responder", rate("accept tmpfs"), rate("null"), 0.70)
    yield limit("the null responder with an HMAC that does the spool's calls", rate("null store tmpfs"), rate("null"))
    yield limit("and that parses the event's JSON, writes a line to a log and is sandboxed", rate("null log tmpfs"),
                rate("null"))
    yield beside("accept, against that responder", rate("accept tmpfs"), rate("null log tmpfs"))
    yield ratio(f"accept, tmpfs, against the best alternative ({memory.split()[0]})",
                rate("accept tmpfs"), rate(memory), 3.5, " ×")
    yield limit("the null responder with an HMAC, which stores nothing", rate("null hmac"), rate(memory), " ×")
    yield limit("the one that does the spool's calls", rate("null store tmpfs"), rate(memory), " ×")
    yield ratio("refusals, against the null responder", rate("refusal"), rate("null"), 0.95)
    yield beside("against one with an HMAC that is scheduled as the receiver is", rate("refusal"), rate("null hmac"))
    yield ratio("duplicates, against the null responder", rate("duplicate"), rate("null"), 0.70)
    yield most("user-mode instructions per accepted event", cost["instructions"], 85_000, "", 0)
    yield most("system calls per accepted event on a kept connection", cost["system calls"], 12, "")
    yield most("of them fsync", cost["of them fsync"], 2, "")
    yield most("one connection, ext4: p50 over the spool's system calls alone", added("accept 1"), 0.2, "ms", 2)
    yield ("– possible here: the null responder with an HMAC that does these calls", "", f"{added('null store 1'):.2f} ms",
           None)
    yield ratio("classic CGI (make static) under fcgiwrap, against a C program that only prints",
                rate("cgi static"), rate("print"), 0.85)
    yield limit("a C program that stores a file and prints, also static", rate("print store"), rate("print"))
    yield beside("accept, against that program", rate("cgi static"), rate("print store"))
    yield beside("refused, which needs no disk, against the one that only prints", rate("cgi static refusal"),
                 rate("print"))
    yield beside("refused, against the one that only prints and is static, too", rate("cgi static refusal"),
                 rate("print static"))
    yield most("its process over a static /bin/true", (more["start"]["psapi"] - more["start"]["true"]) / 1000,
               0.6, "ms", 2)
    yield most("– with make static", (more["start"]["static"] - more["start"]["true"]) / 1000, 0.6, "ms", 2)
    yield ratio(f"accept with {many:,} files in events/, against an empty spool", *map(Rates, million["accept"]), 0.85)
    yield limit("the spool's system calls alone, 16 threads", *map(Rates, million["store"]))
    yield ratio("psapi drain with /bin/true, against a shell loop", more["drain"], more["loop"], 1.0)
    yield ("drain: reading and ordering alone", "≥ 50,000/s", f"{more['reading']:,.0f}/s",
           more["reading"] >= 50_000)
    yield most("proportional memory, 64 threads under load", more["memory"][0], 4, "MiB")
    yield most("– after ten times as many events", more["memory"][1], 4, "MiB")
    yield most("start to first answer", found["accept"]["start"], 10, "ms")


def write(found, rounds, more, titles, machine, arguments, seconds):
    parts = ["# Results of `make bench`", "",
             f"{time.strftime('%Y-%m-%d')}, {machine}. ext4: {harness.describe_ext4()}. Median of "
             f"{arguments.rounds} rounds of {arguments.seconds} s, 16 connections over loopback unless the "
             f"row says otherwise; {seconds / 60:.0f} minutes, load average at the end {os.getloadavg()[0]:.1f}."]
    if arguments.quick:
        parts += ["", "**A quick run: it shows that the benchmark works. The figures mean nothing.**"]
    if more:
        words = {True: "yes", False: "**no**", None: ""}
        rows = [(what, bound, value, words[good]) for what, bound, value, good in reach(found, rounds, more)]
        parts += ["", "## Reach", "", table(["", "at least / most", "found", "reached"], rows)]
    parts += ["", "## Figures", "",
              "CPU: seconds per 1,000 requests, of the program and of the web server before it, without the processes that "
              "fcgiwrap and mod_cgid start. Idle: percentage of the processors' time.", "",
              table(["", "on", *(head for head, _, _ in COLUMNS)], figures(found, titles)), ""]
    if more:
        parts += [f"psapi drain {more['drain']:.0f}/s, the shell loop {more['loop']:.0f}/s. A CGI process "
                  f"{more['start']['psapi'] / 1000:.2f} ms, with make static {more['start']['static'] / 1000:.2f} ms, "
                  f"a static /bin/true {more['start']['true'] / 1000:.2f} ms.", ""]
    return "\n".join(parts)
