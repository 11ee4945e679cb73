"""list, show, retry, replay, done, verify, prune, help."""

import base64
import json
import os
import pty
import re
import subprocess
import time

import pytest

import strace
from psapi_command import NOTE, PSAPI, Desk, body, updates
from receiver import ROOT, wait_for
from sender import OTHER_SECRET, SECRET, event, signed

pytestmark = pytest.mark.each_store

SUBCOMMANDS = ["drain", "list", "show", "retry", "replay", "done", "verify", "prune", "attempts",
               "help"]
DAY = 86400


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


@pytest.fixture
def four(desk):
    """A desk with one event of each status, whose id is the status."""
    desk.handler("default", """case $PSAPI_WEBHOOK_ID in
        failed) echo no such agency >&2; exit 4;; waiting) exit 75;; esac\n""")
    desk.deliver(signed(body(1, "1"), "handled"), signed(body(2, "2"), "failed"),
                 signed(body(3, "3"), "waiting"))
    desk.drain(expect=1)
    desk.deliver(signed(updates(4), "new"))
    return desk


# ---- help ----

def test_help(desk):
    overview = desk.run("help").stdout
    for name in SUBCOMMANDS:
        assert re.search(rf"^  {name} +\S", overview, re.M), name
        text = desk.run("help", name).stdout
        assert text.startswith(f"usage: psapi {name} ")
        assert max(map(len, text.splitlines())) <= 100
        assert desk.run(name, "--help").stdout == text
    assert desk.run("--help").stdout == overview == desk.run("-h").stdout
    assert re.fullmatch(r"psapi \d+\.\d+\.\d+\n", desk.run("--version").stdout)


@pytest.mark.parametrize("arguments", [["nothing"], ["help", "nothing"], ["-x"], ["list", "x"],
                                       ["list", "--new", "--all"], ["list", "--since", "yesterday"],
                                       ["show"], ["retry"], ["retry", "--all", "x"], ["replay"],
                                       ["replay", "--type", "x", "id"], ["done"], ["verify"],
                                       ["verify", "--all", "x"], ["prune"],
                                       ["prune", "--older-than", "90"], ["prune", "x"],
                                       ["attempts", "x"], ["attempts", "-n", "-1"],
                                       ["attempts", "--since", "x"]])
def test_misuse(desk, arguments):
    done = desk.run(*arguments, expect=64)
    assert done.stderr.count("\n") == 1 and "psapi help" in done.stderr and done.stdout == ""


@pytest.mark.parametrize("arguments, message", [
    (["--bogus"], '"--bogus": no such option'),
    (["list", "--bogus=1"], '"--bogus=1": no such option'),
    (["list", "--json", "-xv"], '"-x": no such option'),
    (["verify", "--all", "-vx"], '"-x": no such option'),
    (["list", "--json=1"], '"--json=1": takes no argument'),
    (["verify", "--all", "--verbose=1"], '"--verbose=1": takes no argument'),
    (["list", "--type"], '"--type": takes an argument'),
    (["drain", "-vj"], '"-j": takes an argument'),
    (["attempts", "-n"], '"-n": takes an argument'),
    (["--spool"], '"--spool": takes an argument'),
    (["attempts", "--outcome", "acepted"], "rejected"),
    (["show"], "psapi: show: which event? psapi list shows ids; psapi help show says more"),
    (["done"], "psapi: done: which event?"), (["retry"], "psapi: retry: either IDs or --all;"),
    (["verify"], "psapi: verify: either FILEs"), (["prune"], "psapi: prune: how old?"), (["replay"], "psapi: replay: either"),
    (["store"], "psapi: store: init, status or import;"), (["secret"], "psapi: secret: add, list or drop FINGERPRINT;"),
    (["secret", ""], 'psapi: secret: "": add, list or drop'), (["secret", "list", "x"], '"x": list takes no argument'),
    (["secret", "drop", "01234567", "x"], '"x": add, list or drop FINGERPRINT'),
    (["drain", "true"], 'psapi: drain: "true": a command goes after --: psapi drain -- CMD; psapi help drain'),
    (["drain", "--batch", "2"], "psapi: drain: --batch needs a command: psapi drain --batch N -- CMD;"),
    (["list", *["-oPSAPI_TOLERANCE=300"] * 64, "--spool", "/x"], "-o PSAPI_SPOOL=/x: more than 64 settings"),
    (["doctor", *["-oPSAPI_TOLERANCE=300"] * 64, "--socket", "/x"], "-o PSAPI_LISTEN=unix:/x: more than 64 settings"),
])
def test_misuse_is_named(desk, arguments, message):
    """The message names the wrong option, and its fault."""
    done = desk.run(*arguments, expect=64)
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_settings(desk, tmp_path):
    """-f, -o and --spool, before the subcommand or after it."""
    (webhook_id,) = desk.deliver(signed())
    conf = tmp_path / "other.conf"
    conf.write_text(f"PSAPI_SPOOL={desk.spool.path}\n")
    environment = {"PSAPI_SPOOL": "/proc/nowhere"}
    desk.run("list", expect=66, env=environment)
    for arguments in (["--spool", desk.spool.path, "list"], ["list", "--spool", desk.spool.path],
                      ["list", "-o", f"PSAPI_SPOOL={desk.spool.path}"],
                      ["-o", "PSAPI_SPOOL=/x", "list", "--spool", desk.spool.path]):
        assert webhook_id in desk.run(*arguments, env=environment).stdout
    environment = {k: v for k, v in desk.environment().items() if k != "PSAPI_SPOOL"}
    for arguments in (["-f", conf, "list"], ["list", "-f", conf], ["list", "--file", conf]):
        done = subprocess.run([PSAPI, *arguments], env=environment, capture_output=True, text=True)
        assert webhook_id in done.stdout


