"""The FastCGI protocol itself: records that no web server sends, and kept connections."""

import contextlib
import struct

import pytest

from fcgi_client import (ABORT, BEGIN, GET_VALUES, PARAMS, STDIN, NoAnswer, begin, pair, params,
                         record, stream, request)
from load import at_once
from replies import assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import event, signed
from servers import pairs


def exchange(client, webhook, keep=True):
    return parse_cgi(client.exchange(pairs(webhook), webhook.body, keep))


def test_tiny_records(direct, place):
    """A request cut into records of one byte is the same request."""
    webhook = signed()
    plain = b"".join(pair(n, v) for n, v in pairs(webhook))
    with direct.connect() as client:
        client.send(begin() + stream(PARAMS, plain, chunk=1) + stream(STDIN, webhook.body, chunk=1))
        assert_accepted(parse_cgi(client.answer()))
    place.spool.assert_queued_once(webhook.header("webhook-id"), webhook.body)


def test_padding(direct, place):
    webhook = signed()
    plain = b"".join(pair(n, v) for n, v in pairs(webhook))
    with direct.connect() as client:
        client.send(begin() + record(PARAMS, plain, padding=7) + record(PARAMS)
                    + record(STDIN, webhook.body, padding=3) + record(STDIN))
        assert_accepted(parse_cgi(client.answer()))
    place.spool.assert_queued_once(webhook.header("webhook-id"), webhook.body)


def test_parameter_twice(direct, place):
    """Two parameters of one name, also where no header is behind them."""
    webhook = signed()
    with direct.connect() as client:
        twice = pairs(webhook) + [(b"CONTENT_LENGTH", b"5")]
        assert_refused(parse_cgi(client.exchange(twice, webhook.body)), "malformed_header")
    assert place.spool.files() == {}


def test_nul_in_a_header(direct, place):
    """It is not taken for a shorter id, however the library treats it."""
    webhook = signed(webhook_id=b"msg\0x")
    with direct.connect() as client:
        reply = parse_cgi(client.exchange(pairs(webhook), webhook.body))
    assert reply.status in (200, 400, 401), reply
    assert place.spool.names("new") in ([], ["msg%00x"])


def test_records_that_no_server_sends(direct, place):
    """Each on a separate connection. Afterwards the receiver serves as before."""
    webhook = signed()
    head = begin() + params(pairs(webhook))
    malformed = [
        b"\0" * 8, b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n",
        record(BEGIN, b"", version=9), record(99, b"x"), record(STDIN, b"x"),
        record(BEGIN, struct.pack("!HB5x", 77, 0)),                   # a role that does not exist
        record(BEGIN, b"\0\1"),                                       # too short
        begin() + begin(),
        begin() + record(PARAMS, b"\xff\xff\xff\xff\xff\xff\xff\xff" + b"x" * 50) + record(PARAMS),
        begin() + record(PARAMS, b"\x80\0\0\x05\x80\0\0\0ab") + record(PARAMS),
        begin() + record(PARAMS, b"\x7f\x7fab") + record(PARAMS) + record(STDIN),
        begin() + params([(b"", b"")]) + record(STDIN),
        begin() + params([(b"A" * 70000, b"B" * 70000)]) + record(STDIN),
        begin() + params([(b"=" * 9, b"=\n=")] * 2000) + record(STDIN),
        head + record(ABORT),
        head + record(STDIN, webhook.body[:5]) + record(ABORT),
        head + record(STDIN, webhook.body, request_id=7),
        head + record(99) + record(STDIN),
        record(GET_VALUES, pair(b"FCGI_MPXS_CONNS", b""), request_id=0),
    ]
    for data in malformed:
        with direct.connect() as client:
            with contextlib.suppress(NoAnswer, BrokenPipeError, ConnectionResetError):
                client.send(data)
                client.socket.shutdown(1)
                client.answer()
        assert direct.receiver.process.poll() is None, f"ended by {data[:40]!r}"
    assert place.spool.files() == {}
    assert_accepted(direct.send(signed()))


