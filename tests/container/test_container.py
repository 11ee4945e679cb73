"""The container image: built from Containerfile with Buildah over a Debian 13 that mmdebstrap made, then run as Compose
and Kubernetes run it: the settings, mounts, modes, groups and probes of examples/container. Docker and Kubernetes
themselves are not here. Buildah's chroot isolation has the host's network, and its root file system is not read-only.
"""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/e2e")]

from http_client import HttpClient
from receiver import wait_for
from replies import assert_accepted
from sender import OTHER_SECRET, SECRET, event, signed
from servers import PATH, free_port
from spool import Spool

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="images can be built by root only here")
EXAMPLES = ROOT / "examples/container"
PSAPI, NGINX = 10001, 101       # the users of both images; nginx's is that of the official one
COMPOSE = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
CONFIG_MAP, _, DEPLOYMENT, _ = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
POD = DEPLOYMENT["spec"]["template"]["spec"]
IN_POD = {container["name"]: container for container in POD["containers"]}
[HEALTH] = re.findall(r"^HEALTHCHECK .* CMD (.*)$", (ROOT / "Containerfile").read_text(), re.M)
NGINX_CONF = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx-error.txt;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {dir}/1; fastcgi_temp_path {dir}/2; proxy_temp_path {dir}/3; uwsgi_temp_path {dir}/4;
    scgi_temp_path {dir}/5;
    include {dir}/site.conf;
}}
"""


class Images:
    """Buildah's storage of this run."""

    def __init__(self, directory):
        self.options = ["--root", directory / "root", "--runroot", directory / "run"]

    def command(self, *arguments):
        return ["buildah", *map(str, [*self.options, *arguments])]

    def __call__(self, *arguments, expect=0, **more):
        done = subprocess.run(self.command(*arguments), text=True, capture_output=True, timeout=800,
                              env={"PATH": PATH, "STORAGE_DRIVER": "vfs", "HOME": "/root"}, **more)
        assert expect is None or done.returncode == expect, \
            f"{arguments}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout.strip()

    def build(self, name, context, *options):
        self("build", "--isolation", "chroot", "--pull-never", "--layers=false", "--format", "docker", "-t", name,
             *options, context)


@pytest.fixture(scope="module")
def images():
    directory = ROOT / "build/container"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    images = Images(directory)
    base = images("from", "scratch")
    images("add", base, ROOT / "build/debian/trixie", "/")
    [named] = re.findall(r"^ARG DEBIAN=(.*)$", (ROOT / "Containerfile").read_text(), re.M)
    images("commit", "--rm", base, named)
    images.build("psapi-fcgi", ROOT, "-f", ROOT / "Containerfile")
    yield images
    shutil.rmtree(directory)


class Container:
    """A container of the image, whose mounts and settings are an orchestrator's."""

    def __init__(self, images, image="psapi-fcgi", mounts=None, settings=None, groups=()):
        self.images, self.groups = images, [PSAPI, *groups]
        self.name = images("from", "--pull-never", f"localhost/{image}")
        # Buildah would mount the image's volume sometimes above, sometimes below the one of the same path here.
        images("config", "--volume", "/var/spool/psapi-", self.name)
        self.options = [option for source, target in (mounts or {}).items()
                        for option in ("-v", f"{source}:{target}")]
        self.options += [option for key, value in (settings or {}).items() for option in ("-e", f"{key}={value}")]
        self.daemons = []

    def arguments(self, command):
        # Buildah has no --group-add.
        return ["run", "--isolation", "chroot", "--user", "root", *self.options, self.name, "--", "setpriv",
                f"--reuid={PSAPI}", f"--regid={PSAPI}", "--groups=" + ",".join(map(str, self.groups)),
                "--no-new-privs", "--bounding-set=-all", *command]

    # Buildah may lose the output of a command that ends as soon as it has written it.
    SLOWLY = ("sh", "-c", '"$@"; status=$?; sleep 1; exit $status', "sh")

    def run(self, *command, expect=0):
        done = subprocess.run(self.images.command(*self.arguments([*self.SLOWLY, *command])), text=True,
                              capture_output=True, timeout=60, env={"PATH": PATH, "STORAGE_DRIVER": "vfs", "HOME": "/root"})
        assert expect is None or done.returncode == expect, \
            f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *command):
        self.daemons.append(subprocess.Popen(self.images.command(*self.arguments(command)), stdin=subprocess.DEVNULL,
                                             env={"PATH": PATH, "STORAGE_DRIVER": "vfs", "HOME": "/root"}))

    def close(self):
        """SIGTERM, as an orchestrator does; all end within their grace time."""
        for pid in pids_of(PSAPI):
            os.kill(pid, signal.SIGTERM)
        for daemon in self.daemons:
            daemon.wait(timeout=25)
        wait_for(lambda: pids_of(PSAPI) == [], "all have ended", 25)
        self.images("rm", self.name)


