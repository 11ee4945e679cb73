"""Attackers: a client of the endpoint, another user of the machine, a peer of the FastCGI socket. SECURITY.md says what
each can do; the tests show that it is no more.

Slow uploads are in test_uploads.py, the limits of hold/ in test_hold.py, lines of the attempts log in test_attempts.py,
terminals in test_psapi_tools.py.
"""

import base64
import hashlib
import os
import re
import subprocess
import time

import pytest

from fcgi_client import begin, params, stream, STDIN
from installed_layout import NOBODY, InstalledLayout
from receiver import SANITIZED, wait_for
from replies import assert_accepted, assert_refused, parse_cgi
from sender import OTHER_SECRET, SECRET, signature, signed
from servers import pairs

EVIL = b"\x1b]0;owned\x07\x1b[2J\xc2\x9b31m\x85"


def spooled(place):
    return {name: os.listdir(place.spool.path / name)
            for name in ("new", "events", "failed", "state", "hold", "tmp")}


# ---- a client ----

def forgeries():
    good = signed()
    yield signed(secrets=[OTHER_SECRET])
    yield signed(body=b"x" * 500_000, secrets=[OTHER_SECRET])
    yield signed(timestamp=5)
    yield signed(timestamp=int(time.time()) + 100_000)
    yield good.with_header("webhook-id", "another")
    yield good.with_header("webhook-signature", "v1," + "A" * 43 + "=")
    yield good.with_header("webhook-signature", b"v1," + EVIL)
    yield good.with_header("webhook-id", EVIL)
    yield good.with_header("webhook-timestamp", EVIL)
    yield good.with_header("content-encoding", EVIL)
    yield good.with_header("webhook-signature", None)
    yield signed(body=b"x" * (1 << 20 | 1))


def test_a_client_stores_nothing_and_logs_little(direct, place):
    """Refusals leave nothing in the spool but lines of the attempts log, whose number is limited, and nothing in the
    log on standard error: no client can fill either."""
    start = time.monotonic()
    for _ in range(10):
        for request in forgeries():
            assert direct.send(request).status >= 400
    assert spooled(place) == dict.fromkeys(spooled(place), [])
    assert 0 < len(place.spool.attempts()) <= 10 * (time.monotonic() - start) + 10
    assert direct.log() == ""


def test_a_client_that_goes_away_leaves_nothing(direct, place):
    """Authentic or not, wherever its upload breaks off: nothing is in tmp/."""
    for request in (signed(), signed(secrets=[OTHER_SECRET])):
        whole = begin() + params(pairs(request)) + stream(STDIN, request.body)
        for cut in range(1, len(whole) - 8, len(whole) // 25):
            with direct.connect() as client:
                client.send(whole[:cut])
    assert_accepted(direct.send(signed()))
    wait_for(lambda: spooled(place)["tmp"] == [], "tmp/ is empty")
    assert len(spooled(place)["events"]) == 1 and direct.log() == ""


def test_replies_tell_nothing_of_the_secret(direct, place):
    """A nearly right signature gets the same answer as any wrong one, and no reply has data that only the receiver
    knows."""
    request = signed()
    right = request.header("webhook-signature")
    replies = {direct.send(request.with_header("webhook-signature", right[:n] + b"A" * (46 - n) + b"="))
               .body for n in range(3, 46, 6) if right[n:n + 1] != b"A"}
    assert len(replies) == 1, replies
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    others = signed(secrets=[OTHER_SECRET])
    named = signature(SECRET, others.header("webhook-id").decode(),
                      int(others.header("webhook-timestamp")), others.body)
    replies |= {direct.send(r).body for r in [*forgeries(), others, request, request]}
    for reply in replies:
        for text in (SECRET.removeprefix("whsec_").encode(), key, key.hex().encode(), right, named,
                     hashlib.sha256(key).hexdigest()[:8].encode(), str(place.dir).encode()):
            assert text not in reply


def test_no_line_is_forged_in_the_log(direct, place):
    """The log names held requests: escaped, one line each."""
    place.write_secret("# not yet")
    direct.renew()
    for text in (EVIL, b"a\x1b[31mb", b"\xff\xfe", b"a" * 3000):
        assert direct.send(signed(webhook_id=text.decode("latin-1").encode("latin-1"))).status == 200
    log = (place.dir / "psapi.log").read_bytes()
    assert log.count(b"is held unverified") == 4
    assert re.fullmatch(rb"(psapi-fcgi: [\x20-\x7e]{1,1012}\n)+", log)


# ---- a peer of the socket ----

def test_a_peer_chooses_no_setting(direct, place):
    """It can send any parameter; an HTTP client only HTTP_... ."""
    evil = place.dir / "evil"
    settings = [(name.encode(), str(evil).encode()) for name in (
        "PSAPI_SPOOL", "PSAPI_SECRET_FILE", "PSAPI_CONF", "PSAPI_LISTEN", "PSAPI_HANDLERS", "HOME",
        "TMPDIR", "LD_PRELOAD", "DOCUMENT_ROOT", "SCRIPT_FILENAME", "PATH_TRANSLATED", "TZ")]
    settings += [(b"PSAPI_TOLERANCE", b"1000000000"), (b"PSAPI_MAX_BODY", b"1"), (b"PSAPI_MIN_FREE", b"1" * 18)]
    for last in (False, True):
        request = signed()
        given = pairs(request) + settings if last else settings + pairs(request)
        with direct.connect() as client:
            assert_accepted(parse_cgi(client.exchange(given, request.body)))
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)
        old = signed(timestamp=5)
        with direct.connect() as client:
            assert_refused(parse_cgi(client.exchange(settings + pairs(old), old.body)), "stale_timestamp")
    assert not evil.exists()


