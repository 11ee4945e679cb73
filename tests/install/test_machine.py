"""The package in a fresh Debian 12 with systemd, nginx and Apache: from `apt install` to `apt purge`. Each test continues
where the one before it ended.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fcgi_client
from http_client import HttpClient
from load import Load
from receiver import ROOT, wait_for
from replies import assert_accepted, parse_cgi
from sender import OTHER_SECRET, SECRET, event, signed
from servers import pairs
from spool import Spool, iso, iso_ms

URL = "http://localhost/webhooks/psapi"
SPOOL = "/var/spool/psapi"
# The files of the end-to-end suite about single requests through a web server.
SUITE = ["test_accept.py", "test_bodies.py", "test_duplicate.py", "test_headers.py", "test_refusals.py",
         "test_same_answer.py", "test_uploads.py"]


@pytest.fixture(scope="module")
def packages(installed):
    """The package, and a later version of it."""
    [now] = [p for p in installed.glob("psapi-fcgi_*.deb") if "later" not in p.name]
    [later] = installed.glob("psapi-fcgi_*later*.deb")
    return now, later


@pytest.fixture(scope="module")
def spool(machine):
    return Spool(machine.root / SPOOL[1:])


def send(request):
    return HttpClient("127.0.0.1", 80, timeout=30).send(request)


def send_to(machine, socket, request):
    """FastCGI over the socket of a receiver."""
    with fcgi_client.Connection(machine.path(socket), timeout=30) as connection:
        return parse_cgi(connection.exchange(pairs(request), request.body))


def put_in(machine, package):
    subprocess.run(["cp", package, machine.root / "root"], check=True)
    return f"/root/{package.name}"


def as_psapi(machine, *command, **more):
    return machine.run("runuser", "-u", "psapi", "--", *command, **more)


def e2e_suite(machine, server):
    """Runs the suite, fails if it does, and returns its summary."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "installed", "--timeout", "120",
         "--server", server, *SUITE],
        cwd=ROOT / "tests" / "e2e", text=True, capture_output=True, timeout=280,
        env=os.environ | {"PSAPI_MACHINE": str(machine.root), "PYTHONPATH": str(Path(__file__).parent)})
    assert done.returncode == 0, done.stdout + done.stderr
    [passed] = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) >= 40, done.stdout


def test_from_nothing_to_a_drained_event(machine, packages, spool):
    """The package, a secret and one line of configuration are enough."""
    machine.install(put_in(machine, packages[0]), "nginx")
    secret = machine.root / "etc/psapi/secret"
    assert (secret.stat().st_mode & 0o7777, secret.read_bytes()) == (0o640, b"")
    assert machine.run("stat", "-c", "%U:%G", "/etc/psapi/secret").stdout == "root:psapi\n"

    site = machine.root / "etc/nginx/sites-available/default"
    site.write_text(site.read_text().replace("server_name _;", "server_name _;\n\tinclude snippets/psapi.conf;"))
    machine.run("systemctl", "reload", "nginx")
    # The portal sends its first request before it shows the secret.
    early = signed(event(npn="1", activatedAt="2026-01-02T03:04:05Z"))
    look = signed()
    look.method = "GET"
    # An old worker may accept one more connection after a new one has answered.
    wait_for(lambda: all(send(look).status == 405 for _ in range(20)), "nginx has the new line")
    assert send(early).word == "held"
    assert "psapi secret add" in machine.property("psapi-fcgi.service", "StatusText")

    machine.run("psapi", "secret", "add", stdin=SECRET + "\n")
    assert machine.run("stat", "-c", "%U:%G %a", "/etc/psapi/secret").stdout == "root:psapi 640\n"
    assert_accepted(send(signed(event(npn="2", activatedAt="2026-01-02T03:04:06Z"))))
    assert set(as_psapi(machine, "psapi", "drain", "--", "sh", "-c", "echo $PSAPI_NPN").stdout.split()) == {"1", "2"}
    assert spool.names("new") == spool.names("failed") == []