def pids_of(user):
    """Without zombies, which nobody reaps in this process namespace."""
    def is_of(pid):
        try:
            return pid.stat().st_uid == user and (pid / "cmdline").read_bytes() != b""
        except (FileNotFoundError, ProcessLookupError):
            return False
    return [int(pid.name) for pid in Path("/proc").iterdir() if pid.name.isdigit() and is_of(pid)]


class Nginx:
    """The host's nginx as user and group 101, as in the official image."""

    def __init__(self, directory, site, port):
        directory.mkdir()
        os.chown(directory, NGINX, NGINX)
        (directory / "nginx.conf").write_text(NGINX_CONF.format(dir=directory))
        (directory / "site.conf").write_text(site)
        self.process = subprocess.Popen(
            ["setpriv", f"--reuid={NGINX}", f"--regid={NGINX}", "--clear-groups", "nginx", "-p", directory, "-c",
             directory / "nginx.conf", "-e", directory / "nginx-error.txt"], env={"PATH": PATH})
        self.client = HttpClient("127.0.0.1", port, timeout=30)

    def answers(self):
        """Whether the receiver answers, with or without a secret."""
        look = signed().with_header("webhook-id", None)
        look.method = "GET"
        try:
            return self.client.send(look).status == 405
        except (OSError, http.client.HTTPException):
            return False

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture
def closing():
    """What the test has started; ended in reverse order."""
    started = []
    yield lambda thing: started.append(thing) or thing
    for thing in reversed(started):
        thing.close()


@pytest.fixture
def place(tmp_path):
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(0o755)
    return tmp_path


def owned(path, user, group, mode):
    os.chown(path, user, group)
    path.chmod(mode)
    return path


def activated(npn):
    return signed(event(npn=npn, activatedAt="2026-01-02T03:04:06Z"))


# ---- the image ----

def test_an_ordinary_user(images):
    config = json.loads(images("inspect", "--type", "image", "localhost/psapi-fcgi"))["Docker"]["config"]
    assert config["User"] == f"{PSAPI}:{PSAPI}" and config["Volumes"] == {"/var/spool/psapi": {}}
    assert config["Cmd"] == ["psapi-fcgi"] and config["Healthcheck"]["Test"] == ["CMD-SHELL", HEALTH]


def test_nothing_of_the_build_is_in_it(images, closing):
    container = closing(Container(images))
    shown = container.run("sh", "-c", "command -v gcc make dpkg-buildpackage; ls /src /tmp/dist; psapi-fcgi -V", expect=0)
    assert "gcc" not in shown and "make" not in shown and ".deb" not in shown and "psapi-fcgi 0." in shown


# ---- Compose ----

