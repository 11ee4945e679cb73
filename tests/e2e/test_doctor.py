"""`psapi doctor`: no failed check on a good installation; with one fault, the check that names it.

Every fault is real: files and modes, a receiver, nginx and Apache with one wrong line.
"""

import json
import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import strace
from broken import apache, listens, make_certificate, mute, nginx
from receiver import BINARY, WEB_USER, Receiver, wait_for
from replies import assert_accepted
from sender import OTHER_SECRET, SECRET, signed
from servers import Socket
from setup_command import PSAPI, listening, psapi, psapi_on_a_terminal

URL = "http://localhost:%d/webhooks/psapi"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give things away")

# What nginx needs; a fault replaces or adds a line.
LOCATION = """
    location = /webhooks/psapi {
        include /etc/nginx/fastcgi_params;
        fastcgi_pass unix:%(socket)s;
        client_max_body_size 2m;
        LINE
    }
"""
SERVER = "server { listen 127.0.0.1:%(port)d; root %(dir)s/www; " + LOCATION + " }"
PROXY = """
<Location /webhooks/psapi>
    ProxyPass unix:%(socket)s|fcgi://localhost/
    LINE
</Location>
"""


@pytest.fixture
def socket(place):
    """Where the receiver of this place listens; doctor asks it there."""
    place.settings["PSAPI_LISTEN"] = f"unix:{place.dir}/psapi.sock"
    return place.dir / "psapi.sock"


@pytest.fixture
def receiver(place, socket):
    return Receiver(place).start()


def examine(place, *arguments, expect=None, **settings):
    """The result of doctor: {check: row}."""
    done = psapi(place, "doctor", "--json", *arguments, expect=expect, **settings)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode == 1) == any(row["ok"] is False for row in rows), done
    for row in rows:
        assert (row["ok"] is False or row.get("remark", False)) == ("remedy" in row), row
        assert row["text"], row
        for secret in (SECRET, OTHER_SECRET):
            assert secret[6:18] not in json.dumps(row), row
    assert len({row["check"] for row in rows}) == len(rows)
    return {row["check"]: row for row in rows}


def assert_names(rows, *faults, mentions=()):
    """These checks fail, and no others; the words are in the text or remedy of one of them."""
    bad = {name: row for name, row in rows.items() if row["ok"] is False}
    if "latency" in bad and "latency" not in faults and float(bad["latency"]["text"].split()[0]) >= 5:
        del bad["latency"]      # of this machine now, not of what was set up
    assert set(bad) == set(faults), json.dumps(list(rows.values()), indent=1)
    text = json.dumps(list(bad.values()))
    for word in mentions:
        assert word in text, (word, text)


# ---- all is well ----

@pytest.mark.each_store
def test_healthy(place, receiver):
    place.settings["PSAPI_HANDLERS"] = place.dir / "handlers"
    (place.dir / "handlers").mkdir(mode=0o755)
    (place.dir / "handlers" / "default").write_text("#!/bin/sh\n")
    (place.dir / "handlers" / "default").chmod(0o755)
    body = b'{"type":"producersync.updates_available","id":"1","data":{"runDate":"2026-01-02"}}'
    server = Socket(place)
    server.receiver = receiver
    assert_accepted(server.send(signed(body)))
    with nginx(place, SERVER.replace("LINE", "")) as port:
        rows = examine(place, URL % port)
    assert_names(rows)
    # Of a machine's own name with two addresses, one is enough.
    assert [name for name, row in rows.items() if row["ok"] is None and name != "addresses"] == ["certificate"]
    assert rows["addresses"]["ok"] is not False
    # The probes are recorded, but not queued.
    assert len(place.spool.names("new")) == 1
    assert len(place.spool.names("events")) == 3


def test_healthy_behind_apache(place, receiver):
    with apache(place, PROXY.replace("LINE", "")) as port:
        assert_names(examine(place, URL % port))


@pytest.mark.each_store
def test_table(place, receiver):
    """The output for people: tick and cross signs if the terminal has them, the remedy below."""
    place.write_secret("")
    receiver.stop()
    done = psapi(place, "doctor", expect=1, LANG="C.UTF-8")
    lines = done.stdout.splitlines()
    assert any(line.startswith("\u2713  spool") for line in lines)
    at = next(i for i, line in enumerate(lines) if line.startswith("\u2717  secret"))
    assert lines[at + 1].startswith("     ") and "psapi secret add" in lines[at + 1]
    plain = psapi(place, "doctor", expect=1, LANG="C").stdout
    assert plain.isascii() and "BAD  secret" in plain
    status, screen = psapi_on_a_terminal(place, "doctor")
    assert status == 1 and b"\x1b[" in screen


# ---- here ----

def test_configuration(place):
    assert_names(examine(place, PSAPI_THREADS="many"), "configuration", mentions=["PSAPI_THREADS"])


def test_spool_is_missing(place, socket):
    shutil.rmtree(place.spool.path)
    assert_names(examine(place), "spool", "socket", mentions=["install -d"])


def test_spool_open_to_all(place, receiver):
    place.spool.path.chmod(0o2777)
    assert_names(examine(place), "spool", mentions=["2777", f"chmod 2770 {place.spool.path}"])
    assert f"warning: spool {place.spool.path}: mode 2777 is open to every user: chmod 2770" in place.run("-t").stdout
    for name in ("attempts.jsonl.1.gz", "lost+found", "lock", ".nfs001"):
        (place.spool.path / name).touch()
    assert_names(examine(place), "spool", mentions=["chmod 2770"])


