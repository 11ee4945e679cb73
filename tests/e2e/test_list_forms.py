"""psapi list --by-cause and --gaps, psapi retry --all with a selection and --dry-run, over both stores."""

import json
import os
import time
from datetime import datetime, timedelta, timezone

import pytest

from psapi_command import Desk, body, updates
from sender import event, signed

pytestmark = pytest.mark.each_store

HANDLER = """case $PSAPI_WEBHOOK_ID in
    bad*) exit 3 ;; worse*) exit 4 ;; later*) exit 75 ;; esac\n"""


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


@pytest.fixture
def failed(desk):
    """Four causes: an exit status twice, another once, an invalid event, and no handler for a type."""
    desk.handler("producersync", HANDLER)
    desk.deliver(*(signed(body(n, str(n)), webhook_id) for n, webhook_id in
                   enumerate(("bad1", "bad2", "worse", "later", "good"), 1)),
                 signed(b"no JSON", "invalid"), signed(event("x.y", a=1), "unknown"))
    desk.drain(expect=1)
    return desk


# ---- by cause ----

def test_by_cause(failed):
    rows = failed.rows("list", "--failed", "--by-cause")
    shown = {row["reason"]: (row["count"], row["handler"].rsplit("/", 1)[-1], row["webhook_id"]) for row in rows}
    no_handler = f'no handler for type "x.y", and no default, in {failed.handlers}'
    assert shown == {"exit status 3": (2, "producersync", "bad2"), "exit status 4": (1, "producersync", "worse"),
                     "the body is not JSON, or JSON beyond what can be parsed": (1, "", "invalid"),
                     no_handler: (1, "", "unknown")}
    assert rows[0]["count"] == 2 and rows[0]["file"] == "bad2.json"
    states = [failed.state(webhook_id)["failed_at"][:19] for webhook_id in ("bad1", "bad2")]
    assert [rows[0]["first"][:19], rows[0]["last"][:19]] == [min(states), max(states)]
    lines = failed.run("list", "--by-cause").stdout.splitlines()
    assert lines[0].split()[:3] == ["COUNT", "FIRST", "LAST"] and len(lines) == 5
    assert lines[1].split()[0] == "2" and lines[1].endswith("(exit status 3)  bad2")


def test_by_cause_selects(failed):
    def reasons(*arguments):
        return sorted(row["reason"] for row in failed.rows("list", "--by-cause", *arguments))
    assert reasons("--type", "producersync.npn") == ["exit status 3", "exit status 4"]
    assert reasons("--npn", "3") == ["exit status 4"]
    assert reasons("--since", "2199-01-01") == []
    assert reasons("--waiting") == ["exit status 75"], "without the number of the try"
    assert failed.run("list", "--failed", "--by-cause", "--since", "2199-01-01").stdout == ""
    for wrong in ("--new", "--all"):
        assert "with --failed or --waiting" in failed.run("list", wrong, "--by-cause", expect=64).stderr


def test_a_long_type_without_a_handler(desk):
    """The reason is cut within a character: the event fails, and the later ones are handled."""
    desk.handler("producersync", HANDLER)
    desk.deliver(signed(json.dumps({"type": "x" + 60 * "\u00fc", "data": {}}, ensure_ascii=False).encode(), "long"),
                 signed(body(2, "2"), "good"))
    desk.drain(expect=1)
    assert desk.state("long")["reason"].startswith('no handler for type "x??')
    assert [(row["webhook_id"], row["status"]) for row in desk.rows("list", "--all")] == [
        ("long", "failed"), ("good", "handled")]


def test_by_cause_is_escaped(desk):
    """The type of an event is in the reason; and an id that a shell would not take is shown as a file."""
    evil = {"type": "x\x1b[2J\n\u202e(ok)", "data": {}}
    desk.deliver(signed(json.dumps(evil).encode(), "id \x1b;rm -rf /"))
    desk.drain(expect=1)
    for arguments in (["--by-cause"], ["--by-cause", "--json"]):
        text = desk.run("list", *arguments).stdout
        assert text.isascii() and all(c.isprintable() or c == "\n" for c in text) and text.count("\n") <= 2
    assert "id%20%1B%3Brm%20-rf%20%2F.json" in desk.run("list", "--by-cause").stdout
    (row,) = desk.rows("list", "--by-cause")
    assert row["webhook_id"] == "id \x1b;rm -rf /" and "x\x1b[2J\n" in row["reason"]


