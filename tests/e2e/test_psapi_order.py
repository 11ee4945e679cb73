"""The order of work: in each lane by the timestamp of the event; no event overtakes one that waits."""

import pytest

from psapi_command import NOTE, Desk, body, updates
from receiver import wait_for
from sender import event, signed

pytestmark = pytest.mark.each_store


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


def deliver(desk, *named):
    """(id, body) in this order of arrival."""
    return desk.deliver(*(signed(one, webhook_id) for webhook_id, one in named))


def test_by_timestamp_then_name(desk):
    """Not by arrival or by name; also across lanes."""
    desk.handler("default", NOTE)
    deliver(desk, ("m3", body(3, "1")), ("a4", body(4, "2")), ("z1", body(1, "1")),
            ("b2", body(2, "3")), ("a2", updates(2)))
    desk.drain_silently()
    assert desk.lines() == ["z1", "a2", "b2", "m3", "a4"]


def test_timestamps_are_times(desk):
    """Fractions and time zones are compared as times, not as text. Without a timestamp the arrival counts."""
    def at(text):
        return b'{"type":"x","timestamp":"%s","data":{}}' % text
    desk.handler("default", NOTE)
    deliver(desk, ("e", b'{"type":"x","timestamp":"soon"}'), ("d", at(b"2025-07-25T00:00:01.25Z")),
            ("c", at(b"2025-07-25T00:00:01Z")), ("b", at(b"2025-07-25T02:00:00.9+02:00")),
            ("a", at(b"2025-07-24T23:59:60.5Z")), ("f", b'{"type":"x"}'))
    desk.drain_silently()
    assert desk.lines() == ["a", "b", "c", "d", "e", "f"]


def running(desk):
    """The ids that have a line "+ ID" and no line "- ID"."""
    words = [line.split() for line in desk.lines()]
    ended = [webhook_id for sign, webhook_id in words if sign == "-"]
    return [webhook_id for sign, webhook_id in words if sign == "+" and webhook_id not in ended]


@pytest.mark.parametrize("jobs", [1, 4])
def test_nothing_overtakes_in_a_lane(desk, jobs):
    """An event that waits for its retry blocks those of its NPN, and no others."""
    desk.handler("default", NOTE + 'test "$PSAPI_WEBHOOK_ID" != first || exit 75\n')
    deliver(desk, ("first", body(1, "111")), ("second", body(2, "111")), ("other", body(3, "222")),
            ("daily", updates(4)), ("third", body(5, "111", "producersync.npn.deactivated")))
    desk.drain_silently("-j", str(jobs))
    assert sorted(desk.lines()) == ["daily", "first", "other"]
    desk.drain_silently("-j", str(jobs))     # not due: no event of the lane is handled
    assert len(desk.lines()) == 3
    desk.handler("default", NOTE)
    desk.write_state("first", tries=1, due_in=-1)
    desk.drain_silently("-j", str(jobs))
    assert desk.lines()[3:] == ["first", "second", "third"]


def test_a_late_arrival_does_not_overtake(desk):
    """An event with a later timestamp waits behind one that waits for its retry; an earlier one does not."""
    desk.handler("default", NOTE)
    deliver(desk, ("waiting", body(10, "111")))
    desk.write_state("waiting", tries=1, due_in=600)
    deliver(desk, ("later", body(11, "111")), ("earlier", body(9, "111")))
    desk.drain_silently()
    assert desk.lines() == ["earlier"]


def test_failure_holds_nobody_up(desk):
    desk.handler("default", NOTE + 'test "$PSAPI_WEBHOOK_ID" != first || exit 1\n')
    deliver(desk, ("first", body(1)), ("second", body(2)))
    desk.drain(expect=1)
    assert desk.lines() == ["first", "second"]


def test_lanes_without_npn_are_types(desk):
    desk.handler("default", NOTE + 'test "$PSAPI_WEBHOOK_ID" != first || exit 75\n')
    deliver(desk, ("first", updates(1)), ("second", updates(2)), ("x", event("x.y", z=1)))
    desk.drain_silently()
    assert desk.lines() == ["first", "x"] or desk.lines() == ["x", "first"]


def test_side_by_side(desk):
    """-j N: N lanes at once, never two events of one lane."""
    desk.handler("default", 'echo "+ $PSAPI_WEBHOOK_ID" >>"$PSAPI_TOLD/seen"\n'
                 'read line <"$PSAPI_TOLD/$PSAPI_WEBHOOK_ID"\n'
                 'echo "- $PSAPI_WEBHOOK_ID" >>"$PSAPI_TOLD/seen"\n')
    ids = deliver(desk, *((f"{npn}_{n}", body(n, npn)) for n in range(3) for npn in "1234"))
    for webhook_id in ids:
        desk.gate(webhook_id)
    child = desk.start("drain", "-j", "3")
    assert len(desk.wait_for_lines(3)) == 3
    for ended in range(1, 13):
        wait_for(lambda: running(desk), "somebody runs")
        desk.open_gate(running(desk)[0])
        wait_for(lambda: "".join(desk.lines()).count("- ") == ended, "it ended")
    assert child.wait(30) == 0
    together = []
    for line in desk.lines():
        sign, webhook_id = line.split()
        if sign == "+":
            assert webhook_id.split("_")[0] not in [i.split("_")[0] for i in together]
            together.append(webhook_id)
            assert len(together) <= 3
        else:
            together.remove(webhook_id)
    assert not together and len(desk.lines()) == 2 * len(ids)


def test_all_lanes_in_order_side_by_side(desk):
    """Many events, many lanes, -j 8: in each lane the order is kept."""
    desk.handler("default", NOTE)
    deliver(desk, ("seed", body(0)))
    desk.drain_silently()
    wanted = {}
    requests = []
    for n in range(60):
        npn = str(100 + n * 7 % 5)
        wanted.setdefault(npn, []).append(f"e{n}")
        requests.append((f"e{n}", body(n + 1, npn)))
    deliver(desk, *reversed(requests))
    desk.drain_silently("-j", "8")
    seen = desk.lines()[1:]
    assert sorted(seen) == sorted(f"e{n}" for n in range(60))
    for npn, ids in wanted.items():
        assert [i for i in seen if i in ids] == ids, npn
