"""A kill, or an error, at each step of storing an event.

One request is sent repeatedly, each time with a fault one system call later, until it is answered. After each fault:
an acknowledged event is on the disk, nothing is half-done, and after the sender's retry the event is queued once.
"""

import os
import subprocess
import time

import pytest

import strace
from fcgi_client import NoAnswer
from receiver import BINARY, Receiver
from replies import REASONS, assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import signed
from servers import Cgi, Socket, cgi_variables

CALLS = ["openat", "write", "writev", "fsync", "linkat", "unlinkat", "close"]
FAILURES = [("openat", "EMFILE"), ("openat", "EOPNOTSUPP"), ("write", "EIO"), ("writev", "ENOSPC"),
            ("writev", "EIO"), ("fsync", "EIO"), ("linkat", "EIO"), ("linkat", "ENOSPC"),
            ("close", "EIO")]
MOST = 150      # calls of one kind; far more than any request makes

pytestmark = pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))


@pytest.fixture
def place(place):
    place.settings |= strace.ENVIRONMENT
    place.tidy = False      # each test checks tmp/ itself
    return place


def run_cgi(place, request, call, fault, when):
    """One CGI process with a fault: its output, and whether the fault was met."""
    log = place.dir / "strace.txt"
    environment = place.environment()
    environment.update(cgi_variables(request))
    done = subprocess.run([*strace.command(call, fault, when, log), BINARY], env=environment,
                          input=request.body, capture_output=True, timeout=60)
    return done.stdout, done.returncode, strace.was_injected(log)


def assert_whole(place, request):
    """Every file is complete, and events/ has only events that are (or were) queued."""
    webhook_id = request.header("webhook-id")
    for directory in ("new", "events"):
        if place.spool.file(directory, webhook_id).exists():
            assert place.spool.read(directory, webhook_id).body == request.body
    assert set(place.spool.names("events")) <= set(place.spool.names("new"))
    assert place.spool.left_in_tmp() == []


def assert_retry_succeeds(server, place, request):
    webhook_id = request.header("webhook-id")
    reply = server.send(signed(request.body, webhook_id))
    assert (reply.status, reply.word) in ((200, "accepted"), (200, "duplicate")), reply
    place.spool.assert_queued_once(webhook_id, request.body)
    assert place.spool.left_in_tmp() == []


@pytest.mark.parametrize("call", CALLS)
def test_cgi_killed(place, call):
    """After the kill the receiver starts, and with it recovery; then the sender retries."""
    server = Socket(place)
    for when in range(1, MOST):
        request = signed()
        output, status, injected = run_cgi(place, request, call, "signal=KILL", when)
        if not injected and status == 0:
            break
        assert_whole(place, request)
        with server:
            assert place.spool.names("new") == place.spool.names("events"), "not recovered"
            assert_retry_succeeds(server, place, request)
            server.receiver.stop()
    assert_accepted(parse_cgi(output))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert call == "unlinkat" or when > 1, "nothing was ever killed"


