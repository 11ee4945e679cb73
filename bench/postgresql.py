#!/usr/bin/python3
"""make bench-postgresql: the PostgreSQL store, its primary and one synchronous standby on this machine.

  postgresql.py --tools DIR [--rounds N] [--seconds N] [--only ROWS] [--quick] [--out FILE]

  accept      the receiver behind nginx, 32 connections, against the same statement from a bare libpq program
  store       the store alone, 32 threads over at most 4 connections, against a connection for each thread
  drain       /bin/true for each event: two drains against one
  scale       list, and drain to its first handler, with many events

Each figure is the median of the rounds; what is compared follows each other in a round. Exit status 1: a bound is missed."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness

TOP = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TOP / "tests/e2e")]
# pylint: disable=wrong-import-position
from postgresql import Cluster
from psapi_scale import measure as metered
from receiver import BINARY

PSAPI = BINARY.parent / "psapi"
THREADS = 32
BOUNDS = {      # row -> (least ratio, what is divided by what)
    "accept": (0.8, ("accept", "bare")),
    "store": (1.2, ("store", "bare")),
    "drain": (1.5, ("two drains", "one drain")),
}
LIMIT_S, LIMIT_MIB = 10, 200
NGINX = """
daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.log; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; keepalive_requests 1000000000;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    upstream psapi {{ server unix:{dir}/psapi.sock; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param REMOTE_ADDR $remote_addr; fastcgi_pass psapi; fastcgi_keep_conn on;
        }}
    }}
}}
"""
STOP = 'date +%s.%N >"$PSAPI_TOLD"; kill -TERM $PPID'     # ends drain at its first handler
# As many events as psapi_scale.py makes files, with the same texts. The lanes are the module's: store/entry.c.
FILL = """
CREATE TABLE bench_npn AS SELECT ordinality::int - 1 AS i, lane FROM unnest('{{{lanes}}}'::bigint[])
WITH ORDINALITY AS l(lane, ordinality);
INSERT INTO psapi_event (name, received_ns, type, npn, queued, lane, when_ns, record)
SELECT format('msg_%s.json', lpad(n::text, 27, '0')), (1753397465 + n) * 1000000000::bigint,
    'producersync.npn.activated', (1000000 + n % 9000)::text, true, lane,
    (1753397465 + n::bigint * 7919 % 1000000) * 1000000000,
    convert_to(format(E'{{"webhook_id":"msg_%s","webhook_timestamp":"1753397465","webhook_signature":"v1,%s",'
        '"received_at":"2025-07-24T22:51:05.391Z","event":\\n{{"data":{{"activatedAt":"2025-07-24T22:51:05.000Z",'
        '"npn":"%s"}},"id":"whe_%s","timestamp":"2025-07-24T22:51:05.000Z","type":"producersync.npn.activated"}}\\n}}\\n',
        lpad(n::text, 27, '0'), repeat('A', 43) || '=', 1000000 + n % 9000, n), 'UTF8')
FROM generate_series(1, {events}) e(n) JOIN bench_npn b ON b.i = e.n % 9000;
DROP TABLE bench_npn;
INSERT INTO psapi_queue (name, lane, when_ns) SELECT name, lane, when_ns FROM psapi_event
WHERE received_ns / 1000000000 % {each} = 0 LIMIT {new};
ANALYZE psapi_event;
ANALYZE psapi_queue;
"""


def lane(npn):
    """FNV-1a, as a signed number."""
    value = 0xcbf29ce484222325
    for byte in f"npn {npn}".encode():
        value = (value ^ byte) * 0x100000001b3 % (1 << 64)
    return value - (1 << 64) if value >= 1 << 63 else value


def accept_statement():
    """The module's own: the literal in its source."""
    source = (TOP / "store/postgresql/accept.c").read_text()
    literals = re.search(r"accept_sql\[\] =\s*((?:\"[^\"]*\"\s*)+);", source)[1]
    return "".join(re.findall(r'"([^"]*)"', literals))


