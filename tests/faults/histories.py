"""What happens to a spool before the power goes: programs run under the interposed library, their
operations recorded, one after the other, killed, or two at once in every order of their steps."""

import collections
import dataclasses
import itertools
import os
import random
import subprocess
import time

import crashmodel
from testbed import CGI, CHANGES, PSAPI, SECRET, Testbed, record, status_of

WHEN = int(time.time())


@dataclasses.dataclass
class History:
    name: str
    event: object
    before: tuple  # what was on the disk: files, directories
    ops: list
    known: bool = False  # it was committed and synced before a script handled it
    handled: int = 0  # how often a consumer has handled it, in the end
    killed: str = ""  # the role of the process that was
    bad: bool = False  # a complaint was found
    left: bool = False  # a consumer that follows README.md's loop would handle it once more


class Recorder:
    """A testbed whose programs are recorded."""

    def __init__(self, name, event, prepare, without=""):
        self.name, self.event, self.without = name, event, without
        self.testbed = Testbed()
        prepare(self.testbed)
        self.log = self.testbed.log
        self.before = self.snapshot()
        self.known, self.handled, self.runs, self.role = False, 0, 0, ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.testbed.remove()

    def snapshot(self):
        files, directories = {}, []
        for directory, _, names in os.walk(self.testbed.spool):
            relative = os.path.relpath(directory, self.testbed.path)
            directories.append(relative)
            for name in names:
                path = os.path.join(directory, name)
                with open(path, "rb") as file:
                    files[f"{relative}/{name}"] = (str(os.stat(path).st_ino), file.read())
        return files, directories

    def shim(self, role, kill_after=0):
        """The role has a number behind it: an order is one process's."""
        self.runs += 1
        self.role = f"{role}-{self.runs}"
        plan = {"FAULT_LOG": self.log, "FAULT_WITHOUT": self.without, "FAULT_ROLE": self.role}
        if kill_after:
            plan |= {"FAULT_AT": str(kill_after), "FAULT_DO": "kill-after"}
        return plan

    def say(self, line):
        with open(self.log, "a", encoding="ascii") as log:
            log.write(line + "\n")

    # ---- steps: each returns how its program ended, or None for one of ours ----

    def step(self, step, kill_after=0):
        """One step of a row of powercut.py: a program, or what a consumer does."""
        word, _, argument = step.partition(":")
        if word in ("send", "again"):
            return self.testbed.send(self.event, shim=self.shim("receiver" if word == "send" else "duplicate",
                                                                kill_after))
        if word == "died":
            return self.leave_uncommitted()
        if word in ("readme", "blind"):
            return self.consume(word)
        if word == "secret":
            return self.testbed.write_secret(argument and SECRET + "\n")
        return self.command(word, argument, kill_after)

    def command(self, word, argument, kill_after):
        """A subcommand of psapi; it ends with a line that says so, unless it is killed."""
        handler = f"echo {word} {'tried' if argument else 'handled'} >>{self.log}; exit {argument or 0}"
        arguments = {"drain": ["drain", "--", "/bin/sh", "-c", handler],
                     "recover": ["recover"], "adopt": ["adopt"], "retry": ["retry", self.event.webhook_id],
                     "replay": ["replay", self.event.webhook_id], "done": ["done", self.event.webhook_id],
                     "prune": ["prune", "--older-than", "90d"]}
        before = self.event.name in self.testbed.names("events")
        if before and word == "prune":
            os.utime(self.testbed.at("events", self.event.name), (WHEN - 200 * 86400,) * 2)
        outcome = self.testbed.run([PSAPI, *arguments[word]], shim=self.shim(word, kill_after))
        if outcome.code == 0 or word == "drain" and outcome.code == 1:
            self.say(f"{self.role} ended {argument or word}")
            if word == "recover":
                self.known |= not before and self.event.name in self.testbed.names("events")
        return outcome

    def leave_uncommitted(self):
        """A writer was killed when its file had its first name: that is not even synced."""
        path = f"{self.event.queue}/{self.event.name}"
        data = record(self.event)
        self.testbed.put(data, path)
        inode = os.stat(self.testbed.at(path)).st_ino
        for line in (f"create {inode}", f"write {inode} 0 {data.hex()}", f"sync {inode}",
                     f"link {inode} spool/{path}"):
            self.say(f"receiver {line}")

    def consume(self, kind):
        """A script of the user's own: README.md's loop, or one that takes whatever has a name."""
        if not self.testbed.takes(self.event, blind=kind == "blind"):
            return None
        path = self.testbed.at("new", self.event.name)
        self.handled += 1
        self.say("script handled")
        os.unlink(path)
        self.say(f"script unlink spool/new/{self.event.name}")
        return None

    def history(self, suffix="", killed=""):
        with open(self.log, encoding="ascii") as log:
            ops = crashmodel.parse(log.read())
        # The attempts log is written to, but promised to nobody.
        made = {op.args[0] for op in ops if op.kind == "create"}
        ops = [op for op in ops if op.kind not in ("write", "sync") or op.args[0] in made
               or op.args[0] in self.inodes_before()]
        ops = list(whole_answers(ops))
        return History(self.name + suffix, self.event, self.before, ops, self.known,
                       self.handled + self.drained(ops), killed, left=self.testbed.takes(self.event))

    def inodes_before(self):
        return {inode for inode, _ in self.before[0].values()}

    @staticmethod
    def drained(ops):
        return sum(op.kind == "handled" and op.role == "drain" for op in ops)


