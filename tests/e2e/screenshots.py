#!/usr/bin/python3
"""make screenshots: the pictures of docs/page.md and README.md, by a headless Chromium, of a receiver with made-up events.

  screenshots.py DIRECTORY
"""

import random
import sys
import time
from pathlib import Path

import web_scale
from browser import Browser
from psapi_command import Desk, body, updates
from receiver import Place
from sender import signed
from web_page import ACTIONS, USER, NginxPage, page_of

WIDTH, HEIGHT, BYTES_MAX = 1100, 760, 150_000
HANDLERS = {
    "producersync.npn.activated": "exit 0\n",
    "producersync.npn.deactivated": 'echo "ldap_bind: Can\'t contact LDAP server (ldap.example.com:636)" >&2\nexit 1\n',
    "producersync.updates_available": "exit 0\n"}


def a_day(path):
    """The attempts log of the hours before."""
    random.seed(1)
    now = time.time()
    lines = []
    for hour in range(23, 0, -1):
        for _ in range(random.randint(3, 14) + (hour % 24 in range(6, 14)) * 9):
            at = now - hour * 3600 + random.random() * 3500
            lines.append((at, web_scale.line(len(lines), at)))
            if random.random() < 0.06:
                lines.append((at + 5, web_scale.line(len(lines), at + 5).replace('"accepted"', '"duplicate"')))
            if random.random() < 0.03:
                lines.append((at + 1, web_scale.line(len(lines), at + 1).replace(
                    '"outcome":"accepted","status":200', '"outcome":"rejected","status":401,"reason":"stale_timestamp"')))
    path.write_text("".join(line for _, line in sorted(lines)))


def build(place, desk, page):
    """Returns the id of an event that failed."""
    for number in range(4):
        page.send(signed(body(number, str(17_340_201 + number))))
    page.send(signed(updates(100)))
    failed = [signed(body(200 + number, str(18_201_455 + number), "producersync.npn.deactivated")) for number in range(3)]
    for request in failed:
        page.send(request)
    for name, script in HANDLERS.items():
        desk.handler(name, script)
    desk.run("drain", expect=None)
    page.send(signed(body(300, "19002211")))
    desk.run("check", expect=None)      # as psapi-check.timer does
    return failed[0].header("webhook-id").decode()


def main(directory):
    place = Place({"PSAPI_MAX_TRIES": 10})
    try:
        desk = Desk(place)
        a_day(place.spool.path / "attempts.jsonl")
        with page_of(NginxPage, place, **ACTIONS) as page:
            webhook_id = build(place, desk, page)
            for dark in (False, True):
                with Browser(page, USER, width=WIDTH, height=HEIGHT, dark=dark) as browser:
                    for name, query in (("overview", ""), ("event", f"?view=event&id={webhook_id}")):
                        browser.open(query, name)
                        picture = Path(directory) / f"{name}-{'dark' if dark else 'light'}.png"
                        browser.screenshot(picture, whole=False)
                        size = picture.stat().st_size
                        print(f"{picture}: {size} bytes")
                        if size > BYTES_MAX:
                            return 1
    finally:
        place.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
