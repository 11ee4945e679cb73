"""What systemd is told (Type=notify): that the receiver is ready, and why it is not."""

import socket

import pytest

from receiver import BINARY, Receiver, connects


@pytest.fixture
def manager(place):
    """The service manager's end."""
    if b"libsystemd.so" not in BINARY.read_bytes():
        pytest.skip("built without libsystemd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place.dir / "notify"))
        manager.settimeout(30)
        place.settings["NOTIFY_SOCKET"] = place.dir / "notify"
        yield manager


def test_ready(place, manager):
    receiver = Receiver(place).start(ready=False)
    assert manager.recv(4096) == b"READY=1\nSTATUS="
    assert connects(receiver.path)      # not earlier than it can be asked


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