@pytest.fixture
def composed(images, place, closing):
    """The services of compose.yaml, except that the site has another port and another path of the snippet."""
    spool, socket = (place / name for name in ("spool", "socket"))
    # A new named volume has owner and mode of the directory in the image.
    for directory, mode in ((spool, 0o2770), (socket, 0o755)):
        directory.mkdir()
        owned(directory, PSAPI, PSAPI, mode)
    handlers = place / "handlers.d"
    handlers.mkdir(mode=0o755)
    secret = place / "secret"
    secret.write_text(SECRET + "\n")
    owned(secret, 0, PSAPI, 0o440)
    service = COMPOSE["psapi"]
    assert service["volumes"] == ["spool:/var/spool/psapi", "socket:/run/psapi", "./handlers.d:/etc/psapi/handlers.d:ro"]
    assert service["secrets"] == [{"source": "psapi", "target": "/etc/psapi/secret"}]
    container = closing(Container(images, mounts={spool: "/var/spool/psapi", socket: "/run/psapi",
                                                  handlers: "/etc/psapi/handlers.d:ro", secret: "/etc/psapi/secret:ro"},
                                  settings=service["environment"], groups=service["group_add"]))
    site = (EXAMPLES / "psapi-nginx.conf").read_text()
    snippet = (ROOT / "nginx/psapi.conf").read_text().replace("/run/psapi/", f"{socket}/")
    (place / "snippet.conf").write_text(snippet)
    port = free_port()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("snippets/psapi.conf", f"{place}/snippet.conf")
    nginx = closing(Nginx(place / "nginx", site, port))
    return container, nginx, secret, Spool(spool)


def test_compose(composed):
    container, nginx, _, spool = composed
    stamp = spool.path.parent / "stamp"
    stamp.write_text("")
    container.start("psapi-fcgi")
    wait_for(nginx.answers, "it has started", 30)
    request = signed()
    assert_accepted(nginx.client.send(request))
    stored = spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert (stored.stat.st_uid, stored.stat.st_gid) == (PSAPI, PSAPI)
    container.run("sh", "-c", HEALTH)
    # The root file system can be read-only: nothing was written there.
    root = Path(container.images("mount", container.name))
    new = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()
           and path.stat().st_mtime > stamp.stat().st_mtime]
    assert [path for path in new if path.relative_to(root).parts[0] not in ("proc", "sys", "dev")] == []


def test_before_the_first_secret(composed):
    """Requests are held; the secret is written into the same file, as the page says, and no restart is needed."""
    container, nginx, secret, spool = composed
    secret.write_text("")
    container.start("psapi-fcgi")
    request = activated("7")
    wait_for(nginx.answers, "it has started", 30)
    assert nginx.client.send(request).word == "held"
    assert "WARNING" in container.run("sh", "-c", HEALTH)
    secret.write_text(SECRET + "\n")
    container.run("psapi", "adopt")
    assert request.header("webhook-id").decode() in spool.names("new")


@pytest.mark.parametrize("group, mode, says", [
    (PSAPI, 0o444, "mode 0444 lets other users read"),      # Swarm's default
    (0, 0o400, "Permission denied"), (PSAPI, 0o644, "mode 0644 lets other users")])
def test_refused_modes_of_a_secret(composed, group, mode, says):
    container, _, secret, _ = composed
    owned(secret, 0, group, mode)
    shown = container.run("psapi-fcgi", "-t", expect=78)
    assert says in shown and "mode 0440" in shown, shown


# ---- Kubernetes ----

def test_its_nginx_has_the_shipped_location():
    """Except for the socket, the comments and the password of a vhost that is not there."""
    def directives(text):
        return re.findall(r"^ +(\w.*);$", text.split("location = /webhooks/psapi {")[1].split("}")[0], re.M)
    shipped = [line for line in directives((ROOT / "nginx/psapi.conf").read_text()) if line != "auth_basic off"]
    own = directives(CONFIG_MAP["data"]["default.conf"])
    assert [line for line in own if "fastcgi_pass" not in line] == \
        [line for line in shipped if "fastcgi_pass" not in line]


