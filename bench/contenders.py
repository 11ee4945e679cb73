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
        location = /itself {{ return 200 "{{}}\\n"; }}
        {locations}
    }}
}}
"""

APACHE = """
ServerRoot {dir}
PidFile {dir}/apache.pid
ErrorLog {dir}/apache.log
ServerName localhost
Listen 127.0.0.1:{port}
DefaultRuntimeDir {dir}
{user}
{modules}
KeepAlive On
MaxKeepAliveRequests 0
ThreadsPerChild 32
MaxRequestWorkers 96
<Location />
    Require all granted
</Location>
ScriptSock {dir}/cgid.sock
ScriptAlias /apache-cgi {binary}
<Location /apache-cgi>
    SetEnv PSAPI_CONF {dir}/psapi.conf
</Location>
<Proxy "unix:{dir}/psapi.sock|fcgi://psapi">
    ProxySet retry=0 enablereuse=on timeout=15
</Proxy>
<Location /apache>
    ProxyPass "unix:{dir}/psapi.sock|fcgi://psapi"
</Location>
"""


class Contender:
    """path: its path at the web server. store: the directory of its events, below place."""

    path = store = None
    web = "nginx"
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
    arguments = ("64",)     # of null.c; one that stores gets the directory as well

    def start(self, setup, place):
        where = [place / "spool"] if self.store else []
        with setup.listening(self.socket) as listener:
            self.process = Process([setup.tools / "null", *self.arguments, *where], setup.log, stdin=listener)


class Psapi(FastCgi):
    socket, store = "psapi.sock", "spool/events"
    threads = 16

    def start(self, setup, place):
        setup.configure_psapi(place)
        self.process = Process(
            [TOP / "psapi-fcgi", "-f", setup.dir / "psapi.conf", "-o", f"PSAPI_THREADS={self.threads}",
             "-o", f"PSAPI_LISTEN=unix:{setup.dir}/psapi.sock"], setup.log)


class Fcgiwrap(FastCgi):
    """A CGI program under Debian's fcgiwrap."""

    keep, threads, counts = False, 16, False

    @property
    def socket(self):
        return "fcgiwrap.sock"

    def location(self, setup):
        return self.script_location(setup, self.program(setup), f"fastcgi_param PSAPI_CONF {setup.dir}/psapi.conf;\n")

    def program(self, setup):
        return setup.tools / self.script if not str(self.script).startswith("/") else self.script

    def start(self, setup, place):
        if self.store == "spool/events":
            setup.configure_psapi(place)
        elif self.store:
            (place / self.store).mkdir()
        with setup.listening(self.socket) as listener:
            self.process = Process(["fcgiwrap", "-c", str(self.threads)], setup.log, stdin=listener,
                                   env=setup.environment(place))


class Http(Contender):
    """An HTTP server behind nginx's proxy_pass."""

    store = "events"

    @property
    def name(self):
        return "u" + self.path.replace("/", "_").replace("-", "_")

    def upstream(self, setup):
        self.port = harness.free_port()
        return f"upstream {self.name} {{ server 127.0.0.1:{self.port}; keepalive 64; }}"

    def location(self, setup):
        to = getattr(self, "inner", "")
        return f"location = {self.path} {{ proxy_pass http://{self.name}{to}; proxy_http_version 1.1; " \
               'proxy_set_header Connection ""; }'

    def start(self, setup, place):
        (place / "events").mkdir()
        self.process = Process(self.command(setup, place), setup.log, cwd=setup.alternatives,
                               env=setup.environment(place))


class Node(Http):
    def command(self, setup, place):
        # One process, with a thread for each connection that may wait for the disk. A cluster of two processes was
        # slower on two cores.
        return ["env", "UV_THREADPOOL_SIZE=16", "node", self.script, self.port, place / "events", SECRET]


class Flask(Http):
    def command(self, setup, place):
        return ["/usr/bin/gunicorn", "--workers", 5, "--threads", 8, "--bind", f"127.0.0.1:{self.port}",
                "--log-level", "error", "flask_app:app"]


class Webhook(Http):
    inner = "/hooks/psapi"

    def command(self, setup, place):
        return ["/usr/bin/webhook", "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", self.port]


