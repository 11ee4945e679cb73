"""What the Python alternatives share. BENCH_DIRECTORY and BENCH_SECRET are in the environment."""

import base64
import contextlib
import hashlib
import hmac
import os
import time
import urllib.parse

DIRECTORY = os.environ["BENCH_DIRECTORY"]
KEY = base64.b64decode(os.environ["BENCH_SECRET"].removeprefix("whsec_"))


def verify(webhook_id, when, signatures, body):
    content = f"{webhook_id}.{when}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest())
    return any(hmac.compare_digest(expected, part.encode()) for part in signatures.split()) and \
        when.isdigit() and abs(time.time() - int(when)) <= 300


def store(webhook_id, body, unique):
    path = f"{DIRECTORY}/{urllib.parse.quote(webhook_id, safe='')}.json"
    if os.path.exists(path):
        return
    draft = f"{DIRECTORY}/.{unique}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    os.write(fd, body)
    os.fsync(fd)
    os.close(fd)
    with contextlib.suppress(FileExistsError):
        os.link(draft, path)
    os.unlink(draft)
    directory = os.open(DIRECTORY, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
