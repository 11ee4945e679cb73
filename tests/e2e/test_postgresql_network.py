"""The PostgreSQL store over TCP, with TLS and hosts' names, in the receiver's sandbox. The server listens on an address
of loopback that is this test's alone; a mount namespace gives its name to the programs, so this needs root.

  sslmode=verify-full   own authority, name of the certificate; what is wrong with either is said
  sandbox               no call that libpq and the resolver need is refused; another port is
  resolver              one that does not answer delays no answer over the sender's patience
"""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import time

import pytest

import postgresql
import strace
from installed_layout import landlock_abi, need, status_of
from psapi_command import Desk
from receiver import HOOKED, SANITIZED, SLOWER, Place, Receiver, wait_for
from replies import assert_accepted, assert_refused
from sender import signed
from servers import Socket
from shared_store import settings
from test_sandbox import DONE_WITHOUT, outcomes, refused_calls

pytestmark = [pytest.mark.skipif(postgresql.why_not() is not None, reason=str(postgresql.why_not())),
              pytest.mark.skipif(os.geteuid() != 0, reason="only root can give names to hosts")]
AUTHORITY = """
set -e
new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
$new -x509 -subj /CN=test-CA -keyout ca.key -out ca.crt
$new -x509 -subj /CN=other-CA -keyout other.key -out other.crt
$new -subj /CN=db1.test -keyout node.key -out node.csr
echo subjectAltName=DNS:db1.test >ext
openssl x509 -req -in node.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out node.crt
"""
ACCESS = """
local all postgres peer map=tests
hostssl all guarded 127.0.0.0/8 scram-sha-256
"""


def own_address():
    """Of loopback, and nobody else's."""
    return ".".join(["127"] + [str(random.randint(1, 254)) for _ in range(3)])


class Far:
    """A server that is reached over TCP with TLS alone, and the names of hosts."""

    def __init__(self):
        self.address = own_address()
        self.cluster = postgresql.Cluster(1)
        self.dir = self.cluster.dir
        try:
            self.listen(self.cluster.primary)
            self.cluster.database("psapi", owner="guarded")
        except BaseException:
            self.cluster.close()
            raise

    def listen(self, node):
        subprocess.run(["sh", "-c", AUTHORITY], cwd=self.dir, check=True, capture_output=True)
        for name in ("node.key", "node.crt"):
            (self.dir / name).chmod(0o600)
            self.cluster.give(self.dir / name)
        (node.data / "pg_hba.conf").write_text(ACCESS)
        node.set(listen_addresses=self.address, ssl="on", ssl_cert_file=f"{self.dir}/node.crt",
                 ssl_key_file=f"{self.dir}/node.key")
        node.stop()
        node.start()
        (self.dir / "hosts").write_text(
            f"127.0.0.1 localhost\n{self.address} db1.test\n{self.address} other.test\n127.0.0.2 db2.test\n")
        (self.dir / "pgpass").write_text("*:*:*:guarded:right\n")
        (self.dir / "pgpass").chmod(0o600)

    def uri(self, hosts="db2.test,db1.test", **more):
        parameters = {"sslmode": "verify-full", "sslrootcert": f"{self.dir}/ca.crt",
                      "passfile": f"{self.dir}/pgpass"} | more
        return f"postgresql://guarded@{hosts}/psapi?" + "&".join(f"{key}={value}" for key, value in parameters.items())

    def via(self, *more):
        """A command that gives the names to what it starts."""
        return ["unshare", "--mount", "sh", "-ec", f'mount --bind {self.dir}/hosts /etc/hosts; exec "$0" "$@"', *more]

    def end_sessions(self):
        self.cluster.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'guarded'")

    def count(self):
        return int(self.cluster.primary.sql("SELECT count(*) FROM psapi_event", database="psapi"))


@pytest.fixture(scope="module")
def far():
    far = Far()
    yield far
    far.cluster.close()


@pytest.fixture
def desk(far):
    desk = Desk(Place(settings(far.uri())))
    try:
        desk.run("store", "init", under=far.via())
        far.cluster.primary.sql("TRUNCATE psapi_event, psapi_queue", database="psapi")
        yield desk
    finally:
        desk.close()
        desk.place.close()


def receiver(desk, via, **more):
    """Behind its socket."""
    server = Socket(desk.place)
    server.receiver = Receiver(desk.place, via=via, PSAPI_LISTEN=f"unix:{desk.place.dir}/psapi.sock", **more)
    return server


@pytest.mark.skipif(SANITIZED, reason="a sanitizer inspects its own process: server/sandbox.c")
@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
def test_sandbox_leaves_what_it_needs(far, desk):
    """Also for a second connection, when the authority's file was replaced meanwhile."""
    need(files=True, calls=True)
    log = desk.place.dir / "strace.txt"
    server = receiver(desk, far.via("strace", "-D", "-f", "-qq", "-o", str(log)), binary=HOOKED, PSAPI_HOOK_OPEN="1")
    server.receiver.start()
    assert_accepted(server.send(signed()))
    shutil.copy(far.dir / "ca.crt", far.dir / "ca.new")
    os.replace(far.dir / "ca.new", far.dir / "ca.crt")
    far.end_sessions()
    assert_accepted(server.send(signed()))
    assert far.count() == 2
    server.receiver.stop()
    wait_for(lambda: " exit_group(0)" in log.read_text(), "strace has written it all")
    serving = re.split(r"seccomp\(SECCOMP_SET_MODE_FILTER, 0?.*\) = 0\n", log.read_text())[-1]
    assert f'inet_addr("{far.address}")' in serving and "/etc/hosts" in serving and "ca.crt" in serving
    assert {call for call in refused_calls(serving) if not any(text in call for text in DONE_WITHOUT)} == set()


