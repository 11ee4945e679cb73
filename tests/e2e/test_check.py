"""`psapi check`: one line, exit status and performance data as Nagios and Icinga read them, over both stores; each fault
by its name; ranges, time-out, text from outside."""

import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

import pytest

import strace
from psapi_command import Desk, updates
from receiver import Receiver
from sender import OTHER_SECRET, SECRET, event, signed
from servers import Socket
from test_metrics import HOSTILE, line

# Monitoring Plugins Development Guidelines: 'label'=value[UOM];[warn];[crit];[min];[max]
RANGE = r"@?(?:-?[0-9.]+|~)?:?(?:-?[0-9.]+)?"
DATUM = re.compile(rf"([a-z]+)=(-?[0-9]+)([sB]?);({RANGE});({RANGE})(?:;0)?")
STATUS = {"OK": 0, "WARNING": 1, "CRITICAL": 2, "UNKNOWN": 3}


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


@pytest.fixture
def receiver(desk):
    """It runs, and check knows its socket."""
    running = Receiver(desk.place).start()
    desk.place.settings["PSAPI_LISTEN"] = f"unix:{running.path}"
    server = Socket(desk.place)
    server.receiver = running
    return server


class Verdict:
    def __init__(self, done):
        assert done.stdout.count("\n") == 1 and done.stdout.endswith("\n") and done.stdout.isascii(), done.stdout
        assert done.stdout.count("|") <= 1, done.stdout
        text, _, data = done.stdout.rstrip("\n").partition(" | ")
        name, self.status, self.text = re.fullmatch(r"(PSAPI) (\w+) - (.+)", text).groups()
        assert STATUS[self.status] == done.returncode, done
        self.data = {}
        for datum in data.split():
            label, value, unit, warning, critical = DATUM.fullmatch(datum).groups()
            self.data[label] = (int(value), unit, warning, critical)


def check(desk, *arguments, **more):
    return Verdict(desk.run("check", *arguments, expect=None, **more))


def bad(desk, *arguments, **more):
    """Names of what is bad, of the JSON form."""
    done = desk.run("check", "--json", *arguments, expect=None, **more)
    report = json.loads(done.stdout)
    assert STATUS[report["status"]] == done.returncode
    assert all(("remedy" in f) == ("since" in f) == (f["status"] != "OK") for f in report["findings"]), report
    return {f["check"]: f for f in report["findings"] if f["status"] != "OK"}


# ---- all is well ----

@pytest.mark.each_store
def test_well(desk, receiver):
    assert receiver.send(signed(updates(1))).status == 200
    desk.handler("default", "exit 0\n")
    desk.drain()
    found = check(desk)
    assert found.status == "OK", found.text
    assert found.text.startswith("the last delivery was accepted 0.0 h ago; 0 event(s) wait")
    assert found.data["waiting"] == (0, "", "", "") and found.data["failed"] == (0, "", "0", "")
    assert found.data["daily"][1:] == ("s", "", "93600") and found.data["daily"][0] <= 60
    assert found.data["drain"][1:] == ("s", "", "600") and found.data["skew"][1:] == ("s", "-60:60", "")
    assert found.data["free"][0] > 0 and found.data["secrets"][0] == 1


def test_it_is_no_request(desk, receiver):
    """And leaves nothing: a check each minute would fill the log."""
    assert receiver.send(signed()).status == 200
    log = desk.spool.path / "attempts.jsonl"
    before = log.read_text()
    for _ in range(3):
        check(desk)
    assert log.read_text() == before and desk.spool.names("events") == desk.spool.names("new")


def test_before_it_is_set_up(desk):
    """The package is installed, the timer runs: nobody is to be told anything yet."""
    desk.place.write_secret("")
    assert check(desk).status == "OK"
    running = Receiver(desk.place).start()
    desk.place.settings["PSAPI_LISTEN"] = f"unix:{running.path}"
    assert check(desk).status == "OK"
    server = Socket(desk.place)
    server.receiver = running
    assert server.send(signed()).word == "held"
    assert set(bad(desk)) == {"held"}, "but of a request that waits for the secret"


