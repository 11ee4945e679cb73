"""Handlers for many events at once: the protocol, whatever a handler does with it, on both stores.

A batch handler gets its events as JSON Lines and answers with a line for each. What it does not report is never done.
"""

import json
import os
import re
import signal

import pytest

from psapi_command import NOTE, STOPPED, Desk, body, updates
from receiver import wait_for
from sender import event, signed

pytestmark = pytest.mark.each_store

# Beginnings of handlers. They count their runs and keep what they read, all lines of all runs.
SEEN = 'tee -a "$PSAPI_TOLD/lines" >"$PSAPI_TOLD/now"; echo run >>"$PSAPI_TOLD/runs"\n'
COUNT = SEEN + 'echo ok all $(wc -l <"$PSAPI_TOLD/now")\n'


@pytest.fixture
def desk(place):
    desk = Desk(place)
    desk.batches = place.dir / "batch.d"
    desk.batches.mkdir(mode=0o755)
    place.settings["PSAPI_BATCH_HANDLERS"] = desk.batches
    yield desk
    for pid in desk.lines("pids"):       # processes that outlive their handler on purpose
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    desk.close()


def batch_handler(desk, script, name="default"):
    desk.handlers, singles = desk.batches, desk.handlers
    try:
        return desk.handler(name, script)
    finally:
        desk.handlers = singles


def deliver(desk, count=5):
    """Events e1, e2 ... of as many lanes, in this order."""
    return desk.deliver(*(signed(body(n, str(100 + n)), f"e{n}") for n in range(1, count + 1)))


def lines(desk):
    return [json.loads(line) for line in desk.lines("lines")]


def ids_of(desk):
    return [line["id"] for line in lines(desk)]


def done(desk, ids):
    return [one for one in ids if desk.where(one) == ["events"]]


def later(desk, ids):
    return [one for one in ids if desk.where(one) == ["new", "events", "state"]]


def assert_outcome(desk, ids, finished=(), failed=()):
    """Exactly these are done or failed, and all others wait for their retry."""
    assert done(desk, ids) == list(finished)
    assert [one for one in ids if "failed" in desk.where(one)] == list(failed)
    waiting = [one for one in ids if one not in finished and one not in failed]
    assert later(desk, ids) == waiting
    assert all(desk.state(one)["tries"] == 1 for one in waiting)


# ---- what it gets ----

def test_input(desk):
    """One process; each event as it was signed, but for line breaks, with what the environment says otherwise."""
    batch_handler(desk, SEEN + 'env >"$PSAPI_TOLD/env"; echo "$#" >"$PSAPI_TOLD/arguments"\necho ok all 3\n')
    pretty = json.dumps({"type": "x.y", "data": {"npn": "7", "x": 1}, "timestamp": "2025-07-25T00:00:02.000Z"},
                        indent=1).replace("\n", "\r\n").replace("1", "1.10").encode()
    ids = desk.deliver(signed(body(3, "9"), "late"), signed(body(1, "8"), "early"), signed(pretty, "pretty"))
    desk.drain_silently()
    assert desk.lines("runs") == ["run"] and desk.lines("arguments") == ["0"]
    assert done(desk, ids) == ids
    raw = desk.lines("lines")
    assert [json.loads(line)["n"] for line in raw] == [1, 2, 3]
    assert [json.loads(line)["id"] for line in raw] == ["early", "pretty", "late"]
    for line, signed_bytes in zip(raw, (body(1, "8"), pretty, body(3, "9"))):
        assert line.encode().endswith(b',"event":' + signed_bytes.replace(b"\r", b" ").replace(b"\n", b" ") + b"}")
    first = json.loads(raw[0])
    assert desk.spool.path_for_a_handler(first.pop("file"), "early")
    assert first == {"n": 1, "id": "early", "type": "producersync.npn.activated", "npn": "8", "try": 1,
                     "timestamp": "2025-07-25T00:00:01.000Z", "event": json.loads(body(1, "8"))}
    names = {line.split("=")[0] for line in desk.lines("env")}
    assert "PSAPI_TOLD" in names
    assert not names & {"PSAPI_WEBHOOK_ID", "PSAPI_EVENT_TYPE", "PSAPI_NPN", "PSAPI_TRY", "PSAPI_BATCH"}


