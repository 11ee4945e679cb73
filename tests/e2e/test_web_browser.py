"""The page in a real Chromium: what a first-time visitor does, by mouse and by keyboard alone; no console error, no violation of
the Content Security Policy (Browser checks both at the end of each test), no violation that axe finds.

One test is in `make check`; the others run with --long (make check-long, make check-web).
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import browser
import strace
import web_scale
from browser import Browser
from psapi_command import Desk, body, updates
from receiver import ROOT, SLOWER, wait_for
from sender import OTHER_SECRET, SECRET, signed
from web_page import ACTIONS, PASSWORD, SAME_ORIGIN, TRACES, USER, NginxPage, page_of
from web_page import nginx, page     # noqa: F401  fixtures

if browser.why_not():
    pytest.skip(browser.why_not(), allow_module_level=True)

long = pytest.mark.long
VIEWS = ("overview", "deliveries", "events", "event", "testing", "setup")
HOSTILE = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "'); alert(1); ('",
           "<svg/onload=alert(1)>", "{{7*7}}${7*7}", "&lt;b&gt;", "\u202egnp.exe", "a" * 180, "%3Cscript%3E", "../../etc/passwd",
           "</script><style>*{display:none}</style>", "\U0001f600\u0301\u0301"]


@pytest.fixture
def desk(place):
    return Desk(place)


def send(page, *requests):
    for request in requests:
        reply = page.send(request)
        assert reply.status in (200, 401), reply
    return [request.header("webhook-id").decode() for request in requests]


def fail_one(page, desk):
    """An activation whose handler fails, one whose handler succeeds, a daily event, one from nobody. Returns the ids."""
    ids = send(page, signed(body(1, "5550001")), signed(body(2, "5550002")), signed(updates(3)))
    send(page, signed(body(4), secrets=[OTHER_SECRET]))
    desk.handler("producersync.npn", '[ "$PSAPI_NPN" = 5550001 ] || exit 0\necho "cannot reach the directory" >&2\nexit 1\n')
    desk.handler("producersync.updates_available", "exit 0\n")
    desk.drain(expect=None)

    def all_are_listed():
        if page.place.store != "spool":     # copies of the attempts logs are sent after a request's answer
            page.send(signed(body(4), secrets=[OTHER_SECRET]))
        return set(ids) <= {row.get("webhook_id") for row in page.get("attempts")["rows"]}
    wait_for(all_are_listed, "all deliveries are listed")
    return ids


def queries(webhook_id):
    return {view: f"?view={view}" + (f"&id={webhook_id}" if view == "event" else "") for view in VIEWS}


# ---- in make check ----

def test_opens(nginx, desk):
    """Each view opens, without a word in the console. The lists offer the known types as a filter."""
    [failed, *_] = fail_one(nginx, desk)
    types = [one["type"] for one in nginx.get("examples")["examples"]]
    with Browser(nginx, USER) as b:
        for view, query in queries(failed).items():
            b.open(query, view)
            assert b.text("h1"), view
            offered = b.script("return [...document.querySelectorAll('#filter-type-list option')].map((one) => one.value)")
            assert offered == (types if view in ("deliveries", "events") else []), view


# ---- the first-time visitor ----

def keys_of(local):
    """What a user of en-US types into the field of a time, in its order."""
    from selenium.webdriver.common.keys import Keys
    return f"{local:%m%d%Y}{Keys.TAB}{local:%I%M%p}"


class ByMouse:
    def __init__(self, b):
        self.b = b

    def go(self, view):
        self.b.click(f'nav a[data-view="{view}"]')
        self.b.wait_for_view(view)

    def filter(self, **values):
        for name, value in values.items():
            if isinstance(value, datetime):
                self.b.click_left(f"#filter-{name}")     # the first of its parts
                self.b.press(keys_of(value))
            else:
                self.b.find(f"#filter-{name}").send_keys(value)
        self.b.click(".filters button.primary")

    def press(self, selector):
        wait_for(lambda: self.b.script("return Boolean(document.querySelector(arguments[0]))", selector), selector)
        self.b.click(selector)

    open_row = press


class ByKeyboard:
    """Tab, Enter, arrows and the page's own keys; no click."""

    def __init__(self, b):
        from selenium.webdriver.common.keys import Keys
        self.b, self.keys = b, Keys

    def go(self, view):
        self.press(f'nav a[data-view="{view}"]')
        self.b.wait_for_view(view)

    def filter(self, **values):
        self.b.press("/")
        for _ in range(40):
            name = self.b.focused().removeprefix("filter-")
            if name in values:
                value = values.pop(name)
                self.b.press(keys_of(value) if isinstance(value, datetime) else value)
            if not values:
                break
            self.b.press(self.keys.TAB)
        assert not values, values
        self.b.press(self.keys.ENTER)

    def tab_to(self, selector):
        self.b.press("x")
        for _ in range(80):
            if self.b.script("return document.activeElement.matches(arguments[0])", selector):
                return
            self.b.press(self.keys.TAB)
        raise AssertionError(f"the keyboard does not get to {selector}")

    def press(self, selector):
        wait_for(lambda: self.b.script("return Boolean(document.querySelector(arguments[0]))", selector), selector)
        self.tab_to(selector)
        self.b.press(self.keys.ENTER)

    def open_row(self, selector):
        self.b.press(self.keys.ARROW_DOWN)
        assert self.b.script("return document.activeElement.matches(arguments[0])", selector), self.b.focused()
        self.b.press(self.keys.ENTER)


@long
@pytest.mark.each_store
@pytest.mark.parametrize("way", [ByMouse, ByKeyboard])
def test_first_visit(page, desk, way):
    """Is all well? Yesterday's activation of an NPN; why an event failed, and back to the queue; an example and its reply."""
    failed, good, _ = fail_one(page, desk)
    [earlier] = send(page, signed(body(5, "5550002")))
    desk.drain(expect=None)
    now = datetime.now()
    desk.spool.age(good, 24 * 3600)
    desk.spool.age(earlier, 3 * 24 * 3600)
    with Browser(page, USER) as b:
        hand = way(b)
        b.open("", "overview")
        assert "1 event failed" in b.text(".health"), b.text()
        b.wait_for_text("1", ".tile:nth-child(2) .value")
        # The activation of an NPN, among the deliveries since yesterday.
        hand.go("deliveries")
        hand.filter(npn="5550002", since=now - timedelta(hours=26))
        row = "tbody tr:only-child td a"
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 1, "one row is left")
        assert "npn=5550002" in b.driver.current_url
        since = b.script("return new URLSearchParams(location.search).get('since')")
        assert abs(datetime.fromisoformat(since.replace("Z", "+00:00")).timestamp() - time.time() + 26 * 3600) < 120
        assert b.script("return Date.now() - new Date(document.querySelector('tbody time').dateTime)") > 23 * 3600 * 1000
        hand.open_row(row)
        b.wait_for_view("event")
        b.wait_for_text("It was handled.")
        assert good in b.text() and "signed with secret" in b.text()
        assert (b.driver.title, b.text("h1")) == ("producersync.npn.activated, NPN 5550002 · psapi",
                                                  "producersync.npn.activated, NPN 5550002")
        # Why the other one failed.
        hand.go("events")
        hand.filter(npn="5550001")
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 1, "one row is left")
        hand.open_row(row)
        b.wait_for_view("event")
        b.wait_for_text("cannot reach the directory")
        assert "exit status 1" in b.text(".state")
        # Back to the queue, after a question that says what will happen.
        hand.press('[data-act="retry"]')
        b.wait_for_text("1 event back to the queue?", "#dialog")
        hand_press(hand, "#dialog-yes")
        b.wait_for_text("It waits for its handler.")
        assert {row["webhook_id"]: row["status"] for row in desk.rows("list", "--all")}[failed] == "new"
        # An example, and its reply.
        hand.go("testing")
        hand.press('[data-send="producersync.npn.activated"]')
        b.wait_for_text("Send this example?", "#dialog")
        hand_press(hand, "#dialog-yes")
        b.wait_for_text('"status":"accepted"', '[data-reply="producersync.npn.activated"]')
        assert has_focus(b, '[data-send="producersync.npn.activated"]'), b.focused()
        assert len(desk.rows("list", "--all")) == 5
    assert f"retry {failed}" in page.web.log().replace(".json", "")


