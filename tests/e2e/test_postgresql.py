"""The PostgreSQL store on a real cluster, a primary and a standby: deaths under load, and what is configured wrong.

  deaths            primary, standby, receiver or drain is killed under load, with concurrent duplicates at two receivers
  no confirmation   the last standby is gone, a node is frozen: 503 in time, no false 200, and it goes on afterwards
  one machine       the primary runs without synchronous standbys: -t, doctor and the receiver's log say so
  misconfiguration  each has one clear line with a remedy, and afterwards the event is stored once
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

import postgresql
import strace
from lanes import Lane, Record, stop
from load import at_once
from psapi_command import NOTE, PSAPI, Desk, body
from receiver import ROOT, SLOWER, Place, Receiver, wait_for
from replies import assert_accepted, assert_refused, parse_cgi
from sender import event, signed
from servers import Socket
from shared_store import Shared, settings
from test_crash import run_cgi
from test_metrics import line as attempt_line

pytestmark = pytest.mark.skipif(postgresql.why_not() is not None, reason=str(postgresql.why_not()))
ENOUGH = 7 * SLOWER     # seconds: the receiver answers after 4 s, and the machine may be busy. Less than 2 x 4 s


@pytest.fixture(scope="module")
def running():
    with postgresql.Cluster(2) as cluster:
        yield cluster


@pytest.fixture
def cluster(running):
    """As it was at the beginning: both nodes run, a standby confirms, nothing is set, no database of a test is left."""
    yield running
    restore(running)


def restore(cluster):
    for node in cluster.nodes:
        if node.process is not None:
            node.thaw()
    if all(node.process is None for node in cluster.nodes):
        cluster.nodes[0].start()
    primary = cluster.primary
    for node in cluster.nodes:
        if node is not primary and node.process is not None and not node.is_standby():
            node.kill()         # a second primary
        if node.process is None:
            node.copy_of(primary)
            node.start()
    cluster.synchronous()
    for name in primary.sql("SELECT datname FROM pg_database WHERE datname LIKE 'psapi%'").split():
        cluster.drop(name)


class Head(Desk):
    """A web head: receiver, handlers, psapi."""

    def __init__(self, cluster, uri):
        place = Place(settings(uri))
        place.spool = Shared(place.spool.path, place, cluster)
        super().__init__(place)
        self.server = Socket(place)

    def start_receiver(self):
        self.server.start()
        return self.server.receiver

    def send(self, request):
        return self.server.send(request)

    def accept(self, *bodies):
        """As deliver_bodies(), through the receiver that runs already. Returns the webhook-ids."""
        requests = [signed(one) for one in bodies]
        for request in requests:
            assert_accepted(self.send(request))
        return [request.header("webhook-id").decode() for request in requests]

    def close(self):
        super().close()
        self.place.close()


@pytest.fixture
def heads(cluster):
    """Two heads over one database with its tables."""
    uri = cluster.database("psapi")
    heads = [Head(cluster, uri) for _ in range(2)]
    try:
        heads[0].run("store", "init")
        for head in heads:
            head.start_receiver()
        yield heads
    finally:
        for head in heads:
            head.close()


@pytest.fixture
def head(heads):
    return heads[0]


def count(cluster, table="psapi_event", where="true"):
    return int(cluster.primary.sql(f"SELECT count(*) FROM {table} WHERE {where}", database="psapi"))


def timed(job):
    begun = time.monotonic()
    result = job()
    return result, time.monotonic() - begun


def test_the_tables_are_those_of_the_page(cluster, head):
    """psapi-store-postgresql(7): tables, columns, and its examples run."""
    page = (ROOT / "man/psapi-store-postgresql.7").read_text()
    rows = cluster.primary.sql("SELECT table_name || ' ' || column_name FROM information_schema.columns "
                               "WHERE table_schema = 'public'", database="psapi").splitlines()
    described = set()
    for table, text in re.findall(r"^\.Ss (psapi_\w+)\n((?:(?!\.S[hs] ).*\n)*)", page, re.M):
        for line in re.findall(r"^\.It Va (.*)$", text, re.M):
            described |= {f"{table} {column}" for column in re.findall(r"\w+", line)}
    assert described == set(rows)
    assert int(re.search(r"format (\d+)", page)[1]) == int(
        cluster.primary.sql("SELECT format FROM psapi_meta", database="psapi"))
    examples = re.findall(r"figure sql\n\.Bd.*\n((?:(?!\.Ed).*\n)*)", page)
    assert len(examples) == 3

    def find_something():
        head.accept(event("producersync.npn.activated", npn="123456789", activatedAt="2025-07-25T15:53:01.579Z"))
        return all(cluster.primary.sql(one, database="psapi").strip() for one in examples)
    wait_for(find_something, "each example finds something")


# ---- deaths under load ----

class Death:
    """One death while the load runs, and how it is overcome."""

    def __init__(self, cluster, heads):
        self.cluster, self.heads = cluster, heads

    def primary(self):
        """The standby is promoted; without a standby of its own it confirms nothing until the old primary is back."""
        old = self.cluster.primary
        old.kill()
        new = self.cluster.fail_over(old)
        old.rewind(new)
        old.start()

    def standby(self):
        (standby,) = self.cluster.standbys
        standby.kill()
        standby.start()

    def receiver(self):
        receiver = self.heads[0].server.receiver
        receiver.kill()
        receiver.start()


@pytest.mark.parametrize("who", ["primary", "standby", "receiver"])
def test_dies_under_load(cluster, heads, who):
    """Every event with a 200 is there once, and is handled in the order of its lane."""
    record = Record()
    lanes = [Lane(n, [head.send for head in heads], record, who, pause=(0, 0.02)) for n in range(8)]
    for lane in lanes:
        lane.thread.start()
    try:
        wait_for(lambda: len(record.acknowledgements) > 50, "the load runs", 30)
        getattr(Death(cluster, heads), who)()
        cluster.wait_until_healthy()
        acknowledged = len(record.acknowledgements)
        wait_for(lambda: len(record.acknowledgements) > acknowledged + 100, "it goes on", 60)
    finally:
        stop(lanes)
    for lane in lanes:
        lane.settle()
    assert record.complaints == []
    assert [one.webhook_id for one in record.events.values() if one.accepted > 1] == []
    assert count(cluster) == count(cluster, "psapi_queue") == len(record.events) == len(record.acknowledged())
    cluster.primary.sql("UPDATE psapi_queue SET due_at = NULL", database="psapi")
    for head in heads:
        head.handler("default", NOTE)
    at_once(lambda head=head: head.drain_silently("-j", "4") for head in heads)
    handled = [line for head in heads for line in head.lines()]
    assert sorted(handled) == sorted(record.events)


def test_drain_dies_under_load(cluster, heads):
    """The other drain takes its lanes over when the leases end; the order within each lane stays."""
    ids = heads[0].accept(*(body(n, str(n % 5)) for n in range(40)))
    for head in heads:
        head.handler("default", f'echo "$PSAPI_NPN $PSAPI_WEBHOOK_ID" >>{heads[0].told}/both; sleep 0.02\n')
    victim = heads[0].start("drain", "-j", "3")
    wait_for(lambda: len(heads[0].lines("both")) >= 5, "the first drain works")
    other = heads[1].start("drain", "-j", "3")
    victim.kill()
    victim.wait()
    assert other.wait(60) == 0
    cluster.primary.sql("UPDATE psapi_lane SET until = now()", database="psapi")    # 30 s later
    heads[1].drain_silently()
    assert count(cluster, "psapi_queue") == 0
    runs = [line.split() for line in heads[0].lines("both")]
    for npn in map(str, range(5)):
        first = list(dict.fromkeys(webhook_id for lane, webhook_id in runs if lane == npn))
        assert first == [one for n, one in enumerate(ids) if n % 5 == int(npn)]
    assert len(runs) <= len(ids) + 3, "only what the victim had in work ran twice"
    heads[0].drain_silently()
    assert heads[0].spool.left_in_tmp() == [], "the next drain removes the files that it left for handlers"


def test_same_id_at_both_heads_at_once(cluster, heads):
    """32 deliveries of each of 20 ids at the same moment: queued once, accepted once."""
    for _ in range(20):
        request = signed()
        replies = at_once(lambda head=head: head.send(request) for head in heads * 16)
        assert sorted(reply.word for reply in replies) == ["accepted"] + ["duplicate"] * 31, heads[0].server.log()
    assert count(cluster) == count(cluster, "psapi_queue") == 20


def test_two_drains_share(heads):
    ids = heads[0].accept(*(body(n, str(n)) for n in range(30)))
    both = " && ".join(f"test -s {head.told}/seen" for head in heads)
    for head in heads:
        head.handler("default", NOTE + f"until {both}; do sleep 0.02; done\n")
    for child in [head.start("drain") for head in heads]:
        assert child.wait(60) == 0
    assert sorted(heads[0].lines() + heads[1].lines()) == sorted(ids)


def test_lost_lease(cluster, heads):
    """A drain is frozen until its lease has ended, and the other has tried the event: its result does not count."""
    heads[0].gate("gate")
    heads[0].handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"; exit 1\n')
    heads[1].handler("default", NOTE + "exit 75\n")
    (webhook_id,) = heads[0].accept(body(1))
    late = heads[0].start("drain")
    heads[0].wait_for_lines(1)
    late.send_signal(signal.SIGSTOP)
    heads[1].drain_silently()
    assert heads[1].lines() == [], "the lane is the other's"
    cluster.primary.sql("UPDATE psapi_lane SET until = now()", database="psapi")
    heads[1].drain()
    assert heads[1].lines() == [webhook_id]
    heads[0].open_gate("gate")
    late.send_signal(signal.SIGCONT)
    _, told = late.communicate(timeout=30)
    assert late.returncode == 0 and "does not count" in told, told
    (row,) = heads[0].rows("list", "--all")
    assert (row["status"], row["tries"]) == ("waiting", 1), "it is the other's to try again"


@pytest.mark.parametrize("how", ["one by one", "in a batch"])
def test_a_damaged_record(cluster, heads, how):
    """Its lane alone waits, also when it is the first of all; each run says so, once, until an operator decides."""
    ids = heads[0].accept(*(body(n, npn) for n, npn in enumerate("12134")))
    heads[0].handler("default", NOTE)
    batch = heads[0].handler("batch", """tee "$PSAPI_TOLD/now" | jq -r .id >>"$PSAPI_TOLD/seen"
        echo ok all $(wc -l <"$PSAPI_TOLD/now")\n""")
    command = ["--batch", "500", "--", batch] if how == "in a batch" else []
    for damaged in (ids[0], ids[3]):
        cluster.primary.sql(f"UPDATE psapi_event SET record = 'x' WHERE name = '{damaged}.json'", database="psapi")
    said = [f"psapi: damaged: {one}.json: no event: it does not begin with an evidence line: restore its record in psapi_event "
            "from a backup; or psapi done takes it out of the queue; its lane waits" for one in (ids[0], ids[3])]
    for head in (heads[0], heads[0], heads[1]):
        assert head.drain(*command, expect=65).stderr.splitlines() == said
    assert heads[0].lines() == [ids[1], ids[4]]
    assert count(cluster, "psapi_queue") == 3 and count(cluster, "psapi_lane") == 0
    heads[0].run("done", ids[0], ids[3])
    heads[0].drain_silently(*command)
    assert heads[0].lines() == [ids[1], ids[4], ids[2]] and count(cluster, "psapi_queue") == 0


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
def test_two_drains_begin_at_once(cluster, head):
    """One has made its directory for handlers' files and not yet locked it: the other takes it for an abandoned one."""
    (webhook_id,) = head.accept(body(1))
    head.handler("default", NOTE)
    first = subprocess.Popen([*strace.command("flock", "delay_enter=5000000", 1, head.place.dir / "strace"), PSAPI, "drain"],
                             env=head.environment(None), text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    tmp = head.place.spool.path / "tmp"
    (made,) = wait_for(lambda: list(tmp.glob("drain.*")), "it has made one")
    head.drain_silently()
    assert not made.exists() and first.poll() is None, "this tests nothing"
    told, _ = first.communicate(timeout=30)
    assert (first.returncode, told) == (0, ""), told
    assert head.lines() == [webhook_id] and list(tmp.glob("drain.*")) == []


def test_a_lease_is_renewed_while_its_handler_runs(cluster, heads):
    """After 10 s, long before it ends: the other drain leaves the lane alone."""
    heads[0].gate("gate")
    heads[0].handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    heads[0].accept(body(1))
    working = heads[0].start("drain")
    heads[0].wait_for_lines(1)
    assert 20 < left(cluster) <= 30
    cluster.primary.sql("UPDATE psapi_lane SET until = now() + interval '12 s'", database="psapi")
    wait_for(lambda: left(cluster) > 15, "it is renewed", 15)
    heads[1].drain_silently()
    heads[0].open_gate("gate")
    assert working.wait(30) == 0
    assert heads[1].lines() == [] and count(cluster, "psapi_queue") == count(cluster, "psapi_lane") == 0


def left(cluster):
    """Seconds to the end of the lease."""
    return float(cluster.primary.sql("SELECT extract(epoch FROM until - now()) FROM psapi_lane", database="psapi"))


def test_many_at_once_share_commits(cluster, heads):
    """32 senders over at most 4 connections: some of the events are committed together."""
    head, connected = heads[0], []
    heads[1].server.receiver.stop()

    def look():
        connected.append(int(cluster.primary.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psapi-fcgi'")))
    for _ in range(3):
        replies = at_once([lambda: head.send(signed())] * 32 + [look])
        assert [reply.word for reply in replies if reply] == ["accepted"] * 32
        look()
    assert 1 <= max(connected) <= 4, connected
    transactions = int(cluster.primary.sql("SELECT count(DISTINCT xmin::text) FROM psapi_event", database="psapi"))
    assert transactions < count(cluster) == 96


@contextlib.contextmanager
def limited(cluster, connections):
    cluster.primary.sql(f"ALTER DATABASE psapi CONNECTION LIMIT {connections}")
    try:
        wait_for(lambda: cluster.primary.sql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'psapi'").strip() == "0",
                 "those of before have ended")
        yield
    finally:
        cluster.primary.sql("ALTER DATABASE psapi CONNECTION LIMIT -1")


@contextlib.contextmanager
def silent_host(place):
    """A host that accepts connections and never answers."""
    directory = place.dir / "silent"
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / f".s.PGSQL.{postgresql.PORT}"))
        (directory / f".s.PGSQL.{postgresql.PORT}").chmod(0o777)
        listener.listen(64)
        yield directory


@pytest.mark.long
@pytest.mark.parametrize("more", ["no other host", "a host that is silent"])
def test_a_limit_of_connections(cluster, heads, more):
    """No further connection can be made: the events wait for the one that is open, and none is refused."""
    head = heads[0]
    heads[1].server.receiver.stop()
    head.server.receiver.stop()
    with limited(cluster, 1), silent_host(head.place) as silent:
        uri, only = cluster.uri(nodes=[cluster.primary]), f"host={cluster.primary.dir}"
        assert only in uri
        head.place.settings["PSAPI_STORE"] = uri if more == "no other host" else uri.replace(only, f"{only},{silent}")
        head.start_receiver()
        assert_accepted(head.send(signed()))
        (standby,) = cluster.standbys
        medians = []
        while len(medians) < 2 or (min(medians) >= 0.9 * SLOWER and len(medians) < 5):      # a busy machine
            time.sleep(2.5)         # a further connection is tried again only then: accept.c, FURTHER_PAUSE_MS
            standby.freeze()        # the first commit takes its time
            threading.Timer(0.3, standby.thaw).start()
            replies = at_once([lambda: timed(lambda: head.send(signed()))] * 16)
            assert [reply.word for reply, _ in replies] == ["accepted"] * 16, head.server.log()
            medians.append(sorted(seconds for _, seconds in replies)[8])
            assert max(seconds for _, seconds in replies) < 3.3 * SLOWER, "it waited for a connection that is not made"
        assert min(medians) < 0.9 * SLOWER, "they waited for a thread that tries to connect"
    assert count(cluster) == 1 + 16 * len(medians)


def test_a_further_connection_leaves_time_for_another(cluster, heads):
    """It is tried a second time when the event has one second left, in which the other connection becomes idle."""
    head = heads[0]
    for one in heads:
        one.server.receiver.stop()
    with limited(cluster, 1), silent_host(head.place) as silent:
        only = f"host={cluster.primary.dir}"
        head.place.settings["PSAPI_STORE"] = cluster.uri(nodes=[cluster.primary]).replace(only, f"{only},{silent}")
        head.start_receiver()
        assert_accepted(head.send(signed()))
        for _ in range(4):      # half a second is left then, which a busy machine may not have
            with postgresql.busy(cluster.primary, lambda: head.send(signed()), 3.5):
                reply = head.send(signed())
            if reply.status == 200:
                break
        assert_accepted(reply)


# ---- what is shown ----

def test_attempts_are_copied(heads):
    """Each line is in the local log at once, and soon in the store, with the host's name."""
    for head in heads:
        head.accept(body(1))
    name = socket.gethostname()[:64]

    def rows():
        return [json.loads(line) for line in heads[0].run("attempts", "--json").stdout.splitlines()]
    wait_for(lambda: len(rows()) == 2, "the copies are there")
    assert [(row["host"], row["outcome"]) for row in rows()] == [(name, "accepted")] * 2
    (local,) = heads[0].run("attempts", "--local", "--json").stdout.splitlines()
    assert "host" not in json.loads(local)
    head, *lines = heads[1].run("attempts", "--outcome", "accepted").stdout.splitlines()
    assert head.split()[:3] == ["TIME", "HOST", "OUTCOME"] and [line.split()[1] for line in lines] == [name] * 2
    assert heads[1].run("attempts", "--outcome", "rejected").stdout == ""
    assert len(heads[1].run("attempts", "-n", "1", "--json").stdout.splitlines()) == 1


def test_status(cluster, heads):
    heads[0].accept(body(1))
    shown = json.loads(heads[1].run("store", "status", "--json").stdout)
    assert sorted(host["role"] for host in shown["hosts"]) == ["primary", "standby"]
    assert (shown["events"], shown["waiting"], shown["failed"]) == (1, 1, 0)
    (standby,) = shown["standbys"]
    assert standby["state"] == "streaming" and standby["sync_state"] == "quorum"
    text = heads[1].run("store", "status").stdout
    assert "quorum" in text and "primary" in text and re.search(r"^waiting +1, of which 0 for a retry", text, re.M)
    assert re.search(r"^synchronous +ANY 1 ", text, re.M)
    cluster.primary.set(synchronous_standby_names="")
    cluster.primary.sql("TRUNCATE psapi_queue", database="psapi")
    text = wait_for(lambda: re.search("^synchronous +none: .*", shown := heads[1].run("store", "status").stdout, re.M)
                    and shown, "the setting is known")
    assert re.search(r"^synchronous +none: a 200 is on one machine only$", text, re.M), text
    assert re.search(r"^waiting +0$", text, re.M), text
    assert "there already" in heads[1].run("store", "init").stdout


@pytest.mark.parametrize("spool", ["missing", "empty"])
def test_before_the_first_start(cluster, head, spool):
    """The database is looked at, and its tables are made, where the receiver has not made its spool yet."""
    head.place.settings |= {"PSAPI_SPOOL": head.place.dir / "later", "PSAPI_STORE": cluster.database("psapi_empty")}
    if spool == "empty":
        (head.place.dir / "later").mkdir(mode=0o770)
    checked = head.place.run("-t")
    assert "will be made at the start" in checked.stdout and "psapi store init" in checked.stdout, checked
    assert head.run("store", "init").stdout == "the tables are made\n"
    if spool == "missing":
        said = {row["check"]: row for row in map(json.loads, head.run("doctor", "--json", expect=1).stdout.splitlines())}
        assert [check for check, row in said.items() if row["ok"] is False] == ["spool"], said
        for check in ("database", "schema", "replication", "durability", "database-clock", "connections"):
            assert said[check]["ok"] is True, said
    checked = head.place.run("-t")
    assert checked.returncode == 0 and "the way of an event works" in checked.stdout, checked
    assert "\nok: store, backlog: no event waits\n" in checked.stdout, checked
    assert "synchronous" in head.run("store", "status").stdout
    assert not list((head.place.dir / "later").glob("*")), "nothing is left"
    if spool == "missing":
        assert "the receiver makes it" in head.run("store", "import", expect=66).stderr


def test_doctor(cluster, heads):
    """All is well; then one thing after the other is not."""
    def rows():
        return {row["check"]: row for row in
                map(json.loads, heads[0].run("doctor", "--json", expect=None).stdout.splitlines())}
    good = rows()
    assert good["storing"]["ok"] is True
    checked = heads[0].place.run("-t")
    for check in ("database", "schema", "replication", "durability", "database-clock", "connections"):
        assert good[check]["ok"] is True and "remark" not in good[check], good[check]
        assert f"ok: store, {check}: " in checked.stdout, checked.stdout
    assert checked.returncode == 0 and "warning: store" not in checked.stdout, checked
    assert "\nok: store, backlog: no event waits\n" in checked.stdout, checked.stdout
    heads[1].accept(body(1))
    cluster.primary.sql("UPDATE psapi_queue SET queued_at = queued_at - interval '30 minutes'", database="psapi")
    assert "\nok: store, backlog: 1 event(s) wait, the oldest for 0.5 h\n" in heads[0].place.run("-t").stdout
    assert rows()["backlog"]["text"] == "1 event(s) in new/, the oldest for 0.5 h"
    cluster.primary.sql("ALTER ROLE psapi SET synchronous_commit = off", "REVOKE pg_read_all_stats FROM psapi")
    try:
        bad = rows()
        assert bad["durability"].get("remark") and "synchronous_commit is off" in bad["durability"]["text"]
        assert bad["replication"].get("remark") and "GRANT pg_read_all_stats" in bad["replication"]["remedy"]
    finally:
        cluster.primary.sql("ALTER ROLE psapi RESET synchronous_commit", "GRANT pg_read_all_stats TO psapi")
    (standby,) = cluster.standbys
    standby.kill()
    try:
        checked = heads[0].place.run("-t")
        assert checked.returncode == 78, checked
        assert "warning: store, replication: no standby is connected" in checked.stdout, checked.stdout
        assert "\nerror: store PostgreSQL at " in checked.stdout, "the verdict is that of the way of an event"
        heads[0].place.settings["PSAPI_LISTEN"] = f"unix:{heads[0].server.receiver.path}"
        bad = rows()
        assert "replication above" in bad["accepts"]["remedy"] and "spool" not in bad["accepts"]["remedy"], bad["accepts"]
        heads[0].server.receiver.stop()
        bad = rows()
        assert bad["database"].get("remark") and bad["database"]["remedy"]
        assert bad["replication"]["ok"] is False and "no standby is connected" in bad["replication"]["text"]
        assert bad["storing"]["ok"] is False
    finally:
        standby.start()
        cluster.wait_until_healthy()


def test_doctor_of_a_receiver_that_was_not_restarted(head):
    """It still accepts into its spool. The remedy is not about the spool."""
    head.server.receiver.stop()
    uri = head.place.settings.pop("PSAPI_STORE")
    receiver = head.start_receiver()
    head.place.settings["PSAPI_STORE"] = uri
    said = {row["check"]: row for row in map(json.loads, head.run(
        "doctor", "--json", "--socket", receiver.path, expect=1).stdout.splitlines())}["accepts"]
    assert "not into the shared store" in said["text"] and "PSAPI_SPOOL" not in json.dumps(said), said
    assert said["remedy"].startswith("restart the receiver;") and "PSAPI_STORE" in said["remedy"], said


@pytest.mark.long
def test_doctor_cannot_look_for_what_the_receiver_has_stored(cluster, head):
    """That says nothing of the receiver, which must not be restarted for it."""
    def accepts(*failed):
        rows = {row["check"]: row for row in map(json.loads, head.run(
            "doctor", "--json", "--socket", head.server.receiver.path, expect=1).stdout.splitlines())}
        assert [check for check, row in rows.items() if row["ok"] is False] == list(failed), rows
        assert "accepted; whether it is stored is not known: " in rows["accepts"]["text"], rows["accepts"]
        assert "restart" not in json.dumps(rows["accepts"]), rows["accepts"]
        return rows["accepts"]
    head.accept(body(1))
    uri = head.place.settings["PSAPI_STORE"]
    with silent_host(head.place) as silent:
        head.place.settings["PSAPI_STORE"] = f"host={silent} user=psapi dbname=psapi"
        assert accepts("storing", "database")["text"].endswith("the store cannot be read")
    head.place.settings["PSAPI_STORE"] = uri
    head.place.settings["PSAPI_STORE"] = uri + "&options=-crole%3Dother"
    cluster.primary.sql("CREATE ROLE other", "GRANT other TO psapi", "GRANT SELECT ON psapi_meta TO other", database="psapi")
    try:
        assert "permission denied" in accepts("storing", "accepts")["text"]
    finally:
        cluster.primary.sql("DROP OWNED BY other", "DROP ROLE other", database="psapi")
    head.place.settings["PSAPI_STORE"] = uri
    cluster.primary.sql("UPDATE psapi_meta SET format = 2", database="psapi")
    assert "format 2," in accepts("storing", "schema")["text"]


def test_a_silent_host_is_waited_for_once(head):
    """-t does not try the way of an event to hosts of which none answered its checks: that would wait, and fail, again."""
    with silent_host(head.place) as silent:
        head.place.settings["PSAPI_STORE"] = f"host={silent} user=psapi dbname=psapi"
        checked = head.place.run("-t")
    said = [line for line in checked.stdout.splitlines() if "store" in line.split()[1]]
    assert checked.returncode == 78 and len(said) == 2, checked
    assert re.match(f"warning: store, database: no primary: {silent}.*: no answer in time", said[0]), said
    assert said[1] == "error: store: no host of PSAPI_STORE can be used: see above", said


@pytest.mark.long
def test_check_of_a_silent_host(head):
    """It names the database within the time of --mail, which is 60 s. The daily event may be in the store, of another
    host: its absence here is no fault."""
    head.accept(body(1))
    log = head.place.spool.path / "attempts.jsonl"
    log.write_text(attempt_line(time.time() - 27 * 3600, type="producersync.updates_available") + log.read_text())
    (head.place.spool.path / "state" / "metrics").unlink(missing_ok=True)

    def bad():
        found = json.loads(head.run("check", "--json", "-t", "30", expect=2).stdout)["findings"]
        return {one["check"] for one in found if one["status"] != "OK"}
    assert bad() == {"daily"}
    with silent_host(head.place) as silent:
        head.place.settings["PSAPI_STORE"] = f"host={silent} user=psapi dbname=psapi"
        assert bad() == {"storing", "database"}
        said = {row["check"]: row for row in map(json.loads, head.run("doctor", "--json", expect=1).stdout.splitlines())}
        assert said["daily"]["ok"] is None and "another host" in said["daily"]["text"], said["daily"]


@pytest.mark.long
def test_a_host_is_looked_at_whatever_it_is(cluster, head):
    """A primary that is set read-only is no standby, and one with other tables is reached."""
    def rows():
        return {row["check"]: row for row in
                map(json.loads, head.run("doctor", "--json", expect=None).stdout.splitlines())}
    cluster.primary.sql("ALTER DATABASE psapi SET default_transaction_read_only = on")
    try:
        said = rows()["database"]
        assert said["ok"] is False and "set read-only" in said["text"] and "promote" not in said["remedy"], said
        assert "(primary, read-only)" in said["text"] and "(standby)" in said["text"], said
        assert "default_transaction_read_only" in said["remedy"], said
    finally:
        cluster.primary.sql("ALTER DATABASE psapi RESET default_transaction_read_only")
    cluster.primary.sql("UPDATE psapi_meta SET format = 2", database="psapi")
    said = rows()
    assert said["database"]["ok"] is True and "(primary)" in said["database"]["text"], said["database"]
    assert said["schema"]["ok"] is False and "format 2," in said["schema"]["text"], said["schema"]
    assert [check for check, row in said.items() if row["ok"] is False] == ["storing", "schema"], "the cause, and no echo"
    for check in ("leftovers", "unrecognised", "backlog", "failed", "hold", "drain"):
        assert said[check]["ok"] is None and said[check]["text"] == "the store cannot be read", said[check]
    with silent_host(head.place) as silent:
        head.place.settings["PSAPI_STORE"] = f"host={silent} user=psapi dbname=psapi"
        said = rows()
        assert [check for check, row in said.items() if row["ok"] is False] == ["storing", "database"], said
        assert said["backlog"]["text"] == "the store cannot be read", said["backlog"]


@pytest.mark.long
def test_two_primaries(cluster, head):
    """A standby that was promoted beside the primary. One server that is named twice is one."""
    def said():
        rows = map(json.loads, head.run("doctor", "--json", expect=None).stdout.splitlines())
        return next(row for row in rows if row["check"] == "database")
    head.place.settings["PSAPI_STORE"] = cluster.uri(nodes=[cluster.primary, cluster.primary])
    assert said()["ok"] is True and said()["text"].count("(primary)") == 2, said()
    head.place.settings["PSAPI_STORE"] = cluster.uri()
    cluster.standbys[0].promote()
    assert said()["ok"] is False and said()["text"].startswith("more than one primary: "), said()
    assert "pg_rewind" in said()["remedy"]


def test_each_table_counts(cluster, head):
    """-t finds a table that the user may not change, and the size of each is shown."""
    names = cluster.primary.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database="psapi").split()
    assert len(names) >= 6
    for name in names:
        cluster.primary.sql(f"ALTER TABLE {name} OWNER TO postgres", f"GRANT SELECT ON {name} TO psapi", database="psapi")
        checked = head.place.run("-t")
        assert checked.returncode != 0 and f"the table {name}:" in checked.stdout + checked.stderr, checked
        cluster.primary.sql(f"ALTER TABLE {name} OWNER TO psapi", database="psapi")
    sizes = cluster.primary.sql("SELECT sum(pg_total_relation_size(tablename::regclass)) FROM pg_tables "
                                "WHERE schemaname = 'public'", database="psapi")
    assert json.loads(head.run("store", "status", "--json").stdout)["bytes"] == int(sizes)


