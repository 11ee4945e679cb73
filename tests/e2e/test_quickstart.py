"""From the installation to the first handled event: docs/quickstart.md, step by step, with nginx as shipped.

A request that is signed with a secret which the receiver does not have yet stands for the portal.
"""

import json
import re

import pytest

from receiver import ROOT
from sender import SECRET, signed
from servers import Nginx
from setup_command import psapi


@pytest.fixture
def vhost(place):
    place.write_secret("")
    place.settings["PSAPI_LISTEN"] = f"unix:{place.dir}/psapi.sock"
    handlers = place.dir / "handlers.d"
    handlers.mkdir(mode=0o755)
    place.settings["PSAPI_HANDLERS"] = handlers
    with Nginx(place) as server:
        yield server


def failed_checks(place, url):
    done = psapi(place, "doctor", "--json", url, expect=None)
    return [row["check"] for row in map(json.loads, done.stdout.splitlines())
            if row["ok"] is False and row["check"] != "latency"]     # that is the machine's


def test_all_steps(vhost, place):
    url = f"http://localhost:{vhost.client.address[1]}/webhooks/psapi"
    # 2. Register: one check fails. Then the portal's first request comes, and is held.
    assert failed_checks(place, url) == ["secret"]
    first = signed(b'{"type":"producersync.npn.activated","id":"1","timestamp":"2026-01-02T03:04:05Z",'
                   b'"data":{"npn":"123456789","activatedAt":"2026-01-02T03:04:05Z"}}')
    assert vhost.send(first).word == "held"
    assert failed_checks(place, url) == ["secret", "hold"]
    # 3. Secret, 4. verify
    psapi(place, "secret", "add", stdin=f'  "{SECRET}"\n')
    assert "1 adopted" in psapi(place, "adopt").stdout
    assert failed_checks(place, url) == []
    # 5. Test
    psapi(place, "send", url)
    for kind in ("--unsigned", "--tampered", "--stale", "--wrong-secret"):
        psapi(place, "send", kind, url)
    # 6. Go live: the handler that the document shows
    text = (ROOT / "docs" / "quickstart.md").read_text()
    [handler] = re.findall(r"<<'END'\n(.*?)END\n", text, re.S)
    path = place.settings["PSAPI_HANDLERS"] / "default"
    path.write_text(handler)
    path.chmod(0o755)
    out = psapi(place, "drain", "-v").stdout
    assert "producersync.npn.activated 123456789" in out
    assert "producersync.updates_available  2025-07-24" in out
    assert place.spool.names("new") == place.spool.names("failed") == []
    assert failed_checks(place, url) == []


def test_the_commands_exist(place):
    """Every `psapi` command in the document exists, with its options."""
    text = (ROOT / "docs" / "quickstart.md").read_text()
    named = set(re.findall(r"psapi (secret|adopt|doctor|send|drain|attempts|help)\b([^\n`]*)", text))
    assert {name for name, _ in named} == {"secret", "adopt", "doctor", "send", "drain", "attempts",
                                           "help"}
    for name, rest in named:
        if name == "help":
            continue
        shown = psapi(place, "help", name).stdout
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest.split("#")[0]):
            assert option in shown, (name, option)


def test_help_is_in_the_order_of_the_portal(place):
    shown = psapi(place, "help", "setup").stdout
    places = [shown.index(f"\n  {word} ") for word in
              ("access", "register", "secret     psapi", "verify     psapi", "test", "go live")]
    assert places == sorted(places)
    last = " ".join(shown[places[-1]:].split())
    [units] = re.findall(r"^\| 6\. Go live .*`sudo (systemctl [^`]*)` \|$", (ROOT / "README.md").read_text(), re.M)
    assert last.endswith(f"{units}, or psapi drain from cron"), "README.md says the same"
