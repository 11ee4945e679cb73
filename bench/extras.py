"""What is measured beside the load: drain, the start of a process, what one event costs."""

import os
import statistics
import subprocess
import sys
import time

import ground
from contenders import TOP
from ground import SECRET

sys.path.insert(0, str(TOP / "tests/cost"))
import cost  # pylint: disable=wrong-import-position,wrong-import-order

STOP = 'date +%s.%N >"$PSAPI_TOLD"; kill -TERM $PPID'   # the first handler: one is enough
LOOP = 'for f in "$1"/new/*.json; do /bin/true "$f" <"$f" && rm "$f"; done'


def fill(spool, events):
    """Events that wait, from a few thousand producers and in no order; as the receiver leaves them."""
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
        raise ground.Failed(f"{command}: exit status {done.returncode}")
    return time.monotonic() - began


def drain(hall, rounds, events):
    """Seconds of drain and of a shell loop, each over the same events on a disk of its own."""
    seconds = {"drain": [], "loop": []}
    for _ in range(rounds):
        for what in seconds:
            with ground.fresh("ext4", hall.work) as place:
                fill(place / "spool", events)
                command = [TOP / "psapi", "drain", "--", "/bin/true"] if what == "drain" else \
                    ["sh", "-c", LOOP, "sh", place / "spool"]
                seconds[what].append(timed(command, environment(hall, place)))
                left = len(os.listdir(place / "spool/new"))
                if left:
                    raise ground.Failed(f"{what}: {left} of {events} events are left")
    return statistics.median(seconds["drain"]), statistics.median(seconds["loop"])


def environment(hall, place):
    (hall.dir / "empty.conf").write_text("")
    (hall.dir / "secret").write_text(SECRET + "\n")
    (hall.dir / "secret").chmod(0o640)
    return {"PATH": os.environ["PATH"], "PSAPI_CONF": str(hall.dir / "empty.conf"),
            "PSAPI_SPOOL": str(place / "spool"), "PSAPI_SECRET_FILE": str(hall.dir / "secret"),
            "PSAPI_TOLD": str(hall.dir / "told")}


def reading(hall, rounds, events):
    """Events a second that drain reads and orders before its first handler."""
    rates = []
    with ground.fresh("ext4", hall.work) as place:
        fill(place / "spool", events)
        for _ in range(rounds):
            began = time.time()
            subprocess.run([TOP / "psapi", "drain", "--", "sh", "-c", STOP], env=environment(hall, place),
                           stdout=subprocess.DEVNULL, check=True)
            rates.append(events / (float((hall.dir / "told").read_text()) - began))
    return statistics.median(rates)


def start(hall, rounds, count):
    """Microseconds of a classic CGI request that is refused at once, as built and static, and of a static /bin/true."""
    found = {"psapi": [], "static": [], "true": []}
    with ground.fresh(None, hall.work) as place:
        (place / "spool").mkdir()
        cgi = environment(hall, place) | {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET"}
        for _ in range(rounds):
            for what, program in (("psapi", TOP / "psapi-fcgi"), ("static", TOP / "build/static/psapi-fcgi"),
                                  ("true", hall.tools / "true")):
                done = subprocess.run([hall.tools / "spawn", str(count), program], env=cgi, check=True,
                                      stdout=subprocess.PIPE)
                found[what].append(float(done.stdout))
    return {what: statistics.median(us) for what, us in found.items()}


def all_of(hall, arguments, more):
    quick = arguments.quick
    events = 300 if quick else 3000
    drained, looped = drain(hall, arguments.rounds, events)
    return more | {"drain": events / drained, "loop": events / looped,
            "reading": reading(hall, arguments.rounds, 2000 if quick else 50_000),
            "start": start(hall, arguments.rounds, 50 if quick else 500),
            "cost": cost.figures(TOP / "psapi-fcgi", TOP / "build/hook/psapi-fcgi", hall.dir)}