def test_many_requests_on_one_connection(direct, place):
    with direct.connect() as client:
        for _ in range(50):
            assert_accepted(exchange(client, signed()))
    assert len(place.spool.names("new")) == 50


def test_large_bodies_on_one_connection(direct, place):
    """Unread bytes of a request, also of a refused one, are not taken for the next."""
    large = event("x.large", filler="a" * 300_000)
    with direct.connect() as client:
        for _ in range(10):
            assert_accepted(exchange(client, signed(large)))
            assert_refused(exchange(client, signed(large).with_header("webhook-id", None)),
                           "missing_header")
            assert_refused(exchange(client, signed(b"x" * 1_100_000)), "body_too_large")
            get = signed(large)
            get.method = "GET"
            assert_refused(exchange(client, get), "method_not_allowed")
    assert len(place.spool.names("new")) == 10


@pytest.mark.settings(PSAPI_THREADS="4")
def test_kept_connections_do_not_starve_others(direct, place):
    """Twice as many idle connections as threads: other requests are served."""
    kept = [direct.connect() for _ in range(8)]
    for client in kept:
        assert_accepted(exchange(client, signed()))
    for _ in range(8):
        assert_accepted(direct.send(signed()))
    for client in kept:
        client.close()


@pytest.mark.settings(PSAPI_THREADS="1")
def test_silent_connections_do_not_starve_others(direct, place):
    """Connections without a request, as of a port scan, occupy no thread."""
    silent = [direct.connect() for _ in range(20)]
    for _ in range(3):
        assert_accepted(direct.send(signed()))
    for client in silent:
        client.close()


@pytest.mark.settings(PSAPI_THREADS="2")
def test_more_busy_connections_than_threads(direct, place):
    """Clients that keep their connection, and open a new one when it was closed."""
    def sender():
        connection = None
        for _ in range(15):
            webhook = signed()
            while True:
                connection = connection or direct.connect()
                try:
                    reply = exchange(connection, webhook)
                    break
                except NoAnswer as closed:
                    assert closed.args == (b"",), "half an answer"
                    connection.close()
                    connection = None
            assert reply.status == 200, reply
        if connection:
            connection.close()

    at_once([sender] * 12)
    assert len(place.spool.names("new")) == 12 * 15


@pytest.mark.settings(PSAPI_THREADS="2", PSAPI_READ_TIMEOUT="1")
def test_half_requests_on_kept_connections_do_not_starve_others(direct, place):
    """More half requests than threads: each is cut off, and the next connection is served."""
    kept = []
    for _ in range(4):
        client = direct.connect()
        kept.append(client)
        assert_accepted(exchange(client, signed()))
        webhook = signed()
        client.send(request(pairs(webhook), webhook.body, keep=True)[:60])
    assert_accepted(direct.send(signed()))
    for client in kept:
        client.close()


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1")
@pytest.mark.parametrize("sent", ["3 bytes", "half of the variables", "half of the body"])
def test_half_request_on_a_kept_connection_is_cut_off(direct, sent):
    """As on a new one: PSAPI_READ_TIMEOUT counts from the first byte of each request."""
    webhook = signed()
    whole = request(pairs(webhook), webhook.body, keep=True)
    cut = {"3 bytes": 3, "half of the variables": 60, "half of the body": len(whole) - 8 - 40}[sent]
    with direct.connect() as client:
        assert_accepted(exchange(client, signed()))
        client.send(whole[:cut])
        if sent == "half of the body":
            assert_refused(parse_cgi(client.answer()), "truncated_body")
        assert client.closed()
    assert_accepted(direct.send(signed()))


@pytest.mark.settings(PSAPI_THREADS="1", PSAPI_READ_TIMEOUT="120")
def test_half_requests_hold_no_thread(direct, place):
    """Stopped at any point, on new and on kept connections: the only thread answers others at once, and them later."""
    webhook = signed()
    whole = request(pairs(webhook), webhook.body, keep=True)
    known = signed()
    assert_accepted(direct.send(known))     # a duplicate waits for no disk: the halves must not become too slow meanwhile
    halves = []
    for cut in (1, 8, 20, 100, len(whole) - 60, len(whole) - 8, len(whole) - 1):
        for kept in (False, True):
            client = direct.connect()
            if kept:
                assert_duplicate(exchange(client, known))
            mine = signed()
            data = request(pairs(mine), mine.body, keep=True)
            client.send(data[:cut])
            halves.append((client, data[cut:], mine))
    assert_duplicate(direct.send(known))
    for client, rest, mine in halves:
        client.send(rest)
        assert_accepted(parse_cgi(client.answer()))
        place.spool.assert_queued_once(mine.header("webhook-id"), mine.body)
        client.close()


