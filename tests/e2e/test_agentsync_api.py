"""The scripts that call AgentSync's API: examples/reconcile, examples/handlers/updates-available."""

import json
import os
import re
import shutil
import stat
import subprocess
import time

import pytest

from agentsync_api import Api
from psapi_command import PSAPI, Desk, body, on_a_terminal, updates
from receiver import ROOT, SLOWER
from sender import signed

ON, OFF = "producersync.npn.activated", "producersync.npn.deactivated"
RECONCILE, UPDATES = ROOT / "examples/reconcile", ROOT / "examples/handlers/updates-available"

pytestmark = pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")


@pytest.fixture
def api():
    with Api() as api:
        yield api


@pytest.fixture
def desk(place, api):
    desk = Desk(place)
    desk.home = place.dir / "home"
    desk.home.mkdir()
    desk.login = place.dir / "api-login"
    desk.login.write_text('data-urlencode = "client_id=me"\ndata-urlencode = "client_secret=s&cret"\n')
    desk.login.chmod(0o600)
    desk.token = desk.home / ".psapi-api-token"
    place.settings |= {"HOME": desk.home, "PSAPI_API_LOGIN": desk.login, "PSAPI_AUTH_URL": api.url,
                       "PSAPI_API_URL": api.url, "PSAPI_RUN_DATE": "2025-07-24"}
    desk.handler("default", ":\n")
    yield desk
    desk.close()


def script(desk, path, expect=0, env=None):
    environment = desk.environment(env) | {"PATH": f"{PSAPI.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", path], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60 * SLOWER)
    assert done.returncode == expect, done
    return done


def told(desk, path):
    """What it writes to standard error, which is a terminal."""
    environment = desk.environment() | {"PATH": f"{PSAPI.parent}:{os.environ['PATH']}"}
    output, status = on_a_terminal(["/bin/sh", path], environment, stdout=subprocess.DEVNULL)
    assert status == 0, output
    return output


def test_the_scripts_share_their_lines():
    """Each is one file to copy; what they have in common is the same."""
    parts = [re.search(r"# ---- the API.*?(?=\n# ----)", path.read_text(), re.S)[0] for path in (RECONCILE, UPDATES)]
    assert parts[0] == parts[1] and len(parts[0].splitlines()) > 100


# ---- reconcile ----

@pytest.fixture
def population(desk):
    """7, 8 and 100 are active; 9 is not."""
    desk.deliver(*(signed(body(second, npn, kind)) for second, npn, kind in (
        (1, "7", ON), (2, "8", ON), (3, "9", ON), (4, "9", OFF), (5, "100", ON))))
    return desk


@pytest.mark.parametrize("embedded, links, paging", [
    ("embedded", "links", "links"), ("_embedded", "_links", "links"), ("embedded", "links", "counted"),
    ("_embedded", "links", "total"), ("embedded", "links", "none")])
def test_reconcile(population, api, embedded, links, paging):
    api.embedded, api.links, api.paging = embedded, links, paging
    api.subscriptions = ["100", "8", "7"]
    done = script(population, RECONCILE)
    assert (done.stdout, done.stderr) == ("", "")
    api.subscriptions = ["9", "7", "55", "8"]
    done = script(population, RECONCILE, expect=1)
    assert sorted(done.stdout.splitlines()) == [
        "100 is active since 2025-07-25T00:00:05.000Z, its events say, but is not subscribed",
        "55 is subscribed, but no event says that it is active", "9 is subscribed, but no event says that it is active"]
    assert done.stderr == "" and api.token_requests == 1, "the token is kept"


@pytest.mark.parametrize("paging", ["links", "counted"])
def test_reconcile_pages(population, api, paging):
    api.paging = paging
    api.subscriptions = ["7", *(str(n) for n in range(1000, 3500)), "8", "100"]
    lines = script(population, RECONCILE, expect=1).stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(str(n) for n in range(1000, 3500))
    assert [query.get("page", "0") for _, query in api.requests] == ["0", "1", "2"]
    assert {query["size"] for _, query in api.requests} == {"1000"}


def test_reconcile_does_not_guess(population, api):
    """A full page that does not say whether it is the last."""
    api.paging, api.subscriptions = "none", [str(n) for n in range(2000)]
    done = script(population, RECONCILE, expect=75)
    assert done.stdout == "" and "does not say whether there are more pages" in done.stderr


