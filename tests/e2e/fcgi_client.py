"""A FastCGI client: the protocol, with nothing between test and receiver.

FastCGI 1.0, sections 3 and 5. Records can be sent one by one, so that a test can stop halfway,
send records that no web server sends, or keep the connection. It knows nothing of webhooks.
"""

import fcntl
import socket
import struct
import sys
import termios

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR, GET_VALUES = 1, 2, 3, 4, 5, 6, 7, 9
RESPONDER, KEEP_CONN = 1, 1


class NoAnswer(Exception):
    """The receiver closed the connection before END_REQUEST; args: (stdout so far,)"""


def record(kind, content=b"", request_id=1, padding=0, version=1):
    return struct.pack("!BBHHBx", version, kind, request_id, len(content), padding) \
        + content + b"\0" * padding


def stream(kind, data, request_id=1, chunk=65535):
    """A whole stream: its records and the empty one that ends it."""
    parts = [record(kind, data[i:i + chunk], request_id) for i in range(0, len(data), chunk)]
    return b"".join(parts) + record(kind, b"", request_id)


def begin(keep=False, role=RESPONDER, request_id=1):
    return record(BEGIN, struct.pack("!HB5x", role, KEEP_CONN if keep else 0), request_id)


def pair(name, value):
    def size(text):
        return bytes([len(text)]) if len(text) < 128 else struct.pack("!I", len(text) | 1 << 31)
    return size(name) + size(value) + name + value


def params(pairs, request_id=1):
    """The PARAMS stream of (name, value) pairs: order and duplicates are kept."""
    return stream(PARAMS, b"".join(pair(n, v) for n, v in pairs), request_id)


def request(pairs, body, keep=False):
    return begin(keep) + params(pairs) + stream(STDIN, body)


class Connection:
    """To a unix socket (a path) or a TCP one (host, port)."""

    def __init__(self, address, timeout=20):
        tcp = isinstance(address, tuple)
        self.socket = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address if tcp else str(address))
        except OSError:
            self.socket.close()
            raise

    def send(self, data):
        self.socket.sendall(data)

    def exchange(self, pairs, body, keep=False):
        """One request, whole; returns the CGI response."""
        try:
            self.send(request(pairs, body, keep))
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused early: the answer may have come before the connection was closed
        return self.answer()

    def answer(self):
        """STDOUT up to END_REQUEST, or NoAnswer."""
        out = b""
        while True:
            head = self._exactly(8, out)
            kind, length, padding = struct.unpack("!xBxxHBx", head)
            content = self._exactly(length + padding, out)[:length]
            if kind == STDOUT:
                out += content
            elif kind == END:
                return out

    def unread(self):
        """Bytes sent over a unix socket that the other side has not read; not exact, but 0 when all is read."""
        return int.from_bytes(fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def closed(self):
        """True when the other side has closed (waits for that until the time-out)."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def _exactly(self, count, so_far):
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                raise NoAnswer(so_far)
            data += more
        return data

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
