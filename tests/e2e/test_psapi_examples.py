"""The examples: handlers in examples/handlers/, the crontab in examples/cron/, drain's units in packaging/systemd/."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

import mailbox as mailboxes
import strace
from agentsync_api import JsonServer
from psapi_command import PSAPI, Desk, body, updates
from receiver import ROOT, wait_for
from sender import OTHER_SECRET, event, signature, signed


@pytest.fixture
def desk(place):
    desk = Desk(place)
    desk.home = place.dir / "home"
    desk.home.mkdir()
    place.settings["HOME"] = desk.home
    yield desk
    desk.close()


def install(desk, example, name):
    """As described in the first comment of the example."""
    text = (ROOT / "examples/handlers" / example).read_text()
    assert f"install -m 755 examples/handlers/{example} /etc/psapi/handlers.d/{name}\n" in text
    subprocess.run(["install", "-m", "755", ROOT / "examples/handlers" / example, desk.handlers / name],
                   check=True)


class Api(JsonServer):
    """reply(method, path, body) -> (status, JSON)."""

    def __init__(self, reply):
        super().__init__()
        self.requests, self.reply = [], reply

    def answer(self, method, path, headers, body):
        self.requests.append((method, path, dict(headers), body))
        status, data = self.reply(method, path, body)
        return status, {}, data


# ---- mail ----

def test_mail(desk):
    """With a sendmail command that stores its input."""
    install(desk, "mail", "default")
    sendmail = desk.place.dir / "sendmail"
    sendmail.write_text('#!/bin/sh\necho "$@" >"$PSAPI_TOLD/arguments"; cat >"$PSAPI_TOLD/mail"\n')
    sendmail.chmod(0o755)
    environment = {"PSAPI_SENDMAIL": str(sendmail), "PSAPI_MAIL_TO": "ops@example.com"}
    (webhook_id,) = desk.deliver(signed(body(5)))
    assert desk.drain(env=environment).stdout == ""
    head, text = (desk.told / "mail").read_text().split("\n\n", 1)
    assert desk.lines("arguments") == ["-i -t"]
    assert "To: ops@example.com" in head.splitlines()
    assert "Subject: ProducerSync: producersync.npn.activated 123456789" in head.splitlines()
    assert webhook_id in text and body(5).decode() in text


def test_mail_headers_are_ours(desk):
    install(desk, "mail", "default")
    evil = b'{"type":"x\\nBcc: all@example.com\\n\\nhello","data":{"npn":"1\\r\\nX: y"}}'
    sendmail = desk.place.dir / "sendmail"
    sendmail.write_text('#!/bin/sh\ncat >"$PSAPI_TOLD/mail"\n')
    sendmail.chmod(0o755)
    desk.deliver(signed(evil))
    desk.drain(env={"PSAPI_SENDMAIL": str(sendmail)})
    head = (desk.told / "mail").read_text().split("\n\n", 1)[0]
    assert [line.split(":")[0] for line in head.splitlines()] == ["To", "Subject", "Content-Type"]


def test_mail_server_is_down(desk):
    install(desk, "mail", "default")
    (webhook_id,) = desk.deliver(signed())
    desk.drain(env={"PSAPI_SENDMAIL": "/nowhere/sendmail"})
    assert desk.where(webhook_id) == ["new", "events", "state"]


# ---- CSV ----

def test_npn_to_csv(desk):
    install(desk, "npn-to-csv", "producersync.npn")
    desk.deliver(signed(body(1, "111"), "a"), signed(body(3, "111", "producersync.npn.deactivated"), "c"),
                 signed(body(2, "222"), "b"))
    desk.drain_silently()
    expected = ["2025-07-25T00:00:01.000Z,111,activated,a", "2025-07-25T00:00:02.000Z,222,activated,b",
                "2025-07-25T00:00:03.000Z,111,deactivated,c"]
    assert (desk.home / "npns.csv").read_text().splitlines() == expected
    assert desk.run("replay", "--type", "producersync.npn").stdout == "3 back to new\n"
    desk.drain_silently("-j", "3")
    assert (desk.home / "npns.csv").read_text().splitlines() == expected, "again makes no new line"


def test_npn_to_csv_after_a_full_disk(desk):
    """A part of a line was written, and the event comes again: its line is whole."""
    install(desk, "npn-to-csv", "producersync.npn")
    (desk.home / "npns.csv").write_text("2025-07-25T00:00:01.000Z,111,act")
    desk.deliver(signed(body(1, "111"), "a"))
    desk.drain_silently()
    assert (desk.home / "npns.csv").read_text() == ("2025-07-25T00:00:01.000Z,111,act\n"
                                                    "2025-07-25T00:00:01.000Z,111,activated,a\n")


def test_npn_to_csv_elsewhere(desk):
    install(desk, "npn-to-csv", "producersync.npn")
    (webhook_id,) = desk.deliver(signed())
    desk.drain_silently()
    os.rename(desk.home / "npns.csv", desk.home / "was")
    desk.run("replay", webhook_id)
    assert desk.drain(env={"PSAPI_CSV": "/nowhere/npns.csv"}).returncode == 0
    assert desk.where(webhook_id) == ["new", "events", "state"], "no room is a reason to wait"


# ---- chat ----

@pytest.fixture
def chat(desk):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    install(desk, "chat", "producersync")
    desk.url_file = desk.place.dir / "chat-url"
    desk.place.settings["PSAPI_CHAT_URL_FILE"] = desk.url_file
    return desk


def test_chat(chat):
    with Api(lambda *_: (200, {})) as api:
        chat.url_file.write_text(f"{api.url}/hook/secret\n")
        chat.deliver(signed(body(1, "7")), signed(body(2, "7", "producersync.npn.deactivated")),
                     signed(updates(3)), signed(event("producersync.new_kind", x=1)))
        chat.drain_silently()
    texts = [json.loads(body)["text"] for _, path, _, body in api.requests if path == "/hook/secret"]
    assert sorted(texts) == sorted([
        "ProducerSync: NPN 7 joined the monitored population",
        "ProducerSync: NPN 7 left the monitored population",
        "ProducerSync: updates of 2025-07-24 are available",
        "ProducerSync: event producersync.new_kind"])


@pytest.mark.parametrize("status", [500, 404])
def test_chat_is_down(chat, status):
    with Api(lambda *_: (status, {})) as api:
        chat.url_file.write_text(api.url)
        (webhook_id,) = chat.deliver(signed())
        chat.drain_silently()
    assert chat.where(webhook_id) == ["new", "events", "state"]
    assert str(status) in chat.state(webhook_id)["stderr"]


# ---- updates-available ----

@pytest.fixture
def fetcher(desk):
    for program in ("curl", "jq"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    install(desk, "updates-available", "producersync.updates_available")
    login = desk.place.dir / "api-login"
    login.write_text('data-urlencode = "client_id=me"\ndata-urlencode = "client_secret=s&cret"\n')
    login.chmod(0o600)
    desk.place.settings |= {"PSAPI_API_LOGIN": login, "PSAPI_COLLECTIONS": "licenses entities"}
    return desk


def agentsync(url, pages=3):
    """The API as documented: a token, pages that point to the next one, an end without records."""
    def answer(method, path, body):
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        if parts.path == "/oauth2/token":
            good = method == "POST" and parse_qs(body) == {
                "grant_type": ["client_credentials"], "client_id": ["me"], "client_secret": ["s&cret"]}
            return (200, {"access_token": "t0ken", "token_type": "Bearer"}) if good else (401, {})
        if query.get("updatedSince") != ["2025-07-24"]:
            return 400, {}
        collection = parts.path.removeprefix("/v2/")
        page = int(query.get("continuationToken", ["1"])[0])
        if collection == "entities":
            return 200, {"links": {}}
        following = page + 1 if page < pages else 0
        return 200, {"embedded": {collection: [{"id": f"{page}-{n}"} for n in range(2)]},
                     "links": {"next": {"href": f"{url()}{parts.path}?updatedSince=2025-07-24"
                                                f"&continuationToken={following}"}}}
    return answer


def test_updates_available(fetcher):
    with Api(agentsync(lambda: api.url)) as api:
        fetcher.place.settings |= {"PSAPI_AUTH_URL": api.url, "PSAPI_API_URL": api.url}
        (webhook_id,) = fetcher.deliver(signed(updates(0, "2025-07-24")))
        fetcher.drain_silently()
    assert fetcher.where(webhook_id) == ["events"]
    folder = fetcher.home / "updates" / "2025-07-24"
    assert sorted(os.listdir(folder)) == ["entities.jsonl", "licenses.jsonl"]
    records = [json.loads(line)["id"] for line in (folder / "licenses.jsonl").read_text().splitlines()]
    assert records == ["1-0", "1-1", "2-0", "2-1", "3-0", "3-1"]
    assert (folder / "entities.jsonl").read_text() == ""
    for method, path, headers, _ in api.requests[1:]:
        assert method == "GET" and headers["Authorization"] == "Bearer t0ken", path
        assert parse_qs(urlsplit(path).query)["updatedSince"] == ["2025-07-24"]


def test_updates_available_fails(fetcher):
    """After any failure it is tried again later, from the beginning; no partial result is left."""
    with Api(lambda *_: (403, {})) as api:
        fetcher.place.settings |= {"PSAPI_AUTH_URL": api.url, "PSAPI_API_URL": api.url}
        (webhook_id,) = fetcher.deliver(signed(updates(0, "2025-07-24")))
        fetcher.drain_silently()
    assert "no token" in fetcher.state(webhook_id)["stderr"]
    assert fetcher.where(webhook_id) == ["new", "events", "state"]


def test_token_goes_nowhere_else(fetcher):
    with Api(agentsync(lambda: "http://127.0.0.1:9/evil")) as api:
        fetcher.place.settings |= {"PSAPI_AUTH_URL": api.url, "PSAPI_API_URL": api.url}
        (webhook_id,) = fetcher.deliver(signed(updates(0, "2025-07-24")))
        fetcher.drain_silently()
    assert "somewhere else" in fetcher.state(webhook_id)["stderr"]
    assert not (fetcher.home / "updates" / "2025-07-24" / "licenses.jsonl").exists()


# ---- batches ----

@pytest.fixture
def batches(desk):
    """Eight events of four NPNs; what is true afterwards: 1 and 4 are active, 2 and 3 are not."""
    desk.batches = desk.place.dir / "batch.d"
    desk.batches.mkdir(mode=0o755)
    desk.place.settings["PSAPI_BATCH_HANDLERS"] = desk.batches

    def give():
        off = "producersync.npn.deactivated"
        return desk.deliver(signed(body(1, "1"), "a"), signed(body(2, "2"), "b"), signed(body(3, "3"), "c"),
                            signed(body(4, "2", off), "d"), signed(body(5, "4"), "e"), signed(body(6, "3", off), "f"),
                            signed(body(7, "1", off), "g"), signed(body(8, "1"), "h"))
    desk.give = give
    return desk


def deliver_ties(desk):
    """Of 11 and 12 both events at the same time, in either order; an event that says nothing of whether 1 is active."""
    on, off = "producersync.npn.activated", "producersync.npn.deactivated"
    return desk.deliver(signed(body(10, "11", on), "p"), signed(body(10, "11", off), "q"),
                        signed(body(10, "12", off), "r"), signed(body(10, "12", on), "s"),
                        signed(body(11, "1", "producersync.npn.renamed"), "t"))


# Times of a producer's two events, the earlier one first: their texts sort the other way round, or are of one time.
DIGITS = [("01Z", "01.579Z"), ("01.5Z", "01.579Z"), ("01.579Z", "01.579001+00:00"), ("01+00:00", "01.1Z"),
          ("01.579Z", "01.579000000Z")]
ACTIVE = ["1", "11", "12", "4", "50", "51", "52", "53", "54", "64"]


def deliver_digits(desk):
    """5n: deactivated, then activated; 6n: activated, then deactivated."""
    times = [[f"2025-07-25T15:53:{second}" for second in pair] for pair in DIGITS]
    requests = []
    for n, (first, second) in enumerate(times):
        for npn, kind, at in ((f"5{n}", "deactivated", first), (f"5{n}", "activated", second),
                              (f"6{n}", "activated", first), (f"6{n}", "deactivated", second)):
            text = json.loads(body(0, npn, f"producersync.npn.{kind}")) | {"timestamp": at}
            requests.append(signed(json.dumps(text).encode(), f"{npn}-{kind}"))
    return desk.deliver(*requests)


def roster(desk):
    """The NPNs that are active by psapi roster."""
    return sorted(line.split(",")[0] for line in desk.run("roster", "--csv").stdout.splitlines()[1:])


def install_batch(desk, example, name):
    handlers, desk.handlers = desk.handlers, desk.batches
    text = (ROOT / "examples/handlers" / example).read_text()
    assert f"install -m 755 examples/handlers/{example} /etc/psapi/batch.d/{name}\n" in text
    subprocess.run(["install", "-m", "755", ROOT / "examples/handlers" / example, desk.batches / name], check=True)
    desk.handlers = handlers


def assert_all_done(desk, ids):
    assert [desk.where(one) for one in ids] == [["events"]] * len(ids), desk.rows("list")


def test_batch_bash(batches):
    install_batch(batches, "batch-bash", "producersync.npn")
    ids = batches.give()
    batches.drain_silently()
    assert_all_done(batches, ids)
    assert sorted(os.listdir(batches.home / "npns")) == ["1", "4"]
    shutil.rmtree(batches.home / "npns")
    (batches.home / "npns").write_text("")      # no directory can be made there
    batches.run("replay", "--npn", "4")
    batches.drain_silently()
    assert batches.where("e") == ["new", "events", "state"]


def test_batch_bash_says_why(batches):
    """What a command prints is text, whatever it is: a second line of it is no result."""
    install_batch(batches, "batch-bash", "producersync.npn")
    tools = batches.place.dir / "tools"
    tools.mkdir()
    for name, status in (("touch", 1), ("rm", 1)):
        (tools / name).write_text(f"#!/bin/sh\nprintf 'no room\\nok 1\\r\\nok all 4\\n'; exit {status}\n")
        (tools / name).chmod(0o755)
    ids = batches.give()
    batches.drain(env={"PATH": f"{tools}:{batches.environment()['PATH']}"})
    assert [one for one in ids if batches.where(one) == ["events"]] == []
    assert batches.state("a")["reason"].startswith("reported as later: no room ok 1  ok all 4, try 1")


def test_batch_python(batches):
    install_batch(batches, "batch-python", "producersync.npn")
    ids = batches.give()
    batches.drain_silently()
    assert_all_done(batches, ids)
    assert active_in_python(batches) == ["1", "4"]
    batches.run("replay", "--npn", "2")
    batches.drain_silently("-j", "2")
    assert active_in_python(batches) == ["1", "4"]
    ids += deliver_ties(batches)
    batches.drain_silently()
    assert_all_done(batches, ids)
    assert active_in_python(batches) == ["1", "11", "12", "4"]
    deliver_digits(batches)
    batches.drain_silently()
    assert active_in_python(batches) == roster(batches) == ACTIVE
    assert sorted(os.listdir(batches.home)) == ["producers.json", "producers.json.lock"]
    batches.run("replay", "a")
    batches.drain(env={"PSAPI_TABLE": "/nowhere/x"})
    assert batches.where("a") == ["new", "events", "state"]


def test_batch_python_waits_for_the_disk(batches):
    """The table is on the disk before it has its name, and that before the report."""
    if strace.why_not():
        pytest.skip(strace.why_not())
    log, path = batches.place.dir / "strace", batches.home / "producers.json"
    line = json.dumps({"n": 1, "npn": "1", "type": "producersync.npn.activated", "timestamp": "2025"}) + "\n"
    done = subprocess.run(["strace", "-y", "-o", log, "-e", "trace=fsync,rename,write", "/usr/bin/python3",
                           ROOT / "examples/handlers/batch-python"], env=batches.environment(), input=line, capture_output=True, text=True, check=True)
    assert done.stdout == "ok all 1\n"
    calls = re.findall(r"^(fsync|rename)\((?:\d+<([^>]*)>)?|^(write)\(1<", log.read_text(), re.M)
    assert calls == [("fsync", f"{path}.new", ""), ("rename", "", ""), ("fsync", str(batches.home), ""), ("", "", "write")]


def test_batch_python_with_a_damaged_table(batches):
    """That is not the events' fault: they wait."""
    install_batch(batches, "batch-python", "producersync.npn")
    (batches.home / "producers.json").write_text('{"active": {')
    ids = batches.give()
    batches.drain_silently()
    assert [batches.where(one) for one in ids[:3]] == [["new", "events", "state"]] * 3
    state = batches.state("a")
    assert "exit status 75" in state["reason"] and "producers.json: Expecting" in state["stderr"]