@pytest.mark.parametrize("reply", [
    {"subscriptions": [{"npn": "7"}, {"npn": "8"}, {"npn": "100"}], "page": 0, "totalPages": 1},
    {"data": ["7", "8", "100"]}])
def test_reconcile_with_a_list_under_another_name(population, api, reply):
    api.faults = [(200, {}, reply)]
    assert script(population, RECONCILE).stdout == ""


@pytest.mark.parametrize("paging", ["links", "counted", "total"])
def test_reconcile_with_pages_that_repeat(population, api, paging):
    """The next page is one of before: without an end, and no list."""
    api.paging, api.repeats, api.subscriptions = paging, True, [str(n) for n in range(2000)]
    done = script(population, RECONCILE, expect=75)
    assert done.stdout == "" and "the API repeats its pages" in done.stderr and len(api.requests) == 2


def test_reconcile_of_nobody(desk, api):
    desk.deliver(signed(updates()))
    assert script(desk, RECONCILE).stdout == ""


def test_reconcile_without_a_spool(desk, api):
    assert "psapi roster failed" in script(desk, RECONCILE, expect=75).stderr


@pytest.mark.parametrize("reply", [b"<html>", b"", b"12", b'"x"', b"null", b"[] []", b"{}",
                                   b'{"error":"x","retry_after":1}'])
def test_reconcile_with_what_is_no_list(population, api, reply):
    """That is not nobody: it is no answer."""
    api.faults = [(200, {}, reply)]
    done = script(population, RECONCILE, expect=75)
    assert done.stdout == "" and "no list of NPNs" in done.stderr


@pytest.mark.parametrize("reply", [
    b'{"embedded":[1]}', b'{"embedded":{"a":1}}', b'{"embedded":null}',
    b'["1\\n2","\\u001b[2J", {"npn":"9;rm"}, {"npn":null}, null, [], "9,10"]'])
def test_reconcile_with_strange_members(population, api, reply):
    """What is no NPN counts for nothing, and is not printed."""
    api.faults = [(200, {}, reply)]
    done = script(population, RECONCILE, expect=1)
    assert {line.split()[0] for line in done.stdout.splitlines()} - {"1"} == {"7", "8", "100"}
    assert "\x1b" not in done.stdout + done.stderr and "rm" not in done.stdout


def test_reconcile_while_somebody_joins(population, api):
    """Between the two rosters: no difference, whether the list has the producer already or not."""
    real = population.place.dir / "bin"
    real.mkdir()
    text = f"""#!/bin/sh
    n=$(cat {real}/n 2>/dev/null || echo 0); echo $((n + 1)) >{real}/n
    {PSAPI} "$@" && if [ $n -ge 1 ]; then echo 55,active,2025-07-25T00:00:09.000Z; fi\n"""
    (real / "psapi").write_text(text)
    (real / "psapi").chmod(0o755)
    for subscriptions in (["7", "8", "100", "55"], ["7", "8", "100"]):
        (real / "n").unlink(missing_ok=True)
        api.subscriptions = subscriptions
        environment = population.environment() | {"PATH": f"{real}:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/sh", RECONCILE], env=environment, capture_output=True, text=True, timeout=60 * SLOWER)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- the token and the limits: in both, for they share the lines ----

def fetch(desk, api, expect=0, **env):
    """One run of updates-available, of a collection of three pages."""
    api.collections.setdefault("licenses", [[{"id": f"{page}-{n}"} for n in range(2)] for page in (1, 2, 3)])
    return script(desk, UPDATES, expect, {"PSAPI_COLLECTIONS": "licenses"} | env)


def records(desk, name="licenses"):
    path = desk.home / "updates/2025-07-24" / f"{name}.jsonl"
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


ALL = ["1-0", "1-1", "2-0", "2-1", "3-0", "3-1"]


def test_the_token_is_kept(desk, api):
    fetch(desk, api)
    fetch(desk, api)
    assert api.token_requests == 1 and records(desk) == ALL
    assert stat.S_IMODE(desk.token.stat().st_mode) == 0o600
    assert not [name for name in os.listdir(desk.home) if name.startswith(".psapi-api-token.")]
    # Another login, another server, or a token that expires soon: a new one.
    os.utime(desk.token, times=(1, 1))
    fetch(desk, api)
    assert api.token_requests == 2
    os.utime(desk.login, times=(1, 1))
    fetch(desk, api)
    assert api.token_requests == 2
    desk.token.write_text(desk.token.read_text().replace(api.url, "https://elsewhere"))
    fetch(desk, api)
    assert api.token_requests == 3
    desk.token.write_text(re.sub(r"expires \d+", f"expires {int(time.time()) + 50}", desk.token.read_text()))
    fetch(desk, api)
    assert api.token_requests == 4
    for damaged in ("", "nonsense\n", "# expires soon x\n"):
        desk.token.write_text(damaged)
        fetch(desk, api)
    assert api.token_requests == 7


