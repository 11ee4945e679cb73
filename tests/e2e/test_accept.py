"""After a 200 `accepted`: the file, its links, its line in the log."""

import base64
import json
import re
import time
from pathlib import Path

import pytest

from receiver import ROOT
from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, SECRET, Request, event, signature, signed
from spool import EVIDENCE_KEYS

pytestmark = pytest.mark.each_store

VECTORS = Path(ROOT, "tests/vectors/signatures.json")
ATTEMPT_KEYS = {"at", "outcome", "status", "webhook_id", "type", "event_id", "remote_addr",
                "bytes", "skew_s", "key", "ms"}


def test_file(server, place):
    request = signed(event(npn="123456789", activatedAt="2025-07-25T15:53:01.579Z"))
    webhook_id = request.header("webhook-id").decode()
    assert_accepted(server.send(request))

    stored = place.spool.assert_queued_once(webhook_id, request.body)
    assert list(stored.evidence) == EVIDENCE_KEYS
    assert stored.evidence["webhook_id"] == webhook_id
    for key, header in (("webhook_timestamp", "webhook-timestamp"),
                        ("webhook_signature", "webhook-signature")):
        assert stored.evidence[key] == request.header(header).decode()
    assert stored.event["data"]["npn"] == "123456789"
    assert len(place.spool.files()) == 2    # and nothing else


def test_the_stored_evidence_verifies(server, place):
    """The file has everything that is needed to verify the signature years later."""
    request = signed(b' {\n "type":"x.y" ,"u":"\xc3\xa9","n":1.50}\r\n')
    assert_accepted(server.send(request))
    stored = place.spool.read("new", request.header("webhook-id"))
    proof = signature(SECRET, stored.evidence["webhook_id"], stored.evidence["webhook_timestamp"],
                      stored.body)
    assert stored.evidence["webhook_signature"] == proof.decode()


def test_evidence_has_the_signature_that_matched(server, place):
    request = signed(secrets=(OTHER_SECRET, SECRET))
    assert_accepted(server.send(request))
    stored = place.spool.read("new", request.header("webhook-id"))
    assert stored.evidence["webhook_signature"].encode() == \
        request.header("webhook-signature").split(b" ")[1]


def test_attempt_line(server, place):
    request = signed(timestamp=int(time.time()) - 100)
    assert_accepted(server.send(request))
    [line] = place.spool.attempts()
    assert ATTEMPT_KEYS <= set(line), ATTEMPT_KEYS - set(line)
    assert (line["outcome"], line["status"]) == ("accepted", 200)
    assert line["webhook_id"] == request.header("webhook-id").decode()
    assert (line["type"], line["event_id"]) == ("producersync.npn.activated", "whe_123454321")
    assert line["bytes"] == len(request.body)
    assert 99 <= line["skew_s"] <= 130
    assert line["remote_addr"] in ("127.0.0.1", "192.0.2.1")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$", line["at"])
    assert line["key"] and line["key"] not in SECRET
    assert 0 <= line["ms"] < 60_000


def test_fingerprints_tell_the_secrets_apart(server, place):
    place.write_secret(SECRET, OTHER_SECRET)
    for secret in (SECRET, OTHER_SECRET, SECRET):
        assert_accepted(server.send(signed(secrets=[secret])))
    first, second, third = [line["key"] for line in place.spool.attempts()]
    assert first == third != second


@pytest.mark.settings(PSAPI_TOLERANCE="1000000000")
def test_published_vectors(server, place):
    """Requests that two other libraries signed. (Unit tests have the rows that need another time.)"""
    rows = [row for row in json.loads(VECTORS.read_text())
            if row["expect"] not in ("stale_timestamp", "future_timestamp")]
    assert len(rows) > 40
    for row in rows:
        place.spool.empty()     # several rows share an id
        place.write_secret(*row["secrets"])
        headers = [(f"webhook-{part}", row[part].encode())
                   for part in ("id", "timestamp", "signature") if row[part] is not None]
        body = base64.b64decode(row["body_base64"])
        reply = server.send(Request(headers, body))
        try:
            if row["expect"] == "accept":
                assert_accepted(reply)
                assert place.spool.read("events", row["id"]).body == body
            else:
                assert_refused(reply, row["expect"])
                assert place.spool.files() == {}
        except AssertionError as error:
            raise AssertionError(f"vector {row['name']!r}: {error}") from error
