"""Before the first secret: which requests are held or ignored, the limits, and how they are adopted.

  first request -> 200 held -> the secret appears -> accepted, with its time of arrival
"""

import json
import os
import pwd
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import strace
from receiver import BINARY, wait_for
from replies import assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import OTHER_SECRET, SECRET, Request, event, new_id, signed
from servers import Socket, cgi_variables
from setup_command import psapi

pytestmark = pytest.mark.each_store

HELD_AT_MOST = 64
BYTES_AT_MOST = 1024 * 1024
WAITS = "psapi: %s: psapi drain or another is at work; waiting for it to finish\n"


def held(place):
    return sorted(os.listdir(place.spool.path / "hold")) if (place.spool.path / "hold").is_dir() \
        else []


def assert_held(reply):
    assert (reply.status, reply.word) == (200, "held"), reply
    assert "secret" in reply.json["detail"], reply


def assert_ignored(reply):
    assert (reply.status, reply.word) == (200, "ignored"), reply
    assert "whsec_" not in reply.json["detail"] and "/" not in reply.json["detail"], reply


def adopted(place, webhook_id, body):
    wait_for(lambda: held(place) == [], "the held request is adopted")
    return place.spool.assert_queued_once(webhook_id, body)


def emptied(server, place):
    place.write_secret("# the endpoint's secret goes here")
    server.renew()
    return server


@pytest.fixture
def waiting(server, place):
    """A receiver with an empty secret file, behind every server."""
    return emptied(server, place)


@pytest.fixture
def waiting_directly(direct, place):
    """The same without a web server, which would make no difference."""
    return emptied(direct, place)


def outcomes(place):
    return [line["outcome"] for line in place.spool.attempts()]


def test_spool_that_was_replaced(waiting_directly, place):
    """What is held in the old directory, nobody would adopt."""
    assert_held(waiting_directly.send(signed()))
    old = place.dir / "old"
    place.spool.path.rename(old)
    time.sleep(1.1)     # it looks once a second
    assert_refused(waiting_directly.send(signed()), "spool_error")
    assert len(os.listdir(old / "hold")) == 1
    old.rename(place.spool.path)


def test_first_request_to_adoption(waiting, place):
    """The steps in the portal: the request is held, the secret is added, the next request starts the adoption."""
    first = signed(timestamp=int(time.time()) - 7)
    before = time.time()
    assert_held(waiting.send(first))
    after = time.time()
    (name,) = held(place)
    file = place.spool.path / "hold" / name
    assert file.stat().st_mode & 0o777 == 0o640
    kept = json.loads(file.read_text())
    assert kept["webhook_id"] == first.header("webhook-id").decode()
    assert kept["webhook_signature"] == first.header("webhook-signature").decode()
    assert place.spool.names("new") == place.spool.names("events") == []
    assert "HOLD" in waiting.log()

    place.write_secret(SECRET)
    assert_accepted(waiting.send(signed()))
    webhook_id = first.header("webhook-id")
    stored = adopted(place, webhook_id, first.body)
    assert stored.evidence["received_at"] == kept["received_at"]
    arrived = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert arrived <= kept["received_at"][:19] <= time.strftime("%Y-%m-%dT%H:%M:%S",
                                                               time.gmtime(after))
    assert stored.evidence["webhook_signature"] == first.header("webhook-signature").decode()
    assert outcomes(place).count("held") == 1
    assert_duplicate(waiting.send(signed(webhook_id=webhook_id.decode())))


@pytest.mark.needs("persistent")
def test_adopted_at_start(waiting, place):
    request = signed()
    assert_held(waiting.send(request))
    place.write_secret(SECRET)
    waiting.renew()
    adopted(place, request.header("webhook-id"), request.body)


def test_wrong_secret_first(waiting_directly, place):
    """The request stays until the right secret comes. Trying it again writes no line to the log."""
    request = signed()
    assert_held(waiting_directly.send(request))
    place.write_secret(OTHER_SECRET)
    assert_refused(waiting_directly.send(signed()), "signature_mismatch")
    waiting_directly.renew()
    assert len(held(place)) == 1
    # The log has requests from the network, and nothing about the attempts to adopt.
    lines = [line for line in place.spool.attempts()
             if line["webhook_id"] == request.header("webhook-id").decode()]
    assert [line["outcome"] for line in lines] == ["held"]
    place.write_secret(OTHER_SECRET, SECRET)
    assert_accepted(waiting_directly.send(signed()))
    adopted(place, request.header("webhook-id"), request.body)


