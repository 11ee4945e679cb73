"""The files in packaging/ for monitoring systems, as these systems read them: Prometheus, node_exporter, Grafana, Icinga,
NRPE, Zabbix. What needs their packages is run by `make check-long`."""

import json
import os
import re
import shutil
import subprocess
import urllib.request

import pytest

from prometheus_text import Metrics
from psapi_command import PSAPI, Desk, updates
from receiver import ROOT, Receiver, wait_for
from sender import signed
from servers import Socket, free_port

PACKAGING = ROOT / "packaging"
RULES = PACKAGING / "prometheus/psapi.rules.yml"
DASHBOARD = PACKAGING / "prometheus/psapi.dashboard.json"
SOURCE = (ROOT / "metrics/metrics.c").read_text()
FAMILIES = set(re.findall(r'^\t\{"(psapi_\w+)", "', SOURCE, re.M))


@pytest.fixture
def desk(place):
    desk = Desk(place)
    running = Receiver(place).start()
    place.settings["PSAPI_LISTEN"] = f"unix:{running.path}"
    server = Socket(place)
    server.receiver = running
    assert server.send(signed(updates(1))).status == 200
    yield desk
    desk.close()


def promtool(*arguments, stdin=None):
    return subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60)


# ---- Prometheus ----

def metrics_in(expression):
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"psapi_\w+", expression)}


def test_rules_and_panels_ask_for_numbers_that_there_are():
    assert len(FAMILIES) == 19
    rules = "\n".join(line for line in RULES.read_text().splitlines() if not line.lstrip().startswith(("#", "summary", "desc")))
    assert metrics_in(rules) <= FAMILIES
    for expression in expressions():
        assert metrics_in(expression) and metrics_in(expression) <= FAMILIES, expression


@pytest.mark.long
def test_rules():
    for arguments in (("check", "rules", RULES), ("test", "rules", ROOT / "tests/prometheus/psapi.rules.test.yml")):
        done = promtool(*arguments)
        assert done.returncode == 0 and "SUCCESS" in done.stdout + done.stderr, done


def test_each_rule_is_tested():
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    tests = (ROOT / "tests/prometheus/psapi.rules.test.yml").read_text()
    for alert in alerts:
        assert re.search(rf"alertname: {alert}\n +exp_alerts", tests), f"{alert} never fires"
        assert re.search(rf"alertname: {alert}}}", tests), f"{alert} is never silent"


@pytest.mark.long
@pytest.mark.each_store
def test_promtool_reads_the_metrics(place):
    desk = Desk(place)
    desk.handler("default", "exit 0\n")
    desk.deliver(signed(updates(1)))
    desk.drain()
    done = promtool("check", "metrics", stdin=desk.run("metrics").stdout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    desk.close()


@pytest.mark.long
def test_node_exporter_serves_the_file(desk):
    """Two endpoints in two files, which node_exporter accepts for their HELP is the same."""
    folder = desk.place.dir / "textfile"
    folder.mkdir()
    desk.run("metrics", "--output", folder / "psapi.prom")
    other = desk.place.dir / "second.conf"
    other.write_text("")
    desk.run("metrics", "--output", folder / "second.prom", "-f", other)
    address = f"127.0.0.1:{free_port()}"
    with open(desk.place.dir / "exporter.log", "wb") as log:
        exporter = subprocess.Popen(["prometheus-node-exporter", f"--web.listen-address={address}",
                                     "--collector.disable-defaults", "--collector.textfile",
                                     f"--collector.textfile.directory={folder}"], stdout=log, stderr=log)

    def scrape():
        try:
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None
    try:
        text = wait_for(scrape, "node_exporter answers")
    finally:
        exporter.terminate()
        exporter.wait()
    assert 'node_textfile_scrape_error 0' in text and text.count('psapi_build_info{') == 2
    assert re.search(r'psapi_last_accepted_timestamp_seconds\{endpoint="receiver",type="producersync.updates_available"\} ', text)


# ---- Grafana ----

def dashboard():
    return json.loads(DASHBOARD.read_text())


def expressions():
    return [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]


def test_dashboard_has_what_grafana_requires():
    """Grafana's "Dashboard JSON model"."""
    board = dashboard()
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time", "refresh", "tags", "version"} <= set(board)
    assert "id" not in board, "a number of another Grafana's"
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "endpoint"]
    taken = set()
    for panel in board["panels"]:
        assert panel["type"] in ("stat", "timeseries") and panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, f"{panel['title']} is on another panel"
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for expression in expressions():
        assert 'endpoint=~"$endpoint"' in expression


@pytest.mark.long
def test_prometheus_parses_each_panel(tmp_path):
    rules = [{"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m").replace("$endpoint", ".*")}
             for number, expression in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))     # JSON is YAML
    done = promtool("check", "rules", file)
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout + done.stderr, done


# ---- Nagios, Icinga, NRPE, Zabbix ----

def commands(path, pattern):
    """The commands in a file, as lists of words."""
    found = re.findall(pattern, (PACKAGING / path).read_text(), re.M)
    assert found, path
    return [line.split() for line in found]


AS_PSAPI = ["/usr/bin/sudo", "-n", "-u", "psapi", "/usr/local/bin/psapi"]


