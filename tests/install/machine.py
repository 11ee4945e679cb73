"""A Debian 12 in a container: a copy of a fresh one. It boots with systemd as process 1, or has no systemd.

It uses the network namespace of the tests (install.mk), so its servers are at 127.0.0.1. It ends with close(), or with
the process namespace of the tests.
"""

import os
import signal
import subprocess
from pathlib import Path

from receiver import wait_for

SOURCE = "/usr/local/src/psapi-fcgi"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    def __init__(self, pristine, root, systemd=True):
        self.init, arguments = ("systemd", ["--boot"]) if systemd else ("sleep", ["--as-pid2", "sleep", "infinity"])
        self.arguments = ["--console=pipe", *arguments]
        self.root, self.log = Path(root), Path(f"{root}.log")
        # In memory, where the many fsyncs of dpkg take no time.
        self.root.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m,mode=755", "psapi-tests", self.root], check=True)
        subprocess.run(["cp", "-a", f"{pristine}/.", self.root], check=True)
        (self.root / "etc/hosts").write_text(f"127.0.0.1 localhost {self.root.name}\n")
        (self.root / "etc/apt/apt.conf.d/90yes").write_text('APT::Get::Assume-Yes "true";\n')
        self.process = self.leader = None

    def boot(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no", "--keep-unit",
                 "--link-journal=no", "--resolv-conf=off", *self.arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.leader = wait_for(self._find_leader, "the machine has a process 1", 60)
        if self.init != "systemd":
            self.run("apt-get", "purge", "-q", "-y", "--allow-remove-essential", "systemd", "systemd-sysv", "dbus")
            return
        wait_for(lambda: self.run("systemctl", "is-system-running", expect=None).stdout.strip()
                 in ("running", "degraded"), "the machine is up", 120)

    def _find_leader(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if Path(f"/proc/{pid}/comm").read_text() == f"{self.init}\n":
                    return pid
            except FileNotFoundError:
                continue
            waiting += map(int, children)
        return None

    def path(self, inside):
        """The path outside for a path of the machine, also in /run, which is a mount of the machine."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def run(self, *command, expect=0, stdin="", environment=None):
        """Run a command in the machine, as root. expect: its exit status, None for any."""
        done = subprocess.run(
            ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd",
             "env", "-i", f"PATH={PATH}", "LANG=C.UTF-8",
             *(f"{k}={v}" for k, v in (environment or {}).items()), *map(str, command)],
            input=stdin, capture_output=True, text=True, timeout=240)
        assert expect is None or done.returncode == expect, \
            f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
        return done

    def recipe(self, *scripts):
        """Blocks of a document, as they are written, in the source directory; apt asks no questions."""
        for script in scripts:
            self.run("bash", "-ec", f"cd {SOURCE}\n{script}", environment={"HOME": "/root"})

    def start(self, command):
        """A daemon that stays when this returns."""
        self.run("sh", "-c", f"setsid {command} >/var/log/started 2>&1 </dev/null &")

    def journal(self):
        return subprocess.run(["journalctl", "--no-pager", "-q", "-n", "40", "-u", "psapi*", "-D",
                               self.root / "var/log/journal"], capture_output=True, text=True).stdout

    def install(self, *packages):
        """As an administrator, but without a terminal, so without questions."""
        return self.run("apt-get", "install", "-q", "-y", *packages)

    def property(self, unit, name):
        return self.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    def state(self, unit):
        return self.run("systemctl", "is-active", unit, expect=None).stdout.strip()

    def close(self):
        if self.leader is not None:
            # At once: a shutdown would take half a minute.
            os.kill(self.leader, signal.SIGKILL)
            self.process.wait(timeout=60)
        subprocess.run(["umount", "--lazy", self.root], check=True)
        self.root.rmdir()
