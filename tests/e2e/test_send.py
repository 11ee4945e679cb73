"""`psapi send`: requests as they arrive at the receiver, or at a recording endpoint; retries."""

import base64
import hmac
import json
import os
import pwd
import re
import shlex
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from sender import OTHER_SECRET, SECRET, signature
from setup_command import PSAPI, listening, psapi, psapi_on_a_terminal
from web_server import certificate

EXAMPLES = {
    "producersync.updates_available":
        b'{"data":{"runDate":"2025-07-24"},"id":"12345","timestamp":"2025-07-24T22:51:05.206Z",'
        b'"type":"producersync.updates_available"}',
    "producersync.npn.activated":
        b'{"data":{"activatedAt":"2025-07-25T15:53:01.579Z","npn":"123456789"},"id":"whe_123454321",'
        b'"timestamp":"2025-07-25T15:53:01.579Z","type":"producersync.npn.activated"}',
    "producersync.npn.deactivated":
        b'{"data":{"deactivatedAt":"2025-07-25T15:53:01.579Z","npn":"123456789"},'
        b'"id":"whe_123454321","timestamp":"2025-07-25T15:53:01.579Z",'
        b'"type":"producersync.npn.deactivated"}',
}
WRONG = ["--unsigned", "--tampered", "--stale", "--wrong-secret"]


def signatures(request):
    return request.headers["webhook-signature"].split(" ")


def is_signed(request, secret=SECRET):
    expected = signature(secret, request.headers["webhook-id"], request.headers["webhook-timestamp"],
                         request.body).decode()
    return any(hmac.compare_digest(expected, one) for one in signatures(request))


# ---- what is sent ----

@pytest.mark.parametrize("kind", EXAMPLES)
def test_documented_examples(place, kind):
    with listening() as listener:
        psapi(place, "send", "--type", kind, listener.url)
    (request,) = listener.requests
    assert request.body == EXAMPLES[kind]
    assert is_signed(request)
    assert re.fullmatch(r"msg_[0-9A-Za-z]{27}", request.headers["webhook-id"])
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 10
    assert request.headers["content-type"] == "application/json"
    assert "expect" not in request.headers


def test_default_and_data(place):
    with listening() as listener:
        psapi(place, "send", listener.url)
        psapi(place, "send", "--data", '{"runDate":"2026-01-02"}', listener.url)
        psapi(place, "send", "--type", "id.producer.x", "--data", ' {"a": [1, "\u00fc"]}', listener.url)
    first, second, third = listener.requests
    assert first.body == EXAMPLES["producersync.updates_available"]
    assert json.loads(second.body)["data"] == {"runDate": "2026-01-02"}
    assert json.loads(second.body)["type"] == "producersync.updates_available"
    event = json.loads(third.body)
    assert (event["type"], event["data"]) == ("id.producer.x", {"a": [1, "\u00fc"]})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"]) and event["id"]
    assert is_signed(third)


@pytest.mark.parametrize("body", [b"", b"no JSON\n", bytes(range(256)) * 3, b"x" * 350_000])
def test_file_byte_for_byte(place, body):
    path = place.dir / "event"
    path.write_bytes(body)
    with listening() as listener:
        psapi(place, "send", "--file", path, "--id", "msg_a.b-c", listener.url)
    (request,) = listener.requests
    assert request.body == body and is_signed(request)
    assert request.headers["webhook-id"] == "msg_a.b-c"


def test_every_secret_signs(place):
    """During a rotation the sender signs with each valid secret."""
    place.write_secret(SECRET, OTHER_SECRET)
    with listening() as listener:
        psapi(place, "send", listener.url)
    (request,) = listener.requests
    assert len(signatures(request)) == 2
    assert is_signed(request, SECRET) and is_signed(request, OTHER_SECRET)


def test_another_secret_file(place):
    other = place.dir / "other-secret"
    other.write_text(OTHER_SECRET)
    other.chmod(0o600)
    with listening() as listener:
        psapi(place, "send", "--secret-file", other, listener.url)
    assert is_signed(listener.requests[0], OTHER_SECRET)


