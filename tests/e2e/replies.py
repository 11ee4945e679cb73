"""Replies, and the documented table of them.

Every test uses the functions here, so the form (one line of JSON, its keys, the headers of a status) of every reply of
the suite is checked.
"""

import json
from dataclasses import dataclass

# reason -> status. `rejected` and `error` follow from the status.
REASONS = {
    "method_not_allowed": 405,
    "unsupported_encoding": 415,
    "missing_header": 400,
    "malformed_header": 400,
    "truncated_body": 400,
    "body_too_large": 413,
    "stale_timestamp": 401,
    "future_timestamp": 401,
    "signature_mismatch": 401,
    "no_secret": 503,
    "spool_full": 503,
    "spool_error": 503,
}


@dataclass
class Reply:
    status: int
    headers: dict     # names in lower case
    body: bytes

    @property
    def json(self):
        """The reply as an object, after checking its form."""
        assert self.headers.get("content-type", "").split(";")[0] == "application/json", self
        assert self.body.count(b"\n") == (1 if self.body.endswith(b"\n") else 0), self
        parsed = json.loads(self.body.decode())
        assert isinstance(parsed, dict), self
        return parsed

    @property
    def word(self):
        return self.json["status"]


def parse_cgi(output):
    """A CGI response (RFC 3875, 6) as a Reply; no Status line means 200."""
    output = output.replace(b"\r\n", b"\n")
    assert b"\n\n" in output, f"no CGI header in {output[:300]!r}"
    head, body = output.split(b"\n\n", 1)
    headers = {}
    for line in head.decode("latin-1").split("\n"):
        name, value = line.split(":", 1)
        assert name.lower() not in headers, f"{name} twice in {head!r}"
        headers[name.lower()] = value.strip()
    status = int(headers.pop("status", "200").split()[0])
    return Reply(status, headers, body)


def assert_accepted(reply):
    assert (reply.status, reply.word) == (200, "accepted"), reply
    assert "reason" not in reply.json or not reply.json["reason"], reply


def assert_duplicate(reply):
    assert (reply.status, reply.word) == (200, "duplicate"), reply
    assert "psapi replay" in reply.json["detail"], reply


def assert_refused(reply, reason, mentions=()):
    """Refused for exactly this reason, with its status, word and headers."""
    status = REASONS[reason]
    assert (reply.status, reply.json.get("reason")) == (status, reason), reply
    assert reply.word == ("error" if status == 503 else "rejected"), reply
    detail = reply.json["detail"]
    assert detail and isinstance(detail, str), reply
    for text in mentions:
        assert text in detail, reply
    for text in ("whsec_", "v1,", "/tmp", "/var", "/etc"):
        assert text not in detail, f"{text!r} is nobody's business: {reply}"
    if status == 405:
        assert reply.headers.get("allow") == "POST", reply
    if status == 503:
        assert int(reply.headers["retry-after"]) > 0, reply