def values(client):
    """The answer to GET_VALUES: {name: value}."""
    head = client._exactly(8, b"")
    kind, request_id, length, padding = struct.unpack("!xBHHBx", head)
    assert (kind, request_id) == (10, 0)
    content, found = client._exactly(length + padding, b"")[:length], {}
    while content:
        name, value, content = content[2:2 + content[0]], content[1], content[2 + content[0]:]
        found[name.decode()], content = content[:value].decode(), content[value:]
    return found


@pytest.mark.settings(PSAPI_THREADS="1")
def test_get_values(direct, place):
    """As HAProxy asks on each new connection: answered at once, and the connection goes on."""
    asked = b"".join(pair(name, b"") for name in (b"FCGI_MAX_REQS", b"FCGI_MPXS_CONNS", b"OTHER"))
    silent = [direct.connect() for _ in range(4)]
    for client in silent:
        client.send(record(GET_VALUES, asked, request_id=0)[:20])   # half of it holds no thread
    with direct.connect() as client:
        for _ in range(2):
            client.send(record(GET_VALUES, asked, request_id=0))
            told = values(client)
            assert told.pop("FCGI_MPXS_CONNS") == "0" and int(told.pop("FCGI_MAX_REQS")) > 0
            assert told == {}
            assert_accepted(exchange(client, signed()))
        client.send(record(77, b"?", request_id=0))      # an unknown one: FCGI_UNKNOWN_TYPE
        assert client._exactly(16, b"")[:9] == record(11, b"\x4d")[:1] + b"\x0b\0\0\0\x08\0\0\x4d"
    for client in silent:
        client.close()


def test_next_request_before_the_answer(direct, place):
    """Two requests in one piece: each is answered."""
    one, two = signed(), signed()
    with direct.connect() as client:
        client.send(request(pairs(one), one.body, keep=True) + request(pairs(two), two.body, keep=True))
        for _ in range(2):
            assert_accepted(parse_cgi(client.answer()))
    assert len(place.spool.names("new")) == 2


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1")
def test_second_half_request_in_one_piece_is_cut_off(direct, place):
    """The beginning of the next request came with the one before it: its time counts as well."""
    one, two = signed(), signed()
    with direct.connect() as client:
        client.send(request(pairs(one), one.body, keep=True) + request(pairs(two), two.body, keep=True)[:50])
        assert_accepted(parse_cgi(client.answer()))
        assert client.closed()
    assert len(place.spool.names("new")) == 1


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1")
def test_silent_connection_is_closed(direct):
    """PSAPI_READ_TIMEOUT counts from the connection; one that has had a request may stay."""
    with direct.connect() as silent, direct.connect() as kept:
        assert_accepted(exchange(kept, signed()))
        assert silent.closed()
        assert_accepted(exchange(kept, signed()))


def test_two_requests_at_once_on_a_connection(direct, place):
    """Multiplexing is refused for the second one; the first is answered."""
    webhook = signed()
    with direct.connect() as client:
        client.send(begin(keep=True) + begin(request_id=2))
        assert client._exactly(16, b"")[:13] == b"\1\3\0\2\0\x08\0\0\0\0\0\0\1"     # CANT_MPX_CONN
        client.send(params(pairs(webhook)) + stream(STDIN, webhook.body))
        assert_accepted(parse_cgi(client.answer()))


def test_too_many_variables(direct, place):
    """Over 64 KiB of them: the connection is closed."""
    with direct.connect() as client:
        client.send(begin() + stream(PARAMS, pair(b"HTTP_X", b"x" * 66000)))
        assert client.closed()
    assert_accepted(direct.send(signed()))
