"""Several hosts on this machine, for docs/hosts.md and the failover test: World makes them, Host runs commands on one.

A host has a network address and a link, a name, processes, and its own /etc, /var, /run, /usr/local and /root: layers
over those of this machine, which is never changed. The documents' commands run on it as they are written. `sudo`, `apt`
and `systemctl` are small programs of the host: there is no systemd in it, so `systemctl` starts what UNITS says. All
processes end with the World. It needs root, and a kernel that allows namespaces, bridges and overlays.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import textwrap
from pathlib import Path

from receiver import wait_for
from servers import PATH

CLONE_NEWNET = 0x40000000
LAYERS = ("etc", "var", "run", "usr/local", "root")

# What systemd would start: unit -> a script that stays in the foreground.
UNITS = {
    "etcd": "set -a; ETCD_NAME=$(hostname) ETCD_DATA_DIR=/var/lib/etcd/default ETCD_UNSUPPORTED_ARCH=$(uname -m); "
            ". /etc/default/etcd; exec setpriv --reuid=etcd --regid=etcd --clear-groups /usr/bin/etcd",
    "patroni": "cd /var/lib/postgresql && "
               "exec setpriv --reuid=postgres --regid=postgres --init-groups patroni /etc/patroni/config.yml",
    "psapi-fcgi.socket": "install -d -o psapi -g www-data -m 0750 /run/psapi; "
                         "exec setpriv --reuid=psapi --regid=psapi --groups=psapi,www-data psapi-fcgi",
    "nftables": "nft -f /etc/nftables.conf && exec sleep infinity",
    "nginx": "exec nginx -g 'daemon off;'",
    "haproxy": "exec haproxy -f /etc/haproxy/haproxy.cfg",
}

SYSTEMCTL = """#!/bin/sh
# The part of systemctl that the documents use. As there, a unit that runs is not started again.
runs() { [ -e "/run/unit-$1.pid" ] && [ -e "/proc/$(cat "/run/unit-$1.pid")/exe" ]; }
start() { script=/units/$1; [ -e "$script" ] || { echo "no unit $1" >&2; exit 5; }
    runs "$1" || { setsid sh "$script" >>"/var/log/unit-$1.log" 2>&1 </dev/null & echo $! >"/run/unit-$1.pid"; }; }
stop() { ! runs "$1" || { kill "$(cat "/run/unit-$1.pid")"; while runs "$1"; do sleep 0.1; done; }; }
# Type=notify: etcd says that it is ready when it is a member of a cluster that has a majority.
ready() { [ "$1" != etcd ] || ( . /etc/default/etcd
    for _ in $(seq 90); do
        etcdctl --endpoints="${ETCD_LISTEN_CLIENT_URLS:-http://localhost:2379}" --command-timeout=1s endpoint health \\
            >/dev/null 2>&1 && exit
        sleep 0.5
    done; echo "etcd.service: a timeout was exceeded" >&2; exit 1 ); }
command=$1 now= wait=1; shift
while :; do
    case $1 in
    --now) now=1 ;;
    --no-block) wait= ;;
    *) break ;;
    esac
    shift
done
for unit in "$@"; do
    case $command in
    enable) [ ! "$now" ] || start "$unit" ;;
    start) start "$unit" ;;
    disable) [ ! "$now" ] || stop "$unit" ;;
    stop) stop "$unit" ;;
    restart|reload) stop "$unit"; start "$unit" ;;
    daemon-reload) ;;
    *) echo "systemctl $command: not here" >&2; exit 1 ;;
    esac
done
case "$wait $command $now" in
"1 enable 1"|"1 start "|"1 restart "|"1 reload ") for unit in "$@"; do ready "$unit" || exit; done ;;
esac
"""
SUDO = """#!/bin/sh
if [ "$1" = -u ]; then
    user=$2; shift 2
    exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME=/ USER="$user" "$@"
fi
exec "$@"
"""
APT = """#!/bin/sh
# The packages are installed on this machine. As there, these start their service at once.
for package in "$@"; do
    case $package in
    etcd-server) systemctl start etcd ;;
    nginx) systemctl start nginx ;;
    esac
