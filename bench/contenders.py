"""The contenders: psapi-fcgi, null responders and alternatives, and how each is started behind the web server."""

import os
import re
import subprocess
from pathlib import Path

import harness
from harness import HERE, SECRET, WEB_USER, Process

TOP = HERE.parent
ALTERNATIVES = HERE / "alternatives"

NGINX = """
daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log {dir}/nginx.log;
{user}
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    keepalive_requests 1000000000;
    {upstreams}
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


class Contender:
    """path: its path at the web server. store: the directory of its events, below place."""

    store = kind = None
    counts = True   # its CPU time; not that of CGI processes, whose parent does not wait for them

    def __init__(self, title, **more):
        self.title, self.process = title, None
        for name, value in more.items():
            setattr(self, name, value)

    def location(self, setup):
        """Its part of nginx's configuration."""
        return ""

    def upstream(self, setup):
        return ""

    def start(self, setup, place):
        """Start it with its events in place."""

    def stop(self):
        if self.process:
            self.process.end()
            self.process = None

    def files(self, place):
        directory = place / self.store
        return [p for p in directory.iterdir() if not p.name.startswith(".")] if directory.is_dir() else []


class FastCgi(Contender):
    """A FastCGI program on a unix socket. keep: nginx keeps its connections open."""

    keep = True

    def location(self, setup):
        shipped = (TOP / "nginx/psapi.conf").read_text().replace("/webhooks/psapi", self.path)
        to = f"{self.name}; fastcgi_keep_conn on" if self.keep else f"unix:{setup.dir}/{self.socket}"
        return shipped.replace("fastcgi_pass unix:/run/psapi/psapi.sock", f"fastcgi_pass {to}")

    def script_location(self, setup, script, more=""):
        """The same for a program that starts a script: its name, and nginx's own list of variables."""
        return re.sub(r"    fastcgi_param .*\n", "", FastCgi.location(self, setup)).replace(
            "fastcgi_pass", f"include /etc/nginx/fastcgi_params;\nfastcgi_param SCRIPT_FILENAME {script};\n"
            f"{more}fastcgi_pass", 1)

    @property
    def name(self):
        return "u" + self.path.replace("/", "_").replace("-", "_")

    def upstream(self, setup):
        return f"upstream {self.name} {{ server unix:{setup.dir}/{self.socket}; keepalive 64; }}" \
            if self.keep else ""


class Null(FastCgi):
    socket = "null.sock"

    def start(self, setup, place):
        where = [place / "spool"] if self.store else []
        with setup.listening(self.socket) as listener:
            self.process = Process([setup.tools / "null", 64, *where], setup.log, stdin=listener)


class Psapi(FastCgi):
    socket, store = "psapi.sock", "spool/events"
    threads, sync = 16, "auto"

    def start(self, setup, place):
        setup.configure_psapi(place)
        self.process = Process(
            [TOP / "psapi-fcgi", "-f", setup.dir / "psapi.conf", "-o", f"PSAPI_THREADS={self.threads}",
             "-o", f"PSAPI_SYNC={self.sync}", "-o", f"PSAPI_LISTEN=unix:{setup.dir}/psapi.sock"], setup.log)


class Fcgiwrap(FastCgi):
    """psapi-fcgi as a CGI program under Debian's fcgiwrap."""

    socket, store = "fcgiwrap.sock", "spool/events"
    keep = counts = False

    def location(self, setup):
        return self.script_location(setup, self.program, f"fastcgi_param PSAPI_CONF {setup.dir}/psapi.conf;\n")

    def start(self, setup, place):
        setup.configure_psapi(place)
        with setup.listening(self.socket) as listener:
            self.process = Process(["fcgiwrap", "-c", 16], setup.log, stdin=listener)


class Php(FastCgi):
    socket, store = "php.sock", "events"

    @property
    def keep(self):
        """A child serves one connection: nginx may keep as many as wrk has, if there are as many children."""
        return self.children >= self.c

    def location(self, setup):
        return self.script_location(setup, f"{setup.alternatives}/webhook.php")

    def start(self, setup, place):
        (place / "events").mkdir()
        conf = setup.dir / "php-fpm.conf"
        user = "user = root\ngroup = root\n" if WEB_USER else ""
        conf.write_text(
            f"[global]\ndaemonize = no\nerror_log = {setup.log}\n[www]\n{user}"
            f"listen = {setup.dir}/php.sock\nlisten.mode = 0666\npm = static\npm.max_children = {self.children}\n"
            "php_admin_value[opcache.validate_timestamps] = 0\n"
            f"env[BENCH_DIRECTORY] = {place}/events\nenv[BENCH_SECRET] = {SECRET}\n")
        program = next(p for p in sorted(Path("/usr/sbin").glob("php-fpm*")))
        self.process = Process([program, *(["-R"] if WEB_USER else []), "-y", conf], setup.log)


