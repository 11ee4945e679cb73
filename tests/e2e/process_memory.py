"""Searches the memory of a process for traces of a secret, and tells in which kind of page they are.

Only root can: the receiver is not dumpable.
"""

import base64
import re
import sys
from pathlib import Path


def regions(pid):
    """(name, flags, bytes) of all memory that the process may write."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for begin, end, modes, name, rest in re.findall(
                r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)\n((?:[A-Z].*\n)+)", text, re.M):
            if "w" not in modes:
                continue
            memory.seek(int(begin, 16))
            flags = re.search(r"^VmFlags: (.*)$", rest, re.M)[1].split()
            yield name, flags, memory.read(int(end, 16) - int(begin, 16))


def sha256_state(block):
    """The state of SHA-256 after one block (FIPS 180-4, 6.2.2), as eight words of this machine."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
    root = [int((p ** (1 / 3) % 1) * 2 ** 32) for p in primes[:64]]
    state = [int((p ** 0.5 % 1) * 2 ** 32) for p in primes[:8]]

    def turn(x, n):
        return (x >> n | x << (32 - n)) & 0xffffffff

    w = [int.from_bytes(block[i:i + 4], "big") for i in range(0, 64, 4)]
    for i in range(16, 64):
        a, b = w[i - 15], w[i - 2]
        w.append((w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7]
                  + (turn(b, 17) ^ turn(b, 19) ^ b >> 10)) & 0xffffffff)
    a, b, c, d, e, f, g, h = state
    for i in range(64):
        one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + root[i] + w[i]) & 0xffffffff
        two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c)) & 0xffffffff
        a, b, c, d, e, f, g, h = (one + two) & 0xffffffff, a, b, c, (d + one) & 0xffffffff, e, f, g
    words = [(x + y) & 0xffffffff for x, y in zip(state, (a, b, c, d, e, f, g, h))]
    return b"".join(word.to_bytes(4, sys.byteorder) for word in words)


def traces(secret):
    """Byte strings that reveal the secret: name -> bytes."""
    text = secret.removeprefix("whsec_").encode()
    key = base64.b64decode(text)
    pads = {pad: bytes(b ^ pad for b in key.ljust(64, b"\0")) for pad in (0x36, 0x5c)}
    return {"text": text, "key": key, "inner block": pads[0x36], "outer block": pads[0x5c],
            "inner state": sha256_state(pads[0x36]), "outer state": sha256_state(pads[0x5c])}


def found(pid, secret):
    """trace -> flags of the region, for each time that it was found."""
    where = {}
    for _, flags, memory in regions(pid):
        for name, trace in traces(secret).items():
            where.setdefault(name, []).extend([flags] * memory.count(trace))
    return {name: flags for name, flags in where.items() if flags}
