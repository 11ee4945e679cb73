"""The page in a real Chromium: what a first-time visitor does, by mouse and by keyboard alone; no console error, no violation of
the Content Security Policy (Browser checks both at the end of each test), no violation that axe finds.

One test is in `make check`; the others run with --long (make check-long, make check-web).
"""

import json
import statistics
import time

import pytest

import browser
import web_scale
from browser import Browser
from psapi_command import Desk, body, updates
from receiver import wait_for
from sender import OTHER_SECRET, SECRET, signed
from web_page import ACTIONS, PAGES, USER, NginxPage, page_of

if browser.why_not():
    pytest.skip(browser.why_not(), allow_module_level=True)

long = pytest.mark.long
VIEWS = ("overview", "deliveries", "events", "event", "testing", "setup")
HOSTILE = ['<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "'); alert(1); ('",
           "<svg/onload=alert(1)>", "{{7*7}}${7*7}", "&lt;b&gt;", "\u202egnp.exe", "a" * 180, "%3Cscript%3E", "../../etc/passwd",
           "</script><style>*{display:none}</style>", "\U0001f600\u0301\u0301"]


@pytest.fixture(params=PAGES)
def page(request, place):
    with page_of(PAGES[request.param], place, **ACTIONS) as running:
        yield running


@pytest.fixture
def nginx(place):
    with page_of(NginxPage, place, **ACTIONS) as running:
        yield running


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

class ByMouse:
    def __init__(self, b):
        self.b = b

    def go(self, view):
        self.b.click(f'nav a[data-view="{view}"]')
        self.b.wait_for_view(view)

    def filter(self, **values):
        for name, value in values.items():
            element = self.b.find(f"#filter-{name}")
            element.send_keys(value)
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
        number = ["overview", "deliveries", "events", "testing", "setup"].index(view) + 1
        self.b.press(str(number))
        self.b.wait_for_view(view)

    def filter(self, **values):
        self.b.press("/")
        for _ in range(20):
            name = self.b.focused().removeprefix("filter-")
            if name in values:
                self.b.press(values.pop(name))
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
    with Browser(page, USER) as b:
        hand = way(b)
        b.open("", "overview")
        assert "1 event failed" in b.text(".health"), b.text()
        b.wait_for_text("1", ".tile:nth-child(2) .value")
        # The activation of an NPN, among the deliveries since yesterday.
        hand.go("deliveries")
        hand.filter(npn="5550002")
        row = "tbody tr:only-child td a"
        wait_for(lambda: b.script("return document.querySelectorAll('tbody tr').length") == 1, "one row is left")
        assert "npn=5550002" in b.driver.current_url
        hand.open_row(row)
        b.wait_for_view("event")
        b.wait_for_text("It was handled.")
        assert good in b.text() and "signed with secret" in b.text()
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
        assert len(desk.rows("list", "--all")) == 4
    assert f"retry {failed}" in page.web.log().replace(".json", "")


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

@long
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_every_view(nginx, desk, width, dark):
    """axe finds nothing, nothing is wider than the window, and a text is never cut: full and empty."""
    with Browser(nginx, USER, width=width, dark=dark) as b:
        for filled in (False, True):
            if filled:
                ids = fail_one(nginx, desk)
            for view, query in queries(ids[0] if filled else "nobody").items():
                if not filled and view == "event":
                    continue
                b.open(query, view)
                assert b.violations() == [], (view, filled)
                assert b.overflow() <= 0, (view, filled)
        b.open(f"?view=event&id={ids[0]}", "event")
        b.click('[data-act="retry"]')
        assert b.violations() == []
        b.click("#dialog-no")
        assert b.focused() == "Retry…"      # the focus is back where it was
        b.open("?view=events&status=failed", "events")
        assert "Retry all 1 shown" in b.text()
        assert b.violations() == [] and b.overflow() <= 0


@long
def test_states_have_words(nginx, desk, place):
    """Empty, filtered to nothing, not found, no permission, no server."""
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
        b.open("?view=events", "events")
        b.command("Network.setExtraHTTPHeaders", headers={})
        b.script("fetch('api/1/session', {credentials: 'omit'})")
        nginx.web.stop()
        place.receivers.remove(nginx.web)
        b.command("Network.setExtraHTTPHeaders", headers=nginx.authorization(USER))
        b.click("#zone")
        b.wait_for_text("psapi-web may not be running", "body")
        b.check_log(allowed=("502", "401", "404", "400"))


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
            assert utc in title and utc not in local
            b.click("#zone")
            wait_for(lambda: utc in shown()[1], "UTC is shown")
            b.click("#zone")
            wait_for(lambda: utc not in shown()[1], "local times are shown")
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
        bob.click("#dialog-yes")
        bob.wait_for_text("has not failed", "#dialog")
        bob.click("#dialog-no")
        begun = time.monotonic()
        wait_for(lambda: "It waits for its handler." in bob.text(), "bob sees it", 11)
        assert time.monotonic() - begun < 11
        bob.open("?view=deliveries", "deliveries")
        [webhook_id] = send(nginx, signed(body(9, "777")))
        wait_for(lambda: webhook_id in bob.text(), "the new delivery is seen", 11)
    log = nginx.web.log()
    assert f"retry {failed}.json, user alice" in log and f"retry {failed}.json, user bob: refused" in log