def test_no_secret(place):
    place.secret_file.unlink()
    with listening() as listener:
        done = psapi(place, "send", listener.url, expect=66)
        assert str(place.secret_file) in done.stderr and "--secret-file" in done.stderr
        psapi(place, "send", "--unsigned", listener.url, expect=1)
        assert len(listener.requests) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_secret_of_another_user(place):
    """The caller is the wrong one, not the file: the message names the spool's owner, whoever that is."""
    place.write_secret(SECRET, mode=0o600)
    place.spool.path.mkdir(exist_ok=True)
    copy = shutil.copy(PSAPI, place.dir / "psapi")     # a directory in which the user "nobody" may run it
    for owner, user in ("daemon", "run it as root, or as daemon"), ("root", "run it as root"):
        os.chown(place.spool.path, pwd.getpwnam(owner).pw_uid, -1)
        for command in (["send", "http://127.0.0.1:1/"], ["verify", "--all"], ["secret", "list"]):
            done = subprocess.run([copy, *command], env=place.environment(), user=pwd.getpwnam("nobody").pw_uid,
                                  capture_output=True, text=True, timeout=60)
            assert done.returncode == 77, done
            assert re.search(f"secret: .*Permission denied: {user}(;.*)?\n$", done.stderr), done
    place.spool.path.rename(place.dir / "away")
    done = subprocess.run([copy, "verify", "--all"], env=place.environment(), user=pwd.getpwnam("nobody").pw_uid,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 77 and "run it as root, or as the receiver's user" in done.stderr, done


# ---- the wrong kinds ----

def test_kinds_against_the_receiver(server, place):
    """Accepted, and each wrong kind refused, behind every server."""
    if not hasattr(server, "client"):
        pytest.skip(f"{server.name}: no HTTP")
    scheme = "https" if server.client.tls else "http"
    url = f"{scheme}://localhost:{server.client.address[1]}/webhooks/psapi"
    if server.client.tls:
        psapi(place, "send", url, expect=1)     # a self-signed certificate
        own = place.dir / "cert.pem"
        url = ("--cacert", own if own.exists() else certificate() / "cert.pem", url)
    else:
        url = (url,)
    done = psapi(place, "send", *url)
    assert " 200" in done.stdout and '"accepted"' in done.stdout
    reasons = ["missing_header", "signature_mismatch", "stale_timestamp", "signature_mismatch"]
    for kind, reason in zip(WRONG, reasons):
        done = psapi(place, "send", kind, *url)
        assert reason in done.stdout, done.stdout
        assert "the signature did not match either" not in done.stdout
    assert len(place.spool.names("new")) == 1


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_kinds_that_are_accepted(place, kind):
    """A receiver that accepts them is reported as not as expected."""
    with listening() as listener:
        done = psapi(place, "send", kind, listener.url, expect=1)
    assert "not as expected" in done.stdout
    (request,) = listener.requests
    if kind == "--unsigned":
        assert request.headers["webhook-signature"] is None
    elif kind == "--tampered":
        assert not is_signed(request)
        assert json.loads(request.body).keys() == {"data", "id", "timestamp", "type"}
    elif kind == "--stale":
        assert is_signed(request)
        assert time.time() - int(request.headers["webhook-timestamp"]) > 3600
    else:
        assert not is_signed(request) and len(signatures(request)) == 1
        assert len(base64.b64decode(signatures(request)[0][3:])) == 32


@pytest.mark.parametrize("status, headers", [(500, {}), (404, {}), (301, {"location": "/x"}),
                                             (302, {"location": "http://127.0.0.1:1/"})])
def test_not_as_expected(place, status, headers):
    with listening(lambda request, n: (status, headers, b"<html>no</html>")) as listener:
        done = psapi(place, "send", listener.url, expect=1)
    assert str(status) in done.stdout and "<html>no</html>" in done.stdout
    assert len(listener.requests) == 1, "a redirect was followed"
    if headers:
        assert headers["location"] in done.stdout


@pytest.mark.parametrize("status, well", [(401, True), (400, True), (404, False), (405, False), (200, False)])
def test_wrong_kinds_need_a_receivers_refusal(place, status, well):
    """A web server without a receiver at that path answers 404 or 405."""
    with listening(lambda request, n: (status, {}, b"")) as listener:
        done = psapi(place, "send", "--unsigned", listener.url, expect=0 if well else 1)
    assert ("not as expected" in done.stdout) != well


def test_no_server(place):
    done = psapi(place, "send", "http://127.0.0.1:1/", expect=1)
    assert "connect" in done.stdout.lower()


def test_reply_steers_no_terminal(place):
    with listening(lambda request, n: (200, {}, b"\x1b[2Jred\xc2\x9b31m")) as listener:
        done = psapi(place, "send", listener.url)
    assert "\x1b[2J" not in done.stdout and "\\x1b[2Jred" in done.stdout


def test_certificate_steers_no_terminal(place):
    """A message of libcurl may contain the name in the certificate."""
    cert, key = place.dir / "cert.pem", place.dir / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-subj", "/CN=a\x1b[2Jb", "-keyout", key, "-out", cert], check=True,
                   capture_output=True)
    with listening() as listener:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        listener.socket = context.wrap_socket(listener.socket, server_side=True)
        done = psapi(place, "send", "--cacert", cert, listener.url.replace("http:", "https:"), expect=1)
    assert "\x1b" not in done.stdout and "'a\\x1b[2Jb'" in done.stdout


# ---- as the sender does ----

def test_retries(place):
    """Same id and body, new timestamp and signature, until it is answered 2xx."""
    def answer(request, number):
        return (200 if number == 3 else 503, {}, b"{}")
    with listening(answer) as listener:
        done = psapi(place, "send", "--retries", 5, "--time-scale", 0.01, listener.url)
    first, second, third = listener.requests
    assert len({request.headers["webhook-id"] for request in listener.requests}) == 1
    assert len({request.body for request in listener.requests}) == 1
    assert all(is_signed(request) for request in listener.requests)
    # 5 min * 0.01 lies between the second and the third
    assert int(third.headers["webhook-timestamp"]) - int(second.headers["webhook-timestamp"]) >= 2
    assert third.headers["webhook-signature"] != second.headers["webhook-signature"]
    assert "try 2 of 6" in done.stdout and "try 3 of 6" in done.stdout


def test_retries_end(place):
    with listening(lambda request, n: (503, {}, b"{}")) as listener:
        psapi(place, "send", "--retries", 3, "--time-scale", 0, listener.url, expect=1)
    assert len(listener.requests) == 4


def test_retry_after(place):
    def answer(request, number):
        return (200, {}, b"") if number == 2 else (503, {"retry-after": "100"}, b"")
    with listening(answer) as listener:
        done = psapi(place, "send", "--retries", 1, "--time-scale", 0.001, listener.url)
    assert "in 0.1 s" in done.stdout


def test_slow_answer(place):
    def answer(request, number):
        time.sleep(5.1)
        return (200, {}, b"")
    with listening(answer) as listener:
        done = psapi(place, "send", listener.url)
    assert "warning" in done.stdout and "5 s" in done.stdout


def test_count_and_parallel(place):
    with listening() as listener:
        done = psapi(place, "send", "--count", 60, "--parallel", 8, listener.url)
    assert len(listener.requests) == 60
    assert len({request.headers["webhook-id"] for request in listener.requests}) == 60
    assert "60 deliveries, 60 tries: 60 as expected" in done.stdout


def test_parallel_at_most(place):
    """Four at a time. No request is answered before all four have come."""
    lock, now, most = threading.Lock(), [0], [0]
    four = threading.Barrier(4)

    def answer(request, number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        four.wait(timeout=25)
        time.sleep(0.05)    # enough time for a fifth
        with lock:
            now[0] -= 1
        return (200, {}, b"")
    with listening(answer) as listener:
        psapi(place, "send", "--count", 24, "--parallel", 4, listener.url)
    assert most[0] == 4


def test_rate(place):
    with listening() as listener:
        start = time.monotonic()
        psapi(place, "send", "--count", 11, "--rate", 10, "--parallel", 5, listener.url)
        assert time.monotonic() - start >= 1.0
    assert len(listener.requests) == 11


def test_rate_after_a_slow_answer(place):
    """The rate is a maximum: after a delay there is no burst."""
    def answer(request, number):
        if number == 1:
            time.sleep(1)
        return (200, {}, b"")
    with listening(answer) as listener:
        start = time.monotonic()
        psapi(place, "send", "--count", 11, "--rate", 10, listener.url)
        assert time.monotonic() - start >= 1.9      # the second one is due at once
    assert len(listener.requests) == 11


def test_same_id_many_times(direct, place):
    with listening() as listener:
        psapi(place, "send", "--count", 3, "--id", "msg_same", listener.url)
    assert [r.headers["webhook-id"] for r in listener.requests] == ["msg_same"] * 3


def test_json(place):
    with listening() as listener:
        done = psapi(place, "send", "--count", 2, "--json", listener.url)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["number"] for row in rows] == [1, 2]
    assert all(row["expected"] and row["status"] == 200 and row["try"] == 1 for row in rows)
    assert rows[0]["webhook_id"] == listener.requests[0].headers["webhook-id"]


def test_json_of_what_is_no_utf8(place):
    """An id or a reply that is not UTF-8 is escaped in its row."""
    with listening(lambda request, n: (200, {}, b"\xff\xfe")) as listener:
        done = psapi(place, "send", "--json", "--id", os.fsdecode(b"a\xff"), listener.url)
    row = json.loads(done.stdout)
    assert (row["webhook_id"], row["reply"]) == ("a\\xff", "\\xff\\xfe")


def test_progress_on_a_terminal(place):
    with listening() as listener:
        status, screen = psapi_on_a_terminal(place, "send", "--count", "40", listener.url)
    assert status == 0, screen
    assert b"[####" in screen and b"40 deliveries" in screen
    assert screen.count(b"msg_") == 0, "one line each, beside the bar"


# ---- --print ----

@pytest.mark.parametrize("body", [b"it's {\"a\": 1}\n", b"\x00\x01\xff", b"@/etc/passwd", b""])
def test_print_is_equivalent(place, body):
    path = place.dir / "event"
    path.write_bytes(body)
    with listening() as listener:
        done = psapi(place, "send", "--print", "--file", path, "--id", "msg_it's", listener.url)
        assert listener.requests == []
        subprocess.run(["sh", "-c", done.stdout], check=True, capture_output=True, timeout=60)
    (request,) = listener.requests
    assert request.body == body and is_signed(request)
    assert request.headers["webhook-id"] == "msg_it's"


def test_print_quotes_the_url(place):
    """curl would expand [1-3] and {x,y}, a shell other characters."""
    with listening() as listener:
        url = f"{listener.url}?a=[1-3]&b={{x,y}}&c='$HOME'"
        psapi(place, "send", url)
        done = psapi(place, "send", "--print", url)
        subprocess.run(["sh", "-c", done.stdout], check=True, capture_output=True, timeout=60)
    sent, printed = listener.requests
    assert printed.path == sent.path and "[1-3]" in sent.path


def test_print_wrong_kinds(place):
    with listening() as listener:
        for kind in WRONG:
            done = psapi(place, "send", "--print", kind, listener.url)
            assert shlex.split(done.stdout)[0] == "curl"
            subprocess.run(["sh", "-c", done.stdout], check=True, capture_output=True, timeout=60)
    unsigned, tampered, stale, wrong = listener.requests
    assert unsigned.headers["webhook-signature"] is None
    assert not is_signed(tampered) and is_signed(stale) and not is_signed(wrong)


# ---- misuse ----

@pytest.mark.parametrize("arguments", [
    [], ["ftp://127.0.0.1/"], ["nonsense"], ["http://"], ["http://127.0.0.1:1/", "another"],
    ["--count", "0", "http://127.0.0.1:1/"], ["--count", "x", "http://127.0.0.1:1/"],
    ["--rate", "-1", "http://127.0.0.1:1/"], ["--parallel", "0", "http://127.0.0.1:1/"],
    ["--id", "a b", "http://127.0.0.1:1/"], ["--id", "a\nb", "http://127.0.0.1:1/"],
    ["--id", "", "http://127.0.0.1:1/"], ["--retries", "1.5", "http://127.0.0.1:1/"],
    ["--file", "/dev/null", "--data", "{}", "http://127.0.0.1:1/"], ["--nonsense"],
    ["--unsigned", "--tampered", "http://127.0.0.1:1/"],
])
def test_misused(place, arguments):
    done = psapi(place, "send", *arguments, expect=64)
    assert len(done.stderr.splitlines()) == 1 and "psapi help send" in done.stderr


@pytest.mark.parametrize("option, value, says", [
    ("--count", "0", "--count takes a number from 1 to 1000000000"), ("--rate", "0", "--rate takes deliveries a second"),
    ("--id", "", "--id takes 1 to 512 bytes without blanks"), ("--parallel", "1001", "--parallel takes a number from 1 to"),
    ("--retries", "-1", "--retries takes a number from 0 to 1000"), ("--type", "", "--type takes the type of an event"),
    ("--time-scale", "x", "--time-scale takes a number from 0 to 1000")])
def test_misused_value(place, option, value, says):
    assert f'"{value}": {says}' in psapi(place, "send", option, value, "http://127.0.0.1:1/", expect=64).stderr


@pytest.mark.parametrize("arguments, says", [
    (["--type", "a.b"], "--data"), (["--data", "{"], "JSON"), (["--file", "/nonexistent"], "No such")])
def test_nothing_to_send(place, arguments, says):
    done = psapi(place, "send", *arguments, "http://127.0.0.1:1/", expect=65)
    assert says in done.stderr


def test_no_proxy_to_loopback(place):
    """Proxies of the environment are not used for loopback."""
    with listening() as listener, listening() as proxy:
        psapi(place, "send", listener.url, http_proxy=proxy.url)
        assert len(listener.requests) == 1 and proxy.requests == []
        psapi(place, "send", "http://webhooks.invalid/", http_proxy=proxy.url)
        assert len(proxy.requests) == 1
