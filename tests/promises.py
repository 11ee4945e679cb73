#!/usr/bin/python3
"""Each promise that docs/promises.md makes, and each system call that docs/performance.md justifies, has a patch
in tests/promises/ that breaks it, and names the test that must fail then. Each patch is applied to a copy of the
tree, and its test is run: promises.py [WORD...] takes only the patches with such a word.

A patch that no longer applies is a complaint: make it anew (tests/promises/README), or take the promise out of the document."""

import contextlib
import glob
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPIES = os.path.join(TOP, "build/promises")
WORK = os.path.join(COPIES, "1")    # of this process
PATCHES = "tests/promises"
# The documents, and the section of each in which a test that is named must have a patch.
SECTIONS = {"docs/promises.md": "Promises and their tests", "docs/performance.md": "What each call is for"}
NAMED_TEST = re.compile(r"`((?:unit|e2e|faults|fuzz)/[^`]+|constant_time\.sh)`")


class Complaint(Exception):
    pass


# ---- the patches ----

@dataclass
class Patch:
    path: str       # from the top
    promise: str
    test: str       # as the document names it: unit/test_x.c: name, e2e/test_x.py::name, or a script
    document: str
    files: list     # that it changes


def load(path):
    """From its header, and from the names in its diff."""
    header, _, diff = read(os.path.join(TOP, path)).decode().partition("\n\n")
    fields = dict(line.split(": ", 1) for line in header.splitlines() if ": " in line)
    files = re.findall(r"^\+\+\+ b/(\S+)", diff, re.M)
    if sorted(fields) != ["document", "promise", "test"] or not files:
        raise Complaint(f"{path}: a header of promise, test and document, an empty line, and a diff are expected")
    if fields["document"] not in SECTIONS or not any(fields["test"].startswith(start) for start in KINDS):
        raise Complaint(f"{path}: no such document, or kind of test: {fields}")
    return Patch(path, files=files, **fields)


def load_all():
    names = sorted(name for name in os.listdir(os.path.join(TOP, PATCHES)) if name.endswith(".patch"))
    return [load(f"{PATCHES}/{name}") for name in names]


