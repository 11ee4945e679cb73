#!/usr/bin/python3
"""Three database nodes, two receivers, two drains: every kind of node is killed, frozen and replaced at random, while
concurrent duplicates arrive at both receivers: chaos.py MINUTES [SEED].

At the end every acknowledged event was handled, none overtook another of its lane, none was queued twice. All random
numbers come from the seed, which is printed. The order in which threads run does not."""

import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
# pylint: disable=wrong-import-position
from deaths import Databases, Drain, Head, repeating
from lanes import Checks, Lane, Record, Run, stop
from load import Repeating, at_once
from receiver import Place, wait_for
from setup_command import psapi
from shared_store import settings

LANES = 12
PAUSE = (0.1, 0.6)      # seconds between two events of a lane: the drains of a busy machine keep up


class World:
    def __init__(self, seed):
        self.record = Record()
        self.databases = Databases(self.record)
        uri = self.databases.cluster.database("psapi")
        self.places = [Place(settings(uri)) for _ in range(2)]
        psapi(self.places[0], "store", "init")
        self.drains = [Drain(place, self.record) for place in self.places]
        self.heads = [Head(place, self.record) for place in self.places]
        self.lanes = [Lane(n, [head.send for head in self.heads], self.record, seed, PAUSE) for n in range(LANES)]

    def start(self):
        for head in self.heads:
            head.start()
        for lane in self.lanes:
            lane.thread.start()

    def disturbances(self, seed, stopping):
        """A lost database does not wait for the end of a drain: each in a thread of its own."""
        everything = [self.databases, *self.heads, *self.drains]
        return [Repeating(one, random.Random(f"{seed} {type(one).__name__} {i}"), stopping, self.record)
                for i, one in enumerate(everything)]

    def settle(self):
        """All is well again: what is without a 200 is sent again, and everything is handled."""
        for one in [self.databases, *self.heads]:
            one.restore()
        for lane in self.lanes:
            lane.settle()
        wait_for(lambda: self.sql("SELECT count(*) FROM psapi_lane WHERE until > now()") == "0",
                 "the leases of killed drains end", 90)
        left = None
        while (now := self.sql("SELECT count(*) FROM psapi_queue")) not in ("0", left):
            left = now
            # What waits for a retry would wait for a minute or more, and its lane with it.
            self.sql("UPDATE psapi_queue SET due_at = NULL")
            at_once([drain.restore for drain in self.drains])

    def sql(self, statement):
        return self.databases.cluster.primary.sql(statement, database="psapi").strip()

    def close(self):
        stop([lane for lane in self.lanes if lane.thread.is_alive()])
        for place in self.places:
            for receiver in place.receivers:
                receiver.end()
            place.close()
        self.databases.cluster.close()


def check(world, minutes):
    excuses = world.databases.excuses + [at for drain in world.drains for at in drain.excuses]
    runs = [Run.parse(line) for drain in world.drains for line in drain.handled()]
    checks = Checks(world.record, runs, excuses)
    checks.all()
    checks.check("no false 200 without a standby", world.databases.false_answers())
    left = world.sql("SELECT count(*) FROM psapi_queue")
    checks.check("nothing is left in the queue", [left] if left != "0" else [])
    stored = set(world.sql("SELECT name FROM psapi_event").split())
    known = {f"{webhook_id}.json" for webhook_id in world.record.events}
    acknowledged = {f"{one.webhook_id}.json" for one in world.record.acknowledged()}
    checks.check("the store has what was acknowledged", acknowledged - stored)
    checks.check("the store has nothing else", stored - known)
    happened = {"receivers": sum(head.kills for head in world.heads), "drains": sum(d.kills for d in world.drains)}
    happened |= {kind.__name__: world.databases.done[kind.__name__] for kind in
                 (world.databases.kill_primary, world.databases.kill_standby)}
    if minutes >= 1:
        checks.check("each kind of node was killed", [what for what, count in happened.items() if count == 0])
    return checks


def report(world, checks, seed):
    record, databases = world.record, world.databases
    print("chaos: databases: " + ", ".join(f"{what} {n}" for what, n in sorted(databases.done.items())) +
          f"; promotions after {min(databases.outages, default=0):.1f} to {max(databases.outages, default=0):.1f} s")
    print(f"chaos: receivers killed {sum(h.kills for h in world.heads)} times and told to end "
          f"{sum(h.terms for h in world.heads)}; drains killed {sum(d.kills for d in world.drains)} and told to end "
          f"{sum(d.terms for d in world.drains)} of {sum(d.runs for d in world.drains)}, {sum(d.long for d in world.drains)} "
          "of them after a minute at work; exit statuses of the others: "
          + ", ".join(f"{status}: {n}" for status, n in
                      sorted(sum((d.statuses for d in world.drains), type(world.drains[0].statuses)()).items())))
    print("chaos: answers: " + ", ".join(f"{word} {n}" for word, n in sorted(record.answers.items(), key=str)) +
          f"; the slowest after {record.slowest:.1f} s, {record.late} after more than 5 s; at most "
          f"{record.longest_gap():.1f} s without a 200")
    print(f"chaos: seed {seed}: {len(record.events)} events, {len(record.acknowledged())} acknowledged, "
          f"{len(checks.first)} handled, {len(checks.again)} of them again after a death; {len(checks.passed)} checks "
          f"passed{', NOT ALL: ' + '; '.join(checks.failed) if checks.failed else ''}", flush=True)


def run(minutes, seed):
    world = World(seed)
    try:
        world.start()
        stopping = threading.Event()
        with repeating(world.disturbances(seed, stopping), stopping):
            time.sleep(minutes * 60)
        stop(world.lanes)
        world.settle()
        checks = check(world, minutes)
        report(world, checks, seed)
        return 1 if checks.failed else 0
    finally:
        world.close()


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2
    seed = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] else str(random.randrange(1 << 32))
    print(f"chaos: {minutes:g} minutes, seed {seed}", flush=True)
    return run(minutes, seed)


if __name__ == "__main__":
    sys.exit(main())
