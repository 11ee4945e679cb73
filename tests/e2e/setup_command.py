"""`psapi` while an endpoint is set up: secret, adopt, send, doctor; and receivers to send to."""

import http.server
import os
import pty
import select
import signal
import subprocess
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

from receiver import BINARY, SLOWER

PSAPI = BINARY.parent / "psapi"


def psapi(place, *arguments, expect=0, stdin="", **settings):
    """Run psapi with the settings of the place. expect: its exit status, None for any."""
    done = subprocess.run([PSAPI, *map(str, arguments)], env=place.environment(**settings),
                          input=stdin, capture_output=True, text=True, timeout=120 * SLOWER)
    assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
    assert expect is None or done.returncode == expect, \
        (done.returncode, done.stdout, done.stderr)
    return done


def read_until(terminal, what):
    """The output on a terminal, up to `what`."""
    screen, deadline = b"", time.monotonic() + 60 * SLOWER
    while what not in screen:
        ready = select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]
        assert ready, f"{what} does not show: {screen}"
        screen += os.read(terminal, 4096)
    return screen


def psapi_on_a_terminal(place, *arguments, typed=b"", after=b": ", **settings):
    """psapi with a terminal as descriptors 0 to 2. `typed` is entered when `after` is shown. Status and output."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)    # the default, also if the tests run in the background
        os.execve(PSAPI, [str(PSAPI), *map(str, arguments)],
                  {"TERM": "xterm"} | place.environment(**settings))
    screen, pending = b"", typed
    deadline = time.monotonic() + 60 * SLOWER
    try:
        while True:
            left = max(0, deadline - time.monotonic())
            if not select.select([terminal], [], [], left)[0]:
                os.kill(pid, signal.SIGKILL)
                raise AssertionError(f"not ended within {60 * SLOWER} s: {screen}")
            try:
                more = os.read(terminal, 4096)
            except OSError:     # EIO: the other side is closed
                break
            if not more:
                break
            screen += more
            if pending and after in screen:
                os.write(terminal, pending)
                pending = b""
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    return os.waitstatus_to_exitcode(status), screen


@dataclass
class Arrived:
    headers: object
    body: bytes
    path: str


class Listener(http.server.ThreadingHTTPServer):
    """An endpoint that keeps all requests and sends what `answer(request)` returns."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer):
        self.answer, self.requests, self.lock = answer, [], threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/webhooks/psapi"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = Arrived(self.headers, self.rfile.read(int(self.headers["content-length"])),
                          self.path)
        with self.server.lock:
            self.server.requests.append(request)
            number = len(self.server.requests)
        status, headers, body = self.server.answer(request, number)
        try:
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass    # the sender gave up

    def log_message(self, *_):
        pass


@contextmanager
def listening(answer=lambda request, number: (200, {}, b'{"status":"accepted"}\n')):
    listener = Listener(answer)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
