"""Uploads: CONTENT_LENGTH, slow and aborted ones."""

import contextlib
import select
import socket
import time

import pytest

import strace
from fcgi_client import STDIN, NoAnswer, begin, params, record
from http_client import body_of, head_of
from receiver import wait_for
from replies import assert_accepted, assert_refused, parse_cgi
from sender import signed
from servers import Cgi, Nginx, NginxKeepalive, NginxUnbuffered, pairs
from servers_apache import ApacheProxy, ApacheReuse
from servers_others import Caddy, Lighttpd


def still_serves(server, place):
    request = signed()
    assert_accepted(server.send(request))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.needs("choose_length")
def test_content_length(server, place):
    size = len(signed().body)
    good = [str(size), str(size - 1), "0", "1"]
    too_large = ["1048577", "2147483648", "4294967296", str(2**63), str(2**64), str(2**64 + size),
                 "9" * 300]
    for text in good:
        request = signed(length=text.encode())
        assert_accepted(server.send(request))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    before = place.spool.files()
    for text in too_large:
        assert_refused(server.send(signed(length=text.encode())), "body_too_large")
    for text in ("-1", "-2", "+5", "x", "5x", "0x10", "1e3", " 5", "5 ", "5,5", "1.0", "--", "٣"):
        assert_refused(server.send(signed(length=text.encode())), "malformed_header")
    for text in (str(size + 1), "1048576"):
        assert_refused(server.send(signed(length=text.encode())), "truncated_body")
    assert place.spool.files() == before


@pytest.mark.needs("choose_length")
def test_no_content_length(server, place):
    """As Apache's mod_proxy_fcgi passes a chunked request on."""
    for request in (signed(chunked=True), signed(b"", chunked=True), signed(length=b"")):
        assert_accepted(server.send(request))
    assert_refused(server.send(signed(b" " * 1048577, chunked=True)), "body_too_large")


def test_truncated_and_correctly_signed(direct, place):
    """The signature matches the bytes that have arrived, which are fewer than announced."""
    assert_refused(direct.send(signed(length=b"1000")), "truncated_body")
    assert place.spool.files() == {}


@pytest.mark.needs("http")
def test_client_goes_away(server, place):
    """Half a body, then nothing: no event, and the next request is accepted."""
    for chunked in (False, True):
        request = signed(b"x" * 5000, chunked=chunked)
        for cut in (0, 1, 2500):
            with server.client.connect() as client:
                client.sendall(head_of(request) + body_of(request)[:cut])
    still_serves(server, place)
    assert len(place.spool.files()) == 2


@pytest.mark.needs("http")
def test_body_in_small_pieces(server, place):
    """Small pieces make one body."""
    request = signed()
    with server.client.connect() as client:
        client.sendall(head_of(request))
        for n in range(len(request.body)):
            client.sendall(request.body[n:n + 1])
        assert_accepted(server.client.answer(client))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.parametrize("cls", [Nginx, NginxKeepalive, NginxUnbuffered, ApacheProxy, ApacheReuse, Lighttpd, Caddy],
                         ids=lambda cls: cls.name)
@pytest.mark.settings(PSAPI_THREADS="1", PSAPI_READ_TIMEOUT="120")
def test_slow_senders_cost_no_thread(place, cls):
    """Whether the server passes uploads on as they come, or when they are complete: more slow ones than threads delay
    no other request."""
    with cls(place) as server:
        slow = [(signed(b"x" * 70_000), server.client.connect()) for _ in range(4)]
        for request, client in slow:    # as much as one that is not too slow sends in two minutes
            client.sendall(head_of(request) + request.body[:60_000])
        for _ in range(4):
            assert_accepted(server.send(signed()))
        for request, client in slow:
            client.sendall(request.body[60_000:])
            assert_accepted(server.client.answer(client))
            client.close()


@pytest.mark.needs("http")
def test_expect_100_continue(server, place):
    request = signed().and_header("expect", b"100-continue")
    with server.client.connect() as client:
        client.sendall(head_of(request))
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(request.body)
        assert_accepted(server.client.answer(client))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_aborted_stdin(direct, place):
    """The connection breaks at each point of the request: nothing is stored, nothing hangs."""
    request = signed()
    whole = begin() + params(pairs(request)) + record(STDIN, request.body) + record(STDIN)
    for cut in [*range(0, 40), len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 1]:
        with direct.connect() as client:
            client.send(whole[:cut])
    still_serves(direct, place)
    assert len(place.spool.files()) == 2


