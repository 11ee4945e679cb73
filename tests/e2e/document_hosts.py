"""The set-up of docs/hosts.md, hosts-database.md and hosts-operation.md on hosts of this machine: their blocks as they
are written.
"""

import contextlib
import http.client
import os
import re

from hosts import World
from http_client import HttpClient, body_of, head_of
from receiver import ROOT, wait_for
from sender import SECRET, signed

ADDRESSES = {"lb": "10.0.0.10", "web1": "10.0.0.11", "web2": "10.0.0.12",
             "db1": "10.0.0.21", "db2": "10.0.0.22", "db3": "10.0.0.23", "sender": "10.0.0.99"}
NODES, HEADS = ("db1", "db2", "db3"), ("web1", "web2")
LIST = "timeout 10 patronictl -c /etc/patroni/config.yml list --format tsv"
PAGES = ("docs/hosts-database.md", "docs/hosts.md", "docs/hosts-operation.md")


def blocks():
    """(names of the hosts, script) of each block, in the order of the documents."""
    text = "".join((ROOT / page).read_text() for page in PAGES)
    for block in re.findall(r"^```\n(.*?)^```$", text, re.S | re.M):
        first, _, script = block.partition("\n")
        assert first.startswith("# on "), first
        yield re.findall(r"\b(?:db|web|lb)\d?\b|the leader|a live node", first), script


