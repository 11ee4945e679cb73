"""The shipped files of the balancer, for nginx and HAProxy, in front of two heads: nginx as shipped with a receiver each.

The two heads share a spool here, as they would share PostgreSQL; test_hosts.py has the whole set-up.
"""

import subprocess

import pytest

from receiver import ROOT, Receiver, wait_for
from replies import assert_accepted, assert_duplicate, assert_refused
from sender import event, signed
from servers import PATH, NginxKeepalive, accepts, free_port

HEADS = ("web1", "web2")


class NginxBalancer(NginxKeepalive):
    """One nginx is the balancer, as shipped, and the web server of both heads, which listen on unix sockets."""

    name = "nginx"
    shipped = "psapi-balancer.conf"
    heads = "".join(f"""
        server {{ listen unix:%(dir)s/{head}-http.sock; set_real_ip_from unix:; real_ip_header X-Forwarded-For;
            access_log %(dir)s/{head}-requests; include {head}.conf; }}""" for head in HEADS)
    vhost = heads + "include psapi-balancer.conf;"

    def start_receivers(self):
        for head in HEADS:
            Receiver(self.place, head).start()

    def substitutions(self, port):
        found = super().substitutions(port)
        del found["unix:/run/psapi/"]
        return found | {f"{head}:80": f"unix:{self.place.dir}/{head}-http.sock" for head in HEADS}

    def accepted(self, head):
        """How many requests this head answered with 200."""
        return (self.place.dir / f"{head}-requests").read_text().count('" 200 ')

    def write_configuration(self, port):
        for head in HEADS:
            shipped = (ROOT / "nginx/psapi.conf").read_text()
            (self.place.dir / f"{head}.conf").write_text(
                shipped.replace("unix:/run/psapi/psapi.sock", f"unix:{self.place.dir}/{head}.sock"))
            (self.place.dir / f"{head}-http.sock").unlink(missing_ok=True)
        super().write_configuration(port)


class HaproxyBalancer(NginxBalancer):
    """HAProxy in front of the heads; the nginx of above serves only these."""

    name = "haproxy"

    def configuration(self, port):
        text = (ROOT / "examples/haproxy.cfg").read_text()
        changes = {"bind :443 ": f"bind 127.0.0.1:{port} ",
                   "/etc/haproxy/webhooks.example.com.pem": f"{self.place.dir}/both.pem"}
        changes |= {f"{head}:80": f"unix@{self.place.dir}/{head}-http.sock" for head in HEADS}
        for old, new in changes.items():
            assert old in text, old
            text = text.replace(old, new)
        return text

    def start_nginx(self):
        super().start_nginx()
        both = self.place.dir / "both.pem"
        both.write_text((self.place.dir / "cert.pem").read_text() + (self.place.dir / "key.pem").read_text())
        port, file = free_port(), self.place.dir / "haproxy.cfg"
        file.write_text(self.configuration(port))
        with open(self.place.dir / "haproxy.txt", "ab") as log:
            self.haproxy = subprocess.Popen(["haproxy", "-f", file], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={"PATH": PATH})
        wait_for(lambda: accepts(port), "HAProxy listens")
        self.client = self.make_client(port)

    def check(self):
        return subprocess.run(["haproxy", "-c", "-f", self.place.dir / "haproxy.cfg"], capture_output=True, text=True,
                              env={"PATH": PATH}, check=False)

    def stop(self):
        self.haproxy.kill()
        self.haproxy.wait()
        super().stop()


@pytest.fixture(params=[NginxBalancer, HaproxyBalancer], ids=lambda cls: cls.name)
def balancer(request, place):
    with request.param(place) as running:
        yield running


def test_no_warning(balancer):
    checked = balancer.check() if isinstance(balancer, HaproxyBalancer) else \
        subprocess.run(balancer.command("-t"), capture_output=True, text=True, env={"PATH": PATH}, check=False)
    told = (checked.stdout + checked.stderr).lower()
    assert checked.returncode == 0 and "warn" not in told and "alert" not in told, told


def test_both_heads_are_used(balancer, place):
    """With every kind of answer as the receiver wrote it, and the sender's address in the log."""
    for _ in range(6):
        request = signed(event("x.large", filler="a" * 30_000))
        assert_accepted(balancer.send(request))
        assert_duplicate(balancer.send(request))
    assert_refused(balancer.send(signed().with_header("webhook-id", None)), "missing_header")
    assert_refused(balancer.send(signed(b"x" * 1_100_000)), "body_too_large")
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert {line["remote_addr"] for line in place.spool.attempts()} == {"127.0.0.1"}


def test_a_head_is_down(balancer, place):
    """Its receiver has ended, and then the other's: each request is accepted at the first delivery."""
    for head, receiver in zip(HEADS, place.receivers):
        receiver.kill()
        for _ in range(8):
            assert_accepted(balancer.send(signed()))
        receiver.start()
        before = balancer.accepted(head)
        wait_for(lambda head=head, before=before: balancer.send(signed()).status == 200 and
                 balancer.accepted(head) > before, "a head that failed is used again after a while")


def test_a_head_refuses(balancer, place):
    """503 of one head: the other is asked."""
    first = place.receivers[0]
    first.stop()
    first.settings["PSAPI_MIN_FREE"] = str(1 << 60)
    first.start()
    for _ in range(8):
        assert_accepted(balancer.send(signed()))
    outcomes = [line["outcome"] for line in place.spool.attempts()]
    assert outcomes.count("accepted") == 8


def test_only_this_location(balancer):
    with balancer.client.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert balancer.client.answer(client).status == 404


def test_all_heads_are_down(balancer, place):
    """Never a 2xx: the sender tries again, and nothing is lost."""
    for receiver in place.receivers:
        receiver.stop()
    request = signed()
    assert balancer.send(request).status in (502, 503)
    for receiver in place.receivers:
        receiver.start()
    wait_for(lambda: balancer.send(request).status == 200, "the heads are back", 20)
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)
