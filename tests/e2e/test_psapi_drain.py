"""`psapi drain`: the choice of the handler, its input and environment, and the effect of its exit status."""

import json
import os
import pwd
import shutil
import subprocess
import time

import pytest

from psapi_command import NOTE, PSAPI, Desk, body, seconds, updates
from receiver import SLOWER
from sender import event, signed

pytestmark = pytest.mark.each_store


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


# ---- which handler ----

def test_the_most_specific_handler(desk):
    for name in ("producersync.npn.activated", "producersync.npn", "producersync", "default"):
        desk.handler(name, f'echo {name} "$PSAPI_EVENT_TYPE" >>"$PSAPI_TOLD/seen"\n')
    desk.deliver_bodies(body(1), body(2, kind="producersync.npn.deactivated"), updates(3),
                        event("id.producer.created", x=1), event("producersync.npnx", x=1),
                        event("producersyncx", x=1), event("../default", x=1),
                        event(".producersync", x=1), event("producersync npn", x=1))
    desk.drain_silently()
    assert sorted(desk.lines()) == sorted([
        "producersync.npn.activated producersync.npn.activated",
        "producersync.npn producersync.npn.deactivated",
        "producersync producersync.updates_available",
        "default id.producer.created",
        "producersync producersync.npnx",
        "default producersyncx",
        "default ../default",
        "default .producersync",
        "default producersync npn"])


def test_no_handler(desk):
    """The event fails, with the reason. One message, exit status 1."""
    desk.handler("x", NOTE)
    good, bad = desk.deliver(signed(event("x.y", z=1)), signed(event("y", z=1)))
    done = desk.drain(expect=1)
    assert desk.lines() == [good]
    assert bad in done.stderr and "no handler" in done.stderr and done.stdout == ""
    assert desk.where(bad) == ["events", "failed", "state"]
    assert "no handler" in desk.state(bad)["reason"] and desk.state(bad)["failed_at"]
    desk.drain_silently()


def test_one_command_for_all(desk):
    """It is found on the PATH and gets its own arguments first; no handler is used."""
    desk.handler("default", "exit 1\n")
    ids = desk.deliver_bodies(body(1), updates(2))
    desk.drain_silently("--", "sh", "-c",
                        'echo "$1 $PSAPI_WEBHOOK_ID $2" >>"$PSAPI_TOLD/seen"', "sh", "arg")
    lines = [line.split() for line in desk.lines()]
    assert [(arg, webhook_id) for arg, webhook_id, _ in lines] == [("arg", webhook_id) for webhook_id in ids]
    assert all(desk.spool.path_for_a_handler(path, webhook_id) for _, webhook_id, path in lines), lines


def test_command_is_missing(desk):
    (webhook_id,) = desk.deliver(signed())
    assert "no-such-program" in desk.drain("--", "no-such-program", expect=69).stderr
    assert desk.where(webhook_id) == ["new", "events"]


# ---- input and environment ----

def test_input_argument_environment(desk):
    desk.handler("default", """#!/bin/sh
        cat >"$PSAPI_TOLD/stdin"
        printf '%s\\n' "$#" "$1" >"$PSAPI_TOLD/arguments"
        cp "$1" "$PSAPI_TOLD/file"
        env >"$PSAPI_TOLD/env"
        """)
    original = body(7) + b" \n"
    (webhook_id,) = desk.deliver(signed(original, "an id/with.any%bytes"))
    desk.drain_silently()
    assert (desk.told / "stdin").read_bytes() == original
    count, path = desk.lines("arguments")
    assert count == "1" and desk.spool.path_for_a_handler(path, webhook_id), path
    assert (desk.told / "file").read_bytes() == desk.spool.record(webhook_id)
    assert {"PSAPI_WEBHOOK_ID=an id/with.any%bytes", "PSAPI_EVENT_TYPE=producersync.npn.activated",
            "PSAPI_EVENT_TIMESTAMP=2025-07-25T00:00:07.000Z", "PSAPI_NPN=123456789",
            "PSAPI_RUN_DATE=", "PSAPI_TRY=1"} <= set(desk.lines("env"))


