"""`psapi store import`: a spool's events in the shared store, with their state and in their order, however often it is
interrupted and repeated. 10,000 events; with --long 100,000."""

import json
import os
import re
import time

import pytest

import postgresql
from psapi_command import NOTE, Desk, body, seconds
from psapi_scale import event as scale_event
from receiver import SANITIZED, wait_for
from sender import signed
from spool import iso

pytestmark = [pytest.mark.skipif(postgresql.why_not() is not None, reason=str(postgresql.why_not()))]


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


@pytest.fixture
def local(place):
    """The settings as they were before PSAPI_STORE was set."""
    return {"PSAPI_STORE": ""}


def fill(desk, count):
    """As the receiver and drain leave a spool: handled, new, waiting for a retry, failed."""
    for folder in ("new", "events", "failed", "state", "hold", "tmp"):
        (desk.spool.path / folder).mkdir(mode=0o770, exist_ok=True)
    old = time.time() - 50 * 86400
    for n in range(count):
        webhook_id = f"msg_{n:027}"
        path = desk.spool.file("events", webhook_id)
        path.write_text(scale_event(n))
        path.chmod(0o640)
        os.utime(path, times=(old, old + n))
        if n % 10 < 3:
            os.link(path, desk.spool.file(("new", "new", "failed")[n % 10], webhook_id))
        if n % 10 == 1:
            desk.write_state(webhook_id, tries=2, due_at=iso(time.time() + 3600), tried_at=iso(old), handler="/h/default",
                             reason="exit status 75, try 2 of 10", stderr="busy\n")
        if n % 10 == 2:
            desk.write_state(webhook_id, tries=1, failed_at=iso(old), tried_at=iso(old), handler="/h/default",
                             reason="exit status 1", stderr="no\n")


def listed(desk, **store):
    return desk.run("list", "--all", "--json", env=store).stdout.splitlines()


def shared(request, desk):
    """The shared store, empty; the spool stays the local one."""
    spool = desk.spool
    request.getfixturevalue("shared_store").given_to(desk.place)
    view, desk.place.spool = desk.place.spool, spool
    return view


@pytest.mark.timeout(900)
def test_killed_and_repeated(request, desk, local):
    count = 100_000 if request.config.getoption("--long") and not SANITIZED else 10_000
    fill(desk, count)
    view = shared(request, desk)
    before = listed(desk, **local)
    assert len(before) == count
    kills = 0
    for part in (0.2, 0.6):
        child = desk.start("store", "import")
        wait_for(lambda part=part, child=child: child.poll() is not None or
                 int(view.sql("SELECT count(*) FROM psapi_event")) > part * count, "it imports", 300)
        kills += child.poll() is None
        child.kill()
        child.wait()
    assert kills, "never killed: it is too fast"
    told, status = desk.on_a_terminal("store", "import")
    assert status == 0 and re.search(r"\r\d+ events\x1b\[K", told) and f"of {count} events imported" in told, told
    assert listed(desk) == before, "counts, states, order"
    again = desk.run("store", "import")
    assert again.returncode == 0 and listed(desk) == before == listed(desk, **local)


def test_no_lane_without_its_earlier_events(request, desk, local):
    """While it runs, and after it was killed, a drain sees nothing that waits: the first might be missing."""
    fill(desk, 2000)
    view = shared(request, desk)
    desk.handler("default", NOTE)
    child = desk.start("store", "import")
    wait_for(lambda: child.poll() is not None or int(view.sql("SELECT count(*) FROM psapi_event")) > 0, "it imports")
    child.kill()
    child.wait()
    waiting = int(view.sql("SELECT count(*) FROM psapi_queue WHERE failed_at IS NULL"))
    assert waiting in (0, 400), waiting
    desk.run("store", "import")
    assert int(view.sql("SELECT count(*) FROM psapi_queue WHERE failed_at IS NULL")) == 400


def test_events_that_came_meanwhile_stay_as_they_are(request, desk, local):
    """The receiver is on the shared store already, and has handled a retry of an event that waits in the spool."""
    request_one, request_two = signed(body(1), "one"), signed(body(2), "two")
    desk.deliver(request_one, request_two)
    view = shared(request, desk)
    desk.handler("default", NOTE)
    desk.deliver(request_one)
    desk.drain_silently()
    desk.run("store", "import")
    rows = {row["webhook_id"]: row["status"] for row in map(json.loads, listed(desk))}
    assert rows == {"one": "handled", "two": "new"}
    desk.drain_silently()
    assert desk.lines() == ["one", "two"]
    assert view.names("new") == [] and len(desk.spool.names("new")) == 2, "the spool stays as it is"


def doctor_says(desk):
    rows = map(json.loads, desk.run("doctor", "--json", expect=None).stdout.splitlines())
    return next(row for row in rows if row["check"] == "import")