@pytest.mark.long
def test_drain_says_that_the_database_is_away(cluster, head):
    """Its exit status says it as well, to cron, the unit and psapi metrics."""
    head.accept(body(1))
    head.handler("default", NOTE)
    done = head.run("drain", env={"PSAPI_STORE": "postgresql://psapi@127.0.0.1:1/psapi"}, expect=75)
    assert "Connection refused" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert head.rows("list")[0]["status"] == "new"
    head.drain_silently()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_drain_loses_the_database(cluster, heads):
    """While its handler runs, for one event or for many: the same exit status."""
    for head in heads:
        head.gate("gate")
    heads[0].handler("default", NOTE + 'read line <"$PSAPI_TOLD/gate"\n')
    heads[0].accept(body(1, "1"))
    one = heads[0].start("drain")
    heads[0].wait_for_lines(1)
    heads[0].accept(body(2, "2"))
    many = heads[1].start("drain", "--batch=10", "--", "/bin/sh", "-c",
                          'echo begun >>"$PSAPI_TOLD/seen"; read line <"$PSAPI_TOLD/gate"; echo ok all 1; cat >/dev/null')
    heads[1].wait_for_lines(1)
    primary = cluster.primary
    primary.kill()
    try:
        for head in heads:
            head.open_gate("gate")
        for child in (one, many):
            _, told = child.communicate(timeout=200)
            assert child.returncode == 75 and "PostgreSQL at" in told, (child.returncode, told)
    finally:
        primary.start()