@pytest.mark.spool_only("500 states by hand")
def test_by_cause_is_bounded(desk):
    """A reason for each event, as a careless handler may make them: the rest counts together."""
    desk.handler("default", "exit 3\n")
    desk.deliver(signed(body(1), "a"))
    for n in range(520):
        desk.copy("a", f"m{n}")
    desk.drain("-j", "4", "--", "/bin/false", expect=1)
    for n in range(520):
        desk.write_state(f"m{n}", failed_at="2025-07-25T00:00:00Z", reason=f"reason {n}, try 1 of at most 2")
    rows = desk.rows("list", "--by-cause")
    assert len(rows) == 501 and sum(row["count"] for row in rows) == 521
    assert rows[-1]["others"] is True and rows[-1]["count"] >= 20
    assert "(other causes)" in desk.run("list", "--by-cause").stdout.splitlines()[-1]


# ---- retry ----

def test_retry_all_of_a_type(failed):
    before = failed.spool.files()
    dry = failed.run("retry", "--all", "--type", "producersync.npn", "--dry-run")
    assert dry.stdout == "3 would go back to new; nothing is moved\n" and failed.spool.files() == before
    assert failed.run("retry", "--all", "--dry-run").stdout == "5 would go back to new; nothing is moved\n"
    assert failed.run("retry", "--all", "--dry-run", "--json").stdout == '{"count":5}\n'
    assert failed.spool.files() == before
    assert failed.run("retry", "--all", "--type", "producersync.npn").stdout == "3 back to new\n"
    assert sorted(row["webhook_id"] for row in failed.rows("list", "--failed")) == ["invalid", "unknown"]
    assert failed.run("retry", "--all", "--type", "producersync.npn").stdout == "0 back to new\n"
    assert failed.run("retry", "--all", "--json").stdout == '{"count":2}\n'


@pytest.mark.parametrize("arguments, moved", [
    (["--reason", "exit status 3"], ["bad1", "bad2"]), (["--reason", "exit status 3", "--npn", "2"], ["bad2"]),
    (["--reason", "exit status 3, try 1 of at most 10"], ["bad1", "bad2"]), (["--reason", "exit status"], []), (["--npn", "3"], ["worse"]), (["--since", "2199-01-01"], []),
    (["--since", "1h", "--type", "x"], ["unknown"])])
def test_retry_all_that_match(failed, arguments, moved):
    new = failed.spool.names("new")
    dry = failed.run("retry", "--all", *arguments, "--dry-run").stdout
    assert dry == f"{len(moved)} would go back to new; nothing is moved\n"
    assert failed.run("retry", "--all", *arguments).stdout == f"{len(moved)} back to new\n"
    assert failed.spool.names("new") == sorted(new + moved)


def test_retry_by_a_reason_as_it_is_shown(desk):
    """Escaped in the table, raw in --json: both are taken."""
    for how in range(2):
        desk.deliver(signed(json.dumps({"type": "x\x1b[2J", "data": {}}).encode(), f"m{how}"))
        desk.drain(expect=1)
        (row,) = desk.rows("list", "--by-cause")
        reason = row["reason"] if how else row["reason"].replace("\x1b", "\\x1b")
        assert desk.run("retry", "--all", "--reason", reason).stdout == "1 back to new\n"
        desk.run("done", f"m{how}")


# ---- what waits for its next try ----