def test_environment_is_clean(desk):
    """Only PSAPI_*, PATH, HOME, LANG, TZ; no variable of an earlier event."""
    desk.handler("default", 'env >"$PSAPI_TOLD/env"\n')
    desk.deliver_bodies(updates())
    desk.drain(env={"HTTP_PROXY": "http://evil", "HTTP_WEBHOOK_ID": "x", "LD_LIBRARY_PATH": "/x",
                    "HOME": "/h", "TZ": "UTC", "LANG": "C", "SECRET": "s", "PSAPI_NPN": "666",
                    "PSAPI_OWN": "kept", "TZDIR": "/x"})
    names = {line.split("=")[0]: line.split("=", 1)[1] for line in desk.lines("env")}
    shell = {"PWD", "SHLVL", "_", "OLDPWD"}
    assert {n for n in names if not n.startswith("PSAPI_")} - shell <= {"PATH", "HOME", "LANG", "TZ"}
    assert names["HOME"] == "/h" and names["PSAPI_OWN"] == "kept" and names["PSAPI_NPN"] == ""
    assert names["PSAPI_RUN_DATE"] == "2025-07-24"


def test_body_that_is_not_json(desk):
    """An authentic but invalid event, retried by hand: its handler gets the signed bytes."""
    original = b"\xff\x00 no JSON \n"
    desk.handler("default", 'cat >"$PSAPI_TOLD/stdin"\n')
    (webhook_id,) = desk.deliver(signed(original))
    desk.drain_silently()
    desk.run("retry", webhook_id)
    desk.drain_silently()
    assert (desk.told / "stdin").read_bytes() == original
    assert desk.where(webhook_id) == ["events"]


@pytest.mark.parametrize("script", ["exec 0<&-\n", "head -c 10 >/dev/null\n", ":\n"])
def test_input_that_nobody_reads(desk, script):
    """A handler that closes its standard input early, and a body larger than any pipe."""
    desk.handler("default", script + NOTE)
    ids = desk.deliver(signed(event("x", filler="a" * 900_000)), signed(event("x", filler="b")))
    desk.drain_silently()
    assert sorted(desk.lines()) == sorted(ids)


# ---- exit statuses ----

@pytest.mark.parametrize("script, reason", [
    ("exit 1\n", "exit status 1"),
    ("exit 74\n", "exit status 74"),
    ("exit 76\n", "exit status 76"),
    ("exit 125\n", "exit status 125"),
])
def test_failure(desk, script, reason):
    desk.handler("default", "echo first >&2\necho the reason is this >&2\n" + script)
    (webhook_id,) = desk.deliver(signed())
    done = desk.drain(expect=1)
    assert all(word in done.stderr for word in (webhook_id, reason, "the reason is this"))
    assert done.stderr.count("\n") == 1 and done.stdout == ""
    assert desk.where(webhook_id) == ["events", "failed", "state"]
    if desk.place.store == "spool":
        assert os.stat(desk.spool.file("failed", webhook_id)).st_nlink == 2
    state = desk.state(webhook_id)
    assert state["tries"] == 1 and state["reason"].startswith(reason)
    assert state["stderr"] == "first\nthe reason is this\n"
    assert state["handler"] == str(desk.handlers / "default")
    desk.drain_silently()   # the message comes once


@pytest.mark.parametrize("script, reason", [
    ("exit 75\n", "exit status 75"),
    ("kill -TERM $$\n", "ended by signal 15"),
    ("kill -KILL $$\n", "ended by signal 9"),
])
def test_later(desk, script, reason):
    """No message, exit status 0, due after the back-off."""
    desk.handler("default", script)
    (webhook_id,) = desk.deliver(signed())
    before = time.time()
    desk.drain_silently()
    after = time.time()
    assert desk.where(webhook_id) == ["new", "events", "state"]
    state = desk.state(webhook_id)
    assert state["tries"] == 1 and state["reason"].startswith(reason)
    assert int(before) + 60 <= seconds(state["due_at"]) <= after + 60 + desk.spool.rounded_up
    assert "failed_at" not in state


@pytest.mark.parametrize("tries, delay", [(0, 60), (1, 300), (2, 1800), (3, 7200), (4, 18000),
                                          (5, 36000), (8, 36000)])
def test_backoff(desk, tries, delay):
    desk.handler("default", 'echo "$PSAPI_TRY" >>"$PSAPI_TOLD/seen"; exit 75\n')
    (webhook_id,) = desk.deliver(signed())
    desk.write_state(webhook_id, tries=tries, due_in=-1)
    before = time.time()
    desk.drain_silently()
    after = time.time()
    assert desk.lines() == [str(tries + 1)]
    assert int(before) + delay <= seconds(desk.state(webhook_id)["due_at"]) <= after + delay + desk.spool.rounded_up
    assert desk.state(webhook_id)["tries"] == tries + 1


