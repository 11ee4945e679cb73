"""strace as a tool of the tests: kill a process, or fail its system call, at the nth call.

Faults are counted, not timed: n goes 1, 2, 3 ... until the run meets no fault any more. `when=N`
counts per thread, so a request's calls are counted alone if tracing begins when it does.
"""

import functools
import os
import re
import subprocess

from receiver import wait_for

# A process that is traced cannot be searched for leaks.
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0"}


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
    return ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}",
            "-e", f"inject={call}:{fault}:when={when}"]


def was_injected(log):
    return "(INJECTED)" in log.read_text(errors="replace")


class Attached:
    """strace on a running process, for the `with` block; gone afterwards.

    If the process may be killed by the fault, wait for its end inside of the block: strace that is
    told to detach from a process that dies at that moment can hang, and its zombie with it.
    """

    def __init__(self, pid, call, fault, when, log):
        self.arguments = [*command(call, fault, when, log), "-p", str(pid)]
        self.arguments.remove("-qq")    # it says when it is ready
        self.messages = log.with_suffix(".messages")
        self.traced = f"/proc/{pid}"

    def __enter__(self):
        with open(self.messages, "wb") as messages:
            self.process = subprocess.Popen(self.arguments, stderr=messages)
        wait_for(self._attached, "strace is attached")
        return self

    def _attached(self):
        said = self.messages.read_text()
        assert self.process.poll() is None, said
        return re.search(r"attached", said)

    def __exit__(self, *_):
        if os.path.exists(self.traced):
            self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
