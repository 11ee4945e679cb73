"""The disturbances of a soak, one class each: receivers, nginx and drain end, the disk fills, the secret rotates, the
clock steps, the attempts log is renamed. `disturb(rng)` does it once, `restore()` ends what it has left."""

import base64
import contextlib
import glob
import os
import signal
import subprocess
import time

from psapi_command import PSAPI
from receiver import Receiver, connects, wait_for
from sender import SECRET
from servers import PATH, NginxKeepalive, accepts
from spool import fill

TOLERANCE = 300     # the default of PSAPI_TOLERANCE


class Condition:
    """Whether something is the case now, and until when it last was."""

    def __init__(self):
        self.on, self.until = False, float("-inf")

    def set(self, on):
        self.until = time.monotonic() if self.on or on else self.until
        self.on = on

    def held_since(self, when):
        return self.on or self.until >= when


class Clock:
    """The clock of receiver and drain: libfaketime reads an offset from a file at each call. CLOCK_MONOTONIC is not
    affected, as when a real clock is set."""

    every = (1, 6)

    def __init__(self, place):
        self.file, self.wrong, self.steps = place.dir / "clock", Condition(), 0
        self.set(0)
        library = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
        assert library, "libfaketime is missing: apt-get install faketime"
        place.settings |= {"LD_PRELOAD": library[0], "FAKETIME_TIMESTAMP_FILE": self.file,
                           "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                           "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}

    def set(self, offset):
        """Seconds from the true time. Less than a minute from the tolerance, the clock counts as wrong."""
        if abs(offset) > TOLERANCE - 60:
            self.wrong.set(True)
        draft = self.file.with_suffix(".new")
        draft.write_text(f"{offset:+}\n")
        draft.replace(self.file)
        if abs(offset) <= TOLERANCE - 60:
            self.wrong.set(False)

    def disturb(self, rng):
        self.steps += 1
        self.set(rng.choice([0, 0, 0, -30, 30, -200, 200, -1000, 1000, 86400]))

    def restore(self):
        self.set(0)


def remove_faketime_files(pid):
    """libfaketime of a killed process leaves them behind."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"/dev/shm/{name}")


class Secrets:
    """A rotation as documented: the file gets the new secret, the sender changes to it, the old one is removed."""

    every = (2, 8)

    def __init__(self, place):
        self.place, self.good, self.of_the_sender = place, [SECRET], (SECRET,)
        self.dropped, self.ever, self.rotations = [], [SECRET], 0

    def disturb(self, rng):
        old, new = self.good[0], "whsec_" + base64.b64encode(rng.randbytes(32)).decode()
        self.ever.append(new)
        self.good = [old, new]
        self.place.write_secret(new, "# the old one", old)
        self.of_the_sender = (new, old) if rng.random() < 0.5 else (new,)
        time.sleep(rng.uniform(0, 0.5))
        self.of_the_sender = (new,)
        self.good = [new]       # signed with the old one only: may be refused from here on
        self.place.write_secret(new)
        self.dropped.append(old)
        self.rotations += 1

    def restore(self):
        pass


class Log:
    """The attempts log is rotated by renaming."""

    every = (1, 10)

    def __init__(self, place):
        self.path = place.spool.path / "attempts.jsonl"

    def disturb(self, _):
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(self.path.with_suffix(".jsonl.1"))

    def restore(self):
        pass


# ---- disks ----

class SmallDisk:
    """The spool is on a small file system, which is filled to its last byte."""

    every = (2, 10)
    description = "ext4 on a loop device"

    def __init__(self, place, megabytes):
        self.place, self.path, self.fills = place, place.spool.path, 0
        self.full = Condition()
        place.settings["PSAPI_MIN_FREE"] = "0"
        image = place.dir / "disk"
        with open(image, "wb") as file:
            file.truncate(megabytes << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-i", "4096", image], env={"PATH": PATH},
                              capture_output=True, check=False)
        if made.returncode != 0 or not self.mount("-o", "loop", image):
            self.description = "tmpfs"
            if not self.mount("-t", "tmpfs", "-o", f"size={megabytes}m", "psapi-soak"):
                raise OSError("cannot mount here")
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.path / "lost+found")
        self.path.chmod(0o2770)

    def mount(self, *arguments):
        return subprocess.run(["mount", *arguments, self.path], capture_output=True,
                              check=False).returncode == 0

    def disturb(self, rng):
        self.full.set(True)
        self.fills += 1
        fill(self.path)
        time.sleep(rng.uniform(0.1, 2))
        self.restore()

    def restore(self):
        with contextlib.suppress(FileNotFoundError):
            (self.path / "filler").unlink()
        self.full.set(False)

    def remove(self):
        # The receivers have ended, but a handler of a killed drain may still use it.
        subprocess.run(["umount", "--lazy", self.path], check=True)


class HighMinFree:
    """Without root nothing can be mounted. Instead receivers are started, at times, with PSAPI_MIN_FREE above the
    free space."""

    every = (2, 10)
    description = "PSAPI_MIN_FREE above the free space (mounting needs root)"

    def __init__(self, place, _):
        self.place, self.full, self.fills = place, Condition(), 0
        self.restore()

    def disturb(self, rng):
        self.full.set(True)
        self.fills += 1
        self.place.settings["PSAPI_MIN_FREE"] = str(1 << 60)
        time.sleep(rng.uniform(1, 4))
        self.restore()

    def restore(self):
        self.place.settings["PSAPI_MIN_FREE"] = "0"
        self.full.set(False)

    def remove(self):
        pass


def disk_of(place, megabytes):
    return (SmallDisk if os.geteuid() == 0 else HighMinFree)(place, megabytes)


# ---- processes ----

class Supervised:
    """A receiver that is killed, or gets SIGTERM, and is started again, as systemd would do."""

    every = (0.5, 5)

    def __init__(self, place, name, disk, ledger):
        self.receiver, self.disk, self.ledger = Receiver(place, name), disk, ledger
        self.kills, self.terms = 0, 0
        place.tidy = False

    def start(self):
        """Until it accepts connections. A start may fail only while the disk is full."""
        while True:
            began = time.monotonic()
            self.receiver.start(ready=False)
            wait_for(lambda: self.receiver.process.poll() is not None or
                     (connects(self.receiver.path) and self.receiver.heeds_signals()),
                     "a receiver starts", 60)
            if self.receiver.process.poll() is None:
                return
            if not self.disk.full.held_since(began - 1):
                self.ledger.complain(f"no start: {self.receiver.log()[-500:]}")
                return
            time.sleep(0.2)

    def disturb(self, rng):
        pid = self.receiver.pid
        if rng.random() < 0.6:
            self.kills += 1
            self.receiver.kill()
        else:
            self.terms += 1
            self.receiver.signal()
            status = self.receiver.wait(30)
            if status != 0:
                self.ledger.complain(f"exit status {status} after SIGTERM")
        remove_faketime_files(pid)
        time.sleep(rng.choice([0, 0, rng.uniform(0, 1)]))
        self.start()

    def restore(self):
        if self.receiver.process is None or self.receiver.process.poll() is not None:
            self.start()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.receiver.pid}/fd"))


class Nginx(NginxKeepalive):
    """The shipped vhost with TLS, kept connections and two receivers. It is started again on the same port."""

    every = (3, 10)

    def __init__(self, place):
        super().__init__(place)
        self.ends = 0

    def start_receivers(self):
        pass

    def workers(self):
        with contextlib.suppress(FileNotFoundError):
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as children:
                return [int(pid) for pid in children.read().split()]
        return []

    def kill(self):
        """The master, then the workers, which would keep the port."""
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            (self.place.dir / "v6.sock").unlink()

    def disturb(self, rng):
        kind = rng.choice(["kill", "stop", "reload"])
        self.ends += 1
        if kind == "reload":
            self.process.send_signal(signal.SIGHUP)
            return
        getattr(self, kind)()
        self.again()

    def again(self):
        """On the same port, which may stay in use for a moment."""
        port = self.client.address[1]
        end = time.monotonic() + 60
        while True:
            with open(self.place.dir / "nginx-error.txt", "ab") as log:
                self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, env={"PATH": PATH})
            wait_for(lambda: self.process.poll() is not None or accepts(port), "nginx listens", 60)
            if self.process.poll() is None:
                return
            assert time.monotonic() < end, (self.place.dir / "nginx-error.txt").read_text()[-2000:]

    def restore(self):
        if self.process.poll() is not None:
            self.again()


class Drain:
    """psapi drain runs again and again, as from cron, and is killed at times."""

    every = (0, 1)
    handler = """#!/bin/sh
