"""Secrets in the receiver's memory: base/securemem.h."""

import os
import re
import resource

import pytest

from installed_layout import NOBODY, InstalledLayout, status_of
from process_memory import found
from receiver import HOOKED, SANITIZED, wait_for
from replies import assert_accepted, assert_refused
from sender import OTHER_SECRET, SECRET, signed

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what was freed")


@pytest.mark.skipif(os.geteuid() != 0, reason="nobody but root may look into the process")
def test_secrets_in_memory(place):
    """Only the key schedule of a secret is in memory, in locked pages that are not dumped. Nothing is left of a
    rotated-out secret, or at the end of the process."""
    server = InstalledLayout(place, binary=HOOKED, PSAPI_HOOK_STOP="1", PSAPI_THREADS="2").start()
    receiver = server.receiver
    for _ in range(4):
        assert_accepted(server.send(signed()))
        assert_refused(server.send(signed(secrets=[OTHER_SECRET])), "signature_mismatch")
    there = found(receiver.pid, SECRET)
    assert there.keys() == {"inner state", "outer state"}
    for flags in [flags for each in there.values() for flags in each]:
        assert {"lo", "dd"} <= set(flags), "locked, not dumped"
    assert [len(each) for each in there.values()] == [1, 1]
    place.write_secret(OTHER_SECRET)
    assert_accepted(server.send(signed(secrets=[OTHER_SECRET])))
    assert found(receiver.pid, SECRET) == {}
    assert found(receiver.pid, OTHER_SECRET).keys() == {"inner state", "outer state"}
    receiver.signal()
    wait_for(lambda: status_of(f"/proc/{receiver.pid}/status")["State"].strip().startswith("T"), "its end")
    assert found(receiver.pid, OTHER_SECRET) == {} == found(receiver.pid, SECRET)
    receiver.kill()


def test_memory_that_may_not_be_locked(place):
    """An ordinary user whose limit is too small: a message, and the receiver works."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == 0:
        pytest.skip("nothing may be locked here anyway")
    layout = InstalledLayout(place, via=["prlimit", "--memlock=4096:4096"]).given_to(NOBODY)
    server = layout.start()
    assert_accepted(server.send(signed()))
    assert len(re.findall("cannot be kept from swap", server.log())) == 1, server.log()
