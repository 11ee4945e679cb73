"""Each event is queued once: duplicates, concurrent duplicates, concurrent distinct events."""

from collections import Counter

import pytest

from load import at_once
from receiver import wait_for
from replies import assert_accepted, assert_duplicate, assert_refused
from sender import SECRET, event, new_id, signed

pytestmark = pytest.mark.each_store

MANY = 32       # processes at once over classic CGI, each with a database connection of its own


def test_second_delivery(server, place):
    request = signed()
    assert_accepted(server.send(request))
    before = place.spool.files()
    assert_duplicate(server.send(request))
    assert place.spool.files() == before
    assert [line["outcome"] for line in place.spool.attempts()] == ["accepted", "duplicate"]


def test_retry_has_a_new_timestamp_and_signature(server, place):
    webhook_id, body = new_id(), event()
    assert_accepted(server.send(signed(body, webhook_id)))
    retry = signed(body, webhook_id, timestamp=int(signed().header("webhook-timestamp")) - 7)
    assert_duplicate(server.send(retry))
    place.spool.assert_queued_once(webhook_id, body)


def test_after_it_was_handled(server, place):
    """A user's script has removed the name in new/: the event is done, and stays done."""
    request = signed()
    assert_accepted(server.send(request))
    place.spool.file("new", request.header("webhook-id")).unlink()
    assert_duplicate(server.send(request))
    assert place.spool.names("new") == []


def test_the_bodys_id_is_not_the_key(server, place):
    """Every "Send Example" of the portal repeats it."""
    for request in (signed(), signed()):
        assert_accepted(server.send(request))
    assert len(place.spool.names("new")) == 2


def test_a_duplicate_must_be_signed_too(server, place):
    request = signed()
    assert_accepted(server.send(request))
    forged = request.with_header("webhook-signature", b"v1," + b"A" * 43 + b"=")
    assert_refused(server.send(forged), "signature_mismatch")


@pytest.mark.needs("persistent")
def test_across_a_restart(server, place):
    request = signed()
    assert_accepted(server.send(request))
    server.renew()
    assert_duplicate(server.send(request))


def test_concurrent_duplicates(server, place):
    webhook_id, body = new_id(), event()
    requests = [signed(body, webhook_id) for _ in range(MANY)]
    replies = at_once(lambda r=request: server.send(r) for request in requests)
    assert Counter((r.status, r.word) for r in replies) == {(200, "accepted"): 1,
                                                           (200, "duplicate"): MANY - 1}
    place.spool.assert_queued_once(webhook_id, body)
    wait_for(lambda: len(place.spool.files()) == 2, "two names, and no probe of a start")


def test_distinct_at_once(server, place):
    requests = [signed(event(npn=str(n), activatedAt="2025-07-25T15:53:01.579Z"))
                for n in range(MANY)]
    for reply in at_once(lambda r=request: server.send(r) for request in requests):
        assert_accepted(reply)
    for request in requests:
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert len(place.spool.names("new")) == MANY


def test_retry_after_the_writer_died_between_the_links(server, place):
    """The event is in new/, but not in events/: the sender's retry completes it."""
    request = signed()
    assert_accepted(server.send(request))
    place.spool.file("events", request.header("webhook-id")).unlink()
    assert_duplicate(server.send(request))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_two_secrets_one_event(server, place):
    """The same event, signed with another valid secret, is a duplicate."""
    second = SECRET.removeprefix("whsec_")      # the same key, in another spelling
    place.write_secret(SECRET, second)
    webhook_id = new_id()
    assert_accepted(server.send(signed(webhook_id=webhook_id)))
    assert_duplicate(server.send(signed(webhook_id=webhook_id, secrets=[second])))