@pytest.mark.parametrize("mode", [0o755, 0o2771, 0o775])
def test_spool_whose_names_can_be_seen(place, receiver, mode):
    """-t warns, doctor remarks, check goes on: nothing in it can be read, and no file can be added."""
    assert {path.name: path.stat().st_mode & 0o7 for path in place.spool.path.iterdir()} == {
        path.name: 0 for path in place.spool.path.iterdir()}
    place.spool.path.chmod(mode)
    rows = examine(place)
    assert_names(rows)
    said = f"{place.spool.path}: mode {mode:04o} lets every user see the names of its files"
    assert rows["spool"]["remark"] and rows["spool"]["text"] == said
    assert rows["spool"]["remedy"] == f"chmod 2770 {place.spool.path}" and rows["storing"]["ok"]
    tested = place.run("-t")
    assert tested.returncode == 0 and f"warning: spool {said}: chmod 2770" in tested.stdout
    done = subprocess.run([PSAPI, "check", "--json"], env=place.environment(), capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["status"] == "OK", done


@pytest.mark.parametrize("mode, name", [(0o1777, None), (0o1777, "of\033somebody"), (0o755, "Documents"), (0o777, "x")])
def test_spool_is_another_directory(place, socket, mode, name):
    """PSAPI_SPOOL=/tmp: chmod 2770 would break the machine."""
    other = place.dir / "tmp"
    other.mkdir()
    if name:
        (other / name).mkdir()
    other.chmod(mode)
    place.settings["PSAPI_SPOOL"] = other
    row = examine(place)["spool"]
    assert row["ok"] is False and f"{other}: is open to every user, mode {mode:04o}, and not for the spool alone" in row["text"]
    assert row["remedy"].startswith("name a directory of its own with PSAPI_SPOOL") and "chmod" not in row["remedy"]
    tested = place.run("-t").stdout
    assert f"warning: spool {other}: is open to every user" in tested and "chmod" not in tested, tested
    assert "\033" not in tested
    assert other.stat().st_mode & 0o7777 == mode


@ROOT_ONLY
def test_spool_of_two_users(place, receiver):
    os.chown(place.spool.path / "new", pwd.getpwnam("nobody").pw_uid, 12345)
    assert_names(examine(place), "spool", mentions=["nobody", "chown -R"])


@ROOT_ONLY
def test_spool_read_only(place, receiver):
    mounted = subprocess.run(["mount", "--bind", place.spool.path, place.spool.path],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", place.spool.path], check=True)
        rows = examine(place)
    finally:
        subprocess.run(["umount", "--lazy", place.spool.path], check=True)
    assert_names(rows, "storing", mentions=["Read-only"])


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
@pytest.mark.parametrize("call, error, nth, says", [
    ("linkat", "EPERM", "1+", "cannot make a hard link: Operation not permitted"),
    ("writev", "EIO", "1", "cannot write a file: Input/output error"),
    ("fsync", "EIO", "1", "cannot sync it: Input/output error")])
def test_file_system_is_not_fit(place, receiver, call, error, nth, says):
    """A share or a FUSE mount without hard links; a disk that fails."""
    done = subprocess.run([*strace.command(call, f"error={error}", nth, place.dir / "strace.txt"), PSAPI,
                           "doctor", "--json"], env=place.environment(), capture_output=True, text=True,
                          timeout=60)
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert_names(rows, "storing", mentions=[says, "hard link" if "link" in says else "disk"])
    assert place.spool.left_in_tmp() == []


@ROOT_ONLY
def test_no_inodes(place, receiver):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=500,mode=2770", "psapi-test",
                              place.spool.path], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount here: {mounted.stderr.strip()}")
    try:
        receiver.stop()
        receiver.start()
        rows = examine(place, PSAPI_MIN_FREE=0)
    finally:
        receiver.stop()
        subprocess.run(["umount", "--lazy", place.spool.path], check=True)
    assert_names(rows, "space", mentions=["inodes free: an event is a file", "prune"])


def test_no_space(place, receiver):
    assert_names(examine(place, PSAPI_MIN_FREE=1 << 59), "space", mentions=["PSAPI_MIN_FREE", "prune"])


@pytest.mark.parametrize("what, says", [
    ("missing", "No such file"), ("empty", "holds no secret yet"), ("mode", "chmod 0640"),
    ("v1", "v1,")])
def test_secret(place, receiver, what, says):
    if what == "missing":
        place.secret_file.unlink()
    else:
        place.write_secret({"empty": "", "mode": SECRET, "v1": "v1," + SECRET}[what],
                           mode=0o644 if what == "mode" else 0o640)
    remedy = {"mode": "chmod 0640"}.get(what, "psapi secret add")
    assert_names(examine(place), "secret", mentions=[says, remedy])


@pytest.mark.parametrize("where", ["directory", "file", "executable"])
def test_handlers(place, receiver, where):
    directory = place.dir / "handlers"
    directory.mkdir()
    directory.chmod(0o777 if where == "directory" else 0o755)
    handler = directory / "default"
    handler.write_text("#!/bin/sh\n")
    handler.chmod({"file": 0o777, "executable": 0o644}.get(where, 0o755))
    rows = examine(place, PSAPI_HANDLERS=directory)
    assert_names(rows, "handlers", mentions=[str(directory)])


@pytest.mark.each_store
def test_no_receiver(place, socket):
    with Socket(place):     # makes the spool
        pass
    for one in place.receivers:
        one.stop()
    assert_names(examine(place), "socket", mentions=["start the receiver"])


def test_socket_that_another_made(place, receiver):
    """The configuration names no socket: spawn-fcgi, systemd."""
    where = place.settings.pop("PSAPI_LISTEN")
    assert examine(place)["receiver"]["ok"] is None
    for spelt in (where, where.removeprefix("unix:")):
        rows = examine(place, "--socket", spelt)
        assert_names(rows)
        assert rows["receiver"]["ok"] and rows["accepts"]["ok"]
    assert_names(examine(place, "--socket", "psapi.sock"), "configuration", mentions=["psapi.sock"])


def test_killed_receiver(place, receiver):
    receiver.kill()
    assert_names(examine(place), "receiver", mentions=["nobody listens", "psapi-fcgi -t"])


def test_receiver_hangs(place, receiver, socket):
    receiver.stop()
    with mute(socket):
        os.chmod(socket, 0o660)
        place.settings["PSAPI_LISTEN_GROUP"] = ""
        assert_names(examine(place), "receiver", mentions=["no answer in time"])


def test_socket_open_to_all(place, receiver, socket):
    os.chmod(socket, 0o666)
    assert_names(examine(place), "socket", mentions=["0660"])


@ROOT_ONLY
def test_socket_of_another_group(place, receiver, socket):
    os.chown(socket, 0, 12345)
    assert_names(examine(place), "socket", mentions=["PSAPI_LISTEN_GROUP"])


@pytest.mark.parametrize("where", ["directory", "above"])
def test_socket_in_a_closed_directory(place, where):
    """No web server of another user could connect; one of the receiver's user, or of the directory's group, could."""
    above = place.dir / "run"
    (above / "psapi").mkdir(parents=True)
    closed = above if where == "above" else above / "psapi"
    groups = [12345, os.getegid()] if os.geteuid() == 0 else [os.getegid()]
    place.settings |= {"PSAPI_LISTEN": f"unix:{above}/psapi/s.sock", "PSAPI_LISTEN_GROUP": str(groups[0])}
    Receiver(place, name="run/psapi/s").start()
    for group in groups:
        place.settings["PSAPI_LISTEN_GROUP"] = str(group)
        os.chown(above / "psapi" / "s.sock", -1, group)
        for mode, closes in ((0o700, True), (0o701, False), (0o710, group != os.getegid())):
            closed.chmod(mode)
            row = examine(place)["socket"]
            # The owner's own group: receiver and web server may be of one user.
            failed = closes and group != os.getegid() and mode == 0o700
            assert row["ok"] is not failed and ("remark" in row) is (closes and not failed), (group, oct(mode), row)
            if closes:
                assert f"{closed}: mode {mode:04o}, closed to group " in row["text"], row
                assert f"chmod o+x {closed}" in row["remedy"], row
    place.settings["PSAPI_LISTEN_GROUP"] = ""
    closed.chmod(0o700)
    row = examine(place)["socket"]
    assert row["ok"] and row["remark"] and "only as the directory's owner or in its group" in row["text"], row
    if os.geteuid() == 0:
        closed.chmod(0o710)
        os.chown(closed, 0, 12345)
        assert examine(place)["socket"]["remark"]


@pytest.mark.each_store
def test_receiver_with_another_secret(place, socket):
    other = place.dir / "other"
    other.write_text(OTHER_SECRET)
    other.chmod(0o600)
    Receiver(place, PSAPI_SECRET_FILE=other).start()
    assert_names(examine(place), "accepts", mentions=["signature_mismatch", "PSAPI_SECRET_FILE"])


def test_spool_that_was_replaced(place, receiver):
    """As a restore does, or a late mount: the receiver has the old directory, and no drain would see what it stores there.
    So it accepts nothing until its restart."""
    server = Socket(place)
    server.receiver = receiver
    assert_names(examine(place))
    old = place.dir / "old"
    place.spool.path.rename(old)
    wait_for(lambda: server.send(signed()).status == 503, "a second later it looks")
    shutil.copytree(old, place.spool.path)
    time.sleep(1.1)
    assert server.send(signed()).status == 503
    assert f"{place.spool.path}: was replaced, or mounted over, since the start" in receiver.log()
    assert_names(examine(place), "accepts", "deliveries", mentions=["spool_error", "directory was replaced since its start"])
    shutil.rmtree(place.spool.path)
    old.rename(place.spool.path)
    wait_for(lambda: server.send(signed()).status == 200, "the old one is back")
    assert_names(examine(place))


def test_receiver_without_secret(place, socket):
    Receiver(place, PSAPI_SECRET_FILE=place.dir / "none").start()
    assert_names(examine(place), "accepts", mentions=["no_secret", "chgrp"])


def test_receiver_with_another_spool(place, socket):
    with Socket(place):
        pass
    for one in place.receivers:
        one.stop()
    Receiver(place, PSAPI_SPOOL=place.dir / "another").start()
    assert_names(examine(place), "accepts", mentions=["PSAPI_SPOOL"])


def test_full_receiver(place, socket):
    Receiver(place, PSAPI_MIN_FREE=1 << 59).start()
    assert_names(examine(place), "accepts", mentions=["spool_full"])


@ROOT_ONLY
def test_root_looks_as_the_owner(place, socket):
    """Root can read files that the receiver cannot."""
    nobody = pwd.getpwnam("nobody").pw_uid
    with Socket(place):
        pass
    for folder, _, _ in os.walk(place.spool.path):
        os.chown(folder, nobody, -1)
    place.settings.pop("PSAPI_LISTEN")
    assert_names(examine(place), "secret", mentions=["Permission denied", "chgrp to its group"])
    assert "Checking as nobody" in psapi(place, "doctor", expect=1).stdout


@ROOT_ONLY
def test_somebody_else_looks(place, receiver):
    """What is denied to somebody else is no fault of what is installed: one failed check says as whom to look."""
    nobody = pwd.getpwnam("nobody")
    copy = shutil.copy(PSAPI, place.dir / "psapi")     # where nobody may run it
    done = subprocess.run([copy, "doctor", "--json"], env=place.environment(), user=nobody.pw_uid,
                          group=nobody.pw_gid, extra_groups=[], capture_output=True, text=True,
                          timeout=60)
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 1, done
    assert_names(rows, "spool", mentions=["run doctor as root, or as that user"])
    for check in ("secret", "receiver"):
        assert rows[check]["ok"] is None and "Permission denied" in rows[check]["text"]


# ---- what has happened ----

def attempt(ago, **more):
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - ago))
    return json.dumps({"at": at, "outcome": "accepted", "status": 200, "webhook_id": "x",
                       "type": "producersync.updates_available", "skew_s": 0, "key": "00000000",
                       "ms": 1.0} | more, separators=(",", ":")) + "\n"


