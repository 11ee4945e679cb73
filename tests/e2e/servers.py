"""The servers between sender and receiver: one small class each.

A test with the fixture `server` runs once behind each of them. It may use only what is declared here: `send(request)`
delivers a Request and returns the Reply; `lacks` has the capabilities that a server does not have, with the reason that
the skip prints.
"""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess

import fcgi_client
from http_client import HttpClient
from receiver import BINARY, ROOT, SLOWER, WEB_USER, Receiver, wait_for
from replies import parse_cgi
from sender import as_bytes

PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin"

CAPABILITIES = {
    "http": "an HTTP client is at the other end: chunked coding, Expect, half an upload",
    "http2": "HTTP/2 over TLS",
    "http2 without length": "an HTTP/2 body whose length nobody has announced is passed on",
    "verbatim": "header values arrive as they are, outer spaces and all",
    "choose_length": "the test decides what CONTENT_LENGTH says",
    "method": "the method arrives as it was spelled",
    "persistent": "one process answers many requests, and remembers",
    "restart": "the receiver can be replaced under load (`restart()`) without a failed request",
}


def cgi_variables(request):
    """The request as meta-variables (RFC 3875, 4.1), in order, duplicates kept."""
    variables = [("GATEWAY_INTERFACE", b"CGI/1.1"), ("REQUEST_METHOD", request.method.encode()),
                 ("SCRIPT_NAME", b"/webhooks/psapi"), ("QUERY_STRING", b""),
                 ("SERVER_PROTOCOL", b"HTTP/1.1"), ("SERVER_NAME", b"localhost"),
                 ("SERVER_PORT", b"443"), ("REMOTE_ADDR", b"192.0.2.1")]
    length = as_bytes(len(request.body)) if request.length is None else request.length
    if not request.chunked:
        variables.append(("CONTENT_LENGTH", length))
    for name, value in request.headers:
        name = name.upper().replace("-", "_")
        variables.append((name if name == "CONTENT_TYPE" else "HTTP_" + name, value))
    return variables