class Php(FastCgi):
    socket, store = "php.sock", "events"

    def location(self, setup):
        return self.script_location(setup, f"{setup.alternatives}/webhook.php")

    def start(self, setup, place):
        (place / "events").mkdir()
        conf = setup.dir / "php-fpm.conf"
        user = "user = root\ngroup = root\n" if WEB_USER else ""
        conf.write_text(
            f"[global]\ndaemonize = no\nerror_log = {setup.log}\n[www]\n{user}"
            f"listen = {setup.dir}/php.sock\nlisten.mode = 0666\npm = static\npm.max_children = 32\n"
            f"env[BENCH_DIRECTORY] = {place}/events\nenv[BENCH_SECRET] = {SECRET}\n")
        program = next(p for p in sorted(Path("/usr/sbin").glob("php-fpm*")))
        self.process = Process([program, *(["-R"] if WEB_USER else []), "-y", conf], setup.log)


class ApacheMod(Contender):
    """Under Apache, with mod_proxy_fcgi or mod_cgid."""

    web, store = "apache", "spool/events"
    threads = 16

    def start(self, setup, place):
        if self.path == "/apache":
            Psapi.start(self, setup, place)
        else:
            setup.configure_psapi(place)     # Apache starts it


class Setup:
    """The directory of a run, the two web servers, the tools, the contenders."""

    def __init__(self, directory, tools, contenders):
        self.dir, self.tools, self.log = directory, tools, directory / "log"
        self.alternatives = tools / "alternatives"
        self.contenders = contenders
        self.ports = {"nginx": harness.free_port(), "apache": harness.free_port()}
        self.servers = {}

    def listening(self, name):
        """A listening socket, for descriptor 0 of a FastCGI program."""
        path = self.dir / name
        path.unlink(missing_ok=True)
        s = harness.socket.socket(harness.socket.AF_UNIX)
        s.bind(str(path))
        path.chmod(0o666)
        s.listen(4096)
        return s

    def environment(self, place):
        return {"PATH": os.environ["PATH"], "BENCH_DIRECTORY": str(place / "events"),
                "BENCH_SPOOL": str(place / "spool"), "BENCH_SECRET": SECRET, "PSAPI_CONF": str(self.dir / "psapi.conf")}

    def configure_psapi(self, place):
        secret = self.dir / "secret"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o640)
        spool = place / "spool"
        spool.mkdir(exist_ok=True)
        if WEB_USER:
            harness.shutil.chown(secret, group=WEB_USER)
            harness.shutil.chown(spool, WEB_USER, WEB_USER)
        (self.dir / "psapi.conf").write_text(
            f"PSAPI_SPOOL={spool}\nPSAPI_SECRET_FILE={secret}\n"
            + (f"PSAPI_LISTEN_GROUP={WEB_USER}\n" if WEB_USER else ""))

    def open(self):
        conf = self.dir / "nginx.conf"
        members = [c for c in self.contenders if c.web == "nginx"]
        seen = {c.path: c for c in members if c.path}.values()
        conf.write_text(NGINX.format(
            dir=self.dir, port=self.ports["nginx"], user=f"user {WEB_USER};" if WEB_USER else "",
            upstreams="\n".join(c.upstream(self) for c in seen),
            locations="\n".join(c.location(self) for c in seen)))
        # Contenders that differ only in load share a path, and so its port.
        for contender in members:
            same_path = next((c for c in seen if c.path == contender.path), contender)
            if hasattr(same_path, "port"):
                contender.port = same_path.port
        self.servers["nginx"] = Process(["/usr/sbin/nginx", "-p", self.dir, "-c", conf], self.log)
        modules = Path("/usr/lib/apache2/modules")
        conf = self.dir / "apache.conf"
        conf.write_text(APACHE.format(
            dir=self.dir, port=self.ports["apache"], binary=TOP / "psapi-fcgi",
            user=f"User {WEB_USER}\nGroup {WEB_USER}" if WEB_USER else "",
            modules="\n".join(f"LoadModule {m}_module {modules}/mod_{m}.so" for m in (
                "mpm_event", "authz_core", "alias", "env", "proxy", "proxy_fcgi", "cgid"))))
        self.servers["apache"] = Process(["/usr/sbin/apache2", "-d", self.dir, "-f", conf, "-DFOREGROUND"],
                                         self.log, env={"PATH": os.environ["PATH"], "LANG": "C"})
        for name, port in self.ports.items():
            harness.wait_until(lambda port=port: harness.post(port, b"GET / HTTP/1.0\r\n\r\n") != 0,
                              f"{name} answers; see {self.log}")

    def close(self):
        for server in self.servers.values():
            server.end()


def prepare_alternatives(tools):
    """Copies, with their npm packages: the source tree stays clean."""
    target = tools / "alternatives"
    harness.shutil.copytree(ALTERNATIVES, target, dirs_exist_ok=True)
    if not (target / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target,
                       check=True, capture_output=True, timeout=600)


