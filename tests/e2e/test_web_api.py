"""The page's API: what it answers, what it refuses, its headers; behind nginx and Apache, over both stores."""

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

import fcgi_client
import strace
import web_scale
from psapi_command import Desk, body, updates
from receiver import BINARY, ROOT, SANITIZED, wait_for
from replies import parse_cgi
from sender import OTHER_SECRET, signed
from servers import Socket
from web_page import ACTIONS, SAME_ORIGIN, TRACES, USER, NginxPage, WebProgram, page_of
from web_page import nginx, page     # noqa: F401  fixtures

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                               "require-trusted-types-for 'script'",
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin"}
DATA = ("session", "overview", "attempts", "events", "event?id=nobody", "show?id=nobody", "examples", "setup",
        "attempts.csv", "events.csv")
POSTS = ("retry", "replay", "done", "discard", "send")
FILES = ("", "app.js", "style.css", "icon.svg", "list.js")


class Web:
    """psapi-web without a web server: every meta-variable is the test's."""

    def __init__(self, place, **settings):
        for name in ("new", "events", "failed", "state", "hold", "tmp"):    # as a receiver leaves them
            (place.spool.path / name).mkdir(mode=0o2770, exist_ok=True)
        self.program = WebProgram(place, **settings)
        self.program.start()

    def ask(self, method="GET", path="/", query="", body=b"", **variables):
        pairs = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query, "CONTENT_LENGTH": len(body)} | variables
        with fcgi_client.Connection(self.program.path, timeout=20) as connection:
            return parse_cgi(connection.exchange(
                [(name.encode(), value if isinstance(value, bytes) else str(value).encode())
                 for name, value in pairs.items() if value is not None], body))


@pytest.fixture
def web(place):
    yield Web(place, **ACTIONS)


def deliver(place, *requests):
    with Socket(place) as server:
        for request in requests:
            server.send(request)
        server.receiver.stop()
        place.receivers.remove(server.receiver)
    return [request.header("webhook-id").decode() for request in requests]


# ---- what it answers ----

@pytest.mark.each_store
def test_rows_are_those_of_the_commands(place):
    """One contract: the keys and values of `psapi attempts --json`, `list --json`, `show --json`."""
    desk = Desk(place)
    ids = desk.deliver_bodies(body(1), body(2, "77"), updates(3))
    web = Web(place)
    shown = desk.rows("attempts")[::-1]
    wait_for(lambda: json.loads(web.ask(path="/api/1/attempts").body)["rows"] == shown, "all copies have arrived")
    listed = desk.rows("list", "--all")[::-1]
    assert json.loads(web.ask(path="/api/1/events").body)["rows"] == listed
    assert json.loads(web.ask(path="/api/1/events", query="status=new").body)["rows"] == listed
    show = web.ask(path="/api/1/show", query=f"id={ids[1]}").body
    assert json.loads(show) == desk.rows("show", ids[1])[0]
    event = json.loads(web.ask(path="/api/1/event", query=f"id={ids[1]}").body)
    assert event["verified"] == {"good": True, "key": shown[0]["key"]} and event["deliveries_whole"]
    assert [one["outcome"] for one in event["deliveries"]] == ["accepted"]
    assert json.loads(web.ask(path="/api/1/setup").body)["secrets"] == desk.rows("secret", "list")


@pytest.mark.each_store
def test_filters_and_pages(place):
    desk = Desk(place)
    ids = desk.deliver_bodies(*(body(n, str(n % 3)) for n in range(12)), updates(20))
    desk.handler("producersync.npn", '[ "$PSAPI_NPN" = 0 ] && { echo "no room" >&2; exit 1; }; exit 0\n')
    desk.handler("producersync.updates_available", "exit 75\n")
    desk.drain(expect=None)
    web = Web(place)

    def found(path, **query):
        rows, after = [], ""
        while True:
            reply = web.ask(path=f"/api/1/{path}", query="&".join(f"{k}={v}" for k, v in (query | {"after": after}).items() if v))
            assert reply.status == 200, reply
            answer = json.loads(reply.body)
            rows += [row["webhook_id"] for row in answer["rows"]]
            assert len(answer["rows"]) <= int(query.get("limit", 50))
            if "next" not in answer:
                return rows
            after = answer["next"]

    newest = ids[::-1]
    # A shared store's copies of the attempts logs come later.
    logged = wait_for(lambda: [one for one in newest if one in found("attempts")] == newest and newest, "all lines are there")
    for limit in (1, 5, 50):
        assert found("events", limit=limit) == newest
        assert found("attempts", limit=limit) == logged
    assert found("events", npn=1) == [i for n, i in reversed(list(enumerate(ids[:12]))) if n % 3 == 1]
    assert found("attempts", npn=1, limit=2) == [one for one in found("events", npn=1) if one in logged]
    assert found("events", type="producersync.updates_available") == [ids[12]]
    assert found("events", type="producersync") == newest and found("events", type="producersync.np") == []
    assert found("events", status="failed", limit=2) == [i for n, i in reversed(list(enumerate(ids[:12]))) if n % 3 == 0]
    assert found("events", status="waiting") == [ids[12]]
    assert found("events", status="handled") == [i for n, i in reversed(list(enumerate(ids[:12]))) if n % 3]
    assert found("events", status="failed", reason="EXIT STATUS 1") and not found("events", status="failed", reason="x y")
    assert found("events", id=ids[4]) == [ids[4]] and found("attempts", id=logged[4]) == [logged[4]] and found("events", id="nobody") == []
    assert found("attempts", outcome="rejected") == []
    assert found("events", since="1h") == newest and found("events", until="1h") == []
    assert found("attempts", until="1h") == [] and found("attempts", since="1h") == logged
    for path in ("attempts", "events"):
        # Of a shared store such a cursor is a time.
        assert place.store != "spool" or web.ask(path=f"/api/1/{path}", query="after=17.99999999999").status == 410
        assert web.ask(path=f"/api/1/{path}", query="after=l17.x").status == 410


