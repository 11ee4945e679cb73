"""psapi roster: the producers that are active by event time, before and after psapi prune, over both stores."""

import csv
import io
import itertools
import json
import os
import subprocess

import pytest

from psapi_command import PSAPI, Desk, body, updates
from receiver import wait_for
from sender import event, signed

pytestmark = pytest.mark.each_store

ON, OFF = "producersync.npn.activated", "producersync.npn.deactivated"


@pytest.fixture
def desk(place):
    desk = Desk(place)
    # Handled, unless the id begins with "kept": then it waits for a retry, and no prune removes it.
    desk.handler("default", 'case $PSAPI_WEBHOOK_ID in kept*) exit 75 ;; esac\n')
    yield desk
    desk.close()


def deliver(desk, *events):
    """(webhook-id, NPN, second, type) of each, in the order of arrival."""
    desk.deliver(*(signed(body(second, npn, kind), webhook_id) for webhook_id, npn, second, kind in events))


def prune(desk):
    """Whatever was handled, whatever its age."""
    desk.drain_silently()
    desk.run("prune", "--older-than", "0d", "--force")


def active(desk, *arguments):
    return [row["npn"] for row in desk.rows("roster", *arguments)]


def at(second):
    return f"2025-07-25T00:00:{second:02}.000Z"


def test_the_latest_event_counts(desk):
    deliver(desk, ("a", "7", 10, ON), ("b", "8", 10, ON), ("c", "8", 20, OFF), ("d", "9", 30, OFF), ("e", "9", 25, ON),
            ("f", "100", 5, ON), ("g", "100", 9, OFF), ("h", "100", 11, ON))
    desk.deliver(signed(updates(40)), signed(event("x", npn="55")), signed(body(1, "1x")), signed(b"no JSON"))
    assert desk.rows("roster") == [{"npn": "7", "status": "active", "since": at(10)},
                                   {"npn": "100", "status": "active", "since": at(11)}]
    assert active(desk, "--at", at(15)) == ["7", "8", "100"]
    assert active(desk, "--at", at(10)) == ["7", "8"], "at the very time of its event"
    assert active(desk, "--at", at(4)) == []
    assert active(desk, "--at", "2025-07-25") == [] and active(desk, "--at", "0s") == ["7", "100"]


def test_outputs(desk):
    desk.deliver(signed(updates()))
    assert desk.run("roster", "--csv").stdout == "npn,status,since\n"
    deliver(desk, ("a", "7", 10, ON), ("b", "12345678901234567890", 20, ON))
    done = desk.run("roster", "--csv")
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["npn", "status", "since"], ["7", "active", at(10)], ["12345678901234567890", "active", at(20)]]
    lines = desk.run("roster").stdout.splitlines()
    assert [line.split() for line in lines] == [["NPN", "STATUS", "SINCE"], ["7", "active", at(10)],
                                                ["12345678901234567890", "active", at(20)]]
    assert "--csv or --json" in desk.run("roster", "--csv", "--json", expect=64).stderr
    assert "--at takes" in desk.run("roster", "--at", "yesterday", expect=64).stderr
    assert "options alone" in desk.run("roster", "7", expect=64).stderr


def test_on_a_terminal(desk):
    deliver(desk, ("a", "7", 10, ON))
    output, status = desk.on_a_terminal("roster", "--csv")
    assert status == 0 and output == f"adding up the events ...\r\x1b[Knpn,status,since\r\n7,active,{at(10)}\r\n"


@pytest.mark.parametrize("order", itertools.permutations("abc"))
def test_whatever_the_order_and_whichever_are_pruned(desk, order):
    """Late arrivals, before and after a prune: the answer is always the same."""
    events = {"a": (10, ON), "b": (20, OFF), "c": (15, ON)}
    for webhook_id in order:
        deliver(desk, (webhook_id, "7", *events[webhook_id]))
        prune(desk)
    assert active(desk) == []
    deliver(desk, ("d", "7", 21, ON))
    assert active(desk) == ["7"]
    prune(desk)
    assert active(desk) == ["7"]


def test_a_tie_is_active(desk):
    """In both orders, and over a prune."""
    deliver(desk, ("a", "7", 10, ON), ("b", "7", 10, OFF), ("c", "8", 10, OFF), ("d", "8", 10, ON), ("e", "9", 10, ON))
    assert active(desk) == ["7", "8", "9"]
    prune(desk)
    deliver(desk, ("f", "9", 10, OFF))
    assert active(desk) == ["7", "8", "9"]
    prune(desk)
    assert active(desk) == ["7", "8", "9"] and active(desk, "--at", at(10)) == ["7", "8", "9"]


def expected(events, second):
    """The rule of store/roster.h, over all events that were ever delivered."""
    last = {}
    for _, npn, when, kind in events:
        if when <= second:
            last[npn] = max(last.get(npn, (0, False)), (when, kind == ON))
    return [{"npn": npn, "status": "active", "since": at(when)}
            for npn, (when, on) in sorted(last.items(), key=lambda one: int(one[0])) if on]


def test_each_time_stays_right(desk):
    """The answer for each time, whatever was pruned; late events come between pruned ones that say the same."""
    rounds = [[("a", "7", 10, ON), ("b", "7", 20, ON), ("c", "7", 30, OFF), ("d", "8", 5, ON), ("e", "9", 20, ON)],
              [("kept1", "7", 40, ON), ("f", "7", 15, OFF), ("g", "8", 25, OFF), ("h", "9", 12, OFF), ("i", "9", 20, OFF)],
              [("j", "7", 17, ON), ("kept2", "8", 3, ON), ("k", "9", 30, ON), ("l", "9", 25, ON), ("m", "8", 25, ON)]]
    events = []
    for more in rounds:
        deliver(desk, *more)
        events += more
        for _ in "before", "after", "once more":
            for second in sorted({event[2] for event in events}):
                assert desk.rows("roster", "--at", at(second)) == expected(events, second), second
            assert desk.rows("roster") == expected(events, 59)
            prune(desk)


