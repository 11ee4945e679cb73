"""docs/hosts.md, hosts-database.md and hosts-operation.md, as they are written, on hosts of this machine: database nodes
with Patroni, web heads, balancer, import, another machine for a node; then the leader dies under load, and Patroni
replaces it. The tests depend on each other, in the order of the file.

It takes two minutes, and is part of `make check-long` (make check-hosts).
"""

import json
import re
import subprocess
import time

import pytest

import hosts
from document_hosts import HEADS, SetUp, blocks
from lanes import Checks, Lane, Record, Run, stop
from psapi_command import body
from receiver import SANITIZED, wait_for
from replies import assert_accepted, assert_refused, parse_cgi
from sender import event, signed
from servers import cgi_variables

pytestmark = [pytest.mark.long, pytest.mark.timeout(600),
              pytest.mark.skipif(SANITIZED, reason="the installed program is the ordinary one")]


@pytest.fixture(scope="module")
def world():
    if hosts.why_not():
        pytest.skip(hosts.why_not())
    with SetUp() as world:
        yield world


def on_all_heads(world, script):
    return [world[name].run(script) for name in HEADS]


def test_every_block_has_its_hosts():
    assert [set(names) for names, _ in blocks()] == [{"db1", "db2", "db3"}, {"the leader"}, {"web1", "web2"}, {"a live node"}, {"web1"}]


PSAPI = ("setpriv", "--reuid=psapi", "--regid=psapi", "--init-groups")


def test_a_spool_from_before(world):
    """web1 was alone, with a spool of its own: four events wait there, and one was handled."""
    world.install("web1")
    for n in range(5):
        request = signed(body(n, str(90000 + n)), f"before{n}")
        variables = [f"{name}={value.decode()}" for name, value in cgi_variables(request)]
        answered = subprocess.run(world["web1"].command(*PSAPI, "env", *variables, "psapi-fcgi"), input=request.body,
                                  env=world["web1"].environment(), capture_output=True, check=True)
        assert_accepted(parse_cgi(answered.stdout))
    world["web1"].run("sudo -u psapi psapi done before0")


def test_database_nodes(world):
    world.start_databases()
    assert world.is_healthy()


def test_the_firewall(world):
    """Neither etcd nor Patroni asks for a password: only the database nodes can connect to them."""
    for port in (2380, 2379, 8008):
        connect = f"timeout 1 bash -c '</dev/tcp/db1/{port}'"
        world["db2"].run(connect.replace("1", "30", 1))
        world["web1"].run(connect, expect=124)
        world["lb"].run(connect, expect=124)


def test_web_heads(world):
    world.start_heads()
    for told in on_all_heads(world, "sudo -u psapi psapi store status --json"):
        status = json.loads(told)
        assert sorted(host["role"] for host in status["hosts"]) == ["primary", "standby", "standby"], status
    for told in on_all_heads(world, "sudo psapi doctor --json || true"):
        failed = [row for row in map(json.loads, told.splitlines()) if row["ok"] is False]
        assert [row["check"] for row in failed if row["check"] in ("database", "replication", "durability", "schema")] \
            == [], failed


def test_balancer(world):
    """Either one; a head that is dead, or restarts, is not noticed by the sender."""
    for kind in ("haproxy", "nginx"):
        world.start_balancer(kind)
        large = signed(event("x.large", filler="a" * 30_000))
        assert_accepted(world.send(large))
        assert world.send(large).word == "duplicate"
        assert_refused(world.send(signed(timestamp=1)), "stale_timestamp")
        world["web2"].run("systemctl disable --now psapi-fcgi.socket")
        for _ in range(6):
            assert_accepted(world.send(signed()))
        world["web2"].run("systemctl enable --now psapi-fcgi.socket")
        if kind == "haproxy":
            world.stop_balancer(kind)
    wait_for(lambda: all("accepted" in told for told in on_all_heads(world, "cat /var/spool/psapi/attempts.jsonl")),
             "both heads are used", 20)
    (told,) = set(re.findall(r'"remote_addr":"([^"]*)"', "".join(
        on_all_heads(world, "grep accepted /var/spool/psapi/attempts.jsonl | tail -1"))))
    assert told == "10.0.0.99", "the sender's address, not the balancer's"


