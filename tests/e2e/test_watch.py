"""What psapi-spool(5) promises to a program that watches the spool with inotify(7): a new event is a link, so it is
a CREATE and nothing else, in new/ and then in events/. And README.md's loop, run for each report of the command in
docs/processing.md, takes every event: one that came before the watches, and at the report of a commit, a retry, a
replay, and of mv(1)."""

import ctypes
import os
import re
import signal
import struct
import subprocess
from pathlib import Path

from psapi_command import PSAPI
from receiver import ROOT, wait_for
from replies import assert_accepted
from sender import signed
from servers import Socket
from test_consumers import readme_loop

IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_TO, IN_CREATE = 0x2, 0x8, 0x80, 0x100
LIBC = ctypes.CDLL(None, use_errno=True)
HEADER = struct.Struct("iIII")


class Watch:
    """Names that were created, moved or written to below some directories."""

    def __init__(self, *directories):
        self.fd = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0
        self.directories = {}
        for directory in directories:
            number = LIBC.inotify_add_watch(self.fd, os.fsencode(directory),
                                            IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE)
            assert number >= 0
            self.directories[number] = directory.name

    def seen(self):
        """[(directory, mask, name)] since the last time."""
        found = []
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return found
        while data:
            number, mask, _, length = HEADER.unpack_from(data)
            name = data[HEADER.size:HEADER.size + length].rstrip(b"\0").decode()
            found.append((self.directories[number], mask, name))
            data = data[HEADER.size + length:]
        return found


def test_a_new_event_is_a_create(place):
    with Socket(place) as server:
        watch = Watch(place.spool.path / "new", place.spool.path / "events")
        try:
            assert_accepted(server.send(signed(webhook_id="msg_watched")))
            # The unnamed file is in events/: to write it may be seen there, as "#INODE".
            assert [row for row in watch.seen() if row[0] == "new" or not row[2].startswith("#")] == [
                ("new", IN_CREATE, "msg_watched.json"), ("events", IN_CREATE, "msg_watched.json")]
        finally:
            os.close(watch.fd)


def documented_watch(spool):
    """The command of docs/processing.md."""
    (command,) = re.findall(r"`(inotifywait [^`]*)`", (ROOT / "docs/processing.md").read_text())
    return command.replace("/var/spool/psapi", str(spool))


def watched_by(pid):
    """How many watches the children of a process have."""
    count = 0
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        for info in Path(f"/proc/{child}/fdinfo").glob("*"):
            count += info.read_text().count("inotify wd:")
    return count


def test_the_loop_on_each_report(place):
    done = place.dir / "done"
    done.touch()

    def taken():
        return done.read_text().split()

    command = documented_watch(place.spool.path)
    script = (f'note() {{ basename "$1" .json >>{done}; }}\n{command} |\n'
              f"while read -r report; do\n{readme_loop(place.spool.path, 'note')}done\n")
    with Socket(place) as server:
        assert_accepted(server.send(signed(webhook_id="msg_before")))
        watcher = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True, stdin=subprocess.DEVNULL)
        try:
            wait_for(lambda: watched_by(watcher.pid) == command.count(str(place.spool.path)), "the watches are there")
            wait_for(lambda: "msg_before" in taken(), "what came before the watches is taken")
            for i in range(15):
                assert_accepted(server.send(signed(webhook_id=f"msg_{i}")))
                wait_for(lambda i=i: f"msg_{i}" in taken(), f"event {i} is taken at its report")
            assert_accepted(server.send(signed(b"no JSON", "msg_failed")))
            subprocess.run([PSAPI, "retry", "msg_failed"], env=place.environment(), check=True)
            wait_for(lambda: "msg_failed" in taken(), "it is taken when it is retried")
            subprocess.run([PSAPI, "replay", "msg_3"], env=place.environment(), check=True)
            wait_for(lambda: taken().count("msg_3") == 2, "it is taken when it is replayed")
            assert_accepted(server.send(signed(b"no JSON", "msg_moved")))
            os.rename(place.spool.file("failed", "msg_moved"), place.spool.file("new", "msg_moved"))
            wait_for(lambda: "msg_moved" in taken(), "it is taken when it is moved")
            wait_for(lambda: place.spool.names("new") == [], "the script has removed it")
        finally:
            os.killpg(watcher.pid, signal.SIGKILL)
            watcher.wait()
    assert len(taken()) == 19


def test_it_says_when_the_watches_are_set(place):
    """Then the loop runs: an event that came a moment before causes no report."""
    for name in ("new", "events"):
        (place.spool.path / name).mkdir()
    watcher = subprocess.Popen(["/bin/sh", "-c", f"exec {documented_watch(place.spool.path)}"], stdout=subprocess.PIPE,
                               stdin=subprocess.DEVNULL, text=True)
    try:
        assert [watcher.stdout.readline(), watcher.stdout.readline()] == ["Setting up watches.\n", "Watches established.\n"]
        (place.spool.path / "new/a").touch()
        assert watcher.stdout.readline() == f"{place.spool.path}/new/ CREATE a\n"
    finally:
        watcher.kill()
        watcher.wait()
