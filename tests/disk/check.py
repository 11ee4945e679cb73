"""A disk as a power cut left it, mounted: which files are whole and which events are lost, before
and after recovery. README.md's loop for a plain script is run on each, as it stands there."""

import contextlib
import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field

from filesystems import KEPT, LISTED, MOUNTS, RECOVERED, TORN_MOUNTS, WHOLE, mounted, run
from history import TORN
from psapi_command import PSAPI
from receiver import ROOT
from spool import event_name, parse

DIRECTORIES = ("new", "failed", "events")
SPOOL, PROGRAM = "/var/spool/psapi", "your-program"     # in README.md's loop
EXAMPLES = 3            # of each kind


@dataclass
class Findings:
    counts: Counter = field(default_factory=Counter)
    examples: list = field(default_factory=list)    # what was wrong in the first images

    def wrong(self, kind, cut, texts):
        """texts: one for each thing that is wrong in this image."""
        if texts:
            self.counts[kind] += len(texts)
            self.counts[f"{kind} images"] += 1
            if self.counts[f"{kind} images"] <= EXAMPLES:
                self.examples.append(f"{kind}, {cut.choice}: {texts[0]}")


class Checker:
    """Knows what was sent, and therefore what each file must be. Names are without `.json` here."""

    def __init__(self, recording, findings):
        self.recording, self.findings = recording, findings
        self.requests = {event_name(i): request for i, request in recording.sent.items()}
        self.judged = {}        # (name, content): what judge() said
        self.script = readme_script()

    def check(self, system, image, target, cut):
        """Check one image."""
        self.findings.counts["images"] += 1
        if system.fsck:
            run(*system.fsck, image, good=range(256))
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(mounted(system, image, target))
            except OSError as error:
                kind = TORN_MOUNTS if cut.choice == TORN else MOUNTS
                self.findings.wrong(kind, cut, [str(error)])
                return
            self.before_recovery(target, cut)
            self.after_recovery(target, cut)

    def before_recovery(self, spool, cut):
        found, wrong, unread = self.whole(spool)
        self.findings.wrong(WHOLE, cut, wrong)
        self.findings.wrong(LISTED, cut, unread)
        missing = self.answered(cut) - self.handled(cut) - found["new"] - found["failed"]
        self.findings.wrong(KEPT, cut, sorted(missing))

    def after_recovery(self, spool, cut):
        """README.md's loop runs before recovery, beside it, and afterwards. An event that somebody handled before the
        cut may be forgotten: it may come again."""
        answered, handled = self.answered(cut), self.handled(cut)
        by_script = self.loop(spool).handled()
        beside = self.loop(spool)
        wrong = recover(spool)
        by_script |= beside.handled()
        found, torn, _ = self.whole(spool)
        missing = answered - found["events"]
        self.findings.counts["may come again"] += len(missing & handled)
        wrong += torn + [f"{name}: not in events/" for name in sorted(missing - handled)]
        wrong += [f"{name}: handled, and not in events/" for name in sorted(by_script - found["events"])]
        handled |= by_script | self.loop(spool).handled()
        wrong += [f"{name}: not handled" for name in sorted(answered - handled - found["failed"])]
        self.findings.wrong(RECOVERED, cut, wrong)

    def loop(self, spool):
        return Loop(self.script, spool)

    def answered(self, cut):
        return {event_name(i) for i, t in self.recording.answered.items() if t <= cut.t}

    def handled(self, cut):
        return {name for name, t in self.recording.handled.items() if t <= cut.t}

    # ---- files ----

    def whole(self, spool):
        """The names of whole files in each directory; a text for each other name, and for each
        directory that cannot be read."""
        found, wrong, unread, seen = {}, [], [], {}
        for directory in DIRECTORIES:
            found[directory] = set()
            for file, inode in entries(spool / directory, unread):
                self.findings.counts["names"] += 1
                name = file.removesuffix(".json")
                if (name, inode) not in seen:   # of two links to a file, one is read
                    seen[name, inode] = self.judge(spool / directory / file, name)
                if seen[name, inode]:
                    wrong.append(f"{directory}/{file}: {seen[name, inode]}")
                else:
                    found[directory].add(name)
        return found, wrong, unread

    def judge(self, path, name):
        """What is wrong with the file: a text, or None."""
        try:
            with open(path, "rb", buffering=0) as file:
                data = file.readall()
        except OSError as error:
            return f"unreadable: {error.strerror}"
        if (name, data) not in self.judged:
            self.judged[name, data] = self.compare(name, data)
        return self.judged[name, data]

    def compare(self, name, data):
        if not data.strip(b"\0"):
            return f"{len(data)} bytes, all zero"
        if name.startswith(".probe."):      # no event: a receiver's start tries the way of one
            return None if data == b"probe\n" else f"{len(data)} bytes, torn"
        try:
            evidence, body, _ = parse(data)
            request = self.requests[name]
        except (AssertionError, ValueError, KeyError, TypeError):
            return f"{len(data)} bytes, torn"
        same = (body == request.body
                and evidence["webhook_id"].encode() == request.header("webhook-id")
                and evidence["webhook_signature"].encode() == request.header("webhook-signature"))
        return None if same else "of another event"


def entries(directory, unread):
    """(name, inode) of each entry; a failure is added to `unread`."""
    try:
        with os.scandir(directory) as listing:
            return [(entry.name, entry.inode()) for entry in listing]
    except OSError as error:
        unread.append(f"{directory.name}/: {error.strerror}")
        return []


# ---- recovery and README.md's loop ----

def recover(spool):
    """psapi recover. A text if it fails, in a list."""
    done = subprocess.run([PSAPI, "recover"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, check=False, env={
                              "PATH": os.defpath, "PSAPI_CONF": "/dev/null",
                              "PSAPI_SPOOL": str(spool)})
    return [f"psapi recover: {done.returncode}: {done.stderr}"] if done.returncode else []


def readme_script():
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    script, = (block for block in blocks if f"{SPOOL}/new/*.json" in block)
    assert PROGRAM in script, script
    return script


class Loop:
    """The script at work. Its rm(1) collects the names: one process for each would take most of the time."""

    BEFORE = 'handle() { echo "$1"; }\nrm() { echo "$1" >&3; }\nexec 3>"$1"\n'
    AFTER = 'exec 3>&-\nxargs -r -d "\\n" rm -f <"$1"\n'

    def __init__(self, script, spool):
        script = script.replace(PROGRAM, "handle").replace(SPOOL, str(spool))
        self.removed = tempfile.NamedTemporaryFile()    # pylint: disable=consider-using-with
        self.process = subprocess.Popen(["sh", "-c", self.BEFORE + script + self.AFTER, "sh", self.removed.name],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")

    def handled(self):
        """The names that it has handled, when it has ended."""
        output, errors = self.process.communicate()
        self.removed.close()
        assert not errors and self.process.returncode == 0, errors
        return {os.path.basename(line).removesuffix(".json") for line in output.splitlines()}
