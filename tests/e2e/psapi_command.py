"""`psapi` as an operator and cron run it, over a spool that the real receiver filled (Desk).

Handlers are real scripts. They write what they got into files in `desk.told`, and wait for the test at named pipes
(`gate`), so the speed of the machine does not matter. Handlers inherit PSAPI_*, and with it PSAPI_TOLD.
"""

import errno
import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
import time
from datetime import datetime

from receiver import BINARY, SLOWER, wait_for
from replies import assert_accepted
from sender import signed
from servers import Socket

PSAPI = BINARY.parent / "psapi"
NOTE = 'echo "$PSAPI_WEBHOOK_ID" >>"$PSAPI_TOLD/seen"\n'     # the handler of most tests
# Time-out of a handler whose drain is stopped for longer. Before that the handler has ended, also on a busy machine.
STOPPED = 5 * SLOWER


def seconds(text):
    """Unix seconds of a time of the spool."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def body(second=0, npn="123456789", kind="producersync.npn.activated", **data):
    """An event that was generated `second` seconds after midnight; npn None: without one."""
    at = f"2025-07-25T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"
    if npn is not None:
        data = {"npn": npn, "activatedAt": at, "deactivatedAt": at} | data
    return json.dumps({"data": data, "id": "whe_1", "timestamp": at, "type": kind}).encode()


def updates(second=0, run_date="2025-07-24"):
    return body(second, None, "producersync.updates_available", runDate=run_date)


def heed_signals():
    """In the background, or under nohup, the tests ignore some signals, and psapi would inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def on_a_terminal(command, env, size=(0, 0), **descriptors):
    """Output and exit status of a command whose standard output and error, if not given, are a pseudo-terminal. size: its
    lines and columns."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    descriptors = {"stdin": subprocess.DEVNULL, "stdout": terminal, "stderr": terminal} | descriptors
    child = subprocess.Popen(command, env=env, preexec_fn=heed_signals, **descriptors)
    os.close(terminal)
    output = b""
    try:
        while chunk := os.read(controller, 65536):
            output += chunk
    except OSError:     # EIO: the other end is closed
        pass
    os.close(controller)
    return output.decode(), child.wait()


class Desk:
    """The surroundings of `psapi`: handlers and what they wrote, deliveries, the spool."""

    def __init__(self, place):
        self.place, self.spool = place, place.spool
        self.handlers = place.dir / "handlers.d"
        self.handlers.mkdir(mode=0o755)
        self.told = place.dir / "told"
        self.told.mkdir()
        place.settings |= {"PSAPI_HANDLERS": self.handlers, "PSAPI_TOLD": self.told}
        self.children = []

    # ---- deliveries ----

    def deliver(self, *requests):
        """Through the receiver, one after the other. Returns the webhook-ids."""
        with Socket(self.place) as server:
            for request in requests:
                assert_accepted(server.send(request))
            server.receiver.stop()
        return [request.header("webhook-id").decode() for request in requests]

    def deliver_bodies(self, *bodies):
        return self.deliver(*(signed(one) for one in bodies))

    def copy(self, webhook_id, new_id):
        """A fast way to many events: copies of one under other ids. Their signatures are wrong."""
        self.spool.copy(webhook_id, new_id)

    # ---- handlers ----

    def handler(self, name, script, mode=0o755):
        """Write a handler. A script without #! runs in sh."""
        path = self.handlers / name
        draft = self.place.dir / "handler.new"
        draft.write_text(script if script.startswith("#!") else "#!/bin/sh\n" + script)
        draft.chmod(mode)
        draft.replace(path)
        return path

    def gate(self, name):
        """A named pipe on which a handler waits: `read line <"$PSAPI_TOLD/NAME"`."""
        os.mkfifo(self.told / name)

    def open_gate(self, name):
        """Let the one handler that waits there go on. Fails if none does within the deadline."""
        def reach():
            try:
                return os.open(self.told / name, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                assert error.errno == errno.ENXIO, error
                return None
        gate = wait_for(reach, f"a handler waits at {name}")
        os.write(gate, b"go\n")
        os.close(gate)

    def lines(self, name="seen"):
        try:
            return (self.told / name).read_text().splitlines()
        except FileNotFoundError:
            return []

    def wait_for_lines(self, count, name="seen"):
        wait_for(lambda: len(self.lines(name)) >= count, f"{count} lines in {name}")
        return self.lines(name)

    # ---- the command ----

    def environment(self, extra=None):
        return self.place.environment() | (extra or {})

    def run(self, *arguments, expect=0, env=None, stdin=None, under=()):
        """Run psapi. `under`: a command that starts it (strace ...)."""
        done = subprocess.run([*under, PSAPI, *arguments], env=self.environment(env), stdin=stdin or
                              subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60 * SLOWER)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        assert expect is None or done.returncode == expect, (done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *arguments, env=None, stdout=subprocess.PIPE, stderr=subprocess.PIPE):
        """Start psapi in the background; Desk ends it at the latest."""
        child = subprocess.Popen([PSAPI, *arguments], env=self.environment(env), text=True,
                                 stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                                 preexec_fn=heed_signals)
        self.children.append(child)
        return child

    def drain(self, *arguments, expect=0, **more):
        return self.run("drain", *arguments, expect=expect, **more)

    def end_early(self, child):
        """SIGTERM to a drain until it has ended. From the second signal on it ends its handlers."""
        while child.poll() is None:
            child.terminate()
            try:
                child.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        return child.returncode

    def wait_until_stopped(self, child):
        """Its handler has begun with `echo here; read line <"$PSAPI_TOLD/gate"; kill -STOP $PPID`."""
        def is_stopped():
            with open(f"/proc/{child.pid}/stat") as stat:
                return stat.read().rsplit(")", 1)[1].split()[0] == "T"
        assert child.stdout.readline() == "here\n"
        self.open_gate("gate")
        wait_for(is_stopped, "its handler stops it")

    def go_on(self, child, seconds=0):
        """A stopped process, when so many seconds have passed."""
        end = time.monotonic() + seconds
        wait_for(lambda: time.monotonic() >= end, "the time passes")
        child.send_signal(signal.SIGCONT)

    def drain_silently(self, *arguments):
        done = self.drain(*arguments)
        assert (done.stdout, done.stderr) == ("", "")

    def rows(self, *arguments):
        """The objects that a subcommand prints with --json."""
        return [json.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]

    def on_a_terminal(self, *arguments, env=None, under=()):
        """Output and exit status with a pseudo-terminal as standard output and error."""
        return on_a_terminal([*under, PSAPI, *arguments], self.environment(env))

    # ---- the spool ----

    def is_locked(self):
        return self.spool.is_locked()

    def waits_for_lock(self, child):
        """Whether the process has the lock's file open: it tries again and again to lock it."""
        directory = f"/proc/{child.pid}/fd"
        return str(self.spool.path / "lock") in [os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)]

    def wait_for_unlock(self):
        """After a drain was killed: until another can work on its events."""
        self.spool.wait_for_unlock()

    def state(self, webhook_id):
        return self.spool.state(webhook_id)

    def write_state(self, webhook_id, **state):
        self.spool.write_state(webhook_id, **state)

    def where(self, webhook_id):
        return self.spool.where(webhook_id)

    def close(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()