# ---- list ----

def statuses(desk, *arguments):
    return {row["webhook_id"]: row["status"] for row in desk.rows("list", *arguments)}


def test_list(four):
    everything = {"handled": "handled", "failed": "failed", "waiting": "waiting", "new": "new"}
    assert statuses(four) == {k: v for k, v in everything.items() if k != "handled"}
    assert statuses(four, "--all") == everything
    assert statuses(four, "--new") == {"waiting": "waiting", "new": "new"}
    assert statuses(four, "--waiting") == {"waiting": "waiting"}
    assert statuses(four, "--failed") == {"failed": "failed"}
    assert [row["webhook_id"] for row in four.rows("list", "--all")] == \
        ["handled", "failed", "waiting", "new"], "in the order of arrival"


def test_list_json(four):
    (row,) = four.rows("list", "--failed")
    assert row["reason"].startswith("exit status 4") and row["failed_at"] and row["tries"] == 1
    assert (row["type"], row["npn"]) == ("producersync.npn.activated", "2")
    assert row["timestamp"] == "2025-07-25T00:00:02.000Z" and row["event_id"] == "whe_1"
    assert row["file"] == "failed.json" and row["received_at"]
    (row,) = four.rows("list", "--waiting")
    assert row["due_at"] == four.state("waiting")["due_at"]