def test_doctor_says_what_was_not_imported(request, desk, local):
    """Until the import; not again when its events were handled and forgotten; but for an event that came after it."""
    fill(desk, 2000)
    view = shared(request, desk)
    said = doctor_says(desk)
    assert said["ok"] is False and "600 event(s) in new/ and failed/" in said["text"], said
    assert said["remedy"] == "psapi store import"
    assert "warning: store, import: 600 event(s)" in desk.place.run("-t").stdout
    time.sleep(1 - time.time() % 1)     # what came in the second of the import may have come after it
    desk.run("store", "import")
    assert doctor_says(desk)["ok"] is True
    view.sql("DELETE FROM psapi_queue", "DELETE FROM psapi_event")
    assert doctor_says(desk)["ok"] is True, "psapi prune has forgotten them"
    late = signed(body(1), "late")
    desk.place.settings["PSAPI_STORE"], uri = "", desk.place.settings["PSAPI_STORE"]
    desk.deliver(late)
    desk.place.settings["PSAPI_STORE"] = uri
    said = doctor_says(desk)
    assert said["ok"] is False and said["text"].startswith("1 event(s)"), said


def test_times_after_2038(request, desk, local):
    """A state may have any time that the spool takes: 2^31 seconds end in January 2038."""
    fill(desk, 3)
    tried, late = "2038-01-19T03:14:08Z", "2200-12-31T23:59:59Z"
    desk.write_state(f"msg_{1:027}", tries=1, tried_at=tried, due_at=late)
    desk.write_state(f"msg_{2:027}", tries=1, tried_at=tried, failed_at=late)
    view = shared(request, desk)
    desk.run("store", "import")
    epoch = ", ".join(f"extract(epoch FROM {column})::bigint" for column in ("tried_at", "due_at", "failed_at"))
    tried, late = (str(round(seconds(one))) for one in (tried, late))
    assert view.sql(f"SELECT {epoch} FROM psapi_queue ORDER BY name").splitlines() == [
        "||", f"{tried}|{late}|", f"{tried}||{late}"]


def test_a_file_that_is_no_event_is_left_out(request, desk, local):
    """Each with its reason; all others are imported. doctor names the file until it is mended or gone."""
    fill(desk, 30)
    torn = [desk.spool.file(folder, f"msg_{n:027}") for folder, n in (("new", 0), ("failed", 2), ("events", 7))]
    whole = [path.read_bytes() for path in torn]
    for path in torn:
        path.write_bytes(b"torn")
    view = shared(request, desk)
    time.sleep(1 - time.time() % 1)
    for _ in range(2):
        told = desk.run("store", "import", expect=65)
        lines = told.stderr.splitlines()
        assert len(lines) == 4 and all(sum(f"{path}: left out: " in line for line in lines) == 1 for path in torn), lines
        assert "3 file(s) left out" in lines[-1] and "of 27 events" in told.stdout
        assert json.loads(desk.run("store", "import", "--json", expect=65).stdout)["left_out"] == 3
        assert view.sql("SELECT count(*) FROM psapi_event").strip() == "27"
    time.sleep(1 - time.time() % 1)
    desk.run("store", "import", expect=65)
    said = doctor_says(desk)
    assert said["ok"] is False and said["text"].startswith("the import left out 2 file(s)"), said
    assert str(torn[0]) in said["text"] + str(torn[1]) and "backup" in said["remedy"], said
    torn[0].write_bytes(whole[0])
    assert doctor_says(desk)["remedy"] == "psapi store import", "it is an event now"
    torn[1].unlink()
    torn[2].write_bytes(whole[2])
    time.sleep(1 - time.time() % 1)
    desk.run("store", "import", expect=65)      # events/ still has the second one
    assert doctor_says(desk)["ok"] is True
    assert view.sql("SELECT count(*) FROM psapi_event").strip() == "29"


def test_nothing_to_import_into(desk):
    """Without PSAPI_STORE there is no shared store."""
    done = desk.run("store", "import", expect=64)
    assert "PSAPI_STORE" in done.stderr and done.stderr.count("\n") == 1


def test_what_was_pruned_is_imported(request, desk, local):
    """The roster stays the same, for each time; and so it does after a second import."""
    desk.handler("default", ":\n")
    desk.deliver(signed(body(1, "7"), "a"), signed(body(2, "8"), "b"), signed(body(3, "8", "producersync.npn.deactivated")),
                 signed(body(4, "9"), "d"))
    desk.drain_silently()
    desk.run("prune", "--older-than", "0d", "--force")
    desk.deliver(signed(body(5, "10"), "e"), signed(body(0, "7"), "f"))
    questions = [(), *(("--at", f"2025-07-25T00:00:0{second}Z") for second in range(5))]
    before = [desk.run("roster", "--csv", *arguments, env=local).stdout for arguments in questions]
    assert before[0].splitlines()[1:] == [f"{npn},active,2025-07-25T00:00:0{second}.000Z"
                                          for npn, second in (("7", 1), ("9", 4), ("10", 5))]
    assert before[3].splitlines()[1:] == [f"{npn},active,2025-07-25T00:00:0{second}.000Z" for npn, second in (("7", 1), ("8", 2))]
    shared(request, desk)
    for _ in range(2):
        desk.run("store", "import")
        assert [desk.run("roster", "--csv", *arguments).stdout for arguments in questions] == before