def test_all_is_well(machine):
    rows = machine.run("psapi", "doctor", "--json", URL, expect=None).stdout.splitlines()
    bad = [row for row in map(json.loads, rows) if row["ok"] is False]
    assert rows and bad == []
    machine.run("systemctl", "restart", "psapi-fcgi.service")
    assert machine.property("psapi-fcgi.service", "StatusText") == ""


def test_the_receiver_is_sandboxed(machine):
    pid = machine.property("psapi-fcgi.service", "MainPID")
    status = dict(line.split(":\t", 1) for line in
                  machine.run("cat", f"/proc/{pid}/status").stdout.splitlines())
    user = machine.run("id", "-u", "psapi").stdout.strip()
    assert status["Uid"].split() == [user] * 4
    assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16)) == ("1", "2", 0)
    interfaces = machine.run("cat", f"/proc/{pid}/net/dev").stdout
    assert re.findall(r"^ *(\w+):", interfaces, re.M) == ["lo"]
    assert machine.run("stat", "-c", "%U:%G %a", "/run/psapi/psapi.sock").stdout == "psapi:www-data 660\n"


def test_e2e_suite_through_nginx(machine):
    e2e_suite(machine, "installed-nginx")


def test_reason_of_a_failed_start(machine):
    """`systemctl status` has the reason."""
    drop_in = machine.root / "etc/systemd/system/psapi-fcgi.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nEnvironment=PSAPI_SPOOL=/srv\n")     # not in ReadWritePaths=
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "psapi-fcgi.service", expect=1)
    wait_for(lambda: 'PSAPI_SPOOL="/srv" (environment): ' in machine.property("psapi-fcgi.service", "StatusText"),
             "the reason is told")
    drop_in.unlink()
    machine.run("systemctl", "daemon-reload")
    assert_accepted(send(signed()))     # it tries again until the fault is corrected, by itself


def test_secret_as_a_credential(machine):
    """As described in psapi-fcgi.service: a file that only root, and so systemd, can read."""
    comment = (machine.root / "lib/systemd/system/psapi-fcgi.service").read_text()
    lines = re.findall(r"^#   (LoadCredential=.*|Environment=PSAPI_SECRET_FILE=.*)$", comment, re.M)
    assert len(lines) == 2
    drop_in = machine.root / "etc/systemd/system/psapi-fcgi.service.d/test.conf"
    drop_in.write_text("\n".join(["[Service]", *lines]) + "\n")
    secret = machine.root / "etc/psapi/secret"
    secret.write_text(OTHER_SECRET + "\n")
    machine.run("chown", "root:root", "/etc/psapi/secret")
    machine.run("chmod", "0600", "/etc/psapi/secret")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "psapi-fcgi.service")
    assert_accepted(send(signed(secrets=(OTHER_SECRET,))))
    assert send(signed()).status == 401
    assert machine.property("psapi-fcgi.service", "StatusText") == ""
    drop_in.unlink()
    secret.write_text(SECRET + "\n")
    machine.run("chown", "root:psapi", "/etc/psapi/secret")
    machine.run("chmod", "0640", "/etc/psapi/secret")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "psapi-fcgi.service")
    assert_accepted(send(signed()))