@pytest.mark.parametrize("how", ["service=", "PGSERVICE"])
def test_a_service_is_refused(cluster, head, how):
    """psql would read its file. We try the hosts one by one, so they must be in PSAPI_STORE."""
    uri = head.place.settings["PSAPI_STORE"]
    env = {"PGSERVICE": "events"} if how == "PGSERVICE" else {"PSAPI_STORE": f"{uri}&service=events"}
    done = head.run("list", env=env, expect=78)
    assert how in done.stderr and "write host=, user= and dbname= in PSAPI_STORE" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_a_role_sets_is_not_taken_over(cluster, head):
    """A commit that waits for nobody, or whose warning nobody sees, would be a false 200."""
    begun = cluster.primary.sql("SELECT clock_timestamp()").strip()
    cluster.primary.sql("ALTER ROLE psapi SET synchronous_commit = local", "ALTER ROLE psapi SET client_min_messages = error",
                        "ALTER ROLE psapi SET statement_timeout = '1ms'", "ALTER ROLE psapi SET idle_session_timeout = '200ms'")
    try:
        head.server.receiver.stop()
        head.start_receiver()
        # The statement that replaces the role's time-out is itself under it.
        wait_for(lambda: head.send(signed()).status == 200, "it is connected", 20)
        (standby,) = cluster.standbys
        request = signed()
        standby.kill()
        try:
            assert_refused(head.send(request), "spool_error")
        finally:
            standby.start()
            cluster.wait_until_healthy()
        wait_for(lambda: head.send(request).status == 200, "it goes on", 20)
        wait_for(lambda: cluster.primary.sql(f"SELECT 1 FROM pg_stat_activity WHERE backend_start > '{begun}' AND "
                                             "application_name = 'psapi-fcgi' AND state_change < now() - interval '1 s'"
                                             ).strip(), "it stays connected")
    finally:
        cluster.primary.sql("ALTER ROLE psapi RESET ALL")