def whole_answers(ops):
    """An answer is written in parts; it is one operation, when the last of them is."""
    said, last = collections.defaultdict(str), {}
    for number, op in enumerate(ops):
        if op.kind == "answer":
            said[op.role] += op.args[0]
            last[op.role] = number
    for number, op in enumerate(ops):
        if op.kind != "answer":
            yield op
        elif last[op.role] == number:
            yield op._replace(args=(said[op.role],))


def calls(row, steps):
    """The numbers of the calls of the last step after which a kill makes a difference."""
    with Recorder(*row) as recorder:
        for step in steps:
            outcome = recorder.step(step)
        return [number for number, name in enumerate(outcome.calls, 1) if name in CHANGES]


# ---- several at once ----

class Stepper:
    """A receiver that waits before each step that others can see."""

    def __init__(self, recorder, role, when, fault=None):
        to_us, from_it = os.pipe()
        to_it, from_us = os.pipe()
        shim = recorder.shim(role) | {"FAULT_STEPS": f"{to_it},{from_it}"} | (fault or {})
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

    def kill(self):
        self.process.kill()
        self.at = b""

    def end(self):
        os.close(self.say)
        self.hear.close()
        answer = self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait()
        return status_of(answer)


def interleave(recorder, order, faults=(None, None), script=None, script_at=(), kill_at=None):
    """Two receivers with one event; order says whose step is next. script_at: the numbers of steps
    after which a consumer ("readme", "blind") looks; kill_at: after so many, that one is killed."""
    both = [Stepper(recorder, role, WHEN - i, fault)
            for i, (role, fault) in enumerate(zip(("receiver", "duplicate"), faults))]
    for number, who in enumerate(order):
        if number in script_at:
            recorder.consume(script)
        if number == kill_at:
            both[who].kill()
        elif not both[who].step():
            both[1 - who].step()
    while any([one.step() for one in both]):
        pass
    return [one.end() for one in both]


STEPS = 7  # at most, of a receiver on its way through an event


def orders(seed, count=None):
    """All orders of the steps of two receivers, or a sample of that size."""
    every = [tuple(0 if i in zeros else 1 for i in range(2 * STEPS))
             for zeros in itertools.combinations(range(2 * STEPS), STEPS)]
    return every if count is None else random.Random(seed).sample(every, count)