@pytest.fixture
def open_stdin(place):
    """A CGI program whose standard input stays open after the request."""
    cgi = Cgi(place)
    cgi.start()

    def send(request, body):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(body)
            return cgi.send(request, stdin=theirs)

    return send


def test_standard_input_stays_open(open_stdin, place):
    """RFC 3875, 4.2: the body may end with CONTENT_LENGTH bytes and no end of file."""
    request = signed()
    assert_accepted(open_stdin(request, request.body))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1")
def test_standard_input_stalls(open_stdin, place):
    request = signed()
    assert_refused(open_stdin(request, request.body[:10]), "truncated_body")
    assert place.spool.files() == {}


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1", PSAPI_THREADS="2")
def test_slow_upload(direct, place):
    """An upload that is not complete in time is cut off, and others are served."""
    request = signed()
    slow = [direct.connect() for _ in range(4)]
    for client in slow:
        client.send(begin() + params(pairs(request)) + record(STDIN, request.body[:10]))
    for client in slow:
        try:
            assert_refused(parse_cgi(client.answer()), "truncated_body")
        except NoAnswer as cut:
            assert cut.args == (b"",), "half an answer"
        client.close()
    assert place.spool.files() == {}
    still_serves(direct, place)


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1")
def test_stalled_anywhere(direct, place):
    """Stalled within the header of a record, or within the parameters: the receiver closes the connection."""
    whole = begin() + params(pairs(signed()))
    clients = []
    for cut in (3, 8, 16, 20, len(whole) - 8):
        client = direct.connect()
        client.send(whole[:cut])
        clients.append(client)
    for client in clients:
        try:
            parse_cgi(client.answer())
        except (NoAnswer, socket.timeout) as end:
            assert isinstance(end, NoAnswer), "never closed"
        client.close()
    still_serves(direct, place)


@pytest.mark.settings(PSAPI_READ_TIMEOUT="1")
def test_slow_upload_does_not_extend_the_time(direct, place):
    """The limit is for the whole request, not for each byte."""
    request = signed(b"x" * 100_000)
    with direct.connect() as client:
        client.send(begin() + params(pairs(request)))
        position = 0

        def cut_off():
            nonlocal position
            try:
                client.send(record(STDIN, request.body[position:position + 10]))
            except (BrokenPipeError, ConnectionResetError):
                return True
            position += 10
            client.socket.settimeout(0.05)
            try:
                return client.socket.recv(1) != b"?"
            except socket.timeout:
                return False

        wait_for(cut_off, "the receiver ends it")
    assert place.spool.files() == {}
    still_serves(direct, place)


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
@pytest.mark.settings(PSAPI_READ_TIMEOUT="1", PSAPI_THREADS="1", **strace.ENVIRONMENT)
def test_time_on_a_slow_disk_does_not_count(direct, place):
    """The time-out is for the arrival of the request: the time for storing it does not count."""
    with strace.Attached(direct.receiver.pid, "fsync", "delay_enter=3000000", 1, place.dir / "strace.txt"):
        with direct.connect() as client:
            for _ in range(2):
                request = signed()
                assert_accepted(parse_cgi(client.exchange(pairs(request), request.body, keep=True)))
    assert "(DELAYED)" in (place.dir / "strace.txt").read_text()


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
@pytest.mark.settings(PSAPI_THREADS="1", **strace.ENVIRONMENT)
def test_no_watch_for_a_connection(direct, place):
    """Where the kernel can watch no more, a new connection is closed instead of waiting for ever; the log says so once."""
    with strace.Attached(direct.receiver.pid, "epoll_ctl", "error=ENOSPC", "1+2", place.dir / "strace.txt"):
        for _ in range(3):      # every second call watches the listener again
            with direct.connect() as client:
                assert client.closed()
    assert direct.receiver.log().count("a connection is closed: epoll_ctl: No space left on device") == 1
    still_serves(direct, place)


def begin_upload(direct, request, sent, address=None):
    """A connection with the first bytes of an upload, from this address."""
    variables = [(n, v if address is None or n != b"REMOTE_ADDR" else address) for n, v in pairs(request)]
    client = direct.connect()
    client.send(begin() + params(variables) + record(STDIN, request.body[:sent]))
    return client