def test_numbers_are_those_of_the_log(place):
    """Not the nearest that a processor knows: 0.088999999999999996."""
    [webhook_id] = Desk(place).deliver_bodies(body(1))
    log = place.spool.path / "attempts.jsonl"
    log.write_text(re.sub('"ms":[0-9.]+', '"ms":0.089', log.read_text()))
    web = Web(place)
    for path, query in (("attempts", ""), ("event", f"id={webhook_id}")):
        assert re.findall(b'"ms":[^,}]*', web.ask(path=f"/api/1/{path}", query=query).body) == [b'"ms":0.089'], path


def test_until_finds_its_place_in_a_long_log(place):
    """By halving, not by reading: every minute of a day is found."""
    begin = time.time() - 86400
    lines = [web_scale.line(n, begin + n * 60) for n in range(1440)]
    (place.spool.path / "attempts.jsonl.1").write_text("".join(lines[:700]))
    (place.spool.path / "attempts.jsonl").write_text("".join(lines[700:]))
    web = Web(place)
    for n in [0, 1, 2, 698, 699, 700, 701, 702, 1000, 1438, 1439, *range(17, 1440, 97)]:
        query = f"limit=1&until={web_scale.iso(begin + n * 60 + 30)}"
        rows = json.loads(web.ask(path="/api/1/attempts", query=query).body)["rows"]
        assert [row["webhook_id"] for row in rows] == [f"msg_{n:027}"], n


def test_overview(place):
    desk = Desk(place)
    web = Web(place)
    first = json.loads(web.ask(path="/api/1/overview").body)
    assert (first["waiting"], first["failed"], first["causes"]) == (0, 0, []) and first["history"]["complete"]
    ids = desk.deliver_bodies(body(1), updates(2))
    time.sleep(0.01)    # of two in a millisecond, either is the last
    ids += desk.deliver_bodies(b'{"no":"event"}')
    deliver(place, signed(secrets=[OTHER_SECRET]))

    def counted():
        data = json.loads(web.ask(path="/api/1/overview").body)
        return data if data["waiting"] == 2 else None
    data = wait_for(counted, "what waits is counted anew")
    assert (data["failed"], data["held"]) == (1, 0) and data["oldest"]
    history = data["history"]
    assert (history["hours"][-1]["accepted"] + history["hours"][-2]["accepted"], history["run_date"]) == (3, "2025-07-24")
    assert sum(one["rejected"] for one in history["hours"]) == 1
    assert (history["last_daily"]["webhook_id"], history["last_accepted"]["webhook_id"]) == (ids[1], ids[2])
    assert data["causes"] == desk.rows("list", "--failed", "--by-cause") and data["causes"][0]["count"] == 1
    # A process that begins later counts the same.
    web.program.stop()
    again = json.loads(Web(place).ask(path="/api/1/overview").body)
    assert again | {"disk": None} == data | {"disk": None}


@TRACES
def test_an_answer_does_not_wait_for_a_count(place):
    """A listing that is slow: the first answer says so much as was seen, a later one all of it, as do the metrics. After an
    action the numbers of before it are not answered any more."""
    [webhook_id] = Desk(place).deliver_bodies(body(1))
    for n in range(599):
        os.link(place.spool.path / f"new/{webhook_id}.json", place.spool.path / f"new/{n}.json")
    web = Web(place, **ACTIONS)

    def overview():
        return json.loads(web.ask(path="/api/1/overview").body)

    def waiting():
        lines = web.ask(path="/metrics").body.decode().splitlines()
        assert [line[-2:] for line in lines if line.startswith("psapi_store_up")] == [" 1"]
        return [line.split()[1] for line in lines if line.startswith("psapi_events_waiting{")]
    with strace.Attached(web.program.pid, "getdents64", "delay_enter=30000", "1+", place.dir / "strace.log"):
        first = overview()
        assert (first["waiting"], first["waiting_at_least"], first["failed"]) == (256, True, 0) and "oldest" not in first
        data = wait_for(lambda: (data := overview())["waiting"] == 600 and data, "all are counted")
        assert "waiting_at_least" not in data and data["oldest"]
        done = web.ask("POST", "/api/1/done", body=json.dumps({"ids": [webhook_id]}).encode(), **GOOD,
                       HTTP_SEC_FETCH_SITE="same-origin")
        assert json.loads(done.body)["moved"] == 1, done.body
        assert overview()["waiting"] < 600
        wait_for(lambda: overview()["waiting"] == 599, "all are counted anew")
    place.receivers.remove(web.program)
    web.program.stop()
    web = Web(place)
    with strace.Attached(web.program.pid, "getdents64", "delay_enter=30000", "1+", place.dir / "strace.log"):
        assert waiting() == []
        wait_for(lambda: waiting() == ["599"], "all are counted")


