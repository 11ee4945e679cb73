"""Resident memory: under 8 MiB with 32 threads that have all worked."""

import pytest

from load import at_once
from receiver import SANITIZED
from replies import assert_accepted, parse_cgi
from sender import event, signed
from servers import pairs

THREADS, REQUESTS = 32, 2000


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is far larger")
@pytest.mark.settings(PSAPI_THREADS=str(THREADS))
def test_resident_memory(direct, place):
    def sender():
        with direct.connect() as client:
            for _ in range(-(-REQUESTS // THREADS)):
                request = signed(event("x.y", filler="a" * 3800))
                assert len(request.body) < 4096
                assert_accepted(parse_cgi(client.exchange(pairs(request), request.body, keep=True)))

    at_once([sender] * THREADS)
    assert len(place.spool.names("new")) >= REQUESTS
    with open(f"/proc/{direct.receiver.pid}/status") as status:
        values = dict(line.split(":", 1) for line in status)
    assert int(values["Threads"]) >= THREADS
    resident = int(values["VmRSS"].split()[0])
    assert resident < 8192, f"{resident} kB"
