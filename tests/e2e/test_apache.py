"""The shipped files for Apache: no warning, and correct in a vhost with unfavourable settings."""

import re
import subprocess

import pytest

import servers_apache
from receiver import wait_for
from replies import assert_accepted, assert_refused
from sender import event, signed
from servers_apache import ApacheBalancer, ApacheCgid, ApacheFcgid, ApacheProxy, ApacheReuse

WAYS = servers_apache.SERVERS


@pytest.fixture(params=WAYS, ids=lambda cls: cls.name)
def apache(request, place):
    with request.param(place) as running:
        yield running


def post(apache, path):
    with apache.client.connect() as client:
        client.sendall(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                       b"Connection: close\r\n\r\n" % path)
        return apache.client.answer(client)


def test_no_warning(apache):
    checked = subprocess.run(apache.command("-t"), capture_output=True, text=True,
                             env=apache.environment(), cwd=apache.place.dir)
    assert checked.returncode == 0 and "Syntax OK" in checked.stderr, checked.stderr
    assert_accepted(apache.send(signed()))
    warnings = [line for line in apache.server_log().splitlines()
            if re.search(r":(warn|error|crit|alert|emerg)\]", line)]
    # A warning about Debian's build of Apache.
    assert [line for line in warnings if "compiled against a newer library" not in line] == []


def test_only_this_location(apache, place):
    for path in (b"/", b"/webhooks/psapi/", b"/webhooks/psapi/x", b"/webhooks/psapix", b"/psapi"):
        reply = post(apache, path)
        assert reply.status in (403, 404, 405) and b"missing_header" not in reply.body, path
    assert place.spool.attempts() == []
    assert_accepted(apache.send(signed()))


@pytest.mark.parametrize("cls", [ApacheProxy, ApacheReuse, ApacheBalancer],
                         ids=lambda cls: cls.name)
def test_receiver_is_down(place, cls):
    """The sender must not get a 2xx. When the receiver is back, the next request is accepted."""
    with cls(place) as apache:
        for receiver in place.receivers:
            receiver.stop()
        request = signed()
        assert apache.send(request).status == 503
        for receiver in place.receivers:
            receiver.start()
        assert_accepted(apache.send(request))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def hostile(cls):
    """A vhost with a password, error pages, a small limit, and a site that handles every address."""
    class Hostile(cls):
        def modules(self):
            return [*super().modules(), "rewrite"]

        def configure(self, port):
            super().configure(port)
            www = self.place.dir / "www"
            (www / "index.html").write_text("all is well")
            (www / ".htaccess").write_text("RewriteEngine On\nRewriteCond %{REQUEST_FILENAME} !-f\n"
                                           "RewriteRule . /index.html [L]\n")
            (self.place.dir / "nobody").write_text("")
            vhost = self.place.dir / "psapi-vhost.conf"
            vhost.write_text(vhost.read_text().replace("    Include", f"""
                ErrorDocument 400 "all is well"
                ErrorDocument 413 "all is well"
                LimitRequestBody 1000
                <IfModule mod_proxy.c>
                    ProxyErrorOverride On
                </IfModule>
                <Location "/">
                    AuthType Basic
                    AuthName members
                    AuthUserFile {self.place.dir}/nobody
                    Require valid-user
                </Location>
                Include""", 1))
    return Hostile


@pytest.mark.parametrize("cls", [ApacheProxy, ApacheBalancer, ApacheFcgid, ApacheCgid],
                         ids=lambda cls: cls.name)
def test_vhost_with_unfavourable_settings(place, cls):
    with hostile(cls)(place) as apache:
        assert post(apache, b"/other").status == 401
        request = signed(event("x.large", filler="a" * 300_000))
        assert_accepted(apache.send(request))
        assert_refused(apache.send(signed().with_header("webhook-id", None)), "missing_header")
        assert_refused(apache.send(signed(b" " * 1_048_577)), "body_too_large")


def test_mod_fcgid_has_several_processes(place):
    """Several processes, which share the spool, serve concurrent requests."""
    from load import at_once
    with ApacheFcgid(place) as apache:
        def client():
            for _ in range(5):
                assert_accepted(apache.send(signed()))
        at_once([client] * 8)
        wait_for(lambda: len(place.spool.names("new")) == 40, "all are there")
