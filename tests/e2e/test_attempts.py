"""The attempts log: whole lines, safe to print, rotated without a signal; refused requests cannot fill it.

The contents of a line are in test_accept.py (accepted) and test_refusals.py (the reasons).
"""

import json
import time
import unicodedata

import pytest

from load import at_once
from receiver import wait_for
from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, signed
from servers import Cgi, pairs

pytestmark = pytest.mark.each_store


def log(place):
    return place.spool.path / "attempts.jsonl"


def control_characters(data):
    """The control characters of a terminal, without the end of a line."""
    return {c for c in data.decode() if unicodedata.category(c) in ("Cc", "Cf")} - {"\n"}


def forged():
    return signed(secrets=[OTHER_SECRET])


def test_mode(server, place):
    assert_accepted(server.send(signed()))
    assert log(place).stat().st_mode & 0o137 == 0


def test_rotation_by_rename(server, place):
    """No signal, no restart: the next line goes into a new file."""
    requests = [signed() for _ in range(4)]
    assert_accepted(server.send(requests[0]))
    log(place).rename(log(place).with_suffix(".1"))
    for request in requests[1:3]:
        assert_accepted(server.send(request))
    assert len(place.spool.attempts()) == 2
    log(place).unlink()
    assert_accepted(server.send(requests[3]))
    assert [line["webhook_id"] for line in place.spool.attempts()] == \
        [requests[3].header("webhook-id").decode()]
    assert len(log(place).with_suffix(".1").read_text().splitlines()) == 1


def test_torn_line(server, place):
    """After half a line, from a crash or a full disk, the next one begins on a new line."""
    assert_accepted(server.send(signed()))
    with open(log(place), "a") as file:
        file.write('{"at":"2025-')
    request = signed()
    for _ in range(2):
        assert server.send(request).status == 200
    first, torn, *rest = log(place).read_text().splitlines()
    assert torn == '{"at":"2025-'
    assert [json.loads(line)["outcome"] for line in rest] == ["accepted", "duplicate"]


def test_log_that_cannot_be_written(server, place):
    """The answers are the same."""
    log(place).mkdir()
    assert_accepted(server.send(signed()))
    assert_refused(server.send(forged()), "signature_mismatch")
    log(place).rmdir()
    assert_accepted(server.send(signed()))
    assert len(place.spool.attempts()) == 1


def test_lines_stay_whole_side_by_side(server, place):
    requests = [signed() for _ in range(40)]
    at_once(lambda r=request: server.send(r) for request in requests)
    ids = sorted(line["webhook_id"] for line in place.spool.attempts())
    assert ids == sorted(request.header("webhook-id").decode() for request in requests)


def test_text_of_the_event_is_escaped(server, place):
    """Type and id are text from the sender, of any length and content."""
    for kind in ("\x1b[2J\x1b[31mred", "a\nb", "\u2028\u202e", "\x7f\x9b31m", '"},{"',
                 "t" * 20_000):
        body = json.dumps({"type": kind, "id": kind, "data": {}}).encode()
        assert_accepted(server.send(signed(body)))
    data = log(place).read_bytes()
    assert control_characters(data) == set()
    lines = place.spool.attempts()
    assert len(lines) == 6
    assert lines[0]["type"] == "\x1b[2J\x1b[31mred"
    assert all(len(line) < 5000 for line in data.splitlines())


def test_every_authentic_attempt_is_logged(server, place):
    """At any rate."""
    requests = [signed() for _ in range(10)]
    for request in requests * 2:
        assert server.send(request).status == 200
    assert [line["outcome"] for line in place.spool.attempts()] == \
        ["accepted"] * 10 + ["duplicate"] * 10


@pytest.mark.spool_only("the receiver does not see the database's disk; test_postgresql.py fills it")
@pytest.mark.settings(PSAPI_MIN_FREE=str(1 << 60))
def test_every_error_is_logged(server, place):
    for _ in range(10):
        assert_refused(server.send(signed()), "spool_full")
    assert [line["outcome"] for line in place.spool.attempts()] == ["error"] * 10


def test_rejections_are_bounded(direct, place):
    """Ten at once, then ten a second. The next line has the number of those left out."""
    sent = 0
    start = time.monotonic()

    def several_are_logged():
        nonlocal sent
        for _ in range(20):
            request = forged()
            client.exchange(pairs(request), request.body, keep=True)
            sent += 1
        return 14 <= len(place.spool.attempts()) < sent

    with direct.connect() as client:
        wait_for(several_are_logged, "some come after the first ten, and some were left out")
    seconds = time.monotonic() - start
    for _ in range(2):
        assert_accepted(direct.send(signed()))
    lines = place.spool.attempts()
    rejected = lines[:-2]
    assert [line["outcome"] for line in lines] == ["rejected"] * len(rejected) + ["accepted"] * 2
    assert len(rejected) + sum(line.get("suppressed", 0) for line in lines) == sent
    assert len(rejected) <= 10 + seconds / 0.1
    assert all(line.get("suppressed", 1) > 0 for line in lines)


def test_one_refusal_counts(server, place):
    """The portal's refusals are in the log, though an accepted event, or another refusal, was there just before."""
    for _ in range(4):
        assert_accepted(server.send(signed()))
        assert_refused(server.send(forged()), "signature_mismatch")
    assert [line["outcome"] for line in place.spool.attempts()] == ["accepted", "rejected"] * 4


def test_cgi_counts_what_others_wrote(place):
    """Every request is a new process: it looks at the lines of the last second, and reports no number of lines left
    out."""
    cgi = Cgi(place)
    cgi.start()
    assert_accepted(cgi.send(signed()))
    begin = time.monotonic()
    at_once([lambda: assert_refused(cgi.send(forged()), "signature_mismatch") for _ in range(40)])
    seconds = time.monotonic() - begin
    lines = place.spool.attempts()
    # Those that look at the same moment do not see each other.
    assert 10 <= len(lines) - 1 <= max(30, 10 + 10 * seconds)
    assert not any(line.get("suppressed") for line in lines)
