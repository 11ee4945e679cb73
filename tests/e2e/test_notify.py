"""What systemd is told (Type=notify): that the receiver is ready, and why it is not."""

import os
import socket

import pytest

from receiver import Receiver, connects, wait_for


@pytest.fixture
def manager(place):
    """The service manager's end."""
    with listening(place, str(place.dir / "notify")) as manager:
        yield manager


def listening(place, address):
    """A datagram socket there; address: a path, or @NAME for an abstract one."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address.replace("@", "\0") if address.startswith("@") else address)
    manager.settimeout(30)
    place.settings["NOTIFY_SOCKET"] = address
    return manager


def test_ready(place, manager):
    receiver = Receiver(place).start(ready=False)
    assert manager.recv(4096) == b"READY=1\nSTATUS="
    assert connects(receiver.path)      # not earlier than it can be asked


def test_abstract_socket(place):
    with listening(place, f"@psapi-test-{os.getpid()}") as manager:
        Receiver(place).start(ready=False)
        assert manager.recv(4096) == b"READY=1\nSTATUS="


@pytest.mark.parametrize("where", ["nowhere", "relative", "/" + "x" * 200, "vsock:2:1"])
def test_nobody_to_tell(place, where):
    """It serves all the same, and says so."""
    place.settings["NOTIFY_SOCKET"] = place.dir / where if where == "nowhere" else where
    receiver = Receiver(place).start()
    wait_for(lambda: "cannot tell the service manager: " in receiver.log(), "it is logged")
    assert connects(receiver.path)


def test_ready_without_a_secret(place, manager):
    place.write_secret("")
    Receiver(place).start()
    ready, status = manager.recv(4096).decode().split("\n")
    assert ready == "READY=1" and str(place.secret_file) in status and "psapi secret add" in status


def test_not_ready(place, manager):
    receiver = Receiver(place, PSAPI_SPOOL="/proc/nowhere").start(ready=False)
    assert manager.recv(4096).startswith(b'STATUS=PSAPI_SPOOL="/proc/nowhere" (environment): ')
    assert receiver.wait(20) == 73      # EX_CANTCREAT
    receiver.process = None


def test_setting_that_does_not_parse(place, manager):
    receiver = Receiver(place, PSAPI_THREADS="many").start(ready=False)
    assert manager.recv(4096).startswith(b'STATUS=PSAPI_THREADS="many" (environment): ')
    assert receiver.wait(20) == 78      # EX_CONFIG
    receiver.process = None