def test_not_due_yet(desk):
    desk.handler("default", NOTE)
    (webhook_id,) = desk.deliver(signed())
    desk.write_state(webhook_id, tries=1, due_in=600)
    desk.drain_silently()
    assert desk.lines() == []
    desk.write_state(webhook_id, tries=1, due_in=-1)
    desk.drain_silently()
    assert desk.lines() == [webhook_id]
    assert desk.where(webhook_id) == ["events"]


def test_too_many_tries(desk):
    desk.place.settings["PSAPI_MAX_TRIES"] = 3
    desk.handler("default", "echo busy >&2; exit 75\n")
    (webhook_id,) = desk.deliver(signed())
    desk.write_state(webhook_id, tries=2, due_in=-1)
    done = desk.drain(expect=1)
    assert "try 3 of at most 3" in done.stderr and "busy" in done.stderr
    assert desk.where(webhook_id) == ["events", "failed", "state"]
    assert desk.state(webhook_id)["tries"] == 3


def test_unreadable_state_is_no_obstacle(desk):
    """The state is not synced: after a power cut it may hold anything, and then counts as absent."""
    desk.handler("default", NOTE)
    ids = desk.deliver(*(signed(body(n)) for n in range(4)))
    for webhook_id, text in zip(ids, ["", "{", '{"tries":"x","due_at":17}', "[]"]):
        desk.spool.file("state", webhook_id).write_text(text)
    (directory,) = desk.deliver(signed(body(9)))
    desk.spool.file("state", directory).mkdir()
    desk.drain_silently()
    assert desk.lines() == [*ids, directory] and desk.spool.names("new") == []


# ---- output ----

def test_output(desk):
    """The output of a handler is printed, as by cron. After a success its standard error is not kept."""
    desk.handler("default", 'echo "out $PSAPI_WEBHOOK_ID"; echo err >&2\n')
    (webhook_id,) = desk.deliver(signed())
    done = desk.drain()
    assert (done.stdout, done.stderr) == (f"out {webhook_id}\n", "")
    assert desk.where(webhook_id) == ["events"]


@pytest.mark.parametrize("status, result", [(0, "done"), (75, "later"), (1, "failed")])
def test_verbose(desk, status, result):
    """A line for each run, after all of its standard error, whether it succeeded or not."""
    desk.handler("default", f"echo first >&2; printf second >&2; exit {status}\n")
    (webhook_id,) = desk.deliver(signed())
    done = desk.drain("-v", expect=int(status == 1))
    first, second, line = done.stderr.splitlines()
    assert (first, second) == ("first", "second")
    assert line.startswith(f"psapi: {result}: {webhook_id} ")


def test_verbose_steers_no_terminal(desk):
    """Escaped on a terminal; unchanged in a pipe."""
    desk.handler("default", r"""printf 'evil \033[31m\n' >&2""" + "\n")
    (webhook_id,) = desk.deliver(signed())
    output, status = desk.on_a_terminal("drain", "-v")
    assert status == 0 and "evil \\x1b[31m" in output and "\x1b" not in output
    desk.run("replay", webhook_id)
    assert "evil \x1b[31m\n" in desk.drain("-v").stderr


@pytest.mark.parametrize("stream", ["1", "2"])
def test_megabytes_of_output(desk, stream):
    """The last 4 KiB of standard error are kept; nothing blocks."""
    desk.handler("default", f"""
        i=0; while [ $i -lt 64 ]; do printf '%065536d' $i; i=$((i+1)); done >&{stream}
        echo the end >&2; exit 3\n""")
    (webhook_id,) = desk.deliver(signed())
    done = desk.drain(expect=1)
    kept = desk.state(webhook_id)["stderr"]
    assert kept.endswith("the end\n")
    if stream == "2":
        assert len(kept) == 4096
    else:
        assert len(done.stdout) == 64 * 65536


def test_output_is_cut_between_characters(desk):
    """4 KiB from the end is within a character of two bytes: the other characters are kept."""
    (desk.told / "text").write_text("x" + "\u00e4" * 3000 + "\n")
    desk.handler("default", 'cat "$PSAPI_TOLD/text" >&2; exit 3\n')
    (webhook_id,) = desk.deliver(signed())
    desk.drain(expect=1)
    assert desk.state(webhook_id)["stderr"] == "\u00e4" * 2047 + "\n"


