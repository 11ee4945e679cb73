"""The receiver's own socket: mode, group, a stale one, a live one, TCP; descriptor 0."""

import fcntl
import grp
import os
import socket
import stat
import subprocess

import pytest

from fcgi_client import Connection
from receiver import BINARY, STATIC, WEB_USER, Receiver, connects, heeds_signals, start_on_a_port, wait_for
from replies import assert_accepted, parse_cgi
from sender import signed
from servers import Cgi, pairs


def test_mode_and_group(direct):
    status = direct.receiver.path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660
    if WEB_USER:
        assert grp.getgrgid(status.st_gid).gr_name == WEB_USER


@pytest.mark.parametrize("umask", ["000", "777"])
def test_modes_are_not_the_umasks(place, umask):
    """Socket, event, log."""
    receiver = Receiver(place, via=["sh", "-c", f'umask {umask}; exec "$@"', "sh"],
                        PSAPI_LISTEN=f"unix:{place.dir}/psapi.sock").start()
    assert stat.S_IMODE(receiver.path.stat().st_mode) == 0o660
    webhook = signed()
    with Connection(receiver.path) as connection:
        assert_accepted(parse_cgi(connection.exchange(pairs(webhook), webhook.body)))
    for path in (place.spool.file("new", webhook.header("webhook-id")),
                 place.spool.path / "attempts.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path


def test_removed_at_exit(direct):
    direct.receiver.stop()
    assert not direct.receiver.path.exists()


def test_stale_socket_is_replaced(direct, place):
    direct.receiver.kill()
    assert direct.receiver.path.exists() and not connects(direct.receiver.path)
    direct.receiver.start()
    assert_accepted(direct.send(signed()))


def test_of_two_at_once_on_a_stale_socket_one_stays(place):
    path = place.dir / "psapi.sock"
    for _ in range(10):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        both = [subprocess.Popen([BINARY], env=place.environment(PSAPI_LISTEN=f"unix:{path}"),
                                 stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        try:
            wait_for(lambda: any(p.poll() is not None for p in both), "one of them gives up")
            [loser] = [p for p in both if p.poll() is not None]
            assert "another receiver is listening" in loser.stderr.read()
            [winner] = [p for p in both if p is not loser]
            wait_for(lambda: connects(path) and heeds_signals(winner.pid), "the other serves")
        finally:
            for process in both:
                process.terminate()
        assert winner.wait(20) == 0
        assert not path.exists()
        for process in both:
            process.stderr.close()


def test_of_two_at_once_does_not_wait_for_another_holder_of_the_lock(place):
    directory = os.open(place.dir, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        assert connects(Receiver(place).start().path)
    finally:
        os.close(directory)


def test_live_socket_is_left_alone(direct, place):
    inode = direct.receiver.path.stat().st_ino
    second = place.run(PSAPI_LISTEN=f"unix:{direct.receiver.path}")
    assert second.returncode != 0
    assert str(direct.receiver.path) in second.stderr and len(second.stderr.splitlines()) == 1
    assert direct.receiver.path.stat().st_ino == inode
    assert_accepted(direct.send(signed()))


def test_only_the_own_socket_is_removed_at_exit(direct, place):
    """It was removed, and another receiver has made a new one with this name."""
    direct.receiver.path.unlink()
    second = Receiver(place).start()
    assert second.path == direct.receiver.path
    direct.receiver.stop()
    assert_accepted(direct.send(signed()))


def test_file_that_is_no_socket_is_left_alone(place):
    path = place.dir / "psapi.sock"
    path.write_text("mine")
    result = place.run(PSAPI_LISTEN=f"unix:{path}")
    assert result.returncode != 0 and str(path) in result.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize("listen", ["unix:/nonexistent/x.sock", "unix:" + "/x" * 100,
                                    "unix:", "127.0.0.1:0x50", "127.0.0.1:99999", "nonsense",
                                    "0.0.0.0:9000", "192.0.2.1:9000"])
def test_impossible_sockets(place, listen):
    """Only a unix socket or loopback; anything else is an error with a message."""
    result = place.run(PSAPI_LISTEN=listen)
    assert result.returncode != 0
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert listen.removeprefix("unix:")[:50] in result.stderr


@pytest.mark.parametrize("group", ["nosuchgroup", "4294967295", "99999999999999999999", "0x21", "-1", "33 "])
def test_unknown_group(place, group):
    result = place.run(PSAPI_LISTEN=f"unix:{place.dir}/x.sock", PSAPI_LISTEN_GROUP=group)
    assert result.returncode != 0
    why = "this program has no shared libraries" if STATIC else "no such group"
    assert f'PSAPI_LISTEN_GROUP="{group}" (environment): {why}' in result.stderr
    assert not (place.dir / "x.sock").exists()


def test_group_by_number(place):
    receiver = Receiver(place, PSAPI_LISTEN_GROUP=str(os.getegid())).start()
    assert receiver.path.stat().st_gid == os.getegid()


def test_loopback(place):
    """127.0.0.1:port, for servers that cannot do unix sockets."""
    _, address = start_on_a_port(place)
    webhook = signed()
    with Connection(address) as connection:
        assert_accepted(parse_cgi(connection.exchange(pairs(webhook), webhook.body)))


def test_connected_socket_on_descriptor_0_is_cgi(place):
    """mod_cgid gives a CGI program a connected socket for its standard input."""
    cgi = Cgi(place)
    cgi.start()
    webhook = signed()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(webhook.body)
        ours.shutdown(socket.SHUT_WR)
        assert_accepted(cgi.send(webhook, stdin=theirs))
    place.spool.assert_queued_once(webhook.header("webhook-id"), webhook.body)


def test_started_by_hand(place):
    """Neither a socket nor CGI: a message, instead of waiting for a body."""
    result = subprocess.run([BINARY], env=place.environment(), stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=20)
    assert result.returncode != 0 or "405" in result.stdout
    assert place.spool.files() == {}
