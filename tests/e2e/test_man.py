"""man/: the pages say what the programs say, and their examples are run.

A comment above each literal display says what it is:

  .\\" shell [STATUS] [after NAME]   commands after "$ ", continued after "> ", and what they print;
                                    STATUS: of the last one (0); NAME: what happens before, below
  .\\" file PATH [MODE]              a file with these contents
  .\\" daemon SOCKET                 a command that goes on, and listens there; ended with the page
  .\\" figure                        nothing to run

In what is printed "..." stands for anything, and alone on a line for any lines. The pages' paths are
exchanged for the test's own, and sudo is left out. What psapi-fcgi -t says of the file system depends
on the machine: of the line for the spool the end is not compared, and a warning is left out.
"""

import grp
import os
import re
import subprocess
from contextlib import ExitStack

import pytest

from psapi_command import updates
from receiver import BINARY, ROOT, SLOWER, WEB_USER, connects, heeds_signals, wait_for
from replies import REASONS, assert_accepted
from sender import SECRET, event, signed
from servers import Nginx
from spool import EVIDENCE_KEYS

MAN = ROOT / "man"
PAGES = ["psapi.1", "psapi-spool.5", "psapi.conf.5", "psapi-handlers.7", "psapi-store-postgresql.7",
         "psapi-fcgi.8", "psapi-web.8"]
ID = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4"      # and a letter
ACTIVATED = event("producersync.npn.activated", npn="123456789", activatedAt="2025-07-25T15:53:01.579Z")


def plain(text):
    """mdoc text without its escapes."""
    return text.replace("\\&", "").replace("\\(dq", '"').replace("\\e", "\\")


def displays(page):
    """(what it is, its lines) of each literal display."""
    lines = (MAN / page).read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith(".Bd -literal"):
            mark = re.fullmatch(r'\.\\" ((?:shell|file|daemon|figure)\b.*)', lines[number - 1])
            assert mark, f"{page}:{number + 1}: no word above it of what it is"
            end = lines.index(".Ed", number)
            yield mark[1].split(), [plain(text) for text in lines[number + 1:end]]
        assert not line.startswith(".Dl"), f"{page}:{number + 1}: a display that is not run"


def commands(lines):
    """(command, what it prints) of a session."""
    session = []
    for line in lines:
        if line.startswith("$ "):
            session.append((line[2:], []))
        elif line.startswith("> "):
            session[-1] = (session[-1][0] + "\n" + line[2:], session[-1][1])
        else:
            session[-1][1].append(line)
    return session


def matches(promised, printed):
    """Whether it printed that, white space and the file system aside."""
    def squeeze(lines):
        return "".join(re.sub(r"\s+", " ", line).strip() + "\n" for line in lines)
    promised = [line.replace("ext4, one wait for the disk", "...") for line in promised]
    printed = re.sub(r"^warning: spool .*\n", "", printed, flags=re.M)
    pattern = re.escape(squeeze(promised)).replace(re.escape("...\n"), "\0\n")
    pattern = re.sub(r"^\0\n", r"(?:.*\n)*?", pattern.replace("\\\n", "\n"), flags=re.M)
    pattern = pattern.replace("\0", ".*").replace(re.escape("..."), ".*")
    return re.fullmatch(pattern, squeeze(printed.splitlines()))