def end_waits(cluster):
    """Cancel the waits for a standby that go on now. Returns what psql says of each; "": there is none."""
    return cluster.primary.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'psapi' "
                               "AND wait_event = 'SyncRep'").strip()


def test_a_repeated_import_waits_for_the_standby(cluster, head):
    """The first was cancelled in its wait: its events are there, so the second has nothing to change, and must wait."""
    store, (standby,) = head.place.settings.pop("PSAPI_STORE"), cluster.standbys
    head.server.receiver.stop()
    head.deliver_bodies(body(1), body(2))
    head.place.settings["PSAPI_STORE"] = store
    standby.kill()
    try:
        for _ in range(2):
            importing = head.start("store", "import")
            wait_for(lambda: importing.poll() is not None or end_waits(cluster), "it waited")
            told, errors = importing.communicate(timeout=30)
            assert importing.returncode == 75 and "the wait for the standby was cancelled" in errors, (told, errors)
            assert count(cluster) == 2
    finally:
        standby.start()
        cluster.wait_until_healthy()
    assert head.run("store", "import").stdout.startswith("0 of 2 events imported")


def test_an_ended_wait_is_no_commit(cluster, heads):
    """The server ends the session that waits for the standby: the commit is there, and nobody has confirmed it."""
    head, other = heads
    for one in heads:
        assert_accepted(one.send(signed()))     # it is connected
    (standby,) = cluster.standbys
    standby.kill()
    request = signed()
    try:
        answers = []
        sender = threading.Thread(target=lambda: answers.append(head.send(request)))
        sender.start()
        wait_for(lambda: end_waits(cluster), "it waited")
        while sender.is_alive():
            end_waits(cluster)
            sender.join(0.1)
        assert_refused(answers[0], "spool_error")
        assert count(cluster) == 3, "visible, and on one machine only"
        assert_refused(other.send(request), "spool_error")      # no duplicate of something that is not confirmed
    finally:
        standby.start()
        cluster.wait_until_healthy()
    assert wait_for(lambda: head.send(request).word, "an answer") in ("duplicate", "error")
    wait_for(lambda: head.send(request).word == "duplicate", "it is known", 20)


