"""The boundaries to other software: the query of a client, and limits of the system."""

import subprocess

import pytest

import strace
from fcgi_client import request
from receiver import BINARY, Receiver
from replies import assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import OTHER_SECRET, signed
from servers import Cgi, Socket, pairs


@pytest.mark.parametrize("query", [["-oPSAPI_TOLERANCE=1000000000"], ["-V"], ["-t"], ["-h"],
                                   ["-oPSAPI_SPOOL=/nowhere"], ["-f", "/nowhere"], ["x"]])
def test_query_is_no_command_line(place, query):
    """RFC 3875, 4.4: a query without `=` becomes the arguments of a CGI program."""
    cgi = Cgi(place)
    cgi.start()
    assert_refused(cgi.send(signed(timestamp=5), command=[BINARY, *query]), "stale_timestamp")
    assert_accepted(cgi.send(signed(), command=[BINARY, *query]))
    assert len(place.spool.names("new")) == 1


@pytest.mark.parametrize("setting, forged", [({"PSAPI_TOLERANCE": "x"}, "spool_error"),
                                             ({"PSAPI_SPOOL": "/proc/no"}, "signature_mismatch")],
                         ids=["bad setting", "no spool"])
def test_cgi_that_cannot_start(place, setting, forged):
    """It answers, and the sender retries. Without an answer a web server would send a 500."""
    cgi = Cgi(place)
    cgi.start()
    place.settings |= setting
    assert_refused(cgi.send(signed()), "spool_error")
    assert_refused(cgi.send(signed(secrets=[OTHER_SECRET])), forged)
    for text in (*setting, *setting.values()):
        assert text in cgi.log()


def test_log_of_an_id_with_control_characters(place):
    """An id cannot control the terminal on which the log is read."""
    place.secret_file.write_text("")    # held, which is logged with the id
    cgi = Cgi(place)
    cgi.start()
    reply = cgi.send(signed(webhook_id="msg\x1b[2J\nforged line\u202e"))
    assert (reply.status, reply.word) == (200, "held")
    assert "msg\\x1b[2J\\x0aforged" in cgi.log()
    assert cgi.log().isascii() and cgi.log().replace("\n", "").isprintable()


def test_one_configuration_for_all_ways(place):
    """With PSAPI_LISTEN, an inherited socket and CGI are served as well."""
    place.settings["PSAPI_LISTEN"] = f"unix:{place.dir}/own.sock"
    cgi = Cgi(place)
    cgi.start()
    assert_accepted(cgi.send(signed()))
    receiver = Receiver(place, via=["spawn-fcgi", "-n", "-s", place.dir / "psapi.sock", "--"])
    receiver.start()
    assert not (place.dir / "own.sock").exists()
    receiver.stop()


def limited(place, files):
    return Receiver(place, via=["prlimit", f"--nofile={files}:{files}"],
                    PSAPI_LISTEN=f"unix:{place.dir}/psapi.sock")


@pytest.mark.settings(PSAPI_THREADS="4")
def test_more_connections_than_descriptors(place):
    """The others wait in the backlog; no request fails for lack of a descriptor."""
    server = Socket(place)
    server.receiver = limited(place, 64).start()
    webhooks = [signed() for _ in range(100)]
    clients = [server.connect() for _ in webhooks]
    for client, webhook in zip(clients, webhooks):
        client.send(request(pairs(webhook), webhook.body))
    for client in clients:
        assert_accepted(parse_cgi(client.answer()))
        client.close()


@pytest.mark.settings(PSAPI_THREADS="1")
def test_backlog_beyond_the_descriptors(place):
    """SIGTERM with more connections in the backlog than can be open at once: all are answered."""
    server = Socket(place)
    server.receiver = limited(place, 64).start()
    again = signed()
    assert_accepted(server.send(again))     # the disk must not slow the test down
    clients = [server.connect() for _ in range(130)]
    for client in clients:
        client.send(request(pairs(again), again.body))
    server.receiver.signal()
    for client in clients:
        assert_duplicate(parse_cgi(client.answer()))
        client.close()
    assert server.receiver.wait() == 0
    server.receiver.process = None


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
def test_check_needs_hard_links_before_the_spool_is_made(place):
    """-t reports it before the spool exists, as on a new installation."""
    place.spool.path.rmdir()
    done = subprocess.run([*strace.command("linkat", "error=EPERM", "1+", place.dir / "strace.txt"),
                           BINARY, "-t"], env=place.environment(),
                          capture_output=True, text=True)
    assert done.returncode == 78 and "hard link" in done.stdout, done
    place.spool.path.mkdir()
