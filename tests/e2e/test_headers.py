"""Hostile headers: ids with paths, headers that come twice, any bytes."""

from dataclasses import replace
from pathlib import Path

import pytest

from replies import assert_accepted, assert_duplicate, assert_refused
from sender import OTHER_SECRET, event, new_id, signed
from spool import event_name

NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature"]
# Printable: every server passes these on unchanged.
IDS = ["/", "//", ".", "..", "../x", "../../../../tmp/psapi-escaped", "/etc/passwd", "a/b", "a\\b",
       ".hidden", "x.json", "x.tmp", "%", "%2F", "%2f", "%00", "%sha256-" + "0" * 64, "a b", "a,b",
       "-rf", "$(id)", "`id`", ";id", "|id", "*", "~", "a'b\"c", "{}", "new", "events", "lock",
       "a" * 200, "a" * 201, "a" * 300, "/" * 67, "/" * 300, "a" * 300 + "b", "é", "ключ", "🚀",
       "A", "a", "msg.1", "msg_1", "msg-1"]
BYTES = [bytes([b]) + b"x" for b in range(1, 32) if b not in (0x09, 0x0A, 0x0D)] \
    + [b"a\x7fb", b"a\tb", b"\xff\xfe", b"\xc3", b"a\x80", b"\x1b[2J", b"\xc0\xaf", b"\xed\xa0\x80"]


def deliver_all(server, place, ids):
    for webhook_id in ids:
        request = signed(webhook_id=webhook_id)
        assert_accepted(server.send(request))
        stored = place.spool.assert_queued_once(webhook_id, request.body)
        raw = webhook_id if isinstance(webhook_id, bytes) else webhook_id.encode()
        try:
            assert stored.evidence["webhook_id"] == raw.decode()
        except UnicodeDecodeError:
            assert stored.evidence["webhook_id"] is None
            assert "webhook_id_base64" in stored.evidence
        assert_duplicate(server.send(signed(webhook_id=webhook_id)))


def outside(place):
    """Event files outside the spool. (A server may make its own files at any time.)"""
    return {path for path in place.dir.rglob("*.json") if place.spool.path not in path.parents} \
        | {path for path in map(Path, ("/tmp/psapi-escaped", "/tmp/psapi-escaped.json")) if path.exists()}


def test_ids(server, place):
    before = outside(place)
    deliver_all(server, place, IDS)
    assert len(set(map(event_name, IDS))) == len(IDS)
    assert len(place.spool.names("new")) == len(place.spool.names("events")) == len(IDS)
    assert len(place.spool.files()) == 2 * len(IDS)
    assert outside(place) == before
    assert all(not name.startswith(".") for name in place.spool.names("new"))


def test_ids_of_any_bytes(server, place):
    ids = []
    for webhook_id in BYTES:
        reply = server.send(signed(webhook_id=webhook_id))
        if "json" not in reply.headers.get("content-type", ""):
            continue    # the web server may refuse it
        assert_accepted(reply)
        ids.append(webhook_id)
    text = {b for b in BYTES if min(b) >= 0x20 and 0x7F not in b}
    assert text <= set(ids), "a server may refuse control bytes, not what is not ASCII"
    assert place.spool.names("new") == sorted(map(event_name, ids))
    data = (place.spool.path / "attempts.jsonl").read_bytes()
    assert not [b for b in data if b != 0x0A and not 0x20 <= b < 0x7F], "a control byte is logged"
    assert len(place.spool.attempts()) == len(ids)


@pytest.mark.needs("verbatim")
def test_ids_with_white_space(server, place):
    deliver_all(server, place, [" ", " a", "a ", "\t", "\n", "a\nb", "a\r\nX-Evil: 1", "a"])


def test_id_that_is_not_utf8(server, place):
    request = signed(webhook_id=b"msg_\xff\xfe")
    assert_accepted(server.send(request))
    stored = place.spool.assert_queued_once(b"msg_\xff\xfe", request.body)
    assert stored.evidence["webhook_id"] is None
    assert stored.evidence["webhook_id_base64"] == "bXNnX//+"