class Sandbox:
    """A machine on which the pages' paths are the test's."""

    def __init__(self, place, stack):
        self.place, self.stack = place, stack
        self.etc, self.run, self.home, self.bin = (place.dir / name for name in
                                                   ("etc", "run", "home", "bin"))
        for directory in (self.etc, self.run, self.home, self.bin, self.etc / "handlers.d", self.etc / "batch.d"):
            directory.mkdir(mode=0o755)
        for name in ("psapi", "psapi-fcgi", "psapi-web"):
            (self.bin / name).symlink_to(BINARY.parent / name)
        for name in ("your-program", "your-fetcher"):
            (self.bin / name).symlink_to("/bin/true")
        (place.dir / "secret.txt").write_text(SECRET + "\n")
        self.own = {"PSAPI_SPOOL": place.spool.path, "PSAPI_SECRET_FILE": place.secret_file,
                    "PSAPI_HANDLERS": self.etc / "handlers.d", "PSAPI_BATCH_HANDLERS": self.etc / "batch.d"}
        self.url = None
        self.write("/etc/psapi/psapi.conf", ["PSAPI_LISTEN=unix:/run/psapi/psapi.sock"])

    def translate(self, text):
        group = grp.getgrnam(WEB_USER).gr_name if WEB_USER else grp.getgrgid(os.getegid()).gr_name
        for real, own in (("/etc/psapi/secret", self.place.secret_file), ("/etc/psapi", self.etc),
                          ("/run/psapi", self.run), ("/usr/local/bin", self.bin),
                          ("/var/spool/psapi", self.place.spool.path), ("~psapi", self.home),
                          ("https://YOUR.HOST/webhooks/psapi", self.url),
                          ("-o root -g psapi ", ""), ("-o psapi -g psapi ", ""),
                          ("sudo -u psapi ", ""), ("sudo ", ""), ("www-data", group)):
            text = text.replace(real, str(own))
        return text

    def environment(self):
        return {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8",
                "PSAPI_CONF": str(self.etc / "psapi.conf")} | {
                    k: v for k, v in os.environ.items() if "SAN_OPTIONS" in k}

    def write(self, path, lines, mode="644"):
        """A file of the page; a configuration gets the test's own paths as well."""
        text = self.translate("\n".join(lines) + "\n")
        if path == "/etc/psapi/psapi.conf":
            text += "".join(f"{k}={v}\n" for k, v in self.own.items() if k not in text)
        file = self.place.dir / self.translate(path)
        file.write_text(text)
        file.chmod(int(mode, 8))

    def shell(self, command):
        return subprocess.run(["/bin/sh", "-c", command], cwd=self.place.dir, env=self.environment(),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120 * SLOWER)

    def session(self, lines, status="0"):
        session = commands(lines)
        assert session
        for number, (command, promised) in enumerate(session):
            done = self.shell(self.translate(command))
            expected = int(status) if number == len(session) - 1 else 0
            assert done.returncode == expected, (command, done.returncode, done.stdout)
            assert matches([self.translate(line) for line in promised], done.stdout), \
                (command, promised, done.stdout)

    def daemon(self, lines, socket):
        [(command, promised)] = commands(lines)
        assert promised == []
        child = subprocess.Popen(["/bin/sh", "-c", "exec " + self.translate(command)],
                                 cwd=self.place.dir, env=self.environment(),
                                 stdin=subprocess.DEVNULL)
        self.stack.callback(stop, child)
        wait_for(lambda: child.poll() is not None or
                 (connects(self.translate(socket)) and heeds_signals(child.pid)), command)
        assert child.poll() is None, command

    # ---- what happens before an example ----

    def vhost(self):
        """The receiver behind nginx as shipped; started with the first request."""
        if self.url is None:
            self.nginx = self.stack.enter_context(Nginx(self.place))
            self.url = f"http://localhost:{self.nginx.client.address[1]}/webhooks/psapi"
            self.write("/etc/psapi/psapi.conf",
                       [f"PSAPI_LISTEN=unix:{self.place.receivers[0].path}"])
        return self.nginx

    def deliver(self, *requests):
        for request in requests:
            assert_accepted(self.vhost().send(request))

    def a_held_request(self):
        self.place.write_secret("")
        assert self.vhost().send(signed(ACTIVATED)).word == "held"

    def a_failure(self):
        (self.etc / "handlers.d" / "default").write_text("#!/bin/sh\nexit 2\n")
        (self.etc / "handlers.d" / "default").chmod(0o755)
        self.deliver(signed(ACTIVATED, ID + "X"))
        assert self.shell("psapi drain").returncode == 1

    def a_forgery(self):
        """Refused, and logged: those that follow something closely are not."""
        def refused():
            self.vhost().send(signed().with_header("webhook-signature", "v1," + 43 * "A" + "="))
            return any(attempt.get("reason") == "signature_mismatch"
                       for attempt in self.place.spool.attempts())
        wait_for(refused, "a forgery is in the log")

    def three_events(self):
        self.deliver(signed(ACTIVATED, ID + "X"), signed(updates(1, "2025-07-24"), ID + "Y"),
                     signed(updates(2, "2025-07-25"), ID + "Z"))

    def three_kinds(self):
        self.deliver(signed(ACTIVATED, ID + "X"), signed(updates(1), ID + "Y"),
                     signed(event("id.producer.created", x=1), ID + "Z"))


