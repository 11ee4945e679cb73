"""docs/ and README: links lead somewhere, commands exist, every message is explained, scripts run."""

import functools
import grp
import os
import re
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from psapi_command import PSAPI, Desk, body
from receiver import ROOT, SLOWER, connects, wait_for
from replies import REASONS, assert_accepted
from sender import OTHER_SECRET, SECRET, event, signed
from servers import Socket
from test_man import Sandbox

PAGES = sorted(str(page.relative_to(ROOT)) for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TROUBLESHOOTING = (ROOT / "docs" / "troubleshooting.md").read_text()

LITERAL = r'(?:"(?:[^"\\]|\\.)*"\s*)+'
# The files whose messages docs/troubleshooting.md explains. doctor and send print words of their own.
SOURCES = sorted(path for path in ROOT.glob("**/*.c")
                 if not re.match("(tests|bench|build)/", str(path.relative_to(ROOT))))
OWN_WORDS = {"doctor/http_status.c", "doctor/local.c", "doctor/probe.c", "doctor/history.c", "doctor/log.c", "doctor/url.c",
             "doctor/receiver.c", "doctor/monitor.c", "commands/check.c", "send/delivery.c", "send/http.c", "send/fastcgi_client.c"}

# Printed nowhere: the page takes the order of the log then.
GOOD = {("verify.c", "is a signing secret"), ("listing.c", "too many events wait to be sorted")}


def source_text(path):
    """Without comments and character constants, whose quotes are no strings; macros in place."""
    text = re.sub(r"/\*.*?\*/|'(?:\\.|[^'\\])'", " ", path.read_text(), flags=re.S)
    return text.replace("FORMAT_FILE", '"format"').replace("SPOOL_FORMAT", '"1"').replace(
        "ATTEMPTS_FILE", '"attempts.jsonl"').replace("LOCK_FILE", '"lock"').replace(
        "EVENTS_DAILY_TYPE", '"producersync.updates_available"')


def join(literals):
    text = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literals))
    return text.replace('\\"', '"').replace("\\n", " ").replace("\\\\", "\\")


def squeeze(text):
    return re.sub(r"\s+", " ", text)


def formats():
    """(file, format) of each line that is logged, and of the reasons that go into one."""
    calls = (r"log_line\(\s*", r"snprintf\((?:why|state\.reason), [^,;]+(?:\([^()]*\))?,\s*",
             r"error_set\(\s*[^,;]+, \w+,\s*", rf"error_set\(\s*[^,;]+, \w+,\s*(?:\w+|{LITERAL}),\s*",
             r"\*why = ", r"why = ", r"return (?=\"it |\"is |\"what )")
    for source in SOURCES:
        if str(source.relative_to(ROOT)) in OWN_WORDS:
            continue
        text = source_text(source)
        for call in calls:
            for literals in re.findall(call + f"({LITERAL})", text):
                yield source.name, join(literals)
        # The text and the remedy; what a file system is; what does not fit an event; remedies by errno.
        for call in re.findall(r"\b(?:error_set|set_two|unfit)\((.*?)\);|\bcauses\[\] = (.*?)\n};", text, re.S):
            for literals in re.findall(LITERAL, "".join(call)):
                yield source.name, join(literals)


def longest(text):
    """The part of a format that says most: between two conversions."""
    return max((part.strip(" :;,.()") for part in re.split(r"%[-+ 0-9.*]*(?:ll|z|l)?[a-zA-Z]", text)),
               key=len)


def github_anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            assert anchor in map(github_anchor, headings), link


@functools.cache
def help_of(*name):
    """What `psapi help NAME` says; "" if there is no such subcommand."""
    done = subprocess.run([PSAPI, "help", *name], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


@pytest.mark.parametrize("page", PAGES)
def test_commands_exist(page):
    """`psapi SUBCOMMAND --option`: there is such a subcommand, with such an option."""
    text = (ROOT / page).read_text()
    for name, rest in re.findall(r"\bpsapi ([a-z]+)\b([^`\n|#;]*)", text):
        shown = help_of(name)
        if shown == "":
            continue    # "psapi" followed by a word of the sentence
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest):
            assert option in shown + help_of("options"), (name, option)


