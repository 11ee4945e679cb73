"""The spool as a user's script sees it: a read-only view, and the documented layout of a file.

Owns the tests' own idea of names and contents (written from the documentation), so that the
receiver's code is never used to check itself.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

EVIDENCE_KEYS = ["webhook_id", "webhook_timestamp", "webhook_signature", "received_at"]


def fill(directory):
    """Its file system, to the last byte, by a file "filler"."""
    with open(directory / "filler", "ab", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while filler.write(b"x" * size):
                    pass


def event_name(webhook_id):
    """The documented encoding of a webhook-id, without `.json`."""
    raw = webhook_id if isinstance(webhook_id, bytes) else webhook_id.encode()
    safe = "".join(chr(b) if re.match(rb"[A-Za-z0-9_-]", bytes([b])) else f"%{b:02X}" for b in raw)
    return safe if len(safe) <= 200 else "%sha256-" + hashlib.sha256(raw).hexdigest()


def iso(seconds):
    """Unix seconds as the spool writes them."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_ms(seconds):
    """The same with milliseconds, as records and the attempts log have it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def received_at(record, at):
    """A record that was received at another time."""
    return re.sub(rb'"received_at":"[^"]+"', f'"received_at":"{at}"'.encode(), record, count=1)


@dataclass
class Stored:
    evidence: dict
    body: bytes      # as it was signed
    event: object    # what `jq .event` sees
    stat: os.stat_result


def parse(data):
    """The content of an event's file, its layout checked byte by byte: evidence, body, event."""
    whole = json.loads(data)
    first, rest = data.split(b"\n", 1)
    if whole["event"] is None and "body_base64" in whole:
        body = base64.b64decode(whole.pop("body_base64"), validate=True)
        evidence = {k: v for k, v in whole.items() if k != "event"}
    else:
        assert first.endswith(b',"event":'), first
        assert rest.endswith(b"\n}\n"), rest[-20:]
        evidence = json.loads(first[:-len(b',"event":')] + b"}")
        body = rest[:-len(b"\n}\n")]
    known = set(EVIDENCE_KEYS) | {"webhook_id_base64"}
    assert set(EVIDENCE_KEYS) <= set(evidence) <= known, evidence
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", evidence["received_at"])
    return evidence, body, whole["event"]


# The own notes of the programs in state/: of the last drain, of unrecognised files, of numbers, checks and producers.
NOTES = ("drain", "unrecognised", "metrics", "runs", "check", "alerts", "left-out", "roster")