def test_forged_is_never_accepted(waiting, place):
    """Signed with another secret, with a changed body, with a timestamp of another day."""
    good = signed()
    forged = [signed(secrets=[OTHER_SECRET]),
              Request(good.headers, good.body + b" "),
              good.with_header("webhook-id", "msg_somebody-else")]
    for request in forged:
        assert_held(waiting.send(request))
    place.write_secret(SECRET)
    last = signed()
    assert_accepted(waiting.send(last))
    assert_accepted(waiting.send(signed()))
    assert place.spool.file("new", last.header("webhook-id")).exists()
    assert len(place.spool.names("new")) == 2
    assert len(held(place)) == len(forged)


def test_forgery_cannot_occupy_an_id(waiting_directly, place):
    """A forgery, then the authentic request with the same id: both are held, one is accepted."""
    webhook_id = new_id()
    assert_held(waiting_directly.send(signed(webhook_id=webhook_id, secrets=[OTHER_SECRET])))
    body = event("producersync.updates_available", runDate="2026-01-02")
    assert_held(waiting_directly.send(signed(body, webhook_id=webhook_id)))
    place.write_secret(SECRET)
    assert_accepted(waiting_directly.send(signed()))
    wait_for(lambda: len(held(place)) == 1, "the real one is adopted, the forgery stays")
    place.spool.assert_queued_once(webhook_id, body)


def test_retry_while_held(waiting_directly, place):
    """An event that is held twice is accepted once."""
    webhook_id = new_id()
    body = event()
    for ago in (5, 0):
        assert_held(waiting_directly.send(signed(body, webhook_id, int(time.time()) - ago)))
    place.write_secret(SECRET)
    assert_accepted(waiting_directly.send(signed()))
    adopted(place, webhook_id, body)
    assert len(place.spool.names("events")) == 2


NOT_HELD = {
    "no headers": Request([("content-type", b"application/json")], b"{}"),
    "no signature": signed().with_header("webhook-signature", None),
    "no id": signed().with_header("webhook-id", None),
    "malformed timestamp": signed(timestamp="yesterday"),
    "two ids": signed().and_header("webhook-id", "another"),
    "encoded": signed().and_header("content-encoding", "gzip"),
}


@pytest.mark.parametrize("what", NOT_HELD)
def test_ignored(waiting_directly, place, what):
    assert_ignored(waiting_directly.send(NOT_HELD[what]))
    assert held(place) == []
    assert "ignored" in outcomes(place)
    assert "HOLD" in waiting_directly.log()


def test_ignored_everywhere(waiting, place):
    for request in NOT_HELD.values():
        assert_ignored(waiting.send(request))
    assert held(place) == []


@pytest.mark.parametrize("off", [-1000, 1000])
def test_timestamp_out_of_tolerance_is_ignored(waiting_directly, place, off):
    assert_ignored(waiting_directly.send(signed(timestamp=int(time.time()) + off)))
    assert held(place) == []


@pytest.mark.settings(PSAPI_MAX_BODY=1000)
def test_too_large_is_ignored(waiting_directly, place):
    assert_ignored(waiting_directly.send(signed(b"x" * 1001)))
    assert held(place) == []


def test_other_methods_are_refused(waiting):
    assert_refused(waiting.send(Request(method="GET")), "method_not_allowed")


def test_full_of_requests(waiting_directly, place):
    for _ in range(HELD_AT_MOST):
        assert_held(waiting_directly.send(signed()))
    assert_refused(waiting_directly.send(signed()), "spool_full")
    assert len(held(place)) == HELD_AT_MOST
    place.write_secret(SECRET)
    assert_accepted(waiting_directly.send(signed()))
    wait_for(lambda: held(place) == [], "all are adopted", 60)
    assert len(place.spool.names("new")) == HELD_AT_MOST + 1