def test_a_token_that_is_refused(desk, api):
    """One new token, and no more."""
    fetch(desk, api)
    api.tokens.clear()
    fetch(desk, api)
    assert api.token_requests == 2
    api.faults = [(401, {}, {})] * 9
    assert "refuses a new token" in fetch(desk, api, 75).stderr and api.token_requests == 3


@pytest.mark.parametrize("answer", [{}, {"access_token": 5}, {"access_token": ""}, {"access_token": None}, [],
                                    {"access_token": 'x"\nurl = "http://127.0.0.1:9/'}, b"<html>"])
def test_what_is_no_token(desk, api, answer):
    """It goes into a configuration of curl: a text of the characters of a token only."""
    api.token_answer = answer
    assert "no token in the answer" in fetch(desk, api, 75).stderr
    assert not desk.token.exists() and api.requests == []


@pytest.mark.parametrize("headers, reply, least", [
    ({"Retry-After": "1"}, {}, 1), ({"retry-after": "0"}, {}, 0), ({}, {"error": "x", "retry_after": 1}, 1)])
def test_over_the_limit(desk, api, headers, reply, least):
    api.faults = [None, (429, headers, reply)]
    begun = time.monotonic()
    fetch(desk, api)
    assert records(desk) == ALL and time.monotonic() - begun >= least
    assert len(api.requests) == 4


def test_a_long_wait_is_for_the_next_run(desk, api):
    api.faults = [None, (429, {"Retry-After": "3600"}, {})]
    begun = time.monotonic()
    assert "asks to wait 3600 s" in fetch(desk, api, 75).stderr and time.monotonic() - begun < 30


@pytest.mark.parametrize("name", ["ratelimit", "X-RateLimit"])
def test_the_limit_is_heeded(desk, api, name):
    """Used up, so it waits before the next page; not after the last."""
    api.headers = {f"{name}-Limit": "300", f"{name}-Remaining": "0", "RateLimit-Reset": "1"}
    begun = time.monotonic()
    fetch(desk, api)
    assert records(desk) == ALL and time.monotonic() - begun >= 2 and len(api.requests) == 3


def test_a_server_that_is_down_for_a_moment(desk, api):
    api.faults = [(503, {}, {}), None, (500, {}, b"<html>")]
    fetch(desk, api)
    assert records(desk) == ALL


# ---- where it was cut ----

@pytest.mark.parametrize("embedded, links", [("embedded", "links"), ("_embedded", "_links")])
def test_resumed_at_the_page(desk, api, embedded, links):
    api.embedded, api.links = embedded, links
    api.collections = {"entities": [[{"id": "e"}]], "licenses": [[{"id": f"{page}-{n}"} for n in range(2)]
                                                                for page in (1, 2, 3)]}
    api.faults = [None, None, None, (429, {"Retry-After": "3600"}, {})]
    both = {"PSAPI_COLLECTIONS": "entities licenses"}
    fetch(desk, api, 75, **both)
    assert records(desk, "entities") == ["e"] and not (desk.home / "updates/2025-07-24/licenses.jsonl").exists()
    unfinished = desk.home / "updates/2025-07-24/.unfinished"
    with open(unfinished / "licenses.jsonl", "a") as file:
        file.write('{"half a rec')     # of a run that was killed while it wrote
    api.requests.clear()
    fetch(desk, api, **both)
    assert [(path, query.get("continuationToken")) for path, query in api.requests] == [("/v2/licenses", "3")]
    assert records(desk) == ALL and not unfinished.exists()
    api.requests.clear()
    fetch(desk, api, **both)
    assert len(api.requests) == 4, "a replay begins anew"


