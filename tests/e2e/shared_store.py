"""The PostgreSQL store in the place of the spool: the same questions, answered by `psapi` and not by directories.

One cluster (a primary and its synchronous standby) for all tests of a process, and one database, which each test finds
empty. What only a directory can answer is skipped, with the reason: `file()`, and what a test reads below `path` but
held requests and the attempts log, which stay local.
"""

import json
import subprocess
import time

import pytest

import postgresql
from receiver import BINARY, SLOWER, wait_for
from spool import Spool, Stored, event_name, iso_ms, parse, received_at

PSAPI = BINARY.parent / "psapi"
LOCAL = ("hold", "tmp")
# The words of `psapi` for what the spool's directories say.
STATUSES = {"new": ("new", "waiting"), "failed": ("failed",), "events": ("new", "waiting", "failed", "handled")}
TABLES = "psapi_event, psapi_queue, psapi_lane, psapi_attempt, psapi_roster"


def settings(uri):
    """The settings of a place that uses the shared store, with the module of this build."""
    return {"PSAPI_STORE": uri, "PSAPI_MODULE_DIR": BINARY.parent}


class Shared(Spool):
    rounded_up = 1      # the times are the database's, with fractions of a second
    def __init__(self, path, place, cluster):
        super().__init__(path)
        self.place, self.cluster, self.database = place, cluster, "psapi"

    # ---- psapi ----

    def psapi(self, *arguments, expect=0):
        done = subprocess.run([PSAPI, *arguments], env=self.place.environment(), capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=60 * SLOWER, check=False)
        assert expect is None or done.returncode == expect, (arguments, done)
        return done.stdout

    def rows(self):
        return [json.loads(line) for line in self.psapi("list", "--all", "--json").splitlines()]

    def row(self, webhook_id):
        name = event_name(webhook_id) + ".json"
        return next((row for row in self.rows() if row["file"] == name), None)

    def show(self, webhook_id):
        (line,) = self.psapi("show", "--json", event_name(webhook_id) + ".json").splitlines()
        return json.loads(line)

    def sql(self, *statements):
        return self.cluster.primary.sql(*statements, database=self.database)

    # ---- what the spool is asked ----

    def names(self, directory):
        if directory in LOCAL:
            return super().names(directory)
        assert directory in STATUSES, directory
        return sorted(row["file"][:-len(".json")] for row in self.rows() if row["status"] in STATUSES[directory])

    def file(self, directory, webhook_id):
        if directory in LOCAL:
            return super().file(directory, webhook_id)
        return Entry(self, directory, webhook_id)

    def where(self, webhook_id):
        row = self.row(webhook_id)
        return self.directories(row) if row is not None else []

    @staticmethod
    def directories(row):
        """Those that the spool would have it in."""
        found = [d for d in ("new", "events", "failed") if row["status"] in STATUSES[d]]
        return found + (["state"] if row["tries"] or row["status"] == "failed" else [])

    def state(self, webhook_id):
        shown = self.show(webhook_id)
        keys = ("tries", "tried_at", "due_at", "failed_at", "handler", "reason", "stderr")
        known = {key: shown[key] for key in keys if key in shown}
        return known if known["tries"] or "reason" in known else None

    def write_state(self, webhook_id, **state):
        """As if drain had tried it before."""
        due = f"'{state['due_at']}'" if "due_at" in state else f"now() + {state.get('due_in', 0)} * interval '1 s'"
        self.sql(f"UPDATE psapi_queue SET tries = {state.get('tries', 0)}, due_at = {due}, tried_at = now() "
                 f"WHERE name = '{event_name(webhook_id)}.json'")

    def read(self, directory, webhook_id):
        """One event; its record has the layout of a file of the spool."""
        assert self.show(webhook_id)["status"] in STATUSES[directory]
        evidence, body, event = parse(self.record(webhook_id))
        assert body == self.psapi("show", "--raw", event_name(webhook_id) + ".json")
        return Stored(evidence, body, event, None)

    def path_for_a_handler(self, path, webhook_id):
        """Whether this is the file that a handler gets: a temporary one, with the event's name."""
        return path.startswith(f"{self.path.resolve()}/tmp/drain.") and path.endswith(f"/{event_name(webhook_id)}.json")

    def record(self, webhook_id):
        return bytes.fromhex(self.sql(
            f"SELECT encode(record, 'hex') FROM psapi_event WHERE name = '{event_name(webhook_id)}.json'").strip())

    def files(self):
        """What the spool would have, and what is known of each event: if it does not change, nothing has changed."""
        return super().files() | {f"{directory}/{row['file']}": json.dumps(row) for row in self.rows()
                                  for directory in self.directories(row)}

    def copy(self, webhook_id, new_id):
        name, new = (event_name(one) + ".json" for one in (webhook_id, new_id))
        record = self.record(webhook_id).replace(f'"{webhook_id}"'.encode(), f'"{new_id}"'.encode(), 1)
        self.sql("INSERT INTO psapi_event (name, received_ns, type, npn, queued, lane, when_ns, record) "
                 f"SELECT '{new}', received_ns, type, npn, queued, lane, when_ns, '\\x{record.hex()}' "
                 f"FROM psapi_event WHERE name = '{name}'",
                 f"INSERT INTO psapi_queue (name, lane, when_ns) SELECT name, lane, when_ns FROM psapi_event WHERE name = '{new}'")

    def age(self, webhook_id, seconds):
        at = time.time() - seconds
        text, name = iso_ms(at), event_name(webhook_id) + ".json"
        record = received_at(self.record(webhook_id), text)
        nanoseconds = round(at * 1000) * 10**6
        self.sql(f"UPDATE psapi_event SET received_ns = {nanoseconds}, record = '\\x{record.hex()}' WHERE name = '{name}'",
                 f"UPDATE psapi_attempt SET at_ns = {nanoseconds}, line = regexp_replace(line, '\"at\":\"[^\"]+\"', "
                 f"'\"at\":\"{text}\"') WHERE line::json->>'webhook_id' = '{webhook_id}'")

    def is_locked(self):
        return int(self.sql("SELECT count(*) FROM psapi_lane WHERE until > now()")) > 0

    def wait_for_unlock(self):
        """The leases of a killed drain end after 30 s; here at once, when its server processes have ended, which may
        be about to take one."""
        wait_for(lambda: self.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                                  "AND application_name = 'psapi'").strip() == "0", "they have ended")
        self.sql("UPDATE psapi_lane SET until = now()")

    def empty(self):
        super().empty()
        self.sql(f"TRUNCATE {TABLES}")

    def assert_queued_once(self, webhook_id, body):
        rows = [row for row in self.rows() if row["file"] == event_name(webhook_id) + ".json"]
        assert len(rows) == 1 and rows[0]["status"] in STATUSES["new"], rows
        stored = self.read("new", webhook_id)
        assert stored.body == body
        return stored

    def assert_failed(self, webhook_id, body):
        stored = self.read("failed", webhook_id)
        assert stored.body == body
        reason = self.show(webhook_id)["reason"]
        assert reason and isinstance(reason, str)
        return stored, reason


class Entry:
    """Where the spool has a file: whether there is one, and nothing else."""

    def __init__(self, shared, directory, webhook_id):
        self.shared, self.directory, self.webhook_id = shared, directory, webhook_id

    def exists(self):
        return self.directory in self.shared.where(self.webhook_id)

    def __getattr__(self, name):
        pytest.skip(f"looks into a file of {self.directory}/, which the shared store does not have")

    def __fspath__(self):
        return self.__getattr__("path")


class Store:
    """The cluster of a test process. It starts with the first test that needs it."""

    def __init__(self):
        self.cluster, self.tables = None, False

    def given_to(self, place):
        if self.cluster is None:
            self.cluster = postgresql.Cluster(2)
            self.cluster.database("psapi")
        place.store = "postgresql"
        place.settings |= settings(self.cluster.uri())
        place.spool = Shared(place.spool.path, place, self.cluster)
        if self.tables:
            place.spool.sql(f"TRUNCATE {TABLES}")
        else:
            place.spool.psapi("store", "init")
            self.tables = True

    def close(self):
        if self.cluster is not None:
            self.cluster.close()