def test_full_of_bytes(waiting_directly, place):
    body = b"x" * 300_000
    replies = [waiting_directly.send(signed(body)) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 503, 503], replies
    assert_refused(replies[-1], "spool_full")
    files = [place.spool.path / "hold" / name for name in held(place)]
    assert sum(file.stat().st_size for file in files) <= BYTES_AT_MOST


@pytest.mark.parametrize("over", [0, 1])
def test_full_to_the_byte(waiting_directly, place, over):
    """The limit of 1 MiB includes the new request."""
    requests = [signed(webhook_id=f"msg_{i}") for i in range(2)]
    assert_held(waiting_directly.send(requests[0]))
    hold = place.spool.path / "hold"
    size = (hold / held(place)[0]).stat().st_size
    with open(hold / "filler", "wb") as filler:
        filler.truncate(BYTES_AT_MOST - 2 * size + over)
    second = waiting_directly.send(requests[1])
    (hold / "filler").unlink()
    if over:
        assert_refused(second, "spool_full")
    else:
        assert_held(second)
        assert (hold / held(place)[1]).stat().st_size == size


@pytest.mark.settings(PSAPI_MIN_FREE=1 << 59)
def test_free_space_below_the_minimum(waiting_directly, place):
    assert_refused(waiting_directly.send(signed()), "spool_full")
    assert held(place) == []


def test_full_from_many_at_once(waiting_directly, place):
    """The limit holds across threads and processes."""
    def send(_):
        """Again, as the sender does, where the lock of hold/ was not had in time: on a slow disk."""
        while True:
            reply = waiting_directly.send(signed())
            if reply.status != 503 or reply.json["reason"] != "spool_error":
                return reply

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(send, range(HELD_AT_MOST + 30)))
    assert sorted(reply.status for reply in replies) == [200] * HELD_AT_MOST + [503] * 30
    assert len(held(place)) == HELD_AT_MOST


# ---- when nothing is held ----

def test_no_hold_once_something_was_accepted(server, place):
    assert_accepted(server.send(signed()))
    place.write_secret("# emptied")
    server.renew()
    assert_refused(server.send(signed()), "no_secret")
    assert_refused(server.send(NOT_HELD["no headers"]), "missing_header")
    assert held(place) == []


def test_no_hold_when_a_secret_was_in_force(direct, place):
    """The file becomes empty later: the last good secrets stay in force."""
    assert_refused(direct.send(signed(secrets=[OTHER_SECRET])), "signature_mismatch")
    place.write_secret("")
    assert_refused(direct.send(signed(secrets=[OTHER_SECRET])), "signature_mismatch")
    assert_accepted(direct.send(signed()))
    assert held(place) == []


@pytest.mark.parametrize("what", ["missing", "mode", "unusable"])
def test_no_hold_without_a_trustworthy_empty_file(direct, place, what):
    if what == "missing":
        place.secret_file.unlink()
    elif what == "mode":
        place.write_secret("", mode=0o644)
    else:
        place.write_secret("v1," + SECRET)
    direct.renew()
    assert_refused(direct.send(signed()), "no_secret")
    assert_refused(direct.send(NOT_HELD["no headers"]), "missing_header")
    assert held(place) == []


def test_any_bytes_survive(waiting, place):
    """An id that is not UTF-8, a body that is not JSON, an invalid list of signatures."""
    webhook_id, body = b"msg_\xff\xfe", bytes(range(256))
    request = signed(body, webhook_id)
    listed = b"v1a,\xff\xff " + request.header("webhook-signature")
    assert_held(waiting.send(request.with_header("webhook-signature", listed)))
    place.write_secret(SECRET)
    assert_accepted(waiting.send(signed()))
    wait_for(lambda: held(place) == [], "it is adopted")
    failed, _ = place.spool.assert_failed(webhook_id, body)
    assert failed.evidence["webhook_id"] is None