@contextlib.contextmanager
def applied(patch):
    """The copy of the tree, broken by the patch; restored afterwards."""
    paths = [os.path.join(WORK, name) for name in patch.files]
    before = {path: read(path) for path in paths if os.path.exists(path)}
    try:
        done = subprocess.run(["patch", "-p1", "--batch", "--forward", "--no-backup-if-mismatch", "-r", "-", "-i",
                               os.path.join(TOP, patch.path)], cwd=WORK, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Complaint(f"does not apply (any more): {done.stdout}{done.stderr}")
        yield
    finally:
        for path in paths:
            if path in before:
                write(path, before[path])
            elif os.path.exists(path):
                os.remove(path)


# ---- a copy of the tree, where the code is broken ----

def fresh_copy():
    """Of the tree as it is now, committed or not. What was built in the copy before stays."""
    files = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True,
                           check=True).stdout.splitlines()
    for old in glob.glob(os.path.join(WORK, "**/*.[ch]"), recursive=True):
        # The Makefile builds all sources that it finds.
        name = os.path.relpath(old, WORK)
        if name not in files and not name.startswith("build/"):
            os.remove(old)
    for name in filter(lambda name: os.path.exists(os.path.join(TOP, name)), files):
        source, target = os.path.join(TOP, name), os.path.join(WORK, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        write(target, read(source))
        shutil.copymode(source, target)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    """Only if it differs: make would build everything again."""
    if not os.path.exists(path) or read(path) != data:
        with open(path, "wb") as file:
            file.write(data)


def make(*targets):
    # A patch may leave something unused behind: warnings are no errors.
    done = subprocess.run(["make", "-s", "CFLAGS=-O1 -g", "WERROR=", *targets], cwd=WORK, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise Complaint(f"does not build: {done.stderr[-3000:]}")


# ---- the tests: each returns (failed, its output) ----

FAULTS = "build/plain/tests/faults"


def run(*command, **environment):
    env = dict(os.environ) | {"PSAPI_BIN": WORK, "FAULTS_OUT": os.path.join(WORK, FAULTS)} | environment
    done = subprocess.run(command, cwd=WORK, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def unit(test):
    program, _, name = test.removeprefix("unit/").partition(".c: ")
    make(f"build/plain/tests/{program}")
    _, output = run(f"build/plain/tests/{program}")
    # ERROR: its teardown, which looks for what is left, failed.
    return re.search(rf"^\[  (FAILED |ERROR  ) \] {name}$", output, re.M), output


def e2e(test):
    make("all")
    code, output = run("/usr/bin/python3", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                       "--timeout", "300", "--server", "socket", f"tests/{test}")
    return code == 1 and re.search(rf"^(FAILED|ERROR) tests/{re.escape(test)}", output, re.M), output


def faults(test):
    make("all", "fault-programs")
    code, output = run("/usr/bin/python3", f"tests/{test}", FULL="")
    return code == 1 and "Traceback" not in output, output


def fuzz(test):
    target = os.path.basename(test).removeprefix("fuzz_").removesuffix(".c")
    make(f"build/fuzz/fuzz_{target}")
    code, output = run("tests/fuzz/run.sh", "build/fuzz", "5", target)
    return code == 1 and "broken, see" in output, output


def constant_time(_):
    make("build/plain/verify.o")
    code, output = run("tests/constant_time.sh", "build/plain/verify.o", "build/plain/constant")
    return code == 1 and "constant time:" in output, output


KINDS = {"unit/": unit, "e2e/": e2e, "faults/": faults, "fuzz/": fuzz, "constant_time": constant_time}


# ---- each patch ----

def run_test(patch):
    kind = next(kind for start, kind in KINDS.items() if patch.test.startswith(start))
    return kind(patch.test)


def check(patch):
    """Raises a complaint unless the test fails with the patch. Returns a line that tells of it."""
    with applied(patch):
        failed, output = run_test(patch)
    if failed:
        return f"noticed: {patch.promise}: {patch.test}"
    if " skipped" in output and " passed" not in output:
        return f"not shown here, for it needs root, or a mount: {patch.promise}: {patch.test}"
    raise Complaint(f"{patch.test} does not notice it: {output[-1500:]}")


def use_copy(number):
    global WORK
    WORK = os.path.join(COPIES, str(number))


def begin(numbers):
    """Of a process that takes its share of the patches: it has a copy of its own."""
    use_copy(numbers.get())


def tell(patch):
    """Of one patch: a line, and a complaint or None."""
    try:
        return check(patch), None
    except Complaint as complaint:
        return f"NOT noticed: {patch.promise}: {patch.test}", f"{patch.path}: {complaint}"


def differences(patches):
    """Tests that a patch names and its document does not, and the other way round."""
    for name, title in SECTIONS.items():
        with open(os.path.join(TOP, name), encoding="utf-8") as file:
            section = file.read().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        named = set(NAMED_TEST.findall(section))
        tests = {patch.test: patch.path for patch in patches if patch.document == name}
        yield from (f"{tests[test]}: {name} does not name {test}" for test in sorted(set(tests) - named))
        yield from (f"{name} names {test}, and no patch shows that it fails" for test in sorted(named - set(tests)))


def is_chosen(patch):
    words = sys.argv[1:]
    return not words or any(word in patch.path + patch.promise + patch.test + " ".join(patch.files) for word in words)


def main():
    try:
        patches = load_all()
    except Complaint as complaint:
        sys.exit(f"promises: {complaint}")
    complaints = list(differences(patches))
    chosen = [patch for patch in patches if is_chosen(patch)]
    numbers = multiprocessing.SimpleQueue()
    processes = min(os.cpu_count(), len(chosen)) or 1
    for number in range(1, processes + 1):
        # Here, where an error ends all: a pool would start a process that fails again and again.
        use_copy(number)
        fresh_copy()
        numbers.put(number)
    with multiprocessing.Pool(processes, begin, (numbers,)) as pool:
        for line, complaint in pool.imap_unordered(tell, chosen):
            print(line, flush=True)
            complaints += [complaint] if complaint else []
    print(*complaints, sep="\n", end="\n" if complaints else "")
    print(f"promises: {len(chosen)} broken on purpose, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
