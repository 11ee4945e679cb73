"""nginx with fcgiwrap, lighttpd and Caddy, each with its shipped file."""

import os
import signal
import socket
import subprocess

from receiver import BINARY, WEB_USER, Receiver, connects, wait_for
from servers import PATH, Nginx
from web_server import StartsUs, WebServer, as_user, certificate


class NginxFcgiwrap(StartsUs, Nginx):
    """fcgiwrap starts a process for each request that nginx hands it."""

    name = "nginx-fcgiwrap"
    shipped = "psapi-fcgiwrap.conf"
    vhost = "server { listen 127.0.0.1:%(port)d; include psapi-fcgiwrap.conf; }"
    lacks = Nginx.lacks | {
        "persistent": "every request is a process of its own",
        "restart": "there is nothing to restart"}

    def start_receivers(self):
        """fcgiwrap as in Debian's service: the socket is descriptor 0."""
        self.give_to_the_web_server()
        path = self.place.dir / "fcgiwrap.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            path.chmod(0o666)
            listener.listen(128)
            with open(self.place.dir / "fcgiwrap.log", "ab") as log:
                self.fcgiwrap = subprocess.Popen(
                    ["fcgiwrap", "-f", "-c", "8"], stdin=listener, stdout=log, stderr=log,
                    env={"PATH": PATH}, start_new_session=True, **as_user(WEB_USER))
        assert connects(path)

    def substitutions(self, port):
        return {"unix:/run/fcgiwrap.socket": f"unix:{self.place.dir}/fcgiwrap.sock",
                "/usr/local/bin/psapi-fcgi": str(BINARY),
                "/etc/psapi/psapi.conf": str(self.place.conf)}

    def send(self, request):
        self.write_settings()
        return super().send(request)

    def stop(self):
        super().stop()
        os.killpg(self.fcgiwrap.pid, signal.SIGTERM)    # it leaves its children behind
        self.fcgiwrap.wait(timeout=20)

    def server_log(self):
        return (self.place.dir / "nginx-error.txt").read_text(errors="replace")


class TwoReceivers:
    def start_receivers(self):
        for name in ("psapi", "psapi-2"):
            Receiver(self.place, name).start()

    def restart(self):
        """One receiver after the other."""
        self.renew()


def bytes_written(pid):
    """The number of bytes that a process has written: some hundred for each answer."""
    with open(f"/proc/{pid}/io") as file:
        return int(dict(line.split(":") for line in file)["wchar"])


class Lighttpd(TwoReceivers, WebServer):
    name = "lighttpd"
    log_name = "lighttpd.log"
    lacks = WebServer.lacks | {
        "http2 without length": "lighttpd 1.4.69 loses such a body, and ends the stream"}

    def restart(self):
        """One receiver after the other. The second waits until lighttpd uses the first again."""
        for receiver in self.place.receivers:
            receiver.stop()
            receiver.start()
            before = bytes_written(receiver.pid)
            wait_for(lambda: bytes_written(receiver.pid) > before + 5000,
                     "lighttpd asks the receiver that is back")

    main = """
        server.modules = ( "mod_access", "mod_alias", "mod_redirect", "mod_openssl" )
        server.document-root = "%(dir)s/www"
        server.upload-dirs = ( "%(dir)s/uploads" )
        server.bind = "127.0.0.1"
        server.port = %(port)d
        %(user)s
        ssl.engine = "enable"
        ssl.pemfile = "%(certificate)s/cert.pem"
        ssl.privkey = "%(certificate)s/key.pem"
        include "%(dir)s/psapi.conf"
        """

    def command(self):
        return ["lighttpd", "-D", "-f", self.place.dir / "lighttpd.conf"]

    def configure(self, port):
        directory = self.place.dir
        for name in ("www", "uploads"):
            (directory / name).mkdir(exist_ok=True)
            (directory / name).chmod(0o777)
        self.install("examples/lighttpd.conf", "psapi.conf", {'"/run/psapi/': f'"{directory}/'})
        user = f'server.username = "{WEB_USER}"\nserver.groupname = "{WEB_USER}"'
        (directory / "lighttpd.conf").write_text(self.main % {
            "dir": directory, "port": port, "certificate": certificate(),
            "user": user if WEB_USER else ""})


class Caddy(TwoReceivers, WebServer):
    name = "caddy"
    log_name = "caddy.log"
    user = WEB_USER
    lacks = WebServer.lacks | {"method": "Caddy spells every method in capitals"}
    in_use = "address already in use"

    main = """
        {
            admin off
            auto_https off
            default_bind 127.0.0.1
        }
        import psapi.Caddyfile
        """

    def ready(self, port):
        """It listens before it has written its configuration down."""
        return (self.place.dir / "home/.config/caddy/autosave.json").exists() and super().ready(port)

    def command(self):
        return ["caddy", "run", "--adapter", "caddyfile", "--config", self.place.dir / "Caddyfile"]

    def environment(self):
        return super().environment() | {"HOME": str(self.place.dir / "home")}

    def configure(self, port):
        directory = self.place.dir
        (directory / "home").mkdir(exist_ok=True)
        (directory / "home").chmod(0o777)
        tls = f"tls {certificate()}/cert.pem {certificate()}/key.pem"
        self.install("examples/Caddyfile", "psapi.Caddyfile", {
            "unix//run/psapi/": f"unix/{directory}/",
            "webhooks.example.com {\n": f"https://localhost:{port} {{\n\t{tls}\n"})
        (directory / "Caddyfile").write_text(self.main)


SERVERS = (NginxFcgiwrap, Lighttpd, Caddy)