def free_port():
    """Below the kernel's own range, of which a neighbour's connection may take any before a server does."""
    while True:
        port = random.randrange(16000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    name = None
    lacks = {}          # capability -> reason

    def __init__(self, place):
        self.place = place

    def start(self):
        raise NotImplementedError

    def stop(self):
        """Stops the web server only; Place stops the receivers."""

    def send(self, request):
        raise NotImplementedError

    def renew(self):
        """Restart the receiver, as after a change of its settings (CGI: nothing to do)."""
        for receiver in self.place.receivers:
            receiver.stop()
            receiver.start()

    def log(self):
        """The messages of the receiver to the administrator."""
        return "".join(receiver.log() for receiver in self.place.receivers)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class Socket(Server):
    """No web server: FastCGI over the receiver's own socket."""

    name = "socket"
    lacks = {"http2": "FastCGI has no HTTP", "http": "FastCGI has no chunked coding and no Expect",
             "restart": "a client of the socket sees it refuse during a restart"}

    def start(self):
        self.receiver = Receiver(self.place).start()

    def connect(self):
        return fcgi_client.Connection(self.receiver.path, timeout=20 * SLOWER)

    def send(self, request):
        with self.connect() as connection:
            return parse_cgi(connection.exchange(pairs(request), request.body))


def pairs(request):
    return [(name.encode(), value) for name, value in cgi_variables(request)]


class Cgi(Server):
    """No web server: the binary as a classic CGI program, one process per request."""

    name = "cgi"
    lacks = {"http2": "CGI has no HTTP", "http": "RFC 3875 has no chunked coding and no Expect",
             "persistent": "every request is a process of its own",
             "restart": "there is nothing to restart"}

    def start(self):
        self.log_file = self.place.dir / "cgi.log"

    def send(self, request, stdin=None, command=(BINARY,)):
        environment = self.place.environment()
        for name, value in cgi_variables(request):
            # Two headers of one name are joined (RFC 3875, 4.1.18).
            environment[name] = environment[name] + b", " + value if name in environment else value
        with open(self.log_file, "ab") as log:
            process = subprocess.Popen(command, env=environment, stderr=log,
                                       stdin=stdin or subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            output, _ = process.communicate(None if stdin else request.body, timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, f"exit status {process.returncode}: {self.log()}"
        return parse_cgi(output)

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


class Nginx(Server):
    """nginx with the shipped snippet in a minimal vhost."""

    name = "nginx"
    shipped = "psapi.conf"
    vhost = "server { listen 127.0.0.1:%(port)d; include psapi.conf; }"
    lacks = {"http2": "this vhost has no TLS; nginx-keepalive's has",
             "verbatim": "nginx trims header values (RFC 9110, 5.5)",
             "choose_length": "nginx reads the body itself and refuses a wrong Content-Length",
             "restart": "one receiver with its own socket: nginx answers 502 until it is back; "
                        "psapi-vhost.conf has the remedy"}

    main = """
        daemon off; worker_processes 2; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx-error.txt;
        %(user)s
        events { worker_connections 1024; }
        http {
            access_log off;
            client_body_temp_path %(dir)s/temp-body; fastcgi_temp_path %(dir)s/temp-fastcgi;
            proxy_temp_path %(dir)s/temp-proxy; uwsgi_temp_path %(dir)s/temp-uwsgi;
            scgi_temp_path %(dir)s/temp-scgi;
            %(vhost)s
        }
        """

    def start(self):
        self.start_receivers()
        self.start_nginx()

    def start_receivers(self):
        Receiver(self.place).start()

    def substitutions(self, port):
        """Paths and ports of the shipped file: text -> text of this test."""
        return {"unix:/run/psapi/": f"unix:{self.place.dir}/"}

    def write_configuration(self, port):
        directory = self.place.dir
        shipped = for_this_nginx((ROOT / "nginx" / self.shipped).read_text())
        for old, new in self.substitutions(port).items():
            assert old in shipped, f"{self.shipped} has no {old!r}"
            shipped = shipped.replace(old, new)
        (directory / self.shipped).write_text(shipped)
        shutil.copy("/etc/nginx/fastcgi_params", directory)
        values = {"dir": directory, "user": f"user {WEB_USER};" if WEB_USER else "", "port": port}
        (directory / "nginx.conf").write_text(self.main % (values | {"vhost": self.vhost % values}))

    def command(self, *arguments):
        return ["nginx", "-p", self.place.dir, "-c", self.place.dir / "nginx.conf",
                "-e", self.place.dir / "nginx-error.txt", *arguments]

    def start_nginx(self):
        for _ in range(5):      # another process may take the free port meanwhile
            port = free_port()
            self.write_configuration(port)
            with open(self.place.dir / "nginx-error.txt", "ab") as log:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, env={"PATH": PATH})
            wait_for(lambda: self.process.poll() is not None or accepts(port), "nginx listens")
            if self.process.poll() is None:
                break
            error = (self.place.dir / "nginx-error.txt").read_text()
            assert "Address already in use" in error, error
        self.client = self.make_client(port)

    def make_client(self, port):
        return HttpClient("127.0.0.1", port, timeout=30 * SLOWER)

    def send(self, request):
        return self.client.send(request)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


def accepts(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class NginxUnbuffered(Nginx):
    """nginx that passes uploads on as they come."""

    name = "nginx-unbuffered"

    def substitutions(self, port):
        return super().substitutions(port) | {
            "fastcgi_request_buffering on;": "fastcgi_request_buffering off;"}


def for_this_nginx(text):
    """What the comment of a shipped vhost says for nginx 1.25.1 and later."""
    told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, env={"PATH": PATH}, check=True).stderr
    version = tuple(map(int, re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", told).groups()))
    if version < (1, 25, 1) or " ssl http2;" not in text:
        return text
    assert "# nginx 1.25.1 and later: `listen 443 ssl;` and a line `http2 on;`\n" in text
    first, rest = text.replace(" ssl http2;", " ssl;").split("    listen ", 1)
    return f"{first}    http2 on;\n    listen {rest}"


class NginxKeepalive(Nginx):
    """nginx with the example vhost: TLS, kept connections, two receivers."""

    name = "nginx-keepalive"
    shipped = "psapi-vhost.conf"
    vhost = "include psapi-vhost.conf;"
    lacks = {k: v for k, v in Nginx.lacks.items() if k not in ("restart", "http2")}

    def start_receivers(self):
        for name in ("psapi", "psapi-2"):
            Receiver(self.place, name).start()

    def substitutions(self, port):
        directory = self.place.dir
        return super().substitutions(port) | {
            "listen 443 ": f"listen 127.0.0.1:{port} ",
            "listen [::]:443 ": f"listen unix:{directory}/v6.sock ",
            "/etc/ssl/certs/webhooks.example.com.pem": f"{directory}/cert.pem",
            "/etc/ssl/private/webhooks.example.com.key": f"{directory}/key.pem"}

    def start_nginx(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-days", "2",
                        "-keyout", self.place.dir / "key.pem", "-out", self.place.dir / "cert.pem"],
                       check=True, capture_output=True)
        super().start_nginx()

    def make_client(self, port):
        return HttpClient("127.0.0.1", port, cafile=self.place.dir / "cert.pem",
                          timeout=30 * SLOWER)

    def restart(self):
        """One receiver after the other, as the vhost's comment says."""
        self.renew()


class SpawnFcgi(Nginx):
    """nginx before a socket that spawn-fcgi made and passes as descriptor 0."""

    name = "spawn-fcgi"
    lacks = Nginx.lacks | {"restart": "spawn-fcgi's socket ends with the process that it started; "
                                      "see the inherited socket in test_restart.py"}

    def start_receivers(self):
        group = ["-U", WEB_USER, "-G", WEB_USER] if WEB_USER else []
        Receiver(self.place, via=["spawn-fcgi", "-n", "-s", self.place.dir / "psapi.sock",
                                  "-M", "0660", *group, "--"]).start()


SERVERS = {cls.name: cls for cls in (Socket, Cgi, Nginx, NginxKeepalive, SpawnFcgi)}


def reason_to_skip(name, needs):
    """Why a server cannot run a test with these needs, or None."""
    assert set(needs) <= set(CAPABILITIES), needs
    lacks = SERVERS[name].lacks
    missing = [need for need in needs if need in lacks]
    return f"{name}: {lacks[missing[0]]}" if missing else None
