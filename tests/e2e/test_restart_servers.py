"""Restarts behind other servers than nginx, with a socket that stays open.

test_restart.py restarts two receivers in turn, behind each server that supports two.
"""

import shutil
import socket

import pytest

from load import Load
from receiver import WEB_USER, Receiver
from replies import assert_accepted
from sender import signed
from servers_apache import ApacheBalancer, ApacheProxy
from servers_others import bytes_written
from servers import NginxKeepalive

ROUNDS = 6


class Inherited:
    """One receiver, on a listening socket as held by a supervisor."""

    def start_receivers(self):
        path = self.place.dir / "psapi.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        path.chmod(0o660)
        if WEB_USER:
            shutil.chown(path, group=WEB_USER)
        self.listener.listen(1024)
        Receiver(self.place, inherited=self.listener).start()

    def stop(self):
        super().stop()
        self.listener.close()


class InheritedApache(Inherited, ApacheProxy):
    pass


class InheritedNginx(Inherited, NginxKeepalive):
    """With kept connections. With one receiver the second line is left out, as its comment says."""

    def substitutions(self, port):
        return {"    server unix:/run/psapi/psapi-2.sock max_fails=0 backup;\n": "",
                **super().substitutions(port)}


def restart_under_load(server, rounds=ROUNDS):
    """In turn: the next one after further requests were answered."""
    with Load(lambda: server.send(signed()), clients=6) as load:
        for _ in range(rounds):
            for receiver in server.place.receivers:
                load.turn(2)
                receiver.stop()
                receiver.start()
        load.turn(3)
    for reply in load.results:
        assert not isinstance(reply, Exception), reply
        assert_accepted(reply)
    return len(load.results)


@pytest.mark.parametrize("cls", [InheritedApache, InheritedNginx], ids=lambda cls: cls.name)
def test_successor_on_an_inherited_socket(place, cls):
    """Stop, start, stop, start: meanwhile new connections wait in the listen backlog."""
    with cls(place) as server:
        count = restart_under_load(server)
    assert len(place.spool.names("new")) == count


@pytest.mark.long
@pytest.mark.parametrize("cls", [InheritedApache, ApacheBalancer, NginxKeepalive,
                                 InheritedNginx],
                         ids=["inherited-apache", "apache-balancer", "nginx-keepalive",
                              "inherited-nginx"])
def test_many_restarts(place, cls):
    with cls(place) as server:
        count = restart_under_load(server, rounds=15)
    assert len(place.spool.names("new")) == count


def test_one_of_two_does_not_come_back(place):
    """Apache's balancer: every request is still accepted."""
    with ApacheBalancer(place) as apache:
        assert_accepted(apache.send(signed()))
        place.receivers[0].kill()
        for _ in range(10):
            assert_accepted(apache.send(signed()))
        place.receivers[0].start()
        before = bytes_written(place.receivers[0].pid)
        for _ in range(4):
            assert_accepted(apache.send(signed()))
        assert bytes_written(place.receivers[0].pid) > before + 200, "it is asked again at once"
        place.receivers[1].stop()
        for _ in range(10):
            assert_accepted(apache.send(signed()))
