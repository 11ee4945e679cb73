"""`psapi metrics`: each number, over both stores; counters over rotated logs, two runs at once, clocks that step, and
text from outside. promtool's opinion of the text is asked in test_prometheus.py."""

import fcntl
import gzip
import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

import strace
from prometheus_text import Metrics
from psapi_command import NOTE, Desk, body, updates
from receiver import SLOWER, wait_for
from sender import OTHER_SECRET, event, signed
from servers import Socket


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


def metrics(desk, *arguments, **more):
    done = desk.run("metrics", *arguments, **more)
    return Metrics(done.stdout)


def attempts(found):
    return {dict(labels)["outcome"]: value for labels, value in found.all("psapi_attempts_total").items()
            if dict(labels)["reason"] == ""}


def line(at=None, outcome="accepted", **more):
    """A line of the attempts log."""
    at = time.time() if at is None else at
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at * 1000) % 1000:03}Z"
    return json.dumps({"at": stamp, "outcome": outcome, "status": 200, "webhook_id": "msg_1", "bytes": 1, "key": "12345678",
                       "skew_s": 0, "ms": 1.5} | more, separators=(",", ":")) + "\n"


@pytest.fixture
def log(place):
    for name in ("new", "events", "failed", "state", "hold", "tmp"):
        (place.spool.path / name).mkdir(mode=0o2770)
    return place.spool.path / "attempts.jsonl"


# ---- the numbers ----

def test_nothing_has_happened(desk, log):
    found = metrics(desk)
    assert {name for name, _ in found} == {
        "psapi_events_waiting", "psapi_events_retrying", "psapi_events_failed", "psapi_events_held",
        "psapi_spool_free_bytes", "psapi_secrets", "psapi_store_up", "psapi_build_info"}
    assert found.value("psapi_events_waiting") == 0 and found.value("psapi_secrets") == 1
    assert found.value("psapi_store_up") == 1


@pytest.mark.each_store
def test_what_has_happened(desk):
    began = time.time()
    desk.handler("producersync.npn.activated", "exit 0\n")
    desk.handler("producersync.npn.deactivated", "exit 75\n")
    desk.handler("x", "exit 1\n")
    wrong = signed(secrets=[OTHER_SECRET])
    with Socket(desk.place) as server:
        good = signed(body(1))
        for request in (good, good, signed(body(2, kind="producersync.npn.deactivated")), signed(event("x.y", z=1)),
                        signed(updates(3))):
            assert server.send(request).status == 200
        assert server.send(wrong).status == 401 and server.send(wrong).status == 401
        server.receiver.stop()
    found = metrics(desk)
    assert found.value("psapi_events_waiting") == 4 and found.value("psapi_events_failed") == 0
    assert began - 1 <= found.value("psapi_oldest_waiting_timestamp_seconds") <= time.time()
    desk.drain(expect=1)
    found = metrics(desk)
    pairs = {tuple(dict(labels).values()): value for labels, value in found.all("psapi_attempts_total").items()}
    assert pairs == {("accepted", ""): 4, ("duplicate", ""): 1, ("rejected", "signature_mismatch"): 2}
    assert found.value("psapi_refused_deliveries_total", reason="signature_mismatch") == 2
    assert found.value("psapi_events_waiting") == 1 and found.value("psapi_events_retrying") == 1
    assert found.value("psapi_events_failed") == 2, "no handler; exit status 1"
    for kind in ("producersync.updates_available", "producersync.npn.activated", "producersync.npn.deactivated", "other"):
        assert began - 1 <= found.value("psapi_last_accepted_timestamp_seconds", type=kind) <= time.time(), kind
    assert began - 1 <= found.value("psapi_last_drain_timestamp_seconds") <= time.time()
    assert found.value("psapi_last_drain_success") == 1, "exit status 1: events failed, and none waits for a repair"
    runs = {dict(labels)["result"]: value for labels, value in found.all("psapi_handler_runs_total").items()}
    assert runs == {"done": 1, "later": 1, "failed": 2}
    assert found.value("psapi_answer_duration_seconds_count") == 7
    assert found.value("psapi_answer_duration_seconds_bucket", le="+Inf") == 7
    assert 0 < found.value("psapi_answer_duration_seconds_sum") < 60 * SLOWER
    assert -2 <= found.value("psapi_clock_skew_seconds") <= 60      # all were signed before the first was sent
    assert found.value("psapi_spool_free_bytes") > 0 and found.value("psapi_build_info", version="0.1.0") == 1
    shared = desk.place.store == "postgresql"
    assert found.value("psapi_store_synchronous_standbys") == (1 if shared else None)
    desk.drain()
    found = metrics(desk)
    assert found.value("psapi_last_drain_success") == 1
    assert found.value("psapi_handler_runs_total", result="done") == 1
    desk.deliver(signed(event("x.y", z=2)))
    desk.handler("x", "exit 126\n")
    desk.drain(expect=78)
    found = metrics(desk)
    assert found.value("psapi_last_drain_success") == 0 and found.value("psapi_events_failed") == 2


