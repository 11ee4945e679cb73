"""Handlers that hang, fork, vanish, are not trusted, or cannot be started."""

import os
import pty
import signal
import subprocess

import pytest

from psapi_command import NOTE, PSAPI, STOPPED, Desk, body
from receiver import wait_for
from sender import signed
from setup_command import read_until

pytestmark = pytest.mark.each_store

TIMEOUT = {"PSAPI_HANDLER_TIMEOUT": "1"}


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    for pid in desk.lines("pids"):       # processes that outlive their drain on purpose
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    desk.close()


def is_gone(pid):
    """The process has ended (or is a zombie)."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- time-out ----

def test_hangs(desk):
    desk.handler("default", "exec sleep 1000\n")
    (webhook_id,) = desk.deliver(signed())
    desk.drain(env=TIMEOUT)
    assert desk.state(webhook_id)["reason"].startswith("no end within 1 s, try 1 of")
    assert desk.where(webhook_id) == ["new", "events", "state"]


def test_hangs_and_ignores_sigterm(desk):
    """SIGKILL follows SIGTERM after the same time."""
    desk.handler("default", "trap '' TERM\nwhile :; do sleep 1; done\n")
    (webhook_id,) = desk.deliver(signed())
    desk.drain(env=TIMEOUT)
    assert "no end within 1 s" in desk.state(webhook_id)["reason"]


@pytest.mark.parametrize("status", [0, 3])
def test_ended_in_time_while_drain_was_stopped(desk, status):
    """Drain goes on after the time-out (Ctrl-Z and fg): the handler's exit status counts, for it ended before that."""
    desk.gate("gate")
    desk.handler("default", f"""
        echo here; read line <"$PSAPI_TOLD/gate"
        kill -STOP $PPID
        exit {status}\n""")
    (webhook_id,) = desk.deliver(signed())
    child = desk.start("drain", env={"PSAPI_HANDLER_TIMEOUT": str(STOPPED)})
    desk.wait_until_stopped(child)
    desk.go_on(child, STOPPED + 0.5)
    assert child.wait(30) == (1 if status else 0)
    assert desk.where(webhook_id) == (["events", "failed", "state"] if status else ["events"])
    assert not status or desk.state(webhook_id)["reason"].startswith("exit status 3, try 1 of")


# The end of a process group. Here drain gets two SIGTERM: a time-out would have to guess how long a handler needs until
# it is ready.

def test_ends_itself_when_asked(desk):
    """SIGTERM first, so that it can clean up; its output is kept. It counts as timed out, whatever its exit status."""
    desk.handler("default", """
        trap 'echo tidy >>"$PSAPI_TOLD/seen"; echo interrupted >&2; exit 0' TERM
        echo $$ >>"$PSAPI_TOLD/pids"
        sleep 1000 & wait\n""")
    (webhook_id,) = desk.deliver(signed())
    child = desk.start("drain")
    desk.wait_for_lines(1, "pids")
    assert desk.end_early(child) == 0
    state = desk.state(webhook_id)
    assert desk.lines() == ["tidy"] and state["stderr"] == "interrupted\n"
    assert state["reason"].startswith("ended because drain was asked twice to end, try 1 of")


def test_asks_all_of_them(desk):
    """SIGTERM goes to the whole group: a child of the handler can clean up as well."""
    desk.handler("default", """
        sh -c 'trap "echo tidy >>$PSAPI_TOLD/seen; exit" TERM
               sleep 1000 & echo $$ >>"$PSAPI_TOLD/pids"; wait' &
        trap "" TERM
        echo $$ >>"$PSAPI_TOLD/pids"
        wait $!\n""")
    desk.deliver(signed())
    child = desk.start("drain")
    desk.wait_for_lines(2, "pids")
    assert desk.end_early(child) == 0
    assert desk.lines() == ["tidy"]


