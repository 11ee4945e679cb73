#!/usr/bin/python3
"""Seeds for the fuzz targets from tests/vectors/signatures.json: seeds.py DIRECTORY."""

import base64
import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VECTORS = os.path.join(HERE, "../vectors/signatures.json")


def seeds():
    with open(VECTORS, encoding="utf-8") as file:
        vectors = json.load(file)
    for number, v in enumerate(vectors):
        body = base64.b64decode(v["body_base64"])
        fields = [(v[key] or "").encode("utf-8", "surrogateescape") for key in ("id", "timestamp", "signature")]
        good = [b"GOOD" + b" " * 43 if v["expect"] == "accept" else fields[2]]
        yield "signature", number, b"\n".join([fields[1], *good, body])
        yield "event", number, fields[0] + b"\n" + body
        yield "name", number, fields[0]
        last = b"GOOD" if v["expect"] == "accept" else fields[2]
        yield "receive", number, b"\n".join([b"POST", b"", b"=", *fields[:2], last, body])
        for secret in v["secrets"]:
            yield "secret", number, secret.encode()
    yield from records()
    yield from boundaries()
    yield from files()
    yield from logs()
    yield from batches()
    for number, text in enumerate([b"PSAPI_SPOOL=/x\nPSAPI_LISTEN=unix:/run/x\n", b"# c\n;\n\nA=b\n",
                                   b"PSAPI_THREADS='8'\nPSAPI_TOLERANCE=\"300\"\n",
                                   b"PSAPI_LISTEN=127.0.0.1:9000\nPSAPI_MAX_BODY=1\n",
                                   b"PSAPI_LISTEN=[::1]:9000\nPSAPI_NO=1\n"]):
        yield "config", number, text
    for number, text in enumerate([b"outcome=rejected&npn=%31%32&since=12h&until=2025-07-24T22:51Z&limit=7", b"id=%c3%a9+x&&after=l1.2",
                                   b"type=producersync.npn&type=x", b"npn=%zz", b"limit=99999999999999999999", b"reason", b"=&x=1"]):
        yield "query", number, text


def batches():
    """What batch handlers write, and an event, each after the length of a part."""
    for number, text in enumerate([b"ok 1\nlater 2 disk full\nfailed 3 no such NPN\r\nok all 3", b"ok\nok 0\nok 1 2\nfailed to",
                                   b"hello\n" + b"x" * 1030 + b"\nfailed 12 " + b"y" * 1030 + b"\nlater " + b" " * 1018 + b"12\n",
                                   b'{"data":{"npn":"1"},\r\n"timestamp":"x","type":"a.b"}\n']):
        yield "batch", number, b"\x06" + text


def records():
    """Requests as FastCGI records, after the length of a piece: plain, with a question about values, two at once, and
    one that is cut off in the middle of a long record."""
    def record(kind, content=b"", request_id=1, padding=b""):
        return struct.pack("!BBHHBx", 1, kind, request_id, len(content), len(padding)) + content + padding
    request = record(1, b"\0\1\1\0\0\0\0\0") + record(4, b"\x0b\x09REMOTE_ADDR192.0.2.1\x01\x80\0\0\x02Abc") + \
        record(4) + record(5, b"body", padding=b"pad") + record(5)
    values = record(9, b"\x0f\0FCGI_MPXS_CONNS\x0e\0FCGI_MAX_CONNS", 0)
    for number, data in enumerate([request, values + request, request + request, request[:16] + record(2)]):
        yield "fastcgi_reader", number, b"\x07" + data
    yield "fastcgi_reader", "cut-off", b"\xcf" + request[:request.index(b"body") - 8] + record(5, b"x" * 1500) + request


NOW = 1753397465  # the clock of the targets; the tolerance is 300 s
TIMES = [str(NOW + d) for d in (-301, -300, -299, 0, 299, 300, 301)]
TIMES += [f"0{NOW}", f"+{NOW}", f" {NOW}", f"{NOW} ", f"{NOW}.0", f"{NOW}a", "999999999999",
          "1000000000000", f"{NOW}, {NOW}", f"{NOW}, 1", ""]
LISTS = ["GOOD", "v1,x GOOD", "GOOD v1,x", "  GOOD", "GOODx", "GOOD,x", "xGOOD", "v1a,x v1 , GOOD",
         "GOOD, GOOD", "GOOD, v1,x", "v1,", "GOO", "v2,x", ""]


def boundaries():
    """Right signatures of unusual timestamps, and unusual lists with a right signature in them."""
    pairs = [(time, "GOOD") for time in TIMES] + [(str(NOW), text) for text in LISTS]
    for number, (time, text) in enumerate(pairs):
        yield "signature", f"b{number}", f"{time}\n{text}{' ' * 47}\n{{}}".encode()
        yield "receive", f"b{number}", f"POST\n\n=\nmsg_1\n{time}\n{text}\n{{}}".encode()


EVIDENCE = (b'{"webhook_id":%s,"webhook_timestamp":"1753397465","webhook_signature":'
            b'"v1,CMVfFHNS8HOFZHaPNsdiSntUQTOzRIn3oLxxFP4uyCg=","received_at":"2025-07-24T22:51:05.391Z",')


def files():
    """Files of the spool, of each kind; and a state."""
    for number, (webhook_id, rest) in enumerate([
            (b'"msg_1"', b'"event":\n{"data":{"npn":"1"},"type":"producersync.npn.activated"}\n}\n'),
            (b'"a\\u00e9"', b'"event":\n{}\n}\n'),
            (b'"msg_2"', b'"event":null,"body_base64":"/wA="}\n'),
            (b'null,"webhook_id_base64":"/2E="', b'"event":\n[1]\n}\n')]):
        yield "entry", number, EVIDENCE % webhook_id + rest
    yield "entry", "state", (b'{"tries":2,"tried_at":"2025-07-24T22:51:05Z","due_at":"2025-07-24T22:56:05Z",'
                             b'"handler":"x","reason":"exit status 75","stderr":"no\\n"}')


def logs():
    """Attempts logs: the options' byte, then whole lines, torn ones, ones of others."""
    line = (b'{"at":"2025-07-24T22:51:05.391Z","outcome":"accepted","status":200,"webhook_id":"msg_1",'
            b'"type":"x","remote_addr":"192.0.2.1","bytes":100,"skew_s":-1,"key":"0123abcd","ms":1.234}\n')
    refused = line.replace(b"accepted", b"rejected").replace(b'"ms"', b'"suppressed":7,"ms"')
    for number, text in enumerate([line, refused + line, line[:-20], line[:50] + b"\n" + line * 3,
                                   b"\n\n" + line, b'{"at":1e999,"status":[]}\n"\x1b[31m"\n',
                                   line.replace(b"msg_1", b"\\u001b[2J\\u0000\x7f")]):
        for options in (0, 1, 2, 4, 8):
            yield "attempts", f"{number}-{options}", bytes([options]) + text


def main():
    for target, number, data in seeds():
        directory = os.path.join(sys.argv[1], target)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"seed-{number}"), "wb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