def stop(child):
    child.terminate()
    assert child.wait(timeout=10 * SLOWER) == 0


@pytest.mark.parametrize("page", PAGES)
def test_examples(place, page):
    with ExitStack() as stack:
        sandbox = Sandbox(place, stack)
        for (what, *words), lines in displays(page):
            if "after" in words:
                getattr(sandbox, words[-1])()
                words = words[:-2]
            if what == "shell":
                sandbox.session(lines, *words)
            elif what == "file":
                sandbox.write(words[0], lines, *words[1:])
            elif what == "daemon":
                sandbox.daemon(lines, *words)
        known = items(page_of("psapi-spool.5"), "Li") if page == "psapi-spool.5" else None
        for attempt in place.spool.attempts() if known else []:
            assert set(attempt) <= known, attempt


# ---- the pages against the programs ----

def page_of(name):
    return (MAN / name).read_text()


def section(page, heading):
    """The text of one section or subsection."""
    [text] = re.findall(rf"^\.S[hs] {heading}\b.*\n((?:(?!\.S[hs] ).*\n)*)", page, re.M)
    return text


def items(text, macro):
    """The words of that macro that lists are headed by."""
    found = set()
    for line in re.findall(rf"^\.It {macro} (.*)$", text, re.M):
        found |= set(re.findall(r"\b[\w.]+\b", re.sub(r" (Ns|Ta) .*", "", line)))
    return found


def options_of_page(text):
    """Letters and names: {"-f", "--file"}."""
    found = set()
    for line in re.findall(r"^\.It Fl (.*)$", text, re.M):
        for part in re.split(r" , Fl ", line):
            found.add("-" + part.split()[0])
    return found


def options_of_help(text):
    """What begins a line of the help, or follows a comma there."""
    found = set()
    for line in re.findall(r"^ +(--?[a-z].*)$", text, re.M | re.I):
        found |= set(re.findall(r"(?:^|, )(--?[a-zA-Z][\w-]*)", line.split("   ")[0]))
    return found


def options_of_code(name):
    """What the option table and the letters of commands/NAME.c take."""
    text = (ROOT / "commands" / f"{name}.c").read_text()
    found = {"--" + long for long in re.findall(r'\{"([a-z-]+)", (?:no|required)_argument', text)}
    if "SELECT_OPTIONS" in text:
        found |= {"--type", "--npn", "--since"}
    for letters in re.findall(r'command_option\([^"]*"\+?([a-z:]*)"', text):
        found |= {"-" + letter for letter in letters if letter != ":"}
    return found


SUBCOMMANDS = re.findall(r"^  ([a-z]+) +\S", subprocess.run(
    [BINARY.parent / "psapi", "help"], capture_output=True, text=True, check=True).stdout, re.M)


@pytest.mark.parametrize("page", PAGES)
def test_lint(page):
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", MAN / page], text=True,
                          capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    text = page_of(page)
    for heading in ("NAME", "DESCRIPTION", "FILES", "EXAMPLES", "SEE ALSO"):
        assert f"\n.Sh {heading}\n" in text, heading
    for name, number in re.findall(r"^\.Xr (psapi\S*) (\d)", text, re.M):
        assert f"{name}.{number}" in PAGES, name


