"""One judgement of handlers: `psapi drain` and `psapi doctor` refuse the same handlers in the same words, and each cause
has its own remedy. Where the remedy is a command, the test runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import strace
from psapi_command import NOTE, PSAPI, Desk, body, updates
from receiver import wait_for
from sender import signed

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")
SCRIPT = "#!/bin/sh\n" + NOTE


@pytest.fixture
def desk(place):
    desk = Desk(place)
    yield desk
    desk.close()


def write(path, content, mode=0o755):
    path.parent.mkdir(mode=0o755, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def refusal(done):
    """What drain says of one handler: text and remedy."""
    found = re.fullmatch(r"psapi: refused: (.*); its events wait until that is fixed\n", done.stderr)
    assert found, done.stderr
    return found[1]


def doctor(desk, name="handlers", **more):
    """A row of doctor."""
    done = desk.run("doctor", "--json", expect=None, **more)
    return {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}.get(name)


def assert_refused(desk, *words, **more):
    """By drain and by doctor, in the same words. The event waits, and no try is counted. Returns the remedy."""
    (webhook_id,) = desk.deliver(signed(body(len(desk.place.receivers))))
    said = refusal(desk.drain(expect=78, **more))
    assert desk.where(webhook_id) == ["new", "events"] and desk.lines() == []
    row = doctor(desk, **more)
    assert row["ok"] is False and f"{row['text']}: {row['remedy']}" == said, (row, said)
    for word in words:
        assert word in said, (word, said)
    return row["remedy"]


def assert_runs(desk):
    desk.drain_silently()
    assert len(desk.lines()) == 1, desk.lines()
    row = doctor(desk)
    assert row["ok"] is True and "would run" in row["text"], row


# ---- the first line ----

WITHOUT_CR, WITHOUT_BOM = r"sed -i 's/\r$//'", r"sed -i '1s/^\xef\xbb\xbf//'"
FIRST_LINES = {     # content, words, the remedy if it is a command
    "Windows line ends": (SCRIPT.replace("\n", "\r\n"), ["Windows line ends", r"/bin/sh\x0d"], WITHOUT_CR),
    "Windows, env": ("#!/usr/bin/env sh\r\n" + NOTE, ["Windows line ends", r"sh\x0d"], WITHOUT_CR),
    "Macintosh line ends": (SCRIPT.replace("\n", "\r"), ["Windows line ends"], None),
    "BOM": (b"\xef\xbb\xbf" + SCRIPT.encode(), ["byte order mark"], WITHOUT_BOM),
    "UTF-16": (SCRIPT.encode("utf-16"), ["UTF-16"], None),
    "a blank before": (" " + SCRIPT, ["before its #!"], None),
    "an empty line before": ("\n" + SCRIPT, ["before its #!"], None),
    "empty": ("", ["is empty"], None),
    "no first line": ("echo hello\n", ["has no first line with #!"], None),
    "too long": ("#!/" + "x" * 300 + "\n", ["more than 255 bytes"], None),
    "no interpreter": ("#!  \n", ["names no interpreter"], None),
    "no path": ("#!sh\n" + NOTE, ["without a path: sh"], None),
    "missing": ("#!/no/such/sh -e\n" + NOTE, ["its interpreter is missing: /no/such/sh", "correct the first line"],
                None),
    "missing, no line end": ("#!/no/such/sh", ["its interpreter is missing: /no/such/sh"], None),
    "a directory": ("#!/usr/bin\n" + NOTE, ["its interpreter is not a program: /usr/bin"], None),
    "not executable": ("#!/etc/passwd\n" + NOTE, ["its interpreter is not executable: /etc/passwd"], None),
    "two options": ("#!/bin/sh -e -u\n" + NOTE, ["as one option, which the interpreter does not know: -e -u", "-eu"], None),
    "two options of Python": ("#!/usr/bin/python3 -E -s\n", ["which the interpreter does not know: -E -s"], None),
    "two options of Python, -W": ("#!/usr/bin/python3 -u -W ignore\n", ["does not know: -u -W ignore"], None),
    "env alone": ("#!/usr/bin/env\n" + NOTE, ["names no program after env"], None),
    "env, two words": ("#!/usr/bin/env sh -u\n" + NOTE, ["one name or option: sh -u", "env -S"], None),
    "env, an option of its own": ("#!/usr/bin/env -i sh\n" + NOTE, ["one name or option: -i sh", "env -S"], None),
    "env, a long option": ("#!/usr/bin/env --split-string sh\n" + NOTE, ["option: --split-string sh", "env -S"], None),
    "env, which would run it for ever": ("#!/usr/bin/env -u X sh\n" + NOTE, ["option: -u X sh", "env -S"], None),
    "env, an option alone": ("#!/usr/bin/env -v\n" + NOTE, ["names no program after env"], None),
    "env -S alone": ("#!/usr/bin/env -S\n" + NOTE, ["names no program after env"], None),
    **{f"env {words}, which would run it for ever": (f"#!/usr/bin/env {words}\n" + NOTE, ["names no program after env"], None)
       for words in ("A=b", "-S A=b", "-S PATH=/bin", "-S -i", "-S -uX A=b", "-S --", "--split-string=A=b")},
    "env -S, an option that makes it end": ("#!/usr/bin/env -S -u\n" + NOTE, ["names no program after env"], None),
    "env, a relative path": ("#!/usr/bin/env ./sh\n", ["env would look in the directory", "started: ./sh"], None),
    "env, missing": ("#!/usr/bin/env no-such\n", ["no such program in PATH: no-such", "crontab"], None),
    "env -vS, missing": ("#!/usr/bin/env -vS no-such -u\n", ["no such program in PATH: no-such"], None),
    "env --split, missing": ("#!/usr/bin/env --split=no-such -u\n", ["no such program in PATH: no-such"], None),
    "env -S, missing": ("#!/usr/bin/env -S A=b no-such -u\n", ["no such program in PATH: no-such"], None),
}


@pytest.mark.parametrize("what", FIRST_LINES)
def test_first_line(desk, what):
    content, words, command = FIRST_LINES[what]
    handler = write(desk.handlers / "default", content)
    remedy = assert_refused(desk, f"{handler}: ", *words)
    if command is None:
        write(handler, SCRIPT)
    else:
        assert command in remedy
        subprocess.run(f"{command} {handler}", shell=True, check=True)
    assert_runs(desk)


@pytest.mark.parametrize("line", ["#! /bin/sh", "#!/bin/sh -e", "#!/bin/sh -eu\t", "#!\t/bin/sh\t", "#!/usr/bin/env sh",
                                  "#!/usr/bin/env -S sh -e", "#!/usr/bin/env -S A=b sh",
                                  "#!/usr/bin/env -Ssh", "#!/usr/bin/env -vS sh -e", "#!/usr/bin/env --split-string=sh -e",
                                  "#!/usr/bin/env -S-u X sh -e", "#!/usr/bin/env -S -C / sh", "#!/usr/bin/env -S -Ssh",
                                  "#!/usr/bin/env -S --split=sh"])
def test_good_first_line(desk, line):
    write(desk.handlers / "default", f"{line}\n{NOTE}")
    desk.deliver(signed(body(1)))
    assert_runs(desk)


@pytest.mark.parametrize("line", ["#!/usr/bin/perl", "#!/usr/bin/env perl", "#!/usr/bin/perl -w -W"])
def test_perl(desk, line):
    """It takes any name that begins with /dev/fd/ for the descriptor itself. And it reads the first line, of which the
    kernel makes one option."""
    write(desk.handlers / "default", f'{line}\nopen my $out, ">>", "$ENV{{PSAPI_TOLD}}/seen" or die;\n'
          'print $out "$ENV{PSAPI_WEBHOOK_ID}\\n";\n')
    desk.deliver(signed(body(1)))
    assert_runs(desk)


@pytest.mark.parametrize("options", ["-W ignore", "-X utf8", "-X faulthandler", "-uW ignore", "-Es"])
def test_python(desk, options):
    """An option and its value are one argument for the kernel, and Python takes it so."""
    write(desk.handlers / "default", f'#!/usr/bin/python3 {options}\nimport os\n'
          'print(os.environ["PSAPI_WEBHOOK_ID"], file=open(os.environ["PSAPI_TOLD"] + "/seen", "a"))\n')
    desk.deliver(signed(body(1)))
    assert_runs(desk)


def test_compiled(desk):
    """A program; and one whose dynamic loader is missing, as of another C library."""
    with open("/usr/bin/basename", "rb") as file:
        program = file.read()
    handler = write(desk.handlers / "default", program)
    assert doctor(desk)["ok"] is True
    loader, other = b"/lib64/ld-linux-x86-64.so.2\0", b"/lib64/ld-musl-x86-64.so.1\0\0"
    if loader not in program:
        pytest.skip("another machine")
    write(handler, program.replace(loader, other))
    assert_refused(desk, "its dynamic loader is missing: /lib64/ld-musl-x86-64.so.1", "build it for this one")


def with_machine(number):
    with open("/usr/bin/basename", "rb") as file:
        program = bytearray(file.read())
    program[18:20] = number.to_bytes(2, sys.byteorder)
    return bytes(program)


def test_for_another_machine(desk):
    if set(os.listdir("/proc/sys/fs/binfmt_misc")) - {"register", "status"}:
        pytest.skip("an emulator may run it")
    write(desk.handlers / "default", with_machine(0x9026))      # Alpha
    assert assert_refused(desk, "default: is compiled for another kind of machine") == "build it for this one: uname -m"


def test_for_a_related_machine(desk):
    """Whether the kernel runs programs of 32 bits only it knows."""
    if os.uname().machine != "x86_64":
        pytest.skip("another machine")
    handler = write(desk.handlers / "default", with_machine(3))     # 386
    assert doctor(desk)["ok"] is True
    # One that no kernel runs, and that is not looked at: for 32 bits, without any part.
    write(handler, b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\0\x03\0" + bytes(32))
    (webhook_id,) = desk.deliver(signed(body(1)))
    said = refusal(desk.drain(expect=78))
    assert "cannot be started: Exec format error: it is compiled for another kind of machine" in said
    assert desk.where(webhook_id) == ["new", "events"]


@pytest.mark.parametrize("length", [4, 63, 100, -1])
def test_cut_off(desk, length):
    """An upload that was interrupted: its head, the table of its parts, a part is not whole."""
    path = Path("/usr/bin/basename")
    if length < 0:      # what is behind the last part is not needed
        found = re.findall(r"LOAD +(0x\w+) 0x\w+ 0x\w+\s+(0x\w+)",
                           subprocess.run(["readelf", "-l", path], capture_output=True, text=True, check=True).stdout)
        length += max(int(offset, 16) + int(size, 16) for offset, size in found)
        handler = write(desk.handlers / "default", path.read_bytes()[:length + 1])
        assert doctor(desk)["ok"] is True
        handler.unlink()
    write(desk.handlers / "default", path.read_bytes()[:length])
    assert assert_refused(desk, "default: is only a part of a compiled program") == "copy it, or build it, again"


def test_being_written(desk):
    with open("/usr/bin/basename", "rb") as file:
        handler = write(desk.handlers / "default", file.read())
    desk.deliver(signed(body(1)))
    with open(handler, "ab"):
        said = refusal(desk.drain(expect=78))
    assert "Text file busy: it is being written: put a new version into its place with mv" in said
    assert desk.drain().stderr == ""


def test_path_of_env(desk):
    """It is drain's PATH that counts. Doctor remarks a program that neither cron nor systemd would find."""
    tool = write(desk.place.dir / "tools" / "my-sh", '#!/bin/sh\nexec sh "$@"\n')
    write(desk.handlers / "default", "#!/usr/bin/env my-sh\n" + NOTE)
    path = {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
    assert_refused(desk, "no such program in PATH: my-sh")
    row = doctor(desk, env=path)
    assert row["remark"] and f"env finds {tool}" in row["text"] and "cron" in row["remedy"], row
    desk.drain(env=path)
    assert len(desk.lines()) == 1


def test_without_path(desk):
    """Then env and drain look in /bin and /usr/bin. An empty PATH is another case: test_relative_path_of_env."""
    write(desk.handlers / "default", "#!/usr/bin/env sh\n" + NOTE)
    desk.deliver(signed(body(1)))
    assert desk.run("drain", under=["env", "-u", "PATH"]).stderr == "" and len(desk.lines()) == 1


def test_env_clears_path(desk):
    """With -i env looks in /bin and /usr/bin, whatever PATH drain has."""
    write(desk.place.dir / "tools" / "my-sh", '#!/bin/sh\nexec sh "$@"\n')
    path = {"PATH": f"{desk.place.dir}/tools:/usr/bin:/bin"}
    write(desk.handlers / "default", f"#!/usr/bin/env -iS my-sh\n{NOTE}")
    assert_refused(desk, "no such program in PATH: my-sh", env=path)
    told = NOTE.replace("$PSAPI_TOLD", str(desk.told)).replace("$PSAPI_WEBHOOK_ID", "1")
    write(desk.handlers / "default", f"#!/usr/bin/env -viS sh -e\n{told}")
    desk.drain(env={"PATH": "/nowhere"})
    assert len(desk.lines()) == 1


def test_env_sets_path(desk):
    """Env looks in the PATH that its own first line sets, not in drain's."""
    tool = write(desk.place.dir / "tools" / "my-sh", '#!/bin/sh\nexec sh "$@"\n')
    write(desk.handlers / "default", f"#!/usr/bin/env -S A=b PATH={tool.parent}:/usr/bin:/bin my-sh\n{NOTE}")
    desk.deliver(signed(body(1)))
    assert doctor(desk)["ok"] is True
    assert_runs(desk)


@pytest.mark.parametrize("line", ["#!/usr/bin/env my-sh", "#!/usr/bin/env -S A=b my-sh -e", "#!/usr/bin/env FILE"])
@pytest.mark.parametrize("how", ["directory", "file"])
def test_env_finds_what_others_can_change(desk, line, how):
    """As with an interpreter: it would run as the drain's user."""
    tool = write(desk.place.dir / "tools" / "my-sh", '#!/bin/sh\nexec sh "$@"\n')
    write(desk.handlers / "default", f"{line.replace('FILE', str(tool))}\n{NOTE}")
    (tool if how == "file" else tool.parent).chmod(0o777)
    path = {"PATH": f"{tool.parent}:/usr/bin:/bin"}
    remedy = assert_refused(desk, f"{desk.handlers}/default: the program that env finds: {tool.parent}",
                            "mode 0777 lets other users change", env=path)
    assert "chmod go-w" in remedy or "take it out of PATH" in remedy
    (tool if how == "file" else tool.parent).chmod(0o755)
    desk.drain(env=path)
    assert len(desk.lines()) == 1


@as_root
def test_env_finds_what_another_owns(desk):
    tool = write(desk.place.dir / "tools" / "my-sh", '#!/bin/sh\nexec sh "$@"\n')
    write(desk.handlers / "default", "#!/usr/bin/env my-sh\n" + NOTE)
    shutil.chown(tool, "nobody")
    path = {"PATH": f"{tool.parent}:/usr/bin:/bin"}
    assert_refused(desk, f"the program that env finds: {tool}: owned by user nobody", env=path)
    shutil.chown(tool, "root")
    shutil.chown(tool.parent, "nobody")
    assert_refused(desk, f"the program that env finds: {tool.parent}: owned by user nobody", "out of PATH", env=path)


def test_env_looks_where_others_can_write(desk):
    """Before the directory in which it finds the program: another user could put one there at any moment."""
    write(desk.handlers / "default", "#!/usr/bin/env sh\n" + NOTE)
    bare = desk.place.dir / "open"
    bare.mkdir()
    bare.chmod(0o777)
    remedy = assert_refused(desk, f"the program that env finds: {bare}: mode 0777", env={"PATH": f"{bare}:/usr/bin:/bin"})
    assert "take it out of PATH" in remedy
    bare.chmod(0o1777)
    assert_refused(desk, f"the program that env finds: {bare}/x: is missing, and other users can make it",
                   env={"PATH": f"{bare}/x:/usr/bin:/bin"})
    desk.drain(env={"PATH": f"/nowhere:/usr/bin:/bin:{bare}"})
    assert len(desk.lines()) == 2


@as_root
def test_env_passes_what_a_group_can_write(desk):
    """Debian before 10 made /usr/local and /usr/local/bin with the mode 2775 and the group staff. Where the program is
    found, a group must not write."""
    write(desk.handlers / "default", "#!/usr/bin/env sh\n" + NOTE)
    local = desk.place.dir / "local"
    for path in (local, local / "bin"):
        path.mkdir()
        shutil.chown(path, group="staff")
        path.chmod(0o2775)
    path = {"PATH": f"{local}/sbin:{local}/bin:/usr/bin:/bin"}
    desk.deliver(signed(body(1)))
    desk.drain(env=path)
    assert len(desk.lines()) == 1 and doctor(desk, env=path)["ok"] is True
    found = write(local / "bin" / "sh", '#!/bin/sh\nexec /bin/sh "$@"\n')
    write(desk.handlers / "default", "#!/usr/bin/env sh\n" + NOTE)
    row = doctor(desk, env=path)
    assert row["ok"] is False and "program that env finds: " in row["text"] and "mode 2775" in row["text"], row
    local.chmod(0o755)
    assert f"{found.parent}: mode 2775" in doctor(desk, env=path)["text"]
    found.unlink()
    for mode, text in ((0o777, f"{local}: mode 0777"), (0o1777, f"{local}/sbin: is missing, and other users can make it")):
        local.chmod(mode)
        assert text in doctor(desk, env=path)["text"]
    local.chmod(0o2775)
    shutil.chown(local, "nobody")
    assert f"{local}: owned by user nobody" in doctor(desk, env=path)["text"]


@pytest.mark.parametrize("path", ["", "tools:/usr/bin", ":/usr/bin", ".:/usr/bin", "/nowhere::/usr/bin", "../x:/usr/bin"])
def test_relative_path_of_env(desk, path):
    """What env finds there depends on the directory in which drain is started."""
    write(desk.handlers / "default", "#!/usr/bin/env sh\n" + NOTE)
    remedy = assert_refused(desk, "env would look in the directory in which psapi drain is started: ", env={"PATH": path})
    assert "write whole paths into PATH" in remedy
    desk.drain(env={"PATH": f"/usr/bin:/bin:{path}"})
    assert len(desk.lines()) == 1


# ---- files and directories ----

def test_not_executable(desk):
    handler = write(desk.handlers / "default", SCRIPT, mode=0o644)
    remedy = assert_refused(desk, "is not executable")
    subprocess.run([*remedy.split(), handler], check=True)
    assert_runs(desk)


def test_link_without_target(desk):
    (desk.handlers / "default").symlink_to("/nowhere/at/all")
    assert_refused(desk, "No such file or directory", "a link whose target is missing")


def test_link_in_a_circle(desk):
    (desk.handlers / "default").symlink_to("default")
    assert_refused(desk, f"{desk.handlers}/default: is a link that leads in a circle", "ls -l shows")
    (desk.handlers / "default").unlink()
    circle = desk.place.dir / "sh"
    circle.symlink_to("sh")
    write(desk.handlers / "default", f"#!{circle}\n")
    assert_refused(desk, f"its interpreter is a link that leads in a circle: {circle}")


# The settings of both directories: what is wrong with one is mended by its own.
@pytest.mark.parametrize("setting", ["PSAPI_HANDLERS", "PSAPI_BATCH_HANDLERS"])
@pytest.mark.parametrize("how, words, remedy", [
    ("missing", "No such file or directory", "make it, and put handlers into it ({})"),
    ("a file", "is not a directory", "{} must name a directory"),
    ("a circle", "is a link that leads in a circle", "ls -l shows where it leads: correct or remove it"),
    ("another's", "owned by user nobody", "keep handlers where root and this user alone can write: {}")])
def test_setting_of_a_directory(desk, setting, how, words, remedy):
    write(desk.handlers / "default", SCRIPT)
    path = desk.place.dir / "elsewhere" / "dir"
    path.parent.mkdir()
    desk.place.settings[setting] = path
    if how == "a file":
        path.write_text("")
    elif how == "a circle":
        path.symlink_to("dir")
    elif how == "another's":
        if os.geteuid() != 0:
            pytest.skip("only root can give files away")
        path.mkdir()
        write(path / "producersync", SCRIPT)
        shutil.chown(path.parent, "nobody")
    assert assert_refused(desk, words) == remedy.format(setting)


def test_link(desk):
    """Its own name stays: one program may serve several types."""
    target = write(desk.place.dir / "programs" / "one", SCRIPT + 'echo "${0##*/}" >>"$PSAPI_TOLD/name"\n')
    (desk.handlers / "producersync.npn").symlink_to("../programs/one")
    desk.deliver(signed(body(1)))
    desk.drain_silently()
    assert desk.lines("name") == ["producersync.npn"]
    (desk.told / "seen").unlink()
    target.parent.chmod(0o777)
    (webhook_id,) = desk.deliver(signed(body(2)))
    said = refusal(desk.drain(expect=78))
    assert said == f"{target.parent}: mode 0777 lets other users change what is below it: chmod go-w"
    row = doctor(desk)
    assert f"{row['text']}: {row['remedy']}" == said
    assert desk.where(webhook_id) == ["new", "events"]


@pytest.fixture
def inner(desk):
    """The directory of handlers is one level deeper, and has a good handler."""
    above = desk.place.dir / "above"
    above.mkdir(mode=0o755)
    desk.handlers.rename(above / "handlers.d")
    desk.place.settings["PSAPI_HANDLERS"] = desk.handlers = above / "handlers.d"
    write(desk.handlers / "default", SCRIPT)
    return desk.handlers


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777, 0o1775])
def test_directory_above(desk, inner, mode):
    """Another user could rename the directory of handlers. Not in one like /tmp, which is sticky."""
    inner.parent.chmod(mode)
    if mode & 0o1000:
        desk.deliver(signed(body(1)))
    else:
        remedy = assert_refused(desk, f"{inner.parent}: mode {mode:04o} lets other users change what is below it")
        subprocess.run([*remedy.split(), inner.parent], check=True)
    assert_runs(desk)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_directory(desk, inner, mode):
    """Here also one like /tmp: another user could make files in it, hard links to any program for example."""
    inner.chmod(mode)
    remedy = assert_refused(desk, f"{inner}: mode {mode:04o} lets other users change it")
    subprocess.run([*remedy.split(), inner], check=True)
    assert_runs(desk)