def has_focus(b, selector):
    return b.script("return document.activeElement.matches(arguments[0])", selector)


def hand_press(hand, selector):
    """A button of an open dialog, which has the focus in it."""
    if isinstance(hand, ByMouse):
        hand.press(selector)
        return
    for _ in range(6):
        if hand.b.script("return document.activeElement.matches(arguments[0])", selector):
            hand.b.press(hand.keys.ENTER)
            return
        hand.b.press(hand.keys.TAB)
    raise AssertionError("the dialog's button is not reached")


# ---- how it looks, for everybody ----

def cut_words(b):
    """Cells of short words, as an outcome or an NPN, one of which is cut into two lines."""
    return b.script("""
        const short = ['Time', 'Received', 'Outcome', 'Status', 'Result', 'Check', 'NPN', 'ms', 'Skew', 'Key', 'Tries', 'Events'];
        return [...document.querySelectorAll('td')].filter((td) => short.includes(td.dataset.label)).filter((td) => {
            const walker = document.createTreeWalker(td, NodeFilter.SHOW_TEXT);
            const range = document.createRange();
            for (let node; (node = walker.nextNode());)
                for (const {0: word, index} of node.data.matchAll(/\\S+/g)) {
                    range.setStart(node, index);
                    range.setEnd(node, index + word.length);
                    if (range.getBoundingClientRect().height > 30)
                        return true;
                }
            return false;
        }).map((td) => td.textContent)""")


@long
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_every_view(nginx, desk, width, dark):
    """axe finds nothing, nothing is wider than the window, and a text is never cut: full and empty."""
    with Browser(nginx, USER, width=width, dark=dark) as b:
        for filled in (False, True):
            if filled:
                ids = fail_one(nginx, desk)
                desk.run("check", expect=None)
            for view, query in queries(ids[0] if filled else "nobody").items():
                if not filled and view == "event":
                    continue
                b.open(query, view)
                assert b.violations() == [], (view, filled)
                assert b.overflow() <= 0, (view, filled)
                assert cut_words(b) == [], (view, filled)
                assert b.find("nav").rect["height"] < 45
        b.open("", "overview")
        labels = b.script("return [...document.querySelectorAll('.chart text')].map((one) => one.getBoundingClientRect().top)")
        base = b.script("return document.querySelector('.chart .base').getBoundingClientRect().bottom")
        assert labels and min(labels) >= base - 1
        assert b.find(".chart").rect["height"] > 100
        b.open(f"?view=event&id={ids[0]}", "event")
        b.command("Emulation.setEmulatedMedia", media="print")
        assert [b.find(one).is_displayed() for one in ("header", "[data-act]", "pre")] == [False, False, True]
        assert b.script("return getComputedStyle(document.querySelector('pre')).maxHeight") == "none"
        b.command("Emulation.setEmulatedMedia", media="")
        b.scheme(dark)
        b.click('[data-act="retry"]')
        assert b.violations() == []
        b.click("#dialog-no")
        assert b.focused() == "Retry…"      # the focus is back where it was
        b.open("?view=events&status=failed", "events")
        assert "Retry all 1 shown" in b.text()
        assert b.violations() == [] and b.overflow() <= 0


