"""`psapi send` against other receivers: the npm packages of Standard Webhooks and of Svix (AgentSync sends with Svix).
`npm ci` installs them from tests/npm/package-lock.json.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from sender import OTHER_SECRET, SECRET
from setup_command import psapi

NPM = Path(__file__).resolve().parents[1] / "npm"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def packages():
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    with open(NPM / "package-lock.json") as lock:       # one worker of pytest-xdist installs them for all
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (NPM / "node_modules/.package-lock.json").exists():      # what npm writes last
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=NPM,
                           check=True, capture_output=True, timeout=300)


@pytest.fixture(params=["standardwebhooks", "svix"])
def url(request, packages):
    """The URL of a receiver with this library and SECRET."""
    with subprocess.Popen(["node", "receiver.js", request.param, SECRET], cwd=NPM, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.kill()


@pytest.mark.parametrize("kind", ["producersync.updates_available", "producersync.npn.activated",
                                  "producersync.npn.deactivated"])
def test_examples(place, url, kind):
    assert " 204" in psapi(place, "send", "--type", kind, url).stdout


def test_many_and_rotated(place, url):
    place.write_secret(OTHER_SECRET, SECRET)
    psapi(place, "send", "--count", 50, "--parallel", 4, url)


def test_any_json(place, url):
    psapi(place, "send", "--type", "id.producer.x", "--data", '{"name":"J\u00fcrgen \U0001f600"}', url)


@pytest.mark.parametrize("kind, says", [
    ("--unsigned", "Missing required headers"), ("--tampered", "No matching signature"),
    ("--stale", "Message timestamp too old"), ("--wrong-secret", "No matching signature")])
def test_wrong_kinds(place, url, kind, says):
    done = psapi(place, "send", kind, url)
    assert " 400" in done.stdout and says in done.stdout


def test_secret_that_it_does_not_know(place, url):
    place.write_secret(OTHER_SECRET)
    psapi(place, "send", url, expect=1)