def test_the_file_is_there(desk):
    """With the event and its evidence, for the time of the run; it may be gone afterwards."""
    batch_handler(desk, r"""#!/usr/bin/python3
import json, sys
n = 0
for line in sys.stdin:
    n += 1
    one = json.loads(line)
    with open(one["file"]) as file:
        whole = json.load(file)
    assert whole["webhook_id"] == one["id"] and whole["event"] == one["event"]
print("ok all", n)
""")
    ids = deliver(desk)
    desk.drain_silently()
    assert done(desk, ids) == ids


def test_try_is_counted(desk):
    batch_handler(desk, SEEN + "exit 75\n")
    deliver(desk, 1)
    desk.drain_silently()
    desk.write_state("e1", tries=1, due_in=-1)
    desk.drain_silently()
    assert [line["try"] for line in lines(desk)] == [1, 2]


def test_invalid_event_of_an_operator(desk):
    """A dead letter that is no JSON can be retried: it comes as base64, as in its file."""
    batch_handler(desk, COUNT)
    (webhook_id,) = desk.deliver(signed(b"no json"))
    desk.run("retry", webhook_id)
    desk.drain_silently()
    assert lines(desk)[0]["event"] is None and lines(desk)[0]["body_base64"] == "bm8ganNvbg=="


# ---- how many ----

def test_limits(desk):
    """PSAPI_BATCH events at most, and it never waits to fill a batch."""
    batch_handler(desk, COUNT)
    ids = deliver(desk, 7)
    desk.drain("-v", env={"PSAPI_BATCH": "3"})
    assert len(desk.lines("runs")) == 3 and done(desk, ids) == ids
    assert [line["n"] for line in lines(desk)] == [1, 2, 3, 1, 2, 3, 1]
    assert ids_of(desk) == ids


@pytest.mark.spool_only("drain counts them, whatever the store is")
def test_a_batch_of_bytes(desk):
    """8 MiB at most, but a single event may be longer."""
    batch_handler(desk, COUNT)
    desk.place.settings["PSAPI_MAX_BODY"] = str(16 << 20)
    sizes = [5 << 20, 2 << 20, 2 << 20, 9 << 20, 1]
    desk.deliver(*(signed(body(n, str(n), note="x" * size), f"e{n}") for n, size in enumerate(sizes)))
    desk.drain_silently()
    numbers = [line["n"] for line in lines(desk)]
    assert sorted(ids_of(desk)) == [f"e{n}" for n in range(5)]
    batches = [[]]
    for line in lines(desk):
        if line["n"] == 1 and batches[-1]:
            batches.append([])
        batches[-1].append(sizes[int(line["id"][1:])])
    assert all(len(one) == 1 or sum(one) < 8 << 20 for one in batches) and len(batches) == 4, numbers


@pytest.mark.spool_only("no store is concerned")
def test_command_with_batch(desk):
    """--batch N -- CMD: no handler is asked, and the command gets its arguments."""
    desk.handler("default", "exit 1\n")
    ids = deliver(desk, 5)
    desk.drain_silently("--batch", "2", "--", "sh", "-c", COUNT + 'echo "$0 $*" >>"$PSAPI_TOLD/seen"', "zero", "one")
    assert desk.lines() == ["zero one"] * 3 and done(desk, ids) == ids
    assert "--batch needs a command" in desk.drain("--batch", "5", expect=64).stderr
    assert "--batch takes a number from 1 to 10000" in desk.drain("--batch", "0", "--", "true", expect=64).stderr


# ---- which handler ----

def test_the_more_specific_of_both(desk):
    desk.handler("producersync.npn.activated", NOTE + 'echo single >>"$PSAPI_TOLD/single"\n')
    desk.handler("default", NOTE + 'echo single >>"$PSAPI_TOLD/single"\n')
    batch_handler(desk, COUNT, "producersync")
    single = deliver(desk, 3) + desk.deliver(signed(event("other.kind", x=1), "o"))
    many = desk.deliver(signed(updates(4), "u"), *(
        signed(body(n, str(n), "producersync.npn.deactivated"), f"d{n}") for n in range(5, 8)))
    desk.drain_silently()
    assert sorted(desk.lines()) == sorted(single) and len(desk.lines("single")) == 4
    assert ids_of(desk) == many, "one batch, although they came between others"
    assert desk.lines("runs") == ["run"]


def test_several_batch_handlers(desk):
    """Events of other handlers that come between do not make batches small."""
    batch_handler(desk, 'sed "s/^/a /" >>"$PSAPI_TOLD/a"; echo ok all 6\n', "producersync.npn.activated")
    batch_handler(desk, 'sed "s/^/d /" >>"$PSAPI_TOLD/d"; echo ok all 6\n', "producersync.npn.deactivated")
    kinds = ("producersync.npn.activated", "producersync.npn.deactivated")
    ids = desk.deliver(*(signed(body(n, str(n), kinds[n % 2]), f"e{n:02}") for n in range(12)))
    desk.drain_silently()
    assert done(desk, ids) == ids
    assert len(desk.lines("a")) == len(desk.lines("d")) == 6