def test_older_names_are_held(place):
    """svix-id and the others, before the first secret: held, not ignored."""
    place.write_secret("")
    request = signed()
    older = Request([(name.replace("webhook-", "svix-"), value) for name, value in request.headers], request.body)
    with Socket(place) as server:
        assert_held(server.send(older))
        place.write_secret(SECRET)
        assert_accepted(server.send(signed()))
        wait_for(lambda: len(place.spool.names("new")) == 2, "it is adopted")


# ---- faults ----

@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
@pytest.mark.parametrize("call, least", [("fsync", 1), ("writev", 1), ("linkat", 1), ("flock", 1)])
def test_call_fails(place, call, least):
    """200 held means: file and directory are synced. A failure leaves nothing and answers 503."""
    place.write_secret("")
    request = signed()
    environment = place.environment() | dict(cgi_variables(request))
    for nth in range(1, 30):
        log = place.dir / "strace.txt"
        done = subprocess.run([*strace.command(call, "error=EIO", nth, log), BINARY],
                              env=environment, input=request.body, capture_output=True, timeout=60)
        if not strace.was_injected(log):
            break
        reply = parse_cgi(done.stdout)
        if reply.status == 503:
            assert_refused(reply, "spool_error")
            assert held(place) == []
        else:       # linkat has another way
            assert_held(reply)
            assert len(held(place)) == 1
            place.spool.empty()
        assert place.spool.left_in_tmp() == []
    assert nth > least, f"{call} is called {nth - 1} times"
    assert_held(parse_cgi(done.stdout))


# ---- psapi ----

def hold_one(place):
    with Socket(place) as server:
        place.write_secret("")
        server.renew()
        request = signed()
        assert_held(server.send(request))
        server.receiver.stop()
    return request


def test_adopt(place):
    request = hold_one(place)
    done = psapi(place, "adopt", expect=1)
    assert "1 held request(s) wait for the secret" in done.stderr
    done = psapi(place, "secret", "add", stdin=SECRET)
    assert "1 request(s)" in done.stdout and "psapi adopt" in done.stdout
    assert "1 adopted" in psapi(place, "adopt").stdout
    assert held(place) == []
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    assert "nothing is held" in psapi(place, "adopt").stdout


@pytest.mark.parametrize("late, adopted_then", [(7, True), (1000, False)])
def test_adopt_checks_as_of_the_arrival(place, late, adopted_then):
    """Held two days ago: the age of the timestamp at the arrival counts."""
    request = hold_one(place)
    (name,) = held(place)
    file = place.spool.path / "hold" / name
    kept = json.loads(file.read_text())
    arrival = int(time.time()) - 2 * 86400
    older = signed(request.body, kept["webhook_id"], arrival - late)
    changes = {kept[f"webhook_{part}"]: older.header(f"webhook-{part}").decode()
               for part in ("timestamp", "signature")}
    changes[kept["received_at"]] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(arrival))
    text = file.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    place.write_secret(SECRET)
    psapi(place, "adopt", expect=0 if adopted_then else 1)
    if adopted_then:
        stored = place.spool.assert_queued_once(request.header("webhook-id"), request.body)
        assert stored.evidence["received_at"] == changes[kept["received_at"]]
    else:
        assert held(place) == [name] and place.spool.names("events") == []


def test_adopt_without_a_matching_secret(place):
    hold_one(place)
    place.write_secret(OTHER_SECRET)
    done = psapi(place, "adopt", expect=1)
    assert "match no configured secret" in done.stderr and "--discard" in done.stderr
    assert len(held(place)) == 1
    assert "1 discarded" in psapi(place, "adopt", "--discard").stdout
    assert held(place) == [] and place.spool.names("new") == []


def test_discard_keeps_authentic_requests(place):
    request = hold_one(place)
    place.write_secret(SECRET)
    psapi(place, "adopt", "--discard")
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.spool_only("the disk of a database is not seen")
def test_adopt_waits_for_a_full_disk(place):
    """An authentic request that cannot be stored stays."""
    request = hold_one(place)
    place.write_secret(SECRET)
    done = psapi(place, "adopt", expect=74, PSAPI_MIN_FREE=1 << 59)
    assert "could not be accepted" in done.stderr
    assert len(held(place)) == 1
    psapi(place, "adopt")
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_drain_adopts(place):
    """And handles it in the same run."""
    request = hold_one(place)
    place.write_secret(SECRET)
    psapi(place, "drain", "--", "true")
    assert held(place) == []
    assert place.spool.file("events", request.header("webhook-id")).exists()
    assert place.spool.names("new") == []