@pytest.fixture
def waiting(desk):
    """Events that wait for hours, of three NPNs and two reasons; one behind such a one, and one that is new."""
    desk.handler("default", '[ "$PSAPI_NPN" != 3 ] || exit 127; exit 75\n')
    desk.deliver(*(signed(body(npn, str(npn)), f"later{npn}") for npn in (1, 2, 3)))
    desk.drain(expect=78)
    desk.deliver(signed(body(9, "1"), "behind"), signed(body(5, "5"), "untried"))
    desk.handler("default", 'echo "$PSAPI_WEBHOOK_ID $PSAPI_TRY" >>"$PSAPI_TOLD/seen"\n')
    return desk


def statuses(desk):
    return {row["webhook_id"]: row["status"] for row in desk.rows("list", "--all")}


def test_what_waits_is_listed_also_without_a_count(waiting):
    """Of a try that did not count, for the handler was broken, there is only the time that is due."""
    assert [row["webhook_id"] for row in waiting.rows("list", "--waiting")] == ["later1", "later2", "later3"]
    assert "retrying=3" in waiting.run("check", expect=None).stdout


def test_retry_of_an_id_that_waits(waiting):
    assert waiting.run("retry", "later1").stderr == ""
    assert statuses(waiting) == {"later1": "new", "later2": "waiting", "later3": "waiting", "behind": "new", "untried": "new"}
    waiting.drain_silently()
    assert waiting.lines() == ["later1 1", "untried 1", "behind 1"], "as if for the first time, and in order"
    assert statuses(waiting)["later2"] == "waiting"
    assert waiting.run("retry", "later2", "later3").stdout == ""
    waiting.drain_silently()
    assert waiting.lines()[3:] == ["later2 1", "later3 1"]


def test_retry_all_that_wait(waiting):
    assert waiting.run("retry", "--all").stdout == "0 back to new\n", "without --waiting only those that failed"
    before = waiting.spool.files()
    dry = waiting.run("retry", "--all", "--waiting", "--dry-run")
    assert dry.stdout == "3 would go back to new; 2 wait already; nothing is moved\n" and dry.stderr == ""
    assert waiting.run("retry", "--all", "--waiting", "--dry-run", "--json").stdout == '{"count":3}\n'
    dry = waiting.run("retry", "later1", "untried", "--dry-run", expect=65)
    assert dry.stdout == "1 would go back to new; nothing is moved\n"
    assert waiting.spool.files() == before and statuses(waiting)["later1"] == "waiting"
    done = waiting.run("retry", "--all", "--waiting")
    assert done.stdout == "3 back to new; 2 wait already\n" and done.stderr == ""
    assert set(statuses(waiting).values()) == {"new"}
    assert waiting.run("retry", "--all", "--waiting", "--json").stdout == '{"count":0}\n'
    waiting.drain_silently()
    assert sorted(waiting.lines()) == ["behind 1", "later1 1", "later2 1", "later3 1", "untried 1"]
    assert waiting.lines().index("later1 1") < waiting.lines().index("behind 1")


@pytest.mark.parametrize("arguments, moved, left", [
    (["--npn", "1"], ["later1"], "; 1 wait already"), (["--type", "producersync.updates_available"], [], ""),
    (["--reason", "exit status 75"], ["later1", "later2"], ""), (["--since", "2199-01-01"], [], "")])
def test_retry_all_that_wait_and_match(waiting, arguments, moved, left):
    assert waiting.run("retry", "--all", "--waiting", *arguments).stdout == f"{len(moved)} back to new{left}\n"
    assert [webhook_id for webhook_id, status in statuses(waiting).items() if status == "waiting"] == [
        webhook_id for webhook_id in ("later1", "later2", "later3") if webhook_id not in moved]


def test_retry_of_what_was_never_tried(waiting):
    """It is 65 for an id where nothing was done; the others are put back."""
    done = waiting.run("retry", "untried", "later1", expect=65)
    assert done.stderr == "psapi: untried: has not failed: it waits in new/ already\n"
    assert statuses(waiting)["later1"] == "new"