class Bench:
    def __init__(self, tools, seconds, work):
        self.tools, self.seconds, self.dir = tools, seconds, work
        self.cluster = Cluster(2, parent=work)      # on a disk: a sync takes its time
        self.cluster.database("psapi")
        (work / "secret").write_text(harness.SECRET + "\n")
        (work / "secret").chmod(0o640)
        (work / "spool").mkdir()
        (work / "conf").write_text(
            f"PSAPI_STORE={self.cluster.uri()}\nPSAPI_SPOOL={work}/spool\nPSAPI_SECRET_FILE={work}/secret\n"
            f"PSAPI_LISTEN=unix:{work}/psapi.sock\nPSAPI_LISTEN_GROUP={harness.WEB_USER or ''}\n"
            f"PSAPI_HANDLERS={work}\nPSAPI_THREADS={THREADS}\n".replace("PSAPI_LISTEN_GROUP=\n", ""))
        self.psapi("store", "init")

    def environment(self):
        return {"PATH": os.environ["PATH"], "PSAPI_CONF": str(self.dir / "conf"),
                "PSAPI_MODULE_DIR": str(BINARY.parent)}

    def psapi(self, *arguments):
        return subprocess.run([PSAPI, *arguments], env=self.environment(), check=True, capture_output=True, text=True)

    def empty(self):
        self.cluster.primary.sql("TRUNCATE psapi_event, psapi_queue, psapi_lane", "CHECKPOINT", database="psapi")

    def count(self, table="psapi_event"):
        return int(self.cluster.primary.sql(f"SELECT count(*) FROM {table}", database="psapi"))

    # ---- accept ----

    def bare(self, connections=THREADS):
        self.empty()
        host = self.cluster.primary.dir
        done = subprocess.run([self.tools / "postgresql", f"host={host} user=psapi dbname=psapi", str(connections),
                               str(self.seconds)], input=accept_statement(), check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout)
        assert figures["requests"] == self.count(), (figures, self.count())
        return figures["requests"] / figures["us"] * 1e6

    def store(self):
        """The store through its seam, without HTTP and signatures."""
        self.empty()
        done = subprocess.run([self.tools / "store-postgresql", str(THREADS), str(self.seconds), self.dir / "spool"],
                              env=self.environment() | {"PSAPI_STORE": self.cluster.uri()}, check=True,
                              capture_output=True, text=True)
        figures = json.loads(done.stdout)
        assert figures["requests"] == self.count(), (figures, self.count())
        return figures["requests"] / figures["us"] * 1e6

    def accept(self):
        """The whole receiver: TCP, nginx, FastCGI, HMAC, JSON, store, attempts log."""
        self.empty()
        port = harness.free_port()
        (self.dir / "nginx.conf").write_text(NGINX.format(
            dir=self.dir, port=port, user=f"user {harness.WEB_USER};" if harness.WEB_USER else ""))
        requests = harness.Requests(self.tools, self.dir / "requests", "/", 6000 * self.seconds)
        processes = [harness.Process([BINARY], self.dir / "log", env=self.environment()),
                     harness.Process(["nginx", "-c", self.dir / "nginx.conf", "-e", self.dir / "nginx.log"],
                                     self.dir / "log")]
        try:
            probe = harness.Requests(self.tools, self.dir / "probe", "/", 1).first()
            harness.wait_until(lambda: harness.post(port, probe) == 200, f"an answer; see {self.dir}/log")
            figures = harness.wrk(port, requests, THREADS, self.seconds)
        finally:
            for process in processes:
                process.end()
        if figures["refused"] or figures["broken"]:
            raise harness.Failed(f"{figures}: {(self.dir / 'log').read_text()[-2000:]}")
        assert figures["requests"] <= self.count() <= figures["requests"] + THREADS + 1, (figures, self.count())
        return figures["requests"] / figures["us"] * 1e6

    def fill(self, events, new):
        """Without the standby's confirmation, which is not measured here."""
        self.empty()
        lanes = ",".join(str(lane(1000000 + n)) for n in range(9000))
        statements = FILL.format(events=events, new=new, each=events // new, lanes=lanes)
        self.cluster.primary.psql("-f", "-", database="psapi", input="SET synchronous_commit = local;\n" + statements)
        waiting = self.count("psapi_queue")
        assert waiting == new, waiting

    # ---- drain ----

    def drains(self, count, events):
        self.fill(events, events)
        begun = time.monotonic()
        running = [subprocess.Popen([PSAPI, "drain", "--", "/bin/true"], env=self.environment()) for _ in range(count)]
        statuses = [process.wait() for process in running]
        seconds = time.monotonic() - begun
        left = self.count("psapi_queue")
        assert statuses == [0] * count and left == 0, (statuses, left)
        return events / seconds

    # ---- scale ----

    def scale(self, events, new):
        """(what, seconds, MiB) of drain to its first handler, and of list."""
        self.fill(events, new)
        told = self.dir / "told"
        for what, arguments in (("drain, to its first handler", ["drain", "--", "sh", "-c", STOP]), ("list", ["list"]),
                                ("roster", ["roster"])):
            status, begun, seconds, memory, _ = metered(arguments, self.dir / "spool", told, **self.environment())
            assert status == 0, (what, status)
            if what.startswith("drain"):
                seconds = float(told.read_text()) - begun
            yield what, seconds, memory

    def close(self):
        self.cluster.close()


def rounds_of(bench, arguments):
    """Row -> the rates of all rounds."""
    events = 200 if arguments.quick else 3000
    jobs = {"bare": bench.bare, "bare, 4 connections": lambda: bench.bare(4), "store": bench.store, "accept": bench.accept,
            "one drain": lambda: bench.drains(1, events), "two drains": lambda: bench.drains(2, events)}
    jobs = {key: job for key, job in jobs.items() if re.search(arguments.only, key)}
    rates = {}
    for number in range(arguments.rounds):
        for key in list(jobs)[::-1 if number % 2 else 1]:
            rates.setdefault(key, []).append(jobs[key]())
            print(f"round {number + 1}: {key:12} {rates[key][-1]:8.0f}/s", file=sys.stderr, flush=True)
    return rates


def write(rates, scale, arguments):
    """The table, and whether all is within its bound."""
    found = {key: statistics.median(values) for key, values in rates.items()}
    lines = ["| row | rate, /s |", "| --- | ---: |"] + [f"| {key} | {rate:,.0f} |" for key, rate in found.items()]
    lines += ["", "| ratio | is | bound |", "| --- | ---: | ---: |"]
    good = True
    for key, (least, (upper, lower)) in BOUNDS.items():
        if not {upper, lower} <= set(rates):
            continue
        ratio = statistics.median(a / b for a, b in zip(rates[upper], rates[lower]))
        good &= ratio >= least or arguments.quick
        lines.append(f"| {upper} / {lower} | {ratio:.2f} | ≥ {least} |")
    lines += ["", "| psapi | seconds | MiB | bound |", "| --- | ---: | ---: | --- |"]
    for what, seconds, memory in scale:
        good &= seconds <= LIMIT_S and memory <= LIMIT_MIB
        lines.append(f"| {what} | {seconds:.1f} | {memory:.0f} | {LIMIT_S} s, {LIMIT_MIB} MiB |")
    return "\n".join(lines) + "\n", good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", default="", help="only the rows that match this regular expression")
    parser.add_argument("--quick", action="store_true", help="only shows that it works")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = arguments.seconds = 1
    with tempfile.TemporaryDirectory(prefix="psapi-bench-") as directory:
        os.chmod(directory, 0o755)
        bench = Bench(arguments.tools.resolve(), arguments.seconds, Path(directory))
        try:
            rates = rounds_of(bench, arguments)
            scale = [] if arguments.only else \
                list(bench.scale(*((20_000, 2_000) if arguments.quick else (1_000_000, 100_000))))
        finally:
            bench.close()
    text, good = write(rates, scale, arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