def test_same_name_in_both(desk):
    """Nobody knows which one is meant: its events wait, and doctor says it, too. A more specific one is not concerned."""
    desk.handler("producersync", NOTE)
    batch_handler(desk, COUNT, "producersync")
    desk.handler("producersync.updates_available", NOTE)
    ids = deliver(desk, 2) + desk.deliver(signed(updates(9), "u"))
    done_ = desk.drain(expect=78)
    assert f"refused: producersync: is in {desk.place.settings['PSAPI_HANDLERS']} and in {desk.batches}" in done_.stderr
    assert desk.lines() == ["u"] and desk.lines("runs") == []
    assert [desk.where(one) for one in ids[:2]] == [["new", "events"]] * 2
    found = desk.run("doctor", expect=None).stdout
    assert "producersync: is in" in found


def handlers_row(desk):
    done_ = desk.run("doctor", "--json", expect=None)
    return {row["check"]: row for row in map(json.loads, done_.stdout.splitlines())}["handlers"]


@pytest.mark.spool_only("no store is concerned")
@pytest.mark.parametrize("name, fault", [("README", False), ("lib", False), ("x~", False), ("helper.sh", False),
                                         ("default.bak", False), ("id.producer", True), ("other", True)])
def test_other_names_in_both(desk, name, fault):
    """A name that no event selects is no conflict."""
    desk.handler("default", NOTE)
    batch_handler(desk, COUNT, "producersync.npn")
    for directory in (desk.handlers, desk.batches):
        if name == "lib":
            (directory / name).mkdir(mode=0o755)
        else:
            (directory / name).write_text("#!/bin/sh\n")
            (directory / name).chmod(0o644 if name == "README" else 0o755)
    row = handlers_row(desk)
    assert row["ok"] is not fault, row
    assert (f"{name}: is in {desk.handlers} and in {desk.batches}" in row["text"]) is fault, row


@pytest.mark.spool_only("no store is concerned")
def test_no_directory(desk):
    """The default one need not exist; one that is named must."""
    desk.handler("default", NOTE)
    ids = deliver(desk, 1)
    os.rmdir(desk.batches)
    assert "batch.d" in desk.drain(expect=78).stderr
    assert desk.where("e1") == ["new", "events"]
    os.mkdir(desk.batches)
    desk.drain_silently()
    assert desk.lines() == ids


@pytest.mark.spool_only("no store is concerned")
def test_not_trusted(desk):
    batch_handler(desk, COUNT).chmod(0o777)
    ids = deliver(desk)
    assert "refused" in desk.drain(expect=78).stderr
    assert [desk.where(one) for one in ids] == [["new", "events"]] * 5
    (desk.batches / "default").chmod(0o755)
    desk.drain_silently()
    assert done(desk, ids) == ids


# ---- what it answers ----

