"""`psapi check --mail`: a person is told of each change, once, and never of nothing. The mails go through sendmail's
interface, in one test through the real msmtp; a heartbeat service is told each time."""

import http.server
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

import mailbox as mailboxes
import strace
from psapi_command import PSAPI, Desk, body, updates
from receiver import Receiver, wait_for
from sender import OTHER_SECRET, signed
from servers import Socket
from spool import fill
from test_disk import small_disk      # noqa: F401  a fixture
from test_metrics import HOSTILE, line


class Post(Desk):
    """A desk on a host with a receiver, handlers, and a sendmail."""

    def __init__(self, place):
        super().__init__(place)
        self.mailbox = mailboxes.Mailbox(place.dir / "mail")
        self.server = Socket(place)
        self.listen()

    def listen(self):
        self.server.receiver = Receiver(self.place).start()
        self.place.settings["PSAPI_LISTEN"] = f"unix:{self.server.receiver.path}"

    def environment(self, extra=None):
        env = super().environment(extra)
        return env | {"PATH": f"{self.mailbox.dir}:{env['PATH']}"} if extra is None else env

    def check(self, *arguments, expect=None, **more):
        """The way of psapi-check.service. Silent, but for what only the journal can be told."""
        done = self.run("check", "--mail", *arguments, expect=expect, **more)
        assert done.stdout == ""
        return done

    def hears(self, *arguments, **more):
        """The one mail that a check sends, and no word beside it."""
        assert self.check(*arguments, **more).stderr == ""
        return self.mailbox.only()

    def silent(self, *arguments, **more):
        assert self.check(*arguments, **more).stderr == ""
        assert self.mailbox.mails() == []

    def good(self, *bodies):
        for one in bodies or (updates(1),):
            assert self.server.send(signed(one)).status == 200


@pytest.fixture
def post(place):
    post = Post(place)
    yield post
    post.close()


def text(mail):
    return mail.get_content()


# ---- changes ----

@pytest.mark.each_store
def test_once_when_bad_and_once_when_well(post):
    post.good()
    post.silent()
    post.good(b"no JSON")
    mail = post.hears()
    host = os.uname().nodename
    assert mail["To"] == "root" and mail["Subject"] == f"psapi on {host} (receiver): WARNING: failed"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "WARNING: failed: 1 event(s) in failed/" in text(mail)
    assert re.search(r"^    since 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$", text(mail), re.M), "since when"
    assert "remedy:\n      psapi list --failed says why" in text(mail)
    assert "this becomes worse,\nor all is well again.\npsapi check" in text(mail), "broken where it was meant to be"
    assert text(mail).endswith("psapi check shows this at any time; psapi doctor URL looks at everything.\n")
    assert (post.mailbox.dir / "arguments").read_text() == "-i -t\n"
    for _ in range(3):
        post.silent()
    post.server.receiver.stop()
    mail = post.hears()
    assert "CRITICAL: receiver" in mail["Subject"] and "failed" not in mail["Subject"]
    assert "Known before, and still bad:" in text(mail) and "failed: 1 event(s)" in text(mail)
    post.silent()
    post.listen()
    post.silent()
    post.run("retry", "--all")
    mail = post.hears()
    assert mail["Subject"] == f"psapi on {host} (receiver): all is well again" and "failed, since 20" in text(mail)
    post.silent()


def test_a_mail_names_the_endpoint(post):
    post.place.settings["PSAPI_ENDPOINT_URL"] = "https://hooks.example.org/webhooks/psapi"
    post.good(b"no JSON")
    assert text(post.hears()).endswith("psapi doctor looks at everything, also\nfrom outside, at\nhttps://hooks.example.org/webhooks/psapi\n")


def test_bad_again_while_another_is_still_bad(post):
    post.good(b"no JSON")
    post.hears()
    post.server.receiver.stop()
    post.hears()
    post.listen()
    post.silent()
    post.server.receiver.stop()
    assert "receiver" in post.hears()["Subject"]


