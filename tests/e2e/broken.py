"""Web servers with a wrong configuration: `psapi doctor` must name the fault.

`nginx(place, text)` and `apache(place, text)` run a real server with that text as its configuration
of hosts, and yield the port. Substituted in it: %(port)s, %(dir)s, %(socket)s (of the receiver).
"""

import os
import socket
import subprocess
from contextlib import contextmanager

from receiver import WEB_USER, wait_for
from servers import free_port

PATH = os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin"
MODULES = "/usr/lib/apache2/modules"

NGINX = """
daemon off; worker_processes 1; pid %(dir)s/nginx.pid; error_log %(dir)s/nginx-error.txt;
%(user)s
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %(dir)s/temp-body; fastcgi_temp_path %(dir)s/temp-fastcgi;
    proxy_temp_path %(dir)s/temp-proxy; uwsgi_temp_path %(dir)s/temp-uwsgi;
    scgi_temp_path %(dir)s/temp-scgi;
    %(text)s
}
"""

APACHE = """
ServerRoot %(dir)s
DefaultRuntimeDir %(dir)s
PidFile %(dir)s/apache.pid
ErrorLog %(dir)s/apache-error.txt
ServerName localhost
Listen 127.0.0.1:%(port)d
%(modules)s
%(user)s
StartServers 1
<Directory />
    AllowOverride None
    Require all denied
</Directory>
DocumentRoot %(dir)s/www
<Directory %(dir)s/www>
    Require all granted
</Directory>
%(text)s
"""


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(place, command, port):
    """The server, from when it listens until the block ends."""
    with open(place.dir / "web-server.txt", "ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={"PATH": PATH, "LANG": "C"})
    try:
        wait_for(lambda: process.poll() is not None or listens(port), "the web server listens")
        assert process.poll() is None, (place.dir / "web-server.txt").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def nginx(place, text, **more):
    port = free_port()
    (place.dir / "www").mkdir(exist_ok=True)
    values = {"dir": place.dir, "port": port, "socket": place.dir / "psapi.sock"} | more
    (place.dir / "nginx.conf").write_text(NGINX % {
        "dir": place.dir, "text": text % values, "user": f"user {WEB_USER};" if WEB_USER else ""})
    return running(place, ["nginx", "-p", place.dir, "-c", place.dir / "nginx.conf", "-e",
                           place.dir / "nginx-error.txt"], port)


def apache(place, text, modules=(), **more):
    port = free_port()
    (place.dir / "www").mkdir(exist_ok=True)
    values = {"dir": place.dir, "port": port, "socket": place.dir / "psapi.sock"} | more
    base = ["mpm_event", "authn_core", "authz_core", "authz_host", "proxy", "proxy_fcgi"]
    (place.dir / "apache.conf").write_text(APACHE % {
        "dir": place.dir, "port": port, "text": text % values,
        "modules": "\n".join(f"LoadModule {m}_module {MODULES}/mod_{m}.so"
                             for m in [*base, *modules]),
        "user": f"User {WEB_USER}\nGroup {WEB_USER}" if WEB_USER else ""})
    return running(place, ["apache2", "-d", place.dir, "-f", place.dir / "apache.conf",
                           "-DFOREGROUND"], port)


@contextmanager
def mute(path):
    """A socket that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        os.chmod(path, 0o666)
        listener.listen(64)
        yield


def make_certificate(directory, name="localhost", start=None, end=None, days=90):
    """cert.pem and key.pem for a name, signed by itself; start and end: YYYYMMDDHHMMSSZ."""
    key, request, cert = (directory / f for f in ("key.pem", "request.pem", "cert.pem"))
    subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request],
                   check=True, capture_output=True)
    (directory / "index.txt").write_text("")
    (directory / "serial").write_text("01\n")
    (directory / "ca.conf").write_text(f"""
[ca]
default_ca = ours
[ours]
database = {directory}/index.txt
serial = {directory}/serial
new_certs_dir = {directory}
default_md = sha256
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
subjectAltName = DNS:{name}
""")
    period = ["-startdate", start, "-enddate", end] if end else ["-days", str(days)]
    subprocess.run(["openssl", "ca", "-batch", "-selfsign", "-config", directory / "ca.conf",
                    "-keyfile", key, "-in", request, "-out", cert, "-notext", *period],
                   check=True, capture_output=True)
    return cert