@pytest.mark.each_store
def test_held(desk):
    desk.place.write_secret("")
    with Socket(desk.place) as server:
        assert server.send(signed()).word == "held"
        server.receiver.stop()
    found = metrics(desk)
    assert found.value("psapi_events_held") == 1 and found.value("psapi_secrets") == 0


def test_our_own_test_deliveries(desk):
    """They are attempts, and say nothing of the sender."""
    with Socket(desk.place) as server:
        assert server.send(signed(updates(1), webhook_id="msg_psapi1")).status == 200
        assert server.send(signed(webhook_id="msg_psapi2", secrets=[OTHER_SECRET])).status == 401
        server.receiver.stop()
    found = metrics(desk)
    assert found.value("psapi_attempts_total", outcome="accepted", reason="") == 1
    for absent in ("psapi_refused_deliveries_total", "psapi_last_accepted_timestamp_seconds", "psapi_clock_skew_seconds"):
        assert found.all(absent) == {}, absent


def test_no_store(desk):
    """That is a number, and not silence."""
    done = desk.run("metrics")
    found = Metrics(done.stdout)
    assert found.value("psapi_store_up") == 0 and found.value("psapi_build_info", version="0.1.0") == 1
    assert "No such file" in done.stderr
    assert found.all("psapi_events_waiting") == {}


def test_shared_store_that_does_not_answer(desk, log):
    if not (desk.place.dir / "nothing").exists() and not shutil.which("psql"):
        pytest.skip("needs the module")
    env = {"PSAPI_STORE": "postgresql://nobody@127.0.0.1:1/psapi", "PSAPI_MODULE_DIR": str(desk.place.dir)}
    done = desk.run("metrics", env=env)
    assert Metrics(done.stdout).value("psapi_store_up") == 0


def test_secret_that_cannot_be_read(desk, log):
    desk.place.secret_file.chmod(0o644)
    assert metrics(desk).value("psapi_secrets") is None


# ---- several endpoints ----

def test_several_endpoints_in_one_file(desk, log):
    log.write_text(line())
    other = desk.place.dir / "agents.conf"
    spool = desk.place.dir / "second"
    shutil.copytree(log.parent, spool)
    (spool / "attempts.jsonl").write_text(line() * 3)
    for conf, path in ((desk.place.conf, log.parent), (other, spool)):
        conf.write_text(f"PSAPI_SPOOL={path}\nPSAPI_SECRET_FILE={desk.place.secret_file}\n")
    env = desk.environment()
    del env["PSAPI_SPOOL"]
    desk.environment = lambda extra=None: env
    done = desk.run("metrics", desk.place.conf, other)
    found = Metrics(done.stdout)
    assert found.value("psapi_attempts_total", outcome="accepted", reason="") == 1
    assert found.value("psapi_attempts_total", outcome="accepted", reason="", endpoint="agents") == 3
    alone = Metrics(desk.run("metrics", "-f", other).stdout, "agents")
    assert alone.help.items() <= found.help.items(), "identical HELP"
    desk.run("metrics", desk.place.conf, desk.place.dir / "missing.conf", expect=78)


@pytest.mark.parametrize("names", [("a.conf", "x/a.conf"), ("a.conf", "a.conf"), ("a.conf", "b.conf", "x/a"), ("\x80", "\x81")])
def test_two_endpoints_of_one_name(desk, log, names):
    """Prometheus refuses a series that is there twice, and with it all of the file."""
    (desk.place.dir / "x").mkdir()
    files = [desk.place.dir / name for name in names]
    for file in files:
        file.write_text("")
    done = desk.run("metrics", *files, expect=64)
    assert done.stdout == "" and "two configuration files are of an endpoint named" in done.stderr