@as_root
@pytest.mark.parametrize("what", ["above", "handlers.d", "default", "link"])
def test_in_the_hands_of_another(desk, inner, what):
    """The owner of a directory can change it, whatever its mode is now; the owner of a link in /tmp the link."""
    above = inner.parent
    if what == "link":
        above.chmod(0o1777)
        (above / "link").symlink_to(inner)
        desk.place.settings["PSAPI_HANDLERS"] = above / "link"
    given = {"above": above, "handlers.d": inner, "default": inner / "default", "link": above / "link"}[what]
    shutil.chown(given, "nobody") if what != "link" else os.chown(given, 65534, 65534, follow_symlinks=False)
    remedy = assert_refused(desk, f"{given}: owned by user nobody, neither root nor the running user root")
    assert ("PSAPI_HANDLERS" if what in ("above", "link") else "chown root") in remedy


@pytest.mark.parametrize("how", ["directory", "file"])
def test_interpreter_in_the_hands_of_others(desk, how):
    with open("/bin/dash", "rb") as file:
        shell = write(desk.place.dir / "venv" / "sh", file.read())
    write(desk.handlers / "default", f"#!{shell}\n{NOTE}")
    (shell if how == "file" else shell.parent).chmod(0o777)
    assert_refused(desk, f"{desk.handlers}/default: its interpreter: {shell.parent}", "lets other users change")


