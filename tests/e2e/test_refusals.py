"""Every refusal of the documented table, its order, and that a refusal leaves nothing behind."""

import time

import pytest

from receiver import wait_for
from replies import assert_accepted, assert_duplicate, assert_refused
from sender import OTHER_SECRET, event, new_id, signed

NOT_NUMBERS = ["abc", "+1753397465", "01753397465", "1753397465.0", "1e9", "-5", "0", "1753397465x",
               "17533974651234", "٣", "1753397465 1753397465", "0x68", "NaN"]


def now():
    return int(time.time())


@pytest.fixture(autouse=True)
def nothing_is_stored(request, place):
    """A refusal leaves nothing in the spool (except in tests marked `stores`)."""
    yield
    if not request.node.get_closest_marker("stores"):
        assert place.spool.files() == {}


def test_method(server, place):
    reached = 0
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "post"):
        if method == "post" and "method" in server.lacks:
            continue
        request = signed()
        request.method = method
        reply = server.send(request)
        if reply.status != 200 and "json" not in reply.headers.get("content-type", ""):
            continue    # the web server may refuse it
        assert_refused(reply, "method_not_allowed")
        reached += 1
    assert reached > 2


def test_content_encoding(server, place):
    for coding in ("gzip", "br", "deflate", "identity, gzip", "x"):
        request = signed().with_header("content-encoding", coding)
        assert_refused(server.send(request), "unsupported_encoding")


@pytest.mark.stores
def test_identity_is_an_accepted_encoding(server, place):
    for coding in ("identity", "Identity"):
        assert_accepted(server.send(signed().with_header("content-encoding", coding)))


def test_missing_header(server, place):
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert_refused(server.send(signed().with_header(name, None)), "missing_header", [name])
        assert_refused(server.send(signed().with_header(name, b"")), "missing_header", [name])


def test_malformed_timestamp(server, place):
    """Refused, although the signature over this text is right."""
    for text in NOT_NUMBERS:
        request = signed(timestamp=text)
        assert_refused(server.send(request), "malformed_header", ["webhook-timestamp"])


@pytest.mark.needs("verbatim")
def test_spaces_around_the_timestamp(server, place):
    for text in (f" {now()}", f"{now()} ", f"{now()}\n", f"\t{now()}"):
        assert_refused(server.send(signed(timestamp=text)), "malformed_header")


def test_stale_and_future(server, place):
    """Refused; the detail has the difference, and whether the signature was right."""
    for reason, offset in (("stale_timestamp", -5000), ("future_timestamp", 5000)):
        authentic = server.send(signed(timestamp=now() + offset))
        assert_refused(authentic, reason, ["signature"])
        assert any(str(n) in authentic.json["detail"] for n in range(4600, 5200)), authentic
        forged = server.send(signed(timestamp=now() + offset, secrets=[OTHER_SECRET]))
        assert_refused(forged, reason, ["signature"])
        assert forged.json["detail"] != authentic.json["detail"]


@pytest.mark.stores
def test_tolerance(server, place):
    for offset in (-290, 290):
        assert_accepted(server.send(signed(timestamp=now() + offset)))
    assert_refused(server.send(signed(timestamp=now() - 330)), "stale_timestamp")
    assert_refused(server.send(signed(timestamp=now() + 330)), "future_timestamp")


def test_signature_mismatch(server, place):
    good = signed()
    signature = good.header("webhook-signature")
    for bad in (signed(secrets=[OTHER_SECRET]),
                good.with_header("webhook-id", "another"),
                good.with_header("webhook-timestamp", now() + 1),
                good.with_header("webhook-signature", signature[:-2] + b"x="),
                good.with_header("webhook-signature", signature + b",x"),
                good.with_header("webhook-signature", signature.replace(b"v1,", b"v2,")),
                good.with_header("webhook-signature", b"v1, v1"),
                good.with_header("webhook-signature", b"x" * 4000)):
        assert_refused(server.send(bad), "signature_mismatch")
    good.body += b"\n"
    assert_refused(server.send(good), "signature_mismatch")