done
"""


def why_not():
    """Why this machine cannot have hosts, or None."""
    if os.geteuid() != 0:
        return "hosts of their own need root"
    with tempfile.TemporaryDirectory() as parent:
        tried = subprocess.run(
            ["unshare", "--mount", "--net", "--uts", "--pid", "--fork", "sh", "-ec", f"""
            ip link add name psapi0 type bridge; ip link add name p0 type veth peer name p1
            mount -t tmpfs psapi {parent}; cd {parent}; mkdir u w
            mount -t overlay overlay -o lowerdir=/etc,upperdir=u,workdir=w /etc"""],
            capture_output=True, text=True, env={"PATH": PATH}, check=False)
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


def child_of(process):
    """The process that unshare or nsenter has forked, when it is what it should be."""
    def look():
        assert process.poll() is None, f"exit status {process.returncode}"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text() == "sleep\n":
            return int(children[0])
        return None
    return wait_for(look, "a namespace begins", 30)


class Host:
    def __init__(self, world, name, address):
        self.world, self.name, self.address = world, name, address
        self.dir = world.dir / name
        self.link, self.is_on = f"v-{name}", True
        layers = "\n".join(
            f"mkdir -p {self.dir}/{layer}/upper {self.dir}/{layer}/work; mount -t overlay overlay "
            f"-o lowerdir=/{layer},upperdir={self.dir}/{layer}/upper,workdir={self.dir}/{layer}/work /{layer}"
            for layer in LAYERS)
        setup = f"""
            hostname {name}
            {layers}
            cp {world.dir}/hosts /etc/hosts
            rm -rf /run/unit-* /var/log/unit-*
            mkdir -p /run/postgresql && chown postgres:postgres /run/postgresql
            cp {world.dir}/bin/* /usr/local/bin/
            mkdir -p /var/lib/psapi
            ip link set lo up
            exec sleep infinity"""
        self.process = subprocess.Popen(
            [*world.enter, "unshare", "--mount", "--uts", "--net", "--fork", "--kill-child", "sh", "-ec", setup],
            stdin=subprocess.DEVNULL, env={"PATH": PATH})
        self.pid = wait_for(self.find, f"{name} begins", 30)
        world.run(f"""
            ip link add name {self.link} type veth peer name eth0 netns {self.pid_in_world()}
            ip link set {self.link} master psapi0 up""")
        self.run(f"ip addr add {address}/24 dev eth0; ip link set eth0 up")

    def find(self):
        """nsenter -> unshare -> sleep, once the shell has become it."""
        assert self.process.poll() is None, f"{self.name}: exit status {self.process.returncode}"
        pid = self.process.pid
        with contextlib.suppress(OSError, IndexError):
            for _ in range(3):
                pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
                if Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                    return pid
        return None

    def pid_in_world(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(line.split()[-1] for line in status.splitlines() if line.startswith("NSpid:"))

    def command(self, *arguments):
        return ["nsenter", "-t", str(self.pid), "--mount", "--uts", "--net", "--pid", "--", *arguments]

    def start(self, *arguments, **more):
        return subprocess.Popen(self.command(*arguments), env=self.environment(), **more)

    def environment(self):
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}

    def run(self, script, expect=0, stdin=None):
        """A script of sh, as root in /root, ended by the first command that fails."""
        done = subprocess.run(self.command("sh", "-ec", "cd /root\n" + textwrap.dedent(script)), env=self.environment(),
                              input=stdin or "", capture_output=True, text=True, timeout=120, check=False)
        assert expect is None or done.returncode == expect, \
            (self.name, script, done.returncode, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout

    @contextlib.contextmanager
    def network(self):
        """Sockets that this thread makes meanwhile are the host's."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net", "rb") as own, open(f"/proc/{self.pid}/ns/net", "rb") as hosts:
            assert libc.setns(hosts.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(own.fileno(), CLONE_NEWNET) == 0

    def pids(self):
        """All its processes but the two that keep the namespaces."""
        mine = os.readlink(f"/proc/{self.pid}/ns/mnt")
        keepers = {self.pid, int(re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.M)[1])}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) not in keepers and os.readlink(entry / "ns/mnt") == mine:
                    yield int(entry.name)

    def die(self):
        """Power off: the link goes down, then every process ends."""
        self.world.run(f"ip link set {self.link} down")
        self.is_on = False
        while pids := list(self.pids()):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.run("rm -f /run/unit-*.pid /run/postgresql/.s.* /run/psapi/*")

    def boot(self, *units):
        """After die(): the link, and the units that are enabled."""
        self.world.run(f"ip link set {self.link} up")
        self.is_on = True
        if units:
            self.run(f"systemctl enable --now {' '.join(units)}")

    def log(self, unit):
        return self.run(f"cat /var/log/unit-{unit}.log", expect=None)


class World:
    """The bridge, and the hosts by their names."""

    def __init__(self, addresses):
        self.dir = Path(tempfile.mkdtemp(prefix="psapi-world-"))
        self.dir.chmod(0o755)
        self.hosts, self.process = {}, None
        try:
            self.begin(addresses)
        except BaseException:
            self.close()
            raise

    def begin(self, addresses):
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep",
             "infinity"], stdin=subprocess.DEVNULL, env={"PATH": PATH})
        self.pid = child_of(self.process)
        self.enter = ["nsenter", "-t", str(self.pid), "--mount", "--uts", "--net", "--pid", "--"]
        self.run(f"mount -t tmpfs psapi-world {self.dir}; mkdir {self.dir}/bin {self.dir}/units")
        names = "".join(f"{address} {name}\n" for name, address in addresses.items())
        self.put("hosts", "127.0.0.1 localhost\n" + names)
        for name, text in {"sudo": SUDO, "systemctl": SYSTEMCTL.replace("/units", f"{self.dir}/units"), "apt": APT}.items():
            self.put(f"bin/{name}", text, 0o755)
        for name, text in UNITS.items():
            self.put(f"units/{name}", text + "\n")
        self.run("ip link set lo up; ip link add name psapi0 type bridge; ip link set psapi0 up")
        for name, address in addresses.items():
            self.hosts[name] = Host(self, name, address)

    def put(self, path, text, mode=0o644):
        """A file that every host sees in World.dir."""
        self.run(f"cat >{self.dir}/{path}; chmod {mode:o} {self.dir}/{path}", stdin=text)

    def run(self, script, stdin=""):
        return subprocess.run([*self.enter, "sh", "-ec", script], input=stdin, capture_output=True, text=True,
                              env={"PATH": PATH}, timeout=60, check=True).stdout

    def __getitem__(self, name):
        return self.hosts[name]

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for host in self.hosts.values():
            host.process.kill()
            host.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
