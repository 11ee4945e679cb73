"""What happens to a spool before the power goes: programs run under the interposed library,
their operations recorded; two at once, in every order that their steps can have."""

import contextlib
import dataclasses
import itertools
import os
import random
import subprocess
import time

import crashmodel
from testbed import CGI, CROWD, FULL, Testbed, status_of

WHEN = int(time.time())


@dataclasses.dataclass
class History:
    name: str
    event: object
    before: tuple  # what was on the disk: files, directories
    ops: list
    crowd: bool = False  # with a journal
    known: bool = False  # it was recorded and synced before it was handled: no redelivery queues it


class Recorder:
    """A testbed whose programs are recorded."""

    def __init__(self, name, event, prepare, without="", crowd=""):
        """crowd: the receiver has a journal; how it ends, see crowd.c"""
        self.name, self.event, self.without, self.crowd = name, event, without, crowd
        self.testbed = Testbed()
        prepare(self.testbed)
        self.log = os.path.join(self.testbed.path, "oplog")
        self.before = self.snapshot()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.testbed.remove()

    def snapshot(self):
        files, directories = {}, []
        for directory, subdirectories, names in os.walk(self.testbed.spool):
            relative = os.path.relpath(directory, self.testbed.path)
            directories.append(relative)
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    files[f"{relative}/{name}"] = (str(os.stat(path).st_ino), file.read())
        return files, directories

    def shim(self, more=None):
        return {"FAULT_LOG": self.log, "FAULT_WITHOUT": self.without} | (more or {})

    def send(self, when=None, kill_before=0):
        more = {"FAULT_AT": str(kill_before), "FAULT_DO": "kill-before"} if kill_before else {}
        if self.crowd:
            return self.testbed.run([CROWD], self.event, when, self.shim(more | {"CROWD": self.crowd}))
        return self.testbed.send(self.event, when, self.shim(more))

    def recover(self):
        assert self.testbed.recover(self.shim()).code == 0

    def handle(self):
        """A script of the user's own: done, rm."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.testbed.at(self.event.queue, self.event.name))
            with open(self.log, "a", encoding="ascii") as log:
                log.write(f"0 unlink spool/{self.event.queue}/{self.event.name}\n")

    def history(self, suffix="", **more):
        with open(self.log, encoding="ascii") as log:
            ops = crashmodel.parse(log.read())
        # The attempts log is written to, but promised to nobody.
        made = {op.args[0] for op in ops if op.kind == "create"}
        ops = [op for op in ops if op.kind not in ("write", "sync") or op.args[0] in made]
        return History(self.name + suffix, self.event, self.before, ops, bool(self.crowd), **more)


# ---- several at once ----

class Stepper:
    """A receiver that waits before each step that others can see."""

    def __init__(self, recorder, when, fault=None):
        to_us, from_it = os.pipe()
        to_it, from_us = os.pipe()
        shim = recorder.shim({"FAULT_STEPS": f"{to_it},{from_it}"} | (fault or {}))
        testbed = recorder.testbed
        env = testbed.environment(recorder.event, when, shim)
        env["FAULT_TRACE"] = os.devnull
        testbed.settle()
        with open(testbed.body, "rb") as stdin:
            self.process = subprocess.Popen([CGI], env=env, stdin=stdin, stdout=subprocess.PIPE,
                                            stderr=subprocess.DEVNULL, pass_fds=(to_it, from_it))
        os.close(to_it)
        os.close(from_it)
        self.say, self.hear = from_us, os.fdopen(to_us, "rb", buffering=0)
        self.at = self.hear.readline()

    def step(self):
        """Let it go to its next step. False if it has ended."""
        if not self.at:
            return False
        os.write(self.say, b"g")
        self.at = self.hear.readline()
        return True

    def end(self):
        os.close(self.say)
        self.hear.close()
        answer = self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait()
        return status_of(answer)


def interleave(recorder, order, faults=(None, None), script_at=None):
    """Two receivers with one event; order says whose step is next. script_at: the number of
    steps after which a quick script handles what it finds."""
    duplicates = [Stepper(recorder, WHEN - i, fault) for i, fault in enumerate(faults)]
    for number, who in enumerate(order):
        if number == script_at:
            recorder.handle()
        if not duplicates[who].step():
            duplicates[1 - who].step()
    while any([duplicate.step() for duplicate in duplicates]):
        pass
    return [duplicate.end() for duplicate in duplicates]


STEPS = 7  # at most, of a receiver on its way through an event


def orders(seed, full=FULL):
    """All orders of the steps of two receivers, or a sample."""
    every = [tuple(0 if i in zeros else 1 for i in range(2 * STEPS))
             for zeros in itertools.combinations(range(2 * STEPS), STEPS)]
    return every if full else random.Random(seed).sample(every, 24)