@pytest.mark.parametrize("line, what", [("#!{}", "its interpreter"), ("#!/usr/bin/env {}", "the program that env finds")])
@pytest.mark.parametrize("inner, words", [
    ("#!{other}", "its interpreter: {other}: mode 0777 lets other users change it"),
    ("#!/usr/bin/env other", "the program that env finds: {other}: mode 0777 lets other users change it"),
    ("#!/no/such/sh", "its interpreter is missing: /no/such/sh"), ("#!/bin/sh -e\r", "has Windows line ends")])
def test_interpreter_that_is_a_script(desk, line, what, inner, words):
    """Its own interpreter runs with the same rights, and may be missing."""
    other = write(desk.place.dir / "tools" / "other", '#!/bin/sh\nexec sh "$@"\n', mode=0o777)
    script = write(desk.place.dir / "tools" / "script", f'{inner.format(other=other)}\nexec sh "$@"\n')
    handler = write(desk.handlers / "default", f"{line.format(script)}\n{NOTE}")
    path = {"PATH": f"{other.parent}:/usr/bin:/bin"}
    assert_refused(desk, f"{handler}: {what} {script}: {words.format(other=other)}", env=path)
    write(script, '#!/bin/sh\nexec sh "$@"\n')
    desk.drain(env=path)
    assert len(desk.lines()) == 1


