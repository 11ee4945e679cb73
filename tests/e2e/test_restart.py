"""Restarts without a failed request, and the end of a process: SIGTERM, SIGINT, twice.

A receiver that ends answers the connections that it has accepted, and those in the listen backlog of its own socket. An
inherited socket stays open for the next receiver.
"""

import os
import shutil
import signal
import socket

import pytest

import strace
from fcgi_client import STDIN, Connection, NoAnswer, begin, params, record, request
from installed_layout import status_of
from load import Load
from receiver import SLOWER, WEB_USER, Receiver, connects, start_on_a_port, wait_for
from replies import assert_accepted, parse_cgi
from sender import signed
from servers import Nginx, pairs

ROUNDS = 4


def assert_all_accepted(place, replies):
    for reply in replies:
        assert not isinstance(reply, Exception), reply
        assert_accepted(reply)
    assert len(place.spool.names("new")) == len(replies)


@pytest.mark.needs("restart")
def test_restart_under_load(server, place):
    with Load(lambda: server.send(signed()), clients=6) as load:
        for _ in range(ROUNDS):
            load.turn(3)
            server.restart()
        load.turn(3)
    assert_all_accepted(place, load.results)


@pytest.fixture
def listening(place):
    """A listening socket that stays open during restarts, as held by a supervisor."""
    path = place.dir / "psapi.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        if WEB_USER:
            shutil.chown(path, group=WEB_USER)
        listener.listen(1024)
        yield listener


def test_successor_on_an_inherited_socket(place, listening):
    """Stop, start, stop, start: meanwhile new connections wait in the listen backlog."""
    receiver = Receiver(place, inherited=listening).start()
    nginx = Nginx(place)
    nginx.start_nginx()
    try:
        with Load(lambda: nginx.send(signed())) as load:
            for _ in range(ROUNDS):
                load.turn(3)
                receiver.stop()
                receiver.start()
            load.turn(3)
    finally:
        nginx.stop()
    assert_all_accepted(place, load.results)
    assert connects(receiver.path)


def test_inherited_socket_stays_open(place, listening):
    """The next receiver gets the connections in the backlog."""
    receiver = Receiver(place, inherited=listening).start()
    receiver.stop()
    assert receiver.path.exists(), "not ours to remove"
    webhook = signed()
    with Connection(receiver.path, timeout=20 * SLOWER) as client:
        client.send(request(pairs(webhook), webhook.body))
        receiver.start()
        assert_accepted(parse_cgi(client.answer()))


@pytest.mark.settings(PSAPI_THREADS="2")
def test_backlog_is_answered(direct, place):
    """Ten connections in the listen backlog, two threads, SIGTERM: all ten get their answer."""
    webhooks = [signed() for _ in range(10)]
    clients = []
    direct.receiver.signal(signal.SIGSTOP)      # it has accepted none before the end begins
    status = f"/proc/{direct.receiver.pid}/status"
    wait_for(lambda: status_of(status)["State"].strip().startswith("T"), "it is stopped")
    for webhook in webhooks:
        clients.append(direct.connect())
        clients[-1].send(request(pairs(webhook), webhook.body))
    direct.receiver.signal()
    direct.receiver.signal(signal.SIGCONT)
    for client in clients:
        assert_accepted(parse_cgi(client.answer()))
        client.close()
    assert direct.receiver.wait() == 0
    direct.receiver.process = None
    assert not direct.receiver.path.exists()
    for webhook in webhooks:
        place.spool.assert_queued_once(webhook.header("webhook-id"), webhook.body)


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
@pytest.mark.settings(PSAPI_THREADS="1", **strace.ENVIRONMENT)
def test_backlog_after_one_that_cannot_be_watched(direct, place):
    """The kernel has no watch for one of the connections in the backlog: the others get their answer."""
    # The main thread's first call is about the listener, and its second about a connection.
    with strace.Attached(direct.receiver.pid, "epoll_ctl", "error=ENOSPC", 2, place.dir / "strace.txt"):
        direct.receiver.signal(signal.SIGSTOP)
        status = f"/proc/{direct.receiver.pid}/status"
        wait_for(lambda: status_of(status)["State"].strip()[0] in "tT", "it is stopped")
        clients = [direct.connect() for _ in range(30)]
        for client in clients:
            webhook = signed()
            client.send(request(pairs(webhook), webhook.body))
        direct.receiver.signal()
        direct.receiver.signal(signal.SIGCONT)
        answers = []
        for client in clients:
            try:
                answers.append(parse_cgi(client.answer()).status)
            except NoAnswer:
                answers.append(None)
            client.close()
        assert direct.receiver.wait() == 0
        direct.receiver.process = None
    assert sorted(answers, key=str) == [200] * 29 + [None]


