"""The common part of the web servers: a free port, a certificate, the shipped file with other paths, start, stop, and
settings in a file (for servers that start the receiver).
"""

import functools
import grp
import os
import pwd
import signal
import subprocess
import tempfile
from pathlib import Path

from http_client import HttpClient
from receiver import ROOT, SLOWER, WEB_USER, wait_for
from servers import PATH, Server, accepts, free_port


@functools.cache
def certificate():
    """A directory with cert.pem and key.pem for localhost; one for each process of the tests."""
    directory = Path(certificate_directory().name)
    directory.chmod(0o755)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost,DNS:webhooks.example.com", "-addext",
                    "basicConstraints=critical,CA:FALSE", "-days", "2", "-keyout", directory / "key.pem",
                    "-out", directory / "cert.pem"], check=True, capture_output=True)
    (directory / "key.pem").chmod(0o644)
    return directory


@functools.cache
def certificate_directory():
    return tempfile.TemporaryDirectory(prefix="psapi-certificate-")


def as_user(name):
    """For Popen: run as this user, with its group only; None: no change."""
    return {"user": name, "group": name, "extra_groups": []} if name else {}


class WebServer(Server):
    """A private server on a port of its own. Subclasses say command() and configure(port)."""

    lacks = {"verbatim": "a web server trims header values (RFC 9110, 5.5)",
             "choose_length": "a web server reads the body itself and refuses a wrong Content-Length"}
    log_name = None         # its error log, in the place's directory
    tls = True
    in_use = "Address already in use"

    user = None             # to run as; None: as ourselves, or the server changes by itself

    def command(self):
        raise NotImplementedError

    def configure(self, port):
        raise NotImplementedError

    def environment(self):
        return {"PATH": PATH}

    def start_receivers(self):
        pass

    def ready(self, port):
        return accepts(port)

    def start(self):
        self.start_receivers()
        self.start_web_server()

    def start_web_server(self):
        for _ in range(5):      # another process may take the free port meanwhile
            port = free_port()
            self.configure(port)
            with open(self.log_file, "ab") as log:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, env=self.environment(),
                                                # Apache ends its whole process group.
                                                cwd=self.place.dir, start_new_session=True,
                                                **as_user(self.user))
            wait_for(lambda: self.process.poll() is not None or self.ready(port),
                     f"{self.name} listens", 30)
            if self.process.poll() is None:
                break
            error = self.server_log()
            assert self.in_use in error, error
        self.client = HttpClient("127.0.0.1", port, timeout=30 * SLOWER,
                                 cafile=certificate() / "cert.pem" if self.tls else None)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        try:    # mod_fcgid's manager can miss a SIGTERM that comes soon after the start
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def send(self, request):
        return self.client.send(request)

    @property
    def log_file(self):
        return self.place.dir / self.log_name

    def server_log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def install(self, shipped, to, substitutions):
        """The shipped file; only paths and ports are replaced."""
        text = (ROOT / shipped).read_text()
        for old, new in substitutions.items():
            assert old in text, f"{shipped} has no {old!r}"
            text = text.replace(old, str(new))
        target = self.place.dir / to
        target.parent.mkdir(exist_ok=True)
        target.write_text(text)


class StartsUs:
    """A mixin for web servers that start the receiver: it gets its settings from a file."""

    def write_settings(self):
        lines = [f"{key}={value}\n" for key, value in self.place.settings.items()
                 if key not in ("PSAPI_CONF", "PSAPI_LISTEN_GROUP")]
        if lines != getattr(self, "written", None):
            self.place.conf.write_text("".join(lines))
            self.written = lines

    def give_to_the_web_server(self):
        """The receiver runs as the web server's user, who owns the spool; the secret has its group."""
        if WEB_USER:
            user, group = pwd.getpwnam(WEB_USER).pw_uid, grp.getgrnam(WEB_USER).gr_gid
            os.chown(self.place.spool.path, user, group)
            if self.place.secret_file.exists():
                os.chown(self.place.secret_file, -1, group)
            os.chown(self.place.dir, -1, group)     # inherited by files that are made later
            self.place.dir.chmod(0o2755)
        self.write_settings()

    def log(self):
        """The receiver's standard error ends in the web server's log."""
        return "".join(line + "\n" for line in self.server_log().splitlines()
                       if "psapi-fcgi: " in line)