case $PSAPI_WEBHOOK_ID in
*_later) [ "$PSAPI_TRY" -gt 1 ] || exit 75 ;;
*_fails) exit 1 ;;
esac
echo "$PSAPI_SOAK_RUN $PSAPI_WEBHOOK_ID" >>"$PSAPI_SOAK_HANDLED"
"""

    def __init__(self, place, disk, ledger):
        self.place, self.disk, self.ledger = place, disk, ledger
        self.runs, self.killed, self.terms = 0, set(), 0
        self.log = place.dir / "handled"
        self.log.touch()
        handlers = place.dir / "handlers.d"
        handlers.mkdir(mode=0o755)
        (handlers / "default").write_text(self.handler)
        (handlers / "default").chmod(0o755)
        place.settings |= {"PSAPI_HANDLERS": handlers, "PSAPI_SOAK_HANDLED": self.log}

    def start(self):
        self.runs += 1
        return subprocess.Popen([PSAPI, "drain", "-j", "3"], text=True, stdin=subprocess.DEVNULL,
                                env=self.place.environment(PSAPI_SOAK_RUN=self.runs),
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def disturb(self, rng):
        began, process = time.monotonic(), self.start()
        fate = rng.choice(["", signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        try:
            output, _ = process.communicate(timeout=10 ** rng.uniform(-3, 0.2) if fate else 300)
        except subprocess.TimeoutExpired:
            self.killed |= {self.runs} if fate == signal.SIGKILL else set()
            self.terms += fate == signal.SIGTERM
            process.send_signal(fate)
            output, _ = process.communicate(timeout=300)
        remove_faketime_files(process.pid)
        if fate and process.returncode == -fate:
            return      # SIGTERM came before its handler was set
        if process.returncode not in (0, 1) and not self.disk.full.held_since(began):
            self.ledger.complain(f"drain: exit status {process.returncode}: {output[-500:]}")

    def restore(self):
        """Handle all events that are due."""
        process = self.start()
        output, _ = process.communicate(timeout=600)
        if process.returncode not in (0, 1):
            self.ledger.complain(f"drain: exit status {process.returncode}: {output[-500:]}")

    def handled(self):
        return [(int(run), webhook_id) for run, webhook_id in
                (line.split() for line in self.log.read_text().splitlines())]