def has_taken_the_signal(receiver):
    with open(f"/proc/{receiver.pid}/status") as status:
        pending = dict(line.split(":", 1) for line in status)["ShdPnd"]
    return int(pending, 16) & 1 << (signal.SIGTERM - 1) == 0


@pytest.mark.settings(PSAPI_THREADS="1")
def test_backlog_of_a_port_is_answered(place):
    """As for a unix socket; but here shutdown(2) would reset the connections."""
    receiver, address = start_on_a_port(place)
    half, webhook = signed(), signed()
    busy, *clients = [Connection(address, timeout=20 * SLOWER) for _ in range(40)]
    busy.send(begin() + params(pairs(half)) + record(STDIN, half.body[:10]))
    for client in clients:      # they wait for the only thread
        client.send(request(pairs(webhook), webhook.body))
    receiver.signal()
    wait_for(lambda: has_taken_the_signal(receiver), "it begins to stop")
    busy.send(record(STDIN, half.body[10:]) + record(STDIN))
    for client in (busy, *clients):
        assert parse_cgi(client.answer()).status == 200
        client.close()
    assert receiver.wait() == 0
    receiver.process = None
    for stored in (half, webhook):
        place.spool.assert_queued_once(stored.header("webhook-id"), stored.body)


def test_answered_or_refused(direct, place):
    """Under load each connection is answered completely or refused."""
    refused = []

    def send():
        try:
            return direct.send(signed())
        except (FileNotFoundError, ConnectionRefusedError) as error:
            refused.append(error)
            return None

    for _ in range(ROUNDS):
        with Load(send) as load:
            load.turn(3)
            direct.receiver.stop()
            load.turn()
        direct.receiver.start()
        answers = [result for result in load.results if result is not None]
        assert refused and answers
        for answer in answers:
            assert not isinstance(answer, Exception), repr(answer)
            assert_accepted(answer)


def half_a_request(direct, webhook):
    """A connection with half a request, which the receiver has read."""
    client = direct.connect()
    client.send(begin() + params(pairs(webhook)) + record(STDIN, webhook.body[:10]))
    return client


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_in_flight_is_finished(direct, place, number):
    webhook = signed()
    client = half_a_request(direct, webhook)
    assert_accepted(direct.send(signed()))      # accepted later: so the half is read as well
    direct.receiver.signal(number)
    wait_for(lambda: not connects(direct.receiver.path), "the door is closed")
    client.send(record(STDIN, webhook.body[10:]) + record(STDIN))
    assert_accepted(parse_cgi(client.answer()))
    assert direct.receiver.wait() == 0
    direct.receiver.process = None
    place.spool.assert_queued_once(webhook.header("webhook-id"), webhook.body)


def test_unfinished_request_does_not_delay_the_end(direct, place):
    client = half_a_request(direct, signed())
    assert_accepted(direct.send(signed()))
    direct.receiver.stop()      # exit 0 within 5 s
    try:
        assert parse_cgi(client.answer()).status != 200
    except NoAnswer as cut:
        assert cut.args == (b"",), "half an answer"
    client.close()
    assert len(place.spool.names("new")) == 1


def test_idle_connections_do_not_delay_the_end(direct, place):
    clients = [direct.connect() for _ in range(5)]
    for client in clients[:3]:
        webhook = signed()
        assert_accepted(parse_cgi(client.exchange(pairs(webhook), webhook.body, keep=True)))
    direct.receiver.stop()
    for client in clients:
        assert client.closed()
        client.close()
    assert "unanswered" not in direct.receiver.log()    # the receiver closed it before its end


