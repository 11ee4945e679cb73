"""Events that arrive at the same moment, also when the receiver is killed meanwhile."""

import contextlib
import os
import threading

from fcgi_client import NoAnswer
from load import Load, at_once
from replies import assert_accepted
from sender import event, signed


def burst(server, count=40, size=10):
    """So many at once; the requests."""
    requests = [signed(event("x.y", filler="a" * size)) for _ in range(count)]
    for reply in at_once(lambda r=request: server.send(r) for request in requests):
        assert_accepted(reply)
    return requests


def test_each_is_stored(direct, place):
    requests = burst(direct) + burst(direct)
    for request in requests:
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert len(place.spool.names("new")) == len(requests)


def test_large_and_small(direct, place):
    for size in (100_000, 350_000):
        for request in burst(direct, 20, size) + burst(direct):
            place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def is_same_file(place, name):
    """[ new/NAME -ef events/NAME ]"""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samefile(place.spool.file("new", name), place.spool.file("events", name))
    return False


def test_killed_under_load(direct, place):
    """kill -9, while a script as in README.md handles what comes: nothing is lost, and nothing comes again, for the
    kernel still knows all names."""
    place.tidy = False
    answered, handled, stop = set(), [], threading.Event()

    def send():
        request = signed()
        with contextlib.suppress(NoAnswer, OSError):
            if direct.send(request).status == 200:
                answered.add(request.header("webhook-id").decode())

    def script():
        while not stop.is_set():
            for name in place.spool.names("new"):
                if is_same_file(place, name):
                    handled.append(name)
                    place.spool.file("new", name).unlink()

    handler = threading.Thread(target=script)
    handler.start()
    for _ in range(5):
        with Load(send, 12) as load:
            load.turn(20)
            direct.receiver.kill()
        direct.receiver.start()
    stop.set()
    handler.join()
    assert len(handled) == len(set(handled)), "handled twice"
    assert answered <= set(handled) | set(place.spool.names("new"))
    assert answered <= set(place.spool.names("events"))
    direct.receiver.stop()