class Http(Contender):
    """An HTTP server behind nginx's proxy_pass."""

    store = "events"

    @property
    def name(self):
        return "u" + self.path.replace("/", "_")

    def upstream(self, setup):
        self.port = harness.free_port()
        return f"upstream {self.name} {{ server 127.0.0.1:{self.port}; keepalive 64; }}"

    def location(self, setup):
        return f"location = {self.path} {{ proxy_pass http://{self.name}; proxy_http_version 1.1; " \
               'proxy_set_header Connection ""; }'

    def start(self, setup, place):
        (place / "events").mkdir()
        environment = {"PATH": os.environ["PATH"], "BENCH_DIRECTORY": str(place / "events"), "BENCH_SECRET": SECRET}
        self.process = Process(self.command(), setup.log, cwd=setup.alternatives, env=environment)


class Node(Http):
    def command(self):
        # One process, with a thread for each connection that may wait for the disk. A cluster of two processes was
        # slower on two cores.
        return ["env", "UV_THREADPOOL_SIZE=16", "node", "node.js", self.port]


class Flask(Http):
    def command(self):
        return ["/usr/bin/gunicorn", "--workers", 5, "--threads", 8, "--bind", f"127.0.0.1:{self.port}",
                "--log-level", "error", "flask_app:app"]


class Setup:
    """The directory of a run, the web server, the tools, the contenders."""

    def __init__(self, directory, tools, contenders):
        self.dir, self.tools, self.log = directory, tools, directory / "log"
        self.alternatives = tools / "alternatives"
        self.contenders = contenders
        self.port, self.web = harness.free_port(), None

    def listening(self, name):
        """A listening socket, for descriptor 0 of a FastCGI program."""
        path = self.dir / name
        path.unlink(missing_ok=True)
        s = harness.socket.socket(harness.socket.AF_UNIX)
        s.bind(str(path))
        path.chmod(0o666)
        s.listen(4096)
        return s

    def configure_psapi(self, place):
        secret = self.dir / "secret"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o640)
        (self.dir / "psapi.conf").write_text(
            f"PSAPI_SPOOL={place}/spool\nPSAPI_SECRET_FILE={secret}\n"
            + (f"PSAPI_LISTEN_GROUP={WEB_USER}\n" if WEB_USER else ""))

    def open(self):
        conf = self.dir / "nginx.conf"
        # Contenders that differ only in load share a path.
        by_path = {c.path: c for c in self.contenders}.values()
        conf.write_text(NGINX.format(
            dir=self.dir, port=self.port, user=f"user {WEB_USER};" if WEB_USER else "",
            upstreams="\n".join(c.upstream(self) for c in by_path),
            locations="\n".join(c.location(self) for c in by_path)))
        self.web = Process(["/usr/sbin/nginx", "-p", self.dir, "-c", conf], self.log)
        harness.wait_until(lambda: harness.post(self.port, b"GET / HTTP/1.0\r\n\r\n") != 0,
                           f"nginx answers; see {self.log}")

    def close(self):
        if self.web:
            self.web.end()


def prepare_alternatives(tools):
    """Copies, with their npm packages: the source tree stays clean."""
    target = tools / "alternatives"
    harness.shutil.copytree(ALTERNATIVES, target, dirs_exist_ok=True)
    if not (target / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target,
                       check=True, capture_output=True, timeout=600)


def all_contenders():
    """What is measured. fs: the file system; c: connections; kind: of the requests (sign.c)."""
    psapi = {"path": "/psapi", "fs": "ext4", "c": 16}
    alternative = {"fs": "ext4", "c": 16}
    cgi = {"fs": "ext4", "c": 16}
    return [
        Psapi("accept", key="accept", **psapi),
        *(Php(f"PHP-FPM, {n} children", key=f"php {n}", path=f"/php-{n}", children=n, **alternative)
          for n in (8, 16, 32)),
        Node("Node, one process", key="node", path="/node", **alternative),
        Flask("gunicorn + Flask", key="flask", path="/flask", **alternative),
        Psapi("accept, two waits", key="accept two", sync="two", **psapi),
        Psapi("accept, 1 connection", key="accept 1", **psapi | {"c": 1}),
        Psapi("accept, 1 connection, two waits", key="accept 1 two", sync="two", **psapi | {"c": 1}),
        Psapi("accept, 64 connections, 64 threads", key="accept 64", threads=64, **psapi | {"c": 64}),
        Psapi("accept", key="accept tmpfs", **psapi | {"fs": "tmpfs"}),
        Null("null responder that signs, parses, stores, logs and is sandboxed", key="null store tmpfs",
             path="/null", store="spool/events", fs="tmpfs", c=16),
        Null("null responder", key="null", path="/null", fs=None, c=16),
        Psapi("duplicate", key="duplicate", kind="same", **psapi),
        Psapi("refusal (signature)", key="refusal", kind="forged", **psapi),
        Fcgiwrap("accept, classic CGI under fcgiwrap", key="cgi", path="/cgi", program=TOP / "psapi-fcgi", **cgi),
        Fcgiwrap("the same, of make static", key="cgi static", path="/cgi-static",
                 program=TOP / "build/static/psapi-fcgi", **cgi),
    ]