def allowed(user):
    """Commands that sudoers lets the user run."""
    (line,) = re.findall(rf"^{user} ALL=\(psapi\) NOPASSWD: (.*)$", (PACKAGING / "nrpe/psapi.sudoers").read_text(), re.M)
    assert "*" not in line and "-f" not in line
    return [command.split() for command in line.split(", ")]


@pytest.mark.parametrize("path, pattern, user", [
    ("nrpe/psapi.cfg", r"^command\[check_psapi\]=(.*)$", "nagios"),
    ("zabbix/psapi.conf", r"^UserParameter=[a-z.]+,(.*)$", "zabbix")])
def test_commands(desk, path, pattern, user):
    """Each works, and sudo would let it run."""
    for words in commands(path, pattern):
        assert words[:5] == AS_PSAPI and words[4:] in allowed(user), words
        assert desk.run(*words[5:]).stderr == ""


def test_sudoers(tmp_path):
    if shutil.which("visudo") is None:
        pytest.skip("needs sudo")
    copy = tmp_path / "sudoers"
    shutil.copy(PACKAGING / "nrpe/psapi.sudoers", copy)
    copy.chmod(0o440)
    done = subprocess.run(["visudo", "-c", "-s", "-f", copy], capture_output=True, text=True)
    assert done.returncode == 0, done


def test_icinga_options(desk):
    text = (PACKAGING / "icinga/psapi.conf").read_text()
    assert re.search(r'command = \[ (.*) \]', text)[1] == ", ".join(f'"{word}"' for word in [*AS_PSAPI, "check"])
    options = re.findall(r'"(--[a-z]+)" = \{', text)
    assert options == ["--file", "--warning", "--critical", "--timeout"]
    help_text = desk.run("help", "check").stdout + desk.run("help", "options").stdout
    assert all(option in help_text for option in options)
    assert ["/usr/local/bin/psapi", "check", "--timeout", "30"] in allowed("nagios")


@pytest.mark.long
def test_icinga_reads_its_file(place):
    if shutil.which("icinga2") is None:
        pytest.skip("needs icinga2")
    file = place.dir / "icinga2.conf"
    file.write_text(f'include <itl>\ninclude "{PACKAGING}/icinga/psapi.conf"\n'
                    'object Host "h" { check_command = "dummy"\n vars.psapi = true\n vars.psapi_critical = "drain=7200" }\n')
    done = subprocess.run(["icinga2", "daemon", "-C", "-c", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Instantiated 1 Service." in done.stdout, done.stdout


def program(desk):
    """The shipped file's words for this build: without sudo, with the test's settings."""
    script = desk.place.dir / "as-psapi"
    variables = "".join(f"export {key}='{value}'\n" for key, value in desk.environment().items() if key.startswith("PSAPI_"))
    script.write_text(f"#!/bin/sh\n{variables}exec {PSAPI} \"$@\"\n")
    script.chmod(0o755)
    return script


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="nrpe changes its user")
def test_nrpe(desk):
    if shutil.which("nrpe") is None:
        pytest.skip("needs nrpe")
    port = free_port()
    shipped = (PACKAGING / "nrpe/psapi.cfg").read_text().replace(" ".join(AS_PSAPI), str(program(desk)))
    config = desk.place.dir / "nrpe.cfg"
    config.write_text(f"server_address=127.0.0.1\nserver_port={port}\nnrpe_user=nagios\nnrpe_group=nagios\n"
                      f"allowed_hosts=127.0.0.1\npid_file={desk.place.dir}/nrpe.pid\ncommand_timeout=60\n" + shipped)
    subprocess.run(["chown", "-R", "nagios:", desk.place.dir], check=True)      # here nrpe's user is the spool's
    server = subprocess.Popen(["nrpe", "-c", config, "-f", "-n"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def answer():
            done = subprocess.run(["/usr/lib/nagios/plugins/check_nrpe", "-H", "127.0.0.1", "-n", "-p", str(port), "-c",
                                   "check_psapi", "-t", "40"], capture_output=True, text=True)
            return done if "psapi" in done.stdout.lower() else None
        done = wait_for(answer, "NRPE answers")
    finally:
        server.terminate()
        server.wait()
    assert done.returncode == 0 and done.stdout.startswith("PSAPI OK - ") and "|waiting=" in done.stdout.replace("| ", "|"), done


@pytest.mark.long
def test_zabbix(desk):
    if shutil.which("zabbix_agentd") is None:
        pytest.skip("needs zabbix-agent")
    shipped = (PACKAGING / "zabbix/psapi.conf").read_text().replace(" ".join(AS_PSAPI), str(program(desk)))
    config = desk.place.dir / "zabbix.conf"
    config.write_text("Server=127.0.0.1\nHostname=x\nLogType=console\nAllowRoot=1\n" + shipped)

    def item(key):
        done = subprocess.run(["zabbix_agentd", "-c", config, "-t", key], capture_output=True, text=True, timeout=60)
        return re.search(r"\[[tsd]\|(.*)\]\s*$", done.stdout, re.S)[1]
    assert json.loads(item("psapi.check"))["status"] == "OK"
    assert Metrics(item("psapi.metrics").rstrip("\n") + "\n").value("psapi_store_up") == 1