@long
def test_states_have_words(nginx, place):
    """Empty, filtered to nothing, not found, wrong, loading, thousands of rows."""
    with Browser(nginx, USER) as b:
        b.open("", "overview")
        assert "Nothing was delivered yet." in b.text()
        b.open("?view=deliveries", "deliveries")
        assert "The portal sends a test request" in b.text()
        b.open("?view=events", "events")
        assert "There is no event yet." in b.text()
        b.open("?view=events&npn=1", "events")
        assert "Nothing matches these filters." in b.text()
        b.open("?view=event&id=nobody")
        b.wait_for_text("Not found")
        b.open("?view=events&status=odd")
        b.wait_for_text("status takes new, waiting")
        b.open("?view=nonsense", "overview")
        (place.spool.path / "attempts.jsonl").write_text("".join(
            web_scale.line(n, time.time() - 3000 + n) for n in range(3000)))
        b.command("Network.emulateNetworkConditions", offline=False, latency=5000, downloadThroughput=-1, uploadThroughput=-1)
        b.click('nav a[data-view="deliveries"]')
        b.wait_for_text("Loading…")
        assert b.text("h1") == "Deliveries"
        b.wait_for_view("deliveries")
        b.command("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1, uploadThroughput=-1)
        assert "50 deliveries, the newest first. Looked back to" in b.text() and "Look further back" in b.text()
        assert b.script("return document.querySelectorAll('tbody tr').length") == 50
        b.check_log(allowed=("404", "400"))


@long
def test_what_was_refused_is_no_event(nginx):
    """It is listed, without a link that leads nowhere; its id is told what it may be."""
    [webhook_id] = send(nginx, signed(body(1)))
    send(nginx, signed(body(1), webhook_id=webhook_id.encode()))
    [refused] = send(nginx, signed(body(2), secrets=[OTHER_SECRET]))
    with Browser(nginx, USER) as b:
        b.open("?view=deliveries", "deliveries")
        rows = b.script("return [...document.querySelectorAll('tbody tr')].map((r) => [r.cells[1].innerText, r.cells[4].innerText,"
                        "Boolean(r.querySelector('a'))])")
        assert rows == [["rejected", refused, False], ["duplicate", webhook_id, True], ["accepted", webhook_id, True]]
        b.open(f"?view=event&id={refused}")
        b.wait_for_text("it was refused, never came, or was pruned")
        b.check_log(allowed=("404",))


@long
@TRACES
def test_what_is_not_counted_yet_is_not_missing(nginx, place):
    """A last delivery behind many lines of a log that is slow to read, and older than 24 hours."""
    now = time.time()
    (place.spool.path / "attempts.jsonl").write_text(web_scale.line(0, now - 30 * 3600) + "".join(
        web_scale.line(n, now - 3000 + n).replace("accepted", "ignored") for n in range(1, 2000)))
    with Browser(nginx, USER) as b:
        with strace.Attached(nginx.web.pid, "pread64", "delay_enter=1000000", "1+", place.dir / "strace.log"):
            b.open("", "overview")
            shown = b.text()
        assert "Nothing was delivered yet" not in shown and shown.count("still counting") == 2, shown
        b.wait_for_text("30 hr. ago")
        assert "still counting" not in b.text() and "none found" in b.text()


@long
def test_setup_has_words_for_secrets(nginx, place):
    """There are some, none, and ones that cannot be read: these are not the same."""
    with Browser(nginx, USER) as b:
        b.open("?view=setup", "setup")
        assert "f46e5857" in b.text("[aria-labelledby=secrets-title]")
        place.write_secret()
        b.open("?view=setup", "setup")
        assert "There is no secret yet: sudo psapi secret add." in b.text()
        place.secret_file.unlink()
        place.secret_file.mkdir()
        b.open("?view=setup", "setup")
        assert "The secrets cannot be read." in b.text() and str(place.secret_file) in b.text() and "no secret yet" not in b.text()


@long
def test_setup_shows_what_doctor_found(nginx, place):
    """All of it, with the remedies of what is wrong; how to run it, also before it has run."""
    place.settings["PSAPI_HANDLERS"] = place.dir / "nowhere"
    with Browser(nginx, USER) as b:
        b.open("?view=setup", "setup")
        assert "They have not run yet: sudo psapi doctor." in b.text("[aria-labelledby=doctor-title]")
        assert "They have not run yet: sudo -u psapi psapi check --mail." in b.text("[aria-labelledby=checks-title]")
        rows = [json.loads(line) for line in Desk(place).run("doctor", "--json", expect=None).stdout.splitlines()]
        b.open("?view=setup", "setup")
        text = b.text("[aria-labelledby=doctor-title]")
        assert all(row["check"] in text for row in rows) and "failed" in text and "To look again: sudo psapi doctor" in text
        remedies = [row["remedy"] for row in rows if "remedy" in row]
        # On a narrow screen a cell's label has the column beside it for itself.
        send(nginx, signed(body(1)))
        b.resize(360)
        b.open("?view=setup", "setup")
        b.wait_for_text("sec. ago)", "[aria-labelledby=secrets-title]")
        assert b.script("""return [...document.querySelectorAll('td')].filter((td) => {
            const range = document.createRange();
            range.selectNodeContents(td);
            return [...range.getClientRects()].some((one) => one.left < td.getBoundingClientRect().left + 120);
        }).map((td) => td.textContent)""") == []
        assert b.find("pre.remedy").size["width"] > 160
        assert remedies and all(line.strip() in text for remedy in remedies for line in remedy.splitlines())
        b.check_log()


@long
def test_no_permission_and_no_server_have_words(nginx, place):
    with Browser(nginx, USER) as b:
        b.open("?view=events", "events")
        passwords = place.dir / "psapi.htpasswd"
        passwords.rename(passwords.with_suffix(".away"))    # 403: a 401 is the browser's own question
        come_back(b)
        b.wait_for_text("You have no permission: sign in again by reloading the page.", "#trouble")
        b.click('nav a[data-view="events"]')
        b.wait_for_text("You have no permission: sign in again by reloading the page.")
        passwords.with_suffix(".away").rename(passwords)
        come_back(b)
        b.wait_for_text("There is no event yet.")
        nginx.web.stop()
        place.receivers.remove(nginx.web)
        come_back(b)
        b.wait_for_text("The web server answers 502: psapi-web may not be running.", "#trouble")
        nginx.stop()
        come_back(b)
        b.wait_for_text("The server cannot be reached.", "#trouble")
        b.check_log(allowed=("502", "403", "ERR_CONNECTION_REFUSED"))


@long
def test_an_answer_that_never_ends(nginx, place):
    """After a time it is told, and the view goes on asking; also in a browser of 2022."""
    with Browser(nginx, USER) as b:
        b.command("Page.addScriptToEvaluateOnNewDocument",
                  source="delete AbortSignal.any; delete AbortSignal.timeout; const own = setTimeout;"
                         "window.setTimeout = (call, ms) => own(call, ms >= 20000 ? ms / 20 : ms)")
        b.open("?view=events", "events")
        os.kill(nginx.web.pid, signal.SIGSTOP)
        try:
            come_back(b)
            b.wait_for_text("The server cannot be reached.", "#trouble")
            b.click('nav a[data-view="setup"]')
            b.wait_for_text("The server cannot be reached.")
        finally:
            os.kill(nginx.web.pid, signal.SIGCONT)
        b.wait_for_text("Secrets")
        assert not b.text("#trouble")
        [failed, *_] = fail_one(nginx, Desk(place))
        b.open(f"?view=event&id={failed}", "event")
        wait_for(lambda: b.script("return Boolean(document.querySelector('[data-act=retry]'))"), "the button")
        b.click('[data-act="retry"]')
        os.kill(nginx.web.pid, signal.SIGSTOP)
        try:
            b.click("#dialog-yes")
            b.wait_for_text("Not done: There was no answer: look whether it was done.", "#done")
        finally:
            os.kill(nginx.web.pid, signal.SIGCONT)


def write_verdict(place, age_s, status=0, text="all", remedy="", check="queue"):
    """As psapi check left it so many seconds ago."""
    (place.spool.path / "state").mkdir(mode=0o2770, exist_ok=True)
    (place.spool.path / "state/check").write_text(json.dumps({"at": int(time.time()) - age_s, "status": status, "findings": [
        {"name": check, "status": status, "text": text, "remedy": remedy, "since": int(time.time()) - age_s}]}))


@long
def test_health_is_known_or_not_claimed(nginx, desk, place):
    """Green only with a fresh verdict, and nothing that waits for a person."""
    def health(words, kind):
        b.open("", "overview")
        assert (b.text(".health .sentence"), kind in b.find(".health").get_attribute("class")) == (words, True), b.text(".health")
        return b.text(".health")
    with Browser(nginx, USER) as b:
        assert "Not checked yet: does psapi-check.timer run?" in health("Nothing was delivered yet.", "skipped")
        [webhook_id] = send(nginx, signed(body(1)))
        wait_for(lambda: nginx.get("overview").get("oldest"), "its age is known")
        health("Not checked yet: does psapi-check.timer run?", "skipped")
        write_verdict(place, 10)
        health("All is well.", "good")
        write_verdict(place, 10, 2, "the disk is on fire")
        health("the disk is on fire", "bad")
        for check in ("failed", "held"):     # put back, or adopted, since then
            write_verdict(place, 10, 1, "3 of them", check=check)
            health("All is well.", "good")
        write_verdict(place, 10, 1, "the oldest of psapi check", check="oldest")
        health("the oldest of psapi check", "remark")
        for status in (0, 2):
            write_verdict(place, 2 * 3600 + 60, status, "the disk was on fire")
            shown = health("Not checked for 2 hours: does psapi-check.timer run?", "skipped")
            assert "on fire" not in shown and ("CRITICAL 2 hr. ago" in shown) == (status == 2)
        later = b.command("Page.addScriptToEvaluateOnNewDocument", source="const own = Date.now; Date.now = () => own() + 7200000")
        for status, kind in ((1, "remark"), (2, "bad")):      # 2: by a limit of the operator's own
            write_verdict(place, 10 - 2 * 3600, status, "the oldest of psapi check", check="oldest")
            assert "of psapi check" not in health("The oldest event has waited for 2 hours: does psapi drain run?", kind)
        b.command("Page.removeScriptToEvaluateOnNewDocument", **later)
        nginx.web.stop()
        nginx.web.settings["PSAPI_MIN_FREE"] = str(1 << 60)
        nginx.web.start()
        for status in (0, 1, 2):
            write_verdict(place, 10, status, "0 MiB free", check="space")
            assert "0 MiB free" not in health("The disk is full: events are refused.", "bad")
        nginx.web.stop()
        del nginx.web.settings["PSAPI_MIN_FREE"]
        nginx.web.start()
        write_verdict(place, 10, 2, "no inodes free", check="space")
        health("no inodes free", "bad")
        write_verdict(place, 10)
        for n in range(10_001):
            (place.spool.path / f"new/{n}.json").hardlink_to(place.spool.path / f"events/{webhook_id}.json")
        b.open("", "overview")
        # A slow machine counts less of them within a request.
        assert re.fullmatch(r"(More than 10,000|At least [\d,]+) events wait\.", b.text(".health .sentence")), b.text(".health")
        assert "remark" in b.find(".health").get_attribute("class")
        wait_for(lambda: "oldest" in b.text(".tile"), "the oldest is known", 11)
        assert "10,002" in b.text(".tile")
        for n in range(2_100):
            (place.spool.path / f"failed/msg_{n:027}.json").write_text(web_scale.event(n, 1_700_000_000 + n))
        b.wait_for_text("Failures by cause, of the newest")
        assert "A cause leads to the failed events with this reason, whichever the handler was." in b.text()
        words = "2,100 events failed and wait for you."
        for age_s, status, kind in ((10, 0, "remark"), (10, 1, "remark"), (10, 2, "bad"), (2 * 3600, 2, "remark")):
            write_verdict(place, age_s, status, "2100 event(s) in failed/", check="failed")
            assert "in failed/" not in health(words, kind)
        for n in range(8_000):
            (place.spool.path / f"failed/{n}.json").hardlink_to(place.spool.path / f"events/{webhook_id}.json")
        b.wait_for_text("psapi list --failed --by-cause")
        assert "whichever the handler was" not in b.text()


@long
@pytest.mark.parametrize("width", [360, 800, 1280])
def test_long_name(place, width):
    """It takes no room from the buttons beside it; Setup shows all of it."""
    user = "CN=" + "a" * 57
    with page_of(NginxPage, place) as page:
        add_user(place, user)
        with Browser(page, user, width=width) as b:
            b.open("?view=setup", "setup")
            assert b.overflow() <= 0 and b.violations() == []
            keys, who = b.find("#keys").rect, b.find("#who").rect
            assert keys["x"] + keys["width"] <= width and who["height"] < 30 and b.find("header").rect["height"] < 110
            assert user in b.text("#about-title ~ dl") and "read-only" in b.text("header")


@long
def test_read_only(place, desk):
    """Without PSAPI_WEB_ACTIONS there is no button that acts, and a word that says so."""
    with page_of(NginxPage, place) as page:
        [failed, *_] = fail_one(page, desk)
        with Browser(page, USER) as b:
            b.open(f"?view=event&id={failed}", "event")
            assert "read-only" in b.text("header") and not b.script("return document.querySelector('[data-act]')")
            b.open("?view=testing", "testing")
            assert "PSAPI_WEB_ACTIONS=yes" in b.text() and not b.script("return document.querySelector('[data-send]')")


@long
def test_time_zones(nginx, desk):
    """Local times with UTC in the title; the switch; since and until mean the zone that is shown."""
    [webhook_id, *_] = fail_one(nginx, desk)
    at = nginx.get("attempts?outcome=accepted")["rows"][0]["at"]
    for zone in ("America/New_York", "Asia/Kolkata", "Pacific/Auckland"):
        with Browser(nginx, USER, zone=zone) as b:
            b.open("?view=deliveries", "deliveries")

            def shown():
                return b.script("const t = document.querySelector('tbody time'); return [t.dateTime, t.textContent, t.title]")
            machine, local, title = shown()
            assert "UTC" in title and machine == nginx.get("attempts")["rows"][0]["at"] and machine >= at
            utc = b.script("return new Intl.DateTimeFormat(undefined, {hour: '2-digit', minute: '2-digit', hourCycle: 'h23',"
                           "timeZone: 'UTC'}).format(new Date(arguments[0]))", machine)
            assert utc in title and utc not in local[:-3], "seconds are the same in each zone"
            b.click("#zone")
            wait_for(lambda: utc in shown()[1], "UTC is shown")
            b.click("#zone")
            wait_for(lambda: utc not in shown()[1][:-3], "local times are shown")
            b.script("document.querySelector('.filters').open = true")
            b.script("const f = document.querySelector('#filter-since');"
                     "const d = new Date(Date.now() - 3600000);"
                     "f.value = new Date(d - d.getTimezoneOffset() * 60000).toISOString().slice(0, 16)")
            b.click(".filters button.primary")
            b.wait_for_view("deliveries")
            since = b.script("return new URLSearchParams(location.search).get('since')")
            assert abs(time.time() - 3600 - time.mktime(time.strptime(since[:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 120
            assert webhook_id in b.text()


@long
def test_the_other_zone_changes_times_alone(nginx, place):
    """Older rows, what is typed and not applied, and a reply stay."""
    def value(name):
        return b.script("return document.querySelector(`#filter-${arguments[0]}`).value", name)
    (place.spool.path / "attempts.jsonl").write_text("".join(web_scale.line(n, time.time() - 120 + n) for n in range(120)))
    with Browser(nginx, USER, zone="Asia/Kolkata") as b:
        b.open("?view=deliveries&until=2099-01-01T12:00:00Z", "deliveries")
        b.click("[data-more]")
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 100, "older rows")
        b.find("#filter-npn").send_keys("12")
        b.script("document.querySelector('#filter-since').value = '2025-01-01T12:00'")
        before = b.text("tbody time")
        b.click("#zone")
        wait_for(lambda: b.text("tbody time") != before, "UTC is shown")
        assert (value("npn"), value("since"), value("until")) == ("12", "2025-01-01T06:30", "2099-01-01T12:00")
        assert b.script("return document.querySelectorAll('tbody tr').length") == 100
        b.click(".filters button.primary")
        wait_for(lambda: "npn=12" in b.driver.current_url, "it is applied")
        assert "since=2025-01-01T06%3A30%3A00.000Z" in b.driver.current_url and "until=2099-01-01T12%3A00%3A00Z" in b.driver.current_url
        b.open("?view=testing", "testing")
        b.click("[data-send]")
        b.click("#dialog-yes")
        b.wait_for_text('"status":"accepted"', "[data-reply]")
        b.click("#zone")
        assert '"status":"accepted"' in b.text("[data-reply]")


@long
def test_back_goes_to_where_one_was(nginx, place):
    """Older rows are there again, the link that was followed has the focus, and is seen."""
    def state():
        return (b.script("return document.querySelectorAll('tbody tr').length"), b.focused(), b.script(
            "const at = document.activeElement.getBoundingClientRect(); return at.top >= 0 && at.bottom <= innerHeight + 1"))
    (place.spool.path / "attempts.jsonl").write_text("".join(web_scale.line(n, time.time() - 120 + n) for n in range(120)))
    with Browser(nginx, USER, height=600) as b:
        b.open("?view=deliveries", "deliveries")
        b.click("[data-more]")
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 100, "older rows")
        link = f"?view=event&id=msg_{20:027}"
        b.click("tbody tr:nth-child(100) a")
        b.wait_for_text("Not found")
        b.driver.back()
        b.wait_for_view("deliveries")
        assert state() == (100, link, True)
        assert "Not updated while older rows are shown" in b.text("[data-note]") and b.script("return scrollY") > 1000
        b.driver.refresh()      # loaded anew, it begins with the newest
        b.wait_for_view("deliveries")
        assert state()[0] == 50
        b.check_log(allowed=("404",))


@long
def test_back_restores_filters(nginx, desk):
    fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        hand = ByMouse(b)
        b.open("?view=events", "events")
        assert b.script("return document.querySelectorAll('tbody tr').length") == 3
        hand.filter(npn="5550001")
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 1, "filtered")
        b.click("tbody a")
        b.wait_for_view("event")
        b.driver.back()
        b.wait_for_view("events")
        assert b.script("return document.querySelector('#filter-npn').value") == "5550001"
        assert b.script("return document.querySelectorAll('tbody tr').length") == 1
        b.driver.back()
        b.wait_for_view("events")
        assert b.script("return document.querySelector('#filter-npn').value") == ""
        assert b.script("return document.querySelectorAll('tbody tr').length") == 3
        b.driver.forward()
        b.wait_for_view("events")
        assert b.script("return document.querySelectorAll('tbody tr').length") == 1
        shared = b.driver.current_url
    with Browser(nginx, "bob") as b:        # the address is all that a colleague needs
        b.driver.get(shared)
        b.wait_for_view("events")
        assert b.script("return document.querySelectorAll('tbody tr').length") == 1


@long
def test_applying_keeps_what_was_not_changed(nginx, desk):
    """A time or a status that the form cannot show is in force, is told, and stays until it is changed or removed."""
    def parameter(name):
        return b.script("return new URLSearchParams(location.search).get(arguments[0])", name)
    fail_one(nginx, desk)
    exact = (datetime.now(timezone.utc) - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:33.480Z")
    with Browser(nginx, USER) as b:
        for since, told in (("3h", True), (exact, True), (f"{exact[:16]}:00Z", False)):
            b.open(f"?view=deliveries&since={since}", "deliveries")
            assert (f"In force: {since}" in b.text(".filters")) == told
            b.script("delete document.querySelector('main').dataset.shown")
            ByMouse(b).filter(npn="5550002")
            b.wait_for_view("deliveries")
            assert (parameter("since"), parameter("npn")) == (since, "5550002")
            assert b.script("return document.querySelectorAll('tbody tr').length") == 1
        b.open("?view=deliveries&since=3h&until=0s", "deliveries")
        b.click("#filter-until ~ .quiet a")
        b.wait_for_view("deliveries")
        assert (parameter("since"), parameter("until")) == ("3h", None)
        b.open("?view=events&status=failed,waiting", "events")
        assert b.script("return document.querySelector('#filter-status').selectedOptions[0].textContent") == "failed,waiting"
        ByMouse(b).filter(npn="5550001")
        wait_for(lambda: parameter("npn"), "it is applied")
        assert parameter("status") == "failed,waiting"
        b.wait_for_view("events")
        assert b.violations() == []


@long
def test_two_users_and_live_updates(nginx, desk):
    """What one does, the other sees within 10 s, and gets told when it is too late. The log knows who it was."""
    [failed, *_] = fail_one(nginx, desk)
    with Browser(nginx, USER) as alice, Browser(nginx, "bob") as bob:
        for one in (alice, bob):
            one.open(f"?view=event&id={failed}", "event")
        bob.click('[data-act="retry"]')     # the question stays while alice is faster
        alice.click('[data-act="retry"]')
        alice.click("#dialog-yes")
        alice.wait_for_text("It waits for its handler.")
        assert alice.text("#done") == "1 event back to the queue: done"
        bob.click("#dialog-yes")
        bob.wait_for_text("has not failed", "#dialog")
        assert bob.text("#done").startswith("Not done: ")
        bob.click("#dialog-no")
        begun = time.monotonic()
        wait_for(lambda: "It waits for its handler." in bob.text(), "bob sees it", 11)
        assert time.monotonic() - begun < 11
        bob.open("?view=deliveries", "deliveries")
        [webhook_id] = send(nginx, signed(body(9, "777")))
        wait_for(lambda: webhook_id in bob.text(), "the new delivery is seen", 11)
    log = nginx.web.log()
    assert f"user alice: retry {failed}.json" in log and f"user bob: retry refused: {failed}.json" in log


@long
def test_polling_keeps_the_focus(desk, place):
    """In each view that is asked again, also in a part that changed; never at another button than before."""
    from selenium.webdriver.common.keys import Keys
    place.write_secret()
    with page_of(NginxPage, place, **ACTIONS) as nginx, Browser(nginx, USER) as b:
        def focus(selector):
            assert b.script("const e = document.querySelector(arguments[0]); e.focus(); return document.activeElement === e", selector)
            return b.focused()
        held = send(nginx, signed(body(1), secrets=[OTHER_SECRET]), signed(body(2), secrets=[OTHER_SECRET]))
        b.open("?view=setup", "setup")
        focus("tbody tr:last-child [data-discard]")
        [later] = send(nginx, signed(body(3), secrets=[OTHER_SECRET]))
        come_back(b)
        b.wait_for_text(later)
        assert has_focus(b, f'[aria-label$="{held[1]}"]')
        nginx.post("discard", {"names": [b.script("return document.activeElement.dataset.discard")]})
        come_back(b)
        wait_for(lambda: held[1] not in b.text(), "it is gone")
        assert has_focus(b, "h1") and later in b.text()
        place.write_secret(SECRET)
        failed, *_ = fail_one(nginx, desk)
        b.open("", "overview")
        for selector in ('.tile [href$="status=failed"]', "[data-keep] summary", ".legend a", "[aria-labelledby=causes-title] a"):
            before = focus(selector)
            [webhook_id] = send(nginx, signed(body(9)))
            come_back(b)
            b.wait_for_text(" sec. ago", f'.tile [href$="{webhook_id}"]')
            assert b.focused() == before and has_focus(b, selector), b.focused()
        b.open(f"?view=event&id={failed}", "event")
        focus('[data-act="done"]')
        desk.run("retry", failed)
        come_back(b)
        b.wait_for_text("It waits for its handler.")
        assert has_focus(b, '[data-act="done"]')
        b.open("?view=deliveries", "deliveries")
        b.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        before = b.focused()
        [webhook_id] = send(nginx, signed(body(9, "777")))
        wait_for(lambda: webhook_id in b.text(), "the new delivery is seen", 11)
        assert b.focused() == before and "view=event" in before
        b.press("?")
        b.wait_for_text("to the filters", "#dialog")
        b.press(Keys.ESCAPE)
        assert b.focused() == before
        b.open("?view=events&status=new", "events")
        b.press(Keys.ARROW_DOWN)
        assert has_focus(b, "tbody a")
        desk.run("done", *(row["webhook_id"] for row in desk.rows("list", "--new")))
        come_back(b)
        b.wait_for_text("Nothing matches these filters.")
        assert has_focus(b, "h1")


@long
def test_ages_go_on(nginx, desk, place):
    """Also while nothing changes. What is the same stays as it is, with what is selected in it."""
    [failed, *_] = fail_one(nginx, desk)
    checks = "[aria-labelledby=checks-title]"
    write_verdict(place, 0)
    with Browser(nginx, USER) as b:
        b.open("?view=setup", "setup")
        before = b.text(checks)
        assert "Found " in before
        b.script("getSelection().selectAllChildren(document.querySelector('[aria-labelledby=about-title] dd'))")
        wait_for(lambda: b.text(checks) != before, "the age is another one")
        assert b.script("return performance.getEntriesByType('resource').at(-1).responseStatus") == 304
        assert b.script("return String(getSelection())") == nginx.get("setup")["version"]
        write_verdict(place, 3000)
        b.open("", "overview")
        assert "Not checked" not in b.text(".health")
        b.script("const own = Date.now; Date.now = () => own() + 900000")
        b.wait_for_text("Not checked for 1 hour", ".health")
        b.open(f"?view=event&id={failed}", "event")
        b.script("getSelection().selectAllChildren(document.querySelector('[aria-labelledby=payload-title] pre'))")
        send(nginx, signed(body(1, "5550001"), webhook_id=failed.encode()))
        come_back(b)
        b.wait_for_text("duplicate")
        assert "5550001" in b.script("return String(getSelection())")


@long
@TRACES
def test_a_look_back_that_failed_is_tried_again(nginx, place):
    """The newest lines, which did not change meanwhile, are not all of an answer."""
    now = time.time()
    (place.spool.path / "attempts.jsonl").write_text("".join(web_scale.line(n, now - 300 + n) for n in range(300)))
    with Browser(nginx, USER) as b, strace.Attached(nginx.web.pid, "pread64", "delay_enter=100000", "1+", place.dir / "strace.log"):
        first = nginx.get(f"attempts?id=msg_{0:027}")
        assert first["rows"] == [] and first["next"]
        b.command("Network.setBlockedURLs", urls=["*after=*"])
        b.open(f"?view=deliveries&id=msg_{0:027}")
        b.wait_for_text("This view cannot be shown")
        come_back(b)
        b.wait_for_text("This view cannot be shown")
        b.command("Network.setBlockedURLs", urls=[])
        come_back(b)
        b.wait_for_text(f"msg_{0:027}")
        b.check_log(allowed=("ERR_BLOCKED_BY_CLIENT",))


def count_requests(b):
    b.script("window.asked = 0; const own = window.fetch; window.fetch = (...a) => { window.asked++; return own(...a); }")


def come_back(b):
    """As when the tab is looked at again: a view that may change asks at once. Returns how many requests it makes."""
    b.script("window.asked = 0; document.dispatchEvent(new Event('visibilitychange'))")
    return b.script("return window.asked")


@long
def test_older_rows_stay(nginx, place):
    """Rows that were looked for further back are not swept away, which is said; a look that failed changes nothing. The
    button keeps the focus."""
    from selenium.webdriver.common.keys import Keys

    def rows():
        return b.script("return document.querySelectorAll('tbody tr').length")

    def log(n):
        with open(place.spool.path / "attempts.jsonl", "a") as file:
            file.write(web_scale.line(n, time.time()))
    for n in range(120):
        log(n)
    with Browser(nginx, USER) as b:
        b.open("?view=deliveries", "deliveries")
        assert rows() == 50 and "Not updated" not in b.text()
        count_requests(b)
        nginx.web.stop()
        b.click("[data-more]")
        b.wait_for_text("psapi-web may not be running", "#trouble")
        nginx.web.start()
        log(120)
        assert come_back(b) == 1
        b.wait_for_text(f"msg_{120:027}")
        assert not b.text("#trouble")
        b.click("[data-more]")
        wait_for(lambda: rows() == 100, "older rows")
        assert has_focus(b, "[data-more]"), b.focused()
        assert "Not updated while older rows are shown" in b.text("[data-note]")
        log(121)
        assert come_back(b) == 0 and rows() == 100
        b.click("[data-note] a")
        b.wait_for_text(f"msg_{121:027}")
        assert rows() == 50 and "Not updated" not in b.text()
        b.script("document.querySelector('[data-more]').focus()")
        for more in (100, 122):
            b.press(Keys.ENTER)
            wait_for(lambda n=more: rows() == n, f"{more} rows")
        b.wait_for_text("No older ones.")       # the button is gone
        assert has_focus(b, "tbody tr:nth-child(101) a"), b.focused()
        b.check_log(allowed=("502",))


@long
def test_skip_to_the_contents(nginx, place):
    """The focus goes there, and nothing else happens: older rows stay."""
    from selenium.webdriver.common.keys import Keys
    (place.spool.path / "attempts.jsonl").write_text("".join(web_scale.line(n, time.time() - 120 + n) for n in range(120)))
    with Browser(nginx, USER) as b:
        b.open("?view=deliveries", "deliveries")
        b.click("[data-more]")
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 100, "older rows")
        count_requests(b)
        b.script("document.querySelector('.skip').focus()")
        b.press(Keys.ENTER)
        wait_for(lambda: b.focused() == "main", "the contents have the focus")
        assert b.script("return document.querySelectorAll('tbody tr').length") == 100 and b.script("return window.asked") == 0
        b.driver.back()
        assert b.script("return location.hash") == "" and b.script("return window.asked") == 0
        b.click('nav a[data-view="events"]')
        b.wait_for_view("events")
        b.driver.back()
        b.wait_for_view("deliveries")


@long
def test_a_question_is_not_swept_away(nginx, desk):
    [failed, *_] = fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        b.open(f"?view=event&id={failed}", "event")
        count_requests(b)
        assert come_back(b) == 1
        b.click('[data-act="retry"]')
        assert come_back(b) == 0
        b.click("#dialog-no")
        assert come_back(b) == 1


def hold_actions(b):
    """A POST waits until `release()` is called."""
    b.script("const own = window.fetch; window.fetch = (path, options) => options.method !== 'POST' ? own(path, options) :"
             "new Promise((resolve) => { window.release = resolve; }).then(() => own(path, options))")


@long
def test_a_question_ends_with_its_view(nginx, desk):
    [failed, *_] = fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        b.open("?view=events", "events")
        b.click(f'tbody a[href*="{failed}"]')
        b.wait_for_view("event")
        b.click('[data-act="retry"]')
        b.driver.back()
        b.wait_for_view("events")
        assert not b.find("#dialog").is_displayed()
        assert {row["status"] for row in desk.rows("list", "--all") if row["webhook_id"] == failed} == {"failed"}


@long
def test_while_an_action_runs(nginx, desk):
    """It is told, no other one begins, and its end does not sweep away another view."""
    [failed, *_] = fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        b.open(f"?view=event&id={failed}", "event")
        hold_actions(b)
        b.click('[data-act="retry"]')
        b.click("#dialog-yes")
        b.wait_for_text("Working…", "#done")
        b.click('[data-act="done"]')
        b.wait_for_text("The action before still runs.", "#done")
        assert not b.find("#dialog").is_displayed()
        b.click('nav a[data-view="events"]')
        b.wait_for_view("events")
        b.find("#filter-npn").send_keys("12")
        b.script("release()")
        b.wait_for_text("1 event back to the queue: done", "#done")
        come_back(b)
        b.wait_for_text("new", "tbody")
        assert b.script("return document.querySelector('#filter-npn').value") == "12" and has_focus(b, "#filter-npn")


@long
def test_keys(nginx, desk):
    """They lead to the filters, and to each row. A user can switch off those of one character, and on again."""
    from selenium.webdriver.common.keys import Keys
    fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        def filters_have_focus(key):
            b.open("", "overview")
            b.press(key)
            time.sleep(0.1)     # nothing may come
            return b.script("return document.querySelector('main').dataset.shown") != "overview"
        assert not filters_have_focus("3")
        assert filters_have_focus("/")
        wait_for(lambda: has_focus(b, "#filter-outcome"), "the filters have the focus")
        b.open("?view=deliveries&outcome=rejected", "deliveries")
        b.press(Keys.ARROW_DOWN)
        assert has_focus(b, "tbody tr:first-child"), b.focused()
        b.press("?")
        b.wait_for_text("to the filters", "#dialog")
        assert b.focused() == "dialog-no" and b.violations() == []
        b.click("#dialog input")
        b.press(Keys.ESCAPE)
        assert not filters_have_focus("/")
        b.press("?")
        assert not b.find("#dialog").is_displayed()
        b.click("#keys")
        assert not b.script("return document.querySelector('#dialog input').checked")
        b.click("#dialog input")
        b.click("#dialog-no")
        assert filters_have_focus("/")


@long
def test_the_session_is_asked_for_again(nginx, desk):
    """One answer that is missed takes no button away until the page is loaded anew."""
    [failed, *_] = fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        b.command("Network.setBlockedURLs", urls=["*/api/1/session"])
        b.open(f"?view=event&id={failed}", "event")
        assert "cannot be reached" in b.text("#trouble") and not b.script("return document.querySelector('[data-act]')")
        b.command("Network.setBlockedURLs", urls=[])
        come_back(b)
        wait_for(lambda: b.script("return Boolean(document.querySelector('[data-act]'))"), "there are buttons")
        assert USER in b.text("header") and not b.text("#trouble")
        b.check_log(allowed=("ERR_BLOCKED_BY_CLIENT",))


@long
def test_many_are_sent_in_parts(nginx):
    """More than 1,000 ids, and more than 64 KiB of them."""
    with Browser(nginx, USER) as b:
        b.open("?view=events", "events")
        count_requests(b)
        b.script("import('./act.js').then((act) => act.act('retry', [...Array(1200)].map((_, i) => `${i}-${'é'.repeat(100)}`)))")
        b.wait_for_text("1,200 events back to the queue?", "#dialog")
        b.click("#dialog-yes")
        b.wait_for_text("Not done", "#dialog-title")
        assert b.script("return document.querySelectorAll('#dialog li').length") == 1200
        assert b.script("return window.asked") == 5      # 1,200 x 207 bytes, 60,000 in each


def seeds(*targets):
    """What the fuzzers begin with (tests/fuzz)."""
    sys.path.insert(0, str(ROOT / "tests/fuzz"))
    try:
        import seeds as fuzz
    finally:
        sys.path.pop(0)
    found = [data for target, _, data in fuzz.seeds() if target in targets]
    return sorted({*found, *(path.read_bytes() for target in targets for path in (ROOT / "tests/fuzz/corpus" / target).glob("*"))})


def hostile_deliveries():
    """Webhook-ids and bodies: our own, and those of the fuzzers."""
    for number, text in enumerate(HOSTILE):
        yield f"{text}{number}".encode(), json.dumps({
            "type": f"producersync.npn.{text}"[:120], "id": text, "timestamp": "2025-07-25T15:53:01.579Z",
            "data": {"npn": text[:20], "note": text}}).encode()
    for number, name in enumerate(filter(None, seeds("name"))):
        yield name, body(number)
    for number, data in enumerate(filter(None, {seed.split(b"\n", 1)[1] for seed in seeds("event")})):
        yield f"msg_seed{number}".encode(), data


def add_user(place, user):
    password = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True).stdout
    with open(place.dir / "psapi.htpasswd", "a") as passwords:
        passwords.write(f"{user}:{password}")


def fill_with_hostile_content(page, desk, place, user):
    """A held request (there is no secret yet), events, dead letters, a log, a verdict."""
    send(page, signed(body(1), webhook_id=HOSTILE[4].encode(), secrets=[OTHER_SECRET]))
    assert len(desk.spool.names("hold")) == 1
    place.write_secret(SECRET)
    for webhook_id, data in hostile_deliveries():
        send(page, signed(data, webhook_id=webhook_id))
    send(page, signed(body(1), secrets=[OTHER_SECRET]).with_header("webhook-id", HOSTILE[0].encode()))
    desk.handler("producersync", f"cat >&2 <<'X'\n{HOSTILE[0]}\n{HOSTILE[1]}\nX\nexit 1\n")
    desk.drain(expect=None)
    with open(place.spool.path / "attempts.jsonl", "ab") as log:
        log.writelines(seed + b"\n" for seed in seeds("attempts"))
    for number, seed in enumerate(seeds("entry")):
        (place.spool.path / f"failed/seed{number}.json").write_bytes(seed)
    write_verdict(place, 10, 2, HOSTILE[1], HOSTILE[11])
    add_user(place, user)


def made_elements(b):
    """Elements that no code of the page makes."""
    return b.script("return document.querySelectorAll('script:not([src]), main img, main style, main script, main b, header b,"
                    "header img, dialog img').length")


@long
def test_hostile_content(desk, place):
    """In every field that a sender, a handler, a check, a user's name or an address can fill: it is seen as text, and nothing
    runs."""
    user = HOSTILE[1]
    place.write_secret()
    with page_of(NginxPage, place, **ACTIONS) as nginx, Browser(nginx, user, width=360) as b:
        fill_with_hostile_content(nginx, desk, place, user)
        b.script("window.alert = () => { throw new Error('alert'); }")
        for query in ("", "?view=deliveries", "?view=events", "?view=setup", "?view=testing", "?view=events&status=failed",
                      "?view=<script>alert(1)</script>", "?view=event&id=<img src=x onerror=alert(1)>",
                      "?view=deliveries&npn=<b>x</b>&type=\"onmouseover=alert(1)"):
            b.open(query)
            assert user in b.text("#who") and made_elements(b) == 0 and b.overflow() <= 0, query
            for words in {"": [HOSTILE[1]], "?view=setup": [HOSTILE[4], HOSTILE[1], HOSTILE[11]]}.get(query, []):
                assert words in b.text(), (query, words)
        written = 0
        for row in nginx.get("events?status=failed&limit=200")["rows"]:
            b.driver.get(nginx.url)
            b.script("history.pushState(null, '', '?view=event&id=' + encodeURIComponent(arguments[0]));"
                     "dispatchEvent(new PopStateEvent('popstate'))", row["file"])
            b.wait_for_view("event")
            wait_for(lambda: "Evidence" in b.text(), "the event is shown")
            assert made_elements(b) == 0 and b.overflow() <= 0, row["webhook_id"]
            shown = b.script("return [...document.querySelectorAll('dd')].map((e) => e.textContent)")
            assert row["webhook_id"] in shown
            said = HOSTILE[0] in b.text() and HOSTILE[1] in b.text()      # what the handler wrote
            assert said or "exit status" not in row["reason"]
            written += said
        assert written >= len(HOSTILE)
        b.click('[data-act="retry"]')
        b.click("#dialog-yes")
        wait_for(lambda: f"user {user}: retry " in nginx.web.log(), "the log has the user's name")
        b.check_log(allowed=("404", "400"))


@long
def test_csp_forbids_what_slips_through(nginx, desk):
    """The policy is in force: a script, a handler attribute and another origin are refused by the browser."""
    with Browser(nginx, USER) as b:
        b.open("", "overview")
        assert b.script("try { document.body.insertAdjacentHTML('beforeend', '<b>x</b>'); return 'made'; }"
                        "catch (e) { return e.name; }") == "TypeError"      # Trusted Types
        assert b.script("const s = document.createElement('button'); try { s.setAttribute('onclick', 'window.ran = 1'); } catch {}"
                        "document.body.append(s); s.click(); return window.ran") is None
        b.check_log(allowed=("Content Security Policy", "Trusted", "TrustedHTML"))


@long
def test_without_javascript(nginx):
    """The browser shows what to do instead: read from its accessibility tree, for there are no scripts."""
    def seen():
        return " ".join(node.get("name", {}).get("value", "") for node in b.command("Accessibility.getFullAXTree")["nodes"])
    with Browser(nginx, USER) as b:
        b.command("Emulation.setScriptExecutionDisabled", value=True)
        b.driver.get(nginx.url)
        assert "This page needs JavaScript" in seen() and "psapi list" in seen()
        b.command("Emulation.setScriptExecutionDisabled", value=False)
        b.open("", "overview")
        assert "needs JavaScript" not in seen()


# What a user must see before a view is of use; ROWS: as many as fit.
USABLE = {
    "overview": "document.querySelectorAll('.tile .value').length === 6 && document.querySelector('.chart rect')",
    "deliveries": "document.querySelectorAll('tbody tr').length === ROWS && document.querySelector('.filters select')",
    "events": "document.querySelectorAll('tbody tr').length === ROWS && document.querySelector('.filters select')",
    "event": "document.querySelector('.timeline li') && "
             "document.querySelector('pre[aria-labelledby=payload-title]')?.textContent.includes('npn')",
    "testing": "document.querySelectorAll('[data-send]').length === 3",
    "setup": "document.querySelector('[aria-labelledby=secrets-title] code')?.textContent.length >= 8",
}


@long
def test_each_view_is_usable_soon(place, tmp_path):
    """Within 1 s on a large spool, and within 5 times what it takes on one with a single event (and 150 ms more)."""
    def measure(page, webhook_id, rows):
        """view -> seconds from the address to what is of use, the median of five."""
        found = {}
        with Browser(page, USER) as b:
            b.open("", "overview")
            for view, query in queries(webhook_id).items():
                taken = []
                for _ in range(5):
                    begun = time.monotonic()
                    b.driver.get(page.url + query)
                    wait_for(lambda: b.script(f"return Boolean({USABLE[view].replace('ROWS', str(rows))})"), view)
                    taken.append(time.monotonic() - begun)
                found[view] = statistics.median(taken)
        return found
    # web_scale.py has one with a million events.
    spool, events = Path(os.environ.get("PSAPI_SCALE_SPOOL", tmp_path / "spool")), int(os.environ.get("PSAPI_SCALE_EVENTS", "40000"))
    if "PSAPI_SCALE_SPOOL" not in os.environ:
        spool.mkdir(mode=0o770)
        web_scale.build(spool, events, 15_000)
    with page_of(NginxPage, place, **ACTIONS) as page:
        [webhook_id] = send(page, signed(body(1)))
        small = measure(page, webhook_id, 1)
        page.web.stop()
        page.web.settings["PSAPI_SPOOL"] = spool
        page.web.start()
        large = measure(page, f"msg_{events - 1:027}", 50)
        assert set(large) == set(VIEWS)
        for view, median in large.items():
            assert median <= min(1 * SLOWER, 5 * small[view] + 0.15), (view, small, large)


@long
def test_what_came_of_an_action_is_seen(nginx, desk):
    """Until the next view. The button is gone: the focus is at the heading."""
    [failed, *_] = fail_one(nginx, desk)
    with Browser(nginx, USER, height=500) as b:
        def act(selector):
            b.click(selector)
            b.click("#dialog-yes")
            wait_for(lambda: b.script("return !document.querySelector(arguments[0])", selector), "the view is asked again")
            assert b.text("#done") == "1 event back to the queue: done" and b.focused() == b.text("h1"), b.focused()
            assert b.find("#done").size["height"] > 20 and b.script("return scrollY") == 0 and b.text("#told").endswith(": loaded")
        b.open(f"?view=event&id={failed}", "event")
        b.script("scrollTo(0, 100)")
        act('[data-act="retry"]')
        assert b.violations() == []
        come_back(b)
        b.click("#zone")
        assert b.text("#done")
        b.click('nav a[data-view="events"]')
        b.wait_for_view("events")
        assert not b.text("#done")
        desk.drain(expect=None)
        b.open("?view=events&status=failed", "events")
        act('[data-bulk="retry"]')


@long
def test_copying(nginx, place):
    """The event as it is, with and without a clipboard for scripts; an error is told, and not copied."""
    def press(label, words):
        b.driver.find_element("xpath", f"//button[.='{label}']").click()
        wait_for(lambda: b.script("return [...document.querySelectorAll('button')].some((one) => one.textContent === arguments[0])",
                                  words), words)
        wait_for(lambda: label in b.text(), "the button is as before")
        return b.driver.execute_async_script("(window.own ?? navigator.clipboard).readText().then(arguments[0])")
    [webhook_id] = send(nginx, signed(body(1)))
    whole = nginx.request("GET", f"api/1/show?id={webhook_id}", headers=SAME_ORIGIN)[2].decode()
    with Browser(nginx, USER) as b:
        b.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        b.open(f"?view=event&id={webhook_id}", "event")
        b.script("const own = setTimeout; window.setTimeout = (call, ms) => own(call, ms === 1500 ? 5000 : ms)")
        assert press("Copy JSON", "Copied") == whole and press("Copy id", "Copied") == webhook_id
        passwords = place.dir / "psapi.htpasswd"
        passwords.rename(passwords.with_suffix(".away"))
        assert press("Copy JSON", "Not copied") == webhook_id
        assert "You have no permission" in b.text("#done")
        passwords.with_suffix(".away").rename(passwords)
        b.script("window.own = navigator.clipboard; navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))")
        assert press("Copy JSON", "Not copied") == webhook_id
        assert b.text("#done") == "Copy JSON: not copied. refused"
        b.script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
        assert "psapi show" in press("Copy command", "Copied")
        assert not b.text("#done")      # no failure after a success
        b.script("document.execCommand = () => false")
        assert "psapi show" in press("Copy id", "Not copied")
        b.check_log(allowed=("403",))


@long
def test_polling_keeps_what_a_button_says(nginx):
    """"Copied" stays for its 1.5 s, also where the view is asked again meanwhile; then it is as before."""
    [webhook_id] = send(nginx, signed(body(1)))
    with Browser(nginx, USER) as b:
        b.open(f"?view=event&id={webhook_id}", "event")
        b.script("window.later = []; const own = setTimeout;"
                 "window.setTimeout = (call, ms) => ms === 1500 ? later.push(call) : own(call, ms)")
        b.driver.find_element("xpath", "//button[.='Copy id']").click()
        wait_for(lambda: b.script("return later.length") == 1, "it is copied")
        send(nginx, signed(body(1), webhook_id=webhook_id.encode()))
        come_back(b)
        b.wait_for_text("duplicate")
        assert b.focused() == "Copied"
        b.script("later[0]()")
        assert b.focused() == "Copy id"


@long
def test_discard_and_bulk(desk, place):
    place.write_secret()
    with page_of(NginxPage, place, **ACTIONS) as page:
        send(page, signed(body(1)))
        with Browser(page, USER) as b:
            b.open("?view=setup", "setup")
            b.wait_for_text("Held requests")
            b.click("[data-discard]")
            b.wait_for_text("1 held request discarded?", "#dialog")
            b.click("#dialog-yes")
            wait_for(lambda: "Held requests" not in b.text(), "it is gone")
            place.write_secret(SECRET)
            send(page, *(signed(body(n, str(n))) for n in range(3)))
            desk.handler("producersync.npn", "exit 1\n")
            desk.drain(expect=None)
            b.open("?view=events&status=failed", "events")
            b.wait_for_text("Retry all 3 shown…")
            b.wait_for_text("Mark all 3 shown as done…")
            b.click('[data-bulk="retry"]')
            b.wait_for_text("3 events back to the queue?", "#dialog")
            b.click("#dialog-yes")
            wait_for(lambda: {row["status"] for row in desk.rows("list", "--all")} == {"new"}, "all are back")
