"""Files of the container that run without one: the health check of the image, and the loop of its drain. The image
itself is built and run by `make check-container`."""

import os
import re
import subprocess

import pytest

from psapi_command import NOTE, Desk, body
from receiver import BINARY, ROOT, wait_for
from sender import signed
from servers import Socket

[HEALTH] = re.findall(r"^HEALTHCHECK .* CMD (.*)$", (ROOT / "Containerfile").read_text(), re.M)
LOOP = ROOT / "examples/container/psapi-drain-loop"


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


def environment(desk, **more):
    return desk.environment() | {"PATH": f"{BINARY.parent}:/usr/bin:/bin", "PSAPI_DRAIN_SECONDS": "0.1"} | more


# ---- the health check ----

def health(desk):
    """Its exit status, and what psapi check said."""
    done = subprocess.run(["sh", "-c", HEALTH], env=environment(desk), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_health(desk):
    """A WARNING does not make the receiver unhealthy: a restart would not mend it. Docker reserves exit status 2."""
    server = Socket(desk.place)
    with server:
        desk.place.settings["PSAPI_LISTEN"] = f"unix:{server.receiver.path}"
        assert server.send(signed()).status == 200
        assert health(desk)[0] == 0
        assert server.send(signed(b"no JSON")).status == 200
        status, said = health(desk)
        assert status == 0 and said.startswith("PSAPI WARNING - failed: 1 event(s)"), said
    desk.place.secret_file.chmod(0o644)
    status, said = health(desk)
    assert status == 1 and said.startswith("PSAPI CRITICAL - "), said


def test_health_before_the_first_secret(desk):
    """Requests are held: that is how it is set up."""
    desk.place.write_secret("")
    server = Socket(desk.place)
    with server:
        desk.place.settings["PSAPI_LISTEN"] = f"unix:{server.receiver.path}"
        assert server.send(signed()).word == "held"
        assert health(desk)[0] == 0


def test_the_drain_has_no_health_check():
    """It has neither the receiver's socket nor the secret, so that the image's check would fail for good."""
    drain = re.search(r"^  drain:\n(.*?)^\w", (ROOT / "examples/container/compose.yaml").read_text(), re.S | re.M)[1]
    assert "    healthcheck: {disable: true}\n" in drain
    assert "secrets:" not in drain and "/run/psapi" not in drain


def test_the_receiver_sees_the_handlers_of_the_drain():
    """The spool is shared: without the handlers, `psapi check` and doctor in the receiver's container would judge that
    drain has none, and name a harmful remedy."""
    text = (ROOT / "examples/container/compose.yaml").read_text().partition("\nvolumes:\n")[0]
    services = re.split(r"^  (\w+):\n", text, flags=re.M)
    found = {name: re.findall(r"^      (?:# )?- (\./(?:handlers|batch)\.d:\S+)", text, re.M)
             for name, text in zip(services[1::2], services[2::2])}
    assert found["psapi"] == found["drain"] == [
        "./handlers.d:/etc/psapi/handlers.d:ro", "./batch.d:/etc/psapi/batch.d:ro"]


# ---- the loop ----

@pytest.fixture
def loop(desk):
    """Run it over these directories; ended by SIGTERM."""
    batches = desk.place.dir / "batch.d"
    batches.mkdir(mode=0o755)
    desk.place.settings["PSAPI_BATCH_HANDLERS"] = batches
    log = open(desk.place.dir / "loop.txt", "w+")

    def start():
        child = subprocess.Popen([LOOP], env=environment(desk), stderr=log, stdin=subprocess.DEVNULL)
        desk.children.append(child)
        return child
    yield start
    log.close()


def write(path, text, mode):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(mode)


@pytest.mark.parametrize("batch", [False, True])
def test_loop(desk, loop, batch):
    """Nothing that is no program starts it: drain would move each event to failed/. A handler of either kind does."""
    (webhook_id,) = desk.deliver(signed(body(1)))
    write(desk.handlers / "README", "read me\n", 0o644)
    write(desk.place.settings["PSAPI_BATCH_HANDLERS"] / "default", "", 0o644)
    (desk.handlers / "lib").mkdir()
    child = loop()
    said = desk.place.dir / "loop.txt"
    wait_for(lambda: "no executable file in" in said.read_text(), "it says why it waits")
    assert desk.where(webhook_id) == ["new", "events"]
    if batch:
        write(desk.place.settings["PSAPI_BATCH_HANDLERS"] / "default", f'echo {webhook_id} >>"$PSAPI_TOLD/seen"\necho ok all 1\n',
              0o755)
    else:
        (desk.place.settings["PSAPI_BATCH_HANDLERS"] / "default").unlink()
        desk.handler("default", NOTE)
    wait_for(lambda: desk.where(webhook_id) == ["events"], "it is handled")
    assert desk.lines() == [webhook_id]
    assert said.read_text().count("no executable file in") == 1
    child.terminate()
    assert child.wait(20) == 0
    assert os.access(LOOP, os.X_OK)
