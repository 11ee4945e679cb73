#!/usr/bin/python3
"""Clients deliver through the shipped nginx vhost while receivers, nginx and drain are killed, the disk fills, secrets
rotate and the clock steps. Then the sender retries, and the final checks follow: soak.py MINUTES [SEED].
All random numbers come from the seed, which is printed. The order in which threads run does not."""

import contextlib
import http.client
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e"))
# pylint: disable=wrong-import-position
from disturbances import Clock, Drain, Log, Nginx, Secrets, Supervised, disk_of, remove_faketime_files
from http_client import body_of, head_of
from ledger import FinalChecks, Ledger, authentic, forgery
from load import Repeating
from receiver import Place, Receiver, wait_for
from servers import Socket

CLIENTS = 6
EACH_PER_SECOND = 8
NO_ANSWER = (OSError, http.client.HTTPException)
# Accepted answers to an authentic request, beside 200: a process is down, or the disk is full.
EXCUSED = (502, 503, 504)


class World:
    """The processes, the disturbances and the ledger."""

    def __init__(self, place, minutes):
        self.place, self.ledger = place, Ledger()
        self.disk = disk_of(place, int(64 + 40 * minutes))
        self.clock, self.secrets, self.log = Clock(place), Secrets(place), Log(place)
        self.receivers = [Supervised(place, name, self.disk, self.ledger)
                          for name in ("psapi", "psapi-2")]
        self.nginx, self.drain = Nginx(place), Drain(place, self.disk, self.ledger)

    def start(self):
        for supervised in self.receivers:
            supervised.start()
        self.nginx.start_nginx()

    def disturbances(self):
        return [self.clock, self.disk, self.secrets, self.log, self.nginx, self.drain]

    def restore(self):
        for disturbance in [self.clock, self.disk, *self.receivers, self.nginx]:
            disturbance.restore()

    def remove(self):
        with contextlib.suppress(ProcessLookupError):
            self.nginx.kill()
        for receiver in self.place.receivers:
            pid = receiver.process.pid if receiver.process else 0
            receiver.end()
            remove_faketime_files(pid)
        self.disk.remove()


# ---- the clients ----

def deliver(world, one):
    """One attempt of the sender. An authentic request may be refused only if a disturbance explains it."""
    began, secrets = time.monotonic(), world.secrets.of_the_sender
    try:
        reply = world.nginx.send(authentic(one, secrets))
    except NO_ANSWER:
        return
    if reply.status == 200:
        world.ledger.answered(one, reply)
        return
    reason = reply.json.get("reason") if reply.status in (400, 401, 413) else ""
    world.ledger.answers[reason or reply.status] += 1
    excused = reply.status in EXCUSED or \
        (reason in ("stale_timestamp", "future_timestamp") and world.clock.wrong.held_since(began)) or \
        (reason == "signature_mismatch" and not set(secrets) & set(world.secrets.good))
    if not excused:
        world.ledger.complain(f"{one.webhook_id}: authentic, and refused: {reply}")