def test_a_peer_needs_a_signature(direct, place):
    """Parameters about the client (REMOTE_USER, HTTPS ...) do not replace a signature."""
    request = signed(secrets=[OTHER_SECRET])
    claimed = [(b"REMOTE_USER", b"root"), (b"AUTH_TYPE", b"Basic"), (b"HTTPS", b"on"),
               (b"REMOTE_ADDR", b"127.0.0.1"), (b"REDIRECT_STATUS", b"200")]
    with direct.connect() as client:
        assert_refused(parse_cgi(client.exchange(claimed + pairs(request), request.body, keep=True)),
                       "signature_mismatch")
    assert spooled(place) == dict.fromkeys(spooled(place), [])


# ---- another user of the machine ----

ATTEMPTS = r"""
import os, socket, sys, tempfile
pid, spool, secret, sock = int(sys.argv[1]), *sys.argv[2:]
own = tempfile.NamedTemporaryFile()

def attempt(name, act):
    try:
        act()
        print(name, "allowed")
    except OSError as error:
        print(name, error.strerror)

def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(sock)

attempt("read the secret", lambda: open(secret))
attempt("replace the secret", lambda: os.symlink("/etc/passwd", secret + ".1"))
attempt("list the spool", lambda: os.listdir(spool))
for name in ("new", "events", "failed", "hold", "tmp", "state"):
    attempt("list " + name, lambda: os.listdir(f"{spool}/{name}"))
    attempt("plant in " + name, lambda: os.symlink("/etc/passwd", f"{spool}/{name}/x.json"))
    attempt("link into " + name, lambda: os.link(own.name, f"{spool}/{name}/y.json"))
    attempt("replace " + name, lambda: os.rename(f"{spool}/{name}", f"{spool}/{name}.old"))
attempt("plant the log", lambda: os.symlink("/etc/passwd", f"{spool}/attempts.jsonl.1"))
attempt("read the log", lambda: open(f"{spool}/attempts.jsonl"))
attempt("replace the spool", lambda: os.rename(spool, spool + ".old"))
attempt("connect", connect)
attempt("remove the socket", lambda: os.unlink(sock))
attempt("kill", lambda: os.kill(pid, 15))
for name in ("mem", "environ", "maps"):
    attempt("read its " + name, lambda: open(f"/proc/{pid}/{name}").read())
attempt("list its descriptors", lambda: os.listdir(f"/proc/{pid}/fd"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two other users")
def test_another_user_gains_nothing(place):
    """A user of another group cannot read, add or replace a file, reach the socket, or end the process."""
    server = InstalledLayout(place).given_to(NOBODY - 1).start()
    assert_accepted(server.send(signed()))
    receiver, before = server.receiver, spooled(place)
    done = subprocess.run(
        ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "/usr/bin/python3", "-c",
         ATTEMPTS, str(receiver.pid), place.spool.path, place.secret_file, receiver.path],
        capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) > 30
    assert [line for line in lines if not re.search("Permission denied$|Operation not permitted$", line)] == []
    assert spooled(place) == before
    assert_accepted(server.send(signed()))


@pytest.mark.skipif(SANITIZED, reason="a sanitizer inspects its own process: server/sandbox.c")
@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's own processes are the test's")
def test_even_the_same_user_cannot_look_inside(place):
    """A handler runs as the receiver's user, but may not trace the receiver or read its memory."""
    server = InstalledLayout(place).given_to(NOBODY).start()
    pid = server.receiver.pid
    for file in ("mem", "environ", "maps"):
        done = subprocess.run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                               "cat", f"/proc/{pid}/{file}"], capture_output=True, text=True)
        assert done.returncode != 0 and "Permission denied" in done.stderr, file
