"""Apache in each supported way, with the shipped files of apache/.

The main configuration below corresponds to Debian's apache2.conf. Modules are those that Debian enables by itself, and
those that the shipped files tell the user to enable (`a2enmod`).
"""

import re
import shutil
from pathlib import Path

from receiver import BINARY, ROOT, WEB_USER, Receiver
from web_server import StartsUs, WebServer, certificate

MODULES = Path("/etc/apache2/mods-available")
ENABLED_BY_DEBIAN = ["mpm_event", "access_compat", "alias", "auth_basic", "authn_core",
                     "authn_file", "authz_core", "authz_host", "authz_user", "autoindex", "deflate",
                     "dir", "env", "filter", "mime", "negotiation", "reqtimeout", "setenvif",
                     "status"]

MAIN = """
    ServerRoot %(dir)s
    DefaultRuntimeDir %(dir)s
    PidFile %(dir)s/apache.pid
    ErrorLog %(dir)s/apache.log
    LogLevel warn
    ServerName localhost
    Listen 127.0.0.1:%(port)d https
    DocumentRoot %(dir)s/www
    %(user)s
    <Directory />
        AllowOverride None
        Require all denied
    </Directory>
    <Directory %(dir)s/www>
        AllowOverride All
        Require all granted
    </Directory>
    %(modules)s
    Include psapi-vhost.conf
    <IfModule mod_fcgid.c>
        FcgidIPCDir %(dir)s/fcgid
        FcgidProcessTableFile %(dir)s/fcgid_shm
    </IfModule>
    # The tests come with little load: start with less than Debian does.
    <IfModule mpm_event_module>
        StartServers 1
        MinSpareThreads 1
        MaxSpareThreads 100
    </IfModule>
    <IfModule mpm_prefork_module>
        StartServers 4
        MinSpareServers 4
    </IfModule>
    """


def modules_of(shipped):
    """The modules that the comment in the shipped file tells the user to enable."""
    [line] = re.findall(r"^#  +sudo a2enmod (.*)$", (ROOT / "apache" / shipped).read_text(), re.M)
    return line.split()


def with_dependencies(modules):
    """In the order of loading. Debian's files name the dependencies."""
    ordered = []
    for module in modules:
        text = (MODULES / f"{module}.load").read_text()
        for needed in re.findall(r"^# Depends: (.*)$", text, re.M):
            ordered += [m for m in with_dependencies(needed.split()) if m not in ordered]
        if module not in ordered:
            ordered.append(module)
    return ordered


class Apache(WebServer):
    log_name = "apache.log"
    way = None              # the shipped file that the vhost includes
    default_modules = ENABLED_BY_DEBIAN

    def command(self, *arguments):
        return ["apache2", "-d", self.place.dir, "-f", self.place.dir / "apache.conf",
                *(arguments or ["-DFOREGROUND"])]

    def environment(self):
        return super().environment() | {"APACHE_RUN_DIR": str(self.place.dir), "LANG": "C"}

    def ready(self, port):
        return (self.place.dir / "apache.pid").exists() and super().ready(port)

    def modules(self):
        return self.default_modules + modules_of("psapi-vhost.conf") + modules_of(self.way)

    def substitutions(self):
        """Paths and ports of the shipped file: text -> text of this test."""
        raise NotImplementedError

    def configure(self, port):
        directory = self.place.dir
        (directory / "www").mkdir(exist_ok=True)
        for name in ("socks", "fcgid"):
            (directory / name).mkdir(exist_ok=True)
            if WEB_USER:
                shutil.chown(directory / name, WEB_USER, WEB_USER)
        self.install("apache/psapi-vhost.conf", "psapi-vhost.conf", {
            "*:443": f"127.0.0.1:{port}", "psapi-proxy.conf\n</": f"{self.way}\n</",
            "/etc/ssl/certs/webhooks.example.com.pem": certificate() / "cert.pem",
            "/etc/ssl/private/webhooks.example.com.key": certificate() / "key.pem"})
        self.install(f"apache/{self.way}", f"conf-available/{self.way}", self.substitutions())
        includes = [f"Include {MODULES}/{module}.load\nIncludeOptional {MODULES}/{module}.con[f]\n"
                    for module in with_dependencies(self.modules())]
        (directory / "apache.conf").write_text(MAIN % {
            "dir": directory, "port": port, "modules": "".join(includes),
            "user": f"User {WEB_USER}\nGroup {WEB_USER}" if WEB_USER else ""})