def end_upload(client, request, sent):
    client.send(record(STDIN, request.body[sent:]) + record(STDIN))
    return parse_cgi(client.answer())


@pytest.mark.settings(PSAPI_READ_TIMEOUT="120")
def test_minimum_rate(direct, place):
    """After 5 s it must have come at 512 bytes a second: 20 bytes have not, 60,000 have."""
    request = signed(b"x" * 70_000)
    with begin_upload(direct, request, 20) as slow, begin_upload(direct, request, 60_000) as fast:
        assert_refused(parse_cgi(slow.answer()), "truncated_body")
        assert_accepted(end_upload(fast, request, 60_000))


@pytest.mark.settings(PSAPI_READ_TIMEOUT="120")
@pytest.mark.parametrize("address, left", [(lambda n: b"192.0.2.7", 32), (lambda n: b"2001:db8::%x" % (n + 1), 32),
                                           (lambda n: b"192.0.2.%d" % n, 40), (lambda n: b"", 40)],
                         ids=["one", "one network", "many", "unknown"])
def test_uploads_of_one_address(direct, place, address, left):
    """Of one address 32 may take longer than a second; the oldest are cut off."""
    request = signed(b"x" * 70_000)
    uploads = []
    for n in range(40):
        uploads.append(begin_upload(direct, request, 60_000, address(n)))
        if n == 7:      # these are the oldest, whatever the clock's steps
            wait_for(lambda: uploads[-1].unread() == 0, "they have arrived")
            begun = time.monotonic()
            wait_for(lambda begun=begun: time.monotonic() > begun + 0.02, "the clock has gone on")
    cut = [client for client in uploads if left < 40 and not is_open(client)]
    wait_for(lambda: cut.extend(c for c in uploads if c not in cut and not is_open(c)) or len(cut) >= 40 - left,
             "the oldest are cut off")
    assert set(cut) == set(uploads[:40 - left])
    for client in uploads:
        if client not in cut:
            assert end_upload(client, request, 60_000).status == 200
        client.close()


def is_open(client):
    """Whether nothing was answered so far."""
    return not select.select([client.socket], [], [], 0)[0]


@pytest.mark.settings(PSAPI_THREADS="1", PSAPI_MAX_BODY="131072", PSAPI_READ_TIMEOUT="120")
def test_memory_of_unfinished_uploads(direct, place):
    """They take at most PSAPI_THREADS + 32 of the largest body: large ones beyond are cut off, small ones arrive."""
    large, small = signed(b"x" * 120_000), signed()
    uploads = []
    for n in range(45):
        uploads.append(begin_upload(direct, large, 60_000, b"192.0.2.%d" % n))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            uploads[-1].send(record(STDIN, b"x" * 50_000))
    wait_for(lambda: sum(not is_open(c) for c in uploads) >= 45 - 33, "some are cut off")
    assert sum(not is_open(c) for c in uploads) < 20
    assert_accepted(direct.send(small))
    wait_for(lambda: "large ones are cut off" in direct.receiver.log(), "the log says so")
    for client in uploads:
        if not is_open(client):
            assert_refused(parse_cgi(client.answer()), "truncated_body")
        client.close()
    wait_for(lambda: direct.send(signed(large.body)).status == 200, "there is room again")


@pytest.mark.settings(PSAPI_THREADS="1", PSAPI_MAX_BODY="131072", PSAPI_READ_TIMEOUT="120")
def test_the_rest_of_an_upload_that_was_cut_off(direct, place):
    """Where the web server keeps connections, the rest of a large body comes after the answer, in the middle of a
    record: it is dropped, and the next request of the connection is served."""
    large = signed(b"x" * 120_000)
    part = begin(keep=True) + params(pairs(large)) + record(STDIN, b"x" * 60_000)[:50_000]
    uploads = [direct.connect() for _ in range(100)]
    for client in uploads:
        client.send(part)
    wait_for(lambda: any(not is_open(c) for c in uploads), "some are cut off")
    cut = [client for client in uploads if not is_open(client)]
    for client in cut:
        assert_refused(parse_cgi(client.answer()), "truncated_body")
        client.send(b"x" * 10_008)
        client.send(record(STDIN, b"x" * 60_000) + record(STDIN))
        request = signed()
        assert_accepted(parse_cgi(client.exchange(pairs(request), request.body, keep=True)))
    for client in uploads:
        client.close()