# ---- faults ----

def test_receiver_is_down(desk, receiver):
    receiver.send(signed())
    receiver.receiver.stop()
    found = bad(desk)
    assert set(found) == {"receiver"} and found["receiver"]["status"] == "CRITICAL"
    assert "systemctl start" in found["receiver"]["remedy"]


def test_another_program_at_the_socket(desk, receiver):
    receiver.send(signed())
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        desk.place.settings["PSAPI_LISTEN"] = f"127.0.0.1:{listener.getsockname()[1]}"
        assert "no answer in time" in bad(desk)["receiver"]["text"]


@pytest.mark.each_store
def test_refused_deliveries(desk, receiver):
    """The secret in the portal is another one, and our own probe is accepted all the same."""
    assert receiver.send(signed()).status == 200
    for number in range(3):
        assert receiver.send(signed(secrets=[OTHER_SECRET])).status == 401
        assert receiver.send(signed(webhook_id=f"msg_psapi{number}")).status == 200
        assert receiver.send(signed(webhook_id=f"msg_psapi{number}x", secrets=[OTHER_SECRET])).status == 401
    found = bad(desk)
    assert set(found) == {"deliveries"} and found["deliveries"]["status"] == "CRITICAL"
    assert found["deliveries"]["text"].startswith("3 deliveries since ")
    assert "signature_mismatch" in found["deliveries"]["text"] and "psapi secret add" in found["deliveries"]["remedy"]
    assert receiver.send(signed()).status == 200
    assert bad(desk) == {}


@pytest.mark.each_store
def test_failed_and_waiting(desk, receiver):
    assert receiver.send(signed(b"no JSON")).status == 200
    assert receiver.send(signed()).status == 200
    found = check(desk)
    assert found.status == "WARNING" and found.text.startswith("failed: 1 event(s) in failed/")
    assert found.data["waiting"][0] == 1 and found.data["failed"][0] == 1
    assert check(desk, "-w", "failed=5").status == "OK"
    assert check(desk, "-w", "failed=5", "-w", "0").text.startswith("waiting: 1 event(s) wait")
    assert check(desk, "-c", "failed=0").status == "CRITICAL"


@pytest.mark.each_store
def test_oldest(desk, receiver):
    """Also one that waits for its retry: an event that waits for an hour is behind."""
    desk.handler("default", "exit 75\n")
    assert receiver.send(signed()).status == 200
    desk.drain()
    time.sleep(2.1)
    assert bad(desk) == {}
    found = bad(desk, "-w", "oldest=1")
    assert set(found) == {"oldest"} and "arrived 0.0 h ago" in found["oldest"]["text"]


def test_drain(desk, receiver):
    """With a limit under ten minutes: a machine of the tests may have been booted a moment ago."""
    late = ("-c", "drain=60")
    desk.handler("default", "exit 0\n")
    assert receiver.send(signed()).status == 200
    assert bad(desk) == {}, "it arrived a moment ago"
    desk.drain()
    note = desk.spool.path / "state" / "drain"
    note.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime(time.time() - 90)))
    found = bad(desk, *late)
    assert set(found) == {"drain"} and found["drain"]["status"] == "CRITICAL"
    assert re.search(r"not at work for (1\.[5-9]|2\.\d) min", found["drain"]["text"]) and "psapi-drain.timer" in found["drain"]["remedy"]
    assert bad(desk) == {}, "10 minutes, without that option"
    (desk.handlers / "default").unlink()
    assert set(bad(desk, *late)) == {"handlers"}, "drain runs, and has no handler"
    runs = note.with_name("runs")
    runs.write_text(json.dumps(json.loads(runs.read_text()) | {"chosen": int(time.time()) - 27 * 3600}))
    assert bad(desk, *late) == {}, "a script of the user's own"
    batch = desk.place.dir / "batch.d"
    batch.mkdir()
    (batch / "default").write_text("#!/bin/sh\n")
    (batch / "default").chmod(0o755)
    desk.place.settings["PSAPI_BATCH_HANDLERS"] = batch
    assert set(bad(desk, *late)) == {"drain"}, "a handler of batches"
    del desk.place.settings["PSAPI_BATCH_HANDLERS"]
    assert receiver.send(signed()).status == 200
    assert bad(desk, *late) == {}, "the script has a moment for it"
    time.sleep(2.1)
    found = bad(desk, "-c", "drain=1")
    assert set(found) == {"drain"} and "an event waits" in found["drain"]["text"], found
    assert "your script" in found["drain"]["remedy"] and "timer" not in found["drain"]["remedy"]
    desk.handler("default", "exit 0\n")
    assert set(bad(desk, *late)) == {"drain"}, "with a handler, drain is late at once"
    note.write_text("2199-01-01T00:00:00Z\n")
    assert set(bad(desk, *late)) == {"drain-status"}, "a drain that was killed, under a wrong clock"


