"""An HTTP/1.1 client for the tests: sends exactly the bytes of a Request, good or bad.

http.client refuses to send half of what the tests need (control characters, a header twice), so
only its parser of responses is used. One connection per request, as the sender does.
"""

import http.client
import socket
import ssl

from replies import Reply

PATH = "/webhooks/psapi"


def head_of(request, host="localhost"):
    lines = [f"{request.method} {PATH} HTTP/1.1".encode(), b"Host: " + host.encode(),
             b"Connection: close"]
    lines += [name.encode() + b": " + value for name, value in request.headers]
    lines += [b"Transfer-Encoding: chunked" if request.chunked
              else b"Content-Length: %d" % len(request.body)]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def body_of(request, chunk=1000):
    if not request.chunked:
        return request.body
    pieces = [request.body[i:i + chunk] for i in range(0, len(request.body), chunk)]
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


class HttpClient:
    def __init__(self, host, port, cafile=None, timeout=30):
        self.address = (host, port)
        self.timeout = timeout
        self.tls = ssl.create_default_context(cafile=cafile) if cafile else None

    def connect(self):
        plain = socket.create_connection(self.address, timeout=self.timeout)
        if not self.tls:
            return plain
        return self.tls.wrap_socket(plain, server_hostname="localhost")

    def send(self, request):
        with self.connect() as connection:
            try:
                connection.sendall(head_of(request) + body_of(request))
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before the whole body was sent: the answer has come
            return self.answer(connection, request.method)

    @staticmethod
    def answer(connection, method="POST"):
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, response.read())