def test_scripts_that_are_interpreters(desk):
    """The kernel follows five, and counts anew after env, which ends none by itself: five of both kinds are enough."""
    tools = [desk.place.dir / "tools" / f"{n}" for n in range(4)]
    for tool, interpreter in zip(tools, ["/bin/sh", *tools]):
        write(tool, f'#!{interpreter}\nshift 3\nexec sh "$@"\n')   # the other tools, and the handler
    write(desk.handlers / "default", f"#!{tools[3]}\n{NOTE}")
    desk.deliver(signed(body(1)))
    assert_runs(desk)
    (desk.told / "seen").unlink()
    fifth = write(desk.place.dir / "tools" / "5", f"#!{tools[3]}\n")
    write(desk.handlers / "default", f"#!{fifth}\n{NOTE}")
    assert_refused(desk, "more than 5 scripts lead to each other, by their first lines or env")
    write(fifth, f"#!/usr/bin/env {fifth}\n")
    assert_refused(desk, "more than 5 scripts lead to each other, by their first lines or env")


MOUNT = 'mount --bind "$1" "$1" && mount -o remount,bind,noexec "$1" && shift && exec "$@"'


@as_root
def test_noexec(desk):
    """Handlers on such a file system, and an interpreter. In a mount namespace of its own."""
    mounted = ["unshare", "-m", "sh", "-c", MOUNT, "sh"]
    if subprocess.run([*mounted, desk.handlers, "true"], capture_output=True).returncode != 0:
        pytest.skip("cannot mount here")
    write(desk.handlers / "default", SCRIPT)
    assert_refused(desk, "is on a file system that is mounted noexec", "remount,exec", "PSAPI_HANDLERS",
                   under=[*mounted, desk.handlers])
    with open("/bin/dash", "rb") as file:
        shell = write(desk.place.dir / "shells" / "sh", file.read())
    write(desk.handlers / "default", f"#!{shell}\n{NOTE}")
    said = refusal(desk.drain(expect=78, under=[*mounted, shell.parent]))
    assert f"its interpreter is on a file system that is mounted noexec: {shell}" in said
    assert_runs(desk)


