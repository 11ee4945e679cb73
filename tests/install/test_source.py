"""docs/source.md, each command as it is written, in a Debian 12 with systemd. The tests depend on each other, in the order
of the file.
"""

import pytest

from machine import SOURCE
from receiver import wait_for
from recipes import SOURCE_PAGE, activated, boot, hand_over_tree, handler, send_to, was_handled
from replies import assert_accepted
from sender import SECRET


@pytest.fixture(scope="module")
def built(installed):
    yield from boot(installed)


def enabled_and_running(machine):
    enabled = machine.run("systemctl", "list-unit-files", "--state=enabled", "--no-legend", "--plain").stdout
    running = machine.run("systemctl", "list-units", "--state=active", "--type=service,socket", "--no-legend",
                          "--plain").stdout
    return {line.split()[0] for line in (enabled + running).splitlines()}


def test_from_source(built):
    """And what `make deps-...` installs starts nothing, now or at the next boot."""
    hand_over_tree(built)
    before = enabled_and_running(built)
    built.run("make", "-s", "-C", SOURCE, "deps-demo")
    assert built.run("test", "-x", "/usr/sbin/nginx") and enabled_and_running(built) - before == set()
    assert not (built.root / "usr/sbin/policy-rc.d").exists()
    built.recipe(*(f"export MAKEFLAGS=-j2\n{block}" for block in SOURCE_PAGE[""]), *SOURCE_PAGE["With systemd"])
    built.run("psapi", "secret", "add", stdin=SECRET + "\n")
    assert_accepted(send_to(built, activated("1")))
    # Repeated, as an upgrade is, it keeps the secret.
    built.recipe(*SOURCE_PAGE["With systemd"])
    built.run("systemctl", "restart", "psapi-fcgi.service")
    assert_accepted(send_to(built, activated("2")))


def test_crontab_of_the_prefix(built):
    handler(built)
    built.recipe(*SOURCE_PAGE["A crontab for this prefix"])
    built.install("cron")      # systemd starts it
    wait_for(lambda: was_handled(built, "2"), "cron has run drain", 75)


def test_another_directory(built):
    built.run("systemctl", "disable", "--now", "psapi-fcgi.socket", "psapi-fcgi.service")
    built.run("make", "-s", "-C", SOURCE, "uninstall")
    built.recipe(*(f"export MAKEFLAGS=-j2\n{block}" for block in SOURCE_PAGE["Into another directory"]),
                 *SOURCE_PAGE["With systemd"])
    assert "/opt/psapi/bin/psapi-fcgi" in built.property("psapi-fcgi.service", "ExecStart")
    assert_accepted(send_to(built, activated("3")))
    # The crontab does not need the links.
    built.run("rm", "/usr/local/bin/psapi", "/usr/local/bin/psapi-fcgi")
    [block] = SOURCE_PAGE["A crontab for this prefix"]
    built.recipe(block.replace("/usr/local/share", "/opt/psapi/share"))
    wait_for(lambda: was_handled(built, "3"), "cron has run drain", 75)