def test_retry_of_what_fails_again_later(waiting):
    """Its tries start anew: the next one is due after the first wait."""
    waiting.handler("default", "exit 75\n")
    waiting.run("retry", "later2")
    waiting.drain_silently()
    state = waiting.state("later2")
    assert state["tries"] == 1 and "try 1 of" in state["reason"]


def test_retry_while_a_handler_of_its_lane_runs(waiting):
    """The spool's lock makes it wait for that; a shared store says so. Either way the order stays."""
    note = 'echo "$PSAPI_WEBHOOK_ID $PSAPI_TRY" >>"$PSAPI_TOLD/seen"\n'
    waiting.gate("go")
    waiting.handler("default", note + 'read line <"$PSAPI_TOLD/go"\n')
    waiting.deliver(signed(body(0, "1"), "earlier"))
    drain = waiting.start("drain")
    waiting.wait_for_lines(1)
    waiting.handler("default", note)
    if waiting.place.store == "spool":
        retry = waiting.start("retry", "later1")
    else:
        message = ("psapi: later1: waits for its retry, and a drain is handling an event of its lane: "
                   "repeat the command later\n")
        assert waiting.run("retry", "later1", expect=75).stderr == message
        done = waiting.run("retry", "--all", "--waiting")
        assert done.stdout == "2 back to new; 3 wait already\n" and done.stderr == message
    waiting.open_gate("go")
    assert drain.wait(60) == 0 and waiting.lines()[:2] == ["earlier 1", "untried 1"]
    if waiting.place.store == "spool":
        assert retry.wait(60) == 0
    else:
        assert statuses(waiting) == {"later1": "waiting", "behind": "new"} | dict.fromkeys(
            ("earlier", "untried", "later2", "later3"), "handled"), "those of other lanes were handled by the drain at work"
        waiting.run("retry", "later1")
    waiting.drain_silently()
    assert waiting.lines().index("later1 1") < waiting.lines().index("behind 1")


def test_a_dry_run_of_ids(failed):
    """Those that failed or wait for a retry are counted once; others are errors, as without --dry-run."""
    before = failed.spool.files()
    dry = failed.run("retry", "--dry-run", "bad1", "invalid", "later")
    assert dry.stdout == "3 would go back to new; nothing is moved\n" and dry.stderr == ""
    assert failed.run("retry", "bad1", "--dry-run", "--json").stdout == '{"count":1}\n'
    dry = failed.run("retry", "--dry-run", "nobody", "worse", expect=66)
    assert dry.stdout == "1 would go back to new; nothing is moved\n"
    twice = failed.run("retry", "--dry-run", "bad2", "bad2", "good", expect=65)
    assert twice.stdout == "1 would go back to new; nothing is moved\n"
    assert failed.spool.files() == before
    assert failed.run("retry", "nobody", "worse", expect=66).stderr == dry.stderr != ""
    assert failed.run("retry", "bad2", "bad2", "good", expect=65).stderr == twice.stderr
    assert [line.split(":")[1] for line in twice.stderr.splitlines()] == [" bad2", " good"]
    assert failed.spool.files() != before


@pytest.mark.parametrize("arguments", [["--type", "x"], ["--waiting"], ["--dry-run"], ["a", "--waiting"], ["a", "--dry-run", "--npn", "1"],
                                       ["a", "--npn", "1"], ["a", "--reason", "x"], ["a", "--since", "1h"],
                                       ["--all", "--since", "x"]])
def test_retry_misused(desk, arguments):
    done = desk.run("retry", *arguments, expect=64)
    assert done.stderr.count("\n") == 1 and "psapi help retry" in done.stderr


@pytest.mark.spool_only("drains share a database, and nobody waits for a lock")
def test_a_dry_run_needs_no_lock(failed):
    failed.gate("gate")
    failed.handler("producersync", 'echo in >>"$PSAPI_TOLD/seen"; read line <"$PSAPI_TOLD/gate"\n')
    failed.deliver(signed(body(9, "9"), "next"))
    drain = failed.start("drain")
    failed.wait_for_lines(1)
    assert failed.run("retry", "--all", "--dry-run").stdout.startswith("5 would")
    failed.open_gate("gate")
    assert drain.wait(30) == 0


