#!/usr/bin/python3
"""64 clients at once and a receiver with ThreadSanitizer, while the secret and the attempts log are replaced; then the
end of the receiver, under load: race.py BINARY SECONDS."""

import contextlib
import itertools
import os
import re
import signal
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "fuzz"))
from fuzz_fastcgi import END, GOOD, Receiver, parts  # pylint: disable=wrong-import-position
from testbed import SECRET  # pylint: disable=wrong-import-position,wrong-import-order

CLIENTS, THREADS = 64, 16


def exactly(s, size):
    data = b""
    while len(data) < size:
        more = s.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def answer(s):
    """Reads from a kept connection until the end of the request."""
    out = b""
    while True:
        kind, length, padding = struct.unpack("!xBxxHBx", exactly(s, 8))
        out += exactly(s, length + padding)
        if kind == END:
            return out


def client(receiver, number, stop, answered):
    """New events, ids that other clients send as well, forgeries, and uploads that break off."""
    with contextlib.suppress(OSError):
        while not stop.is_set():
            with receiver.connect() as s:
                for turn in range(20):
                    shared = turn % 3 == 0
                    webhook_id = f"msg_{int(time.time() * 20)}" if shared else \
                        f"msg_{number}_{time.monotonic_ns()}"
                    body = GOOD if turn % 5 else GOOD + b" "
                    records = parts(webhook_id, keep=True, body=body)
                    if turn == 19 and number % 4 == 0:
                        s.sendall(b"".join(records)[:-20])
                        break
                    s.sendall(b"".join(records))
                    if b"Status: 200" in answer(s):
                        answered.add(webhook_id)


def disturb(receiver, stop):
    """Replaces the secret and renames the log, repeatedly."""
    for turn in itertools.count():
        if stop.wait(0.05):
            return
        new = os.path.join(receiver.directory, "secret.new")
        with open(new, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o640)) as file:
            file.write("\n" * (turn % 7) + SECRET + "\n")
        os.rename(new, os.path.join(receiver.directory, "secret"))
        log = os.path.join(receiver.directory, "spool", "attempts.jsonl")
        with contextlib.suppress(FileNotFoundError):
            os.rename(log, log + ".1")


def main():
    binary, seconds = sys.argv[1], float(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="psapi-race-") as directory:
        receiver = Receiver(binary, directory, THREADS)
        stop, answered = threading.Event(), set()
        threads = [threading.Thread(target=client, args=(receiver, i, stop, answered))
                   for i in range(CLIENTS)]
        threads.append(threading.Thread(target=disturb, args=(receiver, stop)))
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        receiver.process.send_signal(signal.SIGTERM)
        code = receiver.process.wait(20)
        stop.set()
        for thread in threads:
            thread.join()
        names = {name.removesuffix(".json") for name in os.listdir(directory + "/spool/new")}
        with open(receiver.stderr, encoding="utf-8", errors="replace") as file:
            messages = "".join(line for line in file if "in force" not in line)
        races = len(re.findall("WARNING: ThreadSanitizer", messages))
        print(f"race: {len(answered)} events of {CLIENTS} clients, {races} reports, "
              f"exit code {code}")
        if races or code != 0 or not answered <= names:
            sys.exit(f"{messages[:6000]}\nanswered and not there: {sorted(answered - names)[:5]}")


if __name__ == "__main__":
    main()
