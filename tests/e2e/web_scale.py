#!/usr/bin/python3
"""How long the page's answers take on a large spool. Exit status 1 if an answer has not what it must have, if the slowest of a
view takes over 0.2 s (a CSV file: 4 s, for it may look for 3), or if the median is over five times that of an empty spool
and over 100 ms.

  web_scale.py [--events 1000000] [--new 100000] [--dir /tmp] [--spool DIRECTORY]

Builds a spool with that many events in events/, of which the newest so many wait in new/, and as many lines in the attempts log; or
takes one that is there (--spool). Then asks psapi-web, over FastCGI, for each view, some times, from the first request on; the
overview and the metrics once more after a pause, when no count is fresh. `psapi metrics` has counted the log before, as psapi-check.timer
does. Then a browser opens each view of it: test_each_view_is_usable_soon.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import fcgi_client
from receiver import Place
from replies import parse_cgi
from sender import SECRET, signature
from web_page import WEB, WebProgram

RATIO, FLOOR_S, LIMIT_S, LIMIT_CSV_S, TIMES = 5, 0.1, 0.2, 4, 7
# Longer than a count of 100,000 names is fresh: web/tally.c.
PAUSE_S = 15
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
            (b"REQUEST_METHOD", b"GET"), (b"PATH_INFO", path.encode()), (b"QUERY_STRING", query.encode()),
            (b"CONTENT_LENGTH", b"0")], b""))
    return time.monotonic() - begun, reply


API = "/api/1/"


def views(events):
    """Name, path, query, and what says how much is in the answer; None: nothing must be in it."""
    oldest, newest = f"msg_{0:027}", f"msg_{events - 1:027}"
    middle, early = iso(time.time() - DAYS * 43200), iso(time.time() - DAYS * 64800)

    def rows(reply):
        return len(reply.json["rows"])

    def lines(reply):
        return len(reply.body.splitlines()) - 1

    def event(reply):
        return int(reply.status == 200 and reply.json["webhook_id"] in (oldest, newest))
    yield "overview", API + "overview", "", lambda reply: reply.json["waiting"]
    yield "deliveries", API + "attempts", "", rows
    yield "deliveries of an NPN", API + "attempts", "npn=1000017", rows
    yield "deliveries, rejected (none)", API + "attempts", "outcome=rejected", None
    yield "deliveries until the middle", API + "attempts", f"until={middle}", rows
    yield "deliveries as CSV", API + "attempts.csv", "", lines
    yield "deliveries of an NPN as CSV", API + "attempts.csv", "npn=1000017", lines
    yield "events", API + "events", "", rows
    yield "events waiting", API + "events", "status=new", rows
    yield "events failed (none)", API + "events", "status=failed", None
    yield "events handled", API + "events", f"status=handled&until={early}", rows
    yield "events of an NPN", API + "events", "npn=1000017", rows
    yield "events as CSV", API + "events.csv", "", lines
    yield "the oldest event", API + "event", f"id={oldest}", event
    yield "the newest event", API + "event", f"id={newest}", event
    yield "the newest event as JSON", API + "show", f"id={newest}", event
    yield "setup", API + "setup", "", lambda reply: len(reply.json["secrets"])
    yield "session", API + "session", "", lambda reply: "actions" in reply.json
    yield "examples", API + "examples", "", lambda reply: len(reply.json["examples"])
    yield "metrics", "/metrics", "", lines


def measure(place, events, asked=TIMES, pause_s=0):
    """name -> (seconds of each answer, the last answer)."""
    subprocess.run([WEB.parent / "psapi", "metrics"], env=place.environment(), check=True, capture_output=True)
    web = WebProgram(place)
    web.start()
    found = {}
    for again in (False, True)[:1 + (pause_s > 0)]:
        if again:
            time.sleep(pause_s)
        for name, path, query, count in views(events):
            if again and path not in (API + "overview", "/metrics"):
                continue
            times, _ = found.get(name, ([], None))
            for _ in range(1 if again else asked):
                seconds, reply = ask(web, path, query)
                times.append(seconds)
                while asked == 1 and count and count(reply) == 0 and len(times) < 50:     # a busy machine looks less far
                    seconds, reply = ask(web, path, query)
                    times.append(seconds)
                assert reply.status in (200, 404), (name, reply.status, reply.body[:300])
            found[name] = times, reply
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
    """Rows: name, seconds (first, median, longest), how much was in the answer, whether it is within the limits."""
    empty, large = empty_spool(Place()), place_at(spool)
    small = measure(empty, events)
    found = measure(large, events, pause_s=PAUSE_S)
    empty.close()
    large.close()
    for name, path, _, count in views(events):
        times, reply = found[name]
        median, longest = statistics.median(times), max(times)
        much = count(reply) if count else 0
        csv = path.endswith(".csv")
        good = longest <= (LIMIT_CSV_S if csv else LIMIT_S) and (much > 0 or not count) and (
            csv or median <= max(RATIO * statistics.median(small[name][0]), FLOOR_S))
        yield name, times[0], median, longest, much, good


def open_views(spool, events):
    """In a browser. Returns whether each is of use soon."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--long", "-k", "test_each_view_is_usable_soon",
         Path(__file__).with_name("test_web_browser.py")], check=False,
        env=os.environ | {"PSAPI_SCALE_SPOOL": str(spool), "PSAPI_SCALE_EVENTS": str(events)}).returncode == 0


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
        for name, first, median, longest, much, within in run(spool, arguments.events):
            print(f"{name:32} first {first * 1000:7.1f} ms, median {median * 1000:7.1f} ms, longest {longest * 1000:7.1f} ms, "
                  f"{much} in it{'' if within else '  TOO MUCH'}", flush=True)
            good &= within
        good &= open_views(spool, arguments.events)
    finally:
        if work:
            shutil.rmtree(work)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