def test_an_event_wakes_the_local_drain(head):
    """psapi-drain.path watches new/ of the local spool, which stays empty."""
    new = head.place.dir / "spool/new"
    os.utime(new, (1, 1))
    head.accept(body(1))
    assert new.stat().st_mtime > 1 and list(new.iterdir()) == []


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
@pytest.mark.parametrize("call, fault", [(call, fault) for call in ("connect", "sendto", "recvfrom", "poll")
                                         for fault in ("signal=KILL", "error=ECONNRESET")
                                         if (call, fault) != ("poll", "error=ECONNRESET")])     # of the request's body, too
def test_fault_at_any_call(cluster, head, call, fault):
    """Classic CGI, a connection for each request: after a kill or an error the retry finds it, or stores it, once."""
    for when in range(1, 60, 3):
        request = signed()
        output, status, injected = run_cgi(head.place, request, call, fault, when)
        injected = injected or status in (-signal.SIGKILL, 128 + signal.SIGKILL)
        if status == 0:
            reply = parse_cgi(output)
            assert reply.status in (200, 503), reply
        assert head.send(request).word in ("accepted", "duplicate")
        head.spool.assert_queued_once(request.header("webhook-id"), request.body)
        if not injected:
            break
    assert not injected and when > 1
    assert count(cluster) == count(cluster, "psapi_queue") == when // 3 + 1


