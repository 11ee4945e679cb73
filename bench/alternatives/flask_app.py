"""gunicorn + Flask: one file per event, synced with its directory before the answer, each id once."""

import os
import threading

from flask import Flask, request

from store import store, verify

app = Flask(__name__)


@app.post("/<path:_>")
def receive(_):
    body = request.get_data()
    headers = request.headers
    webhook_id = headers.get("webhook-id", "")
    if not verify(webhook_id, headers.get("webhook-timestamp", ""),
                  headers.get("webhook-signature", ""), body):
        return "{}\n", 401
    store(webhook_id, body, f"{os.getpid()}.{threading.get_ident()}")
    return "{}\n"