RESULTS = [     # what the handler does; which of e1 to e5 are done; which have failed; drain's exit status
    (r"printf 'ok 1\nok 3\nlater 2 no room\nfailed 5 no such NPN\n'", ["e1", "e3"], ["e5"], 1),
    (r"printf 'ok 1\r\nok 2\r\nfailed 3 x\r\n'", ["e1", "e2"], ["e3"], 1),
    (r"printf 'ok 1\nok 2'", ["e1", "e2"], [], 0),                      # no last newline
    (r"printf 'ok 2\nok 1'; kill -9 $$", ["e2"], [], 0),                # it may have begun to write 12
    (r"printf 'ok 2\nfailed 1'; kill -9 $$", ["e2"], [], 0),
    (r"printf 'ok 2\nok 1'; exit 137", ["e2"], [], 0),                  # as a shell whose child was killed
    (r"printf 'ok 2\nok 1'; exit 75", ["e2"], [], 0),
    (r"printf 'ok 2\nok 1'; sleep 1 & exit 0", ["e2"], [], 0),          # that process may write the rest
    (r"printf 'ok 1\nok all 5'; kill -9 $$", ["e1"], [], 0),
    (r"printf 'ok 1\nok all 5'", ["e1", "e2", "e3", "e4", "e5"], [], 0),
    (r"printf 'later 2\nok all 5\n'", ["e1", "e3", "e4", "e5"], [], 0), # the worse wins
    (r"printf 'ok all 4\n'", [], [], 78),
    (r"printf 'ok all 6\n'", [], [], 78),
    (r"printf 'ok all 5 x\n'", [], [], 78),
    (r"printf 'ok all 5\nok all 5\n'", ["e1", "e2", "e3", "e4", "e5"], [], 0),
    (r"printf 'ok 1\nok 1\nok 1\n'", ["e1"], [], 0),
    (r"printf 'ok 1\nok 0\nok 6\nok 99999999999999999999\n'", ["e1"], [], 78),
    (r"printf 'ok 1\nok\nok 2x\n'", ["e1"], [], 78),
    (r"printf 'ok 0\nfailed 1\n'", [], ["e1"], 78),                     # both: what waits is not hidden
    (r"printf 'ok 1 2\nok 3\n'", ["e3"], [], 78),
    (r"printf 'ok 1\nlater 1\nok 1\n'", [], [], 0),
    (r"printf 'ok 1\nfailed 1 after all\nlater 1\nok 1\n'", [], ["e1"], 1),
    (r"printf 'ok 2\n'; sleep 0.1; printf 'failed 2 after all\n'", [], ["e2"], 1),
    (r"printf 'ok all 5\n'; sleep 0.1; printf 'later 4\n'", ["e1", "e2", "e3", "e5"], [], 0),
    (r"printf 'ok 2\n'; sleep 0.1; printf 'ok 2 x\n'", [], [], 78),     # malformed, and names it: later
    (r"printf 'later 1\nfailed 1 worse\n'", [], ["e1"], 1),
    ("exit 0", [], [], 0),                                              # reads nothing
    ("head -n 2 >/dev/null; echo ok 1; echo ok 2", ["e1", "e2"], [], 0),
    ("head -c 100 >/dev/null", [], [], 0),
    ("head -c 100000 /dev/urandom | base64", [], [], 0),                # garbage
    ("exec >&-; cat >/dev/null", [], [], 0),
    ("cat >/dev/null; echo ok 1; exec >&-; sleep 0.1", ["e1"], [], 0),
    ("echo ok 1; exit 75", ["e1"], [], 0),
    ("echo ok 1; kill -9 $$", ["e1"], [], 0),
    ("echo ok 1; exit 1", ["e1"], [], 0),
    ("echo ok 1; no-such-program; exit 127", ["e1"], [], 78),
    ("while read line; do cat >/dev/null; echo ok 1; done", ["e1"], [], 0),   # as ssh in a loop eats standard input
]


def test_results(desk):
    """Not reported is never done; a malformed or unknown result is not one, and drain exits with 78."""
    seeds = deliver(desk)
    rows = RESULTS[::6] if hasattr(desk.spool, "sql") else RESULTS      # each look at it is a process there
    for row, (script, finished, failed, status) in enumerate(rows):
        ids = [f"{row}{one}" for one in seeds] if row else seeds
        for seed, one in zip(seeds, ids):
            if row:
                desk.copy(seed, one)
        batch_handler(desk, script + "\n")
        run = desk.drain(expect=status)
        where = {one: desk.where(one) for one in ids}
        assert [one[-2:] for one in ids if where[one] == ["events"]] == finished, (script, run)
        assert [one[-2:] for one in ids if "failed" in where[one]] == failed, (script, run)
        broken = "127" in script        # then no try counts
        waiting = [one for one in ids if "new" in where[one]]
        assert len(waiting) == 5 - len(finished) - len(failed)
        for one in waiting[:1]:
            assert desk.state(one)["tries"] == (0 if broken else 1), (script, run)
        if row < len(rows) - 1:
            desk.run("done", *waiting, expect=None)


def test_reasons(desk):
    """What the handler says is kept, and shown; of what it does not report, its end and its standard error."""
    batch_handler(desk, r"echo so not >&2; printf 'later 1 no room\nfailed 2 no \033[31msuch NPN\nlater 3\n'; exit 75" "\n")
    deliver(desk, 4)
    run = desk.drain(expect=1)
    assert desk.state("e1")["reason"] == "reported as later: no room, try 1 of at most 10"
    assert desk.state("e2")["reason"].startswith("reported as failed: no \x1b[31msuch NPN")
    assert desk.state("e3")["reason"] == "reported as later, try 1 of at most 10"
    assert desk.state("e4")["reason"] == "not reported: exit status 75, try 1 of at most 10"
    assert desk.state("e4")["stderr"] == "so not\n" and "stderr" not in desk.state("e1")
    assert r"failed: e2 (producersync.npn.activated): reported as failed: no \x1b[31msuch" in run.stderr
    assert "\x1b" not in run.stderr and "not reported" not in run.stderr
    assert all(desk.state(f"e{n}")["handler"] == str(desk.batches / "default") for n in range(1, 5))