def all_contenders(tools):
    """The rows of the table. fs: the file system; c: connections; kind: of the requests."""
    psapi = {"path": "/psapi", "fs": "ext4", "c": 16}
    alternative = {"fs": "ext4", "c": 16}
    rows = [
        Contender("nginx by itself", key="nginx", path="/itself", fs=None, c=16),
        Null("null responder, connections kept", key="null", path="/null", fs=None, c=16),
        Null("null responder, a connection each", key="null each", path="/null-each", keep=False, fs=None, c=16),
        Null("null responder with an HMAC", key="null hmac", path="/null-hmac", arguments=("64", "hmac"),
             fs=None, c=16),
        Null("null responder with an HMAC that stores", key="null store", path="/null-store",
             arguments=("32", "store"), store="spool/events", fs="ext4", c=16),
        Null("null responder with an HMAC that stores, 1 connection", key="null store 1", path="/null-store",
             arguments=("32", "store"), store="spool/events", fs="ext4", c=1),
        Null("null responder with an HMAC that stores", key="null store tmpfs", path="/null-store",
             arguments=("32", "store"), store="spool/events", fs="tmpfs", c=16),
        Null("null responder with an HMAC that stores, parses JSON, logs, sandboxed", key="null log tmpfs",
             path="/null-store", arguments=("32", "log"), store="spool/events", fs="tmpfs", c=16),
        Psapi("accept", key="accept", **psapi),
        Psapi("accept, 1 connection", key="accept 1", **psapi | {"c": 1}),
        Psapi("accept, 64 connections, 64 threads", key="accept 64", threads=64, **psapi | {"c": 64}),
        Psapi("accept, a connection each", key="accept each", **psapi | {"path": "/psapi-each"}, keep=False),
        Psapi("accept", key="accept tmpfs", **psapi | {"fs": "tmpfs"}),
        Psapi("duplicate", key="duplicate", kind="same", **psapi),
        Psapi("refusal (signature)", key="refusal", kind="forged", **psapi),
    ]
    for fs in ("ext4", "tmpfs"):
        more = alternative | {"fs": fs}
        end = "" if fs == "ext4" else " tmpfs"
        rows += [
            Node("Node http, standardwebhooks", key="node" + end, path="/node", script="node.js", **more),
            Node("Express, standardwebhooks", key="express" + end, path="/express", script="express.js", **more),
            Php("PHP-FPM, 32 children", key="php" + end, path="/php", **more),
            Flask("gunicorn + Flask", key="flask" + end, path="/flask", **more),
        ]
    rows += [
        ApacheMod("accept, Apache mod_proxy_fcgi", key="apache", path="/apache", fs="ext4", c=16),
        ApacheMod("accept, CGI under mod_cgid", key="cgid", path="/apache-cgi", fs="ext4", c=16, counts=False),
        Fcgiwrap("accept, CGI under fcgiwrap", key="fcgiwrap", path="/cgi-psapi", script=str(TOP / "psapi-fcgi"),
                 store="spool/events", fs="ext4", c=16),
        Fcgiwrap("refusal, CGI under fcgiwrap", key="cgi refusal", path="/cgi-psapi", script=str(TOP / "psapi-fcgi"),
                 kind="forged", store="spool/events", fs="ext4", c=16),
        Fcgiwrap("accept, CGI under fcgiwrap, of make static", key="cgi static", path="/cgi-psapi-static",
                 script=str(TOP / "build/static/psapi-fcgi"), store="spool/events", fs="ext4", c=16),
        Fcgiwrap("refusal, CGI under fcgiwrap, of make static", key="cgi static refusal", path="/cgi-psapi-static",
                 script=str(TOP / "build/static/psapi-fcgi"), kind="forged", store="spool/events", fs="ext4", c=16),
        Fcgiwrap("CGI that only prints and stores, static, under fcgiwrap", key="print store", path="/cgi-print-store",
                 script="print-store", store="spool/events", fs="ext4", c=16),
        Fcgiwrap("CGI that only prints, under fcgiwrap", key="print", path="/cgi-print", script="print", fs=None, c=16),
        Fcgiwrap("the same, linked statically", key="print static", path="/cgi-print-static",
                 script="print-static", fs=None, c=16),
        Webhook("webhook + shell script", key="webhook", path="/webhook", **alternative),
        Fcgiwrap("fcgiwrap + Perl", key="perl", path="/cgi-perl", store="events",
                 script=str(tools / "alternatives/cgi_perl.pl"), **alternative),
        Fcgiwrap("fcgiwrap + Python", key="python", path="/cgi-python", store="events",
                 script=str(tools / "alternatives/cgi_python.py"), **alternative),
    ]
    return rows
