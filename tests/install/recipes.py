"""What the tests of the ways of installing have in common: the pages' blocks, and a Debian to run them in.

Of a page only two things are not run: the editor that adds one line to nginx's site, and the portal.
"""

import os
import re
import subprocess

import pytest

import fcgi_client
from machine import SOURCE, Machine
from receiver import ROOT
from replies import parse_cgi
from sender import event, signed
from servers import pairs


def sections(page):
    """Heading -> the blocks below it."""
    parts = re.split(r"^## (.*)$", (ROOT / "docs" / page).read_text(), flags=re.M)
    return {heading: re.findall(r"^```\n(.*?)^```$", text, re.S | re.M)
            for heading, text in zip(["", *parts[1::2]], parts[0::2])}


SOURCE_PAGE, BARE_PAGE = sections("source.md"), sections("without-systemd.md")


def boot(installed, **how):
    if os.geteuid() != 0:
        pytest.skip("a Debian of its own can be booted by root only")
    machine = Machine(installed / "debian", installed / "root-of-recipes", **how)
    try:
        machine.boot()
        (machine.root / "etc/apt/apt.conf.d/90few").write_text('APT::Install-Recommends "false";\n')
        machine.install("sudo", "make")
        (machine.root / SOURCE[1:]).mkdir(parents=True)
        yield machine
    finally:
        machine.close()


def hand_over_tree(machine):
    """The files of git, as a fresh checkout has them."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, check=True).stdout
    subprocess.run(["xargs", "-0", "cp", "--parents", "-t", machine.root / SOURCE[1:]], cwd=ROOT, input=listed,
                   check=True)


def activated(npn):
    return signed(event(npn=npn, activatedAt="2026-01-02T03:04:06Z"))


def send_to(machine, request, socket="/run/psapi/psapi.sock"):
    with fcgi_client.Connection(machine.path(socket), timeout=30) as connection:
        return parse_cgi(connection.exchange(pairs(request), request.body))


def handler(machine):
    path = machine.root / "etc/psapi/handlers.d/default"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\necho "$PSAPI_NPN" >>"$HOME/seen"\n')
    path.chmod(0o755)


def was_handled(machine, npn):
    seen = machine.root / "var/lib/psapi/seen"
    return seen.exists() and npn in seen.read_text().split()