@pytest.mark.parametrize("skew", [-200, 250])
def test_clock(place, receiver, skew):
    (place.spool.path / "attempts.jsonl").write_text(
        attempt(60, skew_s=0) + attempt(50, skew_s=skew) + attempt(40, skew_s=skew))
    assert_names(examine(place), "clock",
                 mentions=["behind" if skew < 0 else "ahead", "200" if skew < 0 else "250", "chrony"])


def test_clock_of_late(place, receiver):
    """The last few attempts count more than the older ones."""
    log = place.spool.path / "attempts.jsonl"
    log.write_text(attempt(90000) * 40 + attempt(50, skew_s=900, status=401, outcome="rejected") * 3)
    assert_names(examine(place), "clock", "deliveries", mentions=["900 s ahead"])
    log.write_text(log.read_text() + attempt(40) * 3)
    assert_names(examine(place))


@pytest.mark.each_store
def test_own_deliveries_do_not_count(place, receiver):
    """Deliveries of `send` and `doctor` count neither for the clock nor for the daily event."""
    with nginx(place, SERVER.replace("LINE", "")) as port:
        psapi(place, "send", URL % port)
        psapi(place, "send", "--stale", URL % port)
        rows = examine(place, URL % port)
    ours = place.spool.attempts()
    assert 86400 in {line.get("skew_s") for line in ours if "key" in line}
    assert all(line["webhook_id"].startswith("msg_psapi") for line in ours if "key" in line)
    assert_names(rows)
    assert rows["clock"]["ok"] is None and rows["daily"]["ok"] is None


@pytest.mark.each_store
def test_forgeries_do_not_count_for_the_clock(place, receiver):
    (place.spool.path / "attempts.jsonl").write_text(
        attempt(60) + "".join(attempt(50, skew_s=9999, key=None) for _ in range(9)).replace(
            ',"key":null', ""))
    assert_names(examine(place))


# ---- what was really delivered ----

def refused(ago, reason="signature_mismatch", **more):
    return attempt(ago, outcome="rejected", status=401, reason=reason, **more).replace(
        '"type":"producersync.updates_available","skew_s":0,"key":"00000000",', "")