def test_every_page_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        assert page == "README.md" or f"]({page})" in readme, page


def prose(text):
    """The lines that are no code, table or HTML, without the addresses of links."""
    code = False
    for line in text.splitlines():
        code ^= line.lstrip().startswith("```")
        if not code and not re.match(r"\s*```|\||<| {4}", line):
            yield re.sub(r"\]\([^)]*\)", "]", line)


REFERENCE = {"docs/troubleshooting.md", "docs/design.md", "docs/performance.md", "docs/promises.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if (page.startswith("docs/") or page == "README.md")
                                  and page not in REFERENCE])
def test_a_page_for_a_task_is_short(page):
    """Few lines, and no long ones. The others are for those who look something up, or want to know why."""
    text = (ROOT / page).read_text()
    assert len(text.splitlines()) <= (150 if page == "README.md" else 80)
    assert [line for line in prose(text) if len(line) > 120] == []


def test_known_types():
    """The same everywhere: what is checked, what can be sent, what is completed and described."""
    def types(path, begin="", end="\\Z"):
        whole = source_text(ROOT / path) if path.endswith(".c") else (ROOT / path).read_text()
        text = re.search(rf"{begin}(.*?){end}", whole, re.S)[1]
        return set(re.findall(r"\bproducersync\.[\w.]*\w", text)) - {"producersync.npn"}
    known = types("events.c", "known_types\\[\\] = ", "\n};")
    assert len(known) >= 3
    assert types("send/delivery.c", "delivery_example_types\\[\\] = ", "};") == known
    assert types("commands/table.c") == known
    assert types("packaging/completion/psapi") == types("packaging/completion/_psapi") == known
    assert types("man/psapi.1") == types("man/psapi-handlers.7") == known


def test_every_reply_is_explained():
    table = TROUBLESHOOTING.split("## The portal shows a reply\n")[1].split("\n## ")[0]
    words = {word: 200 for word in ("accepted", "duplicate", "held", "ignored")}
    for word, status in (words | REASONS).items():
        assert re.search(rf"^\| [^|]*`{word}`[^|]*\| {status} \|", table, re.M), word


def test_every_message_is_explained():
    shown = squeeze(TROUBLESHOOTING.replace("`", ""))
    said = {(source, squeeze(longest(text))) for source, text in formats()} - GOOD
    assert len(said) > 100
    missing = {(source, part) for source, part in said
               if len(part) >= 6 and part[:60] not in shown}
    assert not missing, "\n".join(map(str, sorted(missing)))


def test_every_message_explained_exists():
    """The first column of the tables says what the programs say, between the dots."""
    said = squeeze(" ".join(join(literals) for source in SOURCES
                            for literals in re.findall(LITERAL, source_text(source))))
    # An error is logged as TEXT: REMEDY (base/error.h).
    said += " ".join(join(text) + ": " + join(remedy) for source in SOURCES for remedy, text in re.findall(
        rf"error_set\(\s*[^,;]+, \w+,\s*({LITERAL}),\s*({LITERAL})", source_text(source)))
    # A step that failed is named as "cannot STEP" (store/spool/spool.c).
    said += " ".join(f"cannot {step} " for source in SOURCES
                     for step in re.findall(r'spool_failed\(\w+, "([^"]+)"', source_text(source)))
    said += " ".join(os.strerror(number) for number in range(1, 134))
    tables = TROUBLESHOOTING.split("## The receiver does not start\n")[1].split("\n## Doctor's failed checks")[0]
    for row in re.findall(r"^\| (`[^|]*) \|", tables, re.M):
        for message in re.findall(r"`([^`]+)`", row):
            for part in re.split("…", message):
                part = part.strip(' :;,.()"')
                # An error is logged as "TEXT: REMEDY".
                assert len(part) < 6 or all(piece in said for piece in part.split(": ")), part