# ---- gaps ----

def today():
    """The last day that counts: one is missing when its event is 26 hours late."""
    return (datetime.now(timezone.utc) - timedelta(hours=26)).date()


def day(ago):
    return today() - timedelta(days=ago)


@pytest.fixture
def daily(desk):
    """daily(AGO, ...): the daily events of these days. One arrived, by its record, 20 days ago."""
    for hours in (0, 26):       # no day ends during the test
        left = 86400 - (time.time() - hours * 3600) % 86400
        if left < 30:
            time.sleep(left + 1)

    def deliver(*days):
        desk.deliver(*(signed(updates(0, run_date=day(ago).isoformat())) for ago in days))
    desk.daily = deliver
    return desk


def received_days_ago(desk, webhook_id, ago):
    """As if the event had arrived then: its record and its time say so."""
    at = int(time.time() - ago * 86400)
    record = desk.spool.record(webhook_id)
    old = json.loads(record.split(b"\n", 1)[0][:-len(b',"event":')] + b"}")["received_at"]
    new = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    record = record.replace(old.encode(), new.encode(), 1)
    if desk.place.store == "postgresql":
        desk.spool.sql(f"UPDATE psapi_event SET received_ns = {at}000000000, record = '\\x{record.hex()}' "
                       f"WHERE name = '{webhook_id}.json'")
        return
    path = desk.spool.file("events", webhook_id)
    path.write_bytes(record)
    os.utime(path, times=(at, at))


def test_gaps(daily):
    daily.deliver(signed(body(1), "first"))
    received_days_ago(daily, "first", 20)
    daily.daily(0, 1, 2, 4, 5, 7, 9)
    rows = daily.run("list", "--gaps", "--days", "10", "--json", expect=1).stdout.splitlines()
    shown = [json.loads(row) for row in rows]
    assert shown == [{"date": day(ago).isoformat(), "status": "missing", "weekday": f"{day(ago):%A}",
                      "weekend": day(ago).weekday() >= 5} for ago in (8, 6, 3)]
    lines = daily.run("list", "--gaps", "--days", "10", expect=1).stdout.splitlines()
    weekends = sum(day(ago).weekday() >= 5 for ago in (8, 6, 3))
    assert lines == [f"{day(ago)}  {day(ago):%A}" + (" (weekend)" if day(ago).weekday() >= 5 else "")
                     for ago in (8, 6, 3)] + [f"3 of 10 days have no daily event, {weekends} of them on a weekend"]
    daily.daily(8, 6, 3)
    done = daily.run("list", "--gaps", "--days", "10")
    assert (done.stdout, done.stderr) == ("", "")


def test_gaps_before_the_oldest_event_are_not_known(daily):
    daily.deliver(signed(body(1), "first"))
    received_days_ago(daily, "first", 5)
    oldest = datetime.fromtimestamp(time.time() - 5 * 86400, timezone.utc).date()
    daily.daily(0, 1)
    rows = [json.loads(row) for row in daily.run("list", "--gaps", "--json", expect=1).stdout.splitlines()]
    assert rows[0] == {"from": day(89).isoformat(), "to": oldest.isoformat(), "status": "unknown"}
    assert [row["date"] for row in rows[1:]] == [
        d.isoformat() for d in (day(ago) for ago in range(89, 1, -1)) if d > oldest]
    first = daily.run("list", "--gaps", expect=1).stdout.splitlines()[0]
    assert first == f"{day(89)} to {oldest}: not known, for the events that are kept begin later"


