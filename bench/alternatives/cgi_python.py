#!/usr/bin/python3 -S
"""Classic CGI in Python, under fcgiwrap."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from store import store, verify  # pylint: disable=wrong-import-position

body = sys.stdin.buffer.read(int(os.environ["CONTENT_LENGTH"]))
webhook_id = os.environ["HTTP_WEBHOOK_ID"]
good = verify(webhook_id, os.environ["HTTP_WEBHOOK_TIMESTAMP"],
              os.environ["HTTP_WEBHOOK_SIGNATURE"], body)
if good:
    store(webhook_id, body, str(os.getpid()))
print(f"Status: {200 if good else 401}\r\nContent-Type: application/json\r\n\r\n{{}}")