def test_both_drains(world):
    requests = [signed(body(n, str(n % 7))) for n in range(30)]
    for request in requests:
        assert_accepted(world.send(request))
    for child in [world[name].start(*PSAPI, "psapi", "drain")
                  for name in HEADS]:
        assert child.wait(60) == 0
    handled = [line.split()[0] for told in on_all_heads(world, "cat /var/lib/psapi/handled") for line in told.splitlines()]
    assert len(handled) == len(set(handled))
    assert {request.header("webhook-id").decode() for request in requests} <= set(handled)


def test_import(world):
    """The events of the time before, with their state; repeated, nothing changes."""
    (script,) = world.blocks_for(["web1"])
    for _ in range(2):
        world.run_on("web1", script)
        rows = [json.loads(line) for line in world["web2"].run("sudo -u psapi psapi list --all --json").splitlines()]
        assert {row["webhook_id"]: row["status"] for row in rows if row["webhook_id"].startswith("before")} == \
            {"before0": "handled"} | {f"before{n}": "new" for n in range(1, 5)}


def test_a_web_head_dies(world):
    # The balancer leaves out a head that failed for 2 s, as the second one did while it was set up.
    time.sleep(2.5)
    world["web1"].die()
    for _ in range(6):
        reply = world.send(signed())
        # A text: pytest shortens what it has to make one of.
        assert reply.status == 200, f"{reply}\n" + world["lb"].run("tail -20 /var/log/nginx/error.log") + \
            world["web2"].run("tail -5 /var/log/nginx/error.log; tail -5 /var/log/unit-psapi-fcgi.socket.log")
    world["web1"].boot("psapi-fcgi.socket", "nginx")


def test_a_database_node_is_replaced(world):
    world.replace(next(name for name, role in world.members().items() if role == "Replica"))
    assert_accepted(world.send(signed()))


def test_the_leader_dies_under_load(world, capsys):
    """Nothing that was acknowledged is lost. The outage is printed."""
    record = Record()
    lanes = [Lane(n, [world.send], record, "leader", pause=(0.02, 0.1)) for n in range(8)]
    for lane in lanes:
        lane.thread.start()
    try:
        wait_for(lambda: len(record.acknowledgements) > 100, "the load runs", 60)
        leader, died, unix = world.leader(), time.monotonic(), time.time()
        leader.die()
        wait_for(lambda: max(record.acknowledgements) > died + 5, "another leader", 120)
        leader.boot("etcd", "patroni")
        wait_for(world.is_healthy, "three nodes again", 120)
        acknowledged = len(record.acknowledgements)
        wait_for(lambda: len(record.acknowledgements) > acknowledged + 50, "it goes on", 60)
    finally:
        stop(lanes)
    for lane in lanes:
        lane.settle()
    on_all_heads(world, "rm -f /var/lib/psapi/handled")
    on_all_heads(world, """cat >/etc/psapi/handlers.d/default <<'END'
#!/bin/sh
echo "$(date +%s.%N) $PSAPI_WEBHOOK_ID" >>/var/lib/psapi/handled
END""")
    for child in [world[name].start(*PSAPI, "psapi", "drain", "-j", "4")
                  for name in HEADS]:
        assert child.wait(120) == 0
    waiting = world["web1"].run("sudo -u psapi psapi list --waiting --json").splitlines()
    runs = [Run.parse(line) for told in on_all_heads(world, "cat /var/lib/psapi/handled")
            for line in told.splitlines() if "lane" in line]
    checks = Checks(record, runs, [unix])
    checks.all()
    with capsys.disabled():
        print(f"\nfailover: {len(record.acknowledged())} acknowledged, {len(checks.first)} handled; "
              f"{record.longest_gap():.1f} s without a 200; answers {dict(record.answers)}")
    assert checks.failed == [] and waiting == []
