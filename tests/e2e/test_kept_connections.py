"""Connections that a web server keeps open: none starves another, and no request affects the next.

Behind nginx's `keepalive` and Apache's `enablereuse=on`, with far fewer threads than connections.
"""

import contextlib
import os
from pathlib import Path

import pytest

from load import at_once
from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, event, signed
from servers import NginxKeepalive
from servers_apache import ApacheReuse

CLIENTS = 12
LARGE = event("x.large", filler="a" * 300_000)


class NginxKeepsMany(NginxKeepalive):
    """nginx keeps more idle connections than the receiver has threads."""

    def substitutions(self, port):
        return super().substitutions(port) | {"keepalive 4;": "keepalive 64;"}


@pytest.fixture(params=[NginxKeepsMany, ApacheReuse], ids=lambda cls: cls.name)
def keeping(request, place):
    with request.param(place) as running:
        yield running


def open_connections(receiver):
    """The number of connections to the receiver's socket: they have its name. The pairs of its threads have none."""
    rows = [row.split() for row in Path("/proc/net/unix").read_text().splitlines()]
    named = {f"socket:[{row[6]}]" for row in rows if len(row) > 7}
    directory, found = f"/proc/{receiver.pid}/fd", []
    for name in os.listdir(directory):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"{directory}/{name}"))
    return len(named.intersection(found)) - 1       # the listener


def load(server, requests):
    """CLIENTS at once send `requests` of each kind; every answer must be right."""
    def client():
        for n in range(requests // CLIENTS):
            assert_accepted(server.send(signed()))
            if n % 8 == 0:
                assert_refused(server.send(signed(secrets=[OTHER_SECRET])), "signature_mismatch")
    at_once([client] * CLIENTS)


@pytest.mark.settings(PSAPI_THREADS="2")
def test_more_connections_than_threads(keeping, place):
    """Two threads, many kept connections: every request is answered."""
    load(keeping, 600)
    kept = open_connections(place.receivers[0])
    assert kept > 2, f"{kept} connections: this has tested nothing"
    load(keeping, 600)
    assert len(place.spool.names("new")) == 1200


@pytest.mark.settings(PSAPI_THREADS="1")
def test_one_thread_is_enough(keeping, place):
    """An idle connection does not occupy the only thread."""
    load(keeping, 120)
    assert open_connections(place.receivers[0]) > 1
    load(keeping, 120)


@pytest.mark.settings(PSAPI_THREADS="4")
def test_large_bodies(keeping, place):
    """300 kB on reused connections, with early refusals between them."""
    def client():
        for _ in range(12):
            request = signed(LARGE)
            assert_refused(keeping.send(request.with_header("webhook-id", None)), "missing_header")
            assert_accepted(keeping.send(request))
            assert_refused(keeping.send(signed(b"x" * 1_100_000)), "body_too_large")
    at_once([client] * 6)
    assert open_connections(place.receivers[0]) > 0
    assert len(place.spool.names("new")) == 72


@pytest.mark.long
@pytest.mark.settings(PSAPI_THREADS="4")
def test_thousands(keeping, place):
    load(keeping, 6000)
    assert len(place.spool.names("new")) == 6000


def test_idle_connection_that_the_receiver_closed(keeping, place):
    """The receiver was restarted while the connection was idle: the next request is served."""
    load(keeping, 24)
    for receiver in place.receivers:
        receiver.stop()
        receiver.start()
    for _ in range(CLIENTS):
        assert_accepted(keeping.send(signed()))
