"""Shared hosting: .htaccess and wrapper as shipped, with the program of `make static`, with Apache's suexec if the
tests run as root.

suexec needs /var/www: the directory of the test is mounted there, for this Apache only.
"""

import grp
import os
import re
import subprocess
from pathlib import Path

import pytest

from receiver import BINARY, ROOT, SANITIZED
from replies import assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import SECRET, event, signed
from servers import cgi_variables
from servers_apache import ApacheCgid
import http_client
import mailbox as mailboxes

SUEXEC = Path("/usr/lib/apache2/suexec")
STATIC = ROOT / "build/static"
CUSTOMER = ("nobody", 65534, 65534)


class SharedHosting(ApacheCgid):
    """An Apache that allows .htaccess, with the shipped files."""

    suexec = False

    def modules(self):
        return [*super().modules(), "rewrite", *(["suexec"] if self.suexec else [])]

    def configure(self, port):
        super().configure(port)
        site = self.place.dir / "www" / "webhooks"
        site.mkdir(exist_ok=True)
        self.install("apache/shared-hosting/.htaccess", "www/webhooks/.htaccess", {})
        self.install("apache/shared-hosting/psapi.cgi", "www/webhooks/psapi.cgi", {
            "/home/YOU/psapi/psapi-fcgi": BINARY if SANITIZED else STATIC / "psapi-fcgi",
            "/home/YOU/psapi/psapi.conf": self.place.conf})
        (site / "psapi.cgi").chmod(0o755)
        # The site has a password, which the sender does not have.
        (self.place.dir / "nobody").write_text("")
        (site.parent / ".htaccess").write_text(
            f"AuthType Basic\nAuthName members\nAuthUserFile {self.place.dir}/nobody\n"
            "Require valid-user\n")
        vhost = self.place.dir / "psapi-vhost.conf"
        text = vhost.read_text().replace("    Include conf-available/psapi-cgi.conf\n",
                                         self.hosts_lines())
        assert "conf-available/psapi-cgi" not in text
        vhost.write_text(text)

    def hosts_lines(self):
        # SetEnv must have no effect.
        return "    SetEnv PSAPI_SPOOL /nonexistent-of-the-host\n" if self.suexec else ""


class Suexec(SharedHosting):
    suexec = True

    def configure(self, port):
        super().configure(port)
        place = self.place
        for path in (place.dir / "www" / "webhooks", place.dir / "www" / "webhooks" / "psapi.cgi",
                     place.secret_file, place.spool.path):
            os.chown(path, CUSTOMER[1], CUSTOMER[2])
        (place.dir / "log").mkdir(exist_ok=True)
        configuration = place.dir / "apache.conf"
        configuration.write_text(configuration.read_text().replace(f"{place.dir}/www", "/var/www"))

    def hosts_lines(self):
        return super().hosts_lines() + \
            "    SuexecUserGroup nobody nogroup\n    DocumentRoot /var/www\n"

    def command(self, *arguments):
        mounts = (f"mount --bind {self.place.dir}/www /var/www && "
                  f"mount --bind {self.place.dir}/log /var/log/apache2 && exec \"$@\"")
        return ["unshare", "--mount", "sh", "-c", mounts, "sh", *super().command(*arguments)]


def can_mount():
    return os.geteuid() == 0 and subprocess.run(
        ["unshare", "--mount", "mount", "--bind", "/tmp", "/mnt"],
        capture_output=True).returncode == 0


@pytest.fixture(params=[SharedHosting, Suexec], ids=["plain", "suexec"])
def hosting(request, place):
    if not (SANITIZED or STATIC.exists()):
        pytest.skip("make static has not been called")
    if request.param is Suexec and not (SUEXEC.exists() and can_mount()):
        pytest.skip("suexec needs root, its package and leave to mount")
    with request.param(place) as running:
        yield running