def test_every_check_of_doctor_is_explained():
    table = TROUBLESHOOTING.split("## Doctor's failed checks\n")[1]
    named = {name for row in re.findall(r"^\| (`[^|]*) \|", table, re.M)
             for name in re.findall(r"`([a-z-]+)`", row)}
    tables = "".join(source.read_text() for source in ROOT.glob("doctor/*.c"))
    known = set(re.findall(r'^\t\{"([a-z-]+)", (?:doctor_)?check_', tables, re.M))
    store = (ROOT / "store/postgresql/status.c").read_text()
    known |= set(re.findall(r'\btell\(&?v, "([a-z-]+)"', store))
    known |= set(re.findall(r'check = \{\.name = "([a-z-]+)"', (ROOT / "store/unimported.c").read_text()))
    assert named == known | {"configuration"}


# ---- what the pages show is run ----

def blocks(page, language=""):
    text = (ROOT / ("" if page == "README.md" else "docs") / page).read_text()
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.S | re.M)


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


def shell(desk, *command, **settings):
    environment = desk.environment() | {k: str(v) for k, v in settings.items()}
    return subprocess.run(command, env=environment | {"PATH": f"{PSAPI.parent}:/usr/bin:/bin"},
                          text=True, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=60 * SLOWER)


def test_the_check_of_the_page(desk):
    """The command of docs/monitoring.md, and what it names."""
    page = (ROOT / "docs/monitoring.md").read_text()
    [command] = re.findall(r"^\$ sudo -u psapi (psapi check .*)$", page, re.M)
    with Socket(desk.place) as server:
        desk.place.settings["PSAPI_LISTEN"] = f"unix:{desk.place.dir}/psapi.sock"
        assert_accepted(server.send(signed(body(1))))
        done = shell(desk, *command.split())
        assert done.returncode == 0 and done.stdout.startswith("PSAPI OK - ") and " | waiting=" in done.stdout, done
        server.receiver.stop()
    table = page.split("| it looks at |")[1].split("\n\n")[0]
    names = {name for row in re.findall(r"^\| (`[^|]*) \|", table, re.M) for name in re.findall(r"`([a-z-]+)`", row)}
    source = (ROOT / "doctor/monitor.c").read_text()
    known = set(re.findall(r'^\t\{\w+, "([a-z-]+)", HEALTH_', source, re.M))
    known |= {name for name, warning, critical in re.findall(
        r'\[MONITOR_\w+\] = \{"([a-z]+)", "\w*", "([^"]*)",\s+("[^"]+"|TEXT_OF_MACRO|"")', source)
              if warning or critical != '""'}
    assert names == known | {"database"}
    for path in re.findall(r"`((?:icinga|nrpe|zabbix|prometheus)/[\w.]+)`", page):
        assert (ROOT / "packaging" / path).exists(), path


def test_numbers(desk):
    """The one-liners of docs/monitoring.md."""
    [script] = [block for block in blocks("monitoring.md", "sh") if "by outcome" in block]
    desk.deliver(signed(body(1)), signed(body(2)), signed(b"no JSON"))
    shown = []
    for line in script.splitlines():
        if not line.startswith("#"):
            done = shell(desk, "/bin/sh", "-c", line)
            assert (done.returncode, done.stderr) == (0, ""), (line, done.stderr)
            shown.append(done.stdout.strip())
    assert shown[:3] == ["3 accepted", "2", "1"]
    assert float(shown[3]) > 0 and abs(int(shown[4])) < 60


def test_another_endpoint(place):
    """docs/endpoints.md: the instance's files, as they are written there."""
    with ExitStack() as stack:
        sandbox = Sandbox(place, stack)
        for command in (blocks("endpoints.md")[0], "sudo psapi -f /etc/psapi/NAME.conf secret add <secret.txt",
                        "psapi-fcgi -t -f /etc/psapi/NAME.conf"):
            done = sandbox.shell("set -e\n" + sandbox.translate(command))
            assert done.returncode == 0, (command, done.stdout)
        assert "spool-NAME: " in done.stdout and "NAME.sock: can be made" in done.stdout