def authentic(ago, reason="stale_timestamp"):
    """Refused, though a secret matched."""
    return attempt(ago, outcome="rejected", status=401, reason=reason)


def test_deliveries_were_refused(place, receiver):
    """The wrong endpoint's secret: doctor's own probe is accepted, what really comes is not."""
    server = Socket(place)
    server.receiver = receiver
    for _ in range(3):
        assert server.send(signed(secrets=[OTHER_SECRET])).status == 401
    rows = examine(place)
    assert_names(rows, "deliveries", mentions=["psapi secret list"])
    assert rows["accepts"]["ok"]
    assert re.fullmatch(r"3 deliveries since (\d{4}-\d\d-\d\d )?\d\d:\d\d UTC were refused: signature_mismatch; none accepted yet",
                        rows["deliveries"]["text"]), rows["deliveries"]
    # Now the right one arrives.
    assert_accepted(server.send(signed()))
    assert "accepted 0.0 h ago" in examine(place)["deliveries"]["text"]


REASONS = {"signature_mismatch": "psapi secret add", "stale_timestamp": "timedatectl",
           "future_timestamp": "timedatectl", "missing_header": "drops headers", "malformed_header": "doubles headers",
           "unsupported_encoding": "compresses", "truncated_body": "ends uploads early",
           "body_too_large": "PSAPI_MAX_BODY", "no_secret": "psapi secret add", "spool_full": "make room",
           "spool_error": "storing", "something_new": "psapi attempts"}


@pytest.mark.parametrize("reason", REASONS)
def test_deliveries_each_reason(place, receiver, reason):
    (place.spool.path / "attempts.jsonl").write_text(refused(60, reason))
    assert_names(examine(place), "deliveries",
                 mentions=[f"1 delivery since", f"was refused: {reason}; none accepted yet", REASONS[reason]])


# The lines are made when the test runs: their times count from then.
@pytest.mark.parametrize("lines, result, says", [
    (lambda: [], None, "none yet"),
    (lambda: [attempt(7200)], True, "accepted 2.0 h ago"),
    (lambda: [refused(9000), refused(8000), refused(7000), attempt(3600)], True, "accepted 1.0 h ago"),
    # After the last accepted one: a single request may be anybody's.
    (lambda: [attempt(7200), refused(60)], "remark", "1 request(s) with an id since"),
    (lambda: [attempt(7200), authentic(60)], False, "1 delivery since"),
    (lambda: [attempt(7200), refused(90), refused(80, "missing_header"), refused(60)], False,
     "were refused: signature_mismatch, missing_header; the last one accepted came 2.0 h ago"),
    # Long ago: only while nothing was accepted.
    (lambda: [attempt(90 * 3600)] + [refused(80 * 3600)] * 5, True, "accepted 90.0 h ago"),
    (lambda: [refused(80 * 3600)] * 5, False, "5 deliveries since 20"),
    # Not meant as deliveries.
    (lambda: [refused(60, "method_not_allowed").replace('"webhook_id":"x",', "")] * 5, None, "none yet"),
    (lambda: [refused(60).replace('"x"', '"msg_psapi1"')] * 5, None, "none yet"),
    # A torn line.
    (lambda: [attempt(7200), refused(60)[:40] + "\n"], True, "accepted 2.0 h ago"),
])
def test_deliveries(place, receiver, lines, result, says):
    (place.spool.path / "attempts.jsonl").write_text("".join(lines()))
    row = examine(place, PSAPI_HANDLERS="/none")["deliveries"]
    assert ("remark" if row.get("remark") else row["ok"]) == result and says in row["text"], row


@pytest.mark.parametrize("rotated", ["attempts.jsonl.1", "attempts.jsonl-20260131", "attempts.jsonl-2026013123",
                                     "attempts.jsonl.3"])
def test_look_back_goes_on(place, receiver, rotated):
    """Thousands of probes, and a rotation, lie between now and the last authentic delivery."""
    (place.spool.path / rotated).write_text(attempt(7200, skew_s=2))
    (place.spool.path / "attempts.jsonl").write_text(
        refused(60, "method_not_allowed").replace('"webhook_id":"x",', "") * 12_500)
    rows = examine(place)
    assert_names(rows)
    assert "2 s off" in rows["clock"]["text"] and "2.0 h ago" in rows["daily"]["text"]
    assert "accepted 2.0 h ago" in rows["deliveries"]["text"]
    done = psapi(place, "secret", "list")
    assert "The attempts log begins at" in done.stdout


def test_compressed_logs_are_named(place, receiver):
    (place.spool.path / "attempts.jsonl").write_text(attempt(7200))
    (place.spool.path / "attempts.jsonl.2.gz").write_bytes(b"?")
    row = examine(place)["log"]
    assert row["ok"] and "1 compressed one(s) are not read" in row["text"]


def test_what_was_counted_of_a_compressed_log(place, receiver):
    """logrotate compresses it after a week: doctor knows what check knows, and one refusal is no outage."""
    log = place.spool.path / "attempts.jsonl"
    log.write_text(attempt(480 * 3600))
    subprocess.run([PSAPI, "check"], env=place.environment(), capture_output=True)
    log.rename(place.spool.path / "attempts.jsonl.2")
    subprocess.run(["gzip", place.spool.path / "attempts.jsonl.2"], check=True)
    log.write_text("")
    rows = examine(place)
    assert "accepted 480.0 h ago" in rows["deliveries"]["text"], rows["deliveries"]
    assert_names(rows, "daily", mentions=["480.0 h", "portal"])
    log.write_text(refused(60))
    row = examine(place)["deliveries"]
    assert row["remark"] and "the last one accepted came 480.0 h ago" in row["text"], row


# ---- the log ----

@ROOT_ONLY
def test_log_of_another_owner(place, receiver):
    """Rotated by root with `create`: attempts go unlogged."""
    log = place.spool.path / "attempts.jsonl"
    log.touch()
    log.chmod(0o640)
    os.chown(log, 12345, 12345)
    rows = examine(place)
    assert_names(rows, "log", mentions=["of user 12345,", "chown root", "logrotate"])


def test_log_that_is_not_written(place, receiver):
    """Whatever the cause: the receiver's last write is tried."""
    receiver.stop()
    log = place.spool.path / "attempts.jsonl"
    log.write_text(attempt(60) * 1000)
    receiver.start()
    subprocess.run(["prlimit", f"--fsize={log.stat().st_size}", "-p", str(receiver.pid)], check=True)
    rows = examine(place)
    assert "attempts go unlogged" in receiver.log()
    assert_names(rows, "log", mentions=["did not write what it has just accepted"])