def test_settings(place):
    """Every setting of the program is in psapi.conf(5), with its default and limits; and no other."""
    program = dict(re.findall(r"^  (PSAPI_\w+) .*\(default (.*)\)$", place.run("-h").stdout, re.M))
    page = page_of("psapi.conf.5")
    assert items(page, "Cm") == set(program)
    for key, default in program.items():
        [text] = re.findall(rf"^\.It Cm {key} .*\n((?:(?!\.It |\.El).*\n)*)", page, re.M)
        text = " ".join(text.split()).replace(" .Pa ", " ")
        assert re.search(rf"The default is {re.escape(default)} ?[.:]", text), (key, default)
        limits = re.search(r"must be a whole number (from \d+ to \d+)",
                           place.run("-t", "-o", f"{key}=x").stderr)
        assert not limits or limits[1] in text, (key, limits)


def test_options_of_the_receiver(place):
    page = section(page_of("psapi-fcgi.8"), "DESCRIPTION")
    assert options_of_page(page) == options_of_help(place.run("-h").stdout)


def test_replies():
    table = re.findall(r"^\.It (\d+) Ta Li (\w+) Ta", page_of("psapi-fcgi.8"), re.M)
    words = {word: 200 for word in ("accepted", "duplicate", "held", "ignored")}
    assert {word: int(status) for status, word in table} == REASONS | words


def help_of(place, *arguments):
    return subprocess.run([BINARY.parent / "psapi", "help", *arguments], env=place.environment(),
                          capture_output=True, text=True, check=True).stdout


def test_subcommands(place):
    page = page_of("psapi.1")
    described = re.findall(r"^\.Ss ([a-z]+)\b", page, re.M)
    assert described == SUBCOMMANDS, "all of them, in the order of the help"
    common = options_of_page(section(page, "DESCRIPTION"))
    assert common == options_of_help(help_of(place, "options"))


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_options_of_a_subcommand(place, name):
    """Page, help and code know the same ones."""
    page = options_of_page(section(page_of("psapi.1"), name)) - {"--"}
    shown = options_of_help(help_of(place, name))
    assert page == shown
    assert page == (options_of_code(name) if name != "help" else set())


def test_spool_keys():
    page = page_of("psapi-spool.5")
    assert set(EVIDENCE_KEYS) | {"event", "body_base64", "webhook_id_base64"} <= items(page, "Li")
    state = set(re.findall(r'(?:set_time|set_text|json_object_set_new)\(object, "(\w+)"',
                           (ROOT / "store/handler_state.c").read_text()))
    for key in state:
        assert re.search(rf"\b{key}\b", section(page, "States")), key


def test_environment():
    """Every variable that the code reads by name is in a page."""
    named = set()
    for page in ("psapi.1", "psapi-handlers.7", "psapi-fcgi.8"):
        named |= items(section(page_of(page), "ENVIRONMENT"), "Ev")
    ours = [source for source in ROOT.glob("**/*.c")
            if source.relative_to(ROOT).parts[0] not in ("tests", "bench", "build")]
    read = {name for source in ours for name in re.findall(r'getenv\("(\w+)"', source.read_text())}
    assert {"PSAPI_CONF", "PATH", "NO_COLOR"} <= read
    assert read - {"CONTENT_LENGTH"} <= named, "(that one is part of a CGI request)"


def test_environment_of_handlers():
    page = section(page_of("psapi-handlers.7"), "ENVIRONMENT")
    code = (ROOT / "drain/handler_run.c").read_text()
    assert items(page, "Ev") == set(re.findall(r'"(PSAPI_\w+)=%', code))
    inherited = re.search(r"inherited\[\] = \{(.*?)\}", code)[1]
    for name in re.findall(r'"(\w+)="', inherited):
        assert re.search(rf"^\.Ev .*\b{name}\b", page, re.M), name
