"""The shipped logrotate file, by logrotate itself: the attempts log, and the receiver's own log where no systemd keeps
it. Part of check-long, for logrotate is not on every machine."""

import os
import re
import shutil
import subprocess

import pytest

from receiver import ROOT, Receiver, wait_for
from replies import assert_accepted
from sender import signed
from servers import Socket

LOGROTATE = shutil.which("logrotate", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
pytestmark = [pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not installed"),
              pytest.mark.skipif(os.geteuid() != 0, reason="logrotate changes to the owner of the spool")]


def rotate(place):
    """With the paths of this place, and its owner."""
    text = (ROOT / "packaging/etc/psapi.logrotate").read_text()
    text = text.replace("su psapi psapi", "su root root").replace("/var/spool/psapi-*/attempts.jsonl", "")
    text = text.replace("/var/spool/psapi/", f"{place.spool.path}/").replace("/var/log/", f"{place.dir}/")
    configuration = place.dir / "logrotate.conf"
    configuration.write_text(text)
    configuration.chmod(0o644)
    subprocess.run([LOGROTATE, "--force", "--state", place.dir / "logrotate.state", configuration], check=True,
                   capture_output=True, timeout=60)


def test_attempts(place):
    with Socket(place) as server:
        assert_accepted(server.send(signed()))
        before = (place.spool.path / "attempts.jsonl").read_bytes()
        rotate(place)
        assert (place.spool.path / "attempts.jsonl.1").read_bytes() == before
        assert_accepted(server.send(signed()))
    assert len(place.spool.attempts()) == 1


def test_own_log(place):
    """cron's line: the shell opens it for appending, and the receiver keeps it open."""
    log = place.dir / "psapi-fcgi.log"
    receiver = Receiver(place)
    receiver.log_file = log     # opened for appending
    receiver.start()
    place.write_secret("whpk_abc")
    server = Socket(place)
    server.receiver = receiver
    server.send(signed())
    wait_for(lambda: "is a public key" in log.read_text(), "something is logged")
    rotate(place)
    assert log.read_bytes() == b""
    place.write_secret("whsk_abc")
    server.send(signed())
    wait_for(lambda: "is a private key" in log.read_text(), "it goes on")
    assert "\0" not in log.read_text()
    [old] = [path for path in place.dir.iterdir() if re.fullmatch(r"psapi-fcgi\.log\.1\.gz", path.name)]
    assert b"is a public key" in subprocess.run(["zcat", old], capture_output=True, check=True).stdout
