"""gunicorn + Flask: one file per event, synced with its directory before the answer, each id once. BENCH_DIRECTORY and
BENCH_SECRET are in the environment."""

import base64
import hashlib
import hmac
import os
import threading
import time
import urllib.parse

from flask import Flask, request

DIRECTORY = os.environ["BENCH_DIRECTORY"]
KEY = base64.b64decode(os.environ["BENCH_SECRET"].removeprefix("whsec_"))
OPENED = os.open(DIRECTORY, os.O_RDONLY)

app = Flask(__name__)


def verify(webhook_id, when, signatures, body):
    content = f"{webhook_id}.{when}.".encode() + body
    expected = b"v1," + base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest())
    return any(hmac.compare_digest(expected, part.encode()) for part in signatures.split()) and \
        when.isdigit() and abs(time.time() - int(when)) <= 300


def store(webhook_id, body):
    path = f"{DIRECTORY}/{urllib.parse.quote(webhook_id, safe='')}.json"
    if os.path.exists(path):
        return
    draft = f"{DIRECTORY}/.{os.getpid()}.{threading.get_ident()}"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    os.write(fd, body)
    os.fsync(fd)
    os.close(fd)
    os.rename(draft, path)
    os.fsync(OPENED)


@app.post("/<path:_>")
def receive(_):
    body = request.get_data()
    headers = request.headers
    webhook_id = headers.get("webhook-id", "")
    if not verify(webhook_id, headers.get("webhook-timestamp", ""),
                  headers.get("webhook-signature", ""), body):
        return "{}\n", 401
    store(webhook_id, body)
    return "{}\n"
