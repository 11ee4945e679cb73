"""What a disk was told (the log of logdisk.c), and the images that a power cut may leave of it.

The model: a write is on the disk at time t if it ended before the begin of a flush that had ended
by t. Each other write that had begun by t may be there or not, whole or in pieces.
"""

import bisect
import struct
from dataclasses import dataclass

WRITE_BEGINS, WRITE_ENDS, FLUSH_BEGINS, FLUSH_ENDS = 1, 2, 3, 4
ENTRY = struct.Struct("@IIQQQ")
NEVER = 1 << 63
TORN = "pieces of 512"


@dataclass
class Write:
    begin: int
    end: int
    offset: int
    data: memoryview

    @property
    def is_event(self):
        """Whether it writes an event's file."""
        return b'"webhook_id"' in self.data.tobytes()


class History:
    """writes, and flushes as (begin, end): in the order of their ends. times: of all entries."""

    def __init__(self, log):
        begun, flushing, self.flushes, self.times = {}, {}, [], []
        for kind, number, ns, offset, data in entries(log):
            self.times.append(ns)
            if kind == WRITE_BEGINS:
                begun[number] = Write(ns, NEVER, offset, data)
            elif kind == WRITE_ENDS:
                begun[number].end = ns
            elif kind == FLUSH_BEGINS:
                flushing[number] = ns
            else:
                self.flushes.append((flushing[number], ns))
        self.writes = sorted(begun.values(), key=lambda write: write.end)
        self.write_ends = [write.end for write in self.writes]
        self.flush_ends = [end for _, end in self.flushes]
        self.flushed_to = running_maximum(begin for begin, _ in self.flushes)

    def durable(self, t):
        """How many of `writes` are on the disk for certain when the power goes at t."""
        flushes = bisect.bisect_right(self.flush_ends, t)
        if flushes == 0:
            return 0
        return bisect.bisect_left(self.write_ends, self.flushed_to[flushes - 1])

    def pending(self, t):
        """The writes that may be on the disk or not."""
        return [write for write in self.writes[self.durable(t):] if write.begin < t]


def entries(log):
    position, log = 0, memoryview(log)
    while position < len(log):
        kind, number, ns, offset, length = ENTRY.unpack_from(log, position)
        position += ENTRY.size
        size = length if kind == WRITE_BEGINS else 0
        yield kind, number, ns, offset, log[position:position + size]
        position += size


def running_maximum(values):
    most, result = 0, []
    for value in values:
        most = max(most, value)
        result.append(most)
    return result


# ---- what is there of the pending writes: (offset, data) of each piece ----

def chosen(writes, condition):
    return [(write.offset, write.data) for write in writes if condition(write)]


def torn(writes, dice, size):
    """Each piece of that size is there or not."""
    share = dice.choice([0.5, 0.5, 0.9, 0.98])
    return [(write.offset + at, write.data[at:at + size]) for write in writes
            for at in range(0, len(write.data), size) if dice.random() < share]


def some(writes, dice):
    share = dice.choice([0.1, 0.5, 0.5, 0.9])
    return chosen(writes, lambda _: dice.random() < share)


def latest(writes, dice):
    """The later writes overtook the earlier ones."""
    return chosen(writes[-dice.randint(1, max(1, len(writes))):], lambda _: True)


def all_but_a_few(writes, dice):
    left_out = dice.sample(range(len(writes)), min(len(writes), dice.randint(1, 3)))
    return [(write.offset, write.data) for i, write in enumerate(writes) if i not in left_out]


def one_size(writes, dice):
    small = dice.random() < 0.5
    return chosen(writes, lambda write: (len(write.data) <= 4096) == small)


CHOICES = {
    "none": lambda writes, dice: [],
    "all": lambda writes, dice: chosen(writes, lambda _: True),
    "some": some,
    "pieces of 4096": lambda writes, dice: torn(writes, dice, 4096),
    TORN: lambda writes, dice: torn(writes, dice, 512),
    "latest": latest,
    "all but a few": all_but_a_few,
    "all but events": lambda writes, dice: chosen(writes, lambda write: not write.is_event),
    "some of the events": lambda writes, dice: chosen(
        writes, lambda write: not write.is_event or dice.random() < 0.5),
    "one size": one_size,
}


@dataclass
class Cut:
    t: int              # CLOCK_MONOTONIC, ns
    choice: str         # key of CHOICES


def cuts(history, recording, count, dice):
    """Power cuts during the load, in the order of their times. A third is right after an answer, a
    third right before the end of a flush, when the most is pending, a third at any entry."""
    answers = list(recording.answered.values())
    times = [t for t in history.times if t >= recording.begin]
    ends = [end - 1 for begin, end in history.flushes if begin >= recording.begin]
    choices = list(CHOICES)
    made = [Cut(dice.choice(dice.choice([answers, ends or times, times])),
                choices[i % len(choices)]) for i in range(count)]
    return sorted(made, key=lambda cut: cut.t)


def images(history, recording, count, dice):
    """For each cut: the cut; the content of the disk that is durable by then, a bytearray that is
    brought forward; and the pieces that are there of the pending writes, in their order."""
    content, done = recording.base, 0
    for cut in cuts(history, recording, count, dice):
        durable = history.durable(cut.t)
        for write in history.writes[done:durable]:
            content[write.offset:write.offset + len(write.data)] = write.data
        done = durable
        yield cut, content, CHOICES[cut.choice](history.pending(cut.t), dice)
