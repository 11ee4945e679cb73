"""psapi on a terminal of 80 columns and 24 lines: tables fit, the help fits, mistyped names are understood. Without a
terminal, and with --wide, tables are in full."""

import json
import re
import subprocess

import pytest

from psapi_command import PSAPI, Desk, body, on_a_terminal
from sender import signed

COLUMNS, LINES = 80, 24
COLOUR = re.compile(r"\033\[[0-9;]*m")


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


def screen(desk, *arguments, columns=COLUMNS, env=None, program="psapi"):
    """The lines that a program prints on a terminal, without colours, and its exit status."""
    output, status = on_a_terminal([PSAPI.parent / program, *arguments], desk.environment(env), (LINES, columns))
    return COLOUR.sub("", output).replace("\r\n", "\n").splitlines(), status


@pytest.fixture
def events(desk):
    """One that waits, one that failed, with ids of the sender's length."""
    desk.handler("default", "case $PSAPI_NPN in 1) exit 75;; esac\necho no such agency >&2\nexit 2\n")
    desk.deliver(signed(body(1, "1"), webhook_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4X"),
                 signed(body(2, "1234567890"), webhook_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f5X"),
                 signed(b'{"type":"producersync.updates_available","id":"1","timestamp":"2025-07-24T22:51:05.206Z",'
                        b'"data":{"runDate":"2025-07-24"}}', webhook_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f6X"))
    desk.drain(expect=1)


def assert_fits(lines, columns=COLUMNS):
    assert lines and max(map(len, lines)) <= columns, "\n".join(line for line in lines if len(line) > columns)


# ---- tables ----

def test_list(desk, events):
    lines, _ = screen(desk, "list")
    assert_fits(lines)
    assert lines[0].split() == ["RECEIVED", "UTC", "STATUS", "TYPE", "ID"]
    rows = [line.split() for line in lines[1:] if not line.startswith(" ")]
    assert {row[-1] for row in rows} == {f"msg_2KWPBgLlAfxdpx2AI54pPJ85f{n}X" for n in (4, 5, 6)}
    assert {row[2] for row in rows} == {"npn.activated", "updates_available"}
    assert any("exit status 2, try 1 of at most 10" in line for line in lines if line.startswith("    "))
    assert any(line.startswith("    due 20") for line in lines)


def test_list_by_cause(desk, events):
    """What does not fit follows in the next line."""
    lines, _ = screen(desk, "list", "--failed", "--by-cause")
    assert_fits(lines)
    piped = desk.run("list", "--failed", "--by-cause").stdout
    assert len(piped.splitlines()) == 2 and len(lines) > 2
    assert " ".join(piped.split()) == " ".join(" ".join(lines).split())
    assert "+05:45" in desk.run("list", "--failed", "--by-cause", "--local-time", env={"TZ": "Asia/Kathmandu"}).stdout


@pytest.mark.parametrize("columns, heads", [
    (60, ["STATUS", "ID"]), (80, ["RECEIVED UTC", "STATUS", "TYPE", "ID"]),
    (100, ["RECEIVED UTC", "STATUS", "TYPE", "NPN", "ID"]), (138, ["RECEIVED", "STATUS", "TYPE", "NPN", "EVENT TIME", "ID"])])
def test_columns_by_priority(desk, events, columns, heads):
    lines, _ = screen(desk, "list", columns=columns)
    assert [head for head in re.split(r"\s{2,}", lines[0].strip()) if head] == heads
    if columns < 138:
        assert_fits(lines, columns)


def test_in_full(desk, events):
    """Without a terminal, and with --wide on one: the same bytes."""
    piped = desk.run("list").stdout
    assert piped.splitlines()[0].split() == ["RECEIVED", "STATUS", "TYPE", "NPN", "EVENT", "TIME", "ID"]
    assert max(map(len, piped.splitlines())) > 120
    assert screen(desk, "list", "--wide")[0] == screen(desk, "--wide", "list")[0] == piped.splitlines()
    assert desk.run("list", env={"COLUMNS": "40"}).stdout == piped
    assert desk.run("attempts").stdout.splitlines() == screen(desk, "attempts", "--wide")[0]


def test_attempts(desk, events):
    lines, _ = screen(desk, "attempts")
    assert_fits(lines)
    assert lines[0].split() == ["TIME", "UTC", "OUTCOME", "TYPE", "OR", "REASON", "FROM"]
    for line in lines[1:]:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d  accepted   200  \S*(activated|available) +\S+$", line), line
    wide, _ = screen(desk, "attempts", columns=140)
    assert "WEBHOOK-ID" in wide[0] and "msg_2KWPBgLlAfxdpx2AI54pPJ85f4X" in wide[1]
    assert_fits(wide, 140)


def test_refused_attempts(desk):
    desk.deliver(signed(body(1)))
    log = desk.spool.path / "attempts.jsonl"
    log.write_text('{"at":"2026-01-02T03:04:05.678Z","outcome":"rejected","status":401,"reason":"signature_mismatch",'
                   '"remote_addr":"2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff","suppressed":12}\n')
    if desk.place.store != "spool":
        pytest.skip("the log of this host")
    lines, _ = screen(desk, "attempts")
    assert "signature_mismatch" in lines[1]
    assert lines[2].strip() == "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"     # it does not fit beside the rest
    assert lines[3].strip() == "(and 12 rejected ones that are not listed)"


def test_secret_list(desk):
    desk.place.write_secret("# added 2026-01-31T12:00:00Z\n" + desk.place.secret_file.read_text() + "whsk_" + "A" * 44 + "\n")
    lines, _ = screen(desk, "secret", "list")
    assert_fits(lines)


def test_doctor(desk):
    """Text and remedy are wrapped; the last line is the sum."""
    lines, status = screen(desk, "doctor", "https://localhost:1/webhooks/psapi/with/a/long/path")
    assert status == 1
    assert_fits([line for line in lines if "/tmp/" not in line])
    problems, remarks = map(int, re.fullmatch(r"(\d+) problems?, (\d+) remarks?", lines[-1]).groups())
    done = desk.run("doctor", "--json", "https://localhost:1/webhooks/psapi/with/a/long/path", expect=1)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert problems == sum(row["ok"] is False for row in rows) > 0
    assert remarks == sum(row.get("remark", False) for row in rows)


def test_quiet(desk):
    """Only what is wrong, and the sum; silence if nothing is."""
    done = desk.run("doctor", "--quiet", expect=None)
    marks = set(re.findall(r"^(\S+)  \S+ {2,}\S", done.stdout, re.M))
    assert not marks & {"ok", "\u2713", "-"}, done.stdout
    assert re.search(r"^\d+ problems?, \d+ remarks?$", done.stdout, re.M), done.stdout
    silent = desk.run("doctor", "-q", "--json", expect=None).stdout
    assert '"ok":null' not in silent and silent.count('"ok":true') == silent.count('"remark":true')


# ---- times ----

def test_local_time(desk, events):
    zone = {"TZ": "Asia/Kathmandu"}     # + 5:45, also for those who test there
    received = desk.rows("list")[0]["received_at"]
    for command in ("list", "attempts", "show"):
        ids = ["msg_2KWPBgLlAfxdpx2AI54pPJ85f4X"] if command == "show" else []
        text = desk.run(command, "--local-time", *ids, env=zone).stdout.split("\n{")[0]     # the body stays as it is
        assert "+05:45" in text and not re.search(r"\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text), text
        assert "+05:45" not in desk.run(command, *ids, env=zone).stdout
        assert "+05:45" not in desk.run(command, "--local-time", "--json", *ids, env=zone).stdout
    lines, _ = screen(desk, "list", "--local-time", env=zone)
    assert_fits(lines)
    assert lines[0].startswith("RECEIVED LOCAL") and received[:19] not in "\n".join(lines)
    utc, _ = screen(desk, "list", "--local-time", env={"TZ": "UTC"})
    assert received[:19] in "\n".join(utc)
    assert_fits(screen(desk, "secret", "list", "--local-time", env=zone)[0])
    assert desk.run("attempts", "--local", env=zone).stdout == desk.run("attempts", "--local").stdout


def test_long_id(desk):
    """It is not shortened, for people copy it: it has a line of its own where it does not fit beside the rest."""
    long, short = "msg_" + "x" * 67, "msg_short"
    desk.deliver(signed(body(1), webhook_id=long), signed(body(2), webhook_id=short))
    lines, _ = screen(desk, "list")
    assert_fits(lines)
    assert f"    {long}" in lines and any(line.endswith(f"  {short}") for line in lines)
    assert any(line.endswith(f"  {long}") for line in screen(desk, "list", columns=140)[0])
    piped = desk.run("list").stdout.splitlines()
    assert len(piped) == 3 and any(line.split()[-1] == long for line in piped)


# ---- help and names ----

@pytest.mark.parametrize("program", ["psapi", "psapi-fcgi", "psapi-web"])
def test_help_of_each_program(desk, program):
    lines, status = screen(desk, "--help", program=program)
    assert status == 0
    assert_fits(lines)
    assert "/etc/psapi/psapi.conf" in " ".join(lines) or program == "psapi"


@pytest.mark.parametrize("program", ["psapi-fcgi", "psapi-web"])
@pytest.mark.parametrize("arguments, what", [
    (["--verzion"], '"--verzion": no such option; did you mean --version? '), (["--fiel=x"], "did you mean --file? "),
    (["--xyzzy"], '"--xyzzy": no such option; '), (["-x"], '"-x": no such option; '),
    (["-f"], '"-f": takes an argument; '), (["--set"], '"--set": takes an argument; '),
    (["--version=1"], '"--version=1": takes no argument; '), (["\033[2J"], "no such argument; ")])
def test_wrong_options_of_a_daemon(desk, program, arguments, what):
    done = subprocess.run([PSAPI.parent / program, *arguments], env=desk.environment(), capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=20)
    assert done.returncode == 64 and done.stderr.count("\n") == 1 and "\033" not in done.stderr, done
    assert what in done.stderr and done.stderr.endswith(f"{program} -h lists what there is\n"), done.stderr


def test_option_of_a_test(desk):
    done = subprocess.run([PSAPI.parent / "psapi-fcgi", "--tets"], env=desk.environment(), capture_output=True, text=True)
    assert done.stderr == 'psapi-fcgi: "--tets": no such option; did you mean --test? psapi-fcgi -h lists what there is\n'


def test_usage(desk):
    lines, status = screen(desk)
    assert status == 64 and lines[0].startswith("usage: psapi ") and len(lines) <= 8
    assert_fits(lines)
    for name in ("drain", "doctor", "attempts"):
        assert name in " ".join(lines).split()


def test_help_fits_a_screen(desk):
    lines, status = screen(desk, "help")
    assert status == 0 and len(lines) < LINES
    assert_fits(lines)
    assert "PSAPI_" not in "\n".join(lines)
    settings = desk.run("help", "settings").stdout
    assert_fits(screen(desk, "help", "settings")[0])
    assert "PSAPI_SPOOL" in settings and "PSAPI_HANDLERS" in settings
    assert "--spool" in desk.run("help", "options").stdout and "go live" in desk.run("help", "setup").stdout


@pytest.mark.parametrize("topic", re.findall(r"^  ([a-z]+) ", subprocess.run(
    [PSAPI, "help"], capture_output=True, text=True, check=True).stdout, re.M) + ["setup", "options"])
def test_help_of_each(desk, topic):
    lines = desk.run("help", topic).stdout.splitlines()
    assert_fits(lines)
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize("arguments, meant", [
    (["attemps"], "attempts"), (["lst"], "list"), (["Doctor"], "doctor"), (["docotr"], "doctor"), (["att"], "attempts"),
    (["help", "retyr"], "retry"), (["help", "setings"], "settings"), (["help", "optoins"], "options"),
    (["help", "stup"], "setup"), (["list", "--faild"], "--failed"), (["list", "--wdie"], "--wide"),
    (["attempts", "--outcoem=held"], "--outcome"), (["doctor", "--quite"], "--quiet")])
def test_near_names(desk, arguments, meant):
    done = desk.run(*arguments, expect=64)
    assert done.stderr.count("\n") == 1
    assert f"did you mean {meant}? psapi help" in done.stderr, done.stderr


@pytest.mark.parametrize("arguments", [["xyzzy"], ["x"], ["list", "--xyzzy"], ["\033[2J"]])
def test_no_near_name(desk, arguments):
    done = desk.run(*arguments, expect=64)
    assert "did you mean" not in done.stderr and "no such" in done.stderr and "\033" not in done.stderr
