#!/usr/bin/python3
"""Broken FastCGI records against the real binary: fuzz_fastcgi.py BINARY SECONDS [SEED].

The receiver must not end, hang, lose a thread or keep a descriptor, and must answer a good request at any time. BINARY
should be built with sanitizers: each of their reports fails the run.

Among them are those of which libfcgi 2.4.2 would abort: two lengths in PARAMS whose sum overflows an int."""

import contextlib
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../faults"))
from testbed import GOOD, SECRET, signature  # pylint: disable=wrong-import-position

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT = 1, 2, 3, 4, 5, 6
THREADS, READ_TIMEOUT = 4, 1


def record(kind, content=b"", request_id=1, version=1, length=None, padding=0):
    length = len(content) if length is None else length
    return struct.pack("!BBHHBx", version, kind, request_id, length & 0xffff, padding) + \
        content + b"\0" * padding


def size(n, long=False):
    return bytes([n]) if n < 128 and not long else struct.pack("!I", n & 0x7fffffff | 1 << 31)


def pair(name, value):
    return size(len(name)) + size(len(value)) + name + value


def parts(webhook_id, keep=False, body=GOOD):
    """A request, as records; it is good if its body is GOOD."""
    now = str(int(time.time()))
    env = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body)),
           "HTTP_WEBHOOK_ID": webhook_id, "HTTP_WEBHOOK_TIMESTAMP": now,
           "HTTP_WEBHOOK_SIGNATURE": signature(webhook_id, now, GOOD)}
    pairs = b"".join(pair(k.encode(), v.encode()) for k, v in env.items())
    return [record(BEGIN, struct.pack("!HB5x", 1, keep)), record(PARAMS, pairs), record(PARAMS),
            record(STDIN, body), record(STDIN)]


# ---- kinds of faults ----

def huge_pair(rng, records):
    """Lengths of up to 2 GB each, more than is sent, whose sum overflows."""
    name, value = (rng.choice([0, 127, 1 << 16, 1 << 24, 0x7fffffff, 0x7ffffffe]) for _ in "ab")
    records[1] = record(PARAMS, size(name, True) + size(value, True) + rng.randbytes(40))


def flip(rng, records):
    """One bit is wrong."""
    at = rng.randrange(len(records))
    data = bytearray(records[at])
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    records[at] = bytes(data)


def cut(rng, records):
    at = rng.randrange(len(records))
    records[at] = records[at][:rng.randrange(len(records[at]))]


def lose(rng, records):
    del records[rng.randrange(len(records))]


def repeat(rng, records):
    at = rng.randrange(len(records))
    records[at:at] = [records[at]] * rng.randrange(1, 5)


def swap(rng, records):
    rng.shuffle(records)


def alien(rng, records):
    """A record of any type, version and id, with any content."""
    content = rng.randbytes(rng.choice([0, 1, 7, 8, 100, 65535]))
    records.insert(rng.randrange(len(records) + 1),
                   record(rng.randrange(256), content, rng.choice([0, 1, 2, 65535]),
                          rng.choice([1, 1, 1, 0, 255]), rng.choice([None, 0, 65535]),
                          rng.choice([0, 255])))


def role(rng, records):
    records[0] = record(BEGIN, struct.pack("!HB5x", rng.randrange(65536), rng.randrange(256)))


def begin_short(rng, records):
    records[0] = record(BEGIN, rng.randbytes(rng.randrange(8)))


def abort(rng, records):
    records.insert(rng.randrange(1, len(records)), record(ABORT))


def many(rng, records):
    """Thousands of small variables."""
    records[1] = b"".join(record(PARAMS, pair(b"A%d" % i, b"x") * 20) for i in range(500))


def noise(rng, records):
    records[:] = [rng.randbytes(rng.randrange(2000))]


BREAKERS = [huge_pair, flip, flip, flip, cut, cut, lose, repeat, swap, alien, alien, role,
            begin_short, abort, many, noise]


