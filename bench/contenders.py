"""The contenders: how each is started behind the web server, as its users would."""

import os
import re
import subprocess
from pathlib import Path

import ground
from ground import HERE, SECRET, WEB_USER, Process

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
    """path: where the web server has it. store: the directory, below place, of its events."""

    path = store = None
    web = "nginx"
    counts = True   # its CPU: not where each request is a process that nobody waits for

    def __init__(self, title, **more):
        self.title, self.process = title, None
        for name, value in more.items():
            setattr(self, name, value)

    def location(self, hall):
        """What nginx is told of it."""
        return ""

    def upstream(self, hall):
        return ""

    def start(self, hall, place):
        """Start it with its events in place."""

    def stop(self):
        if self.process:
            self.process.end()
            self.process = None

    def files(self, place):
        directory = place / self.store
        return [p for p in directory.iterdir() if not p.name.startswith(".")] if directory.is_dir() else []


class FastCgi(Contender):
    """A FastCGI program on a unix socket. keep: nginx keeps the connections."""

    keep = True

    def location(self, hall):
        shipped = (TOP / "nginx/psapi.conf").read_text().replace("/webhooks/psapi", self.path)
        to = f"{self.name}; fastcgi_keep_conn on" if self.keep else f"unix:{hall.dir}/{self.socket}"
        return shipped.replace("fastcgi_pass unix:/run/psapi/psapi.sock", f"fastcgi_pass {to}")

    def script_location(self, hall, script, more=""):
        """The same for what starts a script: which one, and the list of variables that all such locations have."""
        return re.sub(r"    fastcgi_param .*\n", "", FastCgi.location(self, hall)).replace(
            "fastcgi_pass", f"include /etc/nginx/fastcgi_params;\nfastcgi_param SCRIPT_FILENAME {script};\n"
            f"{more}fastcgi_pass", 1)

    @property
    def name(self):
        return "u" + self.path.replace("/", "_").replace("-", "_")

    def upstream(self, hall):
        return f"upstream {self.name} {{ server unix:{hall.dir}/{self.socket}; keepalive 64; }}" \
            if self.keep else ""


class Null(FastCgi):
    """Those that show what is possible, with an HMAC at least, are scheduled as the receiver is: SCHED_BATCH."""

    socket = "null.sock"
    arguments = ("64",)     # of null.c; what stores is told the place, too

    def start(self, hall, place):
        where = [place / "spool"] if self.store else []
        scheduled = ["chrt", "-b", "0"] if len(self.arguments) > 1 else []
        with hall.listening(self.socket) as listener:
            self.process = Process([*scheduled, hall.tools / "null", *self.arguments, *where], hall.log, stdin=listener)


class Psapi(FastCgi):
    socket, store = "psapi.sock", "spool/events"
    threads = 16

    def start(self, hall, place):
        hall.configure_psapi(place)
        self.process = Process(
            [TOP / "psapi-fcgi", "-f", hall.dir / "psapi.conf", "-o", f"PSAPI_THREADS={self.threads}",
             "-o", f"PSAPI_LISTEN=unix:{hall.dir}/psapi.sock"], hall.log)


class Fcgiwrap(FastCgi):
    """A CGI program under Debian's fcgiwrap."""

    keep, threads, counts = False, 16, False

    @property
    def socket(self):
        return "fcgiwrap.sock"

    def location(self, hall):
        return self.script_location(hall, self.program(hall), f"fastcgi_param PSAPI_CONF {hall.dir}/psapi.conf;\n")

    def program(self, hall):
        return hall.tools / self.script if not str(self.script).startswith("/") else self.script

    def start(self, hall, place):
        if self.store == "spool/events":
            hall.configure_psapi(place)
        elif self.store:
            (place / self.store).mkdir()
        with hall.listening(self.socket) as listener:
            self.process = Process(["fcgiwrap", "-c", str(self.threads)], hall.log, stdin=listener,
                                   env=hall.environment(place))