def test_forks_and_hangs(desk):
    """The whole group is ended, also processes that ignore SIGTERM."""
    desk.handler("default", """
        sh -c 'trap "" TERM; echo $$ >>"$PSAPI_TOLD/pids"; while :; do sleep 1; done' &
        trap "" TERM
        sh -c 'echo $$ >>"$PSAPI_TOLD/pids"; exec sleep 1000' &
        while :; do wait; done\n""")
    (webhook_id,) = desk.deliver(signed())
    child = desk.start("drain")
    pids = desk.wait_for_lines(2, "pids")
    assert desk.end_early(child) == 0
    wait_for(lambda: all(is_gone(pid) for pid in pids), "nobody of the group is left")
    assert desk.where(webhook_id) == ["new", "events", "state"]


def test_leaves_a_child_when_asked(desk):
    """The handler ends, but not its group: a child that ignores SIGTERM is ended as well."""
    desk.handler("default", """
        sh -c 'trap "" TERM; echo $$ >>"$PSAPI_TOLD/pids"; while :; do sleep 1; done' &
        wait\n""")
    desk.deliver(signed())
    child = desk.start("drain")
    (pid,) = desk.wait_for_lines(1, "pids")
    assert desk.end_early(child) == 0
    wait_for(lambda: is_gone(pid), "nobody of the group is left")


# ---- processes that outlive others ----

def test_daemonises(desk):
    """A process that a handler leaves behind holds neither the lock nor drain's output, and blocks nothing."""
    desk.handler("default", NOTE + """
        setsid sh -c 'echo $$ >>"$PSAPI_TOLD/pids"; exec sleep 1000' &
        exit 0\n""")
    first, second = desk.deliver(signed(body(1)), signed(body(2)))
    desk.drain_silently()       # its output is read to the end: no other process has it open
    assert desk.lines() == [first, second]
    (third,) = desk.deliver(signed(body(3)))
    desk.drain_silently()
    assert desk.lines() == [first, second, third]
    assert not any(is_gone(pid) for pid in desk.wait_for_lines(3, "pids"))


def test_dies_with_its_drain(desk):
    desk.handler("default", 'echo $$ >>"$PSAPI_TOLD/pids"\n' + NOTE + "exec sleep 1000\n")
    (webhook_id,) = desk.deliver(signed())
    child = desk.start("drain")
    (pid,) = desk.wait_for_lines(1, "pids")
    desk.wait_for_lines(1)
    child.kill()
    wait_for(lambda: is_gone(pid), "the handler dies with drain")
    desk.wait_for_unlock()
    desk.handler("default", NOTE)
    desk.drain_silently()
    assert desk.lines() == [webhook_id] * 2
    assert desk.where(webhook_id) == ["events"]