@pytest.mark.spool_only("no store is concerned")
def test_other_lines_are_output(desk):
    """As it is, also what is no text, or long; a result in it is none."""
    text = "hello\\n ok 1\\nOK 1\\nokay\\n\\n\\001\\377\\n"
    batch_handler(desk, f"printf '{text}'; head -c 5000 /dev/zero | tr '\\0' x; echo; echo ok all 5; printf end\n")
    ids = deliver(desk)
    out = desk.place.dir / "out"
    with out.open("wb") as file:
        assert desk.start("drain", stdout=file).wait(60) == 0
    assert out.read_bytes() == b"hello\n ok 1\nOK 1\nokay\n\n\1\377\n" + b"x" * 5000 + b"\nend"
    assert done(desk, ids) == ids


@pytest.mark.spool_only("no store is concerned")
def test_a_protocol_error_is_told_once(desk):
    batch_handler(desk, r"printf 'failed to connect\nfailed to write\n\033[31m'; printf 'ok\033[31m 1\nok \033[31m\n'" "\n")
    deliver(desk, 2)
    run = desk.drain(expect=78)
    assert run.stderr.count("malformed result") == 1 and '"failed to connect"' in run.stderr
    assert run.stderr.endswith(": psapi-handlers(7) has the protocol of batches; "
                               "events without a valid result are tried again later\n")


@pytest.mark.spool_only("no store is concerned")
def test_a_handler_that_cannot_work(desk):
    batch_handler(desk, "no-such-program\n")
    deliver(desk, 2)
    run = desk.drain(expect=78)
    assert "exit status 127" in run.stderr and run.stderr.endswith("; its events wait until that is fixed\n")


@pytest.mark.spool_only("no store is concerned")
def test_a_long_text_is_cut(desk):
    batch_handler(desk, "echo failed 1 $(head -c 50000 /dev/zero | tr '\\0' y); echo ok 2\n")
    deliver(desk, 2)
    desk.drain(expect=1)
    assert desk.where("e2") == ["events"]
    assert 100 < len(desk.state("e1")["reason"]) < 256


# ---- its end ----

def test_status_alone(desk):
    """Another exit status: all that was not reported is later, each alone; only then it goes to failed/."""
    batch_handler(desk, SEEN + """ids=$(cat "$PSAPI_TOLD/now")
        case $ids in *'"id":"e3"'*) echo bad e3 >&2; exit 9;; esac
        echo ok all $(wc -l <"$PSAPI_TOLD/now")\n""")
    ids = deliver(desk)
    desk.drain_silently()
    assert later(desk, ids) == ids and desk.lines("runs") == ["run"]
    assert desk.state("e1")["reason"] == "not reported: exit status 9, try 1 of at most 10; alone next time"
    for one in ids:
        due(desk, one)
    run = desk.drain(expect=1)
    assert len(desk.lines("runs")) == 6
    assert [line["n"] for line in lines(desk)[5:]] == [1] * 5
    assert done(desk, ids) == ["e1", "e2", "e4", "e5"]
    assert desk.state("e3")["reason"] == "not reported: exit status 9, try 2 of at most 10"
    assert "bad e3" in run.stderr
    desk.run("retry", "e3")
    deliver_more = desk.deliver(signed(body(30, "30"), "f1"))
    batch_handler(desk, COUNT)
    desk.drain_silently()
    assert [line["n"] for line in lines(desk)[-2:]] == [1, 2], "and after a retry it is as new"
    assert done(desk, deliver_more) == deliver_more


def due(desk, webhook_id):
    """Its retry is due; all else of its state stays."""
    if hasattr(desk.spool, "sql"):
        desk.spool.sql(f"UPDATE psapi_queue SET due_at = now() - interval '1 s' WHERE name = '{webhook_id}.json'")
        return
    path = desk.spool.path / "state" / f"{webhook_id}.json"
    state = json.loads(path.read_text())
    del state["due_at"]
    path.write_text(json.dumps(state))


def test_a_batch_of_one_is_alone(desk):
    batch_handler(desk, "exit 9\n")
    deliver(desk, 1)
    desk.drain(expect=1)
    assert desk.state("e1")["reason"] == "not reported: exit status 9, try 1 of at most 10"