def give_spool_away(desk):
    """Root becomes the spool's owner in drain and doctor."""
    desk.deliver(signed(body(1)))
    desk.place.dir.chmod(0o755)
    desk.told.chmod(0o777)
    subprocess.run(["chown", "-R", "nobody:nogroup", desk.spool.path], check=True)


def assert_both_say(desk, *words):
    """As drain does: the event waits."""
    said = refusal(desk.drain(expect=78))
    row = doctor(desk)
    assert row["ok"] is False and f"{row['text']}: {row['remedy']}" == said, (row, said)
    assert all(word in said for word in words), said


@as_root
@pytest.mark.parametrize("mode, words, remedy", [
    (0o700, "mode 0700 lets user nobody not execute it", "chmod a+rx"),
    (0o711, "user nobody cannot read it", "chmod a+r")])
def test_not_for_this_user(desk, mode, words, remedy):
    """Root made a handler under umask 077, and psapi drain runs as another user."""
    handler = write(desk.handlers / "default", SCRIPT, mode=mode)
    give_spool_away(desk)
    assert_both_say(desk, words, remedy)
    subprocess.run([*remedy.split(), handler], check=True)
    desk.drain_silently()
    assert len(desk.lines()) == 1


@as_root
def test_interpreter_closed_to_this_user(desk):
    with open("/bin/dash", "rb") as file:
        shell = write(desk.place.dir / "venv" / "sh", file.read())
    write(desk.handlers / "default", f"#!{shell}\n{NOTE}")
    shell.parent.chmod(0o700)
    give_spool_away(desk)
    assert_both_say(desk, f"its interpreter cannot be reached by the running user: {shell}: chmod a+x its directories")
    shell.parent.chmod(0o755)
    desk.drain_silently()
    assert len(desk.lines()) == 1