def test_resumed_where_nothing_is_left(desk, api):
    """The page is refused, for its token has expired; or a power cut took the records: from the beginning."""
    api.faults = [None, None, (429, {"Retry-After": "3600"}, {})]
    fetch(desk, api, 75)
    note = desk.home / "updates/2025-07-24/.unfinished/licenses"
    note.write_text(note.read_text().replace("continuationToken=3", "continuationToken=99"))
    fetch(desk, api)
    assert records(desk) == ALL
    api.faults = [None, None, (429, {"Retry-After": "3600"}, {})]
    fetch(desk, api, 75)
    (note.parent / "licenses.jsonl").write_text("")
    fetch(desk, api)
    assert records(desk) == ALL
    api.faults = [(404, {}, {})]
    assert "the API refuses" in fetch(desk, api, 75).stderr


def test_pages_that_repeat(desk, api):
    api.repeats = True
    assert "the API repeats its pages" in fetch(desk, api, 75).stderr and len(api.requests) == 2
    assert not (desk.home / "updates/2025-07-24/licenses.jsonl").exists()
    api.repeats = False
    fetch(desk, api)
    assert records(desk) == ALL


def test_from_the_beginning_no_page_is_a_repetition(desk, api):
    """A run that was resumed sees pages again when the token of a later one has expired."""
    api.collections["licenses"] = [[{"id": f"{page}-{n}"} for n in range(2)] for page in (1, 2, 3, 4)]
    api.faults = [None, (429, {"Retry-After": "3600"}, {})]
    fetch(desk, api, 75)
    api.faults = [None, None, (410, {}, {})]
    fetch(desk, api)
    assert records(desk) == [*ALL, "4-0", "4-1"] and len(api.requests) == 2 + 3 + 4


def test_drain_goes_on_where_the_handler_was_cut(desk, api):
    """The whole way: an event, a handler that asks for a retry, the next run."""
    shutil.copy(UPDATES, desk.handlers / "producersync.updates_available")
    api.collections["licenses"] = [[{"id": f"{page}-{n}"} for n in range(2)] for page in (1, 2, 3)]
    api.faults = [None, None, (429, {"Retry-After": "3600"}, {})]
    desk.place.settings |= {"PSAPI_COLLECTIONS": "licenses"}
    (webhook_id,) = desk.deliver(signed(updates(0, "2025-07-24")))
    desk.drain_silently()
    assert "asks to wait" in desk.state(webhook_id)["stderr"]
    desk.write_state(webhook_id, tries=1, due_in=-1)
    desk.drain_silently()
    assert desk.where(webhook_id) == ["events"] and records(desk) == ALL and len(api.requests) == 4


@pytest.mark.parametrize("href", ["http://127.0.0.1:9/evil", "/v2/x\x1b[2J", "/v2/a b", "file:///etc/passwd"])
def test_the_token_goes_nowhere_else(desk, api, href):
    api.faults = [(200, {}, {"embedded": {"licenses": [{"id": "x"}]}, "links": {"next": {"href": href}}})]
    done = fetch(desk, api, 75)
    assert "\x1b" not in done.stderr
    assert not (desk.home / "updates/2025-07-24/licenses.jsonl").exists()
    assert len(api.requests) == 1


@pytest.mark.parametrize("reply", [
    b"<html>", b"null", b"[]", {}, {"error": "x"}, {"licenses": [{"id": "x"}]}, {"embedded": {"License": [{"id": "x"}]}},
    {"embedded": {"licenses": {"id": "x"}}, "links": {}}])
def test_what_is_no_page(desk, api, reply):
    """That is no empty one: the event stays."""
    api.faults = [(200, {}, reply)]
    assert "no page of licenses: " in fetch(desk, api, 75).stderr
    assert not (desk.home / "updates/2025-07-24/licenses.jsonl").exists()


@pytest.mark.parametrize("reply", [{"links": {}}, {"_links": {}}, {"embedded": {}, "links": {}},
                                   {"_embedded": {"licenses": []}}])
def test_an_empty_page(desk, api, reply):
    api.faults = [(200, {}, reply)]
    fetch(desk, api)
    assert records(desk) == []


# ---- progress ----

@pytest.mark.parametrize("path, word", [(RECONCILE, "subscriptions: page 1"), (UPDATES, "licenses: page 3")])
def test_progress_on_a_terminal(desk, api, path, word):
    desk.deliver(signed(updates()))
    api.collections["licenses"] = [[{"id": str(page)}] for page in (1, 2, 3)]
    desk.place.settings |= {"PSAPI_COLLECTIONS": "licenses"}
    output = told(desk, path)
    assert f"\r\x1b[K{word}" in output and output.endswith("\r\x1b[K")