@TRACES
def test_an_answer_does_not_wait_for_new_lines(place):
    """A log that is slow to read, and has grown: what is not counted yet is said, and counted after the answer."""
    (place.spool.path / "attempts.jsonl").write_text(web_scale.line(0, time.time()))
    web = Web(place)

    def history():
        return json.loads(web.ask(path="/api/1/overview").body)["history"]
    wait_for(lambda: history()["complete"], "all is counted")
    with strace.Attached(web.program.pid, "pread64", "delay_enter=30000", "1+", place.dir / "strace.log"):
        with open(place.spool.path / "attempts.jsonl", "a") as log:
            log.writelines(web_scale.line(n, time.time()) for n in range(1, 3000))
        first = history()
        assert not first["complete"] and "since" not in first and sum(one["accepted"] for one in first["hours"]) < 1000
        last = wait_for(lambda: (data := history())["complete"] and data, "all is counted")
        assert sum(one["accepted"] for one in last["hours"]) == 3000


@TRACES
def test_the_first_hour_is_whole(place):
    """Also where the walk through the log was interrupted: what came in it over 24 hours ago counts."""
    wait_for(lambda: time.time() % 3600 < 3585, "the hour does not end meanwhile")
    now = time.time()
    first = (now // 3600 - 24) * 3600
    (place.spool.path / "attempts.jsonl").write_text(web_scale.line(0, first) + "".join(
        web_scale.line(n, now - 300 + n).replace("npn.activated", "updates_available") for n in range(1, 300)))
    web = Web(place)

    def history():
        return json.loads(web.ask(path="/api/1/overview").body)["history"]
    with strace.Attached(web.program.pid, "pread64", "delay_enter=100000", "1+", place.dir / "strace.log"):
        assert not history()["complete"]
    hours = wait_for(lambda: (data := history())["complete"] and not data["searching"] and data["hours"], "all is counted")
    assert hours[0]["accepted"] == 1 and sum(one["accepted"] for one in hours) == 300


def test_causes_of_many_failures(place):
    """Of more than are looked at, the answer says of how many; of more than can be sorted, that they are too many."""
    web, failed = Web(place), place.spool.path / "failed"
    for n in range(2100):
        (failed / f"msg_{n:027}.json").write_text(web_scale.event(n, 1_700_000_000 + n))
        os.link(failed / f"msg_{n:027}.json", place.spool.path / f"events/msg_{n:027}.json")
        if n == 4:
            data = json.loads(web.ask(path="/api/1/overview").body)
            assert data["causes"][0]["count"] == 5 and not {"causes_of", "causes_too_many"} & data.keys()
    data = wait_for(lambda: (found := json.loads(web.ask(path="/api/1/overview").body))["failed"] == 2100 and found,
                    "all are counted")
    assert 0 < data["causes_of"] <= 2000
    assert sum(one["count"] for one in data["causes"]) == data["causes_of"] and "causes_too_many" not in data
    for n in range(8000):
        os.link(failed / f"msg_{0:027}.json", failed / f"{n}.json")
    data = json.loads(web.ask(path="/api/1/overview").body)
    assert data["causes_too_many"] and data["causes"] == [] and "causes_of" not in data


def test_verdict(place):
    desk = Desk(place)
    desk.deliver_bodies(body(1))
    done = desk.run("check", "--json", expect=None)
    web = Web(place)
    for path in ("overview", "setup"):
        assert json.loads(web.ask(path=f"/api/1/{path}").body)["verdict"] == json.loads(done.stdout)


def test_setup_has_the_last_results_of_doctor(place):
    """With their time; no results, while nobody has asked or the note is damaged."""
    desk, web = Desk(place), Web(place)
    assert "doctor" not in web.ask(path="/api/1/setup").json
    done = desk.run("doctor", "--json", expect=None)
    found = web.ask(path="/api/1/setup").json["doctor"]
    assert found["rows"] == [json.loads(line) for line in done.stdout.splitlines()]
    assert abs(found["at"] - time.time()) < 60 and {row["ok"] for row in found["rows"]} >= {True, None}
    note = place.spool.path / "state" / "doctor"
    for damaged in ("{", "[]", '{"at":1,"rows":{}}', '{"at":"x","rows":[]}'):
        note.write_text(damaged)
        assert "doctor" not in web.ask(path="/api/1/setup").json
    note.unlink()


def test_setup_says_what_cannot_be_read(place):
    """No secrets and secrets that cannot be read are not the same."""
    place.write_secret()
    web = Web(place)
    data = web.ask(path="/api/1/setup").json
    assert (data["secrets"], data["held"]) == ([], []) and not {"secrets_error", "held_error"} & data.keys()
    place.secret_file.unlink()
    assert "psapi secret add" in web.ask(path="/api/1/setup").json["secrets_error"]
    place.secret_file.mkdir()
    assert str(place.secret_file) in web.ask(path="/api/1/setup").json["secrets_error"]


@TRACES
def test_setup_says_that_held_requests_cannot_be_listed(place, web):
    with strace.Attached(web.program.pid, "getdents64", "error=EIO", "1+", place.dir / "strace.log"):
        data = web.ask(path="/api/1/setup").json
    assert "hold" in data["held_error"] and data["held"] == [] and "secrets_error" not in data


def test_metrics(place):
    desk = Desk(place)
    desk.deliver_bodies(body(1))
    reply = Web(place).ask(path="/metrics")
    assert reply.status == 200 and reply.headers["content-type"].startswith("text/plain; version=0.0.4")

    def names(text):
        return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    assert names(reply.body.decode()) == names(desk.run("metrics").stdout)


def test_payload_is_not_written_anew(place):
    text = b'{ "type":"x.y",\t"data":{"a":1.10,"b":1e5,"a":"\\u00e9\xc3\xa9"}, "id":"i","timestamp":"2025-07-25T15:53:01.579Z" }'
    [webhook_id] = Desk(place).deliver_bodies(text)
    reply = Web(place).ask(path="/api/1/event", query=f"id={webhook_id}")
    event = json.loads(reply.body)
    assert '"a": 1.10,' in event["payload"] and '"b": 1e5' in event["payload"] and "\\u00e9é" in event["payload"]
    assert b'"a":1.10,"b":1e5' in reply.body


def test_csv(place):
    """What is filtered, without payloads; no cell is a formula."""
    hostile = '=HYPERLINK("http://x","y")'
    [webhook_id, _] = Desk(place).deliver(signed(body(1, "+1-2"), webhook_id=hostile), signed(body(2, "77")))
    web = Web(place)
    for path, columns in (("attempts.csv", "at,outcome,status,"), ("events.csv", "received_at,status,type,npn,")):
        reply = web.ask(path=f"/api/1/{path}", query="npn=%2B1-2")
        assert reply.headers["content-type"] == "text/csv; charset=utf-8"
        assert reply.headers["content-disposition"].startswith('attachment; filename="')
        text = reply.body.decode()
        assert text.startswith(columns) and text.endswith("\n")
        [row] = csv.DictReader(io.StringIO(text))
        assert (row["webhook_id"], row["npn"]) == ("'" + webhook_id, "'+1-2")


def test_csv_says_that_it_is_a_part(place):
    (place.spool.path / "attempts.jsonl").write_text("".join(web_scale.line(n, time.time()) for n in range(10_001)))
    web = Web(place)
    for query, rows, name, word in (("", 10_000, "deliveries-part.csv", "part"), ("npn=1000001", 2, "deliveries.csv", "all")):
        reply = web.ask(path="/api/1/attempts.csv", query=query)
        assert (reply.headers["content-disposition"], reply.headers["psapi-rows"]) == (f'attachment; filename="{name}"', word)
        assert len(list(csv.DictReader(io.StringIO(reply.body.decode())))) == rows
    assert web.ask(path="/api/1/events.csv").headers["content-disposition"] == 'attachment; filename="events.csv"'


def test_etag(place):
    web = Web(place)
    for path in ("/api/1/session", "/api/1/attempts", "/", "/app.js"):
        first = web.ask(path=path)
        seen = web.ask(path=path, HTTP_IF_NONE_MATCH=first.headers["etag"])
        assert (seen.status, seen.body, seen.headers["etag"]) == (304, b"", first.headers["etag"])
        assert web.ask(path=path, HTTP_IF_NONE_MATCH="W/" + first.headers["etag"]).status == 304
        assert web.ask(path=path, HTTP_IF_NONE_MATCH='"other"').body == first.body
    before = web.ask(path="/api/1/attempts").headers["etag"]
    deliver(place, signed())
    assert web.ask(path="/api/1/attempts", HTTP_IF_NONE_MATCH=before).status == 200


# ---- headers, methods, paths ----

def test_headers(page):
    for path in [*FILES, *(f"api/1/{name}" for name in DATA), "metrics", "nothing", "api/1/retry", "api/1/events?x=1"]:
        status, headers, content = page.request("GET", path, headers=SAME_ORIGIN)
        assert HEADERS.items() <= headers.items(), (path, headers)
        assert headers["content-type"] and len(content) > 1, path
        assert path in FILES or headers["cache-control"] == "no-store", path
        assert status == (405 if path == "api/1/retry" else 400 if "?x" in path else 404 if path == "nothing" or
                          "nobody" in path else 200), path


def test_only_who_has_signed_in(page):
    for user in (None, "mallory"):
        for path in ("", "app.js", "api/1/events", "metrics"):
            assert page.request("GET", path, user=user)[0] == 401


def test_head(page):
    for path in ("", "app.js", "api/1/setup", "nothing"):
        _, headers, content = page.request("GET", path, headers=SAME_ORIGIN)
        status, head, nothing = page.request("HEAD", path, headers=SAME_ORIGIN)
        assert nothing == b"" and status in (200, 404)
        assert head.get("content-length") in (str(len(content)), None) and head["content-type"] == headers["content-type"]


def test_methods(page):
    for path in ("", "app.js", "api/1/events", "nothing"):
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            status, headers, _ = page.request(method, path, headers=SAME_ORIGIN)
            assert (status, headers["allow"]) == (405, "GET, HEAD"), (method, path)
    for name in POSTS:
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            status, headers, _ = page.request(method, f"api/1/{name}", headers=SAME_ORIGIN)
            assert (status, headers["allow"]) == (405, "POST"), (method, name)


@pytest.mark.parametrize("path", [
    "../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "static/../app.js/..", "app.js%00.html",
    "app.js/", "//app.js", "APP.JS", "api/1/../1/events", "api/1/events/", "api/1//events", "api/2/events", "app.js%0a",
    "api/1/events%3Fid=1", ".%5c..%5capp.js", "web/static/app.js", "%252e%252e/app.js", "api"])
def test_traversal(nginx, place, path):
    """Only names of the table: whatever is made of the path on its way, no other file is an answer."""
    with socket.create_connection(("127.0.0.1", nginx.port)) as client:
        client.sendall(f"GET /psapi/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                       f"Authorization: {nginx.authorization(USER)['Authorization']}\r\n\r\n".encode())
        reply = nginx.client.answer(client, "GET")
    known = [(ROOT / "web/static" / (name or "index.html")).read_bytes() for name in FILES]
    assert reply.status in (400, 404, 301) or reply.body in known or b'"rows"' in reply.body, reply
    assert b"root:" not in reply.body


def test_paths_as_they_are(web):
    for path in ("/../app.js", "/./app.js", "/app.js/", "/app.js\n", "//", "/api/1/events/..", "app.js", "/index.html",
                 "/api/1/event/../events", b"/\xff", "/%61pp.js"):
        assert web.ask(path=path).status == 404, path
    # Nothing behind the page's own path: its files would be looked for beside it.
    for path in ("", None):
        reply = web.ask(path=path)
        assert (reply.status, reply.json) == (404, {"error": "add / to the address: the page is below it"})


@pytest.mark.parametrize("query", [
    "x=1", "type=a&type=b", "npn=%", "npn=%1", "npn=%zz", "npn=%00", "npn=%0a", "npn=%ff", "npn=" + "a" * 601, "since=yesterday",
    "until=2025-13-01", "limit=-1", "limit=x", "limit=1x", "a" * 4097, "=1", "status=odd", "status=new,odd", "outcome[]=x"])
def test_queries_refused(web, query):
    reply = web.ask(path="/api/1/events", query=query)
    assert reply.status == 400 and list(reply.json) == ["error"], (query, reply)


@pytest.mark.parametrize("query", ["", "&&", "npn", "npn=", "limit=0", "limit=99999999999999999999", "npn=%41+b", "since=1h&until=0s"])
def test_queries_taken(web, query):
    assert web.ask(path="/api/1/events", query=query).status == 200


def test_no_text_of_a_request_comes_back_as_html(web):
    for path in ("/<script>alert(1)</script>", "/api/1/<b>"):
        reply = web.ask(path=path, query="<script>")
        assert reply.headers["content-type"] == "application/json" and b"<" not in reply.body


# ---- who may ask, who may act ----

@pytest.mark.parametrize("name", DATA)
def test_data_for_other_sites_is_refused(web, name):
    path, _, query = name.partition("?")
    for site in ("cross-site", "same-site", "nonsense"):
        assert web.ask(path=f"/api/1/{path}", query=query, HTTP_SEC_FETCH_SITE=site).status == 403
    for allowed in ({}, {"HTTP_SEC_FETCH_SITE": "none"}, {"HTTP_SEC_FETCH_SITE": "same-origin"}):
        assert web.ask(path=f"/api/1/{path}", query=query, **allowed).status in (200, 404)


GOOD = {"CONTENT_TYPE": "application/json", "HTTP_HOST": "h.example:8443", "REMOTE_USER": "alice"}


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("site, status", [
    ({"HTTP_SEC_FETCH_SITE": "same-origin"}, None), ({"HTTP_ORIGIN": "https://h.example:8443"}, None),
    ({"HTTP_ORIGIN": "http://H.example:8443"}, None), ({}, 403), ({"HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
    ({"HTTP_SEC_FETCH_SITE": "same-site"}, 403), ({"HTTP_SEC_FETCH_SITE": "none"}, 403),
    ({"HTTP_SEC_FETCH_SITE": "cross-site", "HTTP_ORIGIN": "https://h.example:8443"}, 403),
    ({"HTTP_ORIGIN": "https://evil.example"}, 403), ({"HTTP_ORIGIN": "null"}, 403), ({"HTTP_ORIGIN": "https://h.example"}, 403),
    ({"HTTP_ORIGIN": "https://h.example:8443.evil.example"}, 403), ({"HTTP_ORIGIN": "ftp://h.example:8443"}, 403),
    ({"HTTP_ORIGIN": "https://evil@h.example:8443"}, 403), ({"HTTP_REFERER": "https://h.example:8443/psapi/"}, 403)])
def test_actions_come_from_the_page_alone(web, name, site, status):
    reply = web.ask("POST", f"/api/1/{name}", body=b"{}", **(GOOD | site))
    assert reply.status == (status or (409 if name == "send" else 400)), reply      # {} names nothing


@pytest.mark.parametrize("name", POSTS)
def test_actions_refused(web, place, name):
    same = GOOD | {"HTTP_SEC_FETCH_SITE": "same-origin"}

    def status(body=b'{"ids":["x"],"names":["x"],"type":"x"}', **variables):
        return web.ask("POST", f"/api/1/{name}", body=body, **(same | variables)).status
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
        assert status(CONTENT_TYPE=kind) == 415, kind
    assert status(CONTENT_TYPE="application/json; charset=utf-8") != 415
    assert status(REMOTE_USER="") == 403
    assert web.ask("POST", f"/api/1/{name}", body=b"{}", HTTP_REMOTE_USER="root", HTTP_X_REMOTE_USER="root",
                   HTTP_AUTHORIZATION="Basic cm9vdDo=", **{k: v for k, v in same.items() if k != "REMOTE_USER"}).status == 403
    assert status(b" " * 65537) == 413
    if name != "send":
        for wrong in (b"", b"[", b"[]", b"null", b'{"ids":[],"names":[]}', b'{"ids":[1],"names":[1]}', b'{"ids":"x","names":"x"}',
                      b'{"ids":{"0":"x"},"names":{}}', json.dumps({"ids": ["x"] * 1001, "names": ["x"] * 1001}).encode(),
                      json.dumps({"ids": ["x" * 601], "names": ["x" * 601]}).encode(), b'{"ids":["x"],"ids":["y"],"names":[]}',
                      b"[" * 60000):
            assert status(wrong) == 400, wrong[:60]
    place.receivers.remove(web.program)
    web.program.stop()
    reading = Web(place)        # PSAPI_WEB_ACTIONS=no
    assert reading.ask("POST", f"/api/1/{name}", body=b"{}", **same).status == 403
    session = json.loads(reading.ask(path="/api/1/session", REMOTE_USER="alice").body)
    assert (session["actions"], session["enabled"], session["user"]) == (False, False, "alice")


@pytest.mark.each_store
def test_actions(place):
    """retry, replay, done: what the commands do; each is logged with the user's name."""
    desk = Desk(place)
    ids = desk.deliver_bodies(*(body(n, str(n)) for n in range(3)))
    desk.handler("producersync.npn", "exit 1\n")
    desk.drain(expect=None)
    web = Web(place, **ACTIONS)

    def post(name, *names):
        reply = web.ask("POST", f"/api/1/{name}", body=json.dumps({"ids": names}).encode(), **GOOD,
                        HTTP_SEC_FETCH_SITE="same-origin")
        assert reply.status == 200, reply
        answer = json.loads(reply.body)
        return answer["moved"], len(answer["refused"])

    def statuses():
        return {row["webhook_id"]: row["status"] for row in desk.rows("list", "--all")}
    assert set(statuses().values()) == {"failed"}
    assert post("retry", ids[0], ids[0], "nobody", "../../etc/passwd") == (1, 3)
    assert post("done", ids[1]) == (1, 0) and post("replay", ids[2]) == (0, 1)
    assert statuses() == dict(zip(ids, ("new", "handled", "failed")))
    assert post("replay", ids[1]) == (1, 0) and post("retry", ids[1]) == (0, 1)
    assert statuses()[ids[1]] == "new"
    log = web.program.log()
    assert f"psapi-web: user alice: retry {ids[0]}\n" in log and f"psapi-web: user alice: done {ids[1]}\n" in log
    assert f"psapi-web: user alice: replay refused: {ids[2]}: " in log


@pytest.mark.spool_only("drains of a shared store are never busy")
def test_action_while_a_drain_runs(place, web):
    desk = Desk(place)
    [webhook_id] = desk.deliver_bodies(body(1))
    desk.gate("go")
    desk.handler("producersync.npn", NOTE_AND_WAIT)
    drain = desk.start("drain")
    desk.wait_for_lines(1)
    reply = web.ask("POST", "/api/1/done", body=json.dumps({"ids": [webhook_id]}).encode(), **GOOD,
                    HTTP_SEC_FETCH_SITE="same-origin")
    assert reply.status == 409 and "drain" in reply.json["error"]
    desk.open_gate("go")
    assert drain.wait(20) == 0


NOTE_AND_WAIT = 'echo x >>"$PSAPI_TOLD/seen"\nread line <"$PSAPI_TOLD/go"\n'


def test_log_lines_cannot_be_forged(place, web):
    web.ask("POST", "/api/1/done", body=json.dumps({"ids": ["x\npsapi-web: user root: retry all", "y, user root"]}).encode(),
            **(GOOD | {"REMOTE_USER": "a\nb"}), HTTP_SEC_FETCH_SITE="same-origin")
    log = web.program.log()
    assert "psapi-web: user a\\x0ab: done refused: x\\x0apsapi-web: user root: retry all: " in log
    assert "\npsapi-web: user a\\x0ab: done refused: y, user root: " in log


def test_discard(place):
    place.write_secret()
    requests = [signed(body(n)) for n in range(2)]
    deliver(place, *requests)
    web = Web(place, **ACTIONS)
    held = json.loads(web.ask(path="/api/1/setup").body)["held"]
    assert [one["webhook_id"] for one in held] == [one.header("webhook-id").decode() for one in requests]

    def discard(*names):
        return json.loads(web.ask("POST", "/api/1/discard", body=json.dumps({"names": names}).encode(), **GOOD,
                                  HTTP_SEC_FETCH_SITE="same-origin").body)["moved"]
    assert discard("../attempts.jsonl", "../lock", "nobody", "") == 0
    assert discard(held[0]["name"]) == 1 and discard(held[0]["name"]) == 0
    assert [one["name"] for one in json.loads(web.ask(path="/api/1/setup").body)["held"]] == [held[1]["name"]]
    assert place.spool.attempts() and f"user alice: discard held request {held[0]['name']}" in web.program.log()


def test_send(page):
    """The example goes out through the web server, and its reply comes back."""
    for example in page.get("examples")["examples"]:
        answer = page.post("send", {"type": example["type"]})
        assert answer["status"] == 200 and json.loads(answer["body"]) == {"status": "accepted"} and answer["ms"] > 0
        event = page.get(f"event?id={answer['id']}")
        assert event["type"] == example["type"] and event["verified"]["good"]
    page.post("send", {"type": "psapi.doctor"}, expect=400)
    page.post("send", {"url": "http://127.0.0.1:1/", "type": None}, expect=400)
    assert "user alice: send example producersync.npn.activated" in page.web.log()


def test_send_fails(place):
    web = Web(place, PSAPI_ENDPOINT_URL="http://127.0.0.1:1/", **ACTIONS)
    reply = web.ask("POST", "/api/1/send", body=b'{"type":"producersync.npn.activated"}', **GOOD, HTTP_SEC_FETCH_SITE="same-origin")
    assert reply.status == 200 and "failed" in reply.json and "status" not in reply.json


def test_a_late_reply_is_never_the_next_one(place):
    """The sending process does not answer in time: what comes later is not shown as the reply to another example."""
    web = Web(place, PSAPI_ENDPOINT_URL="http://127.0.0.1:1/", **ACTIONS)
    [child] = subprocess.run(["pgrep", "-P", str(web.program.pid)], capture_output=True, text=True).stdout.split()

    def send(kind):
        return web.ask("POST", "/api/1/send", body=json.dumps({"type": kind}).encode(), **GOOD, HTTP_SEC_FETCH_SITE="same-origin")
    assert "failed" in send("producersync.npn.activated").json
    os.kill(int(child), signal.SIGSTOP)
    try:
        assert send("producersync.npn.activated").status == 502
    finally:
        os.kill(int(child), signal.SIGCONT)
    wait_for(lambda: Path(f"/proc/{child}/stat").read_text().rsplit(") ", 1)[1][0] == "Z", "it has ended")
    reply = send("producersync.npn.deactivated")
    assert reply.status == 502 and "restart psapi-web" in reply.json["error"]


def test_the_sending_process_ends_with_the_page(place):
    web = Web(place, PSAPI_ENDPOINT_URL="http://127.0.0.1:1/", **ACTIONS)
    [child] = subprocess.run(["pgrep", "-P", str(web.program.pid)], capture_output=True, text=True).stdout.split()
    web.program.stop()
    wait_for(lambda: subprocess.run(["ps", "-p", child], capture_output=True).returncode != 0, "it has ended")


# ---- doctor ----

class OpenPage(NginxPage):
    """Somebody has removed the authentication, and all that depends on it."""

    removed = {"fastcgi_param REMOTE_USER $remote_user;": ""}

    def substitutions(self, port):
        return super().substitutions(port) | {'auth_basic "psapi";': "", f"auth_basic_user_file {self.place.dir}/psapi.htpasswd;":
                                              ""} | self.removed


class BelievingPage(OpenPage):
    """Somebody has removed the authentication, and nginx takes the name in a browser's header for the user's."""

    removed = {}


@pytest.mark.parametrize("cls, result, words, remedy", [
    (NginxPage, "ok", "asks for a login", ""), (OpenPage, "remark", "answers without a login", "auth_basic"),
    (BelievingPage, "failed", "takes any user name", "auth_basic")])
def test_doctor_asks_whether_there_is_a_login(place, cls, result, words, remedy):
    with page_of(cls, place, **ACTIONS) as page:
        done = Desk(place).run("doctor", "--json", f"http://127.0.0.1:{page.port}/webhooks/psapi", expect=None)
        [found] = [row for row in map(json.loads, done.stdout.splitlines()) if row["check"] == "page"]
        assert words in found["text"] and f":{page.port}/psapi/" in found["text"]
        assert ("remark" if found.get("remark") else "ok" if found["ok"] else "failed") == result, found
        assert remedy in found.get("remedy", "") and bool(remedy) == ("remedy" in found)
        if cls is BelievingPage:        # what the check is about
            assert page.get("session", user=None, **page.authorization("mallory"))["user"] == "mallory"


# ---- the process ----

def test_cgi(place):
    """Classic CGI: a process for each request."""
    Desk(place).deliver_bodies(body(1, "77"))
    environment = place.environment(GATEWAY_INTERFACE="CGI/1.1", REQUEST_METHOD="GET", PATH_INFO="/api/1/attempts",
                                    QUERY_STRING="npn=77", CONTENT_LENGTH="0")
    done = subprocess.run([BINARY.parent / "psapi-web"], env=environment, input=b"", capture_output=True, timeout=20)
    reply = parse_cgi(done.stdout)
    assert done.returncode == 0 and reply.status == 200 and len(json.loads(reply.body)["rows"]) == 1


@TRACES
def test_cgi_does_nothing_after_its_answer(place):
    """No process that sends, but for a POST; no counting that nobody will see. The page is told that it can send."""
    settings = ACTIONS | {"PSAPI_ENDPOINT_URL": "http://127.0.0.1:1/"}
    Desk(place).deliver_bodies(body(1))

    def ask(method, path, **variables):
        log = place.dir / "cgi.strace"
        done = subprocess.run(["strace", "-f", "-qq", "-e", "trace=fork,vfork,clone,clone3,poll", "-o", log,
                               BINARY.parent / "psapi-web"], env=place.environment(
                                   GATEWAY_INTERFACE="CGI/1.1", REQUEST_METHOD=method, PATH_INFO=f"/api/1/{path}", **settings,
                                   **variables), input=b"{}", capture_output=True, timeout=20)
        return parse_cgi(done.stdout), log.read_text()
    reply, calls = ask("GET", "session", REMOTE_USER="alice", CONTENT_LENGTH="0")
    assert reply.json["send"] and "clone" not in calls and "fork" not in calls
    # Two looks at a log of this size leave something to count in parts, with a pause after each.
    (place.spool.path / "attempts.jsonl").write_text("".join(web_scale.line(n, time.time()) for n in range(150_000)))
    reply, calls = ask("GET", "overview", CONTENT_LENGTH="0")
    assert reply.status == 200 and not reply.json["history"]["complete"] and "poll(NULL, 0, 1)" not in calls
    reply, calls = ask("POST", "send", **GOOD, HTTP_SEC_FETCH_SITE="same-origin", CONTENT_LENGTH="2")
    assert reply.status == 400 and ("clone" in calls or "fork" in calls)


def test_low_limit_of_open_files(place):
    """The number of its threads is no setting: the remedy names none."""
    Desk(place).deliver_bodies(body(1))
    done = subprocess.run(["prlimit", "--nofile=36:36", BINARY.parent / "psapi-web"], text=True, capture_output=True, timeout=20,
                          env=place.environment(PSAPI_WEB_LISTEN=f"unix:{place.dir}/web.sock"))
    assert done.returncode == 71 and done.stderr.endswith(
        "36 files may be open, enough for 0 of 8 threads: raise the limit of open files (LimitNOFILE=, ulimit -n)\n"), done


def test_cgi_without_a_store(place):
    """An answer with all headers, not the web server's error page."""
    environment = place.environment(GATEWAY_INTERFACE="CGI/1.1", REQUEST_METHOD="GET", PATH_INFO="/")
    done = subprocess.run([BINARY.parent / "psapi-web"], env=environment, input=b"", capture_output=True, timeout=20)
    reply = parse_cgi(done.stdout)
    assert reply.status == 503 and HEADERS.items() <= reply.headers.items() and b"spool/new" in done.stderr


def test_command_line(place):
    def run(*arguments, **settings):
        return subprocess.run([BINARY.parent / "psapi-web", *arguments], env=place.environment(**settings), capture_output=True,
                              text=True, stdin=subprocess.DEVNULL, timeout=20)
    assert run("-V").stdout.startswith("psapi-web ") and "PSAPI_WEB_ACTIONS" in run("--help").stdout
    assert run().returncode == 64 and "no socket" in run().stderr
    assert run("x").returncode == 64 and run("-y").returncode == 64
    assert run(PSAPI_WEB_ACTIONS="maybe").returncode == 78
    # The receiver's socket is never taken, though both read one file.
    assert run(PSAPI_LISTEN=f"unix:{place.dir}/psapi.sock").returncode == 64


@pytest.mark.skipif(SANITIZED, reason="a sanitizer looks into its own process")
def test_sandbox(place, web):
    assert web.ask().status == 200      # it serves: it is in its sandbox
    status = dict(line.split(":", 1) for line in open(f"/proc/{web.program.pid}/status"))
    assert status["Seccomp"].strip() == "2" and status["NoNewPrivs"].strip() == "1"


def test_small_scale(tmp_path):
    """The page's questions, on a spool of some size: each answer has what it must have. `make check-web-scale` measures them, on
    the whole one."""
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o770)
    web_scale.build(spool, 20_000, 12_000)      # more wait than are sorted
    place = web_scale.place_at(spool)
    asked = web_scale.measure(place, 20_000, asked=1)
    place.close()
    found = {name: count(asked[name][1]) for name, _, _, count in web_scale.views(20_000) if count}
    some = [found.pop(name) for name in [*found] if "of an NPN" in name]
    assert len(some) == 3 and all(1 <= many <= 3 for many in some), some
    many = [found.pop("deliveries as CSV"), found.pop("events as CSV")]
    assert all(50 < rows <= 10_000 for rows in many), many
    assert found.pop("metrics") > 20 and 0 < found.pop("overview") <= 12_000
    assert found == {
        "deliveries": 50, "deliveries until the middle": 50, "events": 50, "events waiting": 50, "events handled": 50,
        "the oldest event": 1, "the newest event": 1, "the newest event as JSON": 1, "setup": 1, "session": True, "examples": 3}
    for name in ("deliveries, rejected (none)", "events failed (none)"):
        assert asked[name][1].json["rows"] == []


def test_reasons_that_the_filter_offers():
    text = (ROOT / "web/static/list.js").read_text()
    offered = re.findall(r"'(\w+)'", text[text.index("REASONS = ["):].split("]")[0])
    assert offered == re.findall(r'= \{"(?:rejected|error)", "(\w+)"', (ROOT / "receiver/receive.c").read_text())


def test_no_markup_from_strings():
    """The lint: the front end has no way from a string to markup, and no other origin."""
    for path in (ROOT / "web/static").iterdir():
        text = path.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser",
                     "createContextualFragment", "setHTMLUnsafe", "srcdoc"):
            assert word not in text, f"{path.name}: {word}"
        urls = {word for word in text.replace('"', " ").replace("'", " ").split() if word.startswith(("http:", "https:", "//"))}
        assert urls <= {"http://www.w3.org/2000/svg", "//"}, (path.name, urls)
        assert "style=" not in text or path.suffix == ".css", path.name


def test_mistyped_variable(place):
    page = subprocess.run([BINARY.parent / "psapi-web"], text=True, capture_output=True, timeout=20, env=place.environment(
        PSAPI_TOLERENCE=1, PSAPI_WEB_LISTEN="unix:/nonexistent/x.sock"), stdin=subprocess.DEVNULL, check=False)
    assert "psapi-web: PSAPI_TOLERENCE (environment): no such setting: did you mean PSAPI_TOLERANCE? " in page.stderr, page