@pytest.mark.settings(PSAPI_THREADS="2")
@pytest.mark.parametrize("call", CALLS)
def test_fastcgi_killed(place, call):
    """The same with a running receiver: the calls of the request, then those at the end of the process."""
    server = Socket(place)
    for when in range(1, MOST):
        request = signed()
        with server:
            receiver = server.receiver
            with strace.Attached(receiver.pid, call, "signal=KILL", when,
                                 place.dir / "strace.txt"):
                try:
                    reply = server.send(request)
                except NoAnswer:
                    reply = None
                receiver.signal()
                status = receiver.wait()
            receiver.process = None
            if status == 0:
                break
        assert_whole(place, request)
        if reply is not None:       # acknowledged before the kill
            assert_accepted(reply)
            place.spool.assert_queued_once(request.header("webhook-id"), request.body)
        with server:
            assert place.spool.names("new") == place.spool.names("events"), "not recovered"
            assert_retry_succeeds(server, place, request)
            server.receiver.stop()
    assert_accepted(reply)
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.parametrize("call, error", FAILURES)
def test_call_fails(place, call, error):
    """One call fails: the answer is true, and a refused event is not half-stored. What has its name in new/ keeps it:
    the retry goes on with that file."""
    cgi = Cgi(place)
    cgi.start()
    answers, kept = set(), 0
    for when in range(1, MOST):
        request = signed()
        webhook_id = request.header("webhook-id")
        output, status, injected = run_cgi(place, request, call, f"error={error}", when)
        assert_whole(place, request)
        answer = parse_cgi(output) if status == 0 else None
        if answer is None:
            answers.add("none")     # the program could not start, or could not answer
        elif answer.status == 200:
            assert_accepted(answer)
            place.spool.assert_queued_once(webhook_id, request.body)
            answers.add("accepted")
        else:
            reason = answer.json["reason"]
            assert REASONS[reason] == 503, answer
            assert_refused(answer, reason)
            # It may have a name in new/ already, which nothing removes: the sender's retry goes on with it.
            for directory in ("events", "failed"):
                assert not place.spool.file(directory, webhook_id).exists(), answer
            answers.add(reason)
        inodes = place.spool.files()
        assert_retry_succeeds(cgi, place, request)
        if answer is not None and answer.status == 503 and f"new/{webhook_id.decode()}.json" in inodes:
            kept += 1
            assert inodes.items() <= place.spool.files().items(), "the file in new/ was replaced"
        if not injected:
            break
    assert not injected and "accepted" in answers
    if error == "ENOSPC":
        assert "spool_full" in answers
    if call in ("fsync", "linkat") and error == "EIO":
        assert "spool_error" in answers
    assert (kept > 0) == (call in ("fsync", "linkat"))


@pytest.mark.parametrize("call", ["writev", "fsync"])
def test_failed_fsync_is_not_trusted_to_succeed_later(place, call):
    """The sync of the file (a write with O_DSYNC): the event is refused. The sync of its name: spool_error until the
    restart, and the name stays."""
    place.settings["PSAPI_SYNC"] = "two"
    server = Socket(place)
    with server:
        with strace.Attached(server.receiver.pid, call, "error=EIO", 1,
                             place.dir / "strace.txt"):
            request = signed()
            assert_refused(server.send(request), "spool_error")
        assert place.spool.names("new") == ([request.header("webhook-id").decode()] if call == "fsync" else [])
        assert_whole(place, request)
        if call == "writev":
            assert place.spool.files() == {}
            assert_accepted(server.send(request))
        else:
            assert list(place.spool.files()) == [f"new/{request.header('webhook-id').decode()}.json"]
            assert_refused(server.send(request), "spool_error")
            assert_refused(server.send(signed()), "spool_error")
            server.receiver.stop()
            server.receiver.start()
            assert_duplicate(server.send(request))      # the start has committed it
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_recovery_at_start(place):
    """Events that events/ lacks are committed at the start; the committed ones do not change."""
    server = Socket(place)
    with server:
        good, invalid, half = signed(), signed(b"no JSON"), signed()
        for request in (good, invalid, half):
            assert_accepted(server.send(request))
        server.receiver.stop()
    for request in (invalid, half):
        place.spool.file("events", request.header("webhook-id")).unlink()
    with server:
        for request in (good, half):
            place.spool.assert_queued_once(request.header("webhook-id"), request.body)
        place.spool.assert_failed(invalid.header("webhook-id"), invalid.body)
        for request in (good, invalid, half):
            assert server.send(request).word == "duplicate"


def test_leftovers_in_tmp(place):
    """Older than an hour: of a process that died, removed. Younger: possibly of a running one, kept. A file with another
    name is not ours."""
    tmp = place.spool.path / "tmp"
    Receiver(place).start().stop()
    for name, age in (("1.000000000.1.0", 3700), ("1.000000000.1.1", 60), ("photo.jpg", 3700)):
        (tmp / name).write_text("half an eve")
        os.utime(tmp / name, times=(time.time() - age,) * 2)
    receiver = Receiver(place).start()
    assert place.spool.left_in_tmp() == ["1.000000000.1.1", "photo.jpg"]
    receiver.stop()