def test_log_that_cannot_be_read(desk, log):
    """Said, and its numbers are absent."""
    log.unlink(missing_ok=True)
    log.symlink_to("/nowhere")
    done = desk.run("metrics")
    assert f"{log}: " in done.stderr and Metrics(done.stdout).all("psapi_attempts_total") == {}


def test_name_of_an_endpoint_from_outside(desk, log):
    conf = desk.place.dir / 'a"b\\c\n\x80.conf'
    conf.write_text("")
    done = desk.run("metrics", "-f", conf)
    assert 'endpoint="a\\"b\\\\c???"' in done.stdout or 'endpoint="a\\"b\\\\c??"' in done.stdout, done.stdout
    Metrics(done.stdout)


# ---- the file ----

def test_output(desk, log):
    target = desk.place.dir / "psapi.prom"
    target.write_text("old\n")
    before = target.stat().st_ino
    done = desk.run("metrics", "--output", target)
    assert (done.stdout, done.stderr) == ("", "")
    assert Metrics(target.read_text()).value("psapi_store_up") == 1
    assert target.stat().st_ino != before and stat.S_IMODE(target.stat().st_mode) == 0o644
    assert [p.name for p in desk.place.dir.glob("psapi.prom*")] == ["psapi.prom"]


def test_output_that_cannot_be_written(desk, log):
    missing = desk.place.dir / "missing" / "psapi.prom"
    assert "cannot be made" in desk.run("metrics", "--output", missing, expect=73).stderr
    target = desk.place.dir / "psapi.prom"
    target.mkdir()
    (target / "x").write_text("")
    assert "cannot be replaced" in desk.run("metrics", "--output", target, expect=73).stderr
    assert [p.name for p in desk.place.dir.glob("psapi.prom*")] == ["psapi.prom"]
    desk.run("metrics", "--output", "", expect=64)
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            child = desk.start("metrics", stdout=full)
            assert "cannot be written" in child.communicate(timeout=20)[1] and child.returncode == 74


def has_open(child, path):
    return path in [fd.readlink() for fd in Path(f"/proc/{child.pid}/fd").iterdir()]


def names(desk):
    return sorted(path.name for path in desk.place.dir.glob("psapi.prom*"))


@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_output_of_a_run_that_is_killed(desk, log, number):
    """However often, it leaves one file at most, and the next run uses that."""
    if strace.why_not():
        pytest.skip(strace.why_not())
    target = desk.place.dir / "psapi.prom"
    under = (*strace.UNDER, "-o", "/dev/null", "-e", f"inject=fchmod:signal={number}:error=EINTR")
    for _ in range(3):
        desk.run("metrics", "--output", target, under=under, expect=None)
        assert names(desk) in ([], ["psapi.prom.new"])
    desk.run("metrics", "--output", target)
    assert names(desk) == ["psapi.prom"] and Metrics(target.read_text()).value("psapi_store_up") == 1