# ---- attempts ----

def test_attempts_are_followed(cluster, head):
    """Also a line that another host's transaction commits later than its turn, and after the connection was lost."""
    late = "INSERT INTO psapi_attempt (at_ns, host, line) VALUES (1, 'late', '{\"outcome\":\"held\"}')"
    head.accept(body(1))
    following = head.start("attempts", "--follow", "--json")
    try:
        read_rows(following, 1)
        session = cluster.primary.session("BEGIN", late, database="psapi")
        ids = head.accept(body(2))
        (row,) = read_rows(following, 1)
        assert row["webhook_id"] == ids[0]
        session.communicate("COMMIT;\n", timeout=20)
        (row,) = read_rows(following, 1)
        assert (row["host"], row["outcome"]) == ("late", "held")
        cluster.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'psapi'")
        ids = head.accept(body(3))
        (row,) = read_rows(following, 1)
        assert row["webhook_id"] == ids[0]
    finally:
        following.terminate()
        _, told = following.communicate(timeout=20)
    assert len(told.splitlines()) == 1 and "terminating connection" in told, told


def read_rows(child, number):
    return [json.loads(child.stdout.readline()) for _ in range(number)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have another host's name")
def test_attempts_of_all_hosts(heads):
    """Each with its host; --local are this one's."""
    heads[0].server.receiver.stop()
    second = Receiver(heads[0].place, "second", via=["unshare", "--uts", "sh", "-c", 'hostname web2 && exec "$0"'],
                      PSAPI_LISTEN=f"unix:{heads[0].place.dir}/second.sock").start()
    heads[0].server.receiver = second
    first, other = signed(), signed()
    assert_accepted(heads[1].send(first))
    assert_accepted(heads[0].send(other))

    def seen():
        rows = heads[1].rows("attempts")
        return {row["webhook_id"]: row["host"] for row in rows} if len(rows) == 2 else None
    ids = [one.header("webhook-id").decode() for one in (first, other)]
    assert wait_for(seen, "both are copied") == {ids[0]: os.uname().nodename, ids[1]: "web2"}
    lines = heads[1].run("attempts").stdout.splitlines()
    assert lines[0].split()[:3] == ["TIME", "HOST", "OUTCOME"] and "web2" in lines[2], lines
    assert [row["webhook_id"] for row in heads[1].rows("attempts", "--local")] == [ids[0]]


def test_attempts_do_not_wait_for_the_database(cluster, head):
    """While nothing can be stored, each attempt has its line in the local log."""
    assert_accepted(head.send(signed()))
    with gone(cluster, "primary frozen"):
        assert_refused(head.send(signed()), "spool_error")
        outcomes = [row["outcome"] for row in head.rows("attempts", "--local")]
    assert outcomes == ["accepted", "error"]


# ---- nobody confirms ----

@contextlib.contextmanager
def gone(cluster, how):
    (standby,) = cluster.standbys
    if how == "standby gone":
        standby.kill()
        yield
        standby.start()
    else:
        node = standby if how == "standby frozen" else cluster.primary
        node.freeze()
        try:
            yield
        finally:
            node.thaw()
    cluster.wait_until_healthy()


@pytest.mark.long
@pytest.mark.parametrize("how", ["nobody listens", "nobody answers"])
def test_no_connection_at_all(cluster, head, how):
    """Events that arrive together are refused in time, for each waits for a connection that another opens."""
    head.server.receiver.stop()
    uri, primary = cluster.uri(nodes=[cluster.primary]), cluster.primary
    with silent_host(head.place) as silent:
        head.place.settings["PSAPI_STORE"] = uri if how == "nobody listens" else uri.replace(
            f"host={primary.dir}", f"host={silent}")
        if how == "nobody listens":
            primary.kill()
        head.start_receiver()
        for _ in range(2):
            for reply, seconds in at_once([lambda: timed(lambda: head.send(signed()))] * 8):
                assert_refused(reply, "spool_error")
                assert seconds < ENOUGH, seconds
        if how == "nobody listens":
            primary.start()
            cluster.wait_until_healthy()
        else:
            (silent / f".s.PGSQL.{postgresql.PORT}").unlink()
            (silent / f".s.PGSQL.{postgresql.PORT}").symlink_to(primary.dir / f".s.PGSQL.{postgresql.PORT}")
        replies = at_once([lambda: head.send(signed())] * 8)
        assert [reply.word for reply in replies] == ["accepted"] * 8, head.server.log()


@pytest.mark.parametrize("how", ["standby gone", "standby frozen", "primary frozen"])
def test_nobody_confirms(cluster, heads, how):
    """503 before the sender gives up, also for a retry; a duplicate of what was confirmed may get its 200."""
    before, request, other = signed(), signed(), signed()
    assert_accepted(heads[0].send(before))
    with gone(cluster, how):
        answers = at_once(lambda head=head, one=one: timed(lambda: head.send(one))
                          for head, one in ((heads[0], request), (heads[1], request), (heads[1], other)))
        for reply, seconds in answers + [timed(lambda: heads[0].send(request))]:
            assert_refused(reply, "spool_error")
            assert seconds < ENOUGH, seconds
    for one in (request, other):
        wait_for(lambda one=one: heads[0].send(one).status == 200, "it goes on", 20)
        assert heads[1].send(one).word == "duplicate"
        heads[0].spool.assert_queued_once(one.header("webhook-id"), one.body)
    assert count(cluster) == 3


@pytest.mark.parametrize("events", [1, 8])
def test_a_standby_that_comes_in_time(cluster, head, events):
    """As after a restart of the primary: an event waits for it, longer than its host's share, and nobody is refused."""
    (standby,) = cluster.standbys
    head.server.receiver.stop()
    head.place.settings["PSAPI_STORE"] = cluster.uri(nodes=[cluster.primary, *[standby] * 5])   # a share of 0.7 s
    standby.stop()
    wait_for(lambda: cluster.primary.streaming() == set(), "it is gone")
    head.start_receiver()
    coming = threading.Timer(0.9, lambda: standby.start(wait=False))
    coming.start()
    try:
        replies = at_once([lambda: head.send(signed())] * events)
    finally:
        coming.join()
    assert [reply.word for reply in replies] == ["accepted"] * events, head.server.log()


def test_a_user_who_may_not_see_which_standby_confirms(cluster, head):
    """Without pg_read_all_stats each standby counts."""
    head.server.receiver.stop()
    cluster.primary.sql("REVOKE pg_read_all_stats FROM psapi")
    try:
        head.start_receiver()
        assert_accepted(head.send(signed()))
    finally:
        cluster.primary.sql("GRANT pg_read_all_stats TO psapi")


@contextlib.contextmanager
def base_backup(cluster):
    """One that does not end: a client of replication that confirms nothing."""
    running = cluster.primary
    with subprocess.Popen([cluster.bin / "pg_basebackup", "-D", "-", "-F", "t", "-X", "fetch", "-c", "fast", "-r", "32",
                           "-h", running.dir, "-p", str(postgresql.PORT), "-U", "postgres"],
                          stdout=subprocess.DEVNULL, **cluster.as_user()) as backup:
        try:
            wait_for(lambda: "backup" in running.sql("SELECT state FROM pg_stat_replication"), "it runs")
            yield
            assert backup.poll() is None, "it has ended"
        finally:
            backup.kill()


@pytest.mark.long
def test_no_standby_leaves_no_server_process(cluster, head):
    """A commit without a standby waits on the server for ever: after those of open connections, none is begun."""
    def waiting():
        return int(cluster.primary.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))

    def refuse():
        reply, seconds = timed(lambda: head.send(signed()))
        assert_refused(reply, "spool_error")
        assert seconds < ENOUGH
        assert waiting() == 1
    head.place.settings["PSAPI_STORE"] = cluster.uri(nodes=[*cluster.standbys, cluster.primary])
    head.server.receiver.stop()
    head.start_receiver()
    assert_accepted(head.send(signed()))
    (standby,) = cluster.standbys
    with gone(cluster, "standby gone"):
        assert not standby.dir.joinpath(".s.PGSQL.5432").exists()
        assert_refused(head.send(signed()), "spool_error")
        assert waiting() == 1, "the connection that was open"
        refuse()
        with base_backup(cluster):
            refuse()
            refuse()
        assert head.server.log().count("no synchronous standby is connected") >= 3, head.server.log()
    wait_for(lambda: head.send(signed()).status == 200, "it goes on", 20)