@pytest.mark.parametrize("what", ["directory", "read-only"])
def test_log_cannot_be_used(place, receiver, what):
    log = place.spool.path / "attempts.jsonl"
    if what == "directory":
        log.mkdir()
    else:
        log.touch()
        log.chmod(0o440)
    rows = examine(place)
    assert_names(rows, "log", mentions=["no regular file" if what == "directory" else "mode 0440"])


# ---- drain ----

@pytest.fixture
def handlers(place):
    place.settings["PSAPI_HANDLERS"] = place.dir / "handlers"
    (place.dir / "handlers").mkdir(mode=0o755)
    (place.dir / "handlers" / "default").write_text("#!/bin/sh\n")
    (place.dir / "handlers" / "default").chmod(0o755)
    return place.dir / "handlers"


def test_drain_has_run(place, receiver, handlers):
    server = Socket(place)
    server.receiver = receiver
    assert examine(place)["drain"]["ok"] is None
    assert_accepted(server.send(signed()))
    row = examine(place)["drain"]
    assert row["remark"] and "never run; 1 event(s)" in row["text"] and "cron" in row["remedy"], row
    psapi(place, "drain")
    rows = examine(place)
    assert_names(rows)
    assert "last ran at 20" in rows["drain"]["text"]
    (place.spool.path / "state" / "drain").write_text("2026-01-02T03:04:05Z\n")
    assert_names(examine(place), "drain", mentions=["last ran at 2026-01-02T03:04:05Z"])
    (place.spool.path / "state" / "drain").write_text("2126-01-02T03:04:05Z\n")
    assert_names(examine(place), "drain", mentions=["2126-01-02T03:04:05Z, in the future", "was the clock wrong"])
    up = float(Path("/proc/uptime").read_text().split()[0])     # that long psapi check waits after a boot
    for ago, remarked in ((400, False), (660, True)):       # the limit of psapi check
        (place.spool.path / "state" / "drain").write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime(time.time() - ago)))
        rows = examine(place)
        assert_names(rows)
        assert rows["drain"].get("remark", False) == remarked, rows["drain"]
        done = subprocess.run([PSAPI, "check"], env=place.environment(), capture_output=True, text=True)
        assert ("drain: psapi drain was not at work" in done.stdout) == (remarked and up > 600), done
    assert re.search(r"11\.\d min ago: psapi check calls that critical by default", rows["drain"]["text"])
    shutil.rmtree(handlers)
    assert examine(place)["drain"]["ok"] is None


@pytest.mark.each_store
def test_daily(place, receiver):
    log = place.spool.path / "attempts.jsonl"
    log.write_text(attempt(27 * 3600))
    assert_names(examine(place), "daily", mentions=["27.0 h", "portal"])
    (place.spool.path / "attempts.jsonl.1").write_text(attempt(25 * 3600))
    log.write_text(attempt(3600, type="producersync.npn.activated"))
    assert_names(examine(place))
    (place.spool.path / "attempts.jsonl.1").unlink()
    log.write_text(attempt(40 * 3600, type="producersync.npn.activated"))
    assert_names(examine(place), "daily", mentions=["40.0 h"])
    scan = json.dumps({"at": json.loads(attempt(90 * 3600))["at"], "outcome": "rejected", "status": 405}) + "\n"
    log.write_text(scan + attempt(3600, type="producersync.npn.activated"))
    assert examine(place)["daily"]["ok"] is None, "what came before the first event does not count"


def test_mistyped_variable(place, receiver):
    row = examine(place, PSAPI_TOLERENCE="1")["configuration"]
    assert row["remark"] and row["text"] == "PSAPI_TOLERENCE (environment): no such setting", row
    assert "did you mean PSAPI_TOLERANCE?" in row["remedy"]


@pytest.mark.parametrize("what", ["directory", "device"])
def test_secret_that_is_no_file(place, receiver, what):
    """psapi secret add refuses it, so that is not the first remedy."""
    place.secret_file.unlink()
    if what == "directory":
        place.secret_file.mkdir()
    else:
        place.secret_file.symlink_to("/dev/null")
    row = examine(place)["secret"]
    assert row["ok"] is False and row["text"] == f"{place.secret_file}: is not a regular file"
    assert row["remedy"] == "move it away: then psapi secret add makes a file"
    place.secret_file.rename(place.dir / "away")
    subprocess.run([PSAPI, "secret", "add"], env=place.environment(), input=SECRET, text=True, check=True,
                   capture_output=True)
    assert examine(place)["secret"]["ok"] is True


def test_secret_with_a_bad_line(place, receiver):
    """It is said once, in the row: nothing is on standard error."""
    place.write_secret("whpk_abc", SECRET, "short")
    done = subprocess.run([PSAPI, "doctor"], env=place.environment(), text=True, capture_output=True)
    assert done.stderr == "" and done.stdout.count("is a public key") == 1, done
    row = examine(place)["secret"]
    assert row["ok"] and row["remark"] and ":1: is a public key (whpk_)" in row["text"]
    assert row["text"].endswith(", and 1 more such line(s)")
    assert row["remedy"] == "correct or remove that line: the other secrets are in force"
    place.write_secret("whpk_abc")
    done = subprocess.run([PSAPI, "doctor"], env=place.environment(), text=True, capture_output=True)
    assert done.stderr == "" and done.stdout.count("is a public key") == 1, done


STRANGERS = {
    "copy": lambda new, event: shutil.copy(event, new / "backup.json"),
    "copy of a backup": lambda new, event: (shutil.copy(event, new / "x"), event.unlink(), (new / "x").rename(event),
                                            os.utime(event, (time.time() - 120,) * 2)),
    "other name": lambda new, event: shutil.copy(event, new / "notes.txt"),
    "empty": lambda new, event: (new / "msg_empty.json").touch(),
    "directory": lambda new, event: (new / "old\033x").mkdir(),
    "FIFO": lambda new, event: os.mkfifo(new / "msg_fifo.json"),
    "link": lambda new, event: (new / "msg_link.json").symlink_to(event)}
WHY = {"copy": "backup.json: it holds an event with another webhook-id than its name says",
       "copy of a backup": "it is not the file of this name in events/", "other name": "notes.txt: it is not named as events are",
       "empty": "msg_empty.json: it is empty", "directory": "it is not named as events are",
       "FIFO": "msg_fifo.json: it is no regular file", "link": "msg_link.json: it is a symbolic link"}


