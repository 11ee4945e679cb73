#!/usr/bin/python3
"""How long the page's answers take on a large spool. Exit status 1 if one takes over five times what it takes on an
empty spool and over 20 ms, or if one has no rows that must have some.

  web_scale.py [--events 1000000] [--new 100000] [--dir /tmp] [--spool DIRECTORY]

Builds a spool with that many events in events/, of which the newest so many wait in new/, and as many lines in the attempts log; or
takes one that is there (--spool). Then asks psapi-web, over FastCGI, for each view, some times, from the first request on.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import fcgi_client
from receiver import Place
from replies import parse_cgi
from sender import SECRET, signature
from web_page import WebProgram

RATIO, FLOOR_S, TIMES = 5, 0.02, 7
DAYS = 30


def iso(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def event(n, at):
    body = ('{"data":{"activatedAt":"%s","npn":"%d"},"id":"whe_%d","timestamp":"%s","type":"producersync.npn.activated"}'
            % (iso(at), 1000000 + n % 9000, n, iso(at)))
    sign = signature(SECRET, f"msg_{n:027}", int(at), body.encode()).decode()
    return ('{"webhook_id":"msg_%027d","webhook_timestamp":"%d","webhook_signature":"%s",'
            '"received_at":"%s","event":\n%s\n}\n' % (n, at, sign, iso(at), body))


def line(n, at):
    return ('{"at":"%s","outcome":"accepted","status":200,"webhook_id":"msg_%027d","type":"producersync.npn.activated",'
            '"npn":"%d","event_id":"whe_%d","remote_addr":"192.0.2.1","bytes":190,"skew_s":0,"key":"f46e5857","ms":12.345}\n'
            % (iso(at), n, 1000000 + n % 9000, n))


def build(spool, events, new):
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (spool / name).mkdir(mode=0o770)
    end = time.time()
    with open(spool / "attempts.jsonl", "w") as log:
        for n in range(events):
            at = end - DAYS * 86400 * (1 - n / events)
            path = f"{spool}/events/msg_{n:027}.json"
            with open(path, "w") as file:
                file.write(event(n, at))
            os.utime(path, times=(at, at))
            if n >= events - new:
                os.link(path, f"{spool}/new/msg_{n:027}.json")
            log.write(line(n, at))


def ask(web, path, query=""):
    """Seconds and the answer."""
    begun = time.monotonic()
    with fcgi_client.Connection(web.path, timeout=60) as connection:
        reply = parse_cgi(connection.exchange([
            (b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", f"/api/1/{path}".encode()), (b"QUERY_STRING", query.encode()),
            (b"CONTENT_LENGTH", b"0")], b""))
    return time.monotonic() - begun, reply


def views(events):
    """Name, path, query, whether rows are expected."""
    oldest, middle, early = f"msg_{0:027}", iso(time.time() - DAYS * 43200), iso(time.time() - DAYS * 64800)
    yield "overview", "overview", "", False
    yield "deliveries", "attempts", "", True
    yield "deliveries of an NPN", "attempts", "npn=1000017", True
    yield "deliveries, rejected (none)", "attempts", "outcome=rejected", False
    yield "deliveries until the middle", "attempts", f"until={middle}", True
    yield "events", "events", "", True
    yield "events waiting", "events", "status=new", True
    yield "events failed (none)", "events", "status=failed", False
    yield "events handled", "events", f"status=handled&until={early}", True
    yield "events of an NPN", "events", "npn=1000017", True
    yield "the oldest event", "event", f"id={oldest}", False
    yield "the newest event", "event", f"id=msg_{events - 1:027}", False
    yield "setup", "setup", "", False


def measure(place, events):
    """name -> (first, median, longest, rows)."""
    web = WebProgram(place)
    web.start()
    found = {}
    for name, path, query, _ in views(events):
        times, rows = [], None
        for _ in range(TIMES):
            seconds, reply = ask(web, path, query)
            times.append(seconds)
            assert reply.status in (200, 404), (name, reply.status, reply.body[:300])
            rows = len(json.loads(reply.body).get("rows", [])) if reply.status == 200 else 0
        found[name] = times[0], statistics.median(times), max(times), rows
    web.stop()
    return found


def place_at(spool):
    place = Place()
    place.settings["PSAPI_SPOOL"] = spool
    return place


def empty_spool(place):
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (place.spool.path / name).mkdir(mode=0o770)
    return place


def run(spool, events):
    """Rows: name, seconds (first, median, longest), rows, whether it is within the limits."""
    empty = empty_spool(Place())
    small = measure(empty, events)
    empty.close()
    large_place = place_at(spool)
    large = measure(large_place, events)
    large_place.close()
    for name, _, _, expected in views(events):
        first, median, longest, rows = large[name]
        good = (median <= max(RATIO * small[name][1], FLOOR_S * RATIO)) and (rows > 0 or not expected)
        yield name, first, median, longest, rows, good


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--new", type=int, default=100_000)
    parser.add_argument("--dir", default=os.environ.get("TMPDIR", "/tmp"))
    parser.add_argument("--spool", type=Path)
    arguments = parser.parse_args()
    spool = arguments.spool
    work = None
    if spool is None or not (spool / "events").exists():
        work = Path(tempfile.mkdtemp(prefix="psapi-web-scale-", dir=arguments.dir)) if spool is None else None
        spool = spool or work / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        build(spool, arguments.events, arguments.new)
    good = True
    print(f"{arguments.events} in events/, {arguments.new} in new/")
    try:
        for name, first, median, longest, rows, within in run(spool, arguments.events):
            print(f"{name:32} first {first * 1000:7.1f} ms, median {median * 1000:7.1f} ms, longest {longest * 1000:7.1f} ms, "
                  f"{rows} rows{'' if within else '  TOO MUCH'}", flush=True)
            good &= within
    finally:
        if work:
            shutil.rmtree(work)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