def put_secret(directory, text, generation):
    """As kubelet does: secret -> ..data/secret, ..data -> a directory of its own, exchanged atomically."""
    own = directory / f"..{generation}"
    own.mkdir()
    (own / "secret").write_text(text)
    owned(own / "secret", 0, POD["securityContext"]["fsGroup"], POD["volumes"][1]["secret"]["defaultMode"])
    (directory / "..new").symlink_to(own.name)
    (directory / "..new").rename(directory / "..data")
    if not (directory / "secret").is_symlink():
        (directory / "secret").symlink_to("..data/secret")


@pytest.fixture
def pod(images, place, closing):
    port, inside = free_port(), free_port()

    def with_ports(text):
        return text.replace(":8080", f":{port}").replace("listen 8080;", f"listen 127.0.0.1:{port};").replace(
            "127.0.0.1:9000", f"127.0.0.1:{inside}")
    volume, secrets = place / "volume", place / "secrets"
    volume.mkdir()
    owned(volume, 0, PSAPI, 0o2775)     # what fsGroup makes of a volume's root
    (volume / "lost+found").mkdir()
    secrets.mkdir()
    put_secret(secrets, SECRET, 1)
    container = IN_POD["psapi"]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/var/spool/psapi", "/etc/psapi/secrets"]
    settings = {row["name"]: with_ports(row["value"]) for row in container["env"]}
    options = {"mounts": {volume: "/var/spool/psapi", secrets: "/etc/psapi/secrets:ro"}, "settings": settings}
    receiver = closing(Container(images, **options))
    nginx = closing(Nginx(place / "nginx", with_ports(CONFIG_MAP["data"]["default.conf"]), port))
    probe = [with_ports(word) for word in container["readinessProbe"]["exec"]["command"]]
    return receiver, nginx, probe, secrets, Spool(volume / "spool"), options


def test_kubernetes(pod):
    receiver, nginx, probe, secrets, spool, _ = pod
    receiver.run(*probe, expect=1)
    receiver.start("psapi-fcgi")
    wait_for(nginx.answers, "it has started", 30)
    receiver.run(*probe)
    receiver.run("psapi", "doctor")
    request = signed()
    assert_accepted(nginx.client.send(request))
    spool.assert_queued_once(request.header("webhook-id"), request.body)
    # A changed secret needs no restart.
    put_secret(secrets, OTHER_SECRET, 2)
    assert nginx.client.send(signed()).status == 401
    assert_accepted(nginx.client.send(signed(secrets=(OTHER_SECRET,))))


def test_handlers_in_an_image_of_your_own(pod, images, place, closing):
    """The Dockerfile of the page, and the drain of both examples. Without a handler no event is touched."""
    assert IN_POD["drain"]["command"] == COMPOSE["drain"]["command"] == ["psapi-drain-loop"]
    receiver, nginx, _, _, spool, options = pod
    receiver.start("psapi-fcgi")
    receiver.start("psapi-drain-loop")
    wait_for(nginx.answers, "it has started", 30)
    request = activated("123")
    assert_accepted(nginx.client.send(request))
    page = (ROOT / "docs/container.md").read_text()
    [dockerfile] = re.findall(r"^```\n(FROM .*?)^```$", page, re.S | re.M)
    handlers = place / "own/handlers.d"
    handlers.mkdir(parents=True)
    (handlers / "default").write_text('#!/bin/sh\necho "$PSAPI_NPN" >>/var/lib/psapi/seen\n')
    (place / "own/Containerfile").write_text(dockerfile.replace("FROM psapi-fcgi", "FROM localhost/psapi-fcgi"))
    images.build("psapi-handlers", place / "own")
    assert request.header("webhook-id").decode() in spool.names("new") and spool.names("failed") == []
    drain = closing(Container(images, image="psapi-handlers", **options))
    drain.start("psapi-drain-loop")
    wait_for(lambda: spool.names("new") == [], "all is handled", 30)
    assert spool.names("failed") == []
    assert "123" in drain.run("cat", "/var/lib/psapi/seen").split()