class ApacheProxy(Apache):
    """mod_proxy_fcgi, a connection for each request."""

    name = "apache-proxy"
    way = "psapi-proxy.conf"
    lacks = WebServer.lacks | {
        "restart": "one receiver with its own socket: Apache answers 503 until it is back; "
                   "psapi-balancer.conf has the remedy"}

    def start_receivers(self):
        Receiver(self.place).start()

    def substitutions(self):
        return {"unix:/run/psapi/": f"unix:{self.place.dir}/"}


class ApacheReuse(ApacheProxy):
    """mod_proxy_fcgi, connections kept open."""

    name = "apache-reuse"
    way = "psapi-reuse.conf"


class ApacheBalancer(ApacheProxy):
    """mod_proxy_fcgi, two receivers."""

    name = "apache-balancer"
    way = "psapi-balancer.conf"
    lacks = WebServer.lacks

    def start_receivers(self):
        for name in ("psapi", "psapi-2"):
            Receiver(self.place, name).start()

    def restart(self):
        """One receiver after the other."""
        self.renew()


class ApacheStartsUs(StartsUs, Apache):
    def configure(self, port):
        self.give_to_the_web_server()
        super().configure(port)

    def substitutions(self):
        return {'"/usr/local/bin/psapi-fcgi"': f'"{BINARY}"',
                "/etc/psapi/psapi.conf": self.place.conf}


class ApacheFcgid(ApacheStartsUs):
    """mod_fcgid, which starts and ends receivers by itself."""

    name = "apache-fcgid"
    way = "psapi-fcgid.conf"
    lacks = WebServer.lacks | {
        "http2 without length": "mod_fcgid 2.3.9 loses such a body, and the answer is 400",
        "persistent": "mod_fcgid starts and ends processes as it sees fit: a new one knows nothing",
        "restart": "the processes are mod_fcgid's: Apache's own restart ends them"}

    def renew(self):
        self.stop()
        self.start()

    def stop(self):
        """It may end a process in the middle of its start, whose probe is left."""
        self.place.tidy = False
        super().stop()


class ApacheCgid(ApacheStartsUs):
    """mod_cgid: a daemon of Apache starts a process for each request."""

    name = "apache-cgid"
    way = "psapi-cgi.conf"
    lacks = WebServer.lacks | {
        "persistent": "every request is a process of its own",
        "restart": "there is nothing to restart"}

    def ready(self, port):
        """Apache listens before its daemon does, and answers 503 meanwhile."""
        daemon = "cgid" not in self.modules() or any(self.place.dir.glob("socks/cgisock*"))
        return daemon and super().ready(port)

    def send(self, request):
        self.write_settings()
        return super().send(request)


class ApacheCgi(ApacheCgid):
    """mod_cgi, with the prefork MPM."""

    name = "apache-cgi"
    lacks = ApacheCgid.lacks | {"http2": "mod_http2 does not work with the prefork MPM"}
    default_modules = ["mpm_prefork" if m == "mpm_event" else m for m in ENABLED_BY_DEBIAN]

    def modules(self):
        return ["cgi" if m == "cgid" else m for m in super().modules() if m != "http2"]


SERVERS = (ApacheProxy, ApacheReuse, ApacheBalancer, ApacheFcgid, ApacheCgid, ApacheCgi)