def booted(seconds):
    """A command that makes the machine as if it had been booted so many seconds ago."""
    offset = seconds - int(float(Path("/proc/uptime").read_text().split()[0]))
    return ["unshare", *([] if os.geteuid() == 0 else ["--map-current-user"]), "--time", "--boottime", str(offset)]


@pytest.mark.skipif(subprocess.run([*booted(9), "true"], capture_output=True).returncode != 0,
                    reason="this kernel, or its policy, gives no time namespace")
def test_drain_after_a_boot(desk, receiver):
    """It could not run while the machine was down; its timer begins a minute after the boot."""
    desk.handler("default", "exit 0\n")
    assert receiver.send(signed()).status == 200
    desk.drain()
    note = desk.spool.path / "state" / "drain"
    note.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime(time.time() - 7000)))
    assert 299 <= check(desk, under=booted(300)).data["drain"][0] <= 360
    # Of an ordinary user, the namespace knows nobody else: there the owner of / is no reason to trust a handler.
    excused = set() if os.geteuid() == 0 else {"handlers"}
    assert set(bad(desk, under=booted(300))) - excused == set()
    assert set(bad(desk, under=booted(700))) - excused == {"drain"}


def test_drain_status(desk, receiver):
    """A handler that may not run: its events wait, and the drain says so with its exit status."""
    desk.handler("default", "exit 0\n", mode=0o777)
    assert receiver.send(signed()).status == 200
    desk.drain(expect=78)
    found = bad(desk)
    assert set(found) == {"drain-status", "handlers"} and "exit status 78" in found["drain-status"]["text"]
    (desk.handlers / "default").chmod(0o755)
    desk.drain()
    assert bad(desk) == {}


def test_drain_in_the_future(desk, receiver):
    """It ran while the clock was wrong: until that time comes, its age would be 0, and silence no alarm."""
    desk.handler("default", "exit 0\n")
    assert receiver.send(signed()).status == 200
    desk.drain()
    note = desk.spool.path / "state" / "runs"
    runs = json.loads(note.read_text())
    for ahead, expected in ((30, set()), (90, {"drain-status"}), (400 * 86400, {"drain-status"})):
        note.write_text(json.dumps(runs | {"ended": int(time.time()) + ahead}))
        assert set(bad(desk)) == expected
    assert "in the future" in bad(desk)["drain-status"]["text"]
    desk.drain()
    assert bad(desk) == {}


