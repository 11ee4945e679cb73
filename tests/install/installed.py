"""A plugin for pytest: it runs the end-to-end suite with the installed program.

  --server installed-nginx, installed-apache     the web server in the machine, with the snippet of
                                                 the package

`place` is then the installed spool and secret. The settings are those of the package: a test that needs others, or
starts a receiver itself, is skipped.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "e2e")]

import pytest

import receiver
from http_client import HttpClient
from sender import SECRET
from servers import SERVERS
from spool import Spool
from web_server import WebServer

MACHINE = Path(os.environ["PSAPI_MACHINE"])     # the machine's root directory


class InstalledPlace:
    def __init__(self, settings=None):
        if settings:
            pytest.skip("the settings are the package's")
        self.dir = Path(tempfile.mkdtemp(prefix="psapi-"))
        self.spool = Spool(MACHINE / "var/spool/psapi")
        self.secret_file = MACHINE / "etc/psapi/secret"
        self.tidy = True
        self.spool.empty()
        (self.spool.path / "attempts.jsonl").unlink(missing_ok=True)
        self.write_secret(SECRET)

    @property
    def settings(self):
        pytest.skip("the settings are the package's")

    @property
    def receivers(self):
        pytest.skip("the receiver is systemd's")

    def environment(self, **_):
        return self.settings

    def write_secret(self, *lines, mode=0o640, owner=None):
        if owner is not None:
            pytest.skip("the secret is the package's")
        draft = self.secret_file.with_name("secret.new")
        draft.write_text("".join(line + "\n" for line in lines))
        os.chown(draft, 0, self.spool.path.stat().st_gid)
        draft.chmod(mode)
        draft.replace(self.secret_file)

    def close(self):
        assert self.spool.left_in_tmp() == []
        shutil.rmtree(self.dir)


class Installed(WebServer):
    def start(self):
        self.client = HttpClient("127.0.0.1", 80, timeout=30)

    def stop(self):
        pass

    def renew(self):
        pytest.skip("the receiver is systemd's")

    def log(self):
        pytest.skip("the log is the journal's")


class InstalledNginx(Installed):
    name = "installed-nginx"
    lacks = SERVERS["nginx"].lacks | {"restart": "test_machine.py restarts it"}


class InstalledApache(Installed):
    name = "installed-apache"
    lacks = WebServer.lacks | {"http2": "the default site has no TLS", "restart": "test_machine.py restarts it"}


receiver.Place = InstalledPlace
SERVERS.update((cls.name, cls) for cls in (InstalledNginx, InstalledApache))
