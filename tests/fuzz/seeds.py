#!/usr/bin/python3
"""Seeds for the fuzz targets from tests/vectors/signatures.json: seeds.py DIRECTORY."""

import base64
import json
import os
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
    yield from boundaries()
    for number, text in enumerate([b"PSAPI_SPOOL=/x\nPSAPI_LISTEN=unix:/run/x\n", b"# c\n;\n\nA=b\n",
                                   b"PSAPI_THREADS='8'\nPSAPI_TOLERANCE=\"300\"\n",
                                   b"PSAPI_LISTEN=127.0.0.1:9000\nPSAPI_MAX_BODY=1\n",
                                   b"PSAPI_LISTEN=[::1]:9000\nPSAPI_NO=1\n"]):
        yield "config", number, text


NOW = 1753397465  # of the targets; 300 s are tolerated
TIMES = [str(NOW + d) for d in (-301, -300, -299, 0, 299, 300, 301)]
TIMES += [f"0{NOW}", f"+{NOW}", f" {NOW}", f"{NOW} ", f"{NOW}.0", f"{NOW}a", "999999999999",
          "1000000000000", f"{NOW}, {NOW}", f"{NOW}, 1", ""]
LISTS = ["GOOD", "v1,x GOOD", "GOOD v1,x", "  GOOD", "GOODx", "GOOD,x", "xGOOD", "v1a,x v1 , GOOD",
         "GOOD, GOOD", "GOOD, v1,x", "v1,", "GOO", "v2,x", ""]


def boundaries():
    """Right signatures over odd timestamps, and odd lists with a right one in them."""
    pairs = [(time, "GOOD") for time in TIMES] + [(str(NOW), text) for text in LISTS]
    for number, (time, text) in enumerate(pairs):
        yield "signature", f"b{number}", f"{time}\n{text}{' ' * 47}\n{{}}".encode()
        yield "receive", f"b{number}", f"POST\n\n=\nmsg_1\n{time}\n{text}\n{{}}".encode()


def main():
    for target, number, data in seeds():
        directory = os.path.join(sys.argv[1], target)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"seed-{number}"), "wb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
