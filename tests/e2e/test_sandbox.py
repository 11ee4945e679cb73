"""The sandbox of the receiver: server/sandbox.h.

A test hook within the process (tests/hook/hook.c, linked with the shipped objects) tries the forbidden operations. It
can leave out each part of the sandbox: without it the same operations succeed.
"""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

import strace
from installed_layout import NOBODY, InstalledLayout, landlock_abi, need, status_of
from receiver import BINARY, HOOKED, SANITIZED, wait_for
from replies import assert_accepted, assert_duplicate, assert_refused, parse_cgi
from sender import OTHER_SECRET, SECRET, event, signed
from servers import Cgi, cgi_variables
from spool import Spool

# Landlock's errno for a link or rename that would give more rights is EXDEV.
FILES = {name: {"EACCES"} for name in (
    "read /etc/passwd", "list /etc", "read outside", "write outside", "make outside",
    "rename outside", "remove outside", "write secret", "exec")}
FILES |= {"link out": {"EACCES", "EXDEV"}, "link in": {"EACCES", "EXDEV"}}
NETWORK = {"connect": {"EACCES"}, "bind": {"EACCES"}}
SIGNALS = {"kill": {"EPERM"}}
CALLS = {name: {"ENOSYS"} for name in (
    "exec", "fork", "ptrace", "socket", "unix socket", "connect", "bind", "listen", "kill",
    "mmap executable", "mprotect executable", "become dumpable", "fcntl owner", "fcntl signal", "fcntl flags",
    "fcntl notify", "fcntl duplicate", "datagram pair", "socket option")}

pytestmark = pytest.mark.skipif(SANITIZED, reason="a sanitizer inspects its own process: server/sandbox.c")
traced = pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))


def probing(place, port, skip=""):
    """A receiver whose hook tries the operations at the start, with files and sockets to try them on."""
    layout = InstalledLayout(place, binary=HOOKED, PSAPI_HOOK_SKIP=skip, PSAPI_HOOK_PROBE=place.dir / "other",
                  PSAPI_HOOK_PORT=port)
    for name in ("file", "moved", "gone"):
        (place.dir / "other" / name).touch()
    return layout


def outcomes(server):
    """The result of each operation: name -> errno, or "allowed"."""
    return dict(re.findall(r"^hook: (.+): (\w+)$", server.log(), re.M))


@pytest.mark.parametrize("skip", ["", "files", "calls", "files,calls"])
def test_refused(place, skip):
    """Landlock alone, seccomp alone, both; and all of it allowed without them."""
    files, calls = "files" not in skip, "calls" not in skip
    need(files, calls)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = probing(place, listener.getsockname()[1], skip).start()
        assert_accepted(server.send(signed()))
    outcome = outcomes(server)
    expected = {name: {"allowed"} for name in CALLS | FILES}
    if files:
        expected |= FILES | (NETWORK if landlock_abi() >= 4 else {})
        expected |= SIGNALS if landlock_abi() >= 6 else {}
    if calls:
        expected |= CALLS
    assert {name: outcome[name] for name in expected if outcome[name] not in expected[name]} == {}
    further = [outcome[name] for name in outcome if name.startswith("system call ")]
    if calls:
        assert set(further) == {"ENOSYS"} == {outcome["call of i386"]}
    else:
        assert further.count("allowed") > 20, "without the sandbox they are allowed, or this tests nothing"


def test_the_shipped_program_has_no_hook():
    assert b"PSAPI_HOOK" in HOOKED.read_bytes()
    for program in ("psapi-fcgi", "psapi"):
        assert b"PSAPI_HOOK" not in (BINARY.parent / program).read_bytes()


def test_in_force(place):
    """From outside: every thread is confined, limits, locked memory, and the process is not dumpable."""
    need(calls=True)
    server = InstalledLayout(place).given_to(NOBODY).start()
    assert_accepted(server.send(signed()))
    proc = Path(f"/proc/{server.receiver.pid}")
    for thread in (proc / "task").iterdir():
        status = status_of(thread / "status")
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert re.search(r"^Max core file size +0 +0 ", (proc / "limits").read_text(), re.M)
    assert int(status["VmLck"].split()[0]) >= 8
    assert status["Uid"].split()[0] != "0" and proc.joinpath("mem").stat().st_uid == 0


def test_no_message(place):
    """With a complete sandbox nothing is logged."""
    need(files=True, calls=True)
    server = InstalledLayout(place).start()
    assert_accepted(server.send(signed()))
    assert server.log() == ""


