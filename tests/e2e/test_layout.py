"""tools/check-layout: each rule is red on a small tree that breaks it, and all are green on this one."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

from receiver import ROOT

TOOL = ROOT / "tools/check-layout"

# A tree without a violation: {file: text}.
SOUND = {
    "psapi.c": '#include "commands/list.h"\nint main(void) { return 0; }\n',
    "verify.h": "struct message;\n",
    "verify.c": '#include "base/text.h"\n#include "verify.h"\nint\nverify(void)\n{\n\treturn 0;\n}\n',
    "commands/list.h": "int list_main(int argc, char **argv);\n",
    "commands/list.c": '#include "store/store.h"\nint\nlist_main(void)\n{\n\treturn 0;\n}\n',
    "store/store.h": '#include "verify.h"\nstruct store {\n\tint fd;\n};\n',
    "store/record.h": "struct record {\n\tint fd;\n};\n",
    "store/spool/disk.h": "struct spool;\n",
    "store/spool/disk.c": "int fsync(int);\nint\nspool_open(void)\n{\n\treturn 0;\n}\n"
                          "int\ndisk_sync(void)\n{\n\treturn fsync(0);\n}\n",
    "base/text.h": "/* struct store { */\n",
    "tests/unit/test_list.c": '#include "store/record.h"\nint\nno_prefix(void)\n{\n\treturn 0;\n}\n',
}

LONG = "// " + "x" * 98 + "\n"

# What breaks it: {file: text}, and the line that the tool prints.
BROKEN = {
    "a folder above": (
        {"base/text.h": '\n#include "store/store.h"\n'},
        'base/text.h:2: includes "store/store.h": store/ is above base/'),
    "a folder above, in angle brackets": (
        {"base/text.h": "#include <stdio.h>\n#include <store/store.h>\n"},
        'base/text.h:2: includes "store/store.h": store/ is above base/'),
    "another header of the store": (
        {"commands/list.h": '#include "store/record.h"\n'},
        'commands/list.h:1: includes "store/record.h": of store/ only store/store.h is included from outside'),
    "another header of the store, in a program": (
        {"psapi.c": '#include "store/record.h"\nint main(void) { return 0; }\n'},
        'psapi.c:1: includes "store/record.h": of store/ only store/store.h is included from outside'),
    "a module that knows a folder": (
        {"verify.h": '#include "store/store.h"\n', "store/store.h": ""},
        'verify.h:1: includes "store/store.h": verify.h includes base/ only'),
    "a module that knows the other": (
        {"events.h": '#include "verify.h"\n'},
        'events.h:1: includes "verify.h": events.h includes base/ only'),
    "below the modules": (
        {"base/text.c": '#include "verify.h"\nint text_fd;\n'},
        'base/text.c:1: includes "verify.h": base/ knows nothing of webhooks'),
    "a folder that is in no list": (
        {"mail/mail.c": '#include "store/record.h"\nint\nno_prefix(void)\n{\n\treturn 0;\n}\n'},
        "mail/mail.c:1: mail/ is in no list of tools/check-layout, so nothing checks it"),
    "a file of the root that is in no list": (
        {"psapi-mail.c": '#include "store/record.h"\nint main(void) { return 0; }\n'},
        "psapi-mail.c:1: this file is in no list of tools/check-layout, so nothing checks it"),
    "a folder that is in no table": (
        {"store/store.h": '#include "tests/unit/help.h"\n', "tests/unit/help.h": ""},
        'store/store.h:1: includes "tests/unit/help.h": store/ includes the folders below it only'),
    "not from the root": (
        {"store/store.h": '#include "record.h"\n'},
        'store/store.h:1: includes "record.h": no such file; an include is written from the root'),
    "one store knows the other": (
        {"store/postgresql/sql.h": '#include "store/spool/disk.h"\n'},
        'store/postgresql/sql.h:1: includes "store/spool/disk.h": '
        "store/postgresql/ and store/spool/ do not know each other"),
    "and the other way round": (
        {"store/postgresql/sql.h": "", "store/spool/disk.h": '#include "store/postgresql/sql.h"\n'},
        'store/spool/disk.h:1: includes "store/postgresql/sql.h": '
        "store/spool/ and store/postgresql/ do not know each other"),
    "a cycle": (
        {"store/store.h": '#pragma once\n#include "store/record.h"\n',
         "store/record.h": '#pragma once\n#include "store/store.h"\n'},
        'store/record.h:2: includes "store/store.h": a cycle, store/store.h -> store/record.h -> store/store.h'),
    "no prefix": (
        {"store/record.c": "static int\nhelp(void)\n{\n\treturn 0;\n}\nint\nread_it(void)\n{\n\treturn help();\n}\n"},
        "store/record.c:7: exports read_it(): expected is record_ or store_"),
    "the prefix of the folder, where that is not enough": (
        {"commands/list.c": "int\ncommands_list(void)\n{\n\treturn 0;\n}\n"},
        "commands/list.c:2: exports commands_list(): expected is list_"),
    "neither prefix": (
        {"store/spool/disk.c": "int\nstore_open(void)\n{\n\treturn 0;\n}\n"},
        "store/spool/disk.c:2: exports store_open(): expected is disk_ or spool_"),
    "a prefix that goes on": (
        {"store/record.c": "int\nrecords(void)\n{\n\treturn 0;\n}\n"},
        "store/record.c:2: exports records(): expected is record_ or store_"),
    "a program that exports": (
        {"psapi.c": "int\npsapi_main(void)\n{\n\treturn 0;\n}\n"},
        "psapi.c:2: exports psapi_main(): expected is main only"),
    "a wait for the disk outside the store": (
        {"base/io.c": "int fsync(int);\nint\nio_sync(int fd)\n{\n\treturn fsync(fd);\n}\n"},
        "base/io.c:1: calls fsync(): only store/ and secrets/ may"),
    "a file gets a name outside the store": (
        {"psapi.c": "int linkat(int, const char *, int, const char *, int);\n"
                    "int\nmain(void)\n{\n\treturn linkat(0, \"\", 0, \"\", 0);\n}\n"},
        "psapi.c:1: calls linkat(): only store/ and secrets/ may"),
    "a tag twice": (
        {"commands/list.c": "struct store {\n\tint x;\n};\nint list_fd;\n"},
        "store/store.h:2: struct store is defined in commands/list.c, too"),
    "a tag twice, of another kind": (
        {"store/record.c": "enum store {\n\tA\n};\nint record_fd;\n"},
        "store/store.h:2: struct store is defined in store/record.c, too"),
    "columns": (
        {"store/record.h": "\n" + LONG},
        "store/record.h:2: 101 columns, at most 100"),
    "columns, a tab counts for four": (
        {"tests/unit/test_list.c": "\t" + LONG[:98] + "\n"},
        "tests/unit/test_list.c:1: 102 columns, at most 100"),
}


def write(top, files):
    """The tree, with its objects where make would put them."""
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    for name in files:
        target = top / "build/plain" / (os.path.splitext(name)[0] + ".o")
        target.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".c"):
            subprocess.run(["cc", "-I", top, "-c", "-o", target, top / name], check=True)


def check(*arguments):
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_sound(tmp_path):
    write(tmp_path, SOUND)
    assert check("--top", tmp_path) == (0, [])


@pytest.mark.parametrize("what", BROKEN)
def test_broken(tmp_path, what):
    files, complaint = BROKEN[what]
    write(tmp_path, SOUND | files)
    assert check("--top", tmp_path) == (1, [complaint])


def hidden(text):
    """Names of functions that a later one of the same name replaces: pytest never sees them."""
    for node in ast.walk(ast.parse(text)):
        body = node.body if isinstance(node, (ast.Module, ast.ClassDef)) else []
        names = [one.name for one in body if isinstance(one, ast.FunctionDef) and
                 not any(getattr(by, "attr", "") == "setter" for by in one.decorator_list)]
        yield from sorted({name for name in names if names.count(name) > 1})


def test_no_test_is_hidden():
    assert list(hidden("def a(): pass\nclass B:\n  def a(self): pass\n  def a(self): pass\n")) == ["a"]
    found = {str(path): list(hidden(path.read_text())) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: names for path, names in found.items() if names} == {}


def unused(text):
    """Names that are imported and nowhere used. A line with noqa imports them for another file."""
    tree, lines = ast.parse(text), text.splitlines()
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "noqa" not in lines[node.end_lineno - 1]:
            names = [(one.asname or one.name).partition(".")[0] for one in node.names]
            yield from [name for name in names if name not in used]


def python_files():
    """Of the project; handlers and tools have no suffix."""
    for folder in ("bench", "examples", "tests", "tools"):
        for path in filter(Path.is_file, (ROOT / folder).rglob("*")):
            if path.suffix == ".py" or re.match(rb"#!.*python", path.read_bytes()):
                yield path


def test_no_import_is_unused():
    assert list(unused("import a, b.c, d as e\nfrom f import g, h  # noqa\nfrom f import i, j\nb.c(j)\n")) == ["a", "e", "i"]
    found = {str(path): list(unused(path.read_text())) for path in python_files()}
    assert len(found) > 100 and {path: names for path, names in found.items() if names} == {}


def test_not_built(tmp_path):
    """A missing object is no clean one."""
    write(tmp_path, SOUND)
    missing = tmp_path / "build/plain/verify.o"
    missing.unlink()
    assert check("--top", tmp_path) == (1, [f"verify.c:1: {missing} is missing: run make first"])


@pytest.mark.skipif("PSAPI_SANITIZED" in os.environ, reason="the plain build's objects are read")
def test_this_tree():
    assert check("--top", Path(ROOT)) == (0, [])