def test_last_try_is_alone(desk):
    """An event whose neighbour ends the handler each time is not failed with it."""
    batch_handler(desk, SEEN + """grep -q '"id":"e2"' "$PSAPI_TOLD/now" && kill -9 $$
        echo ok all $(wc -l <"$PSAPI_TOLD/now")\n""")
    ids = deliver(desk, 3)
    desk.drain(env={"PSAPI_MAX_TRIES": "2"})
    assert later(desk, ids) == ids
    for one in ids:
        due(desk, one)
    desk.drain(env={"PSAPI_MAX_TRIES": "2"}, expect=1)
    assert done(desk, ids) == ["e1", "e3"] and "failed" in desk.where("e2")
    assert "ended by signal 9" in desk.state("e2")["reason"]


def test_killed_after_k_results(desk):
    """And anywhere in the next one. Results count as they arrive; a part of a line is none: "ok 1" of "ok 12"."""
    text = "ok 12\nfailed 13\nok 14\n"
    seeds = deliver(desk, 14)
    for cut in range(0, len(text) + 1, 5 if hasattr(desk.spool, "sql") else 1):     # each look at it is a process there
        ids = [f"{cut}{one}" for one in seeds] if cut else seeds
        for seed, one in zip(seeds, ids if cut else []):
            desk.copy(seed, one)
        whole = text[:cut].count("\n")
        written = text[:cut].replace("\n", "\\n")
        batch_handler(desk, f"cat >/dev/null; printf '{written}'; kill -9 $$\n")
        desk.drain(expect=1 if whole >= 2 else 0)
        assert_outcome(desk, ids, [ids[n] for n in (11, 13)[:(whole + 1) // 2]], [ids[12]] if whole >= 2 else [])
        desk.run("done", *(one for one in ids if "new" in desk.where(one)))


def test_results_count_as_they_arrive(desk):
    """While the handler runs: drain is killed then, and nothing that was reported comes again."""
    desk.gate("gate")
    batch_handler(desk, SEEN + 'echo $$ >>"$PSAPI_TOLD/pids"\necho ok 2\necho later 3 full\nread line <"$PSAPI_TOLD/gate"\n')
    ids = deliver(desk)
    child = desk.start("drain")
    wait_for(lambda: desk.where("e2") == ["events"] and later(desk, ["e3"]), "both are recorded")
    child.kill()
    child.wait()
    assert desk.where("e1") == ["new", "events"]
    desk.wait_for_unlock()
    batch_handler(desk, COUNT)
    desk.drain_silently()
    assert ids_of(desk) == ids + ["e1", "e4", "e5"]
    assert done(desk, ids) == ["e1", "e2", "e4", "e5"]


def test_a_program_that_reports_nothing_is_told_of(desk):
    """It ends well, and its events come again and again: once in a run drain says why, and all is later."""
    batch_handler(desk, "cat >/dev/null; echo OK 1\n")
    deliver(desk, 4)
    run = desk.drain(env={"PSAPI_BATCH": "2"})
    assert run.stderr.count("\n") == 1 and f"{desk.batches / 'default'}: exit status 0, but 2 of 2 events not reported" \
        in run.stderr, run.stderr
    assert desk.state("e1")["reason"] == "not reported: exit status 0, try 1 of at most 10" and "OK 1" in run.stdout


def test_leaves_a_child_that_holds_its_output(desk):
    """It is not waited for, and what it writes afterwards counts no more."""
    batch_handler(desk, """cat >/dev/null
        sh -c 'echo $$ >>"$PSAPI_TOLD/pids"; trap "" PIPE; while :; do sleep 0.1; echo ok 2; done' 2>/dev/null &
        while ! test -s "$PSAPI_TOLD/pids"; do sleep 0.02; done
        echo ok 1\n""")
    ids = deliver(desk)
    assert re.search("[34] of 5 events not reported", desk.drain().stderr)
    assert done(desk, ids) in (["e1"], ["e1", "e2"])
    before = done(desk, ids)
    desk.drain_silently()
    assert done(desk, ids) == before


def test_time_out_since_the_last_result(desk):
    """A slow handler that reports goes on; one that reports nothing new is ended."""
    batch_handler(desk, "for n in 1 2 3 4; do sleep 0.8; echo ok $n; done\nwhile :; do sleep 0.2; echo ok 1; done\n")
    ids = deliver(desk)
    desk.drain(env={"PSAPI_HANDLER_TIMEOUT": "3"})      # less than all of them take
    assert_outcome(desk, ids, ids[:4])
    assert desk.state("e5")["reason"] == "not reported: no result within 3 s, try 1 of at most 10"


def test_ended_in_time_while_drain_was_stopped(desk):
    """Drain goes on after the time-out (Ctrl-Z and fg): the exit status counts, for the handler ended before that."""
    desk.gate("gate")
    batch_handler(desk, SEEN + """echo ok 1; echo ok 2; echo here; read line <"$PSAPI_TOLD/gate"
        kill -STOP $PPID
        exit 75\n""")
    ids = deliver(desk, 3)
    child = desk.start("drain", env={"PSAPI_HANDLER_TIMEOUT": str(STOPPED)})
    wait_for(lambda: done(desk, ids) == ids[:2], "its results are recorded")
    desk.wait_until_stopped(child)
    desk.go_on(child, STOPPED + 0.5)
    assert child.wait(30) == 0
    assert_outcome(desk, ids, ids[:2])
    assert desk.state("e3")["reason"].startswith("not reported: exit status 75, try 1 of")


def test_reported_in_time_while_drain_was_stopped(desk):
    """The handler runs on, and has reported, behind other output that drain reads first: the time-out starts again."""
    desk.gate("gate")
    desk.gate("end")
    batch_handler(desk, SEEN + """echo here; read line <"$PSAPI_TOLD/gate"
        kill -STOP $PPID
        yes more than one read | head -c 40000; echo
        echo ok 1; read line <"$PSAPI_TOLD/end"; echo ok all 3\n""")
    ids = deliver(desk, 3)
    child = desk.start("drain", env={"PSAPI_HANDLER_TIMEOUT": str(STOPPED)})
    desk.wait_until_stopped(child)
    desk.go_on(child, STOPPED + 0.5)
    wait_for(lambda: done(desk, ids) == ids[:1], "its result is recorded")
    desk.open_gate("end")
    assert child.wait(30) == 0 and done(desk, ids) == ids


def test_asked_twice_to_end(desk):
    batch_handler(desk, SEEN + 'echo ok 1\necho $$ >>"$PSAPI_TOLD/pids"; exec sleep 1000\n')
    ids = deliver(desk, 3)
    child = desk.start("drain")
    desk.wait_for_lines(1, "pids")
    assert desk.end_early(child) == 0
    assert_outcome(desk, ids, ids[:1])
    assert desk.state("e2")["reason"].startswith("not reported: ended because drain was asked twice to end")


def test_asked_twice_to_end_as_it_reports(desk):
    """A result that comes with the second signal counts, and does not start the time-out again."""
    desk.gate("gate")
    batch_handler(desk, SEEN + """echo here; read line <"$PSAPI_TOLD/gate"
        kill -STOP $PPID
        echo ok 1; kill -TERM $PPID; kill -INT $PPID; echo $$ >>"$PSAPI_TOLD/pids"; exec sleep 1000\n""")
    ids = deliver(desk, 3)
    child = desk.start("drain")
    desk.wait_until_stopped(child)
    desk.wait_for_lines(1, "pids")
    desk.go_on(child)
    assert child.wait(60) == 0
    assert_outcome(desk, ids, ids[:1])


@pytest.mark.spool_only("no store is concerned")
def test_asked_to_end(desk):
    """It waits for the batch, and starts no other."""
    desk.gate("gate")
    batch_handler(desk, SEEN + 'echo here >>"$PSAPI_TOLD/seen"; read line <"$PSAPI_TOLD/gate"; echo ok all 2\n')
    ids = deliver(desk, 4)
    child = desk.start("drain", env={"PSAPI_BATCH": "2"})
    desk.wait_for_lines(1)
    child.terminate()
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert done(desk, ids) == ids[:2] and desk.lines("runs") == ["run"]


# ---- order ----

def test_one_of_a_lane(desk):
    """A later event of a lane comes in a later batch, and only after the earlier one is done."""
    batch_handler(desk, COUNT)
    ids = desk.deliver(*(signed(body(n, "1"), f"a{n}") for n in range(3)), *(signed(body(n, "2"), f"b{n}") for n in range(2)))
    desk.drain_silently()
    assert done(desk, ids) == ids
    assert [(line["n"], line["id"]) for line in lines(desk)] == [
        (1, "a0"), (2, "b0"), (1, "a1"), (2, "b1"), (1, "a2")]


def test_later_blocks_its_lane(desk):
    batch_handler(desk, SEEN + "echo ok 2; echo later 1; echo failed 3\n")
    desk.deliver(*(signed(body(second, npn), f"{npn}.{second}") for second in (1, 2) for npn in "789"))
    desk.drain(expect=78)       # failed 3 of a batch that has fewer
    assert ids_of(desk)[:3] == ["7.1", "8.1", "9.1"] and "7.2" not in ids_of(desk)
    assert {"8.2", "9.2"} <= set(ids_of(desk))


def test_side_by_side(desk):
    """-j: several batches at a time, each lane in one of them."""
    batch_handler(desk, 'sed "s/^/$$ /" >>"$PSAPI_TOLD/lines"; echo here >>"$PSAPI_TOLD/seen"; '
                  'until [ -e "$PSAPI_TOLD/go" ]; do sleep 0.02; done; echo ok all 3\n')
    ids = deliver(desk, 6) + desk.deliver(signed(body(100, "101"), "second"))
    child = desk.start("drain", "-j", "3", env={"PSAPI_BATCH": "3"})
    desk.wait_for_lines(2)
    (desk.told / "go").touch()
    assert child.wait(30) == 78, "the last was a batch of one"
    first, last = desk.lines("lines")[:6], desk.lines("lines")[6:]
    assert len({line.split()[0] for line in first}) == 2
    assert [json.loads(line.split(" ", 1)[1])["id"] for line in last] == ["second"]
    assert done(desk, ids) == ids[:6]


def test_mixed_with_single_handlers(desk):
    """Both kinds at once, with -j, over many lanes: each event once, in its lane's order."""
    desk.handler("producersync.npn.deactivated", NOTE)
    batch_handler(desk, SEEN.replace('"$PSAPI_TOLD/now"', '"$PSAPI_TOLD/now.$$"') + """
        sed 's/.*"id":"\\([^"]*\\)".*/\\1/' "$PSAPI_TOLD/now.$$" >>"$PSAPI_TOLD/seen"
        echo ok all $(wc -l <"$PSAPI_TOLD/now.$$")\n""")
    kinds = ("producersync.npn.activated", "producersync.npn.deactivated")
    ids = desk.deliver(*(signed(body(n, str(n % 7), kinds[n % 3 == 0]), f"e{n:02}") for n in range(40)))
    assert desk.drain("-j", "3", env={"PSAPI_BATCH": "4"}).stderr == ""
    seen = desk.lines()
    assert sorted(seen) == ids and done(desk, ids) == ids
    for lane in range(7):
        mine = [one for one in seen if int(one[1:]) % 7 == lane]
        assert mine == sorted(mine), lane


# ---- lanes of a shared store ----

def shared_only(desk):
    if not hasattr(desk.spool, "sql"):
        pytest.skip("a drain has the whole spool")


def waiting_batch(desk):
    """Three events in a batch whose handler waits at the gate, and then reports all as done."""
    shared_only(desk)
    desk.gate("gate")
    batch_handler(desk, SEEN + 'echo here >>"$PSAPI_TOLD/seen"; read line <"$PSAPI_TOLD/gate"; echo ok all 3\n')
    ids = deliver(desk, 3)
    child = desk.start("drain")
    desk.wait_for_lines(1)
    return ids, child


def test_lost_lane(desk):
    """Another drain has taken one over: of that event alone the result does not count."""
    ids, child = waiting_batch(desk)
    desk.spool.sql("UPDATE psapi_lane SET owner = 'another', until = now() + interval '1 hour' WHERE lane = "
                   "(SELECT lane FROM psapi_queue WHERE name = 'e2.json')")
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert "e2: its lane is not ours any more" in child.stderr.read()
    assert done(desk, ids) == ["e1", "e3"] and desk.where("e2") == ["new", "events"]
    assert desk.spool.sql("SELECT owner FROM psapi_lane").split() == ["another"]


@pytest.mark.long
def test_renewal(desk):
    """All lanes are renewed while the handler runs."""
    ids, child = waiting_batch(desk)
    left = "SELECT count(*) FROM psapi_lane WHERE until > now() + interval '25 seconds'"
    desk.spool.sql("UPDATE psapi_lane SET until = now() + interval '15 seconds'")
    assert desk.spool.sql(left).split() == ["0"]
    wait_for(lambda: desk.spool.sql(left).split() == ["3"], "all are renewed")
    desk.open_gate("gate")
    assert child.wait(30) == 0 and done(desk, ids) == ids