class Spool:
    rounded_up = 0      # seconds that a due_at may be later than it must
    def __init__(self, path):
        self.path = Path(path)

    def file(self, directory, webhook_id):
        return self.path / directory / (event_name(webhook_id) + ".json")

    def names(self, directory):
        """Names in a directory, without `.json`; a file called otherwise is an error."""
        try:
            files = sorted(os.listdir(self.path / directory))
        except FileNotFoundError:
            return []
        # The probe of a start that was killed, or the spare file of a note: nobody's event, like every name that begins
        # with a dot.
        files = [f for f in files if not f.startswith(".")]
        if directory == "state":
            files = [f for f in files if f not in NOTES]
        assert all(f.endswith(".json") for f in files), files
        return [f[:-len(".json")] for f in files]

    def read(self, directory, webhook_id):
        """One event, after checking its file."""
        path = self.file(directory, webhook_id)
        data = path.read_bytes()
        stat = path.stat()
        assert stat.st_mode & 0o777 in (0o640, 0o600, 0o440, 0o400), oct(stat.st_mode)
        evidence, body, event = parse(data)
        return Stored(evidence, body, event, stat)

    def files(self):
        """Every file of the spool but the log, the lock and the notes: relative path -> inode."""
        found = {}
        for folder, _, files in os.walk(self.path):
            for file in files:
                path = Path(folder, file)
                found[str(path.relative_to(self.path))] = path.stat().st_ino
        notes = [f"state/{dot}{note}" for note in NOTES if note != "unrecognised" for dot in ("", ".")]
        return {k: v for k, v in found.items() if k not in ("attempts.jsonl", "lock", *notes)}

    def path_for_a_handler(self, path, webhook_id):
        """Whether this is the file that a handler gets."""
        return path == str(self.file("new", webhook_id).resolve())

    def record(self, webhook_id):
        """The event's file, or what would be in it."""
        return self.file("events", webhook_id).read_bytes()

    def state(self, webhook_id):
        """What is known of an event's tries, or None."""
        try:
            return json.loads(self.file("state", webhook_id).read_text())
        except FileNotFoundError:
            return None

    def write_state(self, webhook_id, **state):
        """A state as drain writes it. due_in: seconds from now; negative: ago."""
        if "due_in" in state:
            state["due_at"] = iso(time.time() + state.pop("due_in"))
        self.file("state", webhook_id).write_text(json.dumps(state))

    def where(self, webhook_id):
        """The directories that have the event."""
        return [d for d in ("new", "events", "failed", "state") if self.file(d, webhook_id).exists()]

    def copy(self, webhook_id, new_id):
        """An event more, with this one's body."""
        text = self.file("events", webhook_id).read_text()
        draft = self.file("tmp", new_id)
        draft.write_text(text.replace(f'"{webhook_id}"', f'"{new_id}"', 1))
        draft.chmod(0o640)
        os.link(draft, self.file("new", new_id))
        os.rename(draft, self.file("events", new_id))

    def age(self, webhook_id, seconds):
        """A handled event, and its lines in the attempts log, as if they were older. Nobody may be writing the log."""
        at = iso_ms(time.time() - seconds)
        path = self.file("events", webhook_id)
        path.write_bytes(received_at(path.read_bytes(), at))
        os.utime(path, times=(time.time() - seconds,) * 2)
        log = self.path / "attempts.jsonl"
        lines = [re.sub(r'"at":"[^"]+"', f'"at":"{at}"', line) if json.loads(line).get("webhook_id") == webhook_id else line
                 for line in log.read_text().splitlines(keepends=True)]
        log.write_text("".join(sorted(lines, key=lambda line: json.loads(line)["at"])))

    def is_locked(self):
        """Whether a process moves events."""
        with open(self.path / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                return True

    def wait_for_unlock(self):
        """A child of a killed drain holds the lock for a moment, between its fork and its exec."""
        end = time.monotonic() + 15
        while self.is_locked():
            assert time.monotonic() < end, "somebody has the lock"
            time.sleep(0.005)

    def is_work(self, directory, webhook_id):
        """Is it the file that events/ has? A writer that is killed when it has met a duplicate leaves another one
        in new/, which no drain takes."""
        try:
            return os.path.samefile(self.file(directory, webhook_id), self.file("events", webhook_id))
        except FileNotFoundError:
            return False

    def left_in_tmp(self):
        tmp = self.path / "tmp"
        return sorted(os.listdir(tmp)) if tmp.is_dir() else []

    def empty(self):
        """Forget every event, as if the spool were new."""
        for file in Spool.files(self):
            os.unlink(self.path / file)

    def attempts(self):
        """The attempts log, line by line; each must be JSON and end with a newline."""
        try:
            data = (self.path / "attempts.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        assert data == b"" or data.endswith(b"\n"), data[-200:]
        return [json.loads(line) for line in data.splitlines()]

    def assert_queued_once(self, webhook_id, body):
        """In new/ and in events/, as one file, whole."""
        new = self.read("new", webhook_id)
        kept = self.read("events", webhook_id)
        assert new.stat.st_ino == kept.stat.st_ino, "two files instead of two links"
        assert new.stat.st_nlink == 2, new.stat.st_nlink
        assert new.body == body
        assert not self.file("failed", webhook_id).exists()
        return new

    def assert_failed(self, webhook_id, body):
        """In failed/ and in events/, with the reason in state/; not queued."""
        failed = self.read("failed", webhook_id)
        kept = self.read("events", webhook_id)
        assert failed.stat.st_ino == kept.stat.st_ino
        assert failed.body == body
        assert not self.file("new", webhook_id).exists()
        state = json.loads(self.file("state", webhook_id).read_text())
        assert state["reason"] and isinstance(state["reason"], str), state
        return failed, state["reason"]