def test_worse_is_news(post):
    """A warning that becomes critical is reported, once, with the time since which it is bad; the way back is not."""
    post.good(b"no JSON")
    first = re.search("since (.*)", text(post.hears()))[1]
    worse = ("-c", "failed=0")
    mail = post.hears(*worse)
    assert "CRITICAL: failed" in mail["Subject"] and f"since {first}" in text(mail)
    assert "Known before" not in text(mail)
    post.silent(*worse)
    post.silent()
    assert "CRITICAL: failed" in post.hears(*worse)["Subject"], "worse again"
    post.run("retry", "--all")
    assert "well again" in post.hears()["Subject"]


def test_first_check_is_bad(post):
    """Nothing is known from before: that is a change, too."""
    post.good(b"no JSON")
    post.hears()


def test_settings(post):
    post.good(b"no JSON")
    post.place.settings["PSAPI_ALERT_MAILTO"] = "a@example.org, Team B <b@example.org>"
    assert post.hears()["To"] == "a@example.org, Team B <b@example.org>"
    for right in "root", " root , ops ", '"Doe, J" <j@example.org>', 'ops, "van Dyk, Jan" <jan@example.org>, root':
        post.place.settings["PSAPI_ALERT_MAILTO"] = right
        assert post.run("check", "--mail", expect=None).returncode != 3, right
    for wrong in ("a@x\nBcc: b@x", "é@example.org", "a" * 1000, "a@x; b@x", "a b@x", "root,", ",root", "a@x,, b@x",
                  "A <a@x", "A <a @x>", "A <>", " ", '"Doe, J <j@example.org>', '"van Dyk, Jan"'):
        post.place.settings["PSAPI_ALERT_MAILTO"] = wrong
        done = subprocess.run([PSAPI, "check", "--mail"], env=post.environment(), capture_output=True, text=True)
        assert done.returncode == 3 and "PSAPI_ALERT_MAILTO" in done.stderr, wrong
    assert post.mailbox.mails() == []


def test_nobody_wants_mail(post):
    post.place.settings["PSAPI_ALERT_MAILTO"] = ""
    post.good(b"no JSON")
    assert "WARNING: failed: 1 event(s)" in post.check(expect=1).stderr
    assert post.check(expect=1).stderr == ""
    assert post.mailbox.mails() == []


# ---- what survives ----

@pytest.fixture
def runtime(post):
    """systemd's RuntimeDirectory=."""
    directory = post.place.dir / "runtime"
    directory.mkdir()
    post.place.settings["RUNTIME_DIRECTORY"] = str(directory)
    return directory


def test_a_restart_and_a_kill(post):
    """Killed while sendmail has the mail: it is sent again, and none is lost."""
    post.good(b"no JSON")
    post.mailbox.script('echo >>"$(dirname "$0")/begun"; cat >/dev/null; sleep 60')
    child = post.start("check", "--mail")
    wait_for((post.mailbox.dir / "begun").exists, "sendmail runs")
    child.send_signal(signal.SIGKILL)
    child.wait()
    post.mailbox.script()
    post.hears()
    post.silent()


def test_sendmail_that_fails(post):
    """Said once; the mail is sent when it works."""
    post.mailbox.script("echo 'no route to host' >&2; exit 75")
    post.good(b"no JSON")
    assert "exit status 75: no route to host" in post.check(expect=1).stderr
    assert post.check(expect=1).stderr == ""
    post.mailbox.script()
    post.hears()
    post.silent()
    post.run("retry", "--all")
    post.mailbox.script("exit 1")
    assert "exit status 1" in post.check(expect=0).stderr
    post.mailbox.script()
    assert "well again" in post.hears()["Subject"]


def without_sendmail():
    """A command that runs another one on a machine without sendmail."""
    found = [path for path in ("/usr/sbin/sendmail", "/usr/lib/sendmail") if os.path.exists(path)]
    if not found:
        return ()
    if os.geteuid() != 0:
        pytest.skip("only root can hide this machine's sendmail")
    hide = "".join(f"mount --bind /dev/null {os.path.realpath(path)} && " for path in dict.fromkeys(map(os.path.realpath, found)))
    return ("unshare", "-m", "sh", "-c", hide + 'exec "$@"', "sh")