def test_no_secret(server, place):
    place.secret_file.unlink()
    server.renew()   # a running receiver would keep the last good secret
    assert_refused(server.send(signed()), "no_secret")
    assert_refused(server.send(signed(secrets=[OTHER_SECRET])), "no_secret")


@pytest.mark.settings(PSAPI_MIN_FREE=str(1 << 60))
def test_spool_full(server, place):
    request = signed()
    assert_refused(server.send(request), "spool_full")
    [line] = place.spool.attempts()
    assert (line["outcome"], line["status"], line["reason"]) == ("error", 503, "spool_full")
    assert line["webhook_id"] == request.header("webhook-id").decode()


@pytest.mark.stores
def test_spool_error(server, place):
    """A directory has the name of the event."""
    assert_accepted(server.send(signed()))
    webhook_id = new_id()
    obstacle = place.spool.file("new", webhook_id)
    obstacle.mkdir()
    assert_refused(server.send(signed(webhook_id=webhook_id)), "spool_error")
    assert not place.spool.file("events", webhook_id).exists()
    obstacle.rmdir()
    request = signed(webhook_id=webhook_id)
    assert_accepted(server.send(request))
    place.spool.assert_queued_once(webhook_id, request.body)


@pytest.mark.settings(PSAPI_MAX_BODY="1000", PSAPI_MIN_FREE=str(1 << 60))
def test_order(server, place):
    """The reply names the first fault in the documented order."""
    big = b" " * 1001
    bare_put = signed().with_header("webhook-id", None).with_header("content-encoding", "gzip")
    bare_put.method = "PUT"     # some servers refuse a GET with a body
    assert_refused(server.send(bare_put), "method_not_allowed")

    worst = signed(big, timestamp="abc", secrets=[OTHER_SECRET])
    encoded = worst.with_header("webhook-id", None).with_header("content-encoding", "gzip")
    assert_refused(server.send(encoded), "unsupported_encoding")
    assert_refused(server.send(worst.with_header("webhook-id", None)), "missing_header")
    assert_refused(server.send(worst), "malformed_header")
    assert_refused(server.send(signed(big, timestamp=5, secrets=[OTHER_SECRET])), "body_too_large")
    assert_refused(server.send(signed(timestamp=5, secrets=[OTHER_SECRET])), "stale_timestamp")
    assert_refused(server.send(signed(secrets=[OTHER_SECRET])), "signature_mismatch")
    assert_refused(server.send(signed()), "spool_full")


@pytest.mark.settings(PSAPI_MAX_BODY="1000")
def test_order_without_a_secret(server, place):
    """The check for a secret comes after the checks that need none, and before the signature."""
    place.secret_file.unlink()      # with an empty file requests would be held
    server.renew()
    assert_refused(server.send(signed(b" " * 1001)), "body_too_large")
    assert_refused(server.send(signed(timestamp=5, secrets=[OTHER_SECRET])), "no_secret")


@pytest.mark.stores
def test_duplicate_on_a_full_disk(server, place):
    request = signed()
    assert_accepted(server.send(request))
    place.settings["PSAPI_MIN_FREE"] = str(1 << 60)
    server.renew()
    assert_duplicate(server.send(request))
    assert_refused(server.send(signed()), "spool_full")


def test_reasons_are_logged(server, place):
    """The log has the reason of the reply."""
    cases = [("signature_mismatch", signed(secrets=[OTHER_SECRET])),
             ("stale_timestamp", signed(event(), timestamp=5)),
             ("missing_header", signed().with_header("webhook-id", None))]
    for reason, request in cases:
        before = len(place.spool.attempts())
        replies = []

        def is_logged():
            """Again and again: an installed receiver, which other tests used, logs one refusal a second."""
            replies.append(server.send(request))    # pylint: disable=cell-var-from-loop
            return len(place.spool.attempts()) > before     # pylint: disable=cell-var-from-loop

        wait_for(is_logged, "a line in the log")
        line = place.spool.attempts()[before]
        assert (line["outcome"], line["status"], line["reason"]) == \
            ("rejected", replies[0].status, reason)