def test_a_failed_event_counts_and_a_dry_run_changes_nothing(desk):
    desk.handler("default", "exit 1\n")
    deliver(desk, ("a", "7", 10, ON))
    desk.drain(expect=1)
    assert active(desk) == ["7"]
    desk.run("done", "a")
    files = desk.spool.files()
    desk.run("prune", "--older-than", "0d", "--dry-run")
    assert desk.spool.files() == files and active(desk) == ["7"]


def test_pruned_twice(desk):
    """The same event, sent again after a prune, and pruned again."""
    for _ in range(2):
        deliver(desk, ("a", "7", 10, ON))
        prune(desk)
        prune(desk)
        assert active(desk) == ["7"]


def test_hostile_npns(desk):
    """An NPN is 1 to 20 digits; anything else counts for nobody, and is printed nowhere."""
    for n, npn in enumerate(["", "7\n8", "7,8", '7"', "=1+1", "\x1b[31m", "é", "1" * 21, "1" * 40, " 7", "٧"]):
        desk.deliver(signed(json.dumps({"type": ON, "timestamp": at(1), "data": {"npn": npn}}).encode(), f"m{n}"))
    desk.deliver(signed(json.dumps({"type": ON + "\n", "timestamp": at(1), "data": {"npn": "7"}}).encode()))
    assert desk.run("roster", "--csv").stdout == "npn,status,since\n"
    desk.run("done", *(row["file"] for row in desk.rows("list")))
    desk.run("prune", "--older-than", "0d", "--force")
    assert desk.run("roster", "--csv").stdout == "npn,status,since\n"


def test_without_a_timestamp(desk):
    """When it was received counts then, as for the order of drain."""
    desk.deliver(signed(json.dumps({"type": ON, "data": {"npn": "7", "activatedAt": at(1)}}).encode()))
    (row,) = desk.rows("roster")
    assert row["since"] == desk.rows("list")[0]["received_at"]


@pytest.mark.spool_only("files of the spool")
def test_an_event_that_cannot_be_read_is_an_error(desk):
    """A roster that lacks one would be wrong; and prune keeps what it cannot read."""
    deliver(desk, ("a", "7", 10, ON), ("b", "8", 10, ON))
    desk.drain_silently()
    path = desk.spool.file("events", "a")
    under = []
    if os.geteuid() == 0:
        under = ["setpriv", "--reuid=65534", "--regid=0", "--clear-groups"]
        if subprocess.run([*under, PSAPI, "--version"], capture_output=True).returncode != 0:
            pytest.skip(f"others may not run {PSAPI}")
        path.chmod(0o600)
    else:
        path.chmod(0)
    done = desk.run("roster", under=under, expect=77)
    assert "events/a.json" in done.stderr and done.stdout == ""


@pytest.mark.spool_only("files of the spool")
def test_the_file_is_for_scripts(desk):
    """psapi-spool(5): its head says until when events are forgotten, and how many lines follow."""
    deliver(desk, ("a", "8", 10, ON), ("b", "7", 20, OFF), ("c", "7", 10, OFF), ("d", "7", 10, ON))
    path = desk.spool.path / "state/roster"
    for _ in range(2):      # an event that comes again, and is pruned again, is not written twice
        prune(desk)
        head, *lines = path.read_text().splitlines()
        assert head.split()[:2] == ["roster", "1"] and head.split()[3] == "3" and len(head.split()) == 4
        assert sorted(lines) == ["7 2025-07-25T00:00:10.000000000Z activated",
                                 "7 2025-07-25T00:00:20.000000000Z deactivated", "8 2025-07-25T00:00:10.000000000Z activated"]
        deliver(desk, ("b", "7", 20, OFF), ("c", "7", 10, OFF))
    desk.drain_silently()
    assert path.stat().st_mode & 0o777 == 0o640
    path.write_text("roster 1 nonsense\n")
    deliver(desk, ("e", "9", 10, ON))
    desk.drain_silently()
    for command in (["roster"], ["prune", "--older-than", "0d", "--force"]):
        assert "is damaged after line 0: restore it" in desk.run(*command, expect=65).stderr
    assert desk.where("e") == ["events"]


def test_beside_a_prune(desk):
    """Asked again and again while a prune runs: no event is ever missing from the answer."""
    deliver(desk, ("a", "7", 10, ON))
    for n in range(400 if desk.place.store == "spool" else 40):
        desk.copy("a", f"m{n}")
    desk.drain_silently("-j", "4")
    child = desk.start("prune", "--older-than", "0d", "--force")
    answers = []

    def ended():
        answers.append(active(desk))
        return child.poll() is not None
    wait_for(ended, "prune ends")
    assert child.returncode == 0 and answers and all(answer == ["7"] for answer in answers)
    assert active(desk) == ["7"]


def test_two_prunes_at_once(desk):
    """Each event is kept by one of them, and none by neither."""
    events = [(f"m{n}", str(n % 3 + 7), n // 2, ON if n % 5 else OFF) for n in range(30)]
    deliver(desk, *events)
    desk.drain_silently()
    prunes = [desk.start("prune", "--older-than", "0d", "--force") for _ in range(3)]
    for child in prunes:
        assert child.wait(30) == 0, child.stderr.read()
    assert desk.rows("list", "--all") == []
    for second in range(16):
        assert desk.rows("roster", "--at", at(second)) == expected(events, second), second