def test_gaps_of_a_pruned_spool(daily):
    """An old event that failed is kept; that the others of its time were pruned is known all the same."""
    daily.handler("default", 'case $PSAPI_WEBHOOK_ID in first) exit 1 ;; esac\n')
    daily.deliver(signed(body(1), "first"), signed(updates(0, day(8).isoformat()), "gone"))
    received_days_ago(daily, "first", 30)
    received_days_ago(daily, "gone", 8)
    daily.drain(expect=1)
    daily.daily(*range(8))
    daily.drain_silently()
    done = daily.run("list", "--gaps", "--days", "20", expect=1)
    assert "11 of 20 days" in done.stdout and "not known" not in done.stdout
    daily.run("prune", "--older-than", "7d", "--force")
    done = daily.run("list", "--gaps", "--days", "20")
    assert done.stdout == "", "nothing that is known is missing, and cron mails nothing"
    assert "not known" in daily.on_a_terminal("list", "--gaps", "--days", "20")[0]
    (row,) = [json.loads(row) for row in daily.run("list", "--gaps", "--days", "20", "--json").stdout.splitlines()]
    assert row["status"] == "unknown" and row["to"] <= day(6).isoformat()


def test_gaps_between_events_that_came_late(daily):
    """All arrived today: what is between two days that they name is missing, and what is before is not known."""
    daily.daily(10, 9, 7)
    shown = [json.loads(row) for row in daily.run("list", "--gaps", "--days", "12", "--json", expect=1).stdout.splitlines()]
    assert shown[0] == {"from": day(11).isoformat(), "to": day(11).isoformat(), "status": "unknown"}
    assert [row["date"] for row in shown[1:]] == [day(ago).isoformat() for ago in (8, 6, 5, 4, 3, 2, 1, 0)]


def test_an_example_does_not_begin_the_days(daily):
    """Its runDate is of long ago. What is sent again after up to 90 days does begin them."""
    daily.daily(110, 2)
    shown = [json.loads(row) for row in daily.run("list", "--gaps", "--days", "120", "--json", expect=1).stdout.splitlines()]
    assert shown[0] == {"from": day(119).isoformat(), "to": day(3).isoformat(), "status": "unknown"}
    assert [row["date"] for row in shown[1:]] == [day(1).isoformat(), day(0).isoformat()]
    daily.daily(89)     # a day that ended up to 90 days ago
    shown = [json.loads(row) for row in daily.run("list", "--gaps", "--days", "120", "--json", expect=1).stdout.splitlines()]
    assert (shown[0]["to"], shown[1]["date"]) == (day(90).isoformat(), day(88).isoformat())


def test_gaps_of_nothing(desk):
    """Nothing is known without an event; a probe of doctor is none."""
    desk.deliver(signed(b'{"type":"psapi.doctor"}'))
    (row,) = [json.loads(row) for row in desk.run("list", "--gaps", "--json").stdout.splitlines()]
    assert row == {"from": day(89).isoformat(), "to": day(0).isoformat(), "status": "unknown"}


def test_gaps_with_hostile_dates(daily):
    """A run date that is none, or of another type, fills no gap."""
    daily.deliver(signed(body(1), "first"))
    received_days_ago(daily, "first", 20)
    for kind, run_date in (("producersync.updates_available", f"{day(1)}T00:00:00Z"), ("x", day(1).isoformat()),
                           ("producersync.updates_available.x", day(1).isoformat()),
                           ("producersync.updates_available", "\x1b[2J"), ("producersync.updates_available", "9999-99-99")):
        daily.deliver(signed(json.dumps({"type": kind, "data": {"runDate": run_date}}).encode()))
    daily.daily(0, 2)
    assert [json.loads(row)["date"] for row in
            daily.run("list", "--gaps", "--days", "3", "--json", expect=1).stdout.splitlines()] == [day(1).isoformat()]


@pytest.mark.parametrize("arguments", [["--days", "3"], ["--gaps", "--days", "0"], ["--gaps", "--days", "-1"],
                                       ["--gaps", "--days", "3661"], ["--gaps", "--days", "x"], ["--gaps", "--all"],
                                       ["--gaps", "--type", "x"], ["--gaps", "--by-cause"], ["--gaps", "--days", ""]])
def test_gaps_misused(desk, arguments):
    done = desk.run("list", *arguments, expect=64)
    assert done.stderr.count("\n") == 1 and "psapi help list" in done.stderr
