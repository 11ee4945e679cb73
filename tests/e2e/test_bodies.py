"""Bodies: sizes, and contents that do not match AgentSync's documentation.

A signed event is authentic, so it is kept and answered 200. An invalid one goes to failed/, with the reason.
"""

import base64
import json
import os

import pytest

from replies import assert_accepted, assert_refused
from sender import event, signed

LIMIT = 1048576

INVALID = {
    "empty": b"",
    "NUL alone": b"\0",
    "not JSON": b"hello",
    "cut off": event()[:-1],
    "trailing junk": event() + b"x",
    "not UTF-8": event()[:-2] + b',"note":"\xff\xfe"}}',
    "Latin-1": '{"type":"x","data":{"name":"Zoë"}}'.encode("latin-1"),
    "nested 100,000 deep": b"[" * 100_000 + b"]" * 100_000,
    "object nested 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "number beyond a double": b'{"type":"x","data":{"n":1e999}}',
    "an array": b"[1,2]",
    "a string": b'"producersync.updates_available"',
    "null": b"null",
    "no type": b'{"data":{"npn":"1"}}',
    "type is no string": b'{"type":7,"data":{}}',
    "a key twice": b'{"type":"a","type":"producersync.updates_available","data":{}}',
    "16 MB when parsed": b"[" + b"{}," * 300_000 + b"{}]",
}
WRONG_DATA = [
    ("producersync.updates_available", {"runDate": "24.07.2025"}),
    ("producersync.updates_available", {"runDate": "2025-13-01"}),
    ("producersync.updates_available", {"runDate": 20250724}),
    ("producersync.updates_available", {"other": "2025-07-24"}),
    ("producersync.npn.activated", {"npn": 123456789, "activatedAt": "2025-07-25T15:53:01.579Z"}),
    ("producersync.npn.activated", {"npn": "12a", "activatedAt": "2025-07-25T15:53:01.579Z"}),
    ("producersync.npn.activated", {"npn": "", "activatedAt": "2025-07-25T15:53:01.579Z"}),
    ("producersync.npn.activated", {"npn": "../../x", "activatedAt": "2025-07-25T15:53:01.579Z"}),
    ("producersync.npn.deactivated", {"deactivatedAt": "2025-07-25T15:53:01.579Z"}),
]
NORMAL = {
    "contracting": event("id.producer.updated", producerId=42),
    "unknown producersync": event("producersync.something.new", x=1),
    "blank type": b'{"type":"a b/../c","data":{}}',
    "unicode": '{"type":"x","data":{"name":"Zoë — 🚀"}}'.encode(),
    "escaped NUL": b'{"type":"x","data":{"name":"a\\u0000b"}}',
    "spaces and newlines": b'\r\n { "type" : "x" ,\n "data" : { } } \n\n',
    "long integer": b'{"type":"x","data":{"n":123456789012345678901234567890}}',
    "nested 500 deep": b'{"type":"x","data":' + b"[" * 500 + b"]" * 500 + b"}",
}


def test_normal(server, place):
    """Queued, byte for byte."""
    for body in NORMAL.values():
        request = signed(body)
        assert_accepted(server.send(request))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_as_deep_as_can_be_parsed(direct, place):
    """2,047 levels, one less than Jansson's limit. The small stack of a thread is enough."""
    request = signed(b'{"type":"x","data":' + b"[" * 2046 + b"]" * 2046 + b"}")
    assert_accepted(direct.send(request))
    data = place.spool.file("new", request.header("webhook-id")).read_bytes()
    assert data.endswith(request.body + b"\n}\n")


def test_documented_examples(server, place):
    for body in (event("producersync.updates_available", runDate="2025-07-24"),
                 event("producersync.npn.activated", npn="123456789",
                       activatedAt="2025-07-25T15:53:01.579Z"),
                 event("producersync.npn.deactivated", npn="123456789",
                       deactivatedAt="2025-07-25T15:53:01.579Z")):
        request = signed(body)
        assert_accepted(server.send(request))
        place.spool.assert_queued_once(request.header("webhook-id"), body)


def test_invalid(server, place):
    """Authentic but invalid: 200, whole in failed/, the reason in state/, and not queued."""
    for what, body in INVALID.items():
        request = signed(body)
        assert_accepted(server.send(request))
        stored, reason = place.spool.assert_failed(request.header("webhook-id"), body)
        assert stored.body == body, what
    assert place.spool.names("new") == []
    assert len(place.spool.names("failed")) == len(INVALID)


def test_body_that_cannot_be_parsed_is_kept_as_base64(server, place):
    for what in ("empty", "not JSON", "not UTF-8", "nested 100,000 deep", "number beyond a double"):
        request = signed(INVALID[what])
        assert_accepted(server.send(request))
        whole = json.loads(place.spool.file("failed", request.header("webhook-id")).read_bytes())
        assert whole["event"] is None, what
        assert base64.b64decode(whole["body_base64"], validate=True) == INVALID[what], what


def test_known_type_with_wrong_data(server, place):
    reasons = set()
    for kind, data in WRONG_DATA:
        request = signed(event(kind, **data))
        assert_accepted(server.send(request))
        stored, reason = place.spool.assert_failed(request.header("webhook-id"), request.body)
        assert stored.event["type"] == kind     # still JSON: for a human and for jq
        reasons.add(reason)
    for field in ("runDate", "npn"):
        assert any(field in reason for reason in reasons), reasons


def test_probe_of_the_doctor(server, place):
    """Stored and answered like any other event, never queued."""
    request = signed(event("psapi.doctor", x=1))
    assert_accepted(server.send(request))
    stored = place.spool.read("events", request.header("webhook-id"))
    assert (stored.body, stored.stat.st_nlink) == (request.body, 1)
    assert place.spool.names("new") == place.spool.names("failed") == []


def test_large(server, place):
    """350 kB: the largest that the sender is known to send."""
    request = signed(event("x.large", filler=os.urandom(175_000).hex()))
    assert_accepted(server.send(request))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_limit(server, place):
    """Exactly PSAPI_MAX_BODY is accepted; one byte more is not."""
    frame = len(event("x.large", filler=""))
    for size, good in ((LIMIT, True), (LIMIT + 1, False), (LIMIT + 300_000, False)):
        request = signed(event("x.large", filler="a" * (size - frame)))
        assert len(request.body) == size
        reply = server.send(request)
        if good:
            assert_accepted(reply)
            assert place.spool.read("new", request.header("webhook-id")).body == request.body
        else:
            assert_refused(reply, "body_too_large", [str(LIMIT)])
    assert len(place.spool.files()) == 2


@pytest.mark.settings(PSAPI_MAX_BODY="200")
def test_limit_is_a_setting(server, place):
    assert_accepted(server.send(signed(b" " * 200)))
    assert_refused(server.send(signed(b" " * 201)), "body_too_large", ["200"])


@pytest.mark.needs("http")
def test_chunked(server, place):
    for request in (signed(chunked=True),
                    signed(event("x.large", filler="a" * 350_000), chunked=True)):
        assert_accepted(server.send(request))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    too_much = signed(b" " * (LIMIT + 1), chunked=True)
    assert_refused(server.send(too_much), "body_too_large")
