"""strace as a tool of the tests: kill a process, or fail its system call, at the nth call.

Faults are counted, not timed: n is 1, 2, 3 ... until a run has no fault. `when=N`
counts per thread, so a request's calls are counted alone if tracing begins when it does.
"""

import functools
import glob
import os
import re
import subprocess
from pathlib import Path

from receiver import wait_for

# LeakSanitizer cannot work in a traced process: the environment of one that strace is attached to later.
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0"}
# The beginning of a command line that traces a program.
UNDER = ("strace", *(word for pair in ENVIRONMENT.items() for word in ("-E", "=".join(pair))), "-f", "-qq")


@functools.cache
def why_not():
    """The reason why processes cannot be traced here, or None."""
    try:
        done = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True,
                              text=True)
    except FileNotFoundError:
        return "strace is not installed"
    return None if done.returncode == 0 else f"strace does not work here: {done.stderr.strip()}"


def command(call, fault, when, log):
    """The beginning of a command line that runs a program with this fault."""
    return [*UNDER, "-o", str(log), "-e", f"trace={call}",
            "-e", f"inject={call}:{fault}:when={when}"]


def was_injected(log):
    return "(INJECTED)" in log.read_text(errors="replace")


class Attached:
    """strace on a running process, for the `with` block.

    If the fault may kill the process, wait for its end within the block: strace can hang if it has to detach from a
    process that ends at that moment.
    """

    def __init__(self, pid, call, fault, when, log):
        whole = command(call, fault, when, log)
        # Without -qq: a message when it is ready.
        self.arguments = ["strace", "-f", *whole[len(UNDER):], "-p", str(pid)]
        self.messages = log.with_suffix(".messages")
        self.traced = f"/proc/{pid}"

    def __enter__(self):
        wait_for(self._is_idle, "the receiver has nothing to do")
        with open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(self.arguments, stderr=messages)
        wait_for(self._attached, "strace is attached")
        return self

    def _is_idle(self):
        """All its threads sleep: no call of what it did before, such as a look whether it listens, is counted."""
        tasks = glob.glob(f"{self.traced}/task/*/stat")
        return {Path(task).read_text().rsplit(") ", 1)[1][0] for task in tasks} == {"S"}

    def _attached(self):
        messages = self.messages.read_text()
        assert self.process.poll() is None, messages
        return re.search(r"attached", messages)

    def __exit__(self, *_):
        if os.path.exists(self.traced):
            self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