@as_root
@pytest.mark.parametrize("what", ["directory", "above", "target"])
def test_closed_to_this_user(desk, inner, what):
    give_spool_away(desk)
    if what == "target":
        (desk.place.dir / "handlers.d").mkdir(mode=0o755)
        (desk.place.dir / "handlers.d" / "default").symlink_to(inner / "default")
        desk.place.settings["PSAPI_HANDLERS"] = desk.place.dir / "handlers.d"
    (inner if what == "directory" else inner.parent).chmod(0o700)
    assert_both_say(desk, "user nobody has no access to it: chmod a+x")


@pytest.mark.skipif(strace.why_not() is not None, reason=str(strace.why_not()))
def test_what_was_checked_runs(desk):
    """The directory of handlers is replaced between the check and the start: the handler that was checked runs."""
    write(desk.handlers / "default", SCRIPT)
    evil = write(desk.place.dir / "evil" / "default", '#!/bin/sh\necho evil >>"$PSAPI_TOLD/evil"\n').parent
    desk.deliver(signed(body(1)))
    log = desk.place.dir / "strace.log"
    under = [*strace.UNDER, "-o", log, "-e", "trace=execve", "-e", "inject=execve:delay_enter=5s"]
    child = subprocess.Popen([*under, PSAPI, "drain"], env=desk.environment())
    desk.children.append(child)
    begun = 'execve("/proc/self/fd/'
    wait_for(lambda: child.poll() is not None or (log.exists() and begun in log.read_text()), "the start")
    assert child.poll() is None
    desk.handlers.rename(desk.place.dir / "away")
    evil.rename(desk.handlers)
    assert child.wait(60) == 0
    assert desk.lines("evil") == [] and len(desk.lines()) == 1


def test_beside_the_handler(desk):
    """`$0` names the handler's directory: a library beside it is found, by sh and by Python."""
    write(desk.handlers / "lib" / "note.sh", NOTE)
    write(desk.handlers / "lib" / "note.py", "import os\nwith open(os.environ['PSAPI_TOLD'] + '/seen', 'a') as file:\n"
          "    print(os.environ['PSAPI_WEBHOOK_ID'], file=file)\n")
    write(desk.handlers / "producersync.npn.activated", '#!/bin/sh\n. "$(dirname "$0")/lib/note.sh"\n')
    write(desk.handlers / "producersync.npn.deactivated", "#!/usr/bin/python3\nimport os, sys\n"
          "sys.path.append(os.path.dirname(os.path.abspath(__file__)) + '/lib')\nimport note\n")
    ids = desk.deliver(signed(body(1)), signed(body(2, kind="producersync.npn.deactivated")))
    desk.drain_silently()
    assert sorted(desk.lines()) == sorted(ids)


# ---- names ----

def test_near_misses(desk):
    """They are named with their right names; with nothing else, every event would fail."""
    for name in ("default.sh", "producersync.npn.activated.py"):
        write(desk.handlers / name, SCRIPT)
    row = doctor(desk)
    assert row["ok"] is False and "npn.deactivated or of an unknown type finds no handler" in row["text"], row
    assert row["remedy"].splitlines() == ["default.sh: rename it to default",
                                          "producersync.npn.activated.py: rename it to producersync.npn.activated"]
    assert row["text"].endswith("; no known type selects default.sh, producersync.npn.activated.py")
    unused = doctor(desk, "unused")
    assert unused["remark"] and "default.sh: no event selects it" in unused["text"]
    assert unused["remedy"] == "rename it, as the check of handlers says"   # not twice
    for line in row["remedy"].splitlines():
        old, new = re.fullmatch(r"(\S+): rename it to (\S+)", line).groups()
        (desk.handlers / old).rename(desk.handlers / new)
    row = doctor(desk)
    assert row["ok"] is True and "remark" not in row
    assert (f"an event of type producersync.npn.activated would run {desk.handlers}/producersync.npn.activated"
            in row["text"]), row
    assert f"npn.deactivated or of an unknown type would run {desk.handlers}/default" in row["text"]
    assert doctor(desk, "unused")["ok"] is True


