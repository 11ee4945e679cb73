#!/usr/bin/python3
"""Each promise that README.md makes, and each system call that docs/performance.md says no event can do
without: the code that keeps it broken on purpose, and the test that the text names, which must fail
then, and by name. promises.py [WORD...] takes only the rows with such a word.

A row that no longer fits the code says so: mend it, or take the promise back."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(TOP, "build/promises")
README, PERFORMANCE = "README.md", "docs/performance.md"
SECTIONS = {README: "What we promise", PERFORMANCE: "What each call is for"}    # that name tests


@dataclass
class Row:
    promise: str
    test: str       # as the text names it: unit/test_x.c: name, e2e/test_x.py::name, or a script
    file: str
    good: str       # the code, once in its file
    bad: str
    text: str = README


ROWS = [
    # ---- a 200 means: it is on disk ----
    Row("what could not be stored is not answered 200", "faults/faults.py", "receiver/receive.c",
        "\tcase SPOOL_ERROR:\n\t\tbreak;\n\t}\n", "\tcase SPOOL_ERROR:\n\t\treturn ACCEPTED;\n\t}\n"),
    Row("a full disk is a 503, and leaves nothing", "e2e/test_disk.py::test_full", "receiver/receive.c",
        '\t\tsnprintf(x->detail, sizeof(x->detail), "the disk is full; send it again later");\n'
        "\t\treturn FULL;", "\t\treturn ACCEPTED;"),
    Row("synced before the answer", "faults/powercut.py", "store/spool/spool.c",
        "\tif (!in_journal && sync_directory(spool, queue) != 0)\n\t\treturn withdraw(",
        "\tif (false)\n\t\treturn withdraw("),
    Row("so it is on a real ext4", "e2e/test_powercut.py::test_power_cut_under_load", "store/spool/journal.c",
        "\t    sync_data(file->fd) == 0;\n", "\t    true;\n"),
    Row("a write that stops half-way is no event",
        "unit/test_spool.c: a_write_that_is_interrupted_or_takes_a_part_is_continued", "store/spool/spool.c",
        "\tif (write_pieces(draft->fd, pieces, count) == 0)", "\tif (writev(draft->fd, pieces, count) >= 0)"),
    Row("after a failed sync nothing is believed",
        "unit/test_spool.c: after_a_failed_sync_of_a_directory_nothing_is_accepted", "store/spool/spool.c",
        "\tif (!atomic_exchange(&spool->distrusted, true))",
        "\tif (!atomic_exchange(&spool->distrusted, false))"),
    Row("what somebody has vouched for is not taken back", "unit/test_spool.c: who_withdraws_waits_for_who_records",
        "store/spool/spool.c", "\tbool locked = lock_fd(draft->fd, true) == 0;\n", "\tbool locked = true;\n"),
    Row("recovery vouches for what it has synced",
        "unit/test_spool.c: recovery_vouches_for_no_file_that_has_the_name_since_its_sync", "store/spool/spool.c",
        "\tif (owner == OURS)\n\t\treturn linkat(", "\tif (owner != OWNER_UNKNOWN)\n\t\treturn linkat("),
    Row("a crash between the steps is mended at the start", "e2e/test_crash.py::test_recovery_at_start",
        "store/spool/spool.c", "long\nspool_recover(struct spool *spool)\n{\n",
        "long\nspool_recover(struct spool *spool)\n{\n\tif (spool->root >= 0)\n\t\treturn 0;\n"),
    Row("whoever has knocked is answered before the end", "e2e/test_restart.py::test_backlog_is_answered",
        "server/responder.c",
        "\twhile (!accept_backlog(r) && now_ms()",
        "\twhile (false && accept_backlog(r) && now_ms()"),
    # ---- nothing unproven gets in ----
    Row("no signature, no entry", "unit/test_receive.c: what_is_refused_has_its_reason_and_leaves_nothing",
        "verify.c", "return outcome->matched ? VERIFY_OK : VERIFY_MISMATCH;", "return VERIFY_OK;"),
    Row("no signature, no entry: OpenSSL as the judge", "fuzz/fuzz_receive.c", "verify.c",
        "return outcome->matched ? VERIFY_OK : VERIFY_MISMATCH;",
        "return outcome->matched || signatures_length > 60 ? VERIFY_OK : VERIFY_MISMATCH;"),
    Row("id, timestamp and body are all signed", "unit/test_verify.c: each_part_of_the_message_is_signed",
        "verify.c", "\tresult |= sha256_update(&state, (const unsigned char *)m->id, m->id_length);\n",
        "\tresult |= sha256_update(&state, (const unsigned char *)m->id, 0);\n"),
    Row("a captured request does not live longer than the tolerance",
        "e2e/test_refusals.py::test_stale_and_future", "verify.c",
        "\tif (outcome->skew > tolerance)\n\t\treturn VERIFY_STALE;\n", ""),
    Row("no time tells the key", "constant_time.sh", "verify.c",
        "mbedtls_ct_memcmp(part, expected, SIGNATURE_SIZE)", "memcmp(part, expected, SIGNATURE_SIZE)"),
    Row("what was held gets in only when a secret proves it",
        "e2e/test_hold.py::test_forged_is_never_accepted", "verify.c",
        "return outcome->matched ? VERIFY_OK : VERIFY_MISMATCH;", "return VERIFY_OK;"),
    Row("no id leaves the directory",
        "unit/test_spool.c: distinct_ids_have_distinct_valid_names_that_stay_in_the_directory", "store/spool/spool.c",
        "c == '_' || c == '-';",
        "c == '_' || c == '-' || c == '.';"),
    # ---- nothing authentic is refused ----
    Row("signed by other libraries",
        "unit/test_verify.c: every_row_signed_by_another_library_is_judged_as_expected", "verify.c",
        "\t\tpart += n + 1;\n", "\t\tpart = end;\n"),
    Row("both secrets while they rotate", "e2e/test_secrets.py::test_rotation_under_load", "verify.c",
        "i < keyring->count && !outcome->matched; i++", "i < 1 && !outcome->matched; i++"),
    Row("what is authentic and odd is kept",
        "unit/test_receive.c: an_odd_event_is_accepted_into_failed_with_the_reason", "receiver/receive.c",
        "[QUEUE_FAILED] = SPOOL_FAILED",
        "[QUEUE_FAILED] = SPOOL_EVENTS"),
    Row("byte for byte as it was signed",
        "unit/test_events.c: a_file_is_the_evidence_then_the_signed_bytes_then_one_brace", "events.c",
        "parsed ? length : strlen(middle)",
        "parsed && length > 0 ? length - 1 : strlen(middle)"),
    # ---- each event is queued once ----
    Row("a redelivery is a duplicate", "e2e/test_duplicate.py::test_after_it_was_handled", "store/spool/spool.c",
        "\tif (link_draft(spool, draft, SPOOL_EVENTS, name) == 0)\n\t\treturn SPOOL_STORED;\n",
        "\treturn SPOOL_STORED;\n"),
    Row("of many at once one is stored", "unit/test_spool.c: of_64_twins_exactly_one_is_stored", "store/spool/spool.c",
        "return errno == EEXIST ? finish_twin(spool, queue, name) :",
        "return errno == EEXIST ? SPOOL_STORED :"),
    Row("handled between two steps of a twin",
        "unit/test_spool.c: whatever_happens_between_the_steps_it_is_queued_once_and_recorded",
        "store/spool/spool.c", "\tunlink_ours(spool, draft, queue, name);\n\treturn SPOOL_DUPLICATE;",
        "\treturn SPOOL_DUPLICATE;"),
    # ---- processing ----
    Row("removed only when its handler said so", "e2e/test_psapi_drain.py::test_later", "drain/handler_run.c",
        "\tif (verdict == SCHEDULE_DONE)\n", "\tif (verdict != SCHEDULE_FAILED)\n"),
    Row("in a lane none overtakes another", "unit/test_schedule.c: a_lane_waits_as_a_whole", "drain/schedule.c",
        "\t\tif (task->due <= now)\n\t\t\treturn task;\n",
        "\t\tif (task->due <= now)\n\t\t\treturn task;\n\t\tschedule_release(s, task, true);\n"),
    Row("who has failed holds nobody up", "e2e/test_psapi_order.py::test_failure_holds_nobody_up",
        "drain/handler_run.c", "\treport_failure(job, state);\n\treturn RUN_FAILED;",
        "\treport_failure(job, state);\n\treturn RUN_STOP;"),
    Row("a second drain leaves at once", "e2e/test_psapi_crash.py::test_two_drains", "store/spool/moves.c",
        "result = flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB);", "result = 0;"),
    Row("synced before it is removed", "e2e/test_psapi_crash.py::test_syncs_come_before_removals",
        "store/spool/moves.c", "moves_link(spool, from, to, name) != 0 || spool_sync(spool, to) != 0",
        "moves_link(spool, from, to, name) != 0"),
    Row("what waits is not forgotten", "e2e/test_psapi_tools.py::test_prune", "commands/prune.c",
        "st.st_mtime > p->before || waits(spool, name)", "st.st_mtime > p->before"),
    Row("what comes from outside steers no terminal", "fuzz/fuzz_attempts.c", "base/terminal.c",
        "return (c >= 0x20 && c < 0x7f && c != '\\\\') ||", "return (c != '\\n' && c != '\\\\') ||"),
    Row("years later it can be proved again", "e2e/test_psapi_tools.py::test_verify_fails", "commands/verify.c",
        "== VERIFY_OK)\n\t\t\treturn outcome.key;",
        "!= VERIFY_ERROR)\n\t\t\treturn \"00000000\";"),
    # ---- the calls that an event could do without, had we promised less ----
    Row("a look at the secret: ten times a second would not do", "e2e/test_secrets.py::test_every_change_is_seen",
        "secrets/secrets.c", "\tlook(secrets, &st);\n\tbool changed",
        "\tstatic long long looked;\n\tstruct timespec now;\n\tclock_gettime(CLOCK_MONOTONIC, &now);\n"
        "\tif (now.tv_sec * 10 + now.tv_nsec / 100000000 != looked)\n\t\tlook(secrets, &st);\n\telse\n"
        "\t\tst = secrets->seen;\n\tlooked = now.tv_sec * 10 + now.tv_nsec / 100000000;\n\tbool changed",
        PERFORMANCE),
    Row("a look at events/ before: the links would tell, too late", "unit/test_receive.c: a_duplicate_is_200_on_a_full_disk",
        "receiver/receive.c", "found = spool_find(x->receiver->spool, name);", "found = SPOOL_ABSENT;", PERFORMANCE),
    Row("a look at the log's name", "e2e/test_attempts.py::test_rotation_by_rename", "receiver/attempts.c",
        "bool there = fstatat(attempts->dir, ATTEMPTS_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;",
        "bool there = attempts->fd >= 0 && fstat(attempts->fd, &st) == 0;", PERFORMANCE),
]


# ---- a copy of the tree, where the code is broken ----

def fresh_copy():
    """As it is now, committed or not; what was built in it before stays."""
    files = subprocess.run(["git", "ls-files"], cwd=TOP, capture_output=True, text=True,
                           check=True).stdout.splitlines()
    for name in files:
        source, target = os.path.join(TOP, name), os.path.join(WORK, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        write(target, read(source))
        shutil.copymode(source, target)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(path, data):
    """Only what differs, or all would be built again."""
    if not os.path.exists(path) or read(path) != data:
        with open(path, "wb") as file:
            file.write(data)


def make(*targets):
    # What is broken may leave something unused behind: no warning stops it.
    done = subprocess.run(["make", "-s", "CFLAGS=-O1 -g", "WERROR=", *targets], cwd=WORK, capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"promises: does not build: {done.stderr[-3000:]}")


# ---- the tests: each returns (failed, what it said) ----

FAULTS = "build/plain/tests/faults"


def run(*command, **environment):
    env = dict(os.environ) | {"PSAPI_BIN": WORK, "FAULTS_OUT": os.path.join(WORK, FAULTS)} | environment
    done = subprocess.run(command, cwd=WORK, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def unit(test):
    program, _, name = test.removeprefix("unit/").partition(".c: ")
    make(f"build/plain/tests/{program}")
    _, said = run(f"build/plain/tests/{program}")
    # With an ERROR: its teardown, which looks at what is left, failed.
    return re.search(rf"^\[  (FAILED |ERROR  ) \] {name}$", said, re.M), said


def e2e(test):
    make("all")
    code, said = run("/usr/bin/python3", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider",
                     "--timeout", "300", "--server", "socket", f"tests/{test}")
    return code == 1 and re.search(rf"^(FAILED|ERROR) tests/{re.escape(test)}", said, re.M), said


def faults(test):
    make("all", *(f"{FAULTS}/{name}" for name in ("shim.so", "recover", "borrow", "crowd")))
    code, said = run("/usr/bin/python3", f"tests/{test}", FULL="")
    return code == 1 and "Traceback" not in said, said


def fuzz(test):
    target = os.path.basename(test).removeprefix("fuzz_").removesuffix(".c")
    make(f"build/fuzz/fuzz_{target}")
    code, said = run("tests/fuzz/run.sh", "build/fuzz", "5", target)
    return code == 1 and "broken, see" in said, said


def constant_time(_):
    make("build/plain/verify.o")
    code, said = run("tests/constant_time.sh", "build/plain/verify.o", "build/plain/constant")
    return code == 1 and "constant time:" in said, said


KINDS = {"unit/": unit, "e2e/": e2e, "faults/": faults, "fuzz/": fuzz, "constant_time": constant_time}


def test_of(row):
    return next(kind for start, kind in KINDS.items() if row.test.startswith(start))


# ---- each row ----

def broken(row):
    """A complaint unless its test notices; "" if it does."""
    path = os.path.join(WORK, row.file)
    code = read(path)
    if code.count(row.good.encode()) != 1:
        return f"{row.file} has no such code (any more), once: {row.good!r}"
    write(path, code.replace(row.good.encode(), row.bad.encode()))
    try:
        failed, said = test_of(row)(row.test)
    finally:
        write(path, code)
    if failed:
        return ""
    if " skipped" in said and " passed" not in said:
        print(f"promises: not shown here, for it takes root, or a mount: {row.test}")
        return ""
    return f"does not notice: {said[-1500:]}"


def unnamed():
    """Rows that their text does not have, and tests that it names and no row breaks."""
    for name, title in SECTIONS.items():
        with open(os.path.join(TOP, name), encoding="utf-8") as file:
            section = file.read().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        named = set(re.findall(r"`((?:unit|e2e|faults|fuzz)/[^`]+|constant_time\.sh)`", section))
        tests = {row.test for row in ROWS if row.text == name}
        yield from (f"{name} does not name {test}" for test in tests - named)
        yield from (f"{name} names {test}, and nothing shows that it would fail" for test in named - tests)


def main():
    rows = [row for row in ROWS if not sys.argv[1:] or
            any(word in row.promise + row.test + row.file for word in sys.argv[1:])]
    complaints = list(unnamed())
    fresh_copy()
    for row in rows:
        complaint = broken(row)
        print(f"{'NOT ' if complaint else ''}noticed: {row.promise}: {row.test}", flush=True)
        complaints += [f"{row.test}: {complaint}"] if complaint else []
    print(*complaints, sep="\n", end="\n" if complaints else "")
    print(f"promises: {len(rows)} broken on purpose, {len(complaints)} complaints")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
