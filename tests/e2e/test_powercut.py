"""A power cut under load, on a real ext4 that loses the data that was not synced.

EXT4_IOC_SHUTDOWN (xfstests' "godown") stops the file system at once and writes nothing more. Mounted again, it is in
the state after a power cut. It is a file system of its own, so no other data is lost.
"""

import contextlib
import fcntl
import os
import subprocess
import time

import pytest

from fcgi_client import Connection, NoAnswer
from load import Load
from psapi_command import PSAPI
from receiver import Receiver
from replies import assert_accepted, parse_cgi
from sender import event, signed
from servers import PATH, Socket, pairs

EXT4_IOC_SHUTDOWN, NOLOGFLUSH = 0x8004587D, b"\2\0\0\0"     # _IOR('X', 125, __u32)


class Disk:
    """An ext4 in a file, under the spool."""

    def __init__(self, place):
        self.place, self.image = place, place.dir / "disk"
        with open(self.image, "wb") as file:
            file.truncate(256 << 20)
        self.run("mkfs.ext4", "-q", "-F", "-m", "0", "-i", "4096", self.image)

    def run(self, *command):
        return subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": PATH})

    def mount(self):
        """A copy. Of the same file the kernel would give the file system whose power is off, if another test's mount
        namespace still has that."""
        copy = self.image.with_suffix(".copy")
        self.run("cp", "--sparse=always", self.image, copy)
        copy.replace(self.image)
        self.run("mount", "-o", "loop", self.image, self.place.spool.path)

    def unmount(self):
        self.run("umount", self.place.spool.path)

    def power_cut(self):
        fd = os.open(self.place.spool.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, NOLOGFLUSH)
        except OSError as error:
            pytest.skip(f"cannot have the power cut here: {error}")
        finally:
            os.close(fd)


@pytest.fixture
def disk(place):
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    place.tidy = False
    try:
        disk = Disk(place)
        disk.mount()
    except subprocess.CalledProcessError as error:
        pytest.skip(f"cannot mount here: {error.stderr.strip()}")
    try:
        yield disk
    finally:
        for receiver in place.receivers:
            receiver.end()
        with contextlib.suppress(subprocess.CalledProcessError):
            disk.unmount()


def start(place):
    return Receiver(place).start()


def assert_kept(spool, answered, sent):
    """Before any recovery: every file is whole, and every acknowledged event waits in new/."""
    for directory in ("new", "events"):
        for name in spool.names(directory):
            assert spool.read(directory, name).body == sent[name], f"{directory}/{name}"
    assert answered <= set(spool.names("new"))
    assert set(spool.names("events")) <= set(spool.names("new"))


@pytest.mark.parametrize("clients", [1, 16])
@pytest.mark.parametrize("sync", ["auto", "two"])
@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_power_cut_under_load(place, disk, clients, sync):
    """Every acknowledged event is whole, and waits. Every other is whole or absent."""
    sent, answered = {}, set()
    place.settings["PSAPI_SYNC"] = sync
    waits = place.run("-t").stdout
    assert ("two waits" in waits) == (sync == "two"), waits

    def send():
        webhook = signed()
        name = webhook.header("webhook-id").decode()
        sent[name] = webhook.body
        with contextlib.suppress(NoAnswer, OSError):
            with Connection(receiver.path) as connection:
                reply = parse_cgi(connection.exchange(pairs(webhook), webhook.body))
            if reply.status == 200:
                answered.add(name)

    receiver = start(place)
    for _ in range(4):
        before = len(answered)
        with Load(send, clients) as load:
            load.turn(20)
            time.sleep(0.003 * len(sent) % 0.1)     # anywhere
            disk.power_cut()
        receiver.kill()
        assert len(answered) > before
        disk.unmount()
        disk.mount()
        assert_kept(place.spool, answered, sent)
        receiver = start(place)
        assert place.spool.left_in_tmp() == []
        for name in answered:
            place.spool.assert_queued_once(name, sent[name])
        assert place.spool.names("new") == place.spool.names("events")
        for name in place.spool.names("new"):
            webhook_id = name.removesuffix(".json")
            place.spool.assert_queued_once(webhook_id, sent[webhook_id])
    receiver.stop()


@pytest.mark.settings(PSAPI_MIN_FREE="0")
def test_power_cut_in_a_prune(place, disk):
    """What an event said of its producer is in events/, or in state/roster, whenever the power goes."""
    npns = {str(1000 + i) for i in range(60)}

    def psapi(*arguments):
        return subprocess.run([PSAPI, *arguments], env=place.environment(), capture_output=True, text=True, check=True)

    with Socket(place) as server:
        for npn in sorted(npns):
            assert_accepted(server.send(signed(event(npn=npn, activatedAt="2025-07-25T15:53:01.579Z"))))
        server.receiver.stop()
    psapi("drain", "--", "true")
    old = time.time() - 200 * 86400
    for name in place.spool.names("events"):
        os.utime(place.spool.file("events", name), (old, old))
    os.sync()
    for cut in range(4):
        prune = subprocess.Popen([PSAPI, "prune", "--older-than", "90d"], env=place.environment(),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if cut == 3:    # it has ended, and the disk has what it removed
            prune.wait(30)
            os.sync()
        time.sleep(0.002 * cut)     # anywhere
        disk.power_cut()
        prune.kill()
        prune.wait(30)
        disk.unmount()
        disk.mount()
        assert set(psapi("roster").stdout.split()) & npns == npns
    assert place.spool.names("events") == []