def test_drain_units(machine, spool):
    """A handler gets an event as soon as it is queued."""
    spool.empty()
    handler = machine.root / "etc/psapi/handlers.d/default"
    handler.write_text("#!/bin/sh\necho \"$PSAPI_NPN\" >>~/seen\n")
    handler.chmod(0o755)
    machine.run("systemctl", "enable", "--now", "psapi-drain.path", "psapi-drain.timer")
    assert_accepted(send(signed(event(npn="77", activatedAt="2026-01-02T03:04:06Z"))))
    seen = machine.root / "var/lib/psapi/seen"
    wait_for(lambda: seen.exists() and seen.read_text() == "77\n", "the handler was there", 30)
    wait_for(lambda: spool.names("new") == [], "the event is done")
    # The same with psapi-drain-strict.conf.
    machine.run("install", "-D", "-m", "644", "/usr/share/doc/psapi-fcgi/examples/systemd/psapi-drain-strict.conf",
                "/etc/systemd/system/psapi-drain.service.d/strict.conf")
    machine.run("systemctl", "daemon-reload")
    assert_accepted(send(signed(event(npn="78", activatedAt="2026-01-02T03:04:06Z"))))
    wait_for(lambda: seen.read_text() == "77\n78\n", "the handler was there again", 30)
    machine.run("systemctl", "disable", "--now", "psapi-drain.path", "psapi-drain.timer")
    assert spool.names("failed") == []


SENDMAIL = "#!/bin/sh\numask 022; cat >\"$(mktemp /var/lib/psapi/mail.XXXXXX)\"\n"
DAILY = event("producersync.updates_available", runDate="2025-07-24")
DRAIN_UNITS = ["psapi-drain.path", "psapi-drain.timer"]


class Alerts:
    """What psapi-check.service mails, started as by its timer."""

    def __init__(self, machine):
        self.machine = machine

    def mails(self):
        # Some runs follow each other faster than systemd allows.
        self.machine.run("systemctl", "reset-failed", "psapi-check.service", expect=None)
        self.machine.run("systemctl", "start", "psapi-check.service")
        found = []
        for path in (self.machine.root / "var/lib/psapi").glob("mail.*"):
            found.append(path.read_text())
            path.unlink()
        return found

    def hears(self, said):
        """One mail, once."""
        [mail] = self.mails()
        assert mail.startswith("To: root\nSubject: psapi on ") and said in mail, mail
        assert self.mails() == []

    def is_well(self):
        [mail] = self.mails()
        assert ": all is well again\n" in mail, mail


def handle_with(machine, text):
    handler = machine.root / "etc/psapi/handlers.d/default"
    handler.write_text(f"#!/bin/sh\n{text}\n")
    handler.chmod(0o755)


@pytest.fixture
def alerts(machine, spool):
    """All is well, events come and are handled. The checks are as the package has installed them: each five minutes; a
    test does not wait for the timer."""
    machine.run("systemctl", "is-enabled", "psapi-check.timer")
    machine.run("systemctl", "is-active", "psapi-check.timer")
    assert " *:00/5:00 " in machine.property("psapi-check.timer", "TimersCalendar")
    machine.run("systemctl", "stop", "psapi-check.timer")
    sendmail = machine.root / "usr/sbin/sendmail"
    sendmail.write_text(SENDMAIL)
    sendmail.chmod(0o755)
    spool.empty()
    handle_with(machine, "exit 0")
    machine.run("systemctl", "enable", "--now", *DRAIN_UNITS)
    assert_accepted(send(signed(DAILY)))
    machine.run("systemctl", "start", "psapi-drain.service")
    alerts = Alerts(machine)
    alerts.mails()
    assert alerts.mails() == []
    yield alerts
    sendmail.unlink()
    machine.run("systemctl", "disable", "--now", *DRAIN_UNITS)
    spool.empty()
    machine.run("systemctl", "start", "psapi-check.timer")


def test_alert_of_a_failing_handler(machine, spool, alerts):
    handle_with(machine, "exit 1")
    assert_accepted(send(signed()))
    wait_for(lambda: len(spool.names("failed")) == 1, "the event has failed", 30)
    alerts.hears("WARNING: failed: 1 event(s)")
    handle_with(machine, "exit 0")
    as_psapi(machine, "psapi", "retry", "--all")
    alerts.is_well()
    assert machine.property("psapi-check.service", "Result") == "success"