@pytest.mark.skipif(SANITIZED, reason="a sanitizer inspects its own process: server/sandbox.c")
def test_sandbox_allows_the_configured_ports_alone(far, desk):
    need(files=True, calls=True)
    (desk.place.dir / "other").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = receiver(desk, far.via(), binary=HOOKED, PSAPI_HOOK_PROBE=desk.place.dir / "other",
                          PSAPI_HOOK_PORT=listener.getsockname()[1], PSAPI_HOOK_SKIP="")
        server.receiver.start()
        assert_accepted(server.send(signed()))
    if landlock_abi() >= 4:
        assert outcomes(server.receiver)["connect"] == "EACCES"
        assert outcomes(server.receiver)["bind"] == "EACCES"
    assert outcomes(server.receiver)["exec"] in ("ENOSYS", "EACCES")


@pytest.mark.parametrize("hosts, parameters, says", [
    ("db1.test", {"sslrootcert": "other.crt"}, "certificate verify failed"),
    ("other.test", {}, 'does not match host name "other.test"'),
    ("db1.test", {"sslmode": "disable", "sslrootcert": ""}, "no pg_hba.conf entry"),
    ("nowhere.test", {}, "could not translate host name"),
], ids=["another authority", "another name", "no TLS", "unknown name"])
def test_wrong(far, desk, hosts, parameters, says):
    """One line that says what, and a remedy for it; nothing is stored."""
    if parameters.get("sslrootcert"):
        parameters = parameters | {"sslrootcert": f"{far.dir}/{parameters['sslrootcert']}"}
    desk.place.settings["PSAPI_STORE"] = far.uri(hosts, **parameters)
    done = desk.place.run("-t", via=far.via())
    (line,) = [one for one in (done.stdout + done.stderr).splitlines() if "PostgreSQL at" in one]
    assert done.returncode != 0 and says in line and f"PostgreSQL at {hosts}" in line, done
    assert re.search("sslrootcert=|pg_hba.conf|correct the host", line.split(says)[1]), line
    assert far.count() == 0


@contextlib.contextmanager
def silent_resolver(far):
    """A command that starts a program whose resolver does not answer, and the socket that it asks."""
    address = own_address()
    (far.dir / "resolv.conf").write_text(f"nameserver {address}\n")
    (far.dir / "nsswitch.conf").write_text("hosts: files dns\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, 53))
        yield ["unshare", "--mount", "sh", "-ec",
               f"for file in hosts resolv.conf nsswitch.conf; do mount --bind {far.dir}/$file /etc/$file; done; "
               'exec "$0" "$@"'], listener


def started(desk, via):
    server = receiver(desk, via)
    server.receiver.start()
    wait_for(lambda: SANITIZED or status_of(f"/proc/{server.receiver.pid}/status")["Seccomp"].strip() == "2",
             "it serves")
    return server


def test_resolver_does_not_answer(far, desk):
    """getaddrinfo(3) alone would wait for 10 s for each name."""
    desk.place.settings["PSAPI_STORE"] = far.uri("db8.test,db9.test")
    with silent_resolver(far) as (via, listener):
        server = started(desk, via)
        for _ in range(2):
            begun = time.monotonic()
            assert_refused(server.send(signed()), "spool_error")
            assert time.monotonic() - begun < 7 * SLOWER
        assert listener.recv(512), "it was asked"
    assert "could not translate host name: no answer of the resolver in time" in server.receiver.log()
    server.receiver.stop()


def test_resolver_answers_no_more(far, desk):
    """The address that was known last is used."""
    names = (far.dir / "hosts").read_text()
    desk.place.settings["PSAPI_STORE"] = far.uri("db1.test")
    with silent_resolver(far) as (via, listener):
        server = started(desk, via)
        assert_accepted(server.send(signed()))
        (far.dir / "hosts").write_text("127.0.0.1 localhost\n")
        try:
            far.end_sessions()
            begun = time.monotonic()
            assert_accepted(server.send(signed()))
            assert time.monotonic() - begun < 7 * SLOWER
            assert listener.recv(512), "it was asked"
        finally:
            (far.dir / "hosts").write_text(names)
    server.receiver.stop()


def test_resolver_answers_no_more_for_a_further_connection(far, desk):
    """The only connection is busy. Each name has its share of the second in which another is opened."""
    names, primary = (far.dir / "hosts").read_text(), far.cluster.primary
    desk.place.settings["PSAPI_STORE"] = far.uri("db1.test,other.test")
    with silent_resolver(far) as (via, _):
        server = started(desk, via)
        assert_accepted(server.send(signed()))
        (far.dir / "hosts").write_text("127.0.0.1 localhost\n")
        try:
            with postgresql.busy(primary, lambda: server.send(signed()), 3.5):
                begun = time.monotonic()
                assert_accepted(server.send(signed()))
                assert time.monotonic() - begun < 3 * SLOWER, "it waited for the busy one"
        finally:
            (far.dir / "hosts").write_text(names)
    server.receiver.stop()