def test_list_table(four):
    lines = four.run("list", "--all").stdout.splitlines()
    assert lines[0].split()[:3] == ["RECEIVED", "STATUS", "TYPE"] and len(lines) == 5
    assert any("failed" in line and "exit status 4" in line for line in lines)
    assert any("waiting" in line and "due 20" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_list_selects(four):
    assert statuses(four, "--type", "producersync.npn").keys() == {"failed", "waiting"}
    assert statuses(four, "--type", "producersync.updates_available").keys() == {"new"}
    assert statuses(four, "--type", "producersync.np") == {}
    assert statuses(four, "--npn", "2").keys() == {"failed"}
    assert statuses(four, "--since", "1h").keys() == {"failed", "waiting", "new"}
    assert statuses(four, "--since", "2199-01-01") == {}
    received = json.loads(four.run("show", "new", "--json").stdout)["received_at"]
    assert statuses(four, "--since", received).keys() == {"new"}
    assert statuses(four, "--since", received.replace("T", " ").rstrip("Z")).keys() == {"new"}


def test_list_nothing(desk):
    desk.deliver(signed())
    desk.handler("default", ":\n")
    desk.drain_silently()
    assert desk.run("list").stdout == "" == desk.run("list", "--json").stdout
    assert desk.run("list", "--all", "--npn", "999").stdout == "", "not even a head"


def test_list_unreadable_events(four):
    """A message and an exit status; the other events are listed."""
    if os.geteuid() == 0:
        under = ["setpriv", "--reuid=65534", "--regid=0", "--clear-groups"]
        if subprocess.run([*under, PSAPI, "--version"], capture_output=True).returncode != 0:
            pytest.skip(f"others may not run {PSAPI}")
        four.spool.file("failed", "failed").chmod(0o600)
    else:
        under = []
        four.spool.file("failed", "failed").chmod(0)
    done = four.run("list", under=under, expect=77)
    assert "failed/failed.json" in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout.count("\n") == 1 + 2


def test_colours(four):
    term = {"TERM": "xterm"}
    assert "\x1b[31mfailed" in four.on_a_terminal("list", env=term)[0]
    assert "\x1b" not in four.on_a_terminal("list", env=term | {"NO_COLOR": "1"})[0]
    assert "\x1b" not in four.on_a_terminal("list", env={"TERM": "dumb"})[0]
    assert "\x1b" not in four.run("list", env=term).stdout


def test_progress_on_a_terminal(desk):
    desk.handler("default", NOTE)
    desk.deliver(signed(), signed())
    output, status = desk.on_a_terminal("drain")
    assert status == 0 and output.endswith("2 handled, 0 to be tried again, 0 failed\r\n")
    assert "\r\x1b[K" in output


def test_progress_counts_the_whole_run(desk):
    """After a new event there is a second pass: "1 of 2", not "1 of 1" and "2 of 1"."""
    desk.handler("default", """
        sleep 0.5  # longer than one look of the progress line
        test "$PSAPI_WEBHOOK_ID" != first || ln "$PSAPI_SPOOL/events/second.json" "$PSAPI_SPOOL/new"
        """)
    desk.deliver(signed(body(1, "1"), "first"), signed(body(2, "2"), "second"))
    desk.spool.file("new", "second").unlink()
    output, _ = desk.on_a_terminal("drain")
    counts = re.findall(r"(\d+) of (\d+) handled", output)
    assert counts[0] == ("0", "1") and counts[-1] == ("1", "2"), output
    assert "2 handled, 0 to be" in output


def handled(desk, count):
    """So many handled events, which are copies of one."""
    desk.deliver(signed(body(1), "copy0"))
    if desk.place.store == "spool":
        for i in range(1, count):
            desk.copy("copy0", f"copy{i}")
        for i in range(count):
            desk.spool.file("new", f"copy{i}").unlink()
    else:
        desk.spool.sql(
            "INSERT INTO psapi_event SELECT 'copy' || i || '.json', received_ns, type, npn, queued, lane, when_ns, "
            "convert_to(replace(convert_from(record, 'UTF8'), '\"copy0\"', '\"copy' || i || '\"'), 'UTF8') "
            f"FROM psapi_event, generate_series(1, {count - 1}) i", "DELETE FROM psapi_queue")


@pytest.mark.skipif(strace.why_not() is not None, reason=f"{strace.why_not()}")
def test_progress_of_moves_on_a_terminal(desk, tmp_path):
    """A slow disk, or database: how far it is, in one line that goes away. A pipe gets none."""
    count = 1001
    handled(desk, count)
    slow = strace.command("fsync,sendto", "delay_enter=210000", "1+", tmp_path / "log")
    output, status = desk.on_a_terminal("replay", "--npn", "123456789", under=slow)
    assert status == 0 and f"\r1000 of {count} moved\x1b[K" in output, output
    assert output.endswith(f"\r\x1b[K{count} back to new\r\n")
    if desk.place.store != "spool":
        return
    for i in range(count):
        desk.spool.file("new", f"copy{i}").unlink()
    done = desk.run("replay", "--npn", "123456789", under=slow)
    assert (done.stdout, done.stderr) == (f"{count} back to new\n", "")


@pytest.mark.skipif(strace.why_not() is not None, reason=f"{strace.why_not()}")
def test_progress_of_prune_on_a_terminal(desk, tmp_path):
    handled(desk, 1001)
    call, delay = ("newfstatat", 1000) if desk.place.store == "spool" else ("sendto", 210000)
    slow = strace.command(call, f"delay_enter={delay}", "1+", tmp_path / "log")
    output, status = desk.on_a_terminal("prune", "--older-than", "0s", "--force", under=slow)
    assert status == 0 and re.search(r"\r\d+ forgotten\x1b\[K", output), output
    assert output.endswith("\r\x1b[K1001 forgotten, 0 kept\r\n")


EVIL = b'{"type":"x.\\u001b[31m\\u009b","timestamp":"\\r\\n","data":{"npn":"\\u202e\xc3\xa9"},"id":"\\t"}'


def test_text_from_outside_is_escaped(desk):
    (webhook_id,) = desk.deliver(signed(EVIL, "id \x1b[2J"))
    for arguments in (["list"], ["show", webhook_id], ["list", "--json"],
                      ["show", webhook_id, "--json"]):
        text = desk.run(*arguments).stdout.replace(EVIL.decode(), "")    # the signed bytes, to a pipe
        assert text.isascii() and all(c.isprintable() or c == "\n" for c in text), (arguments, text)
    for arguments in (["list"], ["show", webhook_id], ["show", "--raw", webhook_id],
                      ["show", "--json", webhook_id]):
        text = desk.on_a_terminal(*arguments, env={"NO_COLOR": "1"})[0]
        assert "\x1b" not in text and text.isascii(), (arguments, text)
    shown = json.loads(desk.on_a_terminal("show", "--json", webhook_id)[0])
    assert shown["event"] == json.loads(EVIL), "escaped, it is the same event"
    assert desk.run("list", "--json").stdout.count("\n") == 1
    name = desk.rows("list")[0]["file"]
    assert name in desk.run("list").stdout, "an id that a shell would not take is shown as its file"
    assert desk.run("show", name).stdout == desk.run("show", webhook_id).stdout


def test_long_texts_are_cut_not_lost(desk):
    """A multibyte character is not cut in half."""
    long = event("é" * 200, npn="é" * 200, x="é" * 5000)
    desk.handler("x", ":\n")
    for webhook_id in desk.deliver(signed(long), signed(long, "é" * 150)):
        desk.drain(expect=None)
        (row,) = [r for r in desk.rows("list", "--all") if r["webhook_id"] == webhook_id]
        assert row["type"] and row["npn"] and "no handler" in row["reason"]
        assert desk.rows("show", webhook_id)[0]["event"]["data"]["x"] == "é" * 5000


# ---- show ----

def test_show(four):
    text = four.run("show", "failed").stdout
    for word in ("failed at 20", "exit status 4", "no such agency", "producersync.npn.activated",
                 "2025-07-25T00:00:02.000Z", '"npn": "2"', "v1,", str(four.handlers / "default")):
        assert word in text, word
    assert four.place.store != "spool" or str(four.spool.file("failed", "failed")) in text
    assert "due 20" in four.run("show", "waiting").stdout
    assert "handled" in four.run("show", "handled").stdout


def test_show_several(four):
    """The others are shown if one does not exist."""
    done = four.run("show", "nobody", "failed", "nothing", "handled", expect=66)
    assert done.stderr.count("no such event") == 2
    assert done.stdout.count("webhook-id ") == 2


@pytest.mark.parametrize("original", [b"no json \x00\xff", b'{"type":"x","n":1e999}', b""])
def test_show_of_a_body_that_is_not_json(desk, original):
    (webhook_id,) = desk.deliver(signed(original))
    (row,) = desk.rows("show", webhook_id)
    assert row["event"] is None and base64.b64decode(row["body_base64"]) == original
    shown = desk.run("show", webhook_id).stdout
    assert original.decode("latin-1").replace("\x00\xff", "\\x00\\xff") in shown


@pytest.mark.parametrize("original", [
    b'{"type":"x","data":{"rate":1.10,"size":1e5,"zero":-0.0,"n":123456789012345678901}}',
    b'{"type":"x","data":{"a":1,"a":2},"data":{"b":0.1}}',
    b'{"type":"x","data":"\\u00e9\\/\\u0000"}',
    '{"type":"x","data":"é \u200b \U0001f600"}'.encode(),
    b'[1.0, 1.10,100000000000000000000000]', b'"text"', b"12.50"])
def test_show_does_not_write_the_payload_anew(desk, original):
    """The signed bytes: in --json as they are, for people with other white space between tokens."""
    (webhook_id,) = desk.deliver(signed(original))
    line = desk.run("show", webhook_id, "--json").stdout
    assert line.endswith(f',"event":{original.decode()}}}\n') and json.loads(line)
    shown = desk.run("show", webhook_id).stdout
    escaped = "".join(c if c.isascii() else json.dumps(c)[1:-1] for c in original.decode())
    assert re.sub(r"\s", "", shown).endswith(re.sub(r"\s", "", escaped))


def test_show_json_is_one_line(desk):
    """Line breaks between tokens are blanks then; those in strings are escaped in JSON anyway."""
    (webhook_id,) = desk.deliver(signed(b'{\r\n  "type": "x\\n",\n  "data": 1.10\n}\n'))
    line = desk.run("show", webhook_id, "--json").stdout
    assert line.count("\n") == 1 and line.endswith('"event":{    "type": "x\\n",   "data": 1.10 } }\n')


def test_show_raw(desk):
    bodies = [body(1) + b"\n  \n", b"no json \x00\xff", b"", b'{"a":1,"a":2}']
    for webhook_id, original in zip(desk.deliver_bodies(*bodies), bodies):
        done = subprocess.run([PSAPI, "show", "--raw", webhook_id], env=desk.environment(),
                              capture_output=True)
        assert (done.returncode, done.stdout) == (0, original)


def test_show_by_any_name(desk):
    (webhook_id,) = desk.deliver(signed(None, "a/strange id.json"))
    path = desk.spool.file("new", webhook_id)
    assert len({desk.run("show", name).stdout for name in (webhook_id, path.name, path)}) == 1


@pytest.mark.parametrize("command", ["show", "retry", "replay", "done", "verify"])
def test_no_such_event(desk, command):
    (webhook_id,) = desk.deliver(signed())
    for name in ("nobody", "../../etc/nothing", "", ".", "new"):
        done = desk.run(command, name, expect=66)
        assert "no such event" in done.stderr and done.stderr.count("\n") == 1
    assert desk.where(webhook_id) == ["new", "events"]


@pytest.mark.spool_only("files of the spool")
def test_show_what_is_no_event(desk):
    desk.deliver(signed())
    (desk.spool.path / "new" / "x.json").write_text("{}")
    assert "new/x.json" in desk.run("show", "x", expect=65).stderr


# ---- retry, replay, done ----

def test_retry(four):
    assert four.run("retry", "failed").stderr == ""
    assert four.where("failed") == ["new", "events"]
    if four.place.store == "spool":
        assert os.stat(four.spool.file("new", "failed")).st_nlink == 2
    four.handler("default", 'echo "$PSAPI_WEBHOOK_ID $PSAPI_TRY" >>"$PSAPI_TOLD/seen"\n')
    four.drain_silently()
    assert "failed 1" in four.lines()


def test_retry_all(desk):
    desk.handler("default", "exit 1\n")
    ids = desk.deliver(*(signed(body(n)) for n in range(5)))
    desk.drain(expect=1)
    assert desk.run("retry", "--all").stdout == "5 back to new\n"
    assert all(desk.where(webhook_id) == ["new", "events"] for webhook_id in ids)
    assert desk.run("retry", "--all").stdout == "0 back to new\n"
    desk.handler("default", NOTE)
    desk.drain_silently()
    assert desk.lines() == ids


def test_retry_of_others(four):
    """Events that have not failed are left alone; the failed ones among the arguments are moved."""
    done = four.run("retry", "new", "failed", "handled", expect=65)
    assert done.stderr.count("\n") == 2 and "replay" in done.stderr
    assert four.where("failed") == ["new", "events"] and four.where("handled") == ["events"]


def test_retry_that_was_cut_short(desk):
    """The event is in failed/ and in new/: new/ counts, and after the handling nothing is left of the failure."""
    desk.handler("default", "exit 1\n")
    (webhook_id,) = desk.deliver(signed())
    desk.drain(expect=1)
    os.link(desk.spool.file("failed", webhook_id), desk.spool.file("new", webhook_id))
    desk.handler("default", NOTE)
    desk.drain_silently()
    assert desk.where(webhook_id) == ["events"] and desk.lines() == [webhook_id]


def test_replay(four):
    assert four.run("replay", "handled").stdout == "1 back to new\n"
    assert four.where("handled") == ["new", "events"]
    assert four.run("replay", "handled", "--json", expect=65).stdout == '{"count":0}\n'
    four.handler("default", NOTE)
    four.drain_silently()
    assert "handled" in four.lines() and four.where("handled") == ["events"]


@pytest.mark.parametrize("how", [["handled"], ["--npn", "1"]])
def test_replay_begins_anew(four, how):
    """The state of earlier tries does not count."""
    four.write_state("handled", tries=9, due_in=600)
    four.run("replay", *how)
    four.handler("default", 'echo "$PSAPI_WEBHOOK_ID $PSAPI_TRY" >>"$PSAPI_TOLD/seen"\n')
    four.drain_silently()
    assert "handled 1" in four.lines()


def test_replay_of_what_waits(four):
    done = four.run("replay", "new", "failed", "handled", expect=65)
    assert done.stderr.count("\n") == 2 and "psapi retry" in done.stderr
    assert four.where("failed") == ["events", "failed", "state"]
    assert four.where("handled") == ["new", "events"]


@pytest.mark.parametrize("arguments, expected", [
    (["--type", "producersync.npn"], ["a", "b"]),
    (["--type", "producersync"], ["a", "b", "c"]),
    (["--npn", "2"], ["b"]),
    (["--type", "producersync", "--npn", "1"], ["a"]),
    (["--since", "1h"], ["a", "b", "c", "d"]),
    (["--since", "0s"], []),
    (["--since", "2199-12-31T00:00:00Z"], []),
])
def test_replay_selects(desk, arguments, expected):
    desk.handler("default", NOTE)
    desk.deliver(signed(body(1, "1"), "a"), signed(body(2, "2"), "b"), signed(updates(3), "c"),
                 signed(event("x", y=1), "d"))
    desk.drain_silently()
    if "0s" in arguments:
        time.sleep(1.1)     # "now" is a whole second: wait until the next one
    assert desk.run("replay", *arguments).stdout == f"{len(expected)} back to new\n"
    assert desk.spool.names("new") == expected


def test_replay_leaves_what_waits(four):
    """A selection takes handled events only, and resets no state."""
    before = [four.state("failed"), four.state("waiting")]
    assert four.run("replay", "--type", "producersync", "--json").stdout == '{"count":1}\n'
    assert [four.state("failed"), four.state("waiting")] == before
    assert four.spool.names("failed") == ["failed"]


def test_done(four):
    four.run("done", "failed", "new", "waiting")
    for webhook_id in ("failed", "new", "waiting"):
        assert four.where(webhook_id) == ["events"]
    assert "was handled" in four.run("done", "handled", expect=65).stderr
    four.drain_silently()


def test_done_records_first(desk):
    """After a power cut an event may be missing in events/: it is recorded there before it leaves new/."""
    (webhook_id,) = desk.deliver(signed())
    desk.spool.file("events", webhook_id).unlink()
    desk.run("done", webhook_id)
    assert desk.where(webhook_id) == ["events"]


@pytest.mark.parametrize("command", ["retry", "done"])
def test_uncommitted(desk, command):
    """A writer died before it committed: what is whole is committed first, what is not is left alone."""
    desk.deliver(signed(b"no JSON", "invalid"), signed(b"no JSON", "torn"))
    for webhook_id in ("invalid", "torn"):
        desk.spool.file("events", webhook_id).unlink()
    torn = desk.spool.file("failed", "torn")
    torn.write_bytes(torn.read_bytes()[:40])
    desk.run(command, "invalid")
    assert desk.where("invalid") == (["new", "events"] if command == "retry" else ["events"])
    assert "not in events/" in desk.run(command, "torn", expect=75).stderr
    assert desk.run("retry", "--all").stdout == "0 back to new\n"
    assert desk.where("torn") == ["failed", "state"]


@pytest.mark.spool_only("drains share a database, and nobody waits for a lock")
@pytest.mark.parametrize("command", [["retry", "failed"], ["replay", "handled"], ["done", "failed"],
                                     ["prune", "--older-than", "0d", "--force"]])
def test_moves_wait_for_the_lock(four, command):
    """While a drain runs, they wait, with a message on a terminal; then they do their work."""
    four.gate("gate")
    four.handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    four.run("done", "waiting")
    drain = four.start("drain")
    four.wait_for_lines(1)
    controller, terminal = pty.openpty()
    tool = four.start(*command, stderr=terminal)
    assert b"waiting" in os.read(controller, 4096) and tool.poll() is None
    four.open_gate("gate")
    assert drain.wait(30) == 0 and tool.wait(30) == 0
    os.close(terminal)
    os.close(controller)
    assert four.where("failed" if "failed" in command else "handled") == \
        (["new", "events"] if command[0] in ("retry", "replay") else
         ["events"] if command[0] == "done" else [])


@pytest.mark.spool_only("drains share a database, and nobody waits for a lock")
def test_cron_is_not_told_of_waiting(four):
    """The nightly prune starts in the same minute as a drain: without a terminal there is no message, so no mail."""
    four.gate("gate")
    four.handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    four.run("done", "waiting")
    drain = four.start("drain")
    four.wait_for_lines(1)
    tool = four.start("prune", "--older-than", "90d")
    wait_for(lambda: four.waits_for_lock(tool), "prune waits for the lock")
    output, status = four.on_a_terminal("drain")
    assert status == 0 and "is at work" in output, "a person who starts another drain is told"
    four.open_gate("gate")
    assert drain.wait(30) == 0
    assert tool.communicate() == ("", "") and tool.returncode == 0


def test_reading_needs_no_lock(four):
    four.gate("gate")
    four.handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    drain = four.start("drain")
    four.wait_for_lines(1)
    for arguments in (["list"], ["show", "failed"], ["verify", "--all"], ["attempts"],
                      ["prune", "--older-than", "90d", "--dry-run"]):
        assert four.run(*arguments).stderr == ""
    four.open_gate("gate")
    assert drain.wait(30) == 0


# ---- verify ----

def test_verify(four):
    assert four.run("verify", "--all").stdout == "4 good, 0 bad\n"
    assert four.run("verify", "failed", "new").stdout.count("good") == 2
    rows = four.rows("verify", "failed")
    assert rows[0]["good"] is True and re.fullmatch("[0-9a-f]{8}", rows[0]["key"])
    assert four.run("verify", "--all", "-v").stdout.count("good") == 5


@pytest.mark.parametrize("change", [
    lambda text: text.replace(b'"npn": "2"', b'"npn": "6"'),
    lambda text: text.replace(b'"webhook_timestamp":"1', b'"webhook_timestamp":"2'),
    lambda text: text.replace(b'"webhook_signature":"v1,', b'"webhook_signature":"v1,A', 1),
    lambda text: text.replace(b'"webhook_id":"failed"', b'"webhook_id":"failee"'),
    lambda text: text[:-3] + b" \n}\n",
    lambda text: text[:-1],
    lambda text: text + b"\n",
    lambda text: b" " + text,
    lambda text: b"",
])
def test_verify_fails(four, change):
    path = four.spool.file("events", "failed")
    text = path.read_bytes()
    assert change(text) != text
    path.unlink()
    path.write_bytes(change(text))
    done = four.run("verify", "--all", expect=1)
    assert done.stdout.count("BAD") == 1 and "failed.json" in done.stdout
    assert "3 good, 1 bad" in done.stdout
    assert "BAD" in four.run("verify", path, expect=1).stdout
    row = json.loads(four.run("verify", "--all", "--json", expect=1).stdout)
    assert row["good"] is False and row["why"]


def test_verify_with_other_secrets(desk, tmp_path):
    """With a rotated-out secret in another file, its events can be verified."""
    (webhook_id,) = desk.deliver(signed())
    desk.place.write_secret(OTHER_SECRET)
    assert "no secret" in desk.run("verify", webhook_id, expect=1).stdout
    retired = tmp_path / "retired"
    retired.write_text(SECRET + "\n")
    retired.chmod(0o600)
    assert "good" in desk.run("verify", "--secret-file", retired, webhook_id).stdout
    desk.place.secret_file.unlink()
    assert "good" in desk.run("verify", "--secret-file", retired, webhook_id).stdout
    desk.run("verify", webhook_id, expect=66)
    retired.chmod(0o644)
    assert "0644" in desk.run("verify", "--secret-file", retired, webhook_id, expect=66).stderr


def test_verify_body_that_is_not_json(desk):
    desk.deliver(signed(b"\xff"), signed(b""), signed(b"[1e999]"))
    assert desk.run("verify", "--all").stdout == "3 good, 0 bad\n"


# ---- JSON ----

def keys_of_the_manual(name):
    """The members that psapi(1) lists for a subcommand."""
    page = (ROOT / "man" / "psapi.1").read_text().split("\n.Sh JSON\n")[1].split("\n.Sh ")[0]
    (item,) = re.findall(rf"^\.It Ic {re.escape(name)}\n((?:(?!\.It ).*\n)*)", page + "\n", re.M)
    return set(re.findall(r"^\.Li (\w+)", item, re.M))


@pytest.mark.parametrize("name, commands, exact", [
    ("list", [["list", "--all"], ["list", "--failed"]], True),
    ("list Fl -by-cause", [["list", "--by-cause"]], False),
    ("list Fl -gaps", [["list", "--gaps", "--days", "9"]], False),
    ("show", [["show", "failed", "waiting", "new", "odd"]], True),
    ("retry Fl -all , Ic replay Fl -type", [["retry", "--all"], ["replay", "--type", "x"]], True),
    ("roster", [["roster"]], True),
    ("verify", [["verify", "failed"], ["verify", "--all", "-v"]], True),
    ("prune Fl -dry-run", [["prune", "--older-than", "0d", "--dry-run"]], True),
    ("secret list", [["secret", "list"]], False),
    ("send", [["send", "http://127.0.0.1:1/"]], True),
    ("doctor", [["doctor"]], False),
    ("check", [["check"]], True),
    ("recover", [["recover"]], True)])
@pytest.mark.spool_only("the commands are the same")
def test_keys_are_those_of_the_manual(four, name, commands, exact):
    """exact: the rows here have all of them."""
    four.deliver(signed(b"no JSON", "odd"))
    with open(four.place.secret_file, "a") as file:
        file.write("no secret\n")
    path = four.spool.file("events", "handled")
    four.run("verify", "--all")
    path.write_bytes(path.read_bytes().replace(b'"npn": "1"', b'"npn": "6"'))
    keys = set()
    for command in commands:
        done = four.run(*command, "--json", expect=None)
        for row in map(json.loads, done.stdout.splitlines()):
            keys |= set(row)
            keys |= {key for finding in row.get("findings", ()) for key in finding}
    listed = keys_of_the_manual(name)
    assert keys and keys <= listed, (keys - listed, done)
    assert not exact or keys == listed, listed - keys


def test_verify_names_file_and_id(four):
    (row,) = four.rows("verify", "failed")
    assert (row["file"], row["webhook_id"], row["good"]) == ("failed.json", "failed", True)
    path = four.spool.file("events", "failed")
    (row,) = four.rows("verify", path)
    assert (row["file"], row["webhook_id"]) == (str(path), "failed")
    path.write_bytes(path.read_bytes()[:-1])
    (row,) = map(json.loads, four.run("verify", "--all", "--json", expect=1).stdout.splitlines())
    assert row["file"] == "failed.json" and "webhook_id" not in row and row["why"]


# ---- prune ----

def age(desk, webhook_id, days):
    os.utime(desk.spool.file("events", webhook_id), times=(time.time() - days * DAY - 5,) * 2)


def test_prune(four):
    four.deliver(signed(body(9), "young"))
    four.handler("default", "exit 75\n")
    four.run("done", "young")
    for webhook_id in ("handled", "failed", "waiting", "new"):
        age(four, webhook_id, 90)
    age(four, "young", 89)
    dry = four.run("prune", "--older-than", "90d", "--dry-run")
    assert "handled.json" in dry.stdout and "1 would be forgotten, 4 kept" in dry.stdout
    assert four.where("handled") == ["events"]
    done = four.run("prune", "--older-than", "90d")
    assert done.stdout == done.stderr == ""
    assert four.where("handled") == []
    assert four.spool.names("events") == ["failed", "new", "waiting", "young"]


def test_prune_forgets(desk):
    """After that, the id is new."""
    desk.handler("default", NOTE)
    desk.deliver(signed(body(1), "again"))
    desk.drain_silently()
    desk.run("prune", "--older-than", "0d", "--force")
    assert desk.spool.files() == {}
    desk.deliver(signed(body(1), "again"))      # accepted, not duplicate
    desk.drain_silently()
    assert desk.lines() == ["again", "again"]


@pytest.mark.parametrize("older", ["29d", "0d", "719h", "1s"])
def test_prune_refuses(four, older):
    done = four.run("prune", "--older-than", older, expect=64)
    assert all(word in done.stderr for word in ("--force", "handled again", "90 days"))
    assert four.where("handled") == ["events"]
    four.run("prune", "--older-than", "30d")


def test_prune_tidies_states(desk):
    """A state without a waiting event is left from a crash. A recent one may belong to a new event."""
    (webhook_id,) = desk.deliver(signed())
    for name in ("old", "young", webhook_id):
        desk.write_state(name, tries=1)
        if name != "young":
            os.utime(desk.spool.file("state", name), times=(time.time() - 4000,) * 2)
    desk.run("prune", "--older-than", "90d")
    assert desk.spool.names("state") == sorted([webhook_id, "young"])
