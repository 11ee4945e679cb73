"""A Debian 12 that boots in a container: a copy of a fresh one, with systemd as process 1.

It uses the network namespace of the tests (install.mk), so its servers are at 127.0.0.1. It ends with close(), or with
the process namespace of the tests.
"""

import os
import signal
import subprocess
from pathlib import Path

from receiver import wait_for

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Machine:
    def __init__(self, pristine, root):
        self.root, self.log = Path(root), Path(f"{root}.log")
        # In memory, where the many fsyncs of dpkg take no time.
        self.root.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m,mode=755", "psapi-tests", self.root], check=True)
        subprocess.run(["cp", "-a", f"{pristine}/.", self.root], check=True)
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        self.process = self.leader = None

    def boot(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no", "--keep-unit",
                 "--link-journal=no", "--resolv-conf=off", "--console=pipe", "--boot"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.leader = wait_for(self._find_leader, "the machine has a process 1", 60)
        wait_for(lambda: self.run("systemctl", "is-system-running", expect=None).stdout.strip()
                 in ("running", "degraded"), "the machine is up", 120)

    def _find_leader(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")
        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            try:
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
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
