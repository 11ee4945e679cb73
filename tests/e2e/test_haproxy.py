"""HAProxy, which asks FCGI_GET_VALUES on each connection (`option get-values`) before the first request."""

import pytest

from load import at_once
from receiver import WEB_USER, Receiver
from replies import assert_accepted, assert_refused
from sender import event, signed
from web_server import WebServer

CONFIGURATION = """
global
    log stderr format raw local0 notice
    %(user)s
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend web
    bind 127.0.0.1:%(port)d
    default_backend receiver
backend receiver
    use-fcgi-app psapi
    server psapi unix@%(dir)s/psapi.sock proto fcgi
fcgi-app psapi
    docroot /
    %(options)s
"""


class HAProxy(WebServer):
    name = "haproxy"
    log_name = "haproxy.log"
    options = "option keep-conn\n    option get-values"

    def start_receivers(self):
        Receiver(self.place).start()

    def configure(self, port):
        (self.place.dir / "haproxy.cfg").write_text(CONFIGURATION % {
            "port": port, "dir": self.place.dir, "options": self.options,
            "user": f"user {WEB_USER}\n    group {WEB_USER}" if WEB_USER else ""})

    def command(self, *arguments):
        return ["haproxy", "-db", "-f", self.place.dir / "haproxy.cfg", *arguments]

    tls = False


@pytest.mark.parametrize("options", ["option get-values", "option keep-conn\n    option get-values"],
                         ids=["closed", "kept"])
@pytest.mark.settings(PSAPI_THREADS="1")
def test_haproxy(place, options):
    HAProxy.options = options
    with HAProxy(place) as server:
        for _ in range(5):
            assert_accepted(server.send(signed()))
        assert_accepted(server.send(signed(event("x.large", filler="a" * 300_000))))
        assert_refused(server.send(signed().with_header("webhook-id", None)), "missing_header")
        at_once([lambda: assert_accepted(server.send(signed()))] * 8)
    assert len(place.spool.names("new")) == 14
