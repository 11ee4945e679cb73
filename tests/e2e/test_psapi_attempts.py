"""`psapi attempts`: deliveries as a table, as JSON, and with -f."""

import json
import re

import pytest

from psapi_command import Desk
from receiver import wait_for
from sender import signed
from servers import Socket

pytestmark = pytest.mark.each_store


class LocalDesk(Desk):
    """`psapi attempts` of this host's log: on a shared store it is --local. test_postgresql.py has those of all hosts."""

    def arguments(self, arguments):
        return [*arguments, "--local"] if arguments[0] == "attempts" and "PSAPI_STORE" in self.place.settings else \
            arguments

    def run(self, *arguments, **more):
        return super().run(*self.arguments(arguments), **more)

    def start(self, *arguments, **more):
        return super().start(*self.arguments(arguments), **more)

    def on_a_terminal(self, *arguments, **more):
        return super().on_a_terminal(*self.arguments(arguments), **more)


@pytest.fixture
def desk(place):
    desk = LocalDesk(place)
    yield desk
    desk.close()


def test_attempts(desk):
    good = signed(None, "good")
    with Socket(desk.place) as server:
        server.send(good)
        server.send(good)
        server.send(good.with_header("webhook-signature", "v1,x"))
        server.receiver.stop()
    lines = desk.run("attempts").stdout.splitlines()
    assert lines[0].split()[:2] == ["TIME", "OUTCOME"]
    assert [line.split()[1] for line in lines[1:]][:2] == ["accepted", "duplicate"]
    rows = desk.rows("attempts")
    assert rows == [json.loads(line) for line in
                    (desk.spool.path / "attempts.jsonl").read_text().splitlines()]
    assert [r["outcome"] for r in desk.rows("attempts", "--outcome", "accepted")] == ["accepted"]
    assert [r["outcome"] for r in desk.rows("attempts", "-n", "1")] == [rows[-1]["outcome"]]
    assert desk.rows("attempts", "-n", "0") == []
    assert len(desk.rows("attempts", "--since", "1h")) == len(rows)
    assert desk.rows("attempts", "--since", "2199-01-01") == []
    coloured = desk.on_a_terminal("attempts", env={"TERM": "xterm"})[0]
    assert "\x1b[32maccepted" in coloured
    assert "\x1b" not in desk.on_a_terminal("attempts", env={"TERM": "xterm", "NO_COLOR": "1"})[0]


def write_attempts(desk, *ids, mode="a"):
    with open(desk.spool.path / "attempts.jsonl", mode) as log:
        for webhook_id in ids:
            log.write(json.dumps({"at": "2026-01-02T03:04:05.678Z", "outcome": "accepted",
                                  "status": 200, "webhook_id": webhook_id}) + "\n")


def test_attempts_of_a_torn_log(desk):
    desk.deliver(signed(None, "first"))
    with open(desk.spool.path / "attempts.jsonl", "a") as log:
        log.write('{"at":"2026-01-02T\x1b[2J\n\n')
    write_attempts(desk, "second")
    text = desk.run("attempts").stdout
    assert "first" in text and "second" in text and "torn" in text and "\x1b" not in text
    assert [r["webhook_id"] for r in desk.rows("attempts")] == ["first", "second"]
    assert "torn" not in desk.run("attempts", "--outcome", "accepted").stdout


def test_attempts_json_is_the_log(desk):
    """Line for line as it was written: 1.10 stays 1.10."""
    desk.deliver(signed(), signed())
    log = desk.spool.path / "attempts.jsonl"
    lines = re.sub(r'"ms":[0-9.]+', '"ms":1.10', log.read_text())
    log.write_text(lines)
    assert desk.run("attempts", "--json").stdout == lines
    assert desk.run("attempts", "--json", "--since", "1h").stdout == lines
    log.write_text('{"outcome":"é"}\n')     # not the receiver's; the same JSON, and it steers no terminal
    assert desk.run("attempts", "--json").stdout == '{"outcome":"\\u00e9"}\n'


def test_attempts_across_rotation(desk):
    """The last lines are the last lines, also just after midnight."""
    desk.deliver(signed())
    write_attempts(desk, "a", "b", "c", mode="w")
    log = desk.spool.path / "attempts.jsonl"
    log.rename(log.with_suffix(".jsonl.1"))
    assert [r["webhook_id"] for r in desk.rows("attempts", "-n", "2")] == ["b", "c"]
    write_attempts(desk, "d")
    assert [r["webhook_id"] for r in desk.rows("attempts", "-n", "2")] == ["c", "d"]
    assert [r["webhook_id"] for r in desk.rows("attempts", "--since", "2026-01-01")] == list("abcd")
    assert len(desk.rows("attempts", "-n", "3", "--outcome", "accepted", "--since", "2026-01-01")) == 3