def test_no_sendmail(post):
    """Said once in the journal, with what would have been in the mail; each change is, too."""
    under = without_sendmail()
    (post.mailbox.dir / "sendmail").unlink()
    post.good(b"no JSON")
    said = post.check(under=under).stderr
    assert said.count("there is no sendmail") == 1 and "WARNING: failed: 1 event(s)" in said
    assert post.check(under=under).stderr == ""
    post.run("retry", "--all")
    said = post.check(under=under).stderr
    assert "all is well again" in said and "there is no sendmail" not in said


def test_two_at_once(post):
    post.mailbox.script("sleep 0.5")
    post.good(b"no JSON")
    children = [post.start("check", "--mail") for _ in range(4)]
    for child in children:
        assert child.wait(60) == 1
    post.mailbox.only()
    post.silent()


def test_clock_that_steps(post):
    """Back by a day: no change, and no time in the future."""
    note = post.spool.path / "state" / "check"
    post.good(b"no JSON")
    post.hears()
    verdict = json.loads(note.read_text())
    for finding in verdict["findings"]:
        finding["since"] += 86400
    note.write_text(json.dumps(verdict | {"at": verdict["at"] + 86400}))
    post.silent()
    assert all(f["since"] <= time.time() for f in json.loads(note.read_text())["findings"])


def test_verdict_of_the_page(post):
    """It is that of the check that mails. One with other limits (Nagios, a person) replaces only one of over an hour
    ago, or of a wrong clock."""
    note = post.spool.path / "state" / "check"
    post.good(b"no JSON")
    other = ("check", "-w", "failed=", "-c", "drain=")
    assert post.run(*other).stdout.startswith("PSAPI OK")
    assert json.loads(note.read_text())["status"] == 0, "none mails yet"
    post.hears()
    verdict = json.loads(note.read_text())
    assert verdict["status"] == 1
    post.run(*other)
    assert json.loads(note.read_text()) == verdict
    for old in (3500, 3600, -100):
        note.write_text(json.dumps(verdict | {"at": int(time.time()) - old}))
        post.run(*other)
        assert json.loads(note.read_text())["status"] == (1 if old == 3500 else 0), old
    post.check("-c", "failed=0")
    assert json.loads(note.read_text())["status"] == 2, "its own limits count"


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"reported":[1],"logged":3}', '{"reported":{"failed":"x"}}', "\0" * 1000],
                         ids=str.__len__)
def test_note_that_is_damaged(post, damage):
    """At worst a mail comes twice."""
    post.good(b"no JSON")
    post.hears()
    (post.spool.path / "state" / "alerts").write_text(damage)
    post.check(expect=1)
    assert len(post.mailbox.mails()) <= 1
    post.silent()


def test_spool_that_is_gone(post, runtime):
    """Its disk is not mounted, for example: the note is in the service's runtime directory meanwhile."""
    post.good()
    post.silent()
    away = post.place.dir / "away"
    post.server.receiver.stop()
    post.spool.path.rename(away)
    mail = post.hears()
    assert "spool" in mail["Subject"]
    post.silent()
    away.rename(post.spool.path)
    post.listen()
    assert "well again" in post.hears()["Subject"]
    post.silent()
    assert list(runtime.iterdir()) == []


def test_two_endpoints_beside_each_other(post, runtime):
    """cron gives both the same directory: what one has sent is not the other's."""
    other = post.place.dir / "other"
    shutil.copytree(post.spool.path, other)
    away = post.place.dir / "away"
    post.server.receiver.stop()
    post.place.settings.pop("PSAPI_LISTEN")
    post.spool.path.rename(away)
    here = {"PSAPI_SPOOL": str(post.spool.path)}, {"PSAPI_SPOOL": str(other)}
    first = []
    for settings in here * 3:
        post.place.settings |= settings
        post.check()
        first += [mail["Subject"] for mail in post.mailbox.mails()]
    (only,) = first
    assert "spool" in only
    post.place.settings |= here[0]
    away.rename(post.spool.path)
    assert "well again" in post.hears()["Subject"]


def note_in_var_tmp(post, user):
    number = 0xcbf29ce484222325
    for byte in str(post.spool.path).encode():      # FNV-1a
        number = (number ^ byte) * 0x100000001b3 % 2**64
    return Path(f"/var/tmp/psapi-alerts-{user}-{number:016x}")


