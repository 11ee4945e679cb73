"""After any kill or failure no event is lost, and in a lane none overtakes one that waits.

drain runs repeatedly over the same events, each time with a fault one system call later, until a run has none. After
each, a run without faults must finish the work.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest

import strace
from psapi_command import NOTE, PSAPI, Desk, body, updates
from receiver import BINARY, SANITIZED, wait_for
from sender import signed
from servers import cgi_variables
from spool import fill

CALLS = ["openat", "linkat", "unlinkat", "fsync", "renameat", "write", "close", "fork", "readlink",
         "waitid", "wait4", "ppoll", "flock", "getdents64", "newfstatat", "faccessat2"]
FAILURES = [("linkat", "EIO"), ("linkat", "ENOSPC"), ("unlinkat", "EIO"), ("fsync", "EIO"),
            ("renameat", "ENOSPC"), ("write", "ENOSPC"), ("openat", "EMFILE"), ("openat", "EIO"),
            ("fork", "EAGAIN"), ("pipe2", "EMFILE"), ("memfd_create", "ENFILE"), ("read", "EIO"),
            ("getdents64", "EIO"), ("newfstatat", "EIO"), ("flock", "EIO"), ("ppoll", "EINTR"),
            ("setpgid", "EPERM"), ("faccessat2", "EIO")]
MOST = 400      # calls of one kind; far more than any run makes
LANES = {"a1": ["a1", "a2", "a3"], "b1": ["b1", "b2"], "d1": ["d1"]}

needs_strace = pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))


@pytest.fixture
def desk(place):
    place.tidy = False      # files in tmp/ of a killed process are removed after an hour
    desk = Desk(place)
    yield desk
    desk.close()


@pytest.fixture
def lanes(desk):
    """Three lanes: one succeeds, in one the first event fails, one is to be retried later."""
    desk.handler("default", NOTE + """case $PSAPI_WEBHOOK_ID in
        b1) echo no >&2; exit 1;; d1) exit 75;; esac\n""")
    desk.deliver(*(signed(body(n, "1"), f"a{n}") for n in (1, 2, 3)),
                 *(signed(body(n, "2"), f"b{n}") for n in (1, 2)), signed(updates(), "d1"))
    (desk.spool.path / "lock").touch(0o640)
    return desk


def again(desk):
    """All events are new, without a state."""
    for directory in ("new", "failed", "state"):
        for name in os.listdir(desk.spool.path / directory):
            os.unlink(desk.spool.path / directory / name)
    for name in os.listdir(desk.spool.path / "events"):
        os.link(desk.spool.path / "events" / name, desk.spool.path / "new" / name)
    (desk.told / "seen").unlink(missing_ok=True)


def faulty_drain(desk, call, fault, when, jobs):
    """One drain with a fault at its `when`th call (not its handlers'). Returns whether the call was reached."""
    log = desk.place.dir / "strace.txt"
    names = {"fork": "fork,clone,clone3,vfork"}
    under = strace.command(names.get(call, call), fault, when, log)
    under.remove("-f")
    done = desk.drain("-j", jobs, expect=None, under=under)
    return done, strace.was_injected(log) or was_killed(done)


def was_killed(done):
    """strace ends as the process that it runs."""
    return done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def assert_nothing_lost(desk):
    """Every event is in events/, and waits unless its handler was run."""
    assert desk.spool.names("events") == ["a1", "a2", "a3", "b1", "b2", "d1"]
    seen = desk.lines()
    for webhook_id in desk.spool.names("events"):
        where = desk.where(webhook_id)
        assert "new" in where or "failed" in where or webhook_id in seen, (webhook_id, where)
        if webhook_id == "b1":
            assert "new" in where or desk.state("b1")["reason"].startswith("exit status 1")
        if webhook_id == "d1":
            assert "new" in where


def assert_order(desk):
    """In each lane, no event was handled after a later one."""
    seen = desk.lines()
    for lane in LANES.values():
        mine = [webhook_id for webhook_id in seen if webhook_id in lane]
        assert mine == sorted(mine), seen


def assert_finished(desk):
    """A run without faults, with all retries due, finishes the work."""
    for webhook_id in desk.spool.names("state"):
        if "due_at" in (desk.state(webhook_id) or {}):
            desk.write_state(webhook_id, tries=1, due_in=-1)
    desk.wait_for_unlock()
    desk.drain("-j", "2", expect=None)
    assert_order(desk)
    assert set(desk.lines()) == {"a1", "a2", "a3", "b1", "b2", "d1"}
    assert desk.spool.names("failed") == ["b1"] and desk.spool.names("new") == ["d1"]
    assert desk.state("d1")["due_at"] and desk.state("b1")["failed_at"]
    assert desk.spool.names("state") == ["b1", "d1"]


@pytest.fixture
def step(request):
    """Every call with --long, else every third. check-faults tests all in another way."""
    return 1 if request.config.getoption("--long") else 3


@needs_strace
@pytest.mark.parametrize("call", CALLS)
def test_killed_at_any_call(lanes, call, step):
    for when in range(1, MOST, step):
        again(lanes)
        done, injected = faulty_drain(lanes, call, "signal=KILL", when, "2")
        if not injected:
            break
        assert was_killed(done)
        assert_nothing_lost(lanes)
        assert_order(lanes)
        assert_finished(lanes)
    assert not injected and when > 1, "nothing was ever killed"
    assert_finished(lanes)


@needs_strace
@pytest.mark.parametrize("call, error", FAILURES)
def test_call_fails(lanes, call, error, step):
    """A message and an exit status; nothing is lost, and the next run finishes the work."""
    if SANITIZED and call == "read":
        pytest.skip("a sanitizer that cannot read /proc gives up")
    for when in range(1, MOST, step):
        again(lanes)
        done, injected = faulty_drain(lanes, call, f"error={error}", when, "1")
        if not injected:
            break
        assert done.returncode >= 0 and "Sanitizer" not in done.stderr
        assert_nothing_lost(lanes)
        assert_order(lanes)
        assert_finished(lanes)
    assert not injected and when > 1, "nothing ever failed"


@needs_strace
@pytest.mark.parametrize("command, call", [
    (command, call) for command in ("retry", "replay", "done") for call in
    ("linkat", "unlinkat", "fsync")])
def test_tools_killed_at_any_call(lanes, command, call):
    """retry, replay, done: after a kill the event is in its old or its new place."""
    again(lanes)
    lanes.drain(expect=1)       # b1 failed, d1 waits, a1 was handled
    which = {"retry": "b1", "replay": "a1", "done": "b1"}[command]
    log = lanes.place.dir / "strace.txt"
    for when in range(1, MOST):
        under = strace.command(call, "signal=KILL", when, log)
        done = lanes.run(command, which, expect=None, under=under)
        where = lanes.where(which)
        if not was_killed(done):
            break
        assert "events" in where
        assert command != "retry" or "new" in where or "failed" in where
        assert lanes.run(command, which, expect=None).returncode in (0, 65)
        assert {"retry": "new" in lanes.where(which), "replay": "new" in lanes.where(which),
                "done": lanes.where(which) == ["events"]}[command]
        again(lanes)
        lanes.drain(expect=1)
    assert where == (["events"] if command == "done" else ["new", "events"])


def changes(desk, *arguments):
    """The changes of directories by psapi, in order: ("link", from, to), ("sync", d), ("unlink", d)."""
    log = desk.place.dir / "strace.txt"
    under = [*strace.UNDER, "-y", "-o", str(log), "-e", "trace=linkat,unlinkat,fsync"]
    under.remove("-f")
    desk.run(*arguments, expect=None, under=under)
    found = []
    for line in log.read_text().splitlines():
        folders = re.findall(rf"<{re.escape(str(desk.spool.path))}/(\w+)>", line)
        words = {"linkat": "link", "unlinkat": "unlink", "fsync": "sync"}
        if folders and line.endswith("= 0"):
            found.append((words[line.split("(")[0]], *folders))
    return found


def assert_synced_first(done, removal, *needed):
    """The directory with the new name was synced after its last change and before the removal of the old name."""
    assert removal in done
    for index in (i for i, change in enumerate(done) if change == removal):
        before = done[:index]
        for directory in needed:
            syncs = [i for i, change in enumerate(before) if change == ("sync", directory)]
            links = [i for i, change in enumerate(before)
                     if change[0] == "link" and change[-1] == directory]
            assert syncs and (not links or max(links) < max(syncs)), (removal, directory, before)


@needs_strace
def test_syncs_come_before_removals(lanes):
    """A power cut must not reorder them: the old name is removed after the new one is durable."""
    again(lanes)
    assert_synced_first(changes(lanes, "drain"), ("unlink", "new"), "events", "failed")
    again(lanes)
    for name in os.listdir(lanes.spool.path / "events"):
        os.unlink(lanes.spool.path / "events" / name)       # as after a power cut
    assert_synced_first(changes(lanes, "drain"), ("unlink", "new"), "events", "failed")
    assert_synced_first(changes(lanes, "retry", "b1"), ("unlink", "failed"), "new")
    lanes.drain(expect=1)
    assert_synced_first(changes(lanes, "retry", "--all"), ("unlink", "failed"), "new")
    assert_synced_first(changes(lanes, "done", "b1"), ("unlink", "new"), "events")
    assert ("sync", "new") in changes(lanes, "replay", "a1")[-1:]


@pytest.mark.each_store
def test_killed_at_random(lanes):
    """kill -9 while several handlers run, repeatedly."""
    lanes.handler("default", NOTE)
    seed = "a1"
    for n in range(40):
        lanes.copy(seed, f"x{n:02}")        # all in one lane, with one timestamp: ordered by name
    for kills in range(1, 12):
        child = lanes.start("drain", "-j", "4")
        lanes.wait_for_lines(4 * kills)
        child.kill()
        child.wait()
        lanes.wait_for_unlock()
    lanes.drain_silently("-j", "4")
    assert lanes.spool.names("new") == []
    mine = [i for i in lanes.lines() if i.startswith("x")]
    assert mine == sorted(mine) and len(set(mine)) == 40


# ---- concurrency ----

@pytest.mark.each_store
def test_two_drains(desk):
    """The second ends at once, without a message."""
    desk.gate("gate")
    desk.handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    (webhook_id,) = desk.deliver(signed())
    child = desk.start("drain")
    desk.wait_for_lines(1)
    desk.drain_silently()
    desk.drain_silently("-j", "4")
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert desk.lines() == [webhook_id] and desk.where(webhook_id) == ["events"]


@pytest.mark.each_store
def test_drains_in_a_row(desk):
    """Several are started at once, repeatedly: each event is handled exactly once."""
    desk.handler("default", NOTE)
    desk.deliver(signed(body(), "seed"))
    for n in range(30):
        desk.copy("seed", f"x{n:02}")
    while True:
        children = [desk.start("drain", "-j", "2") for _ in range(4)]
        assert all(child.wait(60) == 0 for child in children)
        if not desk.spool.names("new"):
            break
    assert sorted(desk.lines()) == sorted(["seed", *(f"x{n:02}" for n in range(30))])


@pytest.mark.each_store
def test_arrives_during_the_run(desk):
    """drain goes on until nothing is due: a new event does not wait for the next run."""
    desk.gate("gate")
    desk.handler("default", NOTE + 'test "$PSAPI_NPN" != 1 || read line <"$PSAPI_TOLD/gate"\n')
    desk.deliver(signed(body(1, "1"), "first"))
    child = desk.start("drain")
    desk.wait_for_lines(1)
    desk.deliver(signed(body(2, "2"), "second"))
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert desk.lines() == ["first", "second"]


def test_not_committed_yet(desk):
    """What a killed receiver has left in new/ alone is committed by drain, and handled in its turn."""
    desk.handler("default", NOTE)
    desk.deliver(signed(body(1), "first"), signed(body(2), "second"))
    desk.spool.file("events", "first").unlink()
    desk.drain_silently()
    assert desk.lines() == ["first", "second"]
    assert desk.where("first") == ["events"]


def test_another_file_than_in_events(desk):
    """A writer that has met a duplicate is about to remove its file: drain waits a moment. A copy of the file in
    events/ nobody removes: then the lane waits no longer, and drain says what queues the event again."""
    desk.handler("default", NOTE)
    desk.deliver(signed(body(1), "apart"), signed(body(2), "behind"), signed(updates(), "other"))
    ours = desk.spool.file("new", "apart")
    text = ours.read_bytes()
    ours.unlink()
    ours.write_bytes(text)
    desk.drain_silently()
    assert desk.lines() == ["other"], "and in its lane no event overtakes it"
    os.utime(ours, (time.time() - 61,) * 2)
    assert "not the file of this name in events/, but a copy" in desk.drain().stderr
    assert desk.lines() == ["other", "behind"]
    desk.drain_silently()
    desk.run("replay", "apart")
    desk.drain_silently()
    assert desk.lines() == ["other", "behind", "apart"]
    assert desk.where("apart") == ["events"]


@needs_strace
def test_killed_at_a_duplicate(desk):
    """A receiver that is killed when it has met a duplicate, which was accepted and handled while it wrote: its file
    in new/ is not handled, and does not stay."""
    desk.handler("default", NOTE)
    request = signed(body(1), "twice")
    log = desk.place.dir / "strace.txt"
    environment = desk.place.environment()
    environment.update(cgi_variables(request))
    # It stops when its file is written, and is killed instead of removing the name.
    slow = subprocess.Popen([*strace.UNDER, "-o", log, "-e", "trace=writev,unlinkat", "-e",
                             "inject=writev:signal=STOP:when=1", "-e", "inject=unlinkat:signal=KILL:when=1", BINARY],
                            env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    slow.stdin.write(request.body)
    slow.stdin.close()
    wait_for(lambda: log.exists() and "stopped by SIGSTOP" in log.read_text(), "it has written its file")
    desk.deliver(request)
    desk.drain_silently()
    assert desk.lines() == ["twice"]
    os.kill(int(log.read_text().split()[0]), signal.SIGCONT)
    assert slow.wait(30) != 0
    left = desk.spool.file("new", "twice")
    assert left.exists() and not desk.spool.is_work("new", "twice")
    desk.drain_silently()
    assert left.exists(), "its receiver may live"
    os.utime(left, (time.time() - 61,) * 2)
    desk.drain_silently()
    assert desk.where("twice") == ["events"] and desk.lines() == ["twice"]


@pytest.mark.parametrize("status", [0, 1, 75])
def test_removed_by_a_script(desk, status):
    """An event that a script removed from new/ is done: it is not run, and not put back after its handler."""
    desk.gate("gate")
    desk.handler("default", NOTE + f'read line <"$PSAPI_TOLD/gate"\nexit {status}\n')
    desk.deliver(signed(body(1), "running"), signed(body(2), "next"))
    child = desk.start("drain")
    desk.wait_for_lines(1)
    for webhook_id in ("running", "next"):
        desk.spool.file("new", webhook_id).unlink()
    desk.open_gate("gate")
    assert child.wait(30) == 0
    assert desk.lines() == ["running"]
    assert desk.where("running") == desk.where("next") == ["events"]


@needs_strace
def test_removed_by_a_script_at_the_last_moment(desk):
    """After drain has seen that the event is there, and has written why it failed. (The first rename is its own note.)"""
    desk.handler("default", NOTE + 'echo $PPID >"$PSAPI_TOLD/drain"\nexit 1\n')
    desk.deliver(signed(body(1), "mine"), signed(body(2), "next"))
    under = strace.command("renameat", "signal=STOP", 2, desk.place.dir / "strace.txt")
    under.remove("-f")
    child = subprocess.Popen([*under, PSAPI, "drain"], env=desk.environment(), text=True,
                             stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    desk.children.append(child)
    (pid,) = map(int, desk.wait_for_lines(1, "drain"))
    wait_for(lambda: desk.state("mine"), "drain has written the state, and goes no further")
    desk.spool.file("new", "mine").unlink()

    def ends():
        """One SIGCONT may come too early: the process stops after the call that is seen in the trace."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        return child.poll() is not None

    wait_for(ends, "it goes on, and ends")
    assert child.returncode == 1
    messages = child.stderr.read()
    assert "mine" not in messages and "failed: next" in messages, messages
    assert desk.lines() == ["mine", "next"]
    assert desk.where("mine") == ["events"] and desk.where("next") == ["events", "failed", "state"]


def test_beside_a_script(desk):
    """A script and drain handle events of the same new/: each is handled at least once."""
    desk.handler("default", NOTE)
    desk.deliver(signed(body(), "seed"))
    for n in range(100):
        desk.copy("seed", f"x{n:03}")
    mine = []

    def script():
        for name in sorted(os.listdir(desk.spool.path / "new"), reverse=True):
            mine.append(name.removesuffix(".json"))
            (desk.spool.path / "new" / name).unlink(missing_ok=True)

    thread = threading.Thread(target=script)
    child = desk.start("drain", "-j", "2")
    desk.wait_for_lines(10)
    thread.start()
    thread.join()
    assert child.wait(60) == 0
    assert desk.spool.names("new") == desk.spool.names("failed") == desk.spool.names("state") == []
    assert set(desk.lines()) | set(mine) == {"seed", *(f"x{n:03}" for n in range(100))}


# ---- file systems ----

def mount(path, *options):
    done = subprocess.run(["mount", *options, path], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")


@pytest.fixture
def disk(desk):
    """A file system of 2 MiB under the spool."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    path = desk.spool.path
    mount(path, "-t", "tmpfs", "-o", "size=2m,mode=2770", "psapi-test")
    desk.place.settings["PSAPI_MIN_FREE"] = 0
    yield path
    desk.close()
    wait_for(lambda: subprocess.run(["umount", path]).returncode == 0, "unmounted")


def test_full(desk, disk):
    """A success needs no space. An event whose state cannot be written waits, with a message, and is not lost."""
    desk.handler("default", NOTE + 'case $PSAPI_WEBHOOK_ID in bad*) exit 1;; late*) exit 75;; esac\n')
    desk.deliver(signed(body(1, "1"), "good"), signed(body(2, "2"), "bad"),
                 signed(body(3, "3"), "late"))
    fill(disk)
    done = desk.drain(expect=74)
    assert "No space left" in done.stderr and "make room" in done.stderr
    assert desk.where("good") == ["events"]
    assert desk.where("bad") == desk.where("late") == ["new", "events"]
    (disk / "filler").unlink()
    desk.drain(expect=1)
    assert desk.where("bad") == ["events", "failed", "state"]
    assert desk.where("late") == ["new", "events", "state"]


def test_read_only(desk, disk):
    """No handler runs, because its result could not be stored. Reading works."""
    desk.handler("default", NOTE)
    (webhook_id,) = desk.deliver(signed())
    desk.drain_silently()
    desk.run("replay", webhook_id)
    mount(disk, "-o", "remount,ro")
    try:
        done = desk.drain(expect=74)
        assert "Read-only file system" in done.stderr and done.stderr.count("\n") == 1
        assert desk.lines() == [webhook_id]
        assert webhook_id in desk.run("list").stdout
        assert "1 good" in desk.run("verify", "--all").stdout
        assert "Read-only" in desk.run("done", webhook_id, expect=74).stderr
    finally:
        mount(disk, "-o", "remount,rw")
    desk.drain_silently()
    assert desk.lines() == [webhook_id] * 2


# ---- another user ----

def as_nobody(desk, *arguments, group=0):
    """psapi as a user who owns nothing in the spool; in its group or not."""
    return subprocess.run(arguments, env=desk.environment(), user=65534, group=group,
                          extra_groups=[], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)


def test_as_another_user(desk):
    """The kernel refuses hard links to files of other users: it is messages as whom to run it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    with open("/proc/sys/fs/protected_hardlinks") as setting:
        if setting.read().strip() != "1":
            pytest.skip("fs.protected_hardlinks is off")
    if as_nobody(desk, PSAPI, "--version").returncode != 0:
        pytest.skip(f"others may not run {PSAPI}")
    desk.handler("default", NOTE + "exit 1\n")
    desk.deliver(signed(body(1), "failed"))
    desk.drain(expect=1)
    desk.deliver(signed(body(2), "new"))
    for arguments in (["retry", "failed"], ["retry", "--all"], ["drain"]):
        done = as_nobody(desk, PSAPI, *arguments)
        assert done.returncode == 77, done
        assert "run it as root, whose spool it is" in done.stderr and done.stderr.count("\n") == 1, done
    assert desk.lines() == ["failed"], "no handler ran"
    assert "exit status 1" in desk.run("show", "failed").stdout, "why it failed is not forgotten"
    desk.run("done", "failed", "new")
    assert as_nobody(desk, PSAPI, "replay", "failed").returncode == 77
    assert as_nobody(desk, PSAPI, "list", "--all").stdout.count("handled") == 2
    (desk.spool.path / "lock").unlink()
    desk.spool.path.chmod(0o2750)
    for arguments, group in ((["drain"], 0), (["list"], 65534)):
        done = as_nobody(desk, PSAPI, *arguments, group=group)
        assert done.returncode == 77 and "run it as root, whose spool it is" in done.stderr, done