@pytest.mark.parametrize("what", STRANGERS)
def test_files_in_new_that_are_no_events(place, receiver, what):
    """They are named, and count neither as waiting nor as overdue."""
    server = Socket(place)
    server.receiver = receiver
    assert_accepted(server.send(signed()))
    assert examine(place)["unrecognised"]["text"] == "all files in new/ are events"
    new = place.spool.path / "new"
    (event,) = new.iterdir()
    STRANGERS[what](new, event)
    rows = examine(place)
    assert_names(rows)
    row = rows["unrecognised"]
    assert row["remark"] and row["text"].startswith("1 file(s) in new/ are no events: ") and WHY[what] in row["text"], row
    assert "move them away" in row["remedy"]
    waiting = 0 if what == "copy of a backup" else 1
    assert rows["backlog"]["text"] == f"{waiting} event(s) in new/" + waiting * ", the oldest for 0.0 h"
    assert "\033" not in psapi(place, "doctor", expect=None).stdout
    assert f"waiting={waiting};" in psapi(place, "check", expect=None).stdout
    assert re.search(rf"^psapi_events_waiting{{.*}} {waiting}$", psapi(place, "metrics").stdout, re.M)
    place.tidy = False


@pytest.mark.each_store
def test_leftovers(place, receiver):
    place.tidy = False
    left = place.spool.path / "tmp" / "1.000000002.3.4"
    left.write_text("")
    foreign = left.with_name("photo.jpg")   # drain does not remove it
    foreign.write_text("")
    os.utime(foreign, (time.time() - 7200,) * 2)
    assert_names(examine(place))
    os.utime(left, (time.time() - 7200,) * 2)
    assert_names(examine(place), "leftovers", mentions=["1 file(s)", "drain"])


@pytest.mark.each_store
def test_failed(place, receiver):
    server = Socket(place)
    server.receiver = receiver
    assert server.send(signed(b"no JSON")).status == 200
    assert_names(examine(place), "failed", mentions=["1 event(s)", "psapi list --failed"])


@pytest.mark.each_store
def test_held(place, socket):
    place.write_secret("")
    server = Socket(place)
    server.start()
    assert server.send(signed(secrets=[OTHER_SECRET])).word == "held"
    assert_names(examine(place), "secret", "hold", mentions=["psapi adopt"])
    place.write_secret(SECRET)
    assert_names(examine(place), "hold", mentions=["--discard"])


# ---- from outside: nginx ----

def with_line(line):
    return SERVER.replace("LINE", line)


# Only the first of doctor's requests.
UNSIGNED_POST = "map $request_method$http_webhook_signature $unsigned { default 0; POST 1; } "
NGINX = {
    # what -> (configuration, the check that names it, words)
    "no location": ("server { listen 127.0.0.1:%(port)d; root %(dir)s/www; }", "answer",
                    ["404", "no location"]),
    "a file of its own": (
        "server { listen 127.0.0.1:%(port)d; root %(dir)s/www; "
        "location / { try_files /there.html =404; } }", "answer", ["405", "fastcgi_pass"]),
    "denied": (with_line("deny all;"), "answer", ["403", "deny"]),
    "password": (with_line('auth_basic "x"; auth_basic_user_file /dev/null;'), "answer",
                 ["401", "auth_basic off"]),
    "no such socket": (SERVER.replace("%(socket)s", "%(dir)s/none.sock").replace("LINE", ""),
                       "answer", ["502", "PSAPI_LISTEN"]),
    "time-out": (SERVER.replace("%(socket)s", "%(dir)s/mute.sock").replace(
        "LINE", "fastcgi_read_timeout 1s;"), "answer", ["504", "fastcgi_read_timeout"]),
    "another answers": ("server { listen 127.0.0.1:%(port)d; location / { return 200 hello; } }",
                        "answer", ["200", "not psapi-fcgi"]),
    "small bodies are too large": (SERVER.replace("2m", "1").replace("LINE", ""), "answer",
                                   ["413", "client_max_body_size"]),
    "rate": ("limit_req_zone $binary_remote_addr zone=z:1m rate=1r/m; "
             + with_line("limit_req zone=z burst=1 nodelay; limit_req_status 429;"), "headers",
             ["429", "limit_req"]),
    "redirect": (with_line("return 301 https://elsewhere.example$request_uri;"), "redirect",
                 ["301", "https://elsewhere.example/webhooks/psapi", "return 301"]),
    "no headers": (with_line("fastcgi_pass_request_headers off;"), "headers",
                   ["webhook-id", "fastcgi_pass_request_headers"]),
    "one header": (with_line('fastcgi_param HTTP_WEBHOOK_SIGNATURE "";'), "headers",
                   ["webhook-signature", "fastcgi_param HTTP_WEBHOOK"]),
    "no body": (with_line("fastcgi_pass_request_body off;"), "body",
                ["fastcgi_pass_request_body"]),
    "another body": (
        "server { listen 127.0.0.1:%(port)d; client_max_body_size 2m; location / { "
        "proxy_pass http://unix:%(dir)s/inner.sock:; proxy_set_body '{\"a\":1}'; } } "
        + SERVER.replace("127.0.0.1:%(port)d", "unix:%(dir)s/inner.sock").replace("LINE", ""),
        "body", ["7 arrived", "proxy_set_body"]),
    "GET": (with_line("if ($request_method = GET) { return 200 hello; }"), "get-refused", ["200"]),
    "unsigned": (UNSIGNED_POST + with_line("if ($unsigned) { return 200 '{\"status\":\"accepted\"}'; }"),
                 "unsigned-refused", ["200"]),
    "large bodies": (SERVER.replace("2m", "100k").replace("LINE", ""), "size",
                     ["413", "client_max_body_size 2m"]),
    "slow": (UNSIGNED_POST + with_line("if ($unsigned) { set $limit_rate 40; }"), "latency",
             ["gives up after 5 s", "limit_rate"]),
}


@pytest.mark.parametrize("what", NGINX)
def test_nginx(place, receiver, what):
    configuration, fault, words = NGINX[what]
    (place.dir / "www").mkdir()
    (place.dir / "www" / "there.html").write_text("hello")
    with mute(place.dir / "mute.sock"), nginx(place, configuration) as port:
        rows = examine(place, URL % port)
    assert_names(rows, fault, mentions=words)


@ROOT_ONLY
def test_nginx_may_not_use_the_socket(place, socket):
    place.settings["PSAPI_LISTEN_GROUP"] = "0"
    Receiver(place).start()
    with nginx(place, SERVER.replace("LINE", "")) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "answer", mentions=["502", "PSAPI_LISTEN_GROUP"])


def test_two_spools_behind_one_url(place, receiver):
    Receiver(place, "psapi-2", PSAPI_SPOOL=place.dir / "spool-2").start()
    balanced = ("upstream both { server unix:%(dir)s/psapi.sock; server unix:%(dir)s/psapi-2.sock; }"
                + SERVER.replace("unix:%(socket)s", "both").replace("LINE", ""))
    with nginx(place, balanced) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "again-duplicate", mentions=["two spools"])