def test_alert_of_a_wrong_secret(alerts):
    for _ in range(3):
        assert send(signed(secrets=[OTHER_SECRET])).status == 401
    alerts.hears("CRITICAL: deliveries: 3 deliveries")
    assert_accepted(send(signed()))
    alerts.is_well()


def test_alert_of_a_disabled_endpoint(spool, alerts):
    """Nothing comes any more: within 26 h."""
    line = spool.attempts()[-1]
    assert (line["outcome"], line["type"]) == ("accepted", "producersync.updates_available")

    def comes_no_more_for(hours):
        (spool.path / "state/metrics").unlink()
        (spool.path / "attempts.jsonl").write_text(json.dumps(line | {"at": iso_ms(time.time() - hours * 3600)}) + "\n")

    comes_no_more_for(25.9)
    assert alerts.mails() == []
    comes_no_more_for(26.1)
    alerts.hears("CRITICAL: daily: ")
    assert_accepted(send(signed(DAILY)))
    alerts.is_well()


def test_alert_of_a_stopped_drain(machine, spool, alerts):
    """Within 10 min."""
    machine.run("systemctl", "disable", "--now", *DRAIN_UNITS)
    machine.run("systemctl", "start", "psapi-drain.service")    # and none is at work any more
    note = spool.path / "state/drain"
    note.write_text(iso(time.time() - 400) + "\n")
    assert alerts.mails() == []
    note.write_text(iso(time.time() - 610) + "\n")
    alerts.hears("CRITICAL: drain: ")
    machine.run("systemctl", "enable", "--now", *DRAIN_UNITS)
    machine.run("systemctl", "start", "psapi-drain.service")
    alerts.is_well()


@pytest.fixture
def small_disk(machine, alerts):
    """A file system of 100 MiB under the spool."""
    machine.run("systemctl", "stop", *DRAIN_UNITS, "psapi-fcgi.service")
    machine.run("sh", "-ec", f"cp -a {SPOOL} /root/spool; mount -t tmpfs -o size=100m psapi-test {SPOOL}; "
                f"cp -a /root/spool/. {SPOOL}")
    yield
    machine.run("systemctl", "stop", "psapi-fcgi.service")
    machine.run("umount", SPOOL)
    machine.run("rm", "-r", "/root/spool")


@pytest.mark.usefixtures("small_disk")
def test_alert_of_a_full_disk(machine, alerts):
    assert_accepted(send(signed()))
    assert alerts.mails() == []
    machine.run("sh", "-c", f"cat /dev/zero >{SPOOL}/filler", expect=1)
    assert send(signed()).status == 503
    alerts.hears("CRITICAL: storing: ")
    machine.run("rm", f"{SPOOL}/filler")
    assert_accepted(send(signed()))
    alerts.is_well()


def test_metrics(machine):
    """psapi-metrics.service writes where node_exporter reads; without its directory it does nothing."""
    machine.run("systemctl", "is-enabled", "psapi-metrics.timer", expect=1)
    folder = machine.root / "var/lib/prometheus/node-exporter"
    machine.run("systemctl", "start", "psapi-metrics.service")
    assert not folder.exists()
    folder.mkdir(parents=True)
    machine.run("systemctl", "start", "psapi-metrics.service")
    assert 'psapi_store_up{endpoint="psapi"} 1\n' in (folder / "psapi.prom").read_text()
    assert (folder / "psapi.prom").stat().st_mode & 0o777 == 0o644