@pytest.mark.each_store
def test_no_daily_event_yet(desk, receiver):
    """The time since the first event is not said to be that of a daily one. What came before that one was of a scanner,
    unsigned, or a test delivery: a set-up may take days."""
    assert receiver.send(signed()).status == 200
    desk.drain("--", "true")
    now = time.time()
    scan = line(now - 40 * 3600, outcome="rejected", reason="method_not_allowed", webhook_id=None, key=None)
    test = line(now - 30 * 3600, webhook_id="msg_psapi_1", type="producersync.npn.activated")
    held = line(now - 29 * 3600, outcome="held", key=None)
    before = scan.replace('"webhook_id":null,', "").replace('"key":null,', "") + test + held.replace('"key":null,', "")
    (desk.spool.path / "attempts.jsonl").write_text(before + line(now - 3600, type="producersync.npn.activated"))
    (desk.spool.path / "state" / "metrics").unlink(missing_ok=True)
    assert bad(desk) == {}
    said = desk.run("check").stdout
    assert "updates_available" not in said and "daily=" not in said, said


@pytest.mark.each_store
def test_daily(desk, receiver):
    assert receiver.send(signed()).status == 200
    log = desk.spool.path / "attempts.jsonl"
    receiver.receiver.stop()
    receiver.start()
    desk.place.settings["PSAPI_LISTEN"] = f"unix:{receiver.receiver.path}"
    now = time.time()
    log.write_text(line(now - 27 * 3600, type="producersync.updates_available") + line(now - 3600))
    (desk.spool.path / "state" / "metrics").unlink(missing_ok=True)
    found = bad(desk)
    assert set(found) == {"daily"} and "27.0 h ago" in found["daily"]["text"] and "portal" in found["daily"]["remedy"]
    assert bad(desk, "-c", "daily=") == {}, "an endpoint without that event"
    log.write_text(line(now - 40 * 3600) + line(now - 3600))
    (desk.spool.path / "state" / "metrics").unlink()
    assert bad(desk)["daily"]["text"] == ("no producersync.updates_available in the 40.0 h since the first "
                                          "accepted event"), "none ever came"
    log.write_text(line(now + 400 * 86400, type="producersync.updates_available") + line(now - 3600))
    (desk.spool.path / "state" / "metrics").unlink()
    assert set(bad(desk)) <= {"daily"}


def test_disk(desk, receiver):
    assert receiver.send(signed()).status == 200
    desk.place.settings["PSAPI_MIN_FREE"] = str(1 << 59)
    found = bad(desk)
    assert set(found) == {"space"} and "PSAPI_MIN_FREE" in found["space"]["text"]


def test_secret(desk, receiver):
    assert receiver.send(signed()).status == 200
    desk.place.secret_file.chmod(0o644)
    found = bad(desk)
    assert set(found) == {"secret"} and "0640" in found["secret"]["remedy"]
    desk.place.write_secret("")
    assert set(bad(desk)) == {"secret"}, "empty, although events were accepted before"


def test_clock(desk, receiver):
    assert receiver.send(signed()).status == 200
    (desk.spool.path / "attempts.jsonl").write_text(line(skew_s=-200))
    assert "200 s off" in bad(desk)["skew"]["text"]


def test_log(desk, receiver):
    assert receiver.send(signed()).status == 200
    log = desk.spool.path / "attempts.jsonl"
    log.unlink()
    log.mkdir()
    assert "log" in bad(desk)


def test_store_is_gone(desk):
    """With the time since which it is so, which is in the last verdict alone."""
    found = bad(desk)
    assert set(found) == {"spool"} and found["spool"]["status"] == "CRITICAL"


@pytest.mark.each_store
def test_database(desk, receiver):
    if desk.place.store != "postgresql":
        pytest.skip("needs a database")
    assert receiver.send(signed()).status == 200
    assert bad(desk) == {}
    desk.place.settings["PSAPI_STORE"] = "postgresql://nobody@127.0.0.1:1/psapi"
    found = bad(desk)
    assert set(found) == {"database", "storing"} and found["database"]["status"] == "CRITICAL", "the cause, and no echo"


def test_since(desk, receiver):
    assert receiver.send(signed(b"no JSON")).status == 200
    first = bad(desk)["failed"]["since"]
    assert abs(first - time.time()) < 60
    time.sleep(1.1)
    assert bad(desk)["failed"]["since"] == first
    desk.run("retry", "--all")
    assert bad(desk) == {}
    note = json.loads((desk.spool.path / "state" / "check").read_text())
    assert note["status"] == 0 and abs(note["at"] - time.time()) < 60


