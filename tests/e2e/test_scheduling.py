"""How the kernel schedules the receiver: sched(7)."""

import os

import pytest

from receiver import Receiver
from replies import assert_accepted
from sender import signed
from servers import Socket


@pytest.mark.parametrize("given, policy", [
    ("--other", os.SCHED_BATCH),    # the ordinary one, which would interrupt the web server
    ("--idle", os.SCHED_IDLE),      # an operator's choice, which stays
])
def test_policy(place, given, policy):
    server = Socket(place)
    # As Socket.start() does, through chrt(1).
    server.receiver = Receiver(place, via=["chrt", given, "0"], PSAPI_LISTEN=f"unix:{place.dir}/psapi.sock").start()
    assert_accepted(server.send(signed()))
    pid = server.receiver.pid
    assert {os.sched_getscheduler(int(thread)) for thread in os.listdir(f"/proc/{pid}/task")} == {policy}
    server.receiver.stop()