def keep_connection(direct):
    """An open connection whose request was answered."""
    client = direct.connect()
    webhook = signed()
    assert_accepted(parse_cgi(client.exchange(pairs(webhook), webhook.body, keep=True)))
    return client


@pytest.mark.settings(PSAPI_THREADS="1")
def test_requests_on_kept_connections_are_answered(direct, place):
    """Closing idle connections loses no request that was sent on them."""
    busy, *clients, last = [keep_connection(direct) for _ in range(7)]
    half, *webhooks = [signed() for _ in range(1 + len(clients))]
    busy.send(begin() + params(pairs(half)) + record(STDIN, half.body[:10]))
    for client, webhook in zip(clients, webhooks):      # they wait for the only thread
        client.send(request(pairs(webhook), webhook.body, keep=True))
    wait_for(lambda: busy.unread() == 0, "it is in hand")
    direct.receiver.signal()

    def hung_up():
        try:
            last.send(b"\0")
        except BrokenPipeError:
            return True

    wait_for(hung_up, "it has hung up on all")
    busy.send(record(STDIN, half.body[10:]) + record(STDIN))
    for client in (busy, *clients):
        assert_accepted(parse_cgi(client.answer()))
    for client in (busy, *clients, last):
        assert client.closed()
        client.close()
    assert direct.receiver.wait() == 0
    direct.receiver.process = None


def test_no_further_request_on_a_busy_connection(direct, place):
    """The receiver closes it after the answer; otherwise a busy web server would delay the end."""
    webhook = signed()
    client = direct.connect()
    client.send(begin(keep=True) + params(pairs(webhook)) + record(STDIN, webhook.body[:10]))
    assert_accepted(direct.send(signed()))      # accepted later: so the half is read as well
    direct.receiver.signal()
    wait_for(lambda: not connects(direct.receiver.path), "the door is closed")
    client.send(record(STDIN, webhook.body[10:]) + record(STDIN))
    assert_accepted(parse_cgi(client.answer()))
    served = 0
    try:
        while True:
            more = signed()
            assert_accepted(parse_cgi(client.exchange(pairs(more), more.body, keep=True)))
            served += 1
    except NoAnswer as closed:
        assert closed.args == (b"",), "half an answer"
    client.close()
    assert served <= 1, "one may have been sent before it hung up"
    assert direct.receiver.wait() == 0
    direct.receiver.process = None


def test_idle_process_ends_by_itself(direct, place):
    """It ends without another request."""
    assert_accepted(direct.send(signed()))
    direct.receiver.signal()
    assert direct.receiver.wait() == 0
    direct.receiver.process = None


def test_second_signal_ends_at_once(direct, place):
    client = half_a_request(direct, signed())
    assert_accepted(direct.send(signed()))
    direct.receiver.signal()
    wait_for(lambda: not connects(direct.receiver.path), "the door is closed")
    assert direct.receiver.process.poll() is None, "it still waits for the half request"
    direct.receiver.signal()
    # After the first signal alone the status would be 0, when the time is over.
    assert direct.receiver.wait() == 128 + signal.SIGTERM
    direct.receiver.process = None
    client.close()
    assert len(place.spool.names("new")) == 1


def test_other_signals_do_not_end_it(direct, place):
    """Nor does a client that goes away (SIGPIPE)."""
    direct.receiver.signal(signal.SIGPIPE)
    for _ in range(20):
        webhook = signed()
        with direct.connect() as client:
            client.send(request(pairs(webhook), webhook.body))      # and not waiting for the rest of the request
    assert_accepted(direct.send(signed()))


@pytest.mark.settings(PSAPI_THREADS="4")
def test_no_descriptor_is_lost(direct, place):
    def count():
        return len(os.listdir(f"/proc/{direct.receiver.pid}/fd"))
    direct.send(signed())
    most = count() + 2 * 4 + 2      # each thread has two, and may begin later
    for _ in range(100):
        direct.send(signed())
        direct.send(signed().with_header("webhook-id", None))
        direct.connect().close()
    wait_for(lambda: count() <= most, f"no more than {most} descriptors, after 300 connections")