class Http(Contender):
    """An HTTP server of its own behind nginx's proxy_pass."""

    store = "events"

    @property
    def name(self):
        return "u" + self.path.replace("/", "_").replace("-", "_")

    def upstream(self, hall):
        self.port = ground.free_port()
        return f"upstream {self.name} {{ server 127.0.0.1:{self.port}; keepalive 64; }}"

    def location(self, hall):
        to = getattr(self, "inner", "")
        return f"location = {self.path} {{ proxy_pass http://{self.name}{to}; proxy_http_version 1.1; " \
               'proxy_set_header Connection ""; }'

    def start(self, hall, place):
        (place / "events").mkdir()
        self.process = Process(self.command(hall, place), hall.log, cwd=hall.alternatives,
                               env=hall.environment(place))


class Node(Http):
    def command(self, hall, place):
        # One process, with a thread of its pool for each connection that may wait for the disk: a cluster of two
        # was slower on two cores.
        return ["env", "UV_THREADPOOL_SIZE=16", "node", self.script, self.port, place / "events", SECRET]


class Flask(Http):
    def command(self, hall, place):
        return ["/usr/bin/gunicorn", "--workers", 5, "--threads", 8, "--bind", f"127.0.0.1:{self.port}",
                "--log-level", "error", "flask_app:app"]


class Webhook(Http):
    inner = "/hooks/psapi"

    def command(self, hall, place):
        return ["/usr/bin/webhook", "-hooks", "hooks.json", "-ip", "127.0.0.1", "-port", self.port]


class Php(FastCgi):
    socket, store = "php.sock", "events"

    def location(self, hall):
        return self.script_location(hall, f"{hall.alternatives}/webhook.php")

    def start(self, hall, place):
        (place / "events").mkdir()
        conf = hall.dir / "php-fpm.conf"
        user = "user = root\ngroup = root\n" if WEB_USER else ""
        conf.write_text(
            f"[global]\ndaemonize = no\nerror_log = {hall.log}\n[www]\n{user}"
            f"listen = {hall.dir}/php.sock\nlisten.mode = 0666\npm = static\npm.max_children = 32\n"
            f"env[BENCH_DIRECTORY] = {place}/events\nenv[BENCH_SECRET] = {SECRET}\n")
        program = next(p for p in sorted(Path("/usr/sbin").glob("php-fpm*")))
        self.process = Process([program, *(["-R"] if WEB_USER else []), "-y", conf], hall.log)


class ApacheMod(Contender):
    """Under Apache, with mod_proxy_fcgi or mod_cgid."""

    web, store = "apache", "spool/events"
    threads = 16

    def start(self, hall, place):
        if self.path == "/apache":
            Psapi.start(self, hall, place)
        else:
            hall.configure_psapi(place)     # Apache starts it


class Hall:
    """Where they all are: a directory, the two web servers, the tools."""

    def __init__(self, directory, tools, contenders):
        self.dir, self.tools, self.log = directory, tools, directory / "log"
        self.alternatives = tools / "alternatives"
        self.contenders = contenders
        self.ports = {"nginx": ground.free_port(), "apache": ground.free_port()}
        self.servers = {}

    def listening(self, name):
        """A listening socket, to be somebody's descriptor 0."""
        path = self.dir / name
        path.unlink(missing_ok=True)
        s = ground.socket.socket(ground.socket.AF_UNIX)
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
            ground.shutil.chown(secret, group=WEB_USER)
            ground.shutil.chown(spool, WEB_USER, WEB_USER)
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
        # Contenders that differ in load alone share a path, and so its port.
        for contender in members:
            twin = next((c for c in seen if c.path == contender.path), contender)
            if hasattr(twin, "port"):
                contender.port = twin.port
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
            ground.wait_until(lambda port=port: ground.post(port, b"GET / HTTP/1.0\r\n\r\n") != 0,
                              f"{name} answers; see {self.log}")

    def close(self):
        for server in self.servers.values():
            server.end()


def prepare_alternatives(tools):
    """Copies with their packages, so that the tree stays clean."""
    target = tools / "alternatives"
    ground.shutil.copytree(ALTERNATIVES, target, dirs_exist_ok=True)
    if not (target / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=target,
                       check=True, capture_output=True, timeout=600)


def all_contenders(tools):
    """Rows of the table. fs: what it is measured on; c: connections; kind: of the requests."""
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
        Null("null responder with an HMAC that stores, parses JSON, logs, locked up", key="null log tmpfs", path="/null-store",
             arguments=("32", "log"), store="spool/events", fs="tmpfs", c=16),
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
