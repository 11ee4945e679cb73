"""The sender: builds and signs requests as AgentSync does (Standard Webhooks 1.0.0).

Owns the Request that every server of servers.py knows how to deliver, the events' examples and
the secrets used by the tests. Written against the specification, not against the receiver.
"""

import base64
import hashlib
import hmac
import itertools
import json
import os
import time
from dataclasses import dataclass, field

SECRET = "whsec_" + base64.b64encode(b"the secret of the e2e tests.").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"another secret of the tests!").decode()

_serial = itertools.count(1)


@dataclass
class Request:
    """One delivery. `headers` keeps order and duplicates; values are bytes."""

    headers: list = field(default_factory=list)
    body: bytes = b""
    method: str = "POST"
    chunked: bool = False     # no Content-Length
    length: bytes = None      # a CONTENT_LENGTH that lies (servers that can `choose_length`)

    def header(self, name):
        return next(value for key, value in self.headers if key == name)

    def with_header(self, name, value):
        """A copy in which `name` has `value`; None removes it."""
        rest = [(k, v) for k, v in self.headers if k != name]
        new = [] if value is None else [(name, as_bytes(value))]
        return Request(new + rest, self.body, self.method, self.chunked, self.length)

    def and_header(self, name, value):
        """A copy with one header more, whether or not there is one of that name."""
        return Request(self.headers + [(name, as_bytes(value))], self.body, self.method,
                       self.chunked, self.length)


def as_bytes(text):
    return text if isinstance(text, bytes) else str(text).encode()


def new_id():
    return f"msg_{os.getpid()}_{next(_serial)}"


def event(kind="producersync.npn.activated", **data):
    """The body of an event as AgentSync writes it."""
    if not data:
        data = {"npn": "123456789", "activatedAt": "2025-07-25T15:53:01.579Z"}
    return json.dumps({"data": data, "id": "whe_123454321", "timestamp": "2025-07-25T15:53:01.579Z",
                       "type": kind}, separators=(",", ":"), sort_keys=True).encode()


def signature(secret, webhook_id, timestamp, body):
    """`v1,BASE64` over id.timestamp.body."""
    text = secret.removeprefix("whsec_")
    key = base64.b64decode(text + "=" * (-len(text) % 4))
    content = b".".join([as_bytes(webhook_id), as_bytes(timestamp), body])
    return b"v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256))


def signed(body=None, webhook_id=None, timestamp=None, secrets=(SECRET,), **more):
    """A request with one signature for each of `secrets`; everything else has a good default."""
    body = event() if body is None else body
    webhook_id = new_id() if webhook_id is None else webhook_id
    timestamp = int(time.time()) if timestamp is None else timestamp
    signatures = b" ".join(signature(s, webhook_id, timestamp, body) for s in secrets)
    return Request([("webhook-id", as_bytes(webhook_id)),
                    ("webhook-timestamp", as_bytes(timestamp)),
                    ("webhook-signature", signatures),
                    ("content-type", b"application/json"),
                    ("user-agent", b"Svix-Webhooks/1.24.0")], body, **more)
