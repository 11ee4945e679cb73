"""The receiver as installed: spool, secret and socket in separate directories, and a user of its own if the tests run
as root. Which parts of the sandbox the kernel supports.
"""

import ctypes
import os
import shutil
from pathlib import Path

import pytest

from receiver import BINARY, Receiver
from servers import Socket

NOBODY = 65534


def landlock_abi():
    """landlock_create_ruleset(2) with LANDLOCK_CREATE_RULESET_VERSION; negative without Landlock."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


def need(files=False, calls=False):
    if files and landlock_abi() < 2:
        pytest.skip("this kernel has no Landlock with ABI 2")
    if calls and "Seccomp:" not in Path("/proc/self/status").read_text():
        pytest.skip("this kernel has no seccomp")


def status_of(path):
    return dict(line.split(":", 1) for line in Path(path).read_text().splitlines())


class InstalledLayout:
    """A receiver whose spool, secret and socket are in separate directories."""

    def __init__(self, place, binary=BINARY, via=(), **settings):
        self.place = place
        for name in ("etc", "run", "other"):
            (place.dir / name).mkdir()
        os.replace(place.secret_file, place.dir / "etc/secret")
        place.secret_file = place.dir / "etc/secret"
        place.settings["PSAPI_SECRET_FILE"] = place.secret_file
        self.server = Socket(place)
        self.server.receiver = Receiver(place, name="run/psapi", binary=binary, via=via,
                                        PSAPI_LISTEN=f"unix:{place.dir}/run/psapi.sock", **settings)

    def start(self):
        self.server.receiver.start()
        return self.server

    def given_to(self, user):
        """That user owns everything and runs the receiver."""
        if os.geteuid() == 0:
            for path in (self.place.dir, *self.place.dir.rglob("*")):
                shutil.chown(path, user, user)
            self.place.settings.pop("PSAPI_LISTEN_GROUP")
            self.server.receiver.via += ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
        return self
