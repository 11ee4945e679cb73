"""One psapi-fcgi process and the directory that a test gives it (Place): settings, secret, spool.

Nothing here sleeps: conditions are polled until a deadline. Every process is ended by its id, and its end is checked:
exit status, sanitizer reports, files in tmp/.
"""

import grp
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from sender import SECRET
from spool import Spool

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("PSAPI_BIN") or ROOT) / "psapi-fcgi"
STATIC = BINARY.parent.name == "static"     # without shared libraries it cannot look a group up
SANITIZED = os.environ.get("PSAPI_SANITIZED") == "1"
SLOWER = 2 if SANITIZED else 1
# The shipped objects with a test hook: tests/hook/hook.c. Only root may inspect the shipped receiver (/proc/PID/fd,
# strace -p). Tests of an ordinary user take a receiver with the hook, which allows it.
HOOKED = ROOT / "build/hook/psapi-fcgi"
NEEDS_HOOK = os.geteuid() != 0 and not SANITIZED
WEB_USER = "www-data" if os.geteuid() == 0 else None    # what web servers run as, when root
REPORTS = re.compile(r"AddressSanitizer|runtime error:|ThreadSanitizer|LeakSanitizer")


def wait_for(condition, what, deadline=15):
    """Poll until condition() is true; its value is returned. A file or process that it looks at and that is not there,
    or goes while it looks (as descriptors in /proc do), makes it untrue this time."""
    end = time.monotonic() + deadline * SLOWER
    while True:
        missing = None
        try:
            value = condition()
            if value:
                return value
        except (FileNotFoundError, ProcessLookupError) as error:
            missing = error
        if time.monotonic() >= end:
            raise AssertionError(f"not within {deadline * SLOWER} s: {what}") from missing
        time.sleep(0.005)


def connects(path):
    """Whether a process listens on this unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False


def heeds_signals(pid):
    """Whether the process has its handler of SIGTERM. Before that the receiver is not ready, even if a supervisor
    listens on its socket already."""
    with open(f"/proc/{pid}/status") as status:
        masks = dict(line.split(":", 1) for line in status)
    bit = 1 << (signal.SIGTERM - 1)
    return any(int(masks[name], 16) & bit for name in ("SigBlk", "SigCgt"))


class Place:
    """A test's own directory. Short, because a socket's path has at most 107 bytes."""

    def __init__(self, settings=None):
        self.dir = Path(tempfile.mkdtemp(prefix="psapi-", dir=os.environ.get("TMPDIR", "/tmp")))
        self.dir.chmod(0o755)   # web servers come in as another user
        self.spool = Spool(self.dir / "spool")
        self.spool.path.mkdir()
        self.spool.path.chmod(0o2770)
        self.secret_file = self.dir / "secret"
        self.write_secret(SECRET)
        self.conf = self.dir / "receiver.conf"
        self.conf.write_text("# the test's own, so that nothing of the machine is read\n")
        self.settings = {"PSAPI_CONF": self.conf, "PSAPI_SPOOL": self.spool.path,
                         "PSAPI_SECRET_FILE": self.secret_file}
        if WEB_USER:
            group = grp.getgrnam(WEB_USER)
            self.settings["PSAPI_LISTEN_GROUP"] = str(group.gr_gid) if STATIC else group.gr_name
        self.settings.update(settings or {})
        self.store = "spool"
        self.receivers = []
        self.tidy = True        # False: the test kills processes, so files in tmp/ are expected

    def write_secret(self, *lines, mode=0o640, owner=None):
        """Replace the secret file atomically, as an administrator should."""
        draft = self.dir / "secret.new"
        draft.write_text("".join(line + "\n" for line in lines))
        draft.chmod(mode)
        if owner is not None:
            os.chown(draft, owner, owner)
        os.replace(draft, self.secret_file)

    def environment(self, **settings):
        """The environment of the receiver: nothing of the caller's is in it."""
        keep = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG") or "SAN_OPTIONS" in k}
        return keep | {k: str(v) for k, v in (self.settings | settings).items()}

    def run(self, *arguments, via=(), **settings):
        """psapi-fcgi as a command (-t, -V, ...) that ends by itself. Output is text."""
        return subprocess.run([*via, BINARY, *arguments], env=self.environment(**settings), text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=20 * SLOWER)

    def close(self):
        """Stop all receivers and check that nothing is left behind."""
        try:
            for receiver in self.receivers:
                receiver.stop()
            for log in self.dir.glob("*.log"):
                text = log.read_text(errors="replace")
                assert not REPORTS.search(text), f"{log.name}:\n{text}"
            if self.tidy:
                assert self.spool.left_in_tmp() == []
        finally:
            for receiver in self.receivers:
                receiver.end()
            shutil.rmtree(self.dir, ignore_errors=True)


class Receiver:
    """A psapi-fcgi that serves FastCGI, on a socket of its own or an inherited one.

    inherited: a listening socket, handed over on descriptor 0.
    via: a command that starts the receiver on `path` itself (spawn-fcgi ...).
    binary: this one, and no other.
    """

    def __init__(self, place, name="psapi", inherited=None, via=(), binary=None, **settings):
        self.place, self.inherited, self.via, self.settings = place, inherited, tuple(via), settings
        self.binary = binary or (HOOKED if NEEDS_HOOK else BINARY)
        if NEEDS_HOOK and not binary:
            settings["PSAPI_HOOK_OPEN"] = "1"
        self.path = place.dir / f"{name}.sock"
        self.log_file = place.dir / f"{name}.log"
        self.process = None
        place.receivers.append(self)

    def start(self, ready=True, arguments=()):
        settings = dict(self.settings)
        if self.inherited is None and not self.via:
            settings.setdefault("PSAPI_LISTEN", f"unix:{self.path}")
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [*self.via, self.binary, *arguments], env=self.place.environment(**settings),
                stdin=self.inherited or subprocess.DEVNULL, stdout=log, stderr=log)
        if ready:
            wait_for(self.is_ready, f"{self.path} accepts connections")
        return self

    def is_ready(self):
        assert self.process.poll() is None, \
            f"psapi-fcgi ended at start with {self.process.returncode}:\n{self.log()}"
        return connects(self.path) and self.heeds_signals()

    def heeds_signals(self):
        return heeds_signals(self.pid)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def wait(self, deadline=9):
        """The exit status; an error when it does not end in time.

        5 s are promised, of which it may use 4.5; a busy machine needs more. It is less than
        PSAPI_READ_TIMEOUT, so that waiting for half a request is still too long.
        """
        return self.process.wait(timeout=deadline * SLOWER)

    def stop(self):
        """SIGTERM; it must exit with 0, in time."""
        if self.process is None:
            return
        self.signal()
        status = self.wait()
        self.process = None
        assert status == 0, f"exit status {status} after SIGTERM:\n{self.log()}"

    def kill(self):
        """SIGKILL: a crash."""
        self.place.tidy = False
        self.end()

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def start_on_a_port(place):
    """A receiver on a port of loopback that was free. Returns it and its address."""
    for _ in range(5):      # another process may take the free port meanwhile
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
        receiver = Receiver(place, PSAPI_LISTEN=f"127.0.0.1:{address[1]}").start(ready=False)

        def up_or_ended(receiver=receiver, address=address):
            with socket.socket() as client:
                return receiver.process.poll() is not None or client.connect_ex(address) == 0

        wait_for(up_or_ended, f"{address} accepts connections")
        if receiver.process.poll() is None:
            return receiver, address
        receiver.process = None
        assert "Address already in use" in receiver.log(), receiver.log()
    raise AssertionError("no free port")
