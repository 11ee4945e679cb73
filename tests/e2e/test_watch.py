"""What psapi-spool(5) promises to a program that watches the spool with inotify(7): a new event is a link, so it is
a CREATE and nothing else, in new/ and then in events/."""

import ctypes
import os
import struct

from replies import assert_accepted
from sender import signed
from servers import Socket

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