@pytest.fixture
def as_psapi(post):
    """The user of the spool and the mailbox, which is not root, and a command that starts another one as that user."""
    if os.geteuid() != 0:
        return os.geteuid(), ()
    user = pwd.getpwnam("nobody")
    post.server.receiver.stop()
    for path in (post.place.dir, *post.place.dir.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)
    post.place.settings.pop("PSAPI_LISTEN_GROUP", None)
    return user.pw_uid, ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")


@pytest.mark.parametrize("squatted", [False, True])
def test_without_a_directory_of_its_own(post, as_psapi, squatted):
    """As an operator's own crontab runs it: /var/tmp has the note. What another user has put there is not used."""
    user, under = as_psapi
    note = note_in_var_tmp(post, user)
    away = post.place.dir / "away"
    post.server.receiver.stop()
    post.place.settings.pop("PSAPI_LISTEN")
    post.spool.path.rename(away)
    assert "spool" in post.hears(under=under)["Subject"]
    try:
        post.silent(under=under)
        if squatted:
            if os.geteuid() != 0:
                pytest.skip("only root can give a file away")
            os.chown(note, 1, 1)
            assert "spool" in post.hears(under=under)["Subject"]
            assert note.stat().st_uid == 1, "/var/tmp is sticky"
            note.unlink()
            note.symlink_to("/etc/passwd")
            os.chown(note, user, user, follow_symlinks=False)
            assert "spool" in post.hears(under=under)["Subject"]
            assert not note.is_symlink()
        away.rename(post.spool.path)
        assert "well again" in post.hears(under=under)["Subject"]
        post.silent(under=under)
        assert not note.exists()
    finally:
        note.unlink(missing_ok=True)


def test_root_without_a_directory_of_its_own(post, as_psapi):
    """As root's crontab runs it: root becomes psapi when the spool is there, and could not remove its note."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    user, _ = as_psapi
    notes = [note_in_var_tmp(post, 0), note_in_var_tmp(post, user)]
    away = post.place.dir / "away"
    post.place.settings.pop("PSAPI_LISTEN")
    post.silent()
    try:
        for _ in range(2):
            post.spool.path.rename(away)
            assert "spool" in post.hears()["Subject"]
            away.rename(post.spool.path)
            post.silent()
            assert not any(note.exists() for note in notes)
    finally:
        for note in notes:
            note.unlink(missing_ok=True)


# ---- checks that could not judge everything ----

@contextmanager
def mute(post):
    """The receiver's socket is of a program that never answers: the check runs into its time-out of 1 s."""
    before = post.place.settings["PSAPI_LISTEN"]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        post.place.settings["PSAPI_LISTEN"] = f"127.0.0.1:{listener.getsockname()[1]}"
        yield
    post.place.settings["PSAPI_LISTEN"] = before


def test_time_out_forgets_nothing(post, runtime):
    """It judges nothing: what was reported before is not reported again by the next check, and nothing is well again."""
    post.good(b"no JSON")
    post.hears()
    with mute(post):
        assert "UNKNOWN: time-out" in post.hears("-t", "1")["Subject"]
        post.silent("-t", "1")
    post.silent()
    assert list(runtime.iterdir()) == []
    with mute(post):
        assert "time-out" in post.hears("-t", "1")["Subject"], "it was over meanwhile"
    post.run("retry", "--all")
    mail = post.hears()
    assert "well again" in mail["Subject"] and "failed, since" in text(mail) and "time-out, since" in text(mail)


def test_disk_that_hangs(post, runtime):
    """Each look into the spool takes for ever; a person, and the heartbeat service, are told nevertheless."""
    if strace.why_not():
        pytest.skip(strace.why_not())
    post.good()
    hung = [*strace.UNDER, "-o", "/dev/null", "-P", str(post.spool.path), "-e", "inject=openat:delay_enter=1000s"]
    with heartbeats() as service:
        post.place.settings["PSAPI_HEARTBEAT_URL"] = f"http://127.0.0.1:{service.server_port}/x"
        child = subprocess.Popen([*hung, PSAPI, "check", "--mail", "-t", "1"], env=post.environment(), start_new_session=True)
        try:
            wait_for(lambda: service.beats, "a request of the heartbeat")
            assert "UNKNOWN: time-out" in post.mailbox.only()["Subject"] and service.beats == [("/x/fail", None, None)]
            wait_for(lambda: list(runtime.glob("psapi-alerts-*[0-9a-f]")), "it is noted that this was sent")
        finally:        # strace waits for a thread that is to sleep
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def test_a_file_of_the_users(post, runtime):
    """cron's crontab gives the home directory: only a file of our own is removed there."""
    (runtime / "alerts").write_text("mine")
    post.good()
    post.run("check", "--mail", expect=None)
    assert [(path.name, path.read_text()) for path in runtime.iterdir()] == [("alerts", "mine")]