def test_attempts_of_many_rotations(desk):
    """Numbers and dates (dateext), in the order of what is in them; with --since only what is needed is said to be
    missing."""
    desk.deliver(signed())
    log = desk.spool.path / "attempts.jsonl"
    log.unlink()
    for name, day, webhook_id in (("attempts.jsonl.2", 2, "a"), ("attempts.jsonl-20260103", 3, "b"),
                                  ("attempts.jsonl.1", 4, "c"), ("attempts.jsonl", 5, "d")):
        (desk.spool.path / name).write_text(json.dumps({"at": f"2026-01-{day:02}T03:04:05.678Z", "outcome": "accepted",
                                                        "status": 200, "webhook_id": webhook_id}) + "\n")
    for name in ("attempts.jsonl.bak", "attempts.jsonl~", "attempts.jsonl.swp", "xattempts.jsonl.1"):
        (desk.spool.path / name).write_text('{"webhook_id":"no"}\n')
    (desk.spool.path / "attempts.jsonl-20260101.gz").write_bytes(b"?")
    assert [r["webhook_id"] for r in desk.rows("attempts")] == list("abcd")
    assert [r["webhook_id"] for r in desk.rows("attempts", "-n", "2")] == list("cd")
    assert [r["webhook_id"] for r in desk.rows("attempts", "--since", "2026-01-04")] == list("cd")
    done = desk.run("attempts", "--since", "2026-01-04")
    assert done.stderr == ""
    done = desk.run("attempts", "--since", "2025-12-01")
    assert "attempts.jsonl: begins at 2026-01-02T03:04:05Z; 1 older one(s) are compressed: zcat" in done.stderr
    assert len(done.stdout.splitlines()) == 5
    assert "compressed" in desk.run("attempts", "--json", "--since", "2025-12-01").stderr
    (desk.spool.path / "attempts.jsonl-20260101.gz").unlink()
    assert desk.run("attempts", "--json", "--since", "2025-12-01").stderr == ""
    assert desk.run("attempts", "--since", "2025-12-01").stderr.endswith("begins at 2026-01-02T03:04:05Z\n")


def test_attempts_before_the_first(desk):
    desk.deliver(signed())
    (desk.spool.path / "attempts.jsonl").unlink()
    done = desk.run("attempts")
    assert done.stdout == "" and "nothing was delivered yet" in done.stderr


def test_attempts_last_lines(desk):
    desk.deliver(signed())
    write_attempts(desk, *(f"a{n}" for n in range(100)), mode="w")
    assert [r["webhook_id"] for r in desk.rows("attempts")] == [f"a{n}" for n in range(80, 100)]
    assert [r["webhook_id"] for r in desk.rows("attempts", "-n", "3")] == ["a97", "a98", "a99"]
    assert len(desk.rows("attempts", "-n", "1000")) == 100


class Follower:
    """`psapi attempts -f --json`, and the webhook-ids that it has printed so far."""

    def __init__(self, desk, *arguments):
        self.file = desk.told / "followed"
        with open(self.file, "w") as output:
            self.child = desk.start("attempts", "-f", "--json", *arguments, stdout=output)

    def ids(self):
        return [json.loads(line)["webhook_id"] for line in self.file.read_text().splitlines()]

    def wait_for(self, *ids):
        wait_for(lambda: len(self.ids()) >= len(ids), f"{ids}, and not {self.ids()}")
        assert self.ids() == list(ids)


def test_attempts_follow(desk):
    """New lines, also after a rotation by renaming or truncating."""
    desk.deliver(signed())
    log = desk.spool.path / "attempts.jsonl"
    write_attempts(desk, "old", "last", mode="w")
    follower = Follower(desk, "-n", "1")
    follower.wait_for("last")
    write_attempts(desk, "appended")
    follower.wait_for("last", "appended")
    with open(log, "a") as half:
        half.write('{"outcome":"accepted",')
        half.flush()
        half.write('"webhook_id":"in halves"}\n')
    follower.wait_for("last", "appended", "in halves")
    log.rename(log.with_suffix(".1"))
    with open(log.with_suffix(".1"), "a") as renamed:
        renamed.write('{"webhook_id":"late"}\n')
    write_attempts(desk, "new file")
    follower.wait_for("last", "appended", "in halves", "late", "new file")
    write_attempts(desk, "cut", mode="w")
    follower.wait_for("last", "appended", "in halves", "late", "new file", "cut")
    follower.child.terminate()
    wait_for(lambda: follower.child.poll() is not None, "it ends")


def test_attempts_follow_from_nothing(desk):
    desk.deliver(signed())
    (desk.spool.path / "attempts.jsonl").unlink()
    follower = Follower(desk)
    write_attempts(desk, "first")
    follower.wait_for("first")