class Receiver:
    def __init__(self, binary, directory, threads=THREADS):
        self.directory = directory
        self.path = os.path.join(directory, "socket")
        secret = os.path.join(directory, "secret")
        with open(secret, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o640)) as file:
            file.write(SECRET + "\n")
        conf = os.path.join(directory, "conf")
        with open(conf, "w", encoding="ascii") as file:
            file.write(f"PSAPI_SPOOL={directory}/spool\nPSAPI_SECRET_FILE={secret}\n"
                       f"PSAPI_LISTEN=unix:{self.path}\nPSAPI_MIN_FREE=0\n"
                       f"PSAPI_THREADS={threads}\nPSAPI_READ_TIMEOUT={READ_TIMEOUT}\n")
        self.stderr = os.path.join(directory, "stderr")
        # A huge malloc() that fails is no report of the sanitizer: libfcgi has to handle it.
        env = {"ASAN_OPTIONS": "allocator_may_return_null=1:max_allocation_size_mb=8192",
               "TSAN_OPTIONS": "halt_on_error=0:exitcode=66"}
        with open(self.stderr, "wb") as file:
            self.process = subprocess.Popen([binary, "-f", conf], env=env, stderr=file)
        wait(self.answers, 20, "it does not start")

    def answers(self):
        with contextlib.suppress(OSError):
            self.connect().close()
            return True
        return False

    def connect(self, timeout=15):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(timeout)
        s.connect(self.path)
        return s

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def good(self, webhook_id):
        """A good request must be answered 200."""
        answer = b""
        with contextlib.suppress(ConnectionError), self.connect() as s:
            s.sendall(b"".join(parts(webhook_id)))
            while data := s.recv(65536):
                answer += data
        if b"Status: 200" not in answer:
            sys.exit(f"a good request gets {answer!r}; {self.messages()}")

    def messages(self):
        with open(self.stderr, encoding="utf-8", errors="replace") as file:
            return file.read()[-4000:]


def wait(condition, seconds, complaint):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(complaint)
        time.sleep(0.05)


def broken(receiver, rng):
    """One connection with a broken request, in pieces, closed at once or later."""
    records = parts(f"msg_{rng.randrange(20)}")
    names = []
    for breaker in rng.choices(BREAKERS, k=rng.choice([1, 1, 1, 2, 3])):
        records = [part for part in records if part]
        if len(records) > 1:
            breaker(rng, records)
            names.append(breaker.__name__)
    data = b"".join(records)
    s = receiver.connect()
    with contextlib.suppress(OSError):
        for start in range(0, len(data), step := rng.choice([len(data) + 1, 7, 1000])):
            s.sendall(data[start:start + step])
    if rng.random() < 0.5:
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_WR)
    return s, names


def main():
    binary, seconds = sys.argv[1], float(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 6
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="psapi-fuzz-") as directory:
        receiver = Receiver(binary, directory)
        receiver.good("msg_first")
        wait(lambda: receiver.threads() == THREADS + 1, 20, "its threads do not start")
        descriptors, threads = receiver.descriptors(), receiver.threads()
        end, count, left_open = time.monotonic() + seconds, 0, []
        while time.monotonic() < end:
            count += 1
            s, names = broken(receiver, rng)
            left_open.append(s)
            if len(left_open) > 2 * THREADS:
                left_open.pop(rng.randrange(len(left_open))).close()
            if receiver.process.poll() is not None:
                sys.exit(f"ended with {receiver.process.returncode} at number {count}, seed {seed}, {names}: "
                         f"{receiver.messages()}")
            if count % 50 == 0:
                for s in left_open:
                    s.close()
                left_open = []
                receiver.good(f"msg_good_{count}")
        for s in left_open:
            s.close()
        # As many requests at once as threads: no thread is lost.
        clients = [threading.Thread(target=receiver.good, args=(f"msg_last_{i}",))
                   for i in range(THREADS)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        wait(lambda: receiver.descriptors() <= descriptors, READ_TIMEOUT + 10,
             "descriptors are not given back")
        if receiver.threads() != threads:
            sys.exit(f"{receiver.threads()} threads of {threads} are left")
        receiver.process.send_signal(signal.SIGTERM)
        code = receiver.process.wait(10)
        if code != 0 or "runtime error" in receiver.messages():
            sys.exit(f"ended with {code}: {receiver.messages()}")
        print(f"fuzz fastcgi: {count} broken connections, no failure")


if __name__ == "__main__":
    main()