def test_drain_is_silent_about_held_requests(place):
    hold_one(place)
    done = psapi(place, "drain", "--", "true")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.spool_only("files of the spool")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be told not to be root")
def test_adopt_as_whom(place):
    """Root becomes the spool's owner: what it accepts is the owner's to move."""
    hold_one(place)
    place.write_secret(SECRET)
    nobody = pwd.getpwnam("nobody")
    place.dir.chmod(0o755)
    for path in [place.spool.path, *place.spool.path.rglob("*"), place.secret_file]:
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    assert "1 adopted" in psapi(place, "adopt").stdout
    assert held(place) == []
    [accepted] = (place.spool.path / "new").iterdir()
    assert accepted.stat().st_uid == nobody.pw_uid


def test_a_file_of_somebody_else_in_hold(place):
    """It stays. A message reports a file that is named like a request and is none."""
    hold_one(place)
    (place.spool.path / "hold" / "notes.txt").write_text("mine")
    other = place.spool.path / "hold" / "1795476189000000000-1-1.json"
    other.write_text("{}")
    place.write_secret(SECRET)
    done = psapi(place, "adopt", expect=74)
    assert other.name in done.stderr and "1 adopted" in done.stdout
    assert sorted(held(place)) == [other.name, "notes.txt"]


@pytest.mark.parametrize("line", ["", "v1," + SECRET])
def test_nothing_is_discarded_before_there_is_a_secret(waiting_directly, place, line):
    """No request was checked: all stay."""
    request = signed()
    assert_held(waiting_directly.send(request))
    place.write_secret(line)
    psapi(place, "adopt", "--discard", expect=1)
    assert len(held(place)) == 1
    place.write_secret(SECRET)
    psapi(place, "adopt", "--discard")
    adopted(place, request.header("webhook-id"), request.body)


@pytest.mark.spool_only("the disk of a database is not seen")
def test_discard_keeps_requests_that_could_not_be_stored(waiting_directly, place):
    request = signed()
    assert_held(waiting_directly.send(request))
    place.write_secret(SECRET)
    psapi(place, "adopt", "--discard", expect=os.EX_IOERR, PSAPI_MIN_FREE=1 << 60)
    assert len(held(place)) == 1
    psapi(place, "adopt")
    adopted(place, request.header("webhook-id"), request.body)


def test_adopted_by_several_processes_at_once(waiting_directly, place):
    """The receiver, drain and adopt take the same requests: each is accepted once."""
    for _ in range(30):
        assert_held(waiting_directly.send(signed()))
    place.write_secret(SECRET)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(psapi, place, "adopt"), pool.submit(psapi, place, "drain", "--", "true"),
                pool.submit(psapi, place, "adopt"), pool.submit(waiting_directly.send, signed())]
        assert_accepted(done.pop().result())
        assert all(one.result().stderr in ("", WAITS % place.spool.path) for one in done)
    wait_for(lambda: held(place) == [], "all are adopted", 60)
    assert len(place.spool.names("events")) == 31 and place.spool.names("failed") == []
    assert outcomes(place).count("accepted") == 31
    psapi(place, "drain", "--", "true")
    assert place.spool.names("new") == []


def test_secret_appears_under_load(waiting_directly, place):
    """A request that is being stored in hold/ when the secret comes is adopted."""
    requests = [signed() for _ in range(60)]
    with ThreadPoolExecutor(10) as pool:
        replies = pool.map(waiting_directly.send, requests)
        wait_for(lambda: len(held(place)) > 3, "some are held")
        place.write_secret(SECRET)
        replies = list(replies)
    assert {reply.word for reply in replies} <= {"held", "accepted", "error"}, replies
    assert_accepted(waiting_directly.send(signed()))
    for request, reply in zip(requests, replies):
        if reply.status == 200:
            adopted(place, request.header("webhook-id"), request.body)