def test_rotation(desk):
    """docs/rotation.md, step 3: signed with both, a request counts for the old one."""
    old = desk.rows("secret", "list")[0]["fingerprint"]
    new_file = desk.place.dir / "new"
    new_file.write_text(OTHER_SECRET)
    with open(new_file) as text:
        desk.run("secret", "add", stdin=text)
    [new] = {row["fingerprint"] for row in desk.rows("secret", "list")} - {old}
    for secrets, expected in (((OTHER_SECRET, SECRET), old), ((OTHER_SECRET,), new)):
        desk.deliver(signed(secrets=secrets))
        assert desk.spool.attempts()[-1]["key"] == expected
    desk.run("secret", "drop", old)
    assert [row["fingerprint"] for row in desk.rows("secret", "list")] == [new]


@pytest.fixture
def sandbox(place):
    with ExitStack() as stack:
        yield Sandbox(place, stack)


def test_the_session_of_the_readme(sandbox):
    sandbox.vhost()
    [session] = blocks("README.md", "console")
    sandbox.session(session.splitlines())
    assert sandbox.place.spool.names("new") == []


def test_the_handler_of_the_readme(sandbox):
    [handler, _] = blocks("README.md", "sh")
    sandbox.write("/etc/psapi/handlers.d/producersync.npn", handler.splitlines(), "755")
    sandbox.deliver(*(signed(event(f"producersync.npn.{what}", npn=npn, **{f"{what}At": "2025-07-25T15:53:01Z"}))
                      for what, npn in (("activated", "123"), ("deactivated", "456"))))
    done = sandbox.shell("psapi drain")
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted((sandbox.home / "npns.txt").read_text().splitlines()) == ["123 joined", "456 left"]


def test_the_loop_of_the_readme(sandbox):
    """It handles what is recorded, once; keeps what failed; and leaves alone what is not recorded yet."""
    [_, loop] = blocks("README.md", "sh")
    spool = sandbox.place.spool
    sandbox.three_events()
    first, second, third = sorted(spool.names("new"))
    (spool.path / "events" / f"{third}.json").unlink()
    program = sandbox.bin / "your-program"
    program.unlink()
    program.write_text(f'#!/bin/sh\necho "$1"\ncase $1 in */{second}.json) exit 1 ;; esac\n')
    program.chmod(0o755)
    shown = sandbox.shell(sandbox.translate(loop)).stdout.splitlines()
    assert [line.rsplit("/", 1)[1] for line in shown] == [f"{first}.json", f"{second}.json"]
    assert sorted(spool.names("new")) == [second, third]
    for name in (second, third):
        (spool.path / "new" / f"{name}.json").unlink()
    done = sandbox.shell(sandbox.translate(loop))
    assert done.stdout == "", "nothing is there"


@pytest.mark.skipif(os.geteuid() != 0, reason="it becomes another user")
def test_the_start_script_without_systemd(sandbox):
    """docs/without-systemd.md: root starts it, with the short PATH of an init system; it makes /run/psapi itself.
    tests/install runs the whole page."""
    [script] = [re.search("<<'END'\n(.*?)END\n", block, re.S)[1] for block in blocks("without-systemd.md")
                if "setpriv" in block]
    for user in ("-o psapi", "--reuid=psapi --regid=psapi --groups=psapi,www-data"):
        assert user in script
        script = script.replace(user, user.replace("psapi", "www-data"))
    sandbox.write("psapi-fcgi-start", script.splitlines(), "755")
    place = sandbox.place
    os.chown(place.secret_file, 0, grp.getgrnam("www-data").gr_gid)
    place.secret_file.chmod(0o640)
    shutil.chown(place.spool.path, "www-data")
    sandbox.run.rmdir()
    child = subprocess.Popen([place.dir / "psapi-fcgi-start"], stdin=subprocess.DEVNULL,
                             env=sandbox.environment() | {"PATH": "/usr/bin:/bin"})
    try:
        wait_for(lambda: child.poll() is not None or connects(sandbox.run / "psapi.sock"), "the socket")
        assert child.poll() is None
        assert (sandbox.run / "psapi.sock").owner() == "www-data"
    finally:
        child.terminate()
        assert child.wait(timeout=10 * SLOWER) == 0
