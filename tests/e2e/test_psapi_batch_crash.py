"""Batches: after any kill or failure between a result and its record nothing is lost, and no lane is out of order.

As test_psapi_crash.py: the same drain again and again, each time with a fault one system call later, until a run has
none. Then a run without faults must finish the work. The handler reports, takes a result back, and leaves one out.
"""

import os

import pytest

from psapi_command import Desk, body
from sender import signed
from test_psapi_batch import batch_handler, due
from test_psapi_crash import MOST, again, faulty_drain, needs_strace, was_killed

CALLS = ["unlinkat", "linkat", "renameat", "newfstatat", "read", "write", "ppoll", "waitid", "openat", "close", "fork",
         "memfd_create"]
FAILURES = [("unlinkat", "EIO"), ("linkat", "EIO"), ("renameat", "ENOSPC"), ("newfstatat", "EIO"), ("read", "EIO"),
            ("openat", "EMFILE"), ("fork", "EAGAIN"), ("memfd_create", "ENFILE"), ("pipe2", "EMFILE"), ("ppoll", "EINTR"),
            ("fsync", "EIO")]
# By id: what is reported, in this order. e6 is left out; f1 is in the lane of e1, and reported as ok.
REPORTS = r"""#!/usr/bin/awk -f
BEGIN { FS = "\""; seen = ENVIRON["PSAPI_TOLD"] "/seen" }
{ n[$6] = NR; print $6 >>seen }
function say(word, id) { if (id in n) { print word, n[id]; fflush() } }
END {
	close(seen)
	say("ok", "e1"); say("later", "e2"); say("failed", "e3"); say("ok", "e4"); say("ok", "f1")
	say("ok", "e5"); system(""); say("failed", "e5"); exit 75
}
"""
IDS = ["e1", "e2", "e3", "e4", "e5", "e6", "f1"]


@pytest.fixture
def step(request):
    """Every call with --long, else every seventh."""
    return 1 if request.config.getoption("--long") else 7


@pytest.fixture
def desk(place):
    place.tidy = False
    desk = Desk(place)
    desk.batches = place.dir / "batch.d"
    desk.batches.mkdir(mode=0o755)
    place.settings["PSAPI_BATCH_HANDLERS"] = desk.batches
    batch_handler(desk, REPORTS)
    desk.deliver(*(signed(body(n, str(100 + n)), f"e{n}") for n in range(1, 7)), signed(body(9, "101"), "f1"))
    (desk.spool.path / "lock").touch(0o640)
    yield desk
    desk.close()


def assert_nothing_lost(desk):
    """Every event is in events/, and waits unless a handler said that it is done, or failed."""
    assert desk.spool.names("events") == IDS
    for webhook_id in IDS:
        where = desk.where(webhook_id)
        if "new" not in where and "failed" not in where:
            assert webhook_id in desk.lines() and webhook_id in ("e1", "e4", "e5", "f1"), (webhook_id, where)
        if "failed" in where and "new" not in where:
            assert webhook_id in ("e3", "e5"), (webhook_id, where)
    assert "new" in desk.where("e2") and "new" in desk.where("e6")


def assert_order(desk):
    mine = [one for one in desk.lines() if one in ("e1", "f1")]
    assert mine == sorted(mine)


def assert_finished(desk):
    for webhook_id in desk.spool.names("state"):
        if "due_at" in (desk.state(webhook_id) or {}):
            due(desk, webhook_id)
    desk.wait_for_unlock()
    desk.drain("-j", "2", expect=None)
    assert_order(desk)
    assert set(desk.lines()) == set(IDS)
    # of e5, which a kill may have left as the first result said
    assert desk.spool.names("failed") in (["e3", "e5"], ["e3"])
    assert desk.spool.names("new") == ["e2", "e6"]


@needs_strace
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_any_call(desk, call, step):
    for when in range(1, MOST, step):
        again(desk)
        done, injected = faulty_drain(desk, call, "signal=KILL", when, "2")
        if not injected:
            break
        assert was_killed(done)
        assert_nothing_lost(desk)
        assert_order(desk)
        assert_finished(desk)
    assert not injected and when > 1, "nothing was ever killed"
    assert_finished(desk)


@needs_strace
@pytest.mark.parametrize("call, error", FAILURES)
def test_call_fails(desk, call, error, step): 
    """A message and an exit status; nothing is lost, and the next run finishes the work."""
    if call == "read" and os.environ.get("PSAPI_SANITIZED"):
        pytest.skip("a sanitizer that cannot read /proc gives up")
    for when in range(1, MOST, step):
        again(desk)
        done, injected = faulty_drain(desk, call, f"error={error}", when, "1")
        if not injected:
            break
        assert done.returncode >= 0 and "Sanitizer" not in done.stderr
        assert_nothing_lost(desk)
        assert_order(desk)
        assert_finished(desk)
    assert not injected and when > 1, "nothing ever failed"