def test_removed_while_running(desk):
    """The handler's file is removed: the run goes on, and the next event has no handler of that name."""
    desk.gate("gate")
    path = desk.handler("producersync", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    desk.handler("default", 'echo default >>"$PSAPI_TOLD/seen"\n')
    first, second = desk.deliver(signed(body(1)), signed(body(2)))
    child = desk.start("drain")
    desk.wait_for_lines(1)
    path.unlink()
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert desk.lines() == [first, "default"]
    assert desk.where(first) == desk.where(second) == ["events"]


# ---- signals ----

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_end(desk, number):
    """The running handler finishes, no other starts, exit status 0."""
    desk.gate("gate")
    desk.handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    first, second = desk.deliver(signed(body(1)), signed(body(2)))
    child = desk.start("drain")
    desk.wait_for_lines(1)
    child.send_signal(number)
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert desk.lines() == [first]
    assert desk.where(first) == ["events"] and desk.where(second) == ["new", "events"]


def test_asked_twice(desk):
    """Like a time-out: the handler is ended, its event waits for its retry."""
    desk.handler("default", NOTE + "exec sleep 1000\n")
    (webhook_id,) = desk.deliver(signed())
    child = desk.start("drain")
    desk.wait_for_lines(1)
    assert desk.end_early(child) == 0
    assert desk.where(webhook_id) == ["new", "events", "state"]


@pytest.mark.parametrize("options", [[], ["-v"]])
def test_asked_on_a_terminal(desk, options):
    """After ^C it says what it waits for, once; the second one is like a time-out."""
    desk.handler("default", NOTE + "echo begun; exec sleep 1000\n")
    (webhook_id,) = desk.deliver(signed())
    told = b"waiting for 1 running handler(s) to end; a second signal ends them"
    environment = desk.environment()
    controller, terminal = pty.openpty()
    child = subprocess.Popen([PSAPI, "drain", *options], env=environment, stdin=subprocess.DEVNULL, stdout=terminal,
                             stderr=terminal, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        read_until(controller, b"begun")
        child.send_signal(signal.SIGINT)
        assert read_until(controller, told).count(told) == 1
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
    finally:
        os.close(terminal)
        os.close(controller)
    assert desk.where(webhook_id) == ["new", "events", "state"]


# ---- trust ----

def spoil(desk, how):
    """Make the handler, or its directory, writable for others."""
    handler = desk.handlers / "default"
    if how == "group writes":
        handler.chmod(0o775)
    elif how == "others write":
        handler.chmod(0o757)
    elif how == "others write the directory":
        desk.handlers.chmod(0o777)
    elif how == "not executable":
        handler.chmod(0o644)
    elif how == "a directory":
        handler.unlink()
        handler.mkdir()
    elif how == "another's":
        os.chown(handler, 12345, 12345)
    elif how == "dangling link":
        handler.unlink()
        handler.symlink_to("/nowhere/at/all")
    elif how == "link into another's hands":
        target = desk.place.dir / "open"
        target.mkdir()
        target.chmod(0o777)
        os.rename(handler, target / "handler")
        handler.symlink_to(target / "handler")
    elif how == "no interpreter":
        desk.handler("default", "#!/no/such/interpreter\n")
    elif how == "no script":
        desk.handler("default", "#!").write_bytes(b"echo hello\n")
    elif how == "no directory":
        desk.handlers.rename(desk.place.dir / "elsewhere")


def mend(desk, how):
    if how == "no directory":
        (desk.place.dir / "elsewhere").rename(desk.handlers)
    desk.handlers.chmod(0o755)
    if how == "a directory":
        (desk.handlers / "default").rmdir()
    desk.handler("default", NOTE)


@pytest.mark.parametrize("how", [
    "group writes", "others write", "others write the directory", "not executable", "a directory",
    "another's", "dangling link", "link into another's hands", "no interpreter", "no script",
    "no directory"])
def test_untrusted(desk, how):
    """One message per run, exit status 78. The event waits, and no try is counted."""
    if how == "another's" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    desk.handler("default", NOTE)
    desk.handler("x", NOTE)
    ids = desk.deliver(signed(body(1, "1")), signed(body(2, "2")), signed(body(3, "1")))
    spoil(desk, how)
    done = desk.drain(expect=78)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "handlers.d" in done.stderr or "/open" in done.stderr
    assert "chmod +x" in done.stderr or how != "not executable"
    assert desk.lines() == []
    for webhook_id in ids:
        assert desk.where(webhook_id) == ["new", "events"]
    mend(desk, how)
    desk.drain_silently()
    assert desk.lines() == ids


def test_each_is_reported_once(desk):
    """Two untrusted handlers, events of both in turn: one line for each."""
    for name in ("producersync.npn.activated", "producersync.npn.deactivated"):
        desk.handler(name, NOTE, mode=0o777)
    kinds = ("activated", "deactivated") * 3
    desk.deliver(*(signed(body(n, str(n), "producersync.npn." + kind)) for n, kind in enumerate(kinds)))
    done = desk.drain("-j", "4", expect=78)
    assert done.stderr.count("npn.activated:") == done.stderr.count("npn.deactivated:") == 1
    assert done.stderr.count("\n") == 2


def test_others_are_served_meanwhile(desk):
    desk.handler("producersync", NOTE, mode=0o777)
    desk.handler("x", NOTE)
    bad, good = desk.deliver(signed(body(1)), signed(b'{"type":"x.y","data":{}}'))
    desk.drain(expect=78)
    assert desk.lines() == [good]
    assert desk.where(bad) == ["new", "events"]
