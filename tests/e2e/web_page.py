"""The operator's page as its users reach it: psapi-web behind nginx or Apache with the shipped files, and its API.

`page.get("attempts")` asks as a browser does that has the page open. The receiver is behind the same vhost, so the page
can send examples to it.
"""

import base64
import http.client
import json
import os
import subprocess

import pytest

import strace
from receiver import BINARY, SANITIZED, SLOWER, Receiver
from servers import Nginx, free_port
from servers_apache import ApacheProxy
from web_server import certificate

WEB = BINARY.parent / "psapi-web"
USER, PASSWORD = "alice", "a password of the tests"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


class WebProgram(Receiver):
    """psapi-web on a socket of its own."""

    def __init__(self, place, **settings):
        super().__init__(place, "psapi-web", binary=WEB, **settings)

    def start(self, ready=True, arguments=()):
        self.settings["PSAPI_LISTEN"] = ""
        self.settings["PSAPI_WEB_LISTEN"] = f"unix:{self.path}"
        return super().start(ready, arguments)


class Page:
    """Mixed into a server with the shipped configuration of the page."""

    prefix = "/psapi/"
    settings = {}       # of psapi-web

    def start_programs(self):
        Receiver(self.place).start()
        self.web = WebProgram(self.place, **self.settings)

    def write_passwords(self):
        path = self.place.dir / "psapi.htpasswd"
        if not path.exists():
            lines = [f"{user}:" + subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True,
                                                 capture_output=True, text=True).stdout for user in (USER, "bob")]
            path.write_text("".join(lines))
            path.chmod(0o644)
        return path

    def authorization(self, user):
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{PASSWORD}".encode()).decode()} if user else {}

    def request(self, method, path, body=None, headers=None, user=USER):
        """One request, with these headers alone and the user's password. Returns status, headers, body."""
        connection = self.connection()
        try:
            connection.request(method, path if path.startswith("/") else self.prefix + path, body=body,
                               headers=self.authorization(user) | (headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, name, expect=200, user=USER, **headers):
        status, _, body = self.request("GET", f"api/1/{name}", headers=SAME_ORIGIN | headers, user=user)
        assert status == expect, (status, body)
        return json.loads(body)

    def post(self, name, data, expect=200, user=USER, headers=None):
        body = data if isinstance(data, (str, bytes)) else json.dumps(data)
        status, _, answer = self.request("POST", f"api/1/{name}", body=body, user=user, headers={
            "Content-Type": "application/json"} | (SAME_ORIGIN if headers is None else headers))
        assert status == expect, (status, answer)
        return json.loads(answer)


class NginxPage(Page, Nginx):
    name = "nginx"
    shipped = "psapi-web.conf"
    vhost = "server { listen 127.0.0.1:%(port)d; include psapi.conf; include psapi-web.conf; }"

    def start(self):
        """The page's process comes last: the URL that it sends to has the port."""
        self.start_programs()
        self.write_passwords()
        self.start_nginx()
        self.start_page()

    def start_page(self):
        if self.settings.get("PSAPI_WEB_ACTIONS") == "yes" and "PSAPI_ENDPOINT_URL" not in self.web.settings:
            self.web.settings["PSAPI_ENDPOINT_URL"] = f"http://127.0.0.1:{self.port}/webhooks/psapi"
        self.web.start()

    def substitutions(self, port):
        return super().substitutions(port) | {"/etc/nginx/psapi.htpasswd": str(self.place.dir / "psapi.htpasswd")}

    def write_configuration(self, port):
        self.port = port
        super().write_configuration(port)
        receiver = Nginx(self.place)
        receiver.main = ""
        receiver.write_configuration(port)      # psapi.conf
        super().write_configuration(port)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20 * SLOWER)


class ApachePage(Page, ApacheProxy):
    name = "apache"

    def start(self):
        self.start_programs()
        self.write_passwords()
        self.start_web_server()
        if self.settings.get("PSAPI_WEB_ACTIONS") == "yes":
            self.web.settings["PSAPI_ENDPOINT_URL"] = f"http://127.0.0.1:{self.plain}/webhooks/psapi"
        self.web.start()

    def configure(self, port):
        self.port = port
        self.install("apache/psapi-web.conf", "conf-available/psapi-web.conf", {
            "unix:/run/psapi/": f"unix:{self.place.dir}/",
            "/etc/apache2/psapi.htpasswd": self.place.dir / "psapi.htpasswd"})
        super().configure(port)
        # Without TLS, for the page's own sending: no system trusts the tests' certificate.
        self.plain = free_port()
        with open(self.place.dir / "apache.conf", "a") as main:
            main.write(f"Listen 127.0.0.1:{self.plain} http\n<VirtualHost 127.0.0.1:{self.plain}>\n"
                       "Include conf-available/psapi-proxy.conf\n</VirtualHost>\n")
        vhost = self.place.dir / "psapi-vhost.conf"
        vhost.write_text(vhost.read_text().replace(
            "psapi-proxy.conf\n</", "psapi-proxy.conf\nInclude conf-available/psapi-web.conf\n</"))

    @property
    def url(self):
        return f"https://localhost:{self.port}{self.prefix}"

    def connection(self):
        import ssl
        return http.client.HTTPSConnection("localhost", self.port, timeout=20 * SLOWER,
                                           context=ssl.create_default_context(cafile=certificate() / "cert.pem"))


TRACES = pytest.mark.skipif(os.geteuid() != 0 or SANITIZED or bool(strace.why_not()), reason="strace of a sandboxed process")
PAGES = {cls.name: cls for cls in (NginxPage, ApachePage)}
ACTIONS = {"PSAPI_WEB_ACTIONS": "yes"}


def page_of(cls, place, **settings):
    """A page, not yet started."""
    page = cls(place)
    page.settings = settings
    return page


@pytest.fixture(params=PAGES)
def page(request, place):
    with page_of(PAGES[request.param], place, **ACTIONS) as running:
        yield running


@pytest.fixture
def nginx(place):
    with page_of(NginxPage, place, **ACTIONS) as running:
        yield running