def test_output_of_two_at_once(desk, log):
    """One waits for the other; each file is whole."""
    target, draft = desk.place.dir / "psapi.prom", desk.place.dir / "psapi.prom.new"
    with open(draft, "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("x" * 100000)
        file.flush()
        child = desk.start("metrics", "--output", target)
        wait_for(lambda: has_open(child, draft), "it waits for the lock")
        assert not target.exists()
        draft.rename(target)
        assert child.poll() is None
    assert child.wait(30) == 0
    assert Metrics(target.read_text()).value("psapi_store_up") == 1
    assert names(desk) == ["psapi.prom"]


def test_output_over_what_is_there(desk, log):
    """A link at the name of the draft is not followed; a file of another user is removed, not used."""
    target, draft, elsewhere = (desk.place.dir / name for name in ("psapi.prom", "psapi.prom.new", "elsewhere"))
    elsewhere.write_text("precious")
    draft.symlink_to(elsewhere)
    assert "psapi.prom.new: cannot be made" in desk.run("metrics", "--output", target, expect=73).stderr
    assert elsewhere.read_text() == "precious"
    draft.unlink()
    os.mkfifo(draft)
    desk.run("metrics", "--output", target, expect=None)
    draft.unlink(missing_ok=True)
    if os.geteuid() == 0:
        draft.write_text("theirs")
        os.chown(draft, 65534, 65534)
        desk.run("metrics", "--output", target)
        assert target.stat().st_uid == 0 and names(desk) == ["psapi.prom"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things away")
def test_output_as_root(desk, log):
    """The file is root's, in a directory of root's; the notes in the spool are its owner's."""
    for path in [log.parent, *log.parent.iterdir(), desk.place.secret_file]:
        os.chown(path, 65534, 65534)
    log.write_text(line())
    os.chown(log, 65534, 65534)
    target = desk.place.dir / "psapi.prom"
    desk.run("metrics", "--output", target)
    assert Metrics(target.read_text()).value("psapi_attempts_total", outcome="accepted", reason="") == 1
    note = log.parent / "state" / "metrics"
    assert note.stat().st_uid == 65534 and stat.S_IMODE(note.stat().st_mode) == 0o640


# ---- rotation ----

def rename(log):
    log.rename(log.with_name("attempts.jsonl.1"))


def dateext(log):
    log.rename(log.with_name("attempts.jsonl-20260131"))


def copytruncate(log):
    shutil.copy(log, log.with_name("attempts.jsonl.1"))
    os.truncate(log, 0)


@pytest.mark.parametrize("rotate", [rename, dateext, copytruncate])
def test_rotation_between_two_runs(desk, log, rotate):
    now = time.time() - 100
    log.write_text(line(now) + line(now + 1))
    assert attempts(metrics(desk)) == {"accepted": 2}
    with open(log, "a") as more:
        more.write(line(now + 2))
    rotate(log)
    assert attempts(metrics(desk)) == {"accepted": 3}, "the new log is still empty"
    with open(log, "a") as more:
        more.write(line(now + 3) + line(now + 4))
    assert attempts(metrics(desk)) == {"accepted": 5}
    assert attempts(metrics(desk)) == {"accepted": 5}


@pytest.mark.parametrize("rotate", [rename, copytruncate])
def test_two_rotations_between_two_runs(desk, log, rotate):
    now = time.time() - 100
    log.write_text(line(now))
    assert attempts(metrics(desk)) == {"accepted": 1}
    with open(log, "a") as more:
        more.write(line(now + 1))
    rotate(log)
    log.with_name("attempts.jsonl.1").rename(log.with_name("attempts.jsonl.2"))
    log.write_text(line(now + 2))
    rotate(log)
    log.write_text(line(now + 3))
    assert attempts(metrics(desk)) == {"accepted": 4}


def test_compressed_at_once(desk, log):
    """Without delaycompress the lines since the last run are lost; nothing is counted twice."""
    now = time.time() - 100
    log.write_text(line(now) + line(now + 1))
    assert attempts(metrics(desk)) == {"accepted": 2}
    with open(log, "a") as more:
        more.write(line(now + 2))
    with gzip.open(log.with_name("attempts.jsonl.1.gz"), "wb") as packed:
        packed.write(log.read_bytes())
    log.write_text(line(now + 3))
    assert attempts(metrics(desk)) == {"accepted": 3}
    assert attempts(metrics(desk)) == {"accepted": 3}


def test_log_edited_by_hand(desk, log):
    """Lines of a day taken out: the rest is not counted again."""
    now = time.time() - 100
    log.write_text(line(now) + line(now + 1) + line(now + 2))
    assert attempts(metrics(desk)) == {"accepted": 3}
    log.write_text(line(now + 1) + line(now + 2) + line(now + 3))
    assert attempts(metrics(desk)) == {"accepted": 4}


def test_log_removed(desk, log):
    log.write_text(line())
    assert attempts(metrics(desk)) == {"accepted": 1}
    log.unlink()
    assert attempts(metrics(desk)) == {"accepted": 1}
    log.write_text(line(time.time() + 1))
    assert attempts(metrics(desk)) == {"accepted": 2}


def test_line_that_is_being_written(desk, log):
    whole = line()
    log.write_text(whole + whole[:40])
    assert attempts(metrics(desk)) == {"accepted": 1}
    log.write_text(whole * 2)
    assert attempts(metrics(desk)) == {"accepted": 2}


def test_many_runs_at_once(desk, log):
    log.write_text("".join(line(time.time() - 1000 + i / 100) for i in range(20000)))
    runs = [desk.start("metrics") for _ in range(8)]
    for run in runs:
        out, error = run.communicate(timeout=60)
        assert run.returncode == 0 and error == ""
        assert attempts(Metrics(out)) == {"accepted": 20000}


def test_note_that_is_damaged_or_cannot_be_written(desk, log):
    note = log.parent / "state" / "metrics"
    log.write_text(line() * 2)
    for text in ("", "{", "[]", '{"log":1,"attempts":[[1,2],{}],"skews":[1,2,3,4,5,6,7,8]}', "\0" * 5000, "x" * 100000):
        note.write_text(text)
        assert attempts(metrics(desk)) == {"accepted": 2}, text[:20]
    note.unlink()
    note.mkdir()    # as if it could not be replaced
    for _ in range(2):
        assert attempts(metrics(desk)) == {"accepted": 2}


# ---- clocks ----

def test_clock_that_steps(desk, log):
    """Back: lines are older than those that were counted, and are counted. Forward: a time in the future is none."""
    now = time.time()
    log.write_text(line(now + 86400 * 400, type="producersync.updates_available"))
    found = metrics(desk)
    assert attempts(found) == {"accepted": 1}
    assert found.value("psapi_last_accepted_timestamp_seconds", type="producersync.updates_available") <= time.time() + 1
    with open(log, "a") as more:
        more.write(line(now - 86400) + line(now - 86300))
    assert attempts(metrics(desk)) == {"accepted": 3}
    rename(log)
    log.write_text(line(now - 86200))
    assert attempts(metrics(desk)) == {"accepted": 4}


def test_skew_is_a_median(desk, log):
    log.write_text("".join(line(skew_s=skew) for skew in (9, 9, 9, 100, -3, 2, 1, 900)))
    assert metrics(desk).value("psapi_clock_skew_seconds") == 2


def test_durations(desk, log):
    log.write_text("".join(line(ms=ms) for ms in (0.999, 1.0, 1.001, 49.9, 7000.25)))
    found = metrics(desk)
    assert found.value("psapi_answer_duration_seconds_bucket", le="0.001") == 2
    assert found.value("psapi_answer_duration_seconds_bucket", le="0.0025") == 3
    assert found.value("psapi_answer_duration_seconds_bucket", le="0.05") == 4
    assert found.value("psapi_answer_duration_seconds_bucket", le="5") == 4
    assert found.value("psapi_answer_duration_seconds_sum") == pytest.approx(7.05315)


# ---- text from outside ----

HOSTILE = ['"} 1\n# HELP x', "a\\", "é\u2028", "\x1b[31m", "x" * 300, "npn_123456789", "%n%s", "{}"]


def test_hostile_types_and_ids(desk):
    for text in HOSTILE:
        desk.deliver(signed(event(text, npn="1234567"), webhook_id="msg_" + text.encode().hex()[:60]))
    found = metrics(desk)
    types = {dict(labels)["type"] for labels in found.all("psapi_last_accepted_timestamp_seconds")}
    assert types == {"other"}, "no type of a sender's becomes a label"


def test_hostile_log(desk, log):
    """A log that somebody else has written: no words but ours, and not many."""
    log.write_text(line() + "".join(line(outcome=text, reason=text) for text in HOSTILE) +
                   "".join(line(outcome="rejected", reason="r" + "abcdefgh"[i % 8] * (i // 8 + 1)) for i in range(200)) +
                   "{\n[]\n\n" + '{"at":"x"}\n' + "\0" * 300 + "\n" + line(suppressed=7, ms=-5) + line(ms="x"))
    found = metrics(desk)
    assert found.value("psapi_attempts_total", outcome="accepted", reason="") == 3
    assert found.value("psapi_attempts_total", outcome="other", reason="other") > 0
    assert len(found.all("psapi_attempts_total")) <= 64
    assert found.value("psapi_attempts_suppressed_total") == 7
    assert metrics(desk).all("psapi_attempts_total") == found.all("psapi_attempts_total")


# ---- drain's notes ----

def test_a_long_drain_is_at_work(desk):
    """Its note is renewed while a handler runs: each 10 s."""
    desk.handler("default", 'read line <"$PSAPI_TOLD/gate"\n')
    desk.gate("gate")
    desk.deliver(signed(body(1)))
    child = desk.start("drain")
    first = None
    end = time.monotonic() + 25
    while time.monotonic() < end:
        value = metrics(desk).value("psapi_last_drain_timestamp_seconds")
        first = first or value
        if first is not None and value > first + 8:
            break
        time.sleep(0.5)
    assert value > first + 8, "the note was not renewed"
    desk.open_gate("gate")
    assert child.wait(20) == 0
    assert metrics(desk).value("psapi_handler_runs_total", result="done") == 1


def deliver_for_a_batch(desk, script, count):
    """A batch handler, and so many events for it. Returns their webhook-ids."""
    batch = desk.place.dir / "batch.d"
    batch.mkdir()
    desk.place.settings["PSAPI_BATCH_HANDLERS"] = batch
    handler = batch / "producersync.npn"
    handler.write_text("#!/bin/sh\ncat >/dev/null\n" + script)
    handler.chmod(0o755)
    return desk.deliver(*(signed(body(number, npn=f"10{number}")) for number in range(1, count + 1)))


def runs(desk):
    return {dict(labels)["result"]: value for labels, value in metrics(desk).all("psapi_handler_runs_total").items()}


@pytest.mark.each_store
def test_results_of_a_batch(desk):
    """Each event of it counts, not the process."""
    deliver_for_a_batch(desk, "echo ok 1\necho later 2\necho failed 3 because\n", 3)
    desk.drain(expect=None)
    assert runs(desk) == {"done": 1, "later": 1, "failed": 1}


@pytest.mark.each_store
@pytest.mark.parametrize("noted", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_result_that_becomes_worse(desk, noted):
    """The event counts once, as the worse one. A total that was noted, as each 10 s, does not go down: it waits for more."""
    desk.gate("gate")
    ids = deliver_for_a_batch(desk, """echo ok 1; echo ok 2; echo ok 3; echo later 4; read line <"$PSAPI_TOLD/gate"
        echo failed 1; echo later 2; echo failed 4; echo ok 5\n""", 5)
    child = desk.start("drain")
    wait_for(lambda: desk.where(ids[2]) == ["events"] and "state" in desk.where(ids[3]), "the first results are recorded")
    if noted:
        wait_for(lambda: runs(desk) == {"done": 3, "later": 1}, "they are noted", 20)
    desk.open_gate("gate")
    assert child.wait(20) == 1
    assert runs(desk) == {"done": 3 if noted else 2, "later": 1, "failed": 2}


@pytest.mark.each_store
@pytest.mark.parametrize("command, done", [(["prune", "--older-than", "0d", "--force"], 1), (["replay"], 2)])
def test_a_result_that_becomes_worse_too_late(desk, command, done):
    """Another program has moved the event since: its first result counts, and one that was put back is handled again."""
    if desk.place.store == "spool":
        pytest.skip("a drain has the whole spool")
    desk.gate("gate")
    ids = deliver_for_a_batch(desk, """echo ok 1; test ! -e "$PSAPI_TOLD/seen" || exit 0
        echo run >"$PSAPI_TOLD/seen"; read line <"$PSAPI_TOLD/gate"; echo failed 1\n""", 1)
    child = desk.start("drain")
    wait_for(lambda: desk.lines() and desk.where(ids[0]) == ["events"], "the first result is recorded")
    desk.run(*command, *(ids if command == ["replay"] else []))
    desk.open_gate("gate")
    assert child.wait(20) == 0
    desk.drain_silently()
    assert runs(desk) == {"done": done}
    assert desk.where(ids[0]) == (["events"] if done == 2 else [])


@pytest.mark.each_store
def test_two_drains_of_one_host(desk):
    """Results are added, not replaced."""
    desk.handler("default", NOTE)
    for number in range(3):
        desk.deliver(signed(body(number)))
        desk.drain_silently()
    assert metrics(desk).value("psapi_handler_runs_total", result="done") == 3
