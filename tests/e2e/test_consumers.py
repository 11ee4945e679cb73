"""Consumers beside receivers that are killed: two receivers, classic CGI, concurrent duplicates, kill -9 at random.

Nothing that was acknowledged is lost. README.md's loop handles each event once, psapi drain each once but for those
in the runs that were killed; how many were handled twice is printed. Where both run, both may take the same event.
"""

import collections
import contextlib
import os
import random
import re
import subprocess
import threading
import time

import pytest

from fcgi_client import Connection, NoAnswer
from psapi_command import PSAPI
from receiver import BINARY, ROOT, Receiver, wait_for
from replies import parse_cgi
from sender import event, signed
from servers import cgi_variables, pairs

CLIENTS = 6
LATEST = 3      # events that are delivered at the same time
LANES = 5
JOBS = 3        # of a drain
SHORT, LONG = 5, 60     # seconds


class World:
    """What was sent, what was acknowledged, and what was handled by whom."""

    def __init__(self, place, seed):
        self.place, self.seed = place, seed
        place.tidy = False
        self.receivers = [Receiver(place, name) for name in ("psapi", "psapi-2")]
        self.handled_log = place.dir / "handled"
        self.handled_log.touch()
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.bodies, self.latest, self.acknowledged = {}, [], set()
        self.counts, self.killed_runs, self.errors = collections.Counter(), set(), []

    def dice(self, name):
        return random.Random(f"{self.seed} {name}")

    # ---- deliveries ----

    def choose(self, dice):
        """One of the latest events, or a new one."""
        with self.lock:
            if len(self.latest) < LATEST or dice.random() < 0.3:
                webhook_id = f"msg_{len(self.bodies)}"
                self.bodies[webhook_id] = event(npn=str(dice.randrange(LANES)), activatedAt="2025-07-25T15:53:01.579Z")
                self.latest = [*self.latest, webhook_id][-LATEST:]
            return dice.choice(self.latest)

    def deliver(self, webhook_id, way, dice=None):
        """way: a receiver, or None for a CGI process, which may be killed."""
        request = signed(self.bodies[webhook_id], webhook_id)
        with contextlib.suppress(NoAnswer, OSError):
            reply = self.by_cgi(request, dice) if way is None else self.by_socket(request, way)
            if reply and reply.status == 200:
                with self.lock:
                    self.acknowledged.add(webhook_id)
                    self.counts[reply.word] += 1

    @staticmethod
    def by_socket(request, receiver):
        with Connection(receiver.path) as connection:
            return parse_cgi(connection.exchange(pairs(request), request.body))

    def by_cgi(self, request, dice):
        environment = self.place.environment()
        environment.update(cgi_variables(request))
        process = subprocess.Popen([BINARY], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        if dice and dice.random() < 0.3:
            threading.Timer(dice.uniform(0, 0.02), process.kill).start()
        output, _ = process.communicate(request.body, timeout=60)
        self.counts["CGI killed"] += process.returncode != 0
        return parse_cgi(output) if process.returncode == 0 else None

    def client(self, dice):
        way = dice.choice([*self.receivers, None])
        self.deliver(self.choose(dice), way, dice)

    # ---- kills ----

    def kill_a_receiver(self, dice):
        self.stop.wait(dice.uniform(0.05, 0.4))
        receiver = dice.choice(self.receivers)
        receiver.kill()
        self.counts["receivers killed"] += 1
        receiver.start()

    def consumer(self, kind, dice):
        """One run of it, which may be killed."""
        with self.lock:
            self.counts[kind] += 1
            run = f"{kind}-{self.counts[kind]}"
        child = self.start(kind, run)
        try:
            child.communicate(timeout=dice.uniform(0.001, 0.3) if dice and dice.random() < 0.3 else 60)
        except subprocess.TimeoutExpired:
            self.killed_runs.add(run)
            child.kill()
            child.communicate()
        # What the other consumer has removed, rm(1) does not find: 1.
        assert child.returncode in (0, -9) or kind == "script", (run, child.returncode)

    def start(self, kind, run):
        note = f'echo "{run} $1" >>{self.handled_log}'
        command = [PSAPI, "drain", "-j", str(JOBS), "--", "/bin/sh", "-c",
                   note.replace("$1", "$PSAPI_WEBHOOK_ID")] if kind == "drain" else \
            ["/bin/sh", "-c", f"note() {{ {note}; }}\n" + readme_loop(self.place.spool.path, "note")]
        # A script is killed as a whole, as cron's are; drain's handlers live on, and are few.
        return subprocess.Popen(command, env=self.place.environment(), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    # ---- the run ----

    def repeat(self, name, job):
        """A thread that does it again and again, with random numbers of its own."""
        def run():
            dice = self.dice(name)
            try:
                while not self.stop.is_set():
                    job(dice)
            except Exception as error:      # of a thread: the test must see it
                self.errors.append(f"{name}: {error!r}")
        return threading.Thread(target=run)

    def run(self, consumers, seconds):
        for receiver in self.receivers:
            receiver.start()
        threads = [self.repeat(f"client {i}", self.client) for i in range(CLIENTS)]
        threads += [self.repeat("kills", self.kill_a_receiver)]
        threads += [self.repeat(kind, lambda dice, kind=kind: self.consumer(kind, dice)) for kind in consumers]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self.stop.set()
        for thread in threads:
            thread.join()
        assert self.errors == []

    def settle(self, consumers):
        """The sender retries, and the consumers do what is left."""
        for webhook_id in self.bodies:
            wait_for(lambda one=webhook_id: self.deliver(one, self.receivers[0]) or one in self.acknowledged,
                     f"{webhook_id} is acknowledged")
        for receiver in self.receivers:
            receiver.stop()
        # For a minute drain takes the file of a duplicate that was killed for one on its way: its lane waits.
        for name in self.left():
            os.utime(self.place.spool.file("new", name), (time.time() - 61,) * 2)
        wait_for(lambda: self.consumer(consumers[0], None) or not self.waiting(), "all is handled")

    def waiting(self):
        """What README.md's loop, or drain, would take."""
        return [name for name in self.place.spool.names("new") if self.place.spool.is_work("new", name)]

    def left(self):
        """Files of writers that were killed when they had met a duplicate."""
        return set(self.place.spool.names("new")) - set(self.waiting())

    def handled(self):
        """{webhook-id: the runs that have handled it}."""
        runs = collections.defaultdict(list)
        for line in self.handled_log.read_text().splitlines():
            run, what = line.split()
            runs[os.path.basename(what).removesuffix(".json")].append(run)
        return runs


def readme_loop(spool, program):
    """The loop that README.md gives to people who need no psapi drain."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (loop,) = (block for block in blocks if "/var/spool/psapi/new/*.json" in block)
    assert "your-program" in loop
    return loop.replace("your-program", program).replace("/var/spool/psapi", str(spool))


def too_often(world, runs):
    """Of the runs that have handled one event: those that are not excused. A consumer that is not killed takes an
    event once; one that is may have done its work, and not have removed the name."""
    whole = [run for run in runs if run not in world.killed_runs]
    kinds = [run.partition("-")[0] for run in whole]
    return len(kinds) != len(set(kinds))


@pytest.mark.parametrize("consumers", [["script"], ["drain"], ["drain", "script"]], ids="-".join)
@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_consumers_beside_kills(request, place, capsys, consumers):
    world, long = World(place, random.SystemRandom().randrange(1 << 32)), request.config.getoption("--long")
    world.run(consumers, LONG if long else SHORT)
    world.settle(consumers)
    handled = world.handled()
    lost = set(world.bodies) - set(handled)
    twice = {webhook_id: runs for webhook_id, runs in handled.items() if len(runs) > 1}
    left = len(world.left())
    with capsys.disabled():
        print(f"\n{' and '.join(consumers)}: {len(handled)} events handled, {len(twice)} of them twice; "
              f"{len(world.killed_runs)} of their runs killed; {left} files of killed duplicates in new/; "
              + ", ".join(f"{what} {n}" for what, n in sorted(world.counts.items())) + f"; seed {world.seed}")
    assert not lost, f"acknowledged, and not handled: {sorted(lost)[:10]}"
    assert not set(handled) - set(world.bodies)
    assert set(place.spool.names("events")) == set(world.bodies)
    assert [(name, runs) for name, runs in twice.items() if too_often(world, runs)] == []
    assert world.counts["receivers killed"] and (world.killed_runs or not long)