def test_header_twice(server, place):
    """Equal values count as one. Different ones are malformed, also if one of them is right."""
    for name in NAMES:
        request = signed()
        assert_accepted(server.send(request.and_header(name, request.header(name))))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)

        request = signed()
        for two in (request.and_header(name, b"v1,other"), request.with_header(name, b"v1,other")
                    .and_header(name, request.header(name))):
            assert_refused(server.send(two), "malformed_header", [name])
    assert len(place.spool.names("events")) == len(NAMES)


def test_header_joined_on_the_way(server, place):
    """A proxy may join two headers of one name with a comma (RFC 9110, 5.3)."""
    for name in NAMES:
        request = signed()
        value = request.header(name)
        assert_accepted(server.send(request.with_header(name, value + b", " + value)))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_id_that_contains_a_comma(server, place):
    """Headers are joined with a comma and a space: another comma belongs to the id."""
    for webhook_id in ("a,b", ",", "x,y,x", "a ,b"):
        webhook_id += new_id()
        request = signed(webhook_id=webhook_id)
        assert_accepted(server.send(request))
        place.spool.assert_queued_once(webhook_id, request.body)
    assert_refused(server.send(signed(webhook_id="a, b")), "malformed_header", ["webhook-id"])


def test_underscore_alias(server, place):
    """A header `webhook_id` cannot take the place of `webhook-id`."""
    request = signed()
    assert_accepted(server.send(request.with_header("x_webhook_id", b"y")))
    alias = signed().and_header("webhook_id", b"other")
    reply = server.send(alias)
    if reply.status == 200:
        place.spool.assert_queued_once(alias.header("webhook-id"), alias.body)
    else:
        assert_refused(reply, "malformed_header", ["webhook-id"])


def test_settings_cannot_come_with_a_request(server, place):
    """A peer of the socket must not choose paths."""
    request = signed(event())
    for name in ("psapi-spool", "psapi-secret-file", "proxy"):
        request = request.and_header(name, str(place.dir / "evil").encode())
    assert_accepted(server.send(request))
    assert not (place.dir / "evil").exists()


def test_many_and_long_headers(server, place):
    request = signed()
    for n in range(20):
        request = request.and_header(f"x-{n}", b"y" * 300)
    assert_accepted(server.send(request))
    long_list = signed()
    parts = b" ".join(b"v1," + b"A" * 43 + b"=" for _ in range(60))
    long_list = long_list.with_header("webhook-signature",
                                      parts + b" " + long_list.header("webhook-signature"))
    assert_accepted(server.send(long_list))


def svix(request):
    """With the older names of the three headers, which Svix's own libraries take as well."""
    return replace(request, headers=[(name.replace("webhook-", "svix-"), value) for name, value in request.headers])


def test_older_names(server, place):
    """svix-id, svix-timestamp, svix-signature: the same, through every server; a set is not mixed."""
    request = signed()
    assert_accepted(server.send(svix(request)))
    stored = place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert stored.evidence["webhook_id"] == request.header("webhook-id").decode()
    assert_duplicate(server.send(request))
    assert_duplicate(server.send(svix(request)))
    assert_refused(server.send(svix(signed(secrets=[OTHER_SECRET]))), "signature_mismatch")
    assert_refused(server.send(svix(signed(timestamp=5))), "stale_timestamp")
    # Both sets: the newer one counts, and must be whole.
    other = signed(secrets=[OTHER_SECRET])
    for name in NAMES:
        other = other.and_header(name.replace("webhook-", "svix-"), request.header(name))
    assert_refused(server.send(other), "signature_mismatch")
    mixed = svix(signed()).and_header("webhook-id", b"msg_x")
    reply = server.send(mixed)
    assert_refused(reply, "missing_header")
    assert "webhook-timestamp" in reply.json["detail"]
    reply = server.send(svix(signed()).with_header("svix-signature", None))
    assert_refused(reply, "missing_header")
    assert "svix-signature" in reply.json["detail"]