def test_another_endpoint(machine, spool):
    """As described in psapi-fcgi@.service: its own configuration, secret, spool, socket and drain."""
    conf = machine.root / "etc/psapi/second.conf"
    steps = re.findall(r"^#       (PSAPI_.*)$",
                       (machine.root / "lib/systemd/system/psapi-fcgi@.service").read_text(), re.M)
    assert len(steps) == 3
    conf.write_text("\n".join(steps).replace("NAME", "second") + "\n")
    machine.run("install", "-m", "0640", "-g", "psapi", "/dev/null", "/etc/psapi/second.secret")
    machine.run("psapi", "-f", "/etc/psapi/second.conf", "secret", "add", stdin=OTHER_SECRET + "\n")
    units = [f"psapi-{unit}" for unit in ("fcgi@second.socket", "drain@second.path", "drain@second.timer")]
    machine.run("systemctl", "enable", "--now", units[0])
    before = spool.names("events")
    request = signed(secrets=(OTHER_SECRET,))
    assert_accepted(send_to(machine, "/run/psapi/second.sock", request))
    own = Spool(machine.root / "var/spool/psapi-second")    # made by the unit
    own.assert_queued_once(request.header("webhook-id"), request.body)
    assert spool.names("events") == before
    handler = machine.root / "etc/psapi/handlers.d/default"
    handler.write_text("#!/bin/sh\n:\n")
    handler.chmod(0o755)
    machine.run("systemctl", "enable", "--now", *units[1:])
    machine.run("systemctl", "start", "psapi-drain@second.service")
    wait_for(lambda: own.names("new") == [], "the event is done", 30)
    # An instance without PSAPI_SPOOL does not get the spool of psapi-fcgi.service.
    (machine.root / "etc/psapi/third.conf").write_text("")
    machine.run("systemctl", "start", "psapi-fcgi@third.service", expect=1)
    wait_for(lambda: "PSAPI_SPOOL" in machine.property("psapi-fcgi@third.service", "StatusText"),
             "the reason is told")
    machine.run("systemctl", "stop", "psapi-fcgi@third.service", "psapi-fcgi@third.socket")


def test_logrotate(machine, spool):
    """The log is renamed; the next line makes a new one."""
    assert_accepted(send(signed()))
    before = (spool.path / "attempts.jsonl").read_bytes()
    machine.run("logrotate", "--force", "/etc/logrotate.d/psapi-fcgi")
    assert (spool.path / "attempts.jsonl.1").read_bytes() == before
    request = signed()
    assert_accepted(send(request))
    [line] = spool.attempts()
    assert line["webhook_id"] == request.header("webhook-id").decode()


def test_shared_store(machine, installed, spool):
    """The second package: a database over TCP, which its drop-in for the unit allows. Without it all is as before."""
    [module] = [p for p in installed.glob("psapi-fcgi-postgresql_*.deb") if "later" not in p.name]
    machine.install(put_in(machine, module), "postgresql")
    wait_for(lambda: machine.run("pg_lsclusters", "-h", expect=None).stdout.split()[3:4] == ["online"], "it runs", 60)
    machine.run("runuser", "-u", "postgres", "--", "psql", "-c",
                "CREATE ROLE psapi LOGIN PASSWORD 'right' IN ROLE pg_read_all_stats", "-c",
                "CREATE DATABASE psapi OWNER psapi ENCODING UTF8 TEMPLATE template0")
    machine.run("install", "-m", "600", "-o", "psapi", "/dev/stdin", "/etc/psapi/pgpass", stdin="*:*:*:psapi:right\n")
    conf = machine.root / "etc/psapi/psapi.conf"
    before = conf.read_text()
    conf.write_text(before + "PSAPI_STORE=postgresql://psapi@127.0.0.1/psapi?passfile=/etc/psapi/pgpass\n")
    assert "are made" in as_psapi(machine, "psapi", "store", "init").stdout
    machine.run("systemctl", "restart", "psapi-fcgi.service")
    stored = spool.names("events")
    request = signed()
    assert_accepted(send(request))
    assert send(request).word == "duplicate"
    assert spool.names("events") == stored
    [row] = as_psapi(machine, "psapi", "list", "--json").stdout.splitlines()
    assert json.loads(row)["webhook_id"] == request.header("webhook-id").decode()
    assert as_psapi(machine, "psapi", "drain", "--", "sh", "-c", "echo $PSAPI_WEBHOOK_ID").stdout.split() == \
        [request.header("webhook-id").decode()]
    assert machine.property("psapi-fcgi.service", "PrivateNetwork") == "no"
    conf.write_text(before)
    machine.run("apt-get", "purge", "-q", "-y", "psapi-fcgi-postgresql")
    assert machine.property("psapi-fcgi.service", "PrivateNetwork") == "yes"
    machine.run("systemctl", "restart", "psapi-fcgi.service")
    assert_accepted(send(signed()))
    assert len(spool.names("events")) == len(stored) + 1


