"""Measurements without load: drain, the start of a process, the cost of one event."""

import os
import statistics
import subprocess
import sys
import time

import harness
from contenders import TOP
from harness import SECRET

sys.path.insert(0, str(TOP / "tests/cost"))
import cost  # pylint: disable=wrong-import-position,wrong-import-order

STOP = 'date +%s.%N >"$PSAPI_TOLD"; kill -TERM $PPID'   # ends drain at its first handler
LOOP = 'for f in "$1"/new/*.json; do /bin/true "$f" <"$f" && rm "$f"; done'


def fill(spool, events):
    """Waiting events of a few thousand producers, in no order, as the receiver leaves them."""
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (spool / name).mkdir(parents=True, exist_ok=True)
    for n in range(events):
        at = f"2025-07-{n * 7 % 28 + 1:02}T{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}.000Z"
        name = f"msg_{n:027}.json"
        with open(spool / "events" / name, "w", encoding="ascii") as file:
            file.write(f'{{"webhook_id":"msg_{n:027}","webhook_timestamp":"1753397465",'
                       f'"webhook_signature":"v1,{"A" * 43}=","received_at":"2025-07-24T22:51:05.391Z",'
                       f'"event":\n{{"data":{{"activatedAt":"{at}","npn":"{1000000 + n % 9000}"}},'
                       f'"id":"whe_{n}","timestamp":"{at}","type":"producersync.npn.activated"}}\n}}\n')
        os.link(spool / "events" / name, spool / "new" / name)
    os.sync()


def timed(command, environment):
    began = time.monotonic()
    done = subprocess.run([str(a) for a in command], env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise harness.Failed(f"{command}: exit status {done.returncode}")
    return time.monotonic() - began


def drain(setup, rounds, events):
    """Seconds of drain and of a shell loop, each with the same events on a new file system."""
    seconds = {"drain": [], "loop": []}
    for _ in range(rounds):
        for what in seconds:
            with harness.fresh("ext4", setup.work) as place:
                fill(place / "spool", events)
                command = [TOP / "psapi", "drain", "--", "/bin/true"] if what == "drain" else \
                    ["sh", "-c", LOOP, "sh", place / "spool"]
                seconds[what].append(timed(command, environment(setup, place)))
                left = len(os.listdir(place / "spool/new"))
                if left:
                    raise harness.Failed(f"{what}: {left} of {events} events are left")
    return statistics.median(seconds["drain"]), statistics.median(seconds["loop"])


def environment(setup, place):
    (setup.dir / "empty.conf").write_text("")
    (setup.dir / "secret").write_text(SECRET + "\n")
    (setup.dir / "secret").chmod(0o640)
    return {"PATH": os.environ["PATH"], "PSAPI_CONF": str(setup.dir / "empty.conf"),
            "PSAPI_SPOOL": str(place / "spool"), "PSAPI_SECRET_FILE": str(setup.dir / "secret"),
            "PSAPI_TOLD": str(setup.dir / "told")}


def reading(setup, rounds, events):
    """Events per second that drain reads and sorts before its first handler."""
    rates = []
    with harness.fresh("ext4", setup.work) as place:
        fill(place / "spool", events)
        for _ in range(rounds):
            began = time.time()
            subprocess.run([TOP / "psapi", "drain", "--", "sh", "-c", STOP], env=environment(setup, place),
                           stdout=subprocess.DEVNULL, check=True)
            rates.append(events / (float((setup.dir / "told").read_text()) - began))
    return statistics.median(rates)


def start(setup, rounds, count):
    """Microseconds of a classic CGI request that is refused at once, as built and static, and of a static /bin/true."""
    found = {"psapi": [], "static": [], "true": []}
    with harness.fresh(None, setup.work) as place:
        (place / "spool").mkdir()
        cgi = environment(setup, place) | {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET"}
        for _ in range(rounds):
            for what, program in (("psapi", TOP / "psapi-fcgi"), ("static", TOP / "build/static/psapi-fcgi"),
                                  ("true", setup.tools / "true")):
                done = subprocess.run([setup.tools / "spawn", str(count), program], env=cgi, check=True,
                                      stdout=subprocess.PIPE)
                found[what].append(float(done.stdout))
    return {what: statistics.median(us) for what, us in found.items()}


def all_of(setup, arguments, more):
    quick = arguments.quick
    events = 300 if quick else 3000
    drained, looped = drain(setup, arguments.rounds, events)
    return more | {"drain": events / drained, "loop": events / looped,
            "reading": reading(setup, arguments.rounds, 2000 if quick else 50_000),
            "start": start(setup, arguments.rounds, 50 if quick else 500),
            "cost": cost.figures(TOP / "psapi-fcgi", TOP / "build/hook/psapi-fcgi", setup.dir)}
