"""What dies in a chaos test: database nodes, receivers, drains. `disturb(rng)` does it once, `restore()` ends what it has
left. Each takes its host with it at that moment; one database node at a time, as the promise is made for one."""

import contextlib
import collections
import signal
import subprocess
import time

from postgresql import Cluster
from psapi_command import PSAPI
from receiver import Receiver, connects, wait_for
from servers import Socket


class Databases:
    """Three nodes. After each disturbance all of them follow again."""

    every = (0.5, 4)

    def __init__(self, record):
        self.record, self.cluster = record, Cluster(3)
        self.done = collections.Counter()
        self.excuses = []           # Unix times
        self.outages = []           # seconds from a primary's death to the promotion of another
        self.blackouts = []         # (from, to) on the monotonic clock: no standby, so no new event gets a 200

    def disturb(self, rng):
        kinds = [self.kill_primary, self.kill_standby, self.freeze_standby, self.freeze_primary, self.replace_frozen,
                 self.kill_standbys]
        kind = rng.choices(kinds, [4, 4, 2, 2, 2, 1])[0]
        self.done[kind.__name__] += 1
        self.excuses.append(time.time())
        kind(rng)
        self.excuses.append(time.time())
        self.cluster.wait_until_healthy()

    def kill_primary(self, _):
        old = self.cluster.primary
        self.fail_over(old)

    def fail_over(self, old):
        begun = time.monotonic()
        old.kill()
        new = self.cluster.fail_over(old)
        self.outages.append(time.monotonic() - begun)
        old.rewind(new)
        old.start()

    def replace_frozen(self, rng):
        """The primary hangs; it is cut off before another takes over, as a supervisor must."""
        old = self.cluster.primary
        old.freeze()
        time.sleep(rng.uniform(0.5, 4))
        self.fail_over(old)

    def kill_standby(self, rng):
        node = rng.choice(self.cluster.standbys)
        node.kill()
        time.sleep(rng.uniform(0, 2))
        node.start()

    def freeze_standby(self, rng):
        node = rng.choice(self.cluster.standbys)
        node.freeze()
        time.sleep(rng.uniform(0.5, 8))
        node.thaw()

    def freeze_primary(self, rng):
        node = self.cluster.primary
        node.freeze()
        time.sleep(rng.uniform(0.2, 8))
        node.thaw()

    def kill_standbys(self, rng):
        standbys = self.cluster.standbys
        for node in standbys:
            node.kill()
        begun = time.monotonic()
        time.sleep(rng.uniform(1, 6))
        self.blackouts.append((begun, time.monotonic()))
        for node in standbys:
            node.start()

    def false_answers(self):
        """Events that were sent for the first time while no standby was there, and got their 200 meanwhile."""
        for one in self.record.acknowledged():
            for begun, ended in self.blackouts:
                if begun < one.first_sent and one.acknowledged < ended:
                    yield one.webhook_id

    def restore(self):
        self.cluster.wait_until_healthy()


class Head:
    """A web head: a receiver that is killed, or told to end, and started again."""

    every = (1, 6)

    def __init__(self, place, record):
        self.place, self.record = place, record
        self.receiver, self.server = Receiver(place), Socket(place)
        self.server.receiver = self.receiver
        self.kills = self.terms = 0
        place.tidy = False

    def send(self, request):
        return self.server.send(request)

    def start(self):
        """It must start whatever the database does."""
        self.receiver.start(ready=False)
        wait_for(lambda: self.receiver.process.poll() is not None or
                 (connects(self.receiver.path) and self.receiver.heeds_signals()), "a receiver starts", 60)
        if self.receiver.process.poll() is not None:
            self.record.complain(f"no start: {self.receiver.log()[-500:]}")

    def disturb(self, rng):
        if rng.random() < 0.7:
            self.kills += 1
            self.receiver.kill()
        else:
            self.terms += 1
            self.receiver.signal()
            status = self.receiver.wait(30)
            if status != 0:
                self.record.complain(f"exit status {status} after SIGTERM: {self.receiver.log()[-500:]}")
        time.sleep(rng.uniform(0, 1))
        self.start()

    def restore(self):
        if self.receiver.process.poll() is not None:
            self.start()


class Drain:
    """psapi drain on one head, again and again, and killed at times."""

    every = (0, 0.2)
    handler = """#!/bin/sh
case $PSAPI_WEBHOOK_ID in
*_later) [ "$PSAPI_TRY" -gt 1 ] || exit 75 ;;
esac
echo "$(date +%s.%N) $PSAPI_WEBHOOK_ID" >>"$PSAPI_TOLD"
"""

    def __init__(self, place, record):
        self.place, self.record = place, record
        self.runs, self.kills, self.terms, self.long = 0, 0, 0, 0
        self.excuses = []
        self.statuses = collections.Counter()
        self.log = place.dir / "handled"
        handlers = place.dir / "handlers.d"
        handlers.mkdir(mode=0o755)
        (handlers / "default").write_text(self.handler)
        (handlers / "default").chmod(0o755)
        place.settings |= {"PSAPI_HANDLERS": handlers, "PSAPI_TOLD": self.log}

    def start(self):
        self.runs += 1
        return subprocess.Popen([PSAPI, "drain", "-j", "4"], text=True, stdin=subprocess.DEVNULL,
                                env=self.place.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def disturb(self, rng):
        process = self.start()
        fate = rng.choice([None, None, signal.SIGKILL, signal.SIGTERM])
        output = ""
        try:
            output, _ = process.communicate(timeout=10 ** rng.uniform(-2, 0.3) if fate else 60)
        except subprocess.TimeoutExpired:
            if fate is None:        # it goes on as long as events arrive
                fate, self.long = signal.SIGTERM, self.long + 1
                idle = time.time() - float(self.handled()[-1].split()[0])
                if idle > 40:
                    self.record.complain(f"drain: it has handled nothing for {idle:.0f} s, and does not end")
            self.kills += fate == signal.SIGKILL
            self.terms += fate == signal.SIGTERM
            self.excuses.append(time.time())
            process.send_signal(fate)
            output, _ = process.communicate(timeout=300)
        if not fate:
            self.statuses[process.returncode] += 1
        if process.returncode in (1, 70) or process.returncode < 0 and process.returncode != -fate:
            self.record.complain(f"drain: exit status {process.returncode}: {output[-500:]}")

    def restore(self):
        """Everything that is due."""
        process = self.start()
        output, _ = process.communicate(timeout=600)
        if process.returncode != 0:
            self.record.complain(f"drain at the end: exit status {process.returncode}: {output[-500:]}")

    def handled(self):
        return self.log.read_text().splitlines() if self.log.exists() else []


@contextlib.contextmanager
def repeating(disturbances, stop_event):
    for one in disturbances:
        one.thread.start()
    try:
        yield
    finally:
        stop_event.set()
        for one in disturbances:
            one.thread.join()