class SetUp(World):
    """db1 to db3, web1 and web2, lb, up to what the blocks have done."""

    def __init__(self):
        super().__init__(ADDRESSES)
        self.blocks = list(blocks())
        self.authority = ROOT / "build" / f"authority-{os.getpid()}.crt"
        self.certificates()

    def run_on(self, name, script, **values):
        """A block; what differs is the host's own address, and `values` of other variables."""
        host = self.leader() if name in ("the leader", "a live node") else self[name]
        for variable, value in ({"ADDRESS": host.address} | values).items():
            script = re.sub(rf"^(.*\b)?{variable}=[\w.]+", rf"\g<1>{variable}={value}", script, count=1, flags=re.M)
        return host.run(script)

    def blocks_for(self, hosts):
        return [script for names, script in self.blocks if set(names) == set(hosts)]

    def certificates(self):
        """An authority, and a certificate for each node: what the document expects to be there."""
        self.run(f"""
            cd {self.dir}
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=psapi-CA \\
                -keyout ca.key -out ca.crt 2>/dev/null
            for node in {' '.join(NODES)} lb; do
                openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$node \\
                    -keyout $node.key -out $node.csr 2>/dev/null
                printf 'subjectAltName=DNS:%s,DNS:localhost\\n' $node >$node.ext
                openssl x509 -req -in $node.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \\
                    -extfile $node.ext -out $node.crt 2>/dev/null
            done""")
        self.authority.parent.mkdir(exist_ok=True)
        self.authority.write_text(self.run(f"cat {self.dir}/ca.crt"))
        for name, host in self.hosts.items():
            host.run(f"install -D -m 0644 {self.dir}/ca.crt /etc/ssl/psapi/ca.crt")
            if name in NODES:
                host.run(f"""
                    install -m 0600 {self.dir}/{name}.key /etc/ssl/psapi/node.key
                    install -m 0644 {self.dir}/{name}.crt /etc/ssl/psapi/node.crt""")

    def close(self):
        if hasattr(self, "authority"):
            self.authority.unlink(missing_ok=True)
        super().close()

    # ---- database nodes ----

    def members(self):
        """Name -> role, of the members that run."""
        for name in (name for name in NODES if self[name].is_on):
            told = self[name].run(f"{LIST} 2>/dev/null || true")
            rows = [line.split("\t") for line in told.splitlines()[1:]]
            if rows:
                return {row[1]: row[3] for row in rows if row[4] in ("running", "streaming")}
        return {}

    def leader(self):
        return next(self[name] for name, role in self.members().items() if role == "Leader")

    def is_healthy(self):
        return sorted(self.members().values()) == ["Leader", "Replica", "Sync Standby"]

    def start_databases(self):
        (script,) = self.blocks_for(NODES)
        for name in NODES:
            self.run_on(name, script)
        wait_for(self.is_healthy, "a leader, a synchronous standby and a replica", 120)
        (script,) = self.blocks_for(["the leader"])
        self.run_on("the leader", script)

    def replace(self, name):
        """Another machine of that name, which has nothing of the old one but its certificate."""
        self[name].die()
        (script,) = self.blocks_for(["a live node"])
        self.run_on("a live node", script, NAME=name)
        self[name].run("""
            rm -rf /var/lib/etcd/default /var/lib/postgresql/psapi* /etc/patroni/config.yml
            : >/etc/default/etcd
            chown root /etc/ssl/psapi/node.key""")
        self[name].boot()
        (script,) = self.blocks_for(NODES)
        self.run_on(name, script, STATE="existing")
        health = f"etcdctl --endpoints=http://{name}:2379 --command-timeout=1s endpoint health >/dev/null 2>&1 && echo yes || true"
        wait_for(lambda: self[name].run(health), f"etcd of {name} belongs to the others", 30)
        receiver = "sudo -u postgres psql -Atc 'SELECT status FROM pg_stat_wal_receiver' 2>&1 || true"
        wait_for(lambda: self[name].run(receiver) == "streaming\n", f"{name} has copied the database", 60)
        wait_for(self.is_healthy, "three nodes again", 60)

    # ---- web heads and balancer ----

    def install(self, name):
        """What the packages do: user, files, programs."""
        self[name].run(f"""
            id psapi >/dev/null 2>&1 || useradd --system --home-dir /var/lib/psapi psapi
            usermod -a -G www-data psapi
            make -s -C {ROOT} install >/dev/null
            install -d -o psapi -g psapi -m 2770 /var/spool/psapi
            install -d -o psapi -g www-data -m 0750 /run/psapi
            install -o root -g psapi -m 0640 /dev/stdin /etc/psapi/secret <<'END'\n{SECRET}\nEND
            install -m 0755 /dev/stdin /etc/psapi/handlers.d/default <<'END'
#!/bin/sh
echo "$PSAPI_WEBHOOK_ID $PSAPI_NPN $PSAPI_TRY" >>/var/lib/psapi/handled
END
            chown psapi:psapi /var/lib/psapi""")

    def start_heads(self):
        (script,) = self.blocks_for(HEADS)
        for name in HEADS:
            self.install(name)
            self.run_on(name, script)

    def start_balancer(self, kind="nginx"):
        """With the shipped file; only the certificate is another."""
        lb = self["lb"]
        if kind == "nginx":
            lb.run(f"""
                install -D -m 0600 {self.dir}/lb.key /etc/ssl/private/webhooks.example.com.key
                install -D -m 0644 {self.dir}/lb.crt /etc/ssl/certs/webhooks.example.com.pem
                cp {ROOT}/nginx/psapi-balancer.conf /etc/nginx/sites-enabled/
                nginx -t""")
        else:
            lb.run(f"""
                cat {self.dir}/lb.crt {self.dir}/lb.key >/etc/haproxy/webhooks.example.com.pem
                cp {ROOT}/examples/haproxy.cfg /etc/haproxy/haproxy.cfg
                haproxy -c -f /etc/haproxy/haproxy.cfg""")
        lb.run(f"systemctl enable --now {kind}")
        wait_for(self.answers, f"an event is accepted through {kind}", 30)

    def answers(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.send(signed()).status == 200
        return False

    def stop_balancer(self, kind):
        self["lb"].run(f"systemctl disable --now {kind}")

    def send(self, request):
        """From the sender's host, through the balancer, as AgentSync: it waits 5 s."""
        client = HttpClient(ADDRESSES["lb"], 443, cafile=self.authority, timeout=5)
        with self["sender"].network():
            connection = client.connect()
        with connection:
            connection.sendall(head_of(request) + body_of(request))
            return client.answer(connection)

