"""docs/without-systemd.md, each command as it is written, in a Debian 12 without systemd: the package, and each of the
service managers, with nginx in front. The tests depend on each other, in the order of the file.
"""

import subprocess

import pytest

from http_client import HttpClient
from machine import SOURCE
from receiver import wait_for
from recipes import BARE_PAGE, SOURCE_PAGE, activated, boot, handler, was_handled
from replies import assert_accepted
from sender import SECRET, signed


@pytest.fixture(scope="module")
def bare(installed):
    yield from boot(installed, systemd=False)


def send(request):
    """Through nginx."""
    return HttpClient("127.0.0.1", 80, timeout=30).send(request)


def receiver_of(machine):
    """The receiver's process, or None."""
    return machine.run("pgrep", "-x", "-u", "psapi", "psapi-fcgi", expect=None).stdout.strip() or None


def test_user_and_files_of_a_source_install(bare):
    """Without systemd-sysusers. Again, it changes nothing: the secret, above all, stays."""
    bare.run("mkdir", "-p", "/etc/psapi")
    for _ in range(2):
        bare.recipe(*SOURCE_PAGE["Without systemd"])
        assert bare.run("stat", "-c", "%U:%G %a", "/etc/psapi/secret").stdout == "root:psapi 640\n"
        (bare.root / "etc/psapi/secret").write_text(SECRET + "\n")
    assert (bare.root / "etc/psapi/secret").read_text() == SECRET + "\n"
    assert bare.run("stat", "-c", "%U:%G %a", "/var/spool/psapi").stdout == "psapi:psapi 2770\n"
    bare.run("rm", "-r", "/etc/psapi", "/var/spool/psapi", "/var/lib/psapi")
    bare.run("userdel", "psapi")


def test_the_package_without_systemd(bare, installed):
    (bare.root / SOURCE[1:] / "dist").mkdir()
    for package in installed.glob("psapi-fcgi_*.deb"):
        if "later" not in package.name:
            subprocess.run(["cp", package, bare.root / SOURCE[1:] / "dist"], check=True)
    bare.recipe(*BARE_PAGE["1. Programs, user and files"], *BARE_PAGE["2. The start script"])
    assert not (bare.root / "usr/bin/systemctl").exists()
    bare.run("psapi", "secret", "add", stdin=SECRET + "\n")
    bare.install("nginx", "procps")
    site = bare.root / "etc/nginx/sites-available/default"
    site.write_text(site.read_text().replace("server_name _;", "server_name _;\n\tinclude snippets/psapi.conf;"))
    bare.run("service", "nginx", "start")
    handler(bare)


def accepted_through_nginx(machine):
    wait_for(lambda: receiver_of(machine) and machine.path("/run/psapi/psapi.sock").exists(), "a receiver", 30)
    assert machine.run("stat", "-c", "%U:%G %a", "/run/psapi/psapi.sock").stdout == "psapi:www-data 660\n"
    wait_for(lambda: send(signed()).status == 200, "nginx reaches it", 15)


def comes_back(machine, deadline):
    before = receiver_of(machine)
    machine.run("kill", "-KILL", before)
    wait_for(lambda: receiver_of(machine) not in (None, before), "it is started again", deadline)
    accepted_through_nginx(machine)


def ends(machine, *stop):
    machine.run(*stop)
    wait_for(lambda: receiver_of(machine) is None, "it has ended")
    machine.run("rm", "-rf", "/run/psapi")      # as at the next boot


def test_runit(bare):
    bare.install("runit")
    bare.start("runsvdir -P /etc/service")
    bare.recipe(*BARE_PAGE["3. runit"])
    accepted_through_nginx(bare)
    comes_back(bare, 10)
    assert bare.run("sudo", "sv", "status", "psapi-fcgi").stdout.startswith("run: ")
    ends(bare, "sv", "stop", "psapi-fcgi")
    bare.run("rm", "/etc/service/psapi-fcgi")


def test_openrc(bare):
    bare.install("openrc")
    bare.run("sh", "-c", "mkdir -p /run/openrc && touch /run/openrc/softlevel")     # it was not booted by OpenRC
    bare.recipe(*BARE_PAGE["4. OpenRC"])
    accepted_through_nginx(bare)
    comes_back(bare, 10)
    assert "psapi-fcgi" in bare.run("rc-update", "show", "default").stdout
    ends(bare, "rc-service", "psapi-fcgi", "stop")


def test_supervisor(bare):
    bare.install("supervisor")
    bare.start("supervisord -n -c /etc/supervisor/supervisord.conf")
    wait_for(lambda: bare.path("/run/supervisor.sock").exists(), "supervisor runs", 30)
    bare.recipe(*BARE_PAGE["5. supervisor"])
    accepted_through_nginx(bare)
    comes_back(bare, 10)
    ends(bare, "supervisorctl", "stop", "psapi-fcgi")


def test_cron(bare):
    """At "boot", and after a crash; and the crontab that runs the handlers, with cron's own PATH."""
    bare.install("cron")
    bare.recipe(*BARE_PAGE["6. Only cron"], *BARE_PAGE["7. Web server, portal, handlers"])
    bare.start("cron -f")
    accepted_through_nginx(bare)
    assert_accepted(send(activated("88")))
    comes_back(bare, 75)
    wait_for(lambda: was_handled(bare, "88"), "cron has run drain", 75)
    assert len(receiver_of(bare).split()) == 1
