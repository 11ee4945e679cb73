"""A spool to break: events and their sender, programs under the interposed library,
and the one place that says what a sound spool is."""

import base64
import contextlib
import ctypes
import dataclasses
import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BIN = os.environ.get("PSAPI_BIN", TOP)
OUT = os.environ.get("FAULTS_OUT", os.path.join(TOP, "build/plain/tests/faults"))
SHIM = os.path.join(OUT, "shim.so")
PSAPI = os.path.join(BIN, "psapi")
BORROW = os.path.join(OUT, "borrow")
CGI = os.path.join(BIN, "psapi-fcgi")
FULL = os.environ.get("FULL") == "1"
CLOCK_REALTIME_COARSE = 5  # clock_gettime(2); by it files are dated
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
# Calls that change the spool: a kill before another one is a kill before the next of these.
CHANGES = {"mkdirat", "linkat", "unlinkat", "renameat", "writev", "fsync", "syncfs", "openat", "write"}
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DIRS = ["new", "events", "failed", "state", "hold", "tmp"]

GOOD = (b'{"data":{"npn":"123456789","activatedAt":"2025-07-25T15:53:01.579Z"},"id":"whe_1",'
        b'"timestamp":"2025-07-25T15:53:01.579Z","type":"producersync.npn.activated"}')
INVALID = b'{"data":{"npn":"x"},"type":"producersync.npn.activated"}'
NOT_JSON = b"\xff\x00 no JSON"
DOCTOR = b'{"type":"psapi.doctor"}'


def signature(webhook_id, timestamp, body):
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    content = b".".join([webhook_id.encode(), timestamp.encode(), body])
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


@dataclasses.dataclass(frozen=True)
class Event:
    body: bytes
    queue: str  # the directory it belongs to, "" for none
    webhook_id: str = "msg_1"

    @property
    def name(self):
        return self.webhook_id + ".json"


class Torn(Exception):
    pass


def check_whole(data, event):
    """The file is one JSON object that holds the event, and its signature still proves it."""
    head, _, rest = data.partition(b"\n")
    try:
        whole = json.loads(data)
        if whole["event"] is None and "body_base64" in whole:
            body = base64.b64decode(whole["body_base64"])
        else:
            body = rest.removesuffix(b"\n}\n")
        signed = signature(whole["webhook_id"] or "", whole["webhook_timestamp"], body)
        evidence = (whole["webhook_id"], whole["webhook_signature"])
    except (ValueError, LookupError) as error:
        raise Torn(f"no event: {data[:60]!r}") from error
    if evidence != (event.webhook_id, signed):
        raise Torn(f"no longer what was signed: {head!r}")
    if body != event.body:
        raise Torn(f"another body: {body[:60]!r}")


def record(event, when=1753397465):
    """A spool file as the receiver writes it."""
    head = {"webhook_id": event.webhook_id, "webhook_timestamp": str(when),
            "webhook_signature": signature(event.webhook_id, str(when), event.body),
            "received_at": "2025-07-24T22:51:05.391Z"}
    start = json.dumps(head, separators=(",", ":"))[:-1].encode()
    if event.body == NOT_JSON:
        return start + b',"event":null,"body_base64":"' + base64.b64encode(event.body) + b'"}\n'
    return start + b',"event":\n' + event.body + b"\n}\n"


@dataclasses.dataclass
class Outcome:
    """How a program ended."""
    code: int
    status: int  # of HTTP; 0: no answer
    word: str = ""  # accepted, duplicate, ...
    stderr: str = ""
    calls: list = dataclasses.field(default_factory=list)
    leaks: list = dataclasses.field(default_factory=list)

    @property
    def killed(self):
        return self.code == -signal.SIGKILL

    @property
    def crashed(self):
        return self.code < 0 and not self.killed


def status_of(answer):
    if not answer.startswith(b"Status: ") or not answer.endswith(b"}\n"):
        return 0  # the server behind us makes a 500 of half an answer
    return int(answer[8:11])


def word_of(answer):
    return json.loads(answer.rpartition(b"\r\n\r\n")[2])["status"] if status_of(answer) else ""


def adopt_orphans():
    """For this process: what a killed program has started becomes our child."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans():
    """A killed drain's handler ends by itself; until then it writes, and may hold the lock."""
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