# ---- options ----

@pytest.mark.parametrize("text", ["", "x", "waiting=", "nothing=1", "waiting=1,", "waiting=2:1", "1:2:3", "=1", "waiting=1e3",
                                  "waiting=nan", "9" * 60, "~", "@"])
def test_wrong_ranges(desk, text):
    wanted = 3 if text != "waiting=" else None      # that is a range that is not set
    done = desk.run("check", "-w", text, expect=wanted)
    assert wanted is None or done.stdout.startswith("PSAPI UNKNOWN - ")


@pytest.mark.parametrize("arguments", [["-t", "0"], ["-t", "x"], ["--nothing"], ["more"], ["-w"], ["-o", "PSAPI_X=1"]])
def test_wrong_options(desk, arguments):
    told = desk.run("check", *arguments, expect=3).stdout
    assert told.startswith("PSAPI UNKNOWN - ")
    # The same as JSON, wherever that option is.
    for order in (["--json", *arguments], [*arguments, "--json"]) if arguments != ["-w"] else (["--json", "-w"],):
        assert bad(desk, *order)["check"]["text"] == told.removeprefix("PSAPI UNKNOWN - ").strip(), order


def test_time_out(desk, receiver):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        desk.place.settings["PSAPI_LISTEN"] = f"127.0.0.1:{mute.getsockname()[1]}"
        found = check(desk, "-t", "1")      # the mute one alone would be CRITICAL after 3 s
    assert found.status == "UNKNOWN" and found.text == "time-out: no result within 1 s" and found.data == {}


def test_no_thread(desk):
    if strace.why_not():
        pytest.skip(strace.why_not())
    under = (*strace.UNDER, "-o", "/dev/null", "-e", "inject=clone,clone3:error=EAGAIN")
    found = check(desk, under=under)
    assert found.status == "UNKNOWN" and found.text.startswith("no thread can be started") and "TasksMax" in found.text


# ---- text from outside ----

@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_events(desk, receiver, text):
    """Ids, types and what handlers say: none of it is in the line, or it is harmless there."""
    desk.handler("default", "printf 'a|b\\nc\\033[31m' >&2; exit 1\n")
    assert receiver.send(signed(event(text, npn="1"), webhook_id="msg_" + text.encode().hex()[:60])).status == 200
    desk.drain(expect=1)
    found = check(desk)
    assert found.text.startswith("failed: 1 event(s)")


def test_hostile_reasons_and_paths(desk):
    spool = desk.place.dir / "sp|ool\nPSAPI OK\x1b[31m\u2028"
    desk.place.settings["PSAPI_SPOOL"] = str(spool)
    found = check(desk)
    assert found.status == "CRITICAL" and "sp/ool PSAPI OK [31m" in found.text
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (spool / name).mkdir(mode=0o2770, parents=True)
    spool.chmod(0o2770)
    (spool / "attempts.jsonl").write_text("".join(
        line(outcome="rejected", reason=text, key=None) for text in HOSTILE))
    assert "deliveries" in check(desk).text


# ---- other users ----

@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_by_root_the_notes_are_the_owners(desk, receiver):
    assert receiver.send(signed()).status == 200
    receiver.receiver.stop()
    for folder, names, files in os.walk(desk.spool.path):
        for name in ["", *names, *files]:
            os.chown(os.path.join(folder, name), 65534, 65534)
    os.chown(desk.place.secret_file, 65534, 65534)
    check(desk)
    assert (desk.spool.path / "state" / "check").stat().st_uid == 65534


def test_secret_is_in_no_output(desk, receiver):
    receiver.send(signed())
    done = desk.run("check", "--json", expect=None)
    assert SECRET[6:] not in done.stdout + done.stderr