def test_tolerance(place, socket):
    Receiver(place, PSAPI_TOLERANCE=1000000).start()
    with nginx(place, SERVER.replace("LINE", "")) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "stale-refused", mentions=["PSAPI_TOLERANCE"])


def test_limit_of_the_receiver(place, socket):
    Receiver(place, PSAPI_MAX_BODY=100000).start()
    with nginx(place, SERVER.replace("LINE", "")) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "size", mentions=["PSAPI_MAX_BODY"])


def test_url_of_another_endpoint(place, receiver):
    """The URL leads to another receiver, with another secret; the socket to the right one."""
    other = place.dir / "other"
    other.write_text(OTHER_SECRET)
    other.chmod(0o600)
    Receiver(place, "another", PSAPI_SECRET_FILE=other, PSAPI_SPOOL=place.dir / "spool-2",
             PSAPI_LISTEN=f"unix:{place.dir}/another.sock").start()
    with nginx(place, SERVER.replace("%(socket)s", "%(dir)s/another.sock").replace("LINE", "")) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "body", mentions=["another receiver"])


def test_wrong_secret_and_no_socket(place):
    """If doctor cannot ask the receiver directly, the secret is the most likely cause."""
    other = place.dir / "other"
    other.write_text(OTHER_SECRET)
    other.chmod(0o600)
    Receiver(place, PSAPI_SECRET_FILE=other).start()
    with nginx(place, SERVER.replace("LINE", "")) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "signed-accepted", mentions=["signature_mismatch", "psapi secret list"])


def test_nothing_is_verified(place, receiver):
    """An endpoint that answers `accepted` to every request."""
    with listening(lambda request, n: (200, {}, b'{"status":"accepted"}')) as listener:
        rows = examine(place, listener.url)
    assert {name for name, row in rows.items() if row["ok"] is False} >= \
        {"unsigned-refused", "again-duplicate", "tampered-refused", "stale-refused"}


# ---- from outside: Apache ----

APACHE = {
    "no ProxyPass": ("", (), "answer", ["404", "no ProxyPass"]),
    "a file of its own": ("Alias /webhooks/psapi %(dir)s/www/there.html", ("alias",), "answer",
                          ["psapi-fcgi"]),
    "denied": (PROXY.replace("LINE", "Require all denied"), (), "answer",
               ["403", "Require all granted"]),
    "password": (PROXY.replace("LINE", "AuthType Basic\nAuthName x\nAuthUserFile /dev/null\n"
                               "Require valid-user"),
                 ("auth_basic", "authn_file", "authz_user"), "answer", ["401", "AuthType None"]),
    "no such socket": (PROXY.replace("%(socket)s", "%(dir)s/none.sock").replace("LINE", ""), (),
                       "answer", ["503", "PSAPI_LISTEN"]),
    "another protocol": (PROXY.replace("fcgi:", "http:").replace("LINE", ""), ("proxy_http",), "answer",
                         ["502", "fcgi://"]),
    "GET": ("RewriteEngine on\nRewriteCond %%{REQUEST_METHOD} =GET\n"
            "RewriteRule ^/webhooks/psapi$ %(dir)s/www/there.html [L]\n"
            + PROXY.replace("LINE", ""), ("rewrite",), "get-refused", ["200"]),
    "time-out": ("ProxyTimeout 1\n" + PROXY.replace("%(socket)s", "%(dir)s/mute.sock").replace(
        "LINE", ""), (), "answer", ["504", "ProxyTimeout"]),
    "redirect": ("RewriteEngine on\nRewriteRule ^/webhooks/psapi$ https://%%{SERVER_NAME}/ "
                 "[R=302,L]", ("rewrite",), "redirect", ["302", "RewriteRule"]),
    "one header": (PROXY.replace("LINE", "RequestHeader unset webhook-timestamp early"
                                 ).replace("<Location", "RequestHeader unset webhook-timestamp early"
                                           "\n<Location").replace("/\n    RequestHeader unset "
                                                                  "webhook-timestamp early", "/"),
                   ("headers",), "headers", ["webhook-timestamp", "RequestHeader"]),
    "another body": (PROXY.replace("LINE", 'SetInputFilter Sed\nInputSed "s/psapi.doctor/other/"'),
                     ("sed", "filter"), "body", ["InputSed"]),
}


@pytest.mark.parametrize("what", APACHE)
def test_apache(place, receiver, what):
    configuration, modules, fault, words = APACHE[what]
    (place.dir / "www").mkdir()
    (place.dir / "www" / "there.html").write_text("hello")
    with mute(place.dir / "mute.sock"), apache(place, configuration, modules) as port:
        rows = examine(place, URL % port)
    assert_names(rows, fault, mentions=words)


def of_apache(place):
    """Spool, secret and binary for a receiver that Apache starts."""
    web = pwd.getpwnam(WEB_USER)
    for folder, _, names in os.walk(place.spool.path):
        for name in ("", *names):
            os.chown(os.path.join(folder, name), web.pw_uid, web.pw_gid)
    os.chown(place.secret_file, 0, web.pw_gid)
    (place.dir / "www").mkdir()
    os.chown(place.dir / "www", web.pw_uid, web.pw_gid)
    return shutil.copy(BINARY, place.dir / "www-psapi-fcgi")


@ROOT_ONLY
@pytest.mark.parametrize("limit, fault", [(1, "answer"), (100000, "size")])
def test_cgi_with_a_limit(place, receiver, limit, fault):
    """LimitRequestBody does not apply to proxied requests."""
    binary = of_apache(place)
    configuration = f"""
        ScriptSock {place.dir}/cgid.sock
        ScriptAlias /webhooks/psapi {binary}
        <Location /webhooks/psapi>
            SetEnv PSAPI_CONF {place.conf}
            SetEnv PSAPI_SPOOL {place.spool.path}
            SetEnv PSAPI_SECRET_FILE {place.secret_file}
            Require all granted
            LimitRequestBody {limit}
        </Location>"""
    with apache(place, configuration, ("cgid", "alias", "env")) as port:
        wait_for(lambda: any(place.dir.glob("cgid.sock*")), "the daemon of mod_cgid listens")
        rows = examine(place, URL % port)
    assert_names(rows, fault, mentions=["413", "LimitRequestBody 2097152"])