def break_off(world, one):
    """An upload that breaks off. The sender retries."""
    request = authentic(one, world.secrets.of_the_sender)
    with contextlib.suppress(*NO_ANSWER), world.nginx.client.connect() as connection:
        connection.sendall(head_of(request) + body_of(request)[:len(request.body) // 2])


def forge(world, rng):
    with contextlib.suppress(*NO_ANSWER):
        request = forgery(world.ledger, rng, world)
        reply = world.nginx.send(request)
        world.ledger.answers["forgeries"] += 1
        if reply.status == 200:
            world.ledger.complain(f"a forgery was answered 200: {request} {reply}")


def act(world, rng):
    kind = rng.choices(["new", "retry", "again", "break off", "forge"], [50, 20, 12, 3, 15])[0]
    if kind == "forge":
        forge(world, rng)
        return
    one = world.ledger.new(rng) if kind in ("new", "break off") else \
        world.ledger.some(rng, kind == "again") or world.ledger.new(rng)
    (break_off if kind == "break off" else deliver)(world, one)


class Client:
    every = (0, 2 / EACH_PER_SECOND)

    def __init__(self, world):
        self.world = world

    def disturb(self, rng):
        act(self.world, rng)


# ---- the run ----

def disturb_all(world, seconds, seed):
    """All at once. In the last quarter no receiver is ended: the leak check needs some that have run for a while."""
    end_of_kills, end = threading.Event(), threading.Event()

    def repeating(disturbances, stop):
        return [Repeating(one, random.Random(f"{seed} {type(one).__name__} {i}"), stop, world.ledger)
                for i, one in enumerate(disturbances)]

    killers = repeating(world.receivers, end_of_kills)
    others = repeating(world.disturbances(), end)
    clients = repeating([Client(world)] * CLIENTS, end)
    for one in killers + others + clients:
        one.thread.start()
    for event, wait, threads in (end_of_kills, seconds * 3 / 4, killers), (end, seconds / 4, others + clients):
        time.sleep(wait)
        event.set()
        for one in threads:
            one.thread.join()


def settle(world):
    """Without disturbances the sender retries until each event has its 200."""
    world.restore()

    def none_waits():
        for one in list(world.ledger.waiting.values()):
            deliver(world, one)
        return not world.ledger.waiting
    wait_for(none_waits, "every event is acknowledged", 120)


def leaks(world):
    """Compares the descriptors of the receivers with those of one that has just started. nginx has ended, so no
    connection is open."""
    fresh = Receiver(world.place, "fresh").start()
    probe = Socket(world.place)
    probe.receiver = fresh
    one = world.ledger.new(random.Random(0))
    world.ledger.answered(one, probe.send(authentic(one, world.secrets.of_the_sender)))

    def open_ones(receiver):
        found = []
        for fd in os.listdir(f"/proc/{receiver.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/{receiver.pid}/fd/{fd}"))
        return found
    for lived in world.receivers:
        try:
            wait_for(lambda: len(open_ones(lived.receiver)) <= len(open_ones(fresh)),
                     "descriptors are given back", 30)
        except AssertionError as error:
            yield f"{error}: {sorted(open_ones(lived.receiver))}"
    fresh.stop()


def work_off(world):
    """Handle what is due. Then the clock goes ahead by more days than any step: events that wait for a retry are due,
    and files in tmp/ are old enough to be removed."""
    world.drain.restore()
    world.clock.set(3 * 86400)
    world.drain.restore()


def run(minutes, seed):
    place = Place()
    world = World(place, minutes)
    try:
        world.start()
        disturb_all(world, minutes * 60, seed)
        settle(world)
        world.nginx.stop()
        found = list(leaks(world))
        for supervised in world.receivers:
            supervised.receiver.stop()
        work_off(world)
        checks = FinalChecks(world.ledger, place.spool, world.drain.handled(), world.drain.killed, world.secrets.ever)
        good = checks.all()
        good = checks.check("no descriptor is lost", found) and good
        good = checks.check("each disturbance happened", idle(world, minutes)) and good
        report(world, checks, seed, good)
        return 0 if good else 1
    finally:
        world.remove()
        place.close()


def idle(world, minutes):
    """Disturbances that did not happen. In less than a minute the rare ones need not."""
    happened = {"acknowledged": len(world.ledger.events) - len(world.ledger.waiting),
                "forgeries": world.ledger.answers["forgeries"],
                "killed": sum(s.kills + s.terms for s in world.receivers)}
    if minutes >= 1:
        happened |= {"full disks": world.disk.fills, "rotations": world.secrets.rotations,
                     "steps of the clock": world.clock.steps, "nginx": world.nginx.ends,
                     "killed drains": len(world.drain.killed)}
    yield from (f"{what}: none" for what, count in happened.items() if count == 0)


def report(world, checks, seed, good):
    acknowledged = sum(one.acknowledged for one in world.ledger.events.values())
    handled = {webhook_id for _, webhook_id in checks.handled}
    print(f"soak: receivers killed {sum(s.kills for s in world.receivers)} times and told to end "
          f"{sum(s.terms for s in world.receivers)}, drain {len(world.drain.killed)} and "
          f"{world.drain.terms} of {world.drain.runs}, nginx {world.nginx.ends}; "
          f"{world.disk.fills} full disks ({world.disk.description}), {world.secrets.rotations} rotations, "
          f"{world.clock.steps} steps of the clock")
    print("soak: answers: " + ", ".join(f"{word} {n}" for word, n in
                                        sorted(world.ledger.answers.items(), key=str)))
    print(f"soak: seed {seed}: {acknowledged} events acknowledged, {len(handled)} handled, "
          f"{len(world.place.spool.names('failed'))} in failed/; {len(checks.passed)} checks "
          f"passed{'' if good else ', NOT ALL'}")


def main():
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 2
    seed = sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] else str(random.randrange(1 << 32))
    print(f"soak: {minutes:g} minutes, seed {seed}", flush=True)
    return run(minutes, seed)


if __name__ == "__main__":
    sys.exit(main())