@long
def test_polling_keeps_the_focus(nginx, desk):
    fail_one(nginx, desk)
    with Browser(nginx, USER) as b:
        from selenium.webdriver.common.keys import Keys
        b.open("?view=deliveries", "deliveries")
        b.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        before = b.focused()
        [webhook_id] = send(nginx, signed(body(9, "777")))
        wait_for(lambda: webhook_id in b.text(), "the new delivery is seen", 11)
        assert b.focused() == before and "view=event" in before
        b.press("?")
        b.wait_for_text("the views", "#dialog")
        b.press(Keys.ESCAPE)
        assert b.focused() == before


@long
def test_hostile_content(nginx, desk, place):
    """In every field that a sender, a handler or an address can fill: it is seen as text, and nothing runs."""
    ids = []
    for number, text in enumerate(HOSTILE):
        data = json.dumps({"type": f"producersync.npn.{text}"[:120], "id": text, "timestamp": "2025-07-25T15:53:01.579Z",
                           "data": {"npn": text[:20], "note": text}}).encode()
        ids += send(nginx, signed(data, webhook_id=f"{text}{number}".encode()))
    send(nginx, signed(body(1), secrets=[OTHER_SECRET]).with_header("webhook-id", HOSTILE[0].encode()))
    desk.handler("producersync", f"cat >&2 <<'X'\n{HOSTILE[0]}\n{HOSTILE[1]}\nX\nexit 1\n")
    desk.drain(expect=None)
    with Browser(nginx, USER, width=360) as b:
        b.script("window.alert = () => { throw new Error('alert'); }")
        for query in ("", "?view=deliveries", "?view=events", "?view=setup", "?view=events&status=failed",
                      "?view=<script>alert(1)</script>", "?view=event&id=<img src=x onerror=alert(1)>",
                      "?view=deliveries&npn=<b>x</b>&type=\"onmouseover=alert(1)"):
            b.open(query)
            assert b.script("return document.querySelectorAll('script:not([src]), main img, main style, main b').length") == 0
            assert b.overflow() <= 0, query
        written = 0
        for row in nginx.get("events?status=failed")["rows"]:
            b.driver.get(nginx.url)
            b.script("history.pushState(null, '', '?view=event&id=' + encodeURIComponent(arguments[0]));"
                     "dispatchEvent(new PopStateEvent('popstate'))", row["file"])
            b.wait_for_view("event")
            wait_for(lambda: "Evidence" in b.text(), "the event is shown")
            assert b.script("return document.querySelectorAll('main img, main script, main style').length") == 0
            assert b.overflow() <= 0, row["webhook_id"]
            shown = b.script("return [...document.querySelectorAll('dd')].map((e) => e.textContent)")
            assert row["webhook_id"] in shown
            said = "no handler" not in row["reason"]
            assert not said or (HOSTILE[0] in b.text() and HOSTILE[1] in b.text())      # what the handler wrote
            written += said
        assert written > 0
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
    with Browser(nginx, USER) as b:
        b.command("Emulation.setScriptExecutionDisabled", value=True)
        b.driver.get(nginx.url)
        assert b"psapi list" in nginx.request("GET", "")[2]
        b.command("Emulation.setScriptExecutionDisabled", value=False)


@long
def test_each_view_is_usable_soon(place, tmp_path):
    """On a large spool a view takes at most 5 times what it takes on an empty one (and 150 ms more)."""
    def measure(page, view):
        with Browser(page, USER) as b:
            b.open("", "overview")
            taken = []
            for _ in range(5):
                begun = time.monotonic()
                b.open(f"?view={view}", view)
                taken.append(time.monotonic() - begun)
            return statistics.median(taken)
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o770)
    web_scale.build(spool, 40_000, 15_000)
    with page_of(NginxPage, place, **ACTIONS) as page:
        empty = {view: measure(page, view) for view in ("overview", "deliveries", "events")}
        page.web.stop()
        page.web.settings["PSAPI_SPOOL"] = spool
        page.web.start()
        for view, before in empty.items():
            assert measure(page, view) < 5 * before + 0.15, view


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
            b.wait_for_text("Retry all 3 shown")
            b.click('[data-bulk="retry"]')
            b.wait_for_text("3 events back to the queue?", "#dialog")
            b.click("#dialog-yes")
            wait_for(lambda: {row["status"] for row in desk.rows("list", "--all")} == {"new"}, "all are back")
