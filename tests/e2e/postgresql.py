"""A real PostgreSQL cluster for tests: nodes on unix sockets in a directory of the test's own, run by an ordinary user.

  Cluster(nodes)     a primary and nodes - 1 standbys; each commit waits for any one of them
  Node               one server: start, stop, kill, freeze, thaw, promote, follow, rewind, set, psql

A node that is killed or frozen loses all its processes at the same moment, as when its host dies. Nothing listens on a
network, and nothing outside of the directory is used but the programs of the package (any version of Debian's).
"""

import contextlib
import glob
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

from receiver import wait_for

PORT = 5432         # of each node, in a socket directory of its own
CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0777
max_connections = {connections}
superuser_reserved_connections = 3
shared_buffers = 32MB
max_wal_size = 512MB
wal_log_hints = on
hot_standby = on
max_wal_senders = 8
wal_keep_size = 256MB
wal_sender_timeout = 5s
wal_receiver_timeout = 5s
wal_retrieve_retry_interval = 200ms
log_line_prefix = '%m [%p] %d '
synchronous_commit = on
"""
# Peer: the tests' own users are psapi and the superuser. The user `guarded` has a password.
ACCESS = """
local all guarded scram-sha-256
local replication all peer map=tests
local all all peer map=tests
"""


def binaries():
    """The directory of the newest version's programs, or None."""
    found = glob.glob("/usr/lib/postgresql/*/bin/initdb")
    return Path(max(found, key=lambda path: int(path.split("/")[4]))).parent if found else None


def why_not():
    return None if binaries() else "PostgreSQL is not installed (make deps-check)"