@pytest.mark.parametrize("name, right", [
    ("Default", "default"), ("defualt", "default"), ("default.sh", "default"), ("default.SH.py", "default"),
    ("producersync-npn-activated", "producersync.npn.activated"),
    ("producersync.updates.available", "producersync.updates_available"),
    ("ProducerSync.npn.sh", "producersync.npn"), ("producersync.npn.actived", "producersync.npn.activated"),
    ("npn.activated", "producersync.npn.activated"), ("activated", "producersync.npn.activated"),
    ("NPN.sh", "producersync.npn"), ("updates_available", "producersync.updates_available"),
    ("id.producer.created.py", "id.producer.created"), ("README", None), ("x~", None), ("default.bak", None),
    ("default.dpkg-old", None), ("helper.sh", None), ("notes.md", None)])
def test_name(desk, name, right):
    write(desk.handlers / "producersync", SCRIPT)
    write(desk.handlers / name, SCRIPT)
    row = doctor(desk, "unused")
    assert row["ok"] is True and row["remark"] is True
    if right is None:
        assert row["text"] == f"never used: {name}" and "rename" not in row["remedy"]
    else:
        assert row["text"] == f"{name}: no event selects it" and row["remedy"] == f"{name}: rename it to {right}"


def test_near_miss_beside_its_right_name(desk):
    """default~ is what an editor leaves: renamed, it would replace the handler, or be in conflict with one in batch.d."""
    batch = desk.place.dir / "batch.d"
    desk.place.settings["PSAPI_BATCH_HANDLERS"] = batch
    for path in (desk.handlers / "default", desk.handlers / "default~", desk.handlers / "default.sh",
                 desk.handlers / "id.producer.created", desk.handlers / "id.producer.created.py", batch / "default.py"):
        write(path, SCRIPT)
    row = doctor(desk, "unused")
    assert row["ok"] is True and row["remark"], row
    assert row["text"] == "never used: default.sh, default~, id.producer.created.py, batch.d/default.py"
    assert "rename" not in row["remedy"] and doctor(desk)["ok"] is True


def test_what_no_event_selects(desk):
    """README, lib/, x~ are no fault, whatever is in them."""
    write(desk.handlers / "default", SCRIPT)
    write(desk.handlers / "README", "read me\n", mode=0o666)
    write(desk.handlers / "x~", "#!/no/such\r\n")
    (desk.handlers / "lib").mkdir(mode=0o777)
    (desk.handlers / ".hidden").write_text("")
    assert doctor(desk)["ok"] is True
    row = doctor(desk, "unused")
    assert row["ok"] is True and row["remark"] and row["text"] == "never used: README, lib/, x~"


def test_names_are_escaped(desk):
    write(desk.handlers / "default", SCRIPT)
    write(desk.handlers / "a\033[2Jb.sh", SCRIPT)
    assert r"a\x1b[2Jb.sh" in doctor(desk, "unused")["text"]
    assert "\033[2J" not in desk.run("doctor", expect=None).stdout
    (desk.handlers / "default").rename(desk.handlers / "default.\033[2J")
    assert "\033[2J" not in desk.run("doctor", expect=None).stdout


def test_some_types_find_none(desk):
    """Events of the others would go to failed/."""
    write(desk.handlers / "producersync.npn", SCRIPT)
    row = doctor(desk)
    assert row["ok"] is True and row["remark"], row
    assert "an event of type producersync.updates_available or of an unknown type finds no handler" in row["text"]
    assert "default" in row["remedy"]


def test_no_handler(desk):
    """Right if a script reads new/. Not where drain runs, for it moves every event to failed/."""
    assert doctor(desk)["ok"] is None and "no handler" in doctor(desk)["text"]
    desk.deliver(signed(body(1)))
    desk.drain("--", "true")    # a command needs no handlers
    assert doctor(desk)["ok"] is None
    desk.drain()
    row = doctor(desk)
    assert row["ok"] is False, row
    assert row["text"] == f"{desk.handlers} has no handler, and psapi drain runs: it moves every event to failed/"
    assert "write a handler default" in row["remedy"] and "end psapi drain" in row["remedy"]
    shutil.rmtree(desk.handlers)
    row = doctor(desk)
    assert row["ok"] is False and "make it, and put handlers into it" in row["remedy"], row


@pytest.mark.parametrize("names, remedy", [
    (["npn.activated"], "npn.activated: rename it to producersync.npn.activated"),
    (["activated"], "activated: rename it to producersync.npn.activated"),
    (["all"], "write a handler default (the line #!/bin/true is enough), or name one after a type"),
    (["all", "README"], "write a handler default"), (["README"], "write a handler default"),
    (["id.producer.created"], "write a handler default")])
def test_no_known_type_finds_a_handler(desk, names, remedy):
    """There are files, but drain would move every event of ours to failed/."""
    for name in names:
        write(desk.handlers / name, SCRIPT)
    row = doctor(desk)
    assert row["ok"] is False, row
    assert "finds no handler, and no default, in" in row["text"]
    assert row["text"].endswith("; no known type selects " + ", ".join(sorted(names)))
    assert row["remedy"].startswith(remedy)
    assert desk.run("doctor", expect=None).returncode == 1
    (webhook_id,) = desk.deliver(signed(body(1)))
    desk.drain(expect=1)
    assert "failed" in desk.where(webhook_id)


