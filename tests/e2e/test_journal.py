"""Events that arrive together share a journal, of which nobody but recovery sees anything."""

import contextlib
import threading

from fcgi_client import NoAnswer
from load import Load, at_once
from receiver import wait_for
from replies import assert_accepted
from sender import event, signed


def burst(server, count=40, size=10):
    """So many at once; the requests."""
    requests = [signed(event("x.y", filler="a" * size)) for _ in range(count)]
    for reply in at_once(lambda r=request: server.send(r) for request in requests):
        assert_accepted(reply)
    return requests


def journals(place):
    return [name for name in place.spool.left_in_tmp() if name.startswith("journal.")]


def until_there_is_one(server, place):
    """The first crowd has it made, and does not wait for it."""
    requests = []
    wait_for(lambda: requests.extend(burst(server)) or len(journals(place)) == 2, "a journal")
    return requests


def test_crowd(direct, place):
    requests = until_there_is_one(direct, place) + burst(direct)
    for request in requests:
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert len(place.spool.names("new")) == len(requests)
    direct.receiver.stop()      # a slow disk keeps nobody waiting: then it is left to
    direct.receiver.start()     # recovery
    assert place.spool.left_in_tmp() == []


def test_large_ones_in_a_crowd(direct, place):
    """What the journal has no room for is synced by itself, side by side with the rest."""
    until_there_is_one(direct, place)
    for size in (100_000, 350_000):
        for request in burst(direct, 20, size) + burst(direct):
            place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_one_by_one(direct, place):
    """Whoever comes alone needs no journal, and there is none."""
    for _ in range(20):
        assert_accepted(direct.send(signed()))
    assert place.spool.left_in_tmp() == []


def test_killed_in_a_crowd(direct, place):
    """kill -9, while a script of the user's own handles what comes: nothing is lost, and nothing that
    was handled comes again, for the kernel still knows it all."""
    place.tidy = False
    answered, handled, left, stop = set(), [], [], threading.Event()

    def send():
        request = signed()
        with contextlib.suppress(NoAnswer, OSError):
            if direct.send(request).status == 200:
                answered.add(request.header("webhook-id").decode())

    def script():
        while not stop.is_set():
            for name in place.spool.names("new"):
                handled.append(name)
                place.spool.file("new", name).unlink()

    handler = threading.Thread(target=script)
    handler.start()
    for _ in range(5):
        with Load(send, 12) as load:
            load.turn(20)
            direct.receiver.kill()
        left += journals(place)
        direct.receiver.start()
        assert journals(place) == []
    stop.set()
    handler.join()
    assert left, "none was killed with a journal"
    # But for one that was handled before it was recorded, let alone answered: its sender tries again.
    assert not answered & {name for name in handled if handled.count(name) > 1}
    assert answered <= set(handled) | set(place.spool.names("new"))
    assert answered <= set(place.spool.names("events"))
    direct.receiver.stop()