def active_in_python(desk):
    return sorted(json.loads((desk.home / "producers.json").read_text())["active"])


def test_batch_python_side_by_side(batches):
    """Two runs wait while a third one has read the table and has not written it yet: nothing of any is lost."""
    install_batch(batches, "batch-python", "producersync.npn")
    ids = batches.deliver(signed(body(1, "1"), "a"), signed(body(2, "2"), "b"))
    table = batches.home / "producers.json"
    with open(f"{table}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inode = os.fstat(lock.fileno()).st_ino
        child = batches.start("drain", "-j", "2", env={"PSAPI_BATCH": "1"})
        waiting = re.compile(rf"-> FLOCK .*:{inode} 0 EOF$", re.M)
        wait_for(lambda: len(waiting.findall(Path("/proc/locks").read_text())) == 2, "both wait for the lock")
        table.write_text('{"active": {"3": "2025"}, "last": {"3": "2025"}}')
    assert child.wait(30) == 0
    assert_all_done(batches, ids)
    assert active_in_python(batches) == ["1", "2", "3"]


def sqlite(path, sql):
    return subprocess.run(["sqlite3", path, sql], check=True, capture_output=True, text=True).stdout.splitlines()


def test_batch_sqlite(batches):
    install_batch(batches, "batch-sqlite", "producersync")
    ids = batches.give() + batches.deliver(signed(updates(9), "u"))
    batches.drain_silently()
    assert_all_done(batches, ids)
    database = batches.home / "psapi.db"
    assert sqlite(database, "SELECT npn FROM producer WHERE active ORDER BY npn") == ["1", "4"]
    assert sqlite(database, "SELECT id FROM event ORDER BY at, id") == ids
    assert json.loads(sqlite(database, "SELECT event FROM event WHERE id = 'u'")[0]) == json.loads(updates(9))
    batches.run("replay", "--type", "producersync")
    batches.drain_silently("-j", "2")
    assert sqlite(database, "SELECT count(*), (SELECT count(*) FROM producer WHERE active) FROM event") == ["9|2"]
    ids += deliver_ties(batches)
    batches.drain_silently()
    assert_all_done(batches, ids)
    assert sqlite(database, "SELECT npn FROM producer WHERE active ORDER BY npn") == ["1", "11", "12", "4"]
    deliver_digits(batches)
    batches.drain_silently()
    assert sqlite(database, "SELECT npn FROM producer WHERE active ORDER BY npn") == roster(batches) == ACTIVE


def test_batch_sqlite_fails(batches):
    """Nothing is reported, and nothing is done."""
    install_batch(batches, "batch-sqlite", "producersync")
    batches.give()
    batches.drain(env={"PSAPI_SQLITE": "/nowhere/x.db"})
    assert batches.where("a") == ["new", "events", "state"]
    assert "unable to open" in batches.state("a")["stderr"]


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_batch_postgresql(batches, store):
    """In one transaction; what the database refuses is given to it again alone, and then fails alone."""
    install_batch(batches, "batch-postgresql", "producersync")
    cluster = batches.spool.cluster
    cluster.drop("producers")
    batches.place.settings["PSAPI_DATABASE"] = cluster.database("producers")
    text = (ROOT / "examples/handlers" / "batch-postgresql").read_text()
    tables = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   CREATE TABLE")]

    def sql(*statements):
        return cluster.primary.sql("SET ROLE psapi", *statements, database="producers").split()

    ids = batches.give() + batches.deliver(signed(updates(9), "u"))
    batches.drain("-v")
    assert batches.where("a") == ["new", "events", "state"], "there are no tables yet"
    assert "does not exist" in batches.state("a")["stderr"]
    assert len(tables) == 2 and sql(*tables) == []
    batches.spool.sql("UPDATE psapi_queue SET due_at = NULL, alone = false")
    batches.drain_silently()
    assert_all_done(batches, ids)
    assert sql("SELECT npn FROM producer WHERE active ORDER BY npn") == ["1", "4"]
    assert sql("SELECT id FROM event ORDER BY at, id") == ids
    ties = deliver_ties(batches)
    batches.drain_silently()
    assert_all_done(batches, ties)
    assert sql("SELECT npn FROM producer WHERE active ORDER BY npn") == ["1", "11", "12", "4"]
    deliver_digits(batches)
    batches.drain_silently()
    assert sql("SELECT npn FROM producer WHERE active ORDER BY npn") == roster(batches) == ACTIVE
    bad = json.dumps({"type": "producersync.x", "timestamp": "never"}).encode()
    more = batches.deliver(signed(bad, "bad"), signed(body(10, "7"), "good"))
    batches.drain_silently()
    assert sql("SELECT count(*) FROM event") == ["34"], "one transaction"
    batches.spool.sql("UPDATE psapi_queue SET due_at = NULL")
    batches.drain(expect=1)
    assert [batches.where(one) for one in more] == [["events", "failed", "state"], ["events"]]
    assert "never" in batches.state("bad")["stderr"]
    batches.place.settings["PSAPI_DATABASE"] = "host=/nowhere"
    batches.run("replay", "good")
    batches.drain_silently()
    assert batches.where("good") == ["new", "events", "state"]
    cluster.drop("producers")


# ---- forward ----

def test_forward(desk):
    """Byte for byte, with the same id; its signature is of another secret, and of now."""
    install(desk, "forward", "default")
    secret = desk.place.dir / "forward-secret"
    secret.write_text(OTHER_SECRET + "\n")
    ids = desk.deliver(signed(body(1), "a"), signed(updates(2), "b"))
    with Api(lambda *_: (answers.pop(0), {})) as api:
        answers = [204, 302, 200]
        desk.place.settings |= {"PSAPI_FORWARD_URL": f"{api.url}/hook?x=1", "PSAPI_FORWARD_SECRET": secret}
        desk.drain_silently()
        assert [desk.where(one) for one in ids] == [["events"], ["new", "events", "state"]], "a redirect is no success"
        desk.write_state("b", tries=1, due_in=-1)
        desk.drain_silently()
    assert [desk.where(one) for one in ids] == [["events"]] * 2
    for (method, path, headers, text), webhook_id, sent in zip(api.requests, "abb", (body(1), updates(2), updates(2))):
        assert (method, path, text.encode()) == ("POST", "/hook?x=1", sent)
        headers = {name.lower(): value for name, value in headers.items()}
        assert headers["webhook-id"] == webhook_id and headers["content-type"] == "application/json"
        at = int(headers["webhook-timestamp"])
        assert abs(at - time.time()) < 60
        assert headers["webhook-signature"] == signature(OTHER_SECRET, webhook_id, at, sent).decode()
    desk.run("replay", "a")
    desk.place.settings["PSAPI_FORWARD_URL"] = "http://127.0.0.1:1/"
    desk.drain_silently()       # nobody listens there
    assert desk.where("a") == ["new", "events", "state"]
    assert OTHER_SECRET not in str(desk.rows("list"))


SETTINGS = [    # the secret file, None: not there; the URL; what the handler says
    ("", "http://127.0.0.1:9/", "forward-secret: not whsec_ and base64"),
    ("whsec_\n", "http://127.0.0.1:9/", "forward-secret: not whsec_ and base64"),
    ("whsec_AAA", "http://127.0.0.1:9/", "forward-secret: not whsec_ and base64"),
    ("whsec_A A=", "http://127.0.0.1:9/", "forward-secret: not whsec_ and base64"),
    ("whsec_\xe9", "http://127.0.0.1:9/", "forward-secret: not whsec_ and base64"),
    (None, "http://127.0.0.1:9/", "No such file"),
    (OTHER_SECRET, "http://m\xfcnchen.example/", "PSAPI_FORWARD_URL: not ASCII"),
    (OTHER_SECRET, "http://127.0.0.1:9/\n", "PSAPI_FORWARD_URL: not ASCII"),
]


@pytest.mark.parametrize("secret, url, said", SETTINGS)
def test_forward_settings(desk, secret, url, said):
    """One that is wrong costs no event: it is tried again later. The secret is in no message."""
    install(desk, "forward", "default")
    path = desk.place.dir / "forward-secret"
    if secret is not None:
        path.write_text(secret, encoding="latin-1")
    desk.place.settings |= {"PSAPI_FORWARD_URL": url, "PSAPI_FORWARD_SECRET": path}
    desk.deliver(signed(body(1), "a"))
    desk.drain_silently()
    assert desk.where("a") == ["new", "events", "state"]
    state = desk.state("a")
    assert said in state["stderr"] and state["stderr"].count("\n") == 1 and "Traceback" not in state["stderr"]
    assert not secret or secret.strip()[6:] == "" or secret.strip()[6:] not in str(state)


def test_forward_id(desk):
    """One that cannot be a header, now or later, goes to failed/."""
    install(desk, "forward", "default")
    path = desk.place.dir / "forward-secret"
    path.write_text(OTHER_SECRET)
    desk.place.settings |= {"PSAPI_FORWARD_URL": "http://127.0.0.1:9/", "PSAPI_FORWARD_SECRET": path}
    ids = desk.deliver(signed(body(1), "m\xfc"))
    desk.drain(expect=1)
    assert "failed" in desk.where(ids[0]) and "cannot be a header" in desk.state(ids[0])["stderr"]


# ---- examples/cron/, packaging/systemd/ ----

def test_crontab(desk):
    """Its commands as cron runs them: with sh and a minimal environment; output would be mailed. check alerts by itself;
    its line is for a machine without systemd, where psapi-check.timer does not run it."""
    table = (ROOT / "examples/cron" / "psapi.cron").read_text()
    assert [line for line in table.splitlines() if "psapi check" in line] == [
        "#*/5 * * * *  psapi   psapi check --mail"]
    lines = [line for line in table.replace("\n#*/5", "\n*/5").splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines if "=" in line.split()[0])
    jobs = [line.split(None, 6) for line in lines if "=" not in line.split()[0]]
    assert [(job[:5], job[5]) for job in jobs] == [
        (list("*****"), "psapi"), ("17 4 * * *".split(), "psapi"), ("*/5 * * * *".split(), "psapi")]
    assert "/usr/local/bin" in settings["PATH"] and "MAILTO" in settings
    desk.handler("default", ":\n")
    mailbox = mailboxes.Mailbox(desk.place.dir / "mail")
    (webhook_id, invalid) = desk.deliver(signed(), signed(b"no JSON"))
    for job in jobs:
        environment = {k: str(v) for k, v in desk.place.settings.items()} | {
            "PATH": f"{PSAPI.parent}:{mailbox.dir}:{settings['PATH']}", "HOME": str(desk.home), "LOGNAME": "psapi"}
        done = subprocess.run(["/bin/sh", "-c", job[6]], env=environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (1 if "check" in job[6] else 0, "", ""), job
    assert desk.where(webhook_id) == ["events"] and "failed" in desk.where(invalid)
    assert "failed" in mailbox.only()["Subject"]


LINE_FOR_CRON = re.compile(r"(?:[0-9*/]+ +){5}(?:psapi|root) +((?:[A-Z_]+=\S+ )*(psapi|flock)\b[^'`\n]*)")


@pytest.mark.parametrize("path", sorted(
    str(path.relative_to(ROOT)) for folder in ("docs", "examples") for path in (ROOT / folder).rglob("*")
    if path.is_file() and LINE_FOR_CRON.search(path.read_text(errors="replace"))))
def test_lines_for_cron(path, tmp_path):
    """cron's own PATH is /usr/bin:/bin: a program of /usr/local/bin is found by a PATH in the table, or in the line."""
    text = (ROOT / path).read_text()
    for name in ("psapi", "psapi-reconcile"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho ran >>{tmp_path}/ran\n')
        (tmp_path / name).chmod(0o755)
    for found in LINE_FOR_CRON.finditer(text):
        if found[2] == "flock":
            continue    # tests/install runs these
        table = text[:found.start()].rpartition("\n\n" if path.endswith(".md") else "\0")[2]
        own = re.findall(r"^PATH=(.*)$", table, re.M)
        done = subprocess.run(["/bin/sh", "-c", found[1].replace("/usr/local/bin", str(tmp_path))], capture_output=True,
                              text=True, env={"PATH": own[-1].replace("/usr/local/bin", str(tmp_path)) if own else "/usr/bin:/bin",
                                              "HOME": str(tmp_path), "LOGNAME": "psapi", "SHELL": "/bin/sh"})
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), found[0]
        assert (tmp_path / "ran").read_text() == "ran\n", found[0]
        (tmp_path / "ran").unlink()


@pytest.mark.parametrize("prefix, path", [
    ("/usr/local", "/usr/local/sbin:"), ("/usr", "/usr/local/sbin:"), ("/opt/psapi", "/opt/psapi/bin:/usr/local/sbin:")])
def test_crontab_has_the_path_of_its_prefix(prefix, path, tmp_path):
    """cron finds psapi there. tests/install lets a real cron run it."""
    subprocess.run(["make", "-s", "-C", ROOT, "-o", "all", "install", f"DESTDIR={tmp_path}", f"PREFIX={prefix}"],
                   check=True, capture_output=True)
    table = (tmp_path / f"{prefix[1:]}/share/doc/psapi-fcgi/examples/cron/psapi.cron").read_text()
    [found] = [line[len("PATH="):] for line in table.splitlines() if line.startswith("PATH=")]
    assert found.startswith(path) and f"{prefix}/bin" in found.split(":")


def test_systemd_units():
    """The directives that drain needs. tests/install checks the units with systemd itself."""
    path_unit = (ROOT / "packaging/systemd" / "psapi-drain.path").read_text()
    assert "\nPathChanged=/var/spool/psapi/new\n" in path_unit
    assert "\nDirectoryNotEmpty" not in path_unit
    assert "StartLimitIntervalSec=0" in (ROOT / "packaging/systemd" / "psapi-drain.service").read_text()