@ROOT_ONLY
def test_mod_fcgid_with_its_own_limit(place, receiver):
    """131,072 bytes by default; the answer is 500."""
    binary = of_apache(place)
    configuration = f"""
        FcgidIPCDir {place.dir}/www
        FcgidProcessTableFile {place.dir}/www/table
        FcgidInitialEnv PSAPI_CONF {place.conf}
        FcgidInitialEnv PSAPI_SPOOL {place.spool.path}
        FcgidInitialEnv PSAPI_SECRET_FILE {place.secret_file}
        Mutex file:{place.dir}/www
        ScriptAlias /webhooks/psapi {binary}
        <Location /webhooks/psapi>
            SetHandler fcgid-script
            Options +ExecCGI
            Require all granted
        </Location>"""
    with apache(place, configuration, ("fcgid", "alias")) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "size", mentions=["500", "FcgidMaxRequestLen 2097152"])


# ---- from outside: name, connection, TLS ----

def test_url_is_not_https(place, receiver):
    assert_names(examine(place, "http://webhooks.invalid/"), "url", "name", mentions=["https"])


def test_no_url(place, receiver):
    assert_names(examine(place, "webhooks/psapi"), "url")


def test_url_of_the_configuration(place, receiver):
    """It is checked as an argument is; an argument counts before it, and an empty setting is none."""
    place.settings["PSAPI_ENDPOINT_URL"] = "https://webhooks.invalid/webhooks/psapi"
    assert_names(examine(place), "name", mentions=["webhooks.invalid", "AAAA"])
    assert_names(examine(place, "https://localhost:1/"), "connection", mentions=["firewall"])
    assert "url" not in examine(place, "-o", "PSAPI_ENDPOINT_URL=")
    place.settings["PSAPI_ENDPOINT_URL"] = "http://webhooks.invalid/"
    assert_names(examine(place), "url", "name", mentions=["PSAPI_ENDPOINT_URL"])


def test_name(place, receiver):
    assert_names(examine(place, "https://webhooks.invalid/webhooks/psapi"), "name",
                 mentions=["webhooks.invalid", "AAAA"])


def examine_with_hosts(place, hosts, url, *arguments):
    """doctor, with names of the test's own in /etc/hosts."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    file = place.dir / "hosts"
    file.write_text("127.0.0.1 localhost\n" + hosts)
    done = subprocess.run(["unshare", "-m", "sh", "-c", 'mount --bind "$1" /etc/hosts && shift && exec "$@"', "sh", file,
                           PSAPI, "doctor", "--json", *arguments, url], env=place.environment(), capture_output=True,
                          text=True, timeout=60)
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    return {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("address, why", [
    ("127.0.0.1", "this machine itself"), ("10.1.2.3", "a private address"), ("172.16.0.1", "a private address"),
    ("172.31.255.1", "a private address"), ("192.168.1.1", "a private address"), ("fd00::1", "a private address"),
    ("169.254.1.1", "an address of one link"), ("172.32.0.1", None), ("203.0.113.1", None), ("2001:db8::1", None)])
def test_name_that_is_not_public_here(place, socket, address, why):
    """Then doctor does not see what the sender sees: a remark."""
    row = examine_with_hosts(place, f"{address} hooks.test\n", "https://hooks.test:1/")["name"]
    assert row["text"].startswith(f"hooks.test is {address}"), row
    assert row["ok"] and row.get("remark", False) == (why is not None), row
    assert why is None or (why in row["text"] and "/etc/hosts" in row["remedy"])


@pytest.mark.parametrize("hosts, text", [
    ("127.0.0.1 hooks.test\n", "there is one"),
    ("127.0.0.1 hooks.test\n127.0.0.2 hooks.test\n", "127.0.0.2: Failed to connect"),
    ("127.0.0.2 hooks.test\n127.0.0.1 hooks.test\n", "127.0.0.2: Failed to connect"),
    ("127.0.0.1 hooks.test\n127.0.0.3 hooks.test\n", "127.0.0.3: HTTP 404 by nginx"),
    ("127.0.0.1 hooks.test\n127.0.0.4 hooks.test\n", "the same answer at each of 2"),
])
def test_each_address_is_tried(place, receiver, hosts, text):
    """The sender may take any of them."""
    others = """ server { listen 127.0.0.3:%(port)d; location / { return 404; } }
                 server { listen 127.0.0.4:%(port)d; """ + LOCATION.replace("LINE", "") + "}"
    with nginx(place, SERVER.replace("LINE", "") + others) as port:
        row = examine_with_hosts(place, hosts, f"http://hooks.test:{port}/webhooks/psapi")["addresses"]
    assert text in row["text"], row
    assert row["ok"] == {"there is one": True, "the same answer at each of 2": True}.get(text, False)
    assert row["ok"] is not False or "AAAA" in row["remedy"]


def test_nobody_listens(place, receiver):
    assert not listens(1)
    assert_names(examine(place, "https://localhost:1/"), "connection", mentions=["firewall"])


TLS = SERVER.replace("%(port)d;", "%(port)d ssl; ssl_certificate %(dir)s/cert.pem; "
                     "ssl_certificate_key %(dir)s/key.pem;").replace("LINE", "")
HTTPS = URL.replace("http:", "https:")


def test_tls(place, receiver):
    cert = make_certificate(place.dir)
    with nginx(place, TLS) as port:
        rows = examine(place, "--cacert", cert, HTTPS % port)
    assert_names(rows)
    assert re.search("(89|90) more days", rows["certificate"]["text"])


@pytest.mark.parametrize("what, options, trusted, says", [
    ("expired", {"start": "20200101000000Z", "end": "20210101000000Z"}, True, "expired"),
    ("another name", {"name": "elsewhere.example"}, True, "subject name matches"),
    ("nobody's authority", {}, False, "self.signed"),
    ("soon to expire", {"days": 5}, True, "[45] more day"),
])
def test_certificate(place, receiver, what, options, trusted, says):
    """The fault is named, and the other checks are made."""
    cert = make_certificate(place.dir, **options)
    with nginx(place, TLS) as port:
        rows = examine(place, *(["--cacert", cert] if trusted else []), HTTPS % port)
    assert_names(rows, "certificate")
    assert re.search(says, rows["certificate"]["text"])
    assert rows["signed-accepted"]["ok"] is True


def test_no_tls_there(place, receiver):
    with nginx(place, SERVER.replace("LINE", "")) as port:
        rows = examine(place, HTTPS % port)
    assert_names(rows, "certificate")


def test_plain_http_to_tls(place, receiver):
    make_certificate(place.dir)
    with nginx(place, TLS) as port:
        rows = examine(place, URL % port)
    assert_names(rows, "answer", mentions=["400", "TLS"])


def test_misused(place):
    assert "psapi help doctor" in psapi(place, "doctor", "a", "b", expect=64).stderr