def test_output_steers_no_terminal(desk):
    desk.handler("default", r"""printf 'evil \033[31m \233 \000 line\n' >&2; exit 1""" + "\n")
    (webhook_id,) = desk.deliver(signed())
    done = desk.drain(expect=1)
    assert "\x1b" not in done.stderr and "\\x1b[31m" in done.stderr
    assert "\x1b" in desk.state(webhook_id)["stderr"]
    shown = desk.run("show", webhook_id).stdout
    assert "\x1b" not in shown and "\\x1b[31m" in shown


# ---- spool ----

def test_unrecognised_files(desk):
    """Files in new/ that are no events are left alone, and reported once."""
    desk.handler("default", NOTE)
    (webhook_id, other) = desk.deliver(signed(body(1)), signed(body(2)))
    new = desk.spool.path / "new"
    (new / "README").write_text("mine")
    (new / "notes.json").write_text('{"webhook_id":"notes"}\n')
    (new / "empty.json").write_text("")
    (new / "torn.json").write_bytes(desk.spool.file("events", webhook_id).read_bytes()[:-4])
    (new / "copy.json").write_bytes(desk.spool.file("events", webhook_id).read_bytes())
    (new / "folder.json").mkdir()
    (new / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(new / "pipe.json")
    unrecognised = sorted(set(os.listdir(new)) - {f"{webhook_id}.json", f"{other}.json"})
    done = desk.drain()
    assert desk.lines() == [webhook_id, other]
    assert sorted(os.listdir(new)) == unrecognised
    assert len(unrecognised) == done.stderr.count("left alone") == 8
    for name in unrecognised:
        assert f"new/{name}: " in done.stderr
    desk.drain_silently()
    (new / "README").write_text("mine, changed")
    assert desk.drain().stderr.count("\n") == 1


@pytest.mark.spool_only("files of the spool")
def test_modes_do_not_depend_on_the_umask(desk):
    """What a careful administrator's shell makes is readable for the spool's group all the same."""
    desk.handler("default", "exit 75\n")
    (webhook_id,) = desk.deliver(signed())
    (desk.spool.path / "new" / "README").write_text("mine")     # has state/ written at the end
    desk.drain(under=["sh", "-c", 'umask 077; exec "$@"', "sh"], expect=None)
    for path in (desk.spool.path / "lock", *(desk.spool.path / "state").iterdir()):
        assert path.stat().st_mode & 0o7777 == 0o640, path
    assert desk.state(webhook_id)["tries"] == 1


@pytest.mark.spool_only("files of the spool")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_root_leaves_nothing_of_its_own_in_anothers_spool(desk):
    """umask 077; sudo psapi retry --all: drain is not locked out, and no state is lost."""
    desk.handler("default", 'test "$PSAPI_TRY" = 2 || exit 75\n')
    (webhook_id,) = desk.deliver(signed())
    nobody = pwd.getpwnam("nobody")
    for folder, _, files in os.walk(desk.spool.path):
        for path in (folder, *(f"{folder}/{name}" for name in files)):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    umask = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    desk.run("retry", "--all", under=umask)
    desk.drain(under=umask)
    state = desk.spool.file("state", webhook_id)
    for path in (desk.spool.path / "lock", state):
        st = path.stat()
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (nobody.pw_uid, nobody.pw_gid, 0o640), path
    state.write_text(state.read_text().replace("due_at", "was_due_at"))    # now
    copy = shutil.copy(PSAPI, desk.place.dir / "psapi")     # where nobody may run it
    done = subprocess.run([copy, "drain"], env=desk.environment(), user=nobody.pw_uid, group=nobody.pw_gid,
                          extra_groups=[], capture_output=True, text=True, timeout=60 * SLOWER)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert desk.where(webhook_id) == ["events"]


def test_event_put_there_by_hand(desk):
    """A restored backup: another file than events/ has. It is never taken, and named once it is a minute old."""
    desk.handler("default", NOTE)
    (webhook_id,) = desk.deliver(signed())
    desk.drain_silently()
    data = desk.spool.file("events", webhook_id).read_bytes()
    restored = desk.spool.file("new", webhook_id)
    restored.write_bytes(data)
    desk.drain_silently()
    os.utime(restored, times=(time.time() - 61,) * 2)
    said = desk.drain().stderr
    assert f"new/{restored.name}: is not the file of this name in events/, but a copy: " in said, said
    assert "psapi replay" in said and "psapi done" in said
    desk.drain_silently()
    assert desk.lines() == [webhook_id]
    desk.run("done", webhook_id)
    assert desk.where(webhook_id) == ["events"]
    desk.run("replay", webhook_id)
    desk.drain_silently()
    assert desk.lines() == [webhook_id] * 2
    assert desk.where(webhook_id) == ["events"]


def test_event_that_was_never_recorded(desk):
    """As after a power cut: the event is not in events/. It is put there before its handler runs."""
    desk.handler("default", 'test -e "$PSAPI_SPOOL/events/$PSAPI_WEBHOOK_ID.json" && ' + NOTE)
    ids = desk.deliver(signed(body(1)), signed(body(2)))
    for webhook_id in ids:
        desk.spool.file("events", webhook_id).unlink()
    desk.drain_silently()
    assert desk.lines() == ids
    assert desk.spool.names("events") == sorted(ids)


def test_moved_back_by_hand(desk):
    """mv failed/* new/ has the effect of psapi retry."""
    desk.handler("default", "exit 3\n")
    (webhook_id,) = desk.deliver(signed())
    desk.drain(expect=1)
    desk.handler("default", 'echo "$PSAPI_TRY" >>"$PSAPI_TOLD/seen"\n')
    os.rename(desk.spool.file("failed", webhook_id), desk.spool.file("new", webhook_id))
    desk.drain_silently()
    assert desk.lines() == ["1"]
    assert desk.where(webhook_id) == ["events"]


def test_no_spool(desk):
    done = desk.drain("--spool", desk.place.dir / "nowhere", expect=66)
    assert "nowhere" in done.stderr and done.stderr.count("\n") == 1
    assert not (desk.place.dir / "nowhere").exists()


def test_settings_that_do_not_parse(desk):
    done = desk.drain("-o", "PSAPI_MAX_TRIES=many", expect=78)
    assert "PSAPI_MAX_TRIES" in done.stderr and "command line" in done.stderr


@pytest.mark.parametrize("arguments", [["-j", "0"], ["-j", "257"], ["-j", "x"], ["-x"], ["-j"],
                                       ["--spool"]])
def test_misuse(desk, arguments):
    done = desk.drain(*arguments, expect=64)
    assert "psapi help drain" in done.stderr and done.stderr.count("\n") == 1


def test_descriptors_are_not_inherited(desk):
    """A handler inherits neither the lock nor another descriptor of drain."""
    desk.handler("default", 'ls -l /proc/$$/fd >"$PSAPI_TOLD/fds"\n')
    desk.deliver(signed())
    desk.drain_silently()
    names = [line.split(" -> ")[1] for line in desk.lines("fds") if " -> " in line]
    assert not [name for name in names if str(desk.spool.path) in name], names


def test_descriptors_of_the_caller_are_not_inherited(desk):
    """flock(1) around drain must not wait for a process that a handler leaves behind."""
    desk.handler("default", 'ls -l /proc/$$/fd >"$PSAPI_TOLD/fds"\n')
    desk.deliver(signed())
    desk.drain(under=["sh", "-c", 'exec 9>"$PSAPI_TOLD/nine"; exec "$@"', "sh"])
    assert (desk.told / "nine").exists() and desk.lines("fds")
    assert not [line for line in desk.lines("fds") if "nine" in line]


def test_standard_descriptors_that_are_closed(desk):
    """Started without descriptors 0 to 2: no file of the spool gets one of these numbers."""
    desk.handler("default", 'cat >"$PSAPI_TOLD/stdin"; echo out; echo err >&2; exit 1\n')
    original = body(3)
    (webhook_id,) = desk.deliver(signed(original))
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    desk.run("list", under=closed)
    desk.drain(expect=1, under=closed)
    assert (desk.told / "stdin").read_bytes() == original
    assert desk.state(webhook_id)["stderr"] == "err\n"
    assert desk.where(webhook_id) == ["events", "failed", "state"]
    assert desk.spool.record(webhook_id).endswith(original + b"\n}\n")


def test_stdout_without_a_reader(desk):
    """cron's pipe is broken: the events are handled."""
    desk.handler("default", "echo hello\n" + NOTE)
    ids = desk.deliver(*(signed(body(n)) for n in range(3)))
    child = desk.start("drain")
    child.stdout.close()
    assert child.wait(30) == 0
    child.stdout = open(os.devnull)
    assert desk.lines() == ids


def test_json_of_the_whole_way(desk):
    """jq and psapi verify can read the file that a handler gets."""
    (webhook_id,) = desk.deliver(signed())
    desk.handler("default", 'cp "$1" "$PSAPI_TOLD/file.json"\n')
    desk.drain_silently()
    assert json.loads((desk.told / "file.json").read_text())["event"]["data"]["npn"] == "123456789"
    assert "good" in desk.run("verify", desk.told / "file.json").stdout
    assert PSAPI.exists()
