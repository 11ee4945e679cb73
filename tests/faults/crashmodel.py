"""The crash model, without any file: what was done, and what may be left of it.

Data that was not synced may be missing, zero, torn, whole, or anything else: its blocks may hold
what a deleted file left there. A directory change that was not synced may or may not have happened,
in any combination. What was synced stays. A sync of a file is of its data alone, not of its names."""

import collections
import dataclasses
import itertools

Op = collections.namedtuple("Op", "role kind args")


def parse(text):
    """The operation log of oplog.c."""
    ops = []
    for line in text.splitlines():
        role, kind, *args = line.split(" ")
        ops.append(Op(role, kind, tuple(args)))
    return ops


def split(path):
    directory, _, name = path.rpartition("/")
    return directory or ".", name


def is_free(place):
    """Whether a change there is looked at for itself. Nobody relies on state/ and tmp/: all or none is enough."""
    return place[0].rpartition("/")[2] not in ("state", "tmp")


@dataclasses.dataclass
class Disk:
    """What is certain, and what is not, at one moment."""
    content: dict  # inode: bytes that are synced
    pending: dict  # inode: bytes as written, not synced
    certain: dict  # (directory, name): inode, "dir", or None for none
    changes: list  # ((directory, name), inode or "dir" or None), not synced, in their order
    stale: tuple  # what blocks may hold that were freed

    @classmethod
    def of(cls, files, directories, stale=()):
        """From what was on the disk before: {path: (inode, bytes)}, [path]."""
        certain = {split(path): "dir" for path in directories}
        certain |= {split(path): inode for path, (inode, _) in files.items()}
        return cls({inode: data for inode, data in files.values()}, {}, certain, [], stale)

    def inode_at(self, path):
        found = self.certain.get(split(path))
        for place, inode in self.changes:
            if place == split(path):
                found = inode
        return found

    def change(self, path, inode):
        self.changes.append((split(path), inode))

    def apply(self, op):
        """One operation, in order."""
        kind, args = op.kind, op.args
        if kind == "create":
            self.content[args[0]] = b""
            self.pending.pop(args[0], None)
        elif kind == "write" and args[0] in self.content:
            old = self.pending.get(args[0], self.content[args[0]])
            offset, data = int(args[1]), bytes.fromhex(args[2])
            self.pending[args[0]] = old[:offset].ljust(offset, b"\0") + data + \
                old[offset + len(data):]
        elif kind == "sync" and args[0] in self.pending:
            self.content[args[0]] = self.pending.pop(args[0])
        elif kind == "syncfs":
            self.certain |= dict(self.changes)
            self.changes = []
            self.content |= self.pending
            self.pending = {}
        elif kind == "syncdir":
            for place, inode in self.changes:
                if place[0] == args[0]:
                    self.certain[place] = inode
            self.changes = [change for change in self.changes if change[0][0] != args[0]]
        elif kind == "link":
            self.change(args[1], args[0])
        elif kind == "unlink":
            self.change(args[0], None)
        elif kind == "rename":
            # Its two halves are in two directories.
            self.change(args[1], self.inode_at(args[0]))
            self.change(args[0], None)
        elif kind == "mkdir":
            self.change(args[0], "dir")

    def datas(self, inode, paths):
        """What may be left of a file's data."""
        whole, kept = self.pending.get(inode), self.content.get(inode, b"")
        if whole is None:
            return {kept}
        if not any(is_free(split(path)) for path in paths):
            return {kept, whole}
        size, half = len(whole), len(whole) // 2
        old = [(text * (1 + size // len(text)))[:size] for text in self.stale]
        return {kept, whole, b"\0" * size, whole[:half], whole[:half] + b"\0" * (size - half), *old,
                *(whole[:half] + text[half:] for text in old), *(text[:half] + whole[half:] for text in old)}

    def after_crash(self):
        """All that may be left: {path: (inode, bytes)}, {directories}."""
        free = [is_free(place) for place, _ in self.changes]
        for rest in (False, True) if not all(free) else (True,):
            for happened in itertools.product([False, True], repeat=sum(free)):
                chosen, entries = iter(happened), dict(self.certain)
                for (place, inode), is_one in zip(self.changes, free):
                    if next(chosen) if is_one else rest:
                        entries[place] = inode
                yield from self.with_datas(entries)

    def with_datas(self, entries):
        directories = {"."}
        for (parent, name), inode in sorted(entries.items()):
            # In this order a parent comes before what is in it.
            if inode == "dir" and parent in directories:
                directories.add(name if parent == "." else f"{parent}/{name}")
        files = {f"{parent}/{name}": inode for (parent, name), inode in entries.items()
                 if inode not in (None, "dir") and parent in directories}
        paths = collections.defaultdict(list)
        for path, inode in files.items():
            paths[inode].append(path)
        inodes = sorted(paths)
        for datas in itertools.product(*(sorted(self.datas(inode, paths[inode])) for inode in inodes)):
            data = dict(zip(inodes, datas))
            yield {path: (inode, data[inode]) for path, inode in files.items()}, directories


def crashes(before, ops, stale=(), first=0):
    """Each state that a crash may leave, with the number of operations that had been done; from the first on."""
    disk = Disk.of(*before, stale)
    for done in range(len(ops) + 1):
        if done > 0:
            disk.apply(ops[done - 1])
        if done < first:
            continue
        for files, directories in disk.after_crash():
            yield done, files, directories
