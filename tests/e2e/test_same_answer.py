"""Requests that servers treat in different ways: the answer is the same behind all of them.

Headers given twice are in test_headers.py; chunked bodies, Expect, half an upload, 350 kB in
test_uploads.py and test_bodies.py.
"""

import subprocess

import pytest

from replies import assert_accepted, assert_refused
from sender import event, signed


def curl(server, request, *options, body=("--data-binary", "@-")):
    """One request over TLS; returns (HTTP version, status, body)."""
    host, port = server.client.address
    arguments = ["curl", "--silent", "--show-error", *body, "--insecure",
                 "--resolve", f"localhost:{port}:{host}", "--max-time", "30",
                 "--write-out", "\n%{http_version} %{http_code}", *options]
    for name, value in request.headers:
        arguments += ["--header", f"{name}: {value.decode()}"]
    done = subprocess.run([*arguments, f"https://localhost:{port}/webhooks/psapi"],
                          input=request.body, capture_output=True, timeout=60)
    assert done.returncode == 0, done
    body, _, numbers = done.stdout.rpartition(b"\n")
    version, status = numbers.split()
    return version, int(status), body


@pytest.mark.needs("http2")
@pytest.mark.parametrize("size", [10, 350_000])
def test_http2(server, place, size):
    request = signed(event("x.large", filler="a" * size))
    version, status, body = curl(server, request, "--http2")
    assert (version, status) == (b"2", 200), body
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.needs("http2", "http2 without length")
def test_http2_without_a_length(server, place):
    """HTTP/2 needs no Content-Length; curl has none for an upload from standard input."""
    request = signed(event("x.large", filler="a" * 100_000))
    version, status, body = curl(server, request, "--http2",
                                 body=("--request", "POST", "--upload-file", "-"))
    assert (version, status) == (b"2", 200), body
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.needs("http2")
def test_http2_refusals(server, place):
    request = signed()
    for wrong, expected in ((request.with_header("webhook-id", None), 400),
                            (request.with_header("webhook-timestamp", "5"), 401),
                            (signed(b"x" * 1_100_000), 413)):
        version, status, body = curl(server, wrong, "--http2")
        assert (version, status) == (b"2", expected), body
        assert body.startswith(b'{"status":"rejected"'), body
    assert place.spool.files() == {}


@pytest.mark.needs("http")
def test_alias_with_underscores(server, place):
    """webhook_id and similar headers, before and after the real ones, never take their place."""
    for alias in ("webhook_id", "Webhook_Timestamp", "webhook_signature", "WEBHOOK_ID"):
        for front in (True, False):
            request = signed()
            headers = [(alias, b"1")]
            request.headers = headers + request.headers if front else request.headers + headers
            for _ in range(4):      # a server may take either
                reply = server.send(request)
                if reply.status != 200:
                    assert_refused(reply, "malformed_header")
        only = signed()
        only.headers = [(alias if k == alias.lower().replace("_", "-") else k, v)
                        for k, v in only.headers]
        reply = server.send(only)
        assert reply.status in (200, 400), reply
        if reply.status == 400:
            assert_refused(reply, "missing_header")


@pytest.mark.needs("http")
def test_far_too_large(server, place):
    """Over the web server's own limit: server or receiver refuses it, and the next request is accepted."""
    try:
        reply = server.send(signed(b"x" * (2 * 1024 * 1024 + 100_000)))
    except OSError:
        pass        # lighttpd closes the connection during the upload
    else:
        assert reply.status in (413, 500), reply    # 500: mod_fcgid
    assert_accepted(server.send(signed()))
    assert len(place.spool.files()) == 2