def test_a_former_primary_that_comes_back(cluster, head):
    """It runs as a primary again, first in the list and without a standby: it is left after the deadline."""
    old, new = cluster.primary, cluster.standbys[0]
    assert_accepted(head.send(signed()))
    old.kill()
    new.promote()
    new.set(synchronous_standby_names="")
    head.server.receiver.stop()
    old.start()
    uri = cluster.uri(nodes=[old, new])
    head.place.settings["PSAPI_STORE"] = uri
    head.start_receiver()
    request = signed()
    wait_for(lambda: head.send(request).status == 200, "the right one is found", 20)
    assert int(new.sql("SELECT count(*) FROM psapi_event", database="psapi")) == 2


# ---- one machine ----

def test_without_synchronous_standbys(cluster, head):
    """After a restart the primary waits for nobody. The event is accepted; that it is on one machine is said."""
    primary = cluster.primary
    primary.set(synchronous_standby_names="")
    primary.stop()
    primary.start()
    request = signed()
    wait_for(lambda: head.send(request).status == 200, "it goes on", 20)
    head.server.receiver.stop()
    head.start_receiver()
    assert_accepted(head.send(signed()))
    wait_for(lambda: "on that one machine only" in head.server.log(), "the receiver says so")
    checked = head.place.run("-t")
    assert checked.returncode == 0 and "synchronous_standby_names" in checked.stdout + checked.stderr, checked
    rows = {row["check"]: row for row in
            map(json.loads, head.run("doctor", "--json", expect=None).stdout.splitlines())}
    assert rows["replication"]["ok"] is False and "ALTER SYSTEM SET" in rows["replication"]["remedy"], rows


# ---- what is configured wrong ----

class Wrong:
    """One thing that is wrong, the words that say so, and how it is mended."""

    def __init__(self, cluster, head):
        self.cluster, self.head, self.place = cluster, head, head.place
        self.primary, self.other_settings = cluster.primary, False

    def use(self, uri):
        self.other_settings = True
        self.place.settings["PSAPI_STORE"] = uri

    def mend(self):
        self.use(self.cluster.uri())

    def password(self, text):
        path = self.place.dir / "pgpass"
        path.write_text(f"*:*:*:guarded:{text}\n")
        path.chmod(0o600)
        return path


class WrongPassword(Wrong):
    says, remedy = "password authentication failed", "password file"

    def spoil(self):
        self.use(self.cluster.uri(user="guarded", passfile=self.password("wrong-secret")))

    def mend(self):
        self.password("right")
        self.primary.sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO guarded", database="psapi")


class NoPassword(WrongPassword):
    says, remedy = "no password supplied", "passfile="

    def spoil(self):
        self.use(self.cluster.uri(user="guarded", passfile=self.place.dir / "pgpass"))