@pytest.mark.parametrize("path", ["/webhooks/psapi", "/webhooks/psapi.cgi"])
def test_both_addresses(hosting, place, path, monkeypatch):
    monkeypatch.setattr(http_client, "PATH", path)
    request = signed(event("x.large", filler="a" * 300_000))
    assert_accepted(hosting.send(request))
    assert_duplicate(hosting.send(request))
    assert_refused(hosting.send(request.with_header("webhook-id", None)), "missing_header")
    assert_refused(hosting.send(signed(b"x" * 1_100_000)), "body_too_large")
    stored = place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    if isinstance(hosting, Suexec):
        assert stored.stat.st_uid == CUSTOMER[1], "it ran as the customer"


@pytest.mark.skipif(SANITIZED or not STATIC.exists(), reason="make static has not been called")
def test_what_the_host_must_have():
    """The requirements of make static in docs/shared-hosting.md."""
    def needed(program):
        told = subprocess.run(["readelf", "--dynamic", STATIC / program], capture_output=True, text=True, check=True)
        return {line.split("[")[1].rstrip("]") for line in told.stdout.splitlines() if "(NEEDED)" in line}
    assert needed("psapi-fcgi") == set()
    assert {library.split(".so")[0] for library in needed("psapi")} == {"libcurl", "libc"}


@pytest.mark.skipif(SANITIZED or not STATIC.exists(), reason="make static has not been called")
@pytest.mark.parametrize("group, status", [(str(os.getegid()), 0), (grp.getgrgid(os.getegid()).gr_name, 78)])
def test_groups_without_a_name_service(place, group, status):
    """A number will do; a name is refused, with the reason."""
    checked = subprocess.run(
        [STATIC / "psapi-fcgi", "-t"], capture_output=True, text=True,
        env=place.environment(PSAPI_LISTEN=f"unix:{place.dir}/x.sock", PSAPI_LISTEN_GROUP=group))
    assert checked.returncode == status, checked
    assert ("give the number" in checked.stdout) == (status != 0)


@pytest.mark.skipif(SANITIZED or not STATIC.exists(), reason="make static has not been called")
def test_crontab(place):
    """The lines of docs/shared-hosting.md as cron runs them: sh, a short PATH, and the configuration of the page."""
    page = (ROOT / "docs/shared-hosting.md").read_text()
    home = place.dir / "home"
    (home / "psapi/handlers.d").mkdir(parents=True)
    (home / "psapi/spool").mkdir(mode=0o700)
    (home / "psapi/psapi").symlink_to(STATIC / "psapi")
    [settings] = re.findall(r"^```\n(PSAPI_SPOOL=.*?)^```$", page, re.S | re.M)
    (home / "psapi/psapi.conf").write_text(settings.replace("/home/YOU", str(home)))
    secret = home / "psapi/secret"
    secret.write_text(SECRET + "\n")
    secret.chmod(0o600)
    handler = home / "psapi/handlers.d/default"
    handler.write_text("#!/bin/sh\n:\n")
    handler.chmod(0o755)
    request = signed()
    environment = {f"{name}": value.decode() for name, value in cgi_variables(request)} | {
        "PSAPI_CONF": str(home / "psapi/psapi.conf")}
    answer = subprocess.run([STATIC / "psapi-fcgi"], input=request.body, env=environment, capture_output=True, check=True)
    assert_accepted(parse_cgi(answer.stdout))
    jobs = re.findall(r"^(?:\S+ ){4}\S+ +(PSAPI_CONF=.*)$", page, re.M)
    assert [re.search(r"psapi (\w+)", job)[1] for job in jobs] == ["drain", "check", "prune"]
    mailbox = mailboxes.Mailbox(place.dir / "mail")
    for job in jobs:
        done = subprocess.run(["/bin/sh", "-c", job.replace("/home/YOU", str(home))], text=True, capture_output=True,
                              env={"PATH": f"{mailbox.dir}:/usr/bin:/bin", "HOME": str(home), "SHELL": "/bin/sh"})
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    assert mailbox.mails() == []
    assert os.listdir(home / "psapi/spool/new") == []
