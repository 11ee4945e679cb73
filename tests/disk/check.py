"""A disk as a power cut left it, mounted: what is whole, what is lost, before and after recovery."""

import contextlib
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field

from filesystems import KEPT, MOUNTS, RECOVERED, TORN_MOUNTS, WHOLE, mounted, run
from history import TORN
from psapi_command import PSAPI
from receiver import ROOT
from spool import event_name, parse

QUEUES = ("new", "failed")
SPOOL = "/var/spool/psapi"
WORK = "your-program"     # in README.md
EXAMPLES = 5            # of what is wrong, printed for each configuration


@dataclass
class Findings:
    counts: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)    # the first ones that are wrong: what, and where

    def wrong(self, kind, cut, names):
        """names: a text for each that is wrong."""
        if names:
            self.counts[kind] += len(names)
            self.counts[f"{kind} images"] += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(f"{kind}, {cut.choice}: {names[0]}")


class Checker:
    """Knows what was sent, and so what every file must be."""

    def __init__(self, recording, findings):
        self.recording, self.findings, self.known = recording, findings, {}
        self.has_recover = has_recover()
        self.ids = {event_name(webhook_id): webhook_id for webhook_id in recording.sent}

    def check(self, system, image, target, cut, with_script):
        """One image. with_script: README.md's loop runs on it as well."""
        self.findings.counts["images"] += 1
        if system.fsck:
            run(*system.fsck, image, good=range(256))
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(mounted(system, image, target))
            except OSError as error:
                self.findings.wrong(TORN_MOUNTS if cut.choice == TORN else MOUNTS, cut, [error.strerror])
                return
            self.before_recovery(target, cut)
            if self.has_recover:
                self.after_recovery(target, cut, with_script)

    def judge(self, path, name):
        """None for a whole file, else what is wrong with it."""
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
        except OSError as error:
            return f"unreadable: {error.strerror}"
        key = (name, data)
        if key not in self.known:
            self.known[key] = self.compare(data, name)
        return self.known[key]

    def compare(self, data, name):
        if not data:
            return "empty"
        try:
            evidence, body, _ = parse(data)
            request = self.recording.sent[self.ids[name.removesuffix(".json")]]
        except (AssertionError, ValueError, KeyError, TypeError):
            return f"{len(data)} bytes, {'zeroes' if not data.strip(bytes(1)) else 'torn'}"
        same = body == request.body and \
            evidence["webhook_id"].encode() == request.header("webhook-id") and \
            evidence["webhook_signature"].encode() in request.header("webhook-signature").split()
        return None if same else "of another event"

    def whole(self, spool, cut, kind):
        """The names in each directory that are whole files; what is not is counted as `kind`."""
        found, wrong, judged = {}, [], {}
        for directory in (*QUEUES, "events"):
            found[directory] = set()
            for name, inode in entries(spool / directory, wrong):
                self.findings.counts["names"] += 1
                if (name, inode) not in judged:     # two links to one file: one look
                    judged[name, inode] = self.judge(spool / directory / name, name)
                fault = judged[name, inode]
                if fault is None:
                    found[directory].add(name.removesuffix(".json"))
                else:
                    wrong.append(f"{directory}/{name}: {fault}")
        self.findings.wrong(kind, cut, wrong)
        return found

    def before_recovery(self, spool, cut):
        found = self.whole(spool, cut, WHOLE)
        waiting = found["new"] | found["failed"]
        self.findings.wrong(KEPT, cut, sorted(self.answered(cut) - self.handled(cut) - waiting))

    def answered(self, cut):
        return {event_name(i) for i, t in self.recording.answered.items() if t <= cut.t}

    def handled(self, cut):
        return {name for name, t in self.recording.handled.items() if t <= cut.t}

    # ---- recovery, and the script of README.md before and after it ----

    def after_recovery(self, spool, cut, with_script):
        script = readme_script() if with_script else None
        handled = self.handled(cut) | consume(script, spool)
        recover(spool)
        found = self.whole(spool, cut, RECOVERED)
        answered, waiting = self.answered(cut), found["new"] | found["failed"]
        forgotten = answered & self.handled(cut) - found["events"]
        self.findings.counts["may come again"] += len(forgotten)
        lost = answered - found["events"] - forgotten | answered - handled - waiting
        self.findings.wrong(RECOVERED, cut, sorted(lost))
        if script:
            handled |= consume(script, spool) | found["failed"]
            self.findings.wrong(RECOVERED, cut, [f"{name}: nobody handled it"
                                                 for name in sorted(answered - handled)])


def entries(directory, wrong):
    """(name, inode) of each; what cannot be listed is added to `wrong`."""
    try:
        with os.scandir(directory) as listing:
            return [(entry.name, entry.inode()) for entry in listing]
    except OSError as error:
        wrong.append(f"{directory.name}/: {error.strerror}")
        return []


def has_recover():
    return re.search(r"^  recover ", subprocess.run([PSAPI, "help"], capture_output=True, text=True,
                                                    check=True).stdout, re.MULTILINE) is not None


def recover(spool):
    subprocess.run([PSAPI, "recover"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   env={"PATH": os.defpath, "PSAPI_CONF": "/dev/null", "PSAPI_SPOOL": str(spool)})


def readme_script():
    """The loop that README.md gives to people who need no psapi drain."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script, = (block for block in blocks if f"{SPOOL}/new/*.json" in block)
    assert WORK in script, script
    return script


def consume(script, spool):
    """The names that the script handles."""
    if not script:
        return set()
    script = "work() { echo \"$1\"; }\n" + script.replace(WORK, "work").replace(SPOOL, str(spool))
    done = subprocess.run(["sh", "-c", script], check=False, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return {os.path.basename(line).removesuffix(".json") for line in done.stdout.splitlines()}
