"""docs/processing.md, "The story", as it is written: its commands, in a sandbox instead of /etc."""

import re
import subprocess

import pytest

from psapi_command import PSAPI, Desk
from receiver import ROOT
from sender import signed

# What the portal's "Send Example" sends.
ACTIVATED = (b'{"data":{"activatedAt":"2025-07-25T15:53:01.579Z","npn":"123456789"},"id":"whe_123454321",'
             b'"timestamp":"2025-07-25T15:53:01.579Z","type":"producersync.npn.activated"}')
UPDATES = (b'{"data":{"runDate":"2025-07-24"},"id":"12345","timestamp":"2025-07-24T22:51:05.206Z",'
           b'"type":"producersync.updates_available"}')
STORY = (ROOT / "docs" / "processing.md").read_text().split("## The story\n")[1].split("\n## ")[0]


@pytest.fixture
def desk(place):
    desk = Desk(place)
    desk.home = place.dir / "home"
    desk.home.mkdir()
    mailer = place.dir / "sendmail"
    mailer.write_text('#!/bin/sh\ncat >>"$PSAPI_TOLD/mail"\n')
    mailer.chmod(0o755)
    place.settings |= {"HOME": desk.home, "PSAPI_SENDMAIL": mailer}
    yield desk
    desk.close()


def sandboxed(desk, command):
    """The command with the test's own paths, and without sudo."""
    base = desk.place.dir
    for real, own in (("/usr/local/bin", base / "bin"), ("/etc/psapi/handlers.d", desk.handlers),
                      ("/etc/cron.d", base / "cron.d"), ("sudo -u psapi ", ""), ("sudo ", "")):
        command = command.replace(real, str(own))
    return command


def shell(desk, command, **variables):
    environment = desk.environment() | {"PATH": f"{desk.place.dir}/bin:/usr/bin:/bin"} | variables
    done = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, env=environment, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    return done


def cron(desk):
    """What the installed crontab does each minute, with cron's environment and the table's own; (exit status, what
    it would mail)."""
    table = (desk.place.dir / "cron.d" / "psapi").read_text()
    (command,) = re.findall(r"^\* \* \* \* \* +psapi +(.*)$", table, re.M)
    variables = dict(re.findall(r"^([A-Z]+)=(.*)$", table, re.M))
    done = shell(desk, command, PATH=sandboxed(desk, variables["PATH"]))
    return done.returncode, done.stdout + done.stderr


def test_the_story(desk):
    (desk.place.dir / "bin").mkdir()
    (desk.place.dir / "bin/psapi").symlink_to(PSAPI)
    (desk.place.dir / "cron.d").mkdir()
    install = re.search(r"```sh\n(.*?)```", STORY, re.S).group(1)
    for line in install.splitlines():
        done = shell(desk, sandboxed(desk, line))
        assert done.returncode == 0, (line, done.stderr)

    first, second = desk.deliver(signed(ACTIVATED), signed(UPDATES))
    assert cron(desk) == (0, "")
    attempts = shell(desk, "psapi attempts").stdout.splitlines()
    shown = [line for line in STORY.splitlines() if "OUTCOME" in line or " accepted " in line]
    assert attempts[0].split()[:3] == shown[0].split()[:3]
    for line, promised in zip(attempts[1:], shown[1:], strict=True):
        assert line.split()[1:4] == promised.split()[1:4]
    (line,) = (desk.home / "npns.csv").read_text().splitlines()
    assert line == f"2025-07-25T15:53:01.579Z,123456789,activated,{first}"
    assert "updates_available" in (desk.told / "mail").read_text()
    assert shell(desk, "psapi list").stdout == ""

    desk.handler("producersync.npn", "echo out of cheese >&2; exit 2\n")
    (third,) = desk.deliver(signed(ACTIVATED))
    status, mail = cron(desk)
    assert status == 1 and third in mail and "out of cheese" in mail
    assert cron(desk) == (0, ""), "it is mailed once"
    head, row = shell(desk, "psapi list").stdout.splitlines()
    promised = [line for line in STORY.splitlines() if line.startswith("RECEIVED")]
    assert head.split() == promised[0].split()
    assert "failed" in row and third in row and "(exit status 2, try 1 of at most 10)" in row
    assert "(exit status 2, try 1 of at most 10)" in STORY
    assert "out of cheese" in shell(desk, f"psapi show {third}").stdout

    # The mended handler: the example again.
    install_csv = next(line for line in install.splitlines() if "npn-to-csv" in line)
    shell(desk, sandboxed(desk, install_csv))
    assert shell(desk, f"psapi retry {third}").returncode == 0
    assert cron(desk) == (0, "")
    assert len((desk.home / "npns.csv").read_text().splitlines()) == 2
    replay = re.search(r"`sudo -u psapi (psapi replay .*?)`", STORY, re.S).group(1)
    assert shell(desk, replay).stdout == "2 back to new\n"
    assert cron(desk) == (0, "")
    assert len((desk.home / "npns.csv").read_text().splitlines()) == 2