def test_upgrade_under_load(machine, packages, spool):
    """A new version while events come: no event is refused, no file of the administrator is changed."""
    spool.empty()
    conf = machine.root / "etc/psapi/psapi.conf"
    conf.write_text(conf.read_text() + "PSAPI_THREADS=8\n")
    units = ["psapi-fcgi.service", "psapi-fcgi@second.service"]
    before = [machine.property(unit, "MainPID") for unit in units]
    with Load(lambda: send(signed()), clients=4) as load:
        load.turn(3)
        machine.install("-o", "Dpkg::Options::=--force-confold", put_in(machine, packages[1]))
        load.turn(3)
    for reply in load.results:
        assert not isinstance(reply, Exception), reply
        assert_accepted(reply)
    assert len(spool.names("new")) == len(load.results)
    after = [machine.property(unit, "MainPID") for unit in units]
    assert all(old != new != "0" for old, new in zip(before, after)), (before, after)
    assert "later" in machine.run("dpkg-query", "-W", "-f", "${Version}", "psapi-fcgi").stdout
    assert "PSAPI_THREADS=8" in conf.read_text()
    assert SECRET in (machine.root / "etc/psapi/secret").read_text()


def test_e2e_suite_through_apache(machine):
    machine.run("systemctl", "disable", "--now", "nginx")
    machine.install("apache2")
    machine.run("a2enmod", "proxy_fcgi")
    site = machine.root / "etc/apache2/sites-available/000-default.conf"
    site.write_text(site.read_text().replace("</VirtualHost>", "Include conf-available/psapi.conf\n</VirtualHost>"))
    machine.run("apachectl", "configtest")
    machine.run("systemctl", "restart", "apache2")
    e2e_suite(machine, "installed-apache")


def test_purge_leaves_accepted_events(machine, spool):
    assert_accepted(send(signed()))
    names = spool.names("new")
    done = machine.run("apt-get", "purge", "-q", "-y", "psapi-fcgi")
    assert f"{SPOOL} is not empty, and stays" in done.stdout + done.stderr
    assert spool.names("new") == names != []
    assert not (machine.root / "etc/psapi/secret").exists()
    for left in ("usr/bin/psapi", "usr/bin/psapi-fcgi", "usr/bin/psapi-web", "lib/systemd/system/psapi-fcgi.socket",
                 "lib/systemd/system/psapi-web.socket", "etc/nginx/snippets/psapi-web.conf",
                 "etc/nginx/snippets/psapi.conf", "etc/apache2/conf-available/psapi.conf", "etc/psapi/psapi.conf"):
        assert not (machine.root / left).exists(), left
    for unit in ("psapi-fcgi.socket", "psapi-fcgi.service", "psapi-web.socket", "psapi-fcgi@second.socket", "psapi-drain@second.path"):
        assert machine.state(unit) in ("inactive", "unknown"), unit
    assert machine.run("pgrep", "-u", "psapi", expect=1).stdout == ""


def test_purge_of_an_empty_spool(machine, packages):
    machine.run("rm", "-r", SPOOL, "/var/lib/psapi")
    machine.install(put_in(machine, packages[1]))
    assert machine.state("psapi-fcgi.socket") == "active"
    done = machine.run("apt-get", "purge", "-q", "-y", "psapi-fcgi")
    assert "is not empty" not in done.stdout + done.stderr
    assert not (machine.root / SPOOL[1:]).exists() and not (machine.root / "var/lib/psapi").exists()