def test_log_that_cannot_be_read(post):
    """Neither the deliveries nor the daily event can be judged then."""
    post.good()
    for _ in range(3):
        assert post.server.send(signed(secrets=[OTHER_SECRET])).status == 401
    assert "deliveries" in post.hears()["Subject"]
    log = post.spool.path / "attempts.jsonl"
    log.rename(post.place.dir / "log")
    log.mkdir()
    mail = post.hears()
    assert mail["Subject"].endswith(": log")
    assert re.search(r"Known before, and not judged now:\n\n +deliveries, since 20", text(mail))
    log.rmdir()
    (post.place.dir / "log").rename(log)
    post.silent()


@pytest.mark.each_store
def test_database_that_is_gone(post):
    """What is in it cannot be counted."""
    if post.place.store != "postgresql":
        pytest.skip("needs a database")
    post.good(b"no JSON")
    post.hears()
    before = post.place.settings["PSAPI_STORE"]
    post.place.settings["PSAPI_STORE"] = "postgresql://nobody@127.0.0.1:1/psapi"
    assert "database" in post.hears()["Subject"]
    post.place.settings["PSAPI_STORE"] = before
    post.silent()
    post.run("retry", "--all")
    mail = post.hears()
    assert "well again" in mail["Subject"] and "failed, since" in text(mail) and "database" not in text(mail)


# ---- what is in a mail ----

@pytest.mark.parametrize("name", ['x"y', "a\nBcc: b@example.org\n\n.\n", "\x1b[31m", "é\u2028", "a" * 200, ".."],
                         ids=["quote", "header", "escape", "unicode", "long", "dots"])
def test_hostile_text(post, name):
    """In headers and body: the endpoint's name, paths, what the log says."""
    conf = post.place.dir / f"{name}.conf"
    conf.write_text("")
    post.good()
    (post.spool.path / "attempts.jsonl").write_text("".join(
        line(outcome="rejected", reason=reason, key=None) for reason in (name, *HOSTILE)))
    mail = post.hears("-f", conf)
    assert mail["Bcc"] is None and "\n" not in mail["Subject"] and len(mail["Subject"]) < 900
    body_text = text(mail)
    assert "deliver" in body_text and max(map(len, body_text.splitlines())) <= 76
    assert all(" " <= c < "\x7f" or c == "\n" for c in body_text)


def test_real_msmtp(post):
    """A real sendmail, to a real SMTP server."""
    if shutil.which("msmtp") is None:
        pytest.skip("needs msmtp")
    with mailboxes.smtp() as server:
        (post.mailbox.dir / "sendmail").unlink()
        (post.mailbox.dir / "sendmail").symlink_to(shutil.which("msmtp"))
        home = post.place.dir / "home"
        home.mkdir()
        (home / ".msmtprc").write_text(f"defaults\naccount default\nhost 127.0.0.1\nport {server.server_address[1]}\n"
                                       "from psapi@example.org\nauth off\ntls off\n")
        (home / ".msmtprc").chmod(0o600)
        post.place.settings["HOME"] = str(home)
        post.good(b"no JSON")
        assert post.check(expect=1).stderr == ""
        assert post.check(expect=1).stderr == ""
        ((recipients, sent),) = server.mails
        assert recipients == ["<root>"] and b"Subject: psapi on " in sent and b"psapi list --failed" in sent


# ---- the heartbeat ----

class Beats(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.beats.append((self.path, self.headers.get("content-length"), self.headers.get("content-type")))
        self.send_response(self.server.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def heartbeats(status=200):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Beats)
    server.beats, server.status = [], status
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path, failing", [("/ping/1", "/ping/1/fail"), ("/ping/1/", "/ping/1/fail"),
                                           ("/p?a=1", "/p/fail?a=1")])