def ordinary_user():
    """The user that runs the servers: initdb refuses root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("no user for PostgreSQL")


def in_memory(directory):
    """A parent for the data: /dev/shm where it has room, for a sync takes no time there."""
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > 2 << 30:
        return shm
    return directory


class Node:
    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.dir = cluster.dir / name
        self.data, self.log_file = self.dir / "data", self.dir / "log"
        self.process = None
        self.dir.mkdir(mode=0o755)
        cluster.give(self.dir)

    # ---- processes ----

    def start(self, wait=True):
        assert self.process is None, f"{self.name} runs"
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                [self.cluster.bin / "postgres", "-D", self.data, "-k", self.dir, "-p", str(PORT)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, **self.cluster.as_user())
        if wait:
            wait_for(self.is_up, f"{self.name} answers", 60)
        return self

    def is_up(self):
        assert self.process.poll() is None, f"{self.name} ended:\n{self.log()[-3000:]}"
        return self.sql("SELECT 1", check=False).strip() == "1"

    def stop(self):
        """Fast shutdown: sessions are ended."""
        if self.process is not None:
            self.thaw()
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
            self.process = None

    def pids(self):
        """The postmaster first: it makes no more processes once it is stopped."""
        pid = self.process.pid
        with contextlib.suppress(FileNotFoundError):
            return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        return [pid]

    def signal_all(self, number):
        for pid in [self.process.pid, *self.pids()[1:]]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self):
        """Its host hangs: connections stay open, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)
        self.signal_all(signal.SIGSTOP)

    def thaw(self):
        self.signal_all(signal.SIGCONT)

    def kill(self):
        """Its host dies: no process does anything any more."""
        if self.process is None:
            return
        self.freeze()
        pids = self.pids()
        self.signal_all(signal.SIGKILL)
        self.process.wait()
        self.process = None
        wait_for(lambda: not any(is_running(pid) for pid in pids), f"{self.name} is gone")
        for left in self.dir.glob(".s.PGSQL.*"):
            left.unlink()       # a dead host refuses or does not answer; it leaves no socket
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # ---- SQL ----

    def psql(self, *arguments, database="postgres", check=True, **more):
        """psql as the superuser, whatever the environment says."""
        command = [self.cluster.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.dir,
                   "-p", str(PORT), "-U", "postgres", "-d", database, *arguments]
        done = subprocess.run(command, env={"PATH": os.environ["PATH"], "PGCONNECT_TIMEOUT": "10"}, text=True,
                              capture_output=True, timeout=120, check=False, **more)
        assert not check or done.returncode == 0, (self.name, arguments, done.stderr, self.log()[-2000:])
        return done

    def sql(self, *statements, database="postgres", check=True):
        """Run each in a transaction of its own; what they print."""
        return self.psql(*(word for one in statements for word in ("-c", one)), database=database, check=check).stdout

    def session(self, *statements, database="postgres"):
        """A psql that stays connected after the statements, until it is closed (communicate, kill)."""
        child = subprocess.Popen(
            [self.cluster.bin / "psql", "-X", "-q", "-A", "-t", "-h", self.dir, "-p", str(PORT), "-U", "postgres",
             "-d", database], env={"PATH": os.environ["PATH"]}, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        child.stdin.write("".join(one + ";\n" for one in statements) + "\\echo ready\n")
        child.stdin.flush()
        for line in child.stdout:
            if line == "ready\n":
                break
        return child

    def set(self, database="postgres", **settings):
        """ALTER SYSTEM and reload; None resets. A standby takes it as well."""
        for name, value in settings.items():
            to = f"SET {name} = '{value}'" if value is not None else f"RESET {name}"
            self.sql(f"ALTER SYSTEM {to}", database=database)
        self.sql("SELECT pg_reload_conf()")

    # ---- replication ----

    def is_standby(self):
        return self.sql("SELECT pg_is_in_recovery()", check=False).strip() == "t"

    def received(self):
        """How much of the log it has, in bytes."""
        return int(self.sql("SELECT pg_wal_lsn_diff(coalesce(greatest(pg_last_wal_receive_lsn(), "
                            "pg_last_wal_replay_lsn()), pg_last_wal_replay_lsn()), '0/0')").strip())

    def streaming(self):
        """The standbys that are connected, have caught up with this primary, and count if any does."""
        rows = self.sql("SELECT application_name FROM pg_stat_replication WHERE state = 'streaming' AND (sync_state <> 'async' "
                        "OR current_setting('synchronous_standby_names') = '')", check=False)
        return set(rows.split())

    def copy_of(self, primary):
        """A new standby of that primary."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.cluster.run("pg_basebackup", "-D", self.data, "-h", primary.dir, "-p", str(PORT), "-U", "postgres",
                         "-c", "fast", "--no-sync", "-X", "stream")
        self.standby_of(primary)

    def standby_of(self, primary):
        """Before its start: the files that make it a standby."""
        with open(self.data / "postgresql.auto.conf", "a") as file:
            file.write(f"primary_conninfo = '{primary.replication(self)}'\n")
        (self.data / "standby.signal").touch()
        self.cluster.give(self.data / "standby.signal")

    def replication(self, standby):
        return f"host={self.dir} port={PORT} user=postgres application_name={standby.name} connect_timeout=2"

    def follow(self, primary):
        """While it runs: take the log from that primary from now on."""
        self.set(primary_conninfo=primary.replication(self))

    def promote(self):
        self.sql("SELECT pg_promote(true, 60)")

    def rewind(self, primary):
        """A former primary becomes a standby. Without the checkpoint pg_rewind takes the old timeline for the new."""
        primary.sql("CHECKPOINT")
        done = self.cluster.run("pg_rewind", "-D", self.data, "--no-sync", "--source-server",
                                f"host={primary.dir} port={PORT} user=postgres dbname=postgres", check=False)
        if done.returncode != 0:
            self.copy_of(primary)
        else:
            self.standby_of(primary)
        return done.returncode == 0

    # ---- URIs ----

    def uri(self, database="psapi", user="psapi", **parameters):
        return self.cluster.uri(database, user, nodes=[self], **parameters)


class Cluster:
    """A primary, and standbys of which any one must have each commit."""

    def __init__(self, nodes=2, directory=None, connections=60, synchronous=True, parent=None):
        parent = directory or tempfile.mkdtemp(prefix="psapi-pg-", dir=parent or in_memory(tempfile.gettempdir()))
        self.dir, self.bin, self.user = Path(parent), binaries(), ordinary_user()
        assert self.bin, why_not()
        self.dir.chmod(0o755)
        self.nodes = []
        try:
            self.initialise(Node(self, "n1"), connections)
            for n in range(2, nodes + 1):
                node = Node(self, f"n{n}")
                self.nodes.append(node)
                node.copy_of(self.nodes[0])
                node.start()
            if nodes > 1 and synchronous:
                self.synchronous()
        except BaseException:
            self.close()
            raise

    def initialise(self, primary, connections):
        self.nodes.append(primary)
        self.run("initdb", "-D", primary.data, "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C", "-A", "peer",
                 "--no-instructions")
        with open(primary.data / "postgresql.conf", "a") as file:
            file.write(CONFIGURATION.format(connections=connections))
        (primary.data / "pg_hba.conf").write_text(ACCESS)
        names = {self.user.pw_name, pwd.getpwuid(os.geteuid()).pw_name, "nobody", "www-data"}
        (primary.data / "pg_ident.conf").write_text("".join(
            f"tests {name} {role}\n" for name in sorted(names) for role in ("psapi", "postgres")))
        primary.start()
        primary.sql("CREATE ROLE psapi LOGIN", "CREATE ROLE guarded LOGIN PASSWORD 'right'",
                    "GRANT pg_read_all_stats TO psapi, guarded")

    def synchronous(self):
        """Each commit waits for any one of the others, whichever node is the primary."""
        names = ", ".join(node.name for node in self.nodes)
        self.primary.set(synchronous_standby_names=f"ANY 1 ({names})")
        for node in self.nodes:
            if node is not self.primary:    # for the time when it is the primary
                node.set(synchronous_standby_names=f"ANY 1 ({names})")
        self.wait_until_healthy()

    # ---- the state ----

    @property
    def primary(self):
        return next(node for node in self.nodes if node.process is not None and not node.is_standby())

    @property
    def standbys(self):
        primary = self.primary
        return [node for node in self.nodes if node is not primary]

    def wait_until_healthy(self):
        """Every node that runs takes the log from the primary, and commits go on."""
        primary = self.primary
        names = {node.name for node in self.nodes if node.process is not None} - {primary.name}
        wait_for(lambda: primary.streaming() >= names, "every standby follows", 60)
        if names:
            end = int(primary.sql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").strip())
            wait_for(lambda: all(node.received() >= end for node in self.nodes
                                 if node.process is not None and node is not primary), "they have caught up", 60)

    def fail_over(self, primary):
        """After the death of that primary: the standby that received most is promoted, the others follow it."""
        standbys = [node for node in self.nodes if node is not primary and node.process is not None]
        chosen = max(standbys, key=Node.received)
        chosen.promote()
        for node in standbys:
            if node is not chosen:
                node.follow(chosen)
        return chosen

    def database(self, name, owner="psapi"):
        self.primary.sql(f'CREATE DATABASE "{name}" OWNER {owner}')
        return self.uri(name)

    def drop(self, name):
        self.primary.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def uri(self, database="psapi", user="psapi", nodes=None, **parameters):
        """A connection string with all nodes, of which the primary is meant."""
        hosts = ",".join(quote(str(node.dir), safe="/") for node in nodes or self.nodes)
        more = {"target_session_attrs": "read-write", "connect_timeout": "2"} | parameters
        query = "&".join(f"{key}={quote(str(value), safe='/')}" for key, value in more.items() if value is not None)
        return f"postgresql://{user}@/{database}?host={hosts}&{query}"

    # ---- the ordinary user ----

    def as_user(self):
        own = {"env": {"PATH": os.environ["PATH"], "LC_ALL": "C", "LANGUAGE": "de"}}   # for lc_messages other than C
        if os.geteuid() == 0:
            own |= {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        return own

    def give(self, path):
        if os.geteuid() == 0:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def run(self, program, *arguments, check=True):
        done = subprocess.run([self.bin / program, *arguments], capture_output=True, text=True, cwd=self.dir,
                              timeout=300, check=False, **self.as_user())
        assert not check or done.returncode == 0, (program, done.stdout, done.stderr)
        return done

    def close(self):
        for node in self.nodes:
            if node.process is not None:
                node.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


@contextlib.contextmanager
def busy(primary, send, seconds):
    """The event that send() brings takes its connection for that long."""
    primary.sql(
        "CREATE SEQUENCE naps",
        "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        f"IF nextval('public.naps') = 1 THEN PERFORM pg_sleep({seconds}); END IF; RETURN NULL; END $$",
        "CREATE TRIGGER nap AFTER INSERT ON psapi_event FOR EACH ROW EXECUTE FUNCTION nap()", database="psapi")
    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait_for(lambda: "PgSleep" in primary.sql("SELECT wait_event FROM pg_stat_activity"), "it is busy")
        yield
    finally:
        thread.join()
        primary.sql("DROP FUNCTION nap CASCADE", "DROP SEQUENCE naps", database="psapi")


def is_running(pid):
    try:
        return not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.M)
    except (FileNotFoundError, ProcessLookupError):
        return False


def main():
    """How long a cluster of one, two and three nodes takes."""
    for nodes in (1, 2, 3):
        begun = time.monotonic()
        with Cluster(nodes):
            print(f"{nodes} node(s): {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