def test_cgi(place):
    """Classic CGI has only the parts that cost nearly no time."""
    request = signed()
    cgi = Cgi(place)
    cgi.start()
    environment = place.environment() | dict(cgi_variables(request))
    process = subprocess.Popen([BINARY], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    proc = Path(f"/proc/{process.pid}")
    wait_for(lambda: status_of(proc / "status")["NoNewPrivs"].strip() == "1", "no new privileges")
    wait_for(lambda: "Max core file size        0                    0 " in (proc / "limits").read_text(),
             "no core")
    if os.geteuid() != 0:
        wait_for(lambda: proc.joinpath("mem").stat().st_uid == 0, "not dumpable")
    wait_for((place.spool.path / "tmp").exists, "the spool is open")
    assert status_of(proc / "status")["Seccomp"].strip() == "0"
    output, _ = process.communicate(request.body)
    assert_accepted(parse_cgi(output))


# glibc tries these calls and has another way: clone instead of clone3, whose flags a filter cannot see; when an arena
# shrinks, it assumes that memory is overcommitted.
DONE_WITHOUT = ("clone3(", "/proc/sys/vm/overcommit_memory")


def refused_calls(trace):
    """The calls in strace's output that failed with the errno of the sandbox."""
    begun = {}
    for line in trace.splitlines():
        pid, call = line.split(maxsplit=1)
        if call.endswith(" <unfinished ...>"):
            begun[pid] = call
        elif re.search(r"= -1 (ENOSYS|EACCES|EPERM)", call):
            yield begun.get(pid, "") + call if call.startswith("<...") else call


@traced
def test_no_call_of_the_receiver_is_refused(place):
    """From the start of the sandbox to the exit it refuses no call, for requests of all kinds."""
    need(files=True, calls=True)
    log = place.dir / "strace.txt"
    via = ["strace", "-D", "-f", "-qq", "-o", str(log)]
    layout = InstalledLayout(place, binary=HOOKED, via=via, PSAPI_HOOK_OPEN="1")
    place.write_secret("# not yet")
    server = layout.start()
    assert server.send(signed()).word == "held"
    place.write_secret(SECRET)
    assert_accepted(server.send(signed()))
    wait_for(lambda: len(place.spool.names("new")) == 2, "what was held is adopted")
    for body in (event(), event("x.y", filler="a" * 900_000), event("psapi.doctor", x=1)):
        request = signed(body)
        assert_accepted(server.send(request))
        assert_duplicate(server.send(request))
    assert_accepted(server.send(signed(b"not JSON")))
    assert len(place.spool.names("failed")) == 1
    os.rename(place.spool.path / "attempts.jsonl", place.spool.path / "attempts.jsonl.1")
    place.write_secret(OTHER_SECRET, SECRET)
    assert_accepted(server.send(signed(secrets=[OTHER_SECRET])))
    assert_refused(server.send(signed(timestamp=5)), "stale_timestamp")
    assert len(place.spool.attempts()) >= 1
    server.receiver.stop()
    assert not server.receiver.path.exists()
    wait_for(lambda: " exit_group(0)" in log.read_text(), "strace has written it all")
    serving = re.split(r"seccomp\(SECCOMP_SET_MODE_FILTER, 0?.*\) = 0\n", log.read_text())[-1]
    assert serving.count("accept4(") > 5
    assert {call for call in refused_calls(serving) if not any(text in call for text in DONE_WITHOUT)} == set()


# ---- kernels without a part of it ----

@traced
@pytest.mark.parametrize("call, fault, message", [
    ("landlock_create_ruleset", "error=ENOSYS", "Landlock: Function not implemented"),
    ("landlock_create_ruleset", "error=EOPNOTSUPP", "Landlock: Operation not supported"),
    ("landlock_create_ruleset", "retval=1", "Landlock: this kernel's (ABI 1) cannot link"),
    ("landlock_add_rule", "error=ENOMEM", "Landlock: Cannot allocate memory"),
    ("landlock_restrict_self", "error=EPERM", "Landlock: Operation not permitted"),
    ("seccomp", "error=EINVAL", "seccomp: Invalid argument"),
    ("mlock2", "error=ENOMEM", "cannot be kept from swap: mlock: Cannot allocate memory"),
])
def test_goes_on_without(place, call, fault, message):
    need(files=True, calls=True)
    via = strace.command(call, fault, "1+", place.dir / "strace.txt")
    server = InstalledLayout(place, via=[via[0], "-D", *via[1:]]).start()
    assert_accepted(server.send(signed()))
    assert len([line for line in server.log().splitlines() if message in line]) == 1, server.log()


def test_links_of_a_process_that_is_not_dumpable(place):
    """Files are linked through /proc/self/fd, which belongs to root then."""
    server = InstalledLayout(place).given_to(NOBODY).start()
    assert_accepted(server.send(signed()))
    assert len(place.spool.names("events")) == 1


# ---- where the secret may be ----

def rotate(place, server, replace):
    """Replaces the secret at its real path: the receiver must use the new one."""
    assert_accepted(server.send(signed()))
    replace(OTHER_SECRET + "\n")
    assert_accepted(server.send(signed(secrets=[OTHER_SECRET])))
    assert_refused(server.send(signed()), "signature_mismatch")


def replaced(path, text):
    draft = path.with_name("draft")
    draft.write_text(text)
    draft.chmod(0o640)
    os.replace(draft, path)


def linked(link, target):
    draft = link.with_name("link")
    draft.symlink_to(target)
    os.replace(draft, link)


def test_secret_is_a_link_elsewhere(place):
    """As for systemd's credentials: /etc/psapi/secret -> /run/credentials/UNIT/secret."""
    need(files=True)
    layout = InstalledLayout(place)
    real = place.dir / "credentials/secret"
    real.parent.mkdir()
    os.replace(place.secret_file, real)
    place.secret_file.symlink_to("../credentials/secret")
    rotate(place, layout.start(), lambda text: replaced(real, text))


def test_link_becomes_a_file(place):
    need(files=True)
    layout = InstalledLayout(place)
    real = place.dir / "credentials/secret"
    real.parent.mkdir()
    os.replace(place.secret_file, real)
    place.secret_file.symlink_to(real)
    rotate(place, layout.start(), lambda text: replaced(place.secret_file, text))


def test_links_that_are_switched(place):
    """As in Kubernetes: secret -> ..data/secret, ..data -> ..1."""
    need(files=True)
    layout = InstalledLayout(place)
    etc = place.secret_file.parent
    (etc / "..1").mkdir()
    os.replace(place.secret_file, etc / "..1/secret")
    linked(etc / "..data", "..1")
    place.secret_file.symlink_to("..data/secret")

    def flip(text):
        (etc / "..2").mkdir()
        replaced(etc / "..2/secret", text)
        linked(etc / "..data", "..2")
    rotate(place, layout.start(), flip)


def test_directory_that_is_not_there_yet(place):
    """The receiver looks for the secret at every request. A directory that is not known at the start stays readable,
    and a message says so."""
    need(files=True)
    layout = probing(place, 1)
    shutil.rmtree(place.secret_file.parent)
    server = layout.start()
    assert_refused(server.send(signed()), "no_secret")
    assert "reading files is not restricted" in server.log()
    assert "files are not restricted" not in server.log()
    assert outcomes(server)["read outside"] == "allowed"
    assert outcomes(server)["write outside"] == "EACCES"
    place.secret_file.parent.mkdir()
    replaced(place.secret_file, SECRET + "\n")
    assert_accepted(server.send(signed()))


def test_replaced_directory_is_explained(place):
    """Landlock allows directories, not paths: the log says what to do."""
    need(files=True)
    server = InstalledLayout(place).start()
    assert_accepted(server.send(signed()))
    etc = place.secret_file.parent
    etc.rename(place.dir / "etc.old")
    etc.mkdir()
    replaced(place.secret_file, OTHER_SECRET + "\n")
    assert_accepted(server.send(signed()))      # the last good secrets stay in force
    assert re.search(r"secret: Permission denied.*restart", server.log()), server.log()


def test_spool_is_a_link(place):
    """A directory in it may not be one: test_mounts.py."""
    need(files=True)
    layout = InstalledLayout(place)
    os.rename(place.spool.path, place.dir / "real")
    place.spool.path.symlink_to("real")
    place.spool = Spool(place.dir / "real")
    server = layout.start()
    request = signed()
    assert_accepted(server.send(request))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_a_link_in_the_spool_gives_no_rights(place):
    """Some user of the spool's group has made it: files where it leads stay out of reach."""
    need(files=True)
    layout = probing(place, 1, skip="calls")
    (place.spool.path / "more").symlink_to(place.dir / "other")
    server = layout.start()
    assert_accepted(server.send(signed()))
    outcome = outcomes(server)
    assert {name: outcome[name] for name in FILES if outcome[name] not in FILES[name]} == {}
