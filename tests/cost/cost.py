#!/usr/bin/python3
"""What one accepted event costs, in figures that do not depend on the clock: cost.py BINARY HOOK DIRECTORY

A receiver under callgrind counts user-mode instructions, another under strace system calls, while
events come one after the other over a connection that is kept, with the variables that nginx
sends. Each is run with N and with 2N events, and the difference taken: the start cancels out.
Fails above the bounds below, of the way with one wait and of the way with two. One wait needs a
file system where it is known to be safe: root makes one (bench/harness.py).
Valgrind writes machine code, which the lockdown forbids: under it runs the same receiver with the
test hook, which leaves the lockdown out (tests/hook).
"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "../faults"), str(HERE / "../../bench")]
import harness  # pylint: disable=wrong-import-position
from testbed import GOOD, SECRET, signature  # pylint: disable=wrong-import-position

EVENTS = 200
WARM = 20   # arenas, the attempts log, the way to link: not what one event costs
# By PSAPI_SYNC: one wait, and two.
BOUNDS = {"auto": {"instructions": 104000, "system calls": 17, "of them fsync": 1},
          "two": {"instructions": 104000, "system calls": 17, "of them fsync": 2}}
BEGIN, END, PARAMS, STDIN = 1, 3, 4, 5


def record(kind, content=b""):
    return struct.pack("!BBHHBx", 1, kind, 1, len(content), 0) + content


def pair(name, value):
    def size(text):
        return bytes([len(text)]) if len(text) < 128 else struct.pack("!I", len(text) | 1 << 31)
    return size(name) + size(value) + name + value


def variables(webhook_id, now):
    """As nginx 1.22 sends them with fastcgi_params, for a delivery by Svix."""
    return [
        ("QUERY_STRING", ""), ("REQUEST_METHOD", "POST"), ("CONTENT_TYPE", "application/json"),
        ("CONTENT_LENGTH", str(len(GOOD))), ("SCRIPT_NAME", "/webhooks/psapi"),
        ("REQUEST_URI", "/webhooks/psapi"), ("DOCUMENT_URI", "/webhooks/psapi"),
        ("DOCUMENT_ROOT", "/var/www/html"), ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_SCHEME", "https"), ("HTTPS", "on"), ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", "nginx/1.22.1"), ("REMOTE_ADDR", "192.0.2.1"), ("REMOTE_PORT", "41234"),
        ("REMOTE_USER", ""), ("SERVER_ADDR", "192.0.2.2"), ("SERVER_PORT", "443"),
        ("SERVER_NAME", "example.org"), ("REDIRECT_STATUS", "200"), ("HTTP_HOST", "example.org"),
        ("HTTP_ACCEPT", "*/*"), ("HTTP_CONTENT_TYPE", "application/json"),
        ("HTTP_CONTENT_LENGTH", str(len(GOOD))), ("HTTP_USER_AGENT", "Svix-Webhooks/1.68.0"),
        ("HTTP_WEBHOOK_ID", webhook_id), ("HTTP_WEBHOOK_TIMESTAMP", now),
        ("HTTP_WEBHOOK_SIGNATURE", signature(webhook_id, now, GOOD)),
    ]


def request(number):
    webhook_id, now = f"msg_2KWPBgLlAfxdpx2AI{number:010d}", str(int(time.time()))
    pairs = b"".join(pair(n.encode(), v.encode()) for n, v in variables(webhook_id, now))
    # In one piece, as nginx writes it.
    return record(BEGIN, struct.pack("!HB5x", 1, 1)) + record(PARAMS, pairs) + record(PARAMS) + \
        record(STDIN, GOOD) + record(STDIN)


def read_answer(stream):
    """To the end of the request. Returns the CGI response."""
    answer = b""
    while True:
        kind, length, padding = struct.unpack("!xBxxHBx", stream.read(8))
        content = stream.read(length + padding)[:length]
        if kind == END:
            return answer
        answer += content


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            sys.exit("cost: the receiver does not come up")
        time.sleep(0.01)


def run(binary, directory, command, events, sync):
    """Run a receiver under command; it accepts this number of events, and ends."""
    directory = tempfile.mkdtemp(dir=directory)
    spool, path = os.path.join(directory, "spool"), os.path.join(directory, "socket")
    secret, conf = os.path.join(directory, "secret"), os.path.join(directory, "conf")
    for name, text in [(secret, SECRET + "\n"), (conf, "")]:
        with open(name, "w", encoding="ascii", opener=lambda p, f: os.open(p, f, 0o640)) as file:
            file.write(text)
    environment = {"PATH": os.environ["PATH"], "PSAPI_CONF": conf, "PSAPI_SPOOL": spool,
                   "PSAPI_SECRET_FILE": secret, "PSAPI_LISTEN": f"unix:{path}",
                   "PSAPI_MIN_FREE": "1", "PSAPI_SYNC": sync, "PSAPI_HOOK_SKIP": "files calls"}
    # A session of its own: strace does not forward signals to the traced process.
    with subprocess.Popen([*command, binary], env=environment, stdin=subprocess.DEVNULL,
                          start_new_session=True) as process:
        try:
            wait_until(lambda: os.path.exists(path) or process.poll() is not None)
            if process.poll() is not None:
                sys.exit(f"cost: {command[0]}: the receiver ended at its start")
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(60)
                wait_until(lambda: connection.connect_ex(path) == 0)
                stream = connection.makefile("rb")
                for number in range(events):
                    connection.sendall(request(number))
                    answer = read_answer(stream)
                    assert answer.endswith(b'{"status":"accepted"}\n'), answer
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
        finally:
            process.kill()
    assert len(os.listdir(os.path.join(spool, "new"))) == events


def difference(count):
    """The cost of one event. count() takes a number of events and returns figures."""
    few, many = count(WARM), count(WARM + EVENTS)
    return {name: (many[name] - few.get(name, 0)) / EVENTS for name in many}


def instructions(binary, directory, sync):
    def count(events):
        out = os.path.join(directory, f"callgrind.{events}")
        run(binary, directory, ["valgrind", "--quiet", "--tool=callgrind",
                                f"--callgrind-out-file={out}"], events, sync)
        with open(out, encoding="utf-8") as file:
            return {"instructions": int(re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M)[1])}
    return difference(count)["instructions"]


def system_calls(binary, directory, sync):
    def count(events):
        out = os.path.join(directory, f"strace.{events}")
        run(binary, directory, ["strace", "-f", "-qq", "-o", out], events, sync)
        calls = {}
        with open(out, encoding="utf-8", errors="replace") as file:
            for name in re.findall(r"^\d+ +(\w+)\(", file.read(), re.M):
                calls[name] = calls.get(name, 0) + 1
        return calls
    return difference(count)


def figures(binary, hook, directory, sync):
    """The figures of BOUNDS, and under "calls" the system calls by name."""
    calls = system_calls(binary, directory, sync)
    # Without the calls that the clock causes: the main thread wakes up once a second.
    own = {name: round(n) for name, n in calls.items()}
    return {"instructions": instructions(hook, directory, sync), "system calls": sum(own.values()),
            "of them fsync": own.get("fsync", 0) + own.get("fdatasync", 0), "calls": calls}


def has_one_wait(binary, directory):
    """Whether one wait is known to be safe there; psapi-fcgi -t says it."""
    environment = {"PSAPI_SPOOL": os.path.join(directory, "spool"), "PSAPI_CONF": "/dev/null"}
    done = subprocess.run([binary, "-t"], env=environment, check=False, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return ", one wait for the disk" in done.stdout


def check(title, found, bounds):
    """Print what an event costs. Returns whether it is within the bounds."""
    calls = found.pop("calls")
    print(f"per accepted event on a kept connection, {title}:")
    for name, value in found.items():
        print(f"  {name}: {value:.1f} (bound {bounds[name]})")
    print("  " + ", ".join(f"{name} {n:.2f}" for name, n in sorted(calls.items()) if n >= 0.01))
    return all(value <= bounds[name] for name, value in found.items())


def main():
    binary, hook = map(os.path.abspath, sys.argv[1:3])
    good = True
    with tempfile.TemporaryDirectory(prefix="psapi-cost-", dir=os.path.abspath(sys.argv[3])) as directory, \
            harness.fresh("ext4", Path(directory), gib=1) as place:
        if has_one_wait(binary, place):
            good = check("one wait", figures(binary, hook, place, "auto"), BOUNDS["auto"])
        else:
            print("one wait: not known to be safe on this file system, and only root can make another: not counted")
        good &= check("two waits", figures(binary, hook, place, "two"), BOUNDS["two"])
    if not good:
        sys.exit("cost: over the bound")


if __name__ == "__main__":
    main()