def test_many_files(desk):
    """The lists end with a number, not in a word."""
    for n in range(40):
        write(desk.handlers / f"default.{n:02}.sh.bak", SCRIPT)
        write(desk.handlers / f"producersync.npn.activate{n:02}", SCRIPT)
    row, unused = doctor(desk), doctor(desk, "unused")
    assert re.search(r"; no known type selects default\.00\.sh\.bak, .*, default\.\d\d\.sh\.bak and \d+ more$", row["text"])
    *renames, last = row["remedy"].splitlines()
    assert all(re.fullmatch(r"\S+: rename it to producersync\.npn\.activated", line) for line in renames), row
    assert last == f"and {40 - len(renames)} more files"
    assert unused["remark"]


def test_type_of_another_product(desk):
    """Nobody knows it, but a handler is named after it: drain would run that, or refuse it."""
    write(desk.handlers / "default", SCRIPT)
    other = write(desk.handlers / "id.producer.created", SCRIPT)
    assert f"an event of type id.producer.created would run {other}" in doctor(desk)["text"]
    write(other, SCRIPT, mode=0o644)
    row = doctor(desk)
    assert row["ok"] is False and row["text"] == f"{other}: is not executable"


def test_several_faults(desk):
    """All are named, each with its remedy."""
    write(desk.handlers / "default", SCRIPT, mode=0o644)
    write(desk.handlers / "producersync", SCRIPT.replace("\n", "\r\n"))
    row = doctor(desk)
    assert "default: is not executable" in row["text"] and "producersync: has Windows" in row["text"]
    assert len(row["remedy"].splitlines()) == 2


def test_no_directory(desk):
    shutil.rmtree(desk.handlers)
    assert doctor(desk)["ok"] is None
    desk.handlers.write_text("")
    assert_refused(desk, f"{desk.handlers}: is not a directory: PSAPI_HANDLERS must name a directory")


@pytest.mark.parametrize("content, words", [
    (SCRIPT.replace("\n", "\r\n"), "has Windows line ends"), ("#!/no/such/sh\n", "its interpreter is missing: /no/such/sh"),
    ("echo hello\n", "has no first line with #!")])
def test_command(desk, content, words):
    """A command that gets all events is the operator's word: it is not checked before, but a failure is explained."""
    command = write(desk.place.dir / "command", content)
    (webhook_id,) = desk.deliver(signed(body(1)))
    said = refusal(desk.drain("--", command, expect=78))
    assert said.startswith(f"{command}: {words}"), said
    assert desk.where(webhook_id) == ["new", "events"]


def test_near_miss_of_a_batch_handler(desk):
    """The file is named with its directory."""
    write(desk.handlers / "default", SCRIPT)
    batch = desk.place.dir / "batch.d"
    write(batch / "producersync.npn.sh", SCRIPT)
    desk.place.settings["PSAPI_BATCH_HANDLERS"] = batch
    row = doctor(desk, "unused")
    assert row["remark"] and row["text"] == "batch.d/producersync.npn.sh: no event selects it"
    assert row["remedy"] == "batch.d/producersync.npn.sh: rename it to producersync.npn"


def test_one_refused_and_one_failed(desk):
    """An event that fails, once, does not hide those that wait in each run."""
    write(desk.handlers / "default", SCRIPT, mode=0o644)
    desk.handler("producersync.npn", "exit 2\n")
    failed, waiting = desk.deliver(signed(body(1)), signed(updates(2)))
    desk.drain(expect=78)
    assert "failed" in desk.where(failed) and desk.where(waiting) == ["new", "events"]


# ---- 126 and 127 ----

@pytest.mark.parametrize("script, status", [
    ("no-such-program\n", 127), ("exec no-such-program\n", 127), ("/etc/passwd\n", 126), ("exit 126\n", 126)])
def test_broken(desk, script, status):
    """Not the event's fault: it waits however often that happens, and drain exits 78 with one line for all."""
    desk.place.settings["PSAPI_MAX_TRIES"] = "1"
    desk.place.settings["PATH"] = "/usr/bin:/bin"       # in a directory that is closed to us it might be: 126
    desk.handler("default", 'echo tried >>"$PSAPI_TOLD/tried"\n' + script)
    ids = desk.deliver(signed(body(1, "1")), signed(body(2, "2")))
    for run in range(2):
        done = desk.drain(expect=78)
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(f"psapi: broken: {desk.handlers}/default: exit status {status}: ")
        assert len(desk.lines("tried")) == 2 * (run + 1)
        for webhook_id in ids:
            assert desk.where(webhook_id) == ["new", "events", "state"]
            state = desk.state(webhook_id)
            assert state["tries"] == 0 and state["reason"].startswith(f"exit status {status}")
            desk.write_state(webhook_id, **state | {"due_at": "2026-01-01T00:00:00.000Z"})
    shown = desk.run("show", ids[0]).stdout
    assert f"exit status {status}: " in shown and ("no-such-program" not in script or "not found" in shown)
    desk.handler("default", NOTE)
    desk.drain_silently()
    assert sorted(desk.lines()) == sorted(ids)


def test_broken_command(desk):
    """The same for a command that gets all events."""
    (webhook_id,) = desk.deliver(signed(body(1)))
    done = desk.drain("--", "sh", "-c", "no-such-program", expect=78)
    assert "broken: " in done.stderr
    assert desk.where(webhook_id) == ["new", "events", "state"]