class Testbed:
    """A temporary directory with a spool, a secret and a configuration. Two waits for the disk, unless
    the environment says otherwise: below is a tmpfs as a rule, but it need not be."""

    def __init__(self, parent=None):
        shm = "/dev/shm"
        parent = parent or (shm if os.access(shm, os.W_OK) else None)
        self.path = tempfile.mkdtemp(prefix="psapi-faults-", dir=parent)
        self.spool = os.path.join(self.path, "spool")
        self.secret = os.path.join(self.path, "secret")
        self.trace = os.path.join(self.path, "trace")
        self.body = os.path.join(self.path, "body")
        self.conf = os.path.join(self.path, "conf")
        self.log = os.path.join(self.path, "oplog")
        self.handled_log = os.path.join(self.path, "handled")
        self._write(self.secret, SECRET.encode() + b"\n", 0o640)
        self._write(self.conf, f"PSAPI_SPOOL={self.spool}\nPSAPI_SECRET_FILE={self.secret}\n"
                    "PSAPI_MIN_FREE=0\nPSAPI_SYNC=two\n".encode())

    @staticmethod
    def _write(path, data, mode=0o640):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.write(fd, data)
        os.close(fd)

    def remove(self):
        shutil.rmtree(self.path)

    def empty(self):
        """A spool without anything in it, as a start leaves it."""
        shutil.rmtree(self.spool, ignore_errors=True)
        for name in DIRS:
            os.makedirs(os.path.join(self.spool, name))

    def write_secret(self, text):
        with open(self.secret, "w", encoding="ascii") as file:
            file.write(text)

    def at(self, *names):
        return os.path.join(self.spool, *names)

    def put(self, data, *paths, age=0):
        """One file with several names."""
        self._write(self.at(paths[0]), data)
        if age:
            os.utime(self.at(paths[0]), (time.time() - age,) * 2)
        for path in paths[1:]:
            os.link(self.at(paths[0]), self.at(path))

    # ---- programs ----

    def settle(self):
        """Wait until the secret file is older than a tick of the kernel's clock. A program that
        reads it sooner waits itself, looking again and again: a number of calls that nobody knows."""
        with contextlib.suppress(FileNotFoundError):
            while os.stat(self.secret).st_ctime_ns >= time.clock_gettime_ns(CLOCK_REALTIME_COARSE):
                time.sleep(0.001)

    def environment(self, event=None, when=None, shim=None):
        env = {"PATH": "/usr/bin:/bin", "PSAPI_CONF": self.conf}
        if event is not None:
            when = str(int(when or time.time()))
            env |= {"GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "POST",
                    "CONTENT_LENGTH": str(len(event.body)), "REMOTE_ADDR": "127.0.0.1",
                    "HTTP_WEBHOOK_ID": event.webhook_id, "HTTP_WEBHOOK_TIMESTAMP": when,
                    "HTTP_WEBHOOK_SIGNATURE": signature(event.webhook_id, when, event.body)}
            self._write(self.body, event.body)
        if shim is not None:
            env |= {"LD_PRELOAD": SHIM, "FAULT_TRACE": self.trace, "FAULT_ROOT": self.path} | shim
        return env

    def run(self, argv, event=None, when=None, shim=None, timeout=20, typed=None):
        """typed: what is on standard input, where no event is."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.trace)
        env = self.environment(event, when, shim)
        if typed is not None:
            self._write(self.body, typed)
        self.settle()
        with open(os.devnull if event is None and typed is None else self.body, "rb") as stdin:
            done = subprocess.run(argv, env=env, stdin=stdin, capture_output=True, check=False,
                                  timeout=timeout)
        outcome = Outcome(done.returncode, status_of(done.stdout), word_of(done.stdout),
                          done.stderr.decode(errors="replace"))
        if outcome.killed:
            wait_for_orphans()
        if shim is not None and os.path.exists(self.trace):
            for line in open(self.trace, encoding="ascii", errors="replace"):
                word, _, rest = line.strip().partition(" ")
                (outcome.leaks if word == "leak" else outcome.calls).append(rest)
        return outcome

    def send(self, event, when=None, shim=None):
        return self.run([CGI], event, when, shim)

    def recover(self, shim=None):
        return self.run([PSAPI, "recover"], shim=shim)

    # ---- what a sound spool is ----

    def names(self, directory):
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.at(directory)))
        return []

    def torn(self, events):
        """Complaints about files that are not whole."""
        by_name = {event.name: event for event in events}
        for directory in ["new", "failed", "events"]:
            # A name that begins with a dot is nobody's: the probe of a start that was killed.
            for name in (name for name in self.names(directory) if name[0] != "."):
                try:
                    with open(self.at(directory, name), "rb") as file:
                        check_whole(file.read(), by_name[name])
                except (Torn, KeyError) as error:
                    yield f"{directory}/{name}: {error!r}"

    def queued(self, event):
        return [d for d in ["new", "failed"] if event.name in self.names(d)]

    def kept(self, event, handled=False):
        """Complaints unless the event is whole, queued once, and recorded."""
        wanted = [event.queue] if event.queue and not handled else []
        if self.queued(event) != wanted:
            yield f"{event.name} is queued in {self.queued(event)}, not in {wanted}"
        if event.name not in self.names("events"):
            yield f"{event.name} is not in events/"
        elif wanted and self.queued(event) == wanted and not os.path.samefile(
                self.at(wanted[0], event.name), self.at("events", event.name)):
            yield f"{event.name} in {wanted[0]}/ is not the file in events/"

    def handled(self):
        """The ids that a handler has seen."""
        with contextlib.suppress(FileNotFoundError):
            with open(self.handled_log, encoding="ascii") as file:
                return file.read().split()
        return []

    def takes(self, event, blind=False):
        """Whether a consumer would take it from new/ now: README.md's loop, or one that is blind for events/."""
        ours, known = self.at("new", event.name), self.at("events", event.name)
        with contextlib.suppress(FileNotFoundError):
            return blind and os.path.exists(ours) or os.path.samefile(ours, known)
        return False

    def log_is_readable(self):
        """Complaints unless the attempts log ends in a whole line."""
        with contextlib.suppress(FileNotFoundError):
            with open(self.at("attempts.jsonl"), "rb") as file:
                lines = file.read().split(b"\n")
            if lines[-1] != b"":
                yield f"attempts.jsonl ends in half a line: {lines[-1]!r}"
            else:
                try:
                    json.loads(lines[-2])
                except ValueError:
                    yield f"attempts.jsonl ends in {lines[-2]!r}"