class NoDatabase(Wrong):
    says, remedy = "does not exist", "createdb"

    def spoil(self):
        self.use(self.cluster.uri("psapi_nowhere"))


class NoTables(Wrong):
    says, remedy = "psapi_event", "psapi store init"

    def spoil(self):
        self.cluster.database("psapi_empty")
        self.use(self.cluster.uri("psapi_empty"))
        self.head.spool.database = "psapi_empty"

    def mend(self):
        self.head.run("store", "init")


class OtherVersion(Wrong):
    says, remedy = "have format 99", "install that one on each host"

    def spoil(self):
        self.primary.sql("UPDATE psapi_meta SET format = 99", database="psapi")

    def mend(self):
        self.primary.sql("UPDATE psapi_meta SET format = 1", database="psapi")


class OnlyAStandby(Wrong):
    says, remedy = "read-only|hot standby", "name all nodes"

    def spoil(self):
        self.use(self.cluster.uri(nodes=self.cluster.standbys))


class ReadOnly(Wrong):
    """As after a full disk in a managed service."""

    says, remedy = "read-only", "read-only"

    def spoil(self):
        self.primary.sql("ALTER DATABASE psapi SET default_transaction_read_only = on")

    def mend(self):
        self.primary.sql("ALTER DATABASE psapi RESET default_transaction_read_only")


class NobodyListens(Wrong):
    says, remedy = "No such file", "is PostgreSQL running"

    def spoil(self):
        self.use(self.cluster.uri().replace("/n1", "/n8").replace("/n2", "/n9"))


class TooManyClients(Wrong):
    says, remedy = "too many|remaining connection slots", "max_connections|CONNECTION LIMIT"

    def spoil(self):
        self.primary.sql("ALTER DATABASE psapi CONNECTION LIMIT 0")

    def mend(self):
        self.primary.sql("ALTER DATABASE psapi CONNECTION LIMIT -1")


class NoRights(Wrong):
    says, remedy = "permission denied", "own the tables"

    def spoil(self):
        self.primary.sql("REVOKE INSERT ON psapi_event FROM psapi", "ALTER TABLE psapi_event OWNER TO postgres",
                         database="psapi")

    def mend(self):
        self.primary.sql("ALTER TABLE psapi_event OWNER TO psapi", "GRANT ALL ON psapi_event TO psapi", database="psapi")


def assert_clear(text, wrong):
    """One line, with the host, the cause and a remedy, and nothing of a password."""
    lines = [line for line in text.splitlines() if re.search(wrong.says, line)]
    assert lines, text
    assert any("PostgreSQL" in line for line in lines), text
    assert re.search(wrong.remedy, text), text
    assert "wrong-secret" not in text and "right" not in re.sub(r"rights?\b", "", text), text


@pytest.mark.parametrize("kind", [WrongPassword, NoPassword, NoDatabase, NoTables, OtherVersion, OnlyAStandby, ReadOnly,
                                  NobodyListens, TooManyClients, NoRights], ids=lambda kind: kind.__name__)
def test_configured_wrong(cluster, head, kind):
    wrong = kind(cluster, head)
    head.server.receiver.stop()
    wrong.spoil()
    cluster.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('psapi', 'guarded')")
    checked = head.place.run("-t")
    assert checked.returncode != 0, checked
    assert_clear(checked.stdout + checked.stderr, wrong)
    head.start_receiver()
    request = signed()
    reply, seconds = timed(lambda: head.send(request))
    assert_refused(reply, "spool_error")
    assert seconds < ENOUGH
    assert_clear(head.server.log(), wrong)
    if kind not in (ReadOnly, NoRights):    # reading goes on
        listed = head.run("list", expect=None)
        assert listed.returncode != 0 and len(listed.stderr.splitlines()) == 1, listed
        assert_clear(listed.stderr, wrong)
    wrong.mend()
    if wrong.other_settings:
        head.server.receiver.stop()
        head.start_receiver()
    wait_for(lambda: head.send(request).status == 200, "it goes on by itself", 20)
    assert head.send(request).word == "duplicate"
    assert_accepted(head.send(signed()))
    head.spool.assert_queued_once(request.header("webhook-id"), request.body)


@pytest.mark.parametrize("kind", [WrongPassword, NoDatabase, TooManyClients], ids=lambda kind: kind.__name__)
def test_configured_wrong_in_another_language(cluster, head, kind):
    """The remedy is found by the code, for the server's words are German."""
    cluster.primary.set(lc_messages="C.UTF-8")
    if "FEHLER" not in cluster.primary.psql("-c", "SELECT 1 / 0", check=False).stderr:
        pytest.skip("the server has no German words here")
    wrong = kind(cluster, head)
    wrong.spoil()
    try:
        done = head.run("list", expect=None)
        assert re.search(wrong.remedy, done.stderr) and not re.search(wrong.says, done.stderr), done.stderr
        assert len(done.stderr.splitlines()) == 1 and ".c:" not in done.stderr, done.stderr
    finally:
        wrong.mend()
        cluster.primary.set(lc_messages=None)


def test_max_connections(cluster, head):
    """The server has no place left. What waits is refused in time, and stored once there is a place."""
    head.server.receiver.stop()
    sessions, request = [], signed()
    try:
        with contextlib.suppress(AssertionError, BrokenPipeError):
            for _ in range(70):
                session = cluster.primary.session()
                sessions.append(session)
                if session.poll() is not None:
                    break
        head.start_receiver()
        reply, seconds = timed(lambda: head.send(request))
        assert_refused(reply, "spool_error")
        assert seconds < ENOUGH
        assert re.search("too many clients|remaining connection slots", head.server.log()), head.server.log()
        assert "max_connections" in head.server.log()
    finally:
        for session in sessions:
            session.kill()
            session.communicate()
    wait_for(lambda: head.send(request).status == 200, "there is a place", 20)
    head.spool.assert_queued_once(request.header("webhook-id"), request.body)


def fill(path):
    """To the last byte."""
    with open(path, "ab", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"x" * 4096):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk can be mounted by root only")
def test_disk_of_the_database_is_full(place):
    """A tablespace of 24 MiB: spool_full, and the event is stored once there is room."""
    disk = place.dir / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "psapi-test", disk], check=True)
    try:
        with postgresql.Cluster(1) as cluster:
            cluster.give(disk)
            cluster.primary.sql(f"CREATE TABLESPACE small LOCATION '{disk}'",
                                "CREATE DATABASE psapi OWNER psapi TABLESPACE small")
            head = Head(cluster, cluster.uri())
            try:
                head.run("store", "init")
                head.start_receiver()
                assert_accepted(head.send(signed()))
                fill(disk / "filler")
                large = signed(event("x.large", filler=os.urandom(200_000).hex()))     # nothing compresses it
                assert_refused(head.send(large), "spool_full")
                assert "53100" in head.server.log() and "make room" in head.server.log()
                (disk / "filler").unlink()
                assert_accepted(head.send(large))
                head.spool.assert_queued_once(large.header("webhook-id"), large.body)
            finally:
                head.close()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