def test_heartbeat(post, path, failing):
    post.good()
    with heartbeats() as service:
        post.place.settings["PSAPI_HEARTBEAT_URL"] = f"http://127.0.0.1:{service.server_port}{path}"
        post.silent()
        post.good(b"no JSON")
        post.hears()
        post.silent()
    assert service.beats == [(path, None, None), (failing, None, None), (failing, None, None)]


def test_heartbeat_that_cannot_be_sent(post):
    """Said once, until it works again; the check's own result is the same."""
    post.good()
    with heartbeats(500) as service:
        post.place.settings["PSAPI_HEARTBEAT_URL"] = f"http://127.0.0.1:{service.server_port}/x"
        assert "is answered with status 500" in post.check(expect=0).stderr
        post.silent()
        service.status = 200
        post.silent()
    assert "cannot be requested" in post.check(expect=0).stderr
    post.silent()
    for wrong in ("ftp://x", "http://a b", "x"):
        post.place.settings["PSAPI_HEARTBEAT_URL"] = wrong
        assert "PSAPI_HEARTBEAT_URL" in post.run("check", expect=3).stderr


# ---- silence is noticed: the settings are the defaults, and the check is run as its timer does ----

HOUR = 3600


def test_disabled_endpoint(post):
    """The portal sends nothing more: within 26 h and a run of the timer."""
    post.good()
    post.silent()
    (post.spool.path / "state" / "metrics").unlink()
    log = post.spool.path / "attempts.jsonl"
    log.write_text(line(time.time() - 25.9 * HOUR, type="producersync.updates_available"))
    post.silent()
    (post.spool.path / "state" / "metrics").unlink()
    log.write_text(line(time.time() - 26.1 * HOUR, type="producersync.updates_available"))
    mail = post.hears()
    assert "daily" in mail["Subject"] and "is it enabled" in text(mail)


def test_wrong_secret(post):
    post.good()
    post.silent()
    for _ in range(3):
        assert post.server.send(signed(secrets=[OTHER_SECRET])).status == 401
    mail = post.hears()
    assert "deliveries" in mail["Subject"] and "3 deliveries since" in text(mail)
    assert "signature_mismatch" in text(mail) and "psapi secret add" in text(mail)


def test_stopped_drain(post):
    post.handler("default", "exit 0\n")
    post.good()
    post.drain()
    post.silent()
    note = post.spool.path / "state" / "drain"
    note.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime(time.time() - 400)))
    post.silent()
    late = ("-c", "drain=300")      # a machine of the tests may have been booted a moment ago: test_check.py
    mail = post.hears(*late)
    assert "drain" in mail["Subject"] and "psapi-drain.timer" in text(mail)
    post.drain()
    assert "well again" in post.hears(*late)["Subject"]


@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_full_disk(place, small_disk):     # noqa: F811
    """To the last byte: what was told is kept nevertheless."""
    post = Post(place)
    try:
        post.good()
        post.silent()
        fill(small_disk)
        mail = post.hears()
        assert "storing" in mail["Subject"] and "No space left" in text(mail).replace("\n", " ") and "room" in text(mail)
        for _ in range(2):
            post.silent()
        (small_disk / "filler").unlink()
        assert "well again" in post.hears()["Subject"]
        post.silent()
    finally:
        post.close()


def test_disk_below_the_limit(post):
    post.good()
    post.silent()
    post.place.settings["PSAPI_MIN_FREE"] = str(1 << 59)
    assert "space" in post.hears()["Subject"]


@pytest.mark.each_store
def test_failing_handler(post):
    post.handler("default", "echo 'cannot reach the CRM' >&2; exit 1\n")
    post.good()
    post.silent()
    post.drain(expect=1)
    mail = post.hears()
    assert "failed" in mail["Subject"] and "psapi list --failed" in text(mail)


@pytest.mark.each_store
def test_handler_that_puts_off_for_ever(post):
    """Within the hour that an event may wait; here within a second."""
    post.handler("default", "exit 75\n")
    post.good(body(1))
    post.drain()
    post.silent()
    time.sleep(2.1)
    assert "oldest" in post.hears("-w", "oldest=1")["Subject"]
    post.silent("-w", "oldest=1")
