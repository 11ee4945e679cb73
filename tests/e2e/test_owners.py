"""Files of another user in the spool, and root as the caller: one bad file stops no other, who calls does not matter.

The spool belongs to nobody; the tests are root.
"""

import grp
import json
import os
import pwd
import re
import subprocess

import pytest

from psapi_command import NOTE, PSAPI, Desk, body
from receiver import BINARY
from replies import assert_accepted
from sender import SECRET, signed
from servers import Socket

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def desk(place):
    """With a spool of nobody's, who may run psapi and the handlers."""
    desk = Desk(place)
    desk.handler("default", NOTE)
    os.chown(desk.told, NOBODY.pw_uid, NOBODY.pw_gid)
    os.chown(place.secret_file, 0, NOBODY.pw_gid)
    yield desk
    desk.close()


def give(place, user=NOBODY.pw_uid, group=NOBODY.pw_gid):
    for folder, _, names in os.walk(place.spool.path):
        for name in ("", *names):
            os.chown(os.path.join(folder, name), user, group, follow_symlinks=False)


def deliver(desk, *requests):
    desk.deliver(*requests)
    give(desk.place)


def events(*npns):
    return [signed(body(n, npn=str(npn)), f"msg_{n}_{npn}") for n, npn in enumerate(npns)]


def drain(desk, expect=0, **more):
    done = desk.run("drain", expect=expect, **more)
    assert "sudo -u root" not in done.stderr, done.stderr
    return done.stderr


def handled(desk):
    seen = desk.told / "seen"
    return seen.read_text().split() if seen.exists() else []


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644])
def test_one_file_of_root(desk, mode):
    """It cannot be read (0640), or read and not moved (0644). The others are handled; of a lane that is known, the
    later ones wait. It is named once, with what mends it; the exit status says so each time."""
    deliver(desk, *events(111111111, 222222222, 111111111, 333333333))
    bad = desk.spool.file("new", "msg_0_111111111")
    os.chown(bad, 0, 0)
    bad.chmod(mode)
    told = drain(desk, 77)
    assert str(bad) in told and f"chown -R nobody {desk.spool.path}" in told, told
    known = mode & 0o004
    assert ("its lane waits" if known else "it is left out") in told
    assert handled(desk) == ["msg_1_222222222", *([] if known else ["msg_2_111111111"]), "msg_3_333333333"]
    assert drain(desk, 77) == ""
    give(desk.place)
    assert drain(desk) == ""
    assert handled(desk)[-1] == ("msg_2_111111111" if known else "msg_0_111111111")
    assert desk.spool.names("new") == []


def test_all_files_of_root(desk):
    """As after `cp -r` of a backup: ten are named, the rest is counted."""
    deliver(desk, *events(*range(111111111, 111111126)))
    for path in (desk.spool.path / "new").iterdir():
        os.chown(path, 0, 0)
    told = drain(desk, 77).splitlines()
    assert len(told) == 11 and "new: 5 more files like these" in told[-1], told
    assert handled(desk) == []


def test_receiver_beside_a_file_of_root(desk):
    """It starts, and accepts."""
    deliver(desk, *events(111111111))
    os.chown(desk.spool.file("new", "msg_0_111111111"), 0, 0)
    with Socket(desk.place) as server:
        assert_accepted(server.send(signed()))


def doctor(desk):
    done = subprocess.run([PSAPI, "doctor", "--json"], env=desk.place.environment(), capture_output=True, text=True,
                          timeout=60)
    assert "sudo -u root" not in done.stdout
    return {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("where", ["new", "failed", "state", "events", "hold", "lock"])
def test_doctor_finds_it(desk, where):
    deliver(desk, *events(111111111))
    assert doctor(desk)["spool"]["ok"]
    path = desk.spool.path / where / ("" if where == "lock" else "msg_1.json")
    if where == "lock":
        path = desk.spool.path / "lock"
    path.write_text("{}")
    path.chmod(0o600)
    row = doctor(desk)["spool"]
    assert row["ok"] is False and str(path) in row["text"] and "of user root, mode 0600" in row["text"], row
    assert row["remedy"] == f"as root: chown -R nobody {desk.spool.path}"
    give(desk.place)
    path.chmod(0o000)
    row = doctor(desk)["spool"]
    assert row["ok"] is False and "mode 0000" in row["text"] and "chmod -R u+rwX" in row["remedy"], row


AS_NOBODY = ["setpriv", f"--reuid={NOBODY.pw_uid}", f"--regid={NOBODY.pw_gid}", "--clear-groups"]


@pytest.mark.parametrize("where", ["new", "events", "failed", "state", "hold", "tmp"])
def test_directory_of_root(desk, where):
    """Left by a receiver that root once started under umask 077: each program says whose it is, and what mends it."""
    deliver(desk, *events(111111111))
    path = desk.spool.path / where
    os.chown(path, 0, 0)
    path.chmod(0o700)
    said = f"{path}: Permission denied: it belongs to root: as root, chown -R nobody {desk.spool.path}"
    assert drain(desk, 77) == f"psapi: {said}\n"
    row = doctor(desk)["spool"]
    assert row["ok"] is False and f"{row['text']}: {row['remedy']}" == said, row
    for tested in (desk.place.run("-t"), desk.place.run("-t", via=AS_NOBODY)):
        assert tested.returncode == 78 and f"error: spool {said}\n" in tested.stdout, tested
    started = desk.place.run(via=AS_NOBODY, PSAPI_LISTEN=f"unix:{desk.place.dir}/x.sock")
    assert started.returncode == 73 and said in started.stderr, started
    give(desk.place)
    path.chmod(0o000)
    assert drain(desk, 77) == f"psapi: {path}: Permission denied: chmod u+rwx\n"
    path.chmod(0o2770)
    assert drain(desk) == ""
    assert handled(desk) == ["msg_0_111111111"]


def test_lock_of_root(desk):
    deliver(desk, *events(111111111))
    drain(desk)
    lock = desk.spool.path / "lock"
    os.chown(lock, 0, 0)
    lock.chmod(0o600)
    remedy = f"it belongs to root: as root, chown -R nobody {desk.spool.path}"
    assert drain(desk, 77) == f"psapi: {lock}: cannot lock it: Permission denied: {remedy}\n"
    assert f"{lock}: of user root" in doctor(desk)["spool"]["text"]
    give(desk.place)
    assert drain(desk) == ""


def test_doctor_counts_them(desk):
    deliver(desk, *events(111111111, 222222222, 333333333))
    for path in (desk.spool.path / "new").iterdir():
        os.chown(path, 0, 0)
    assert "and 2 more there" in doctor(desk)["spool"]["text"]


def test_files_of_the_group(desk):
    """Several users who share a spool through its group are no fault."""
    deliver(desk, *events(111111111))
    for path in (desk.spool.path / "new").iterdir():
        os.chown(path, 0, NOBODY.pw_gid)
        path.chmod(0o660)
    assert doctor(desk)["spool"]["ok"]
    assert drain(desk) == ""
    assert handled(desk) == ["msg_0_111111111"]


# ---- root calls ----

@pytest.mark.parametrize("arguments", [["send", "http://127.0.0.1:1/"], ["verify", "msg_1"], ["drain"]])
def test_root_without_capabilities(desk, arguments):
    """As in a container that drops all: root cannot become the owner, and each command says so."""
    deliver(desk)
    os.chown(desk.place.secret_file, NOBODY.pw_uid, NOBODY.pw_gid)
    desk.place.secret_file.chmod(0o600)
    done = desk.run(*arguments, expect=None, under=["setpriv", "--inh-caps=-all", "--bounding-set=-all"])
    assert done.returncode > 0, done
    assert f"{desk.spool.path}: cannot become its owner: Operation not permitted" in done.stderr, done


def owners(desk):
    """Of every file and directory in the spool: {(user, mode)} of those that are not as they should be."""
    wrong = {}
    for folder, folders, names in os.walk(desk.spool.path):
        for name in folders + names:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            wanted = 0o2770 if name in folders else 0o640
            if st.st_uid != NOBODY.pw_uid or st.st_mode & 0o7777 != wanted:
                wrong[path] = (st.st_uid, oct(st.st_mode & 0o7777))
    return wrong


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_root_runs_the_commands(desk, umask):
    """Handlers run as nobody, and every file that is made has the spool's owner and the mode of its kind."""
    deliver(desk, *events(111111111, 222222222), signed(b"no JSON", "msg_bad"))
    (desk.spool.path / "lock").unlink(missing_ok=True)
    desk.handler("default", 'id -un >>"$PSAPI_TOLD/who"; exit 75\n')
    run = ["sh", "-c", f'umask {umask:o}; exec "$0" "$@"', PSAPI]
    for arguments in (["retry", "--all"], ["drain"], ["list"], ["done", "msg_0_111111111"],
                      ["replay", "msg_0_111111111"], ["recover"], ["prune", "--older-than", "90d"], ["doctor"],
                      ["attempts"]):
        done = subprocess.run([*run, *arguments], env=desk.environment(), capture_output=True, text=True, timeout=60)
        assert "denied" not in done.stderr and "not permitted" not in done.stderr, (arguments, done)
        assert owners(desk) == {}, arguments
    assert set((desk.told / "who").read_text().split()) == {"nobody"}


@pytest.mark.parametrize("user, home", [(NOBODY.pw_uid, NOBODY.pw_dir), (54321, "/")])
def test_home_of_a_handler(desk, user, home):
    """As under sudo -u: that of its user, not root's, where it could write nothing."""
    deliver(desk, *events(111111111))
    give(desk.place, user, user)
    os.chown(desk.told, user, user)
    desk.handler("default", 'echo "$HOME" >"$PSAPI_TOLD/home"\n')
    done = subprocess.run([PSAPI, "drain"], env={**desk.environment(), "HOME": "/root"}, capture_output=True, text=True,
                          timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (desk.told / "home").read_text() == f"{home}\n"


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_root_adopts(desk, umask):
    """The attempts log is made by the process that adopts."""
    desk.place.write_secret("")
    os.chown(desk.place.secret_file, 0, NOBODY.pw_gid)
    with Socket(desk.place) as server:
        assert server.send(signed()).word == "held"
    give(desk.place)
    (desk.spool.path / "attempts.jsonl").unlink()
    desk.place.write_secret(SECRET)
    os.chown(desk.place.secret_file, 0, NOBODY.pw_gid)
    subprocess.run(["sh", "-c", f'umask {umask:o}; exec "$0" adopt', PSAPI], env=desk.environment(), check=True,
                   capture_output=True, timeout=60)
    assert owners(desk) == {}
    assert len(desk.spool.names("new")) == 1


def test_receiver_as_root(desk):
    """It says so, and makes its files nobody's: events, dead letters, held requests, the log, missing directories."""
    deliver(desk)
    (desk.spool.path / "attempts.jsonl").unlink(missing_ok=True)
    (desk.spool.path / "hold").rmdir()
    with Socket(desk.place) as server:
        log = server.receiver.log()
        assert f"runs as root, and {desk.spool.path} belongs to nobody: start it as that user" in log, log
        assert_accepted(server.send(signed()))
        assert_accepted(server.send(signed(b"no JSON")))
    assert owners(desk) == {}
    assert drain(desk) == ""


@pytest.mark.parametrize("owner, mode, remedy", [
    (0, 0o640, "chown nobody {log}; chmod 0640 {log}; and logrotate needs: su nobody GROUP, nocreate"),
    (1, 0o640, "chown nobody {log}; chmod 0640 {log}; and logrotate needs: su nobody GROUP, nocreate"),
    (NOBODY.pw_uid, 0o444, "chmod 0640 {log}"), (NOBODY.pw_uid, 0o200, "chmod 0640 {log}")])
def test_log_that_the_receiver_cannot_write(desk, owner, mode, remedy):
    """-t warns, in doctor's words; the answers do not depend on it, so it is no error there."""
    deliver(desk)
    log = desk.spool.path / "attempts.jsonl"
    log.touch()
    log.chmod(mode)
    os.chown(log, owner, 0 if owner != NOBODY.pw_uid else NOBODY.pw_gid)
    name = pwd.getpwuid(owner).pw_name
    text = f"{log}: of user {name}, mode {mode:04o}: the receiver, which runs as nobody, cannot write it"
    remedy = remedy.format(log=log)
    for via in ((), AS_NOBODY):
        done = desk.place.run("-t", via=via)
        assert done.returncode == 0 and f"warning: log {text}: {remedy}\n" in done.stdout, done
    row = doctor(desk)["log"]
    assert (row["ok"], row["text"], row["remedy"]) == (False, text, remedy)


@pytest.mark.parametrize("what", ["directory", "link", "FIFO"])
def test_log_that_is_no_file(desk, what):
    deliver(desk)
    log = desk.spool.path / "attempts.jsonl"
    log.unlink(missing_ok=True)
    {"directory": log.mkdir, "FIFO": lambda: os.mkfifo(log), "link": lambda: log.symlink_to("elsewhere")}[what]()
    give(desk.place)
    done = desk.place.run("-t")
    assert done.returncode == 0 and f"warning: log {log}: no regular file: move it away\n" in done.stdout, done


def test_receiver_of_its_own_spool_says_nothing(place):
    with Socket(place) as server:
        assert "runs as root" not in server.receiver.log()


def test_somebody_else_is_told_as_whom(desk):
    """The spool's owner is named; never root for what root must not run."""
    deliver(desk, *events(111111111))
    copy = desk.place.dir / "psapi"
    copy.write_bytes(PSAPI.read_bytes())
    copy.chmod(0o755)
    done = subprocess.run([copy, "drain"], env=desk.environment(), user=12345, group=12345, extra_groups=[],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 77
    assert "run it as root, or as the spool's owner: sudo -u nobody psapi" in done.stderr, done
    # The receiver is told what it must run as.
    copy_of_receiver = desk.place.dir / "psapi-fcgi"
    copy_of_receiver.write_bytes(BINARY.read_bytes())
    copy_of_receiver.chmod(0o755)
    for arguments in (["-t"], ["-o", "PSAPI_LISTEN=127.0.0.1:9"]):
        told = subprocess.run([copy_of_receiver, *arguments], env=desk.environment(), user=12345, group=12345,
                              extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert "Permission denied: the receiver must run as nobody, whose spool it is\n" in told.stdout + told.stderr, told
        assert "run it as root" not in told.stdout + told.stderr, told
    give(desk.place, 0, 0)
    done = subprocess.run([copy, "drain"], env=desk.environment(), user=12345, group=12345, extra_groups=[],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 77 and "run it as root, whose spool it is" in done.stderr, done


@pytest.mark.parametrize("group, mode, works", [(NOBODY.pw_gid, 0o2770, True), (NOBODY.pw_gid, 0o2750, False)])
def test_directory_of_root_around_files_of_nobody(desk, group, mode, works):
    """As a receiver leaves it whose group may write to root's directory: handlers never run as root, and no remedy gives
    root what the receiver needs."""
    deliver(desk, *events(111111111))
    spool = desk.spool.path
    (spool / "lock").unlink(missing_ok=True)
    os.chown(spool, 0, group)
    spool.chmod(mode)
    desk.handler("default", 'id -un >>"$PSAPI_TOLD/who"\n')
    if not works:
        remedy = f"as root: chown nobody:{grp.getgrgid(group).gr_name} {spool}; chmod 2770 {spool}"
        row = doctor(desk)["spool"]
        assert row["ok"] is False and row["remedy"] == remedy, row
        assert remedy in desk.place.run("-t").stdout
        assert f"chown -R nobody {spool}" in drain(desk, 77)
        os.chown(spool, NOBODY.pw_uid, -1)
        spool.chmod(0o2770)
    rows = doctor(desk)
    assert rows["spool"]["ok"] and rows["log"]["ok"], rows
    assert drain(desk) == ""
    assert (desk.told / "who").read_text() == "nobody\n"
    assert owners(desk) == {}
    os.chown(spool, 0, group)
    (spool / "attempts.jsonl").unlink()
    (spool / "hold").rmdir()
    with Socket(desk.place) as server:
        assert_accepted(server.send(signed()))
    assert owners(desk) == {}


@pytest.fixture
def closed(desk):
    """A directory that only root can enter, with spool, secret and configuration file in it; by a link, too."""
    deliver(desk, *events(111111111))
    place = desk.place
    way = place.dir / "closed"
    for name in ("spool", "secret", "psapi.conf"):
        (way / "below").mkdir(exist_ok=True, parents=True)
        (way / "below" / name).write_text("") if name == "psapi.conf" else (place.dir / name).rename(way / "below" / name)
    (place.dir / "link").symlink_to("closed/below")
    way.chmod(0o700)
    return way


@pytest.mark.parametrize("by", ["closed/below", "link"])
def test_directory_on_the_way(desk, closed, by):
    """The remedy is for the first one that cannot be entered, not for what is below it."""
    place, remedy = desk.place, f"chmod a+x {closed}, which user nobody cannot enter"
    spool, secret = (place.dir / by / name for name in ("spool", "secret"))
    for setting, path in (("PSAPI_SPOOL", spool), ("PSAPI_SECRET_FILE", secret)):
        settings = {"PSAPI_SPOOL": closed / "below" / "spool"} | {setting: path}
        done = place.run("-t", **settings)
        assert done.returncode == 78 and f"{path}: Permission denied: {remedy}\n" in done.stdout, done
        rows = subprocess.run([PSAPI, "doctor"], env=place.environment(**settings), capture_output=True, text=True,
                              timeout=60).stdout
        assert f"{path}: Permission denied" in " ".join(rows.split()) and remedy in " ".join(rows.split()), rows
    done = desk.run("drain", env={"PSAPI_SPOOL": spool}, expect=77)
    assert done.stderr == f"psapi: {spool}: Permission denied: {remedy}\n"
    closed.chmod(0o711)
    desk.run("drain", env={"PSAPI_SPOOL": spool, "PSAPI_SECRET_FILE": secret})


def test_configuration_file_of_root(desk, closed):
    """As under umask 077. Root reads it; at the next boot the receiver could not, and cron's drain neither."""
    conf = desk.place.conf
    conf.chmod(0o600)
    closed.chmod(0o711)
    settings = {"PSAPI_SPOOL": closed / "below" / "spool", "PSAPI_SECRET_FILE": closed / "below" / "secret"}

    def told(text):
        done = desk.place.run("-t", **settings)
        assert done.returncode == 78 and f"error: configuration {text}\n" in done.stdout, done
        done = subprocess.run([PSAPI, "doctor", "--json"], env=desk.place.environment(**settings), capture_output=True,
                              text=True, timeout=60)
        row = json.loads(done.stdout.splitlines()[0])
        assert done.returncode == 1 and (row["check"], row["ok"]) == ("configuration", False), done
        assert f"{row['text']}: {row['remedy']}" == text
        done = desk.place.run(via=AS_NOBODY, **settings)
        assert done.returncode == 78 and f"{text}\n" in done.stderr, done

    told(f"{conf}: user nobody cannot read it: Permission denied: chmod 0644 {conf}; or chgrp nogroup {conf}, "
         "and chmod 0640")
    conf.chmod(0o640)
    os.chown(conf, 0, NOBODY.pw_gid)
    assert desk.place.run("-t", **settings).returncode == 0
    settings["PSAPI_CONF"] = closed / "below" / "psapi.conf"
    closed.chmod(0o700)
    told(f"{settings['PSAPI_CONF']}: user nobody cannot read it: Permission denied: "
         f"chmod a+x {closed}, which user nobody cannot enter")


def test_configuration_from_a_pipe(desk):
    """Or from standard input: no other process reads it, and nothing is said of it."""
    deliver(desk)
    conf = desk.place.dir / "root.conf"
    conf.write_text("PSAPI_TOLERANCE=5\n")
    conf.chmod(0o600)
    for script in ('"$0" -t -f <(echo PSAPI_TOLERANCE=5)', f'"$0" -t -f /dev/stdin <{conf}'):
        done = subprocess.run(["bash", "-c", script, BINARY], env=desk.place.environment(), capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 0, done


def test_empty_spool_of_root(desk):
    """It is there: `make it` would mend nothing."""
    spool = desk.place.dir / "empty"
    spool.mkdir(mode=0o755)
    done = desk.place.run("-t", via=AS_NOBODY, PSAPI_SPOOL=spool)
    assert done.returncode == 78 and (
        f"{spool}: of user root, mode 0755: the running user nobody cannot make directories in it: "
        f"as root: chown nobody {spool}; chmod 2770 {spool}\n") in done.stdout, done
    # Another user's is right perhaps, and the caller wrong.
    os.chown(spool, pwd.getpwnam("daemon").pw_uid, -1)
    done = desk.place.run("-t", via=AS_NOBODY, PSAPI_SPOOL=spool)
    assert "run it as root, or as user daemon" in done.stdout and "chown" not in done.stdout, done


def test_users_without_a_name(desk):
    """As each is to the sandboxed receiver. In a shell "#54321" would begin a comment."""
    deliver(desk)
    give(desk.place, 54321, 54321)
    new = desk.spool.path / "new"
    os.chown(new, 54322, 0)
    new.chmod(0o700)
    assert f"it belongs to 54322: as root, chown -R 54321 {desk.spool.path}\n" in drain(desk, 77)
    give(desk.place, 54321, 54321)
    os.chown(desk.spool.path / "new", 54321, 54321)
    done = subprocess.run([PSAPI, "drain"], env=desk.environment(), user=12345, group=12345, extra_groups=[],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 77 and "run it as root, or as user 54321\n" in done.stderr, done


def test_retry_beside_a_bad_file(desk):
    """One dead letter that cannot be moved does not keep the others."""
    deliver(desk, signed(b"no JSON", "msg_a"), signed(b"no JSON", "msg_b"), signed(b"no JSON", "msg_c"))
    os.chown(desk.spool.file("failed", "msg_b"), 0, 0)
    done = desk.run("retry", "--all", expect=77)
    assert sorted(desk.spool.names("new")) == ["msg_a", "msg_c"]
    assert "msg_b" in done.stderr and "chown -R nobody" in done.stderr, done


# ---- the secret ----

def secret(desk, user, mode=0o600):
    desk.place.write_secret(SECRET, mode=mode)
    os.chown(desk.place.secret_file, user, 0)


@pytest.mark.parametrize("command", [["verify", "--all"], ["verify", "msg_0_111111111"],
                                     ["send", "--print", "http://127.0.0.1:1/"], ["adopt"]])
@pytest.mark.parametrize("user", [NOBODY.pw_uid, 0])
def test_root_reads_the_secret_of_the_spools_owner(desk, command, user):
    """Of its owner it is right; of root, mode 0600, the receiver cannot read it, but these can."""
    deliver(desk, *events(111111111))
    secret(desk, user)
    done = desk.run(*command, expect=0)
    assert "owned by" not in done.stderr and "secret" not in done.stderr, done


def test_root_reads_secrets_of_both(desk):
    """verify takes several files, of root and of the spool's owner."""
    deliver(desk, *events(111111111))
    secret(desk, NOBODY.pw_uid)
    other = desk.place.dir / "old"
    other.write_text("whsec_" + "B" * 32 + "\n")
    other.chmod(0o600)
    desk.run("verify", "--all", "--secret-file", other, expect=0)
    desk.run("send", "--print", "--secret-file", other, "http://127.0.0.1:1/", expect=0)


def test_t_as_root(desk):
    """As the spool's owner, so that it tries what the receiver will do."""
    deliver(desk)
    secret(desk, NOBODY.pw_uid)
    done = desk.place.run("-t")
    assert done.returncode == 0 and done.stdout.startswith(f"as nobody, the owner of {desk.spool.path}:\n"), done
    assert f"ok: secret {desk.place.secret_file}: 1 usable" in done.stdout
    secret(desk, 0)
    done = desk.place.run("-t")
    assert done.returncode == 78 and "the receiver must be able to read it: chgrp to its group, chmod 0640" in done.stdout
    assert owners(desk) == {}


def test_t_as_root_of_its_own_spool(place):
    with Socket(place):
        pass
    assert "the owner of" not in place.run("-t").stdout


@pytest.mark.parametrize("owner, name", [(1, "daemon"), (54321, "54321")])
def test_secret_of_a_third_user(desk, owner, name):
    """The remedy keeps it readable to the receiver."""
    deliver(desk)
    secret(desk, owner, 0o640)
    os.chown(desk.place.secret_file, owner, NOBODY.pw_gid)
    words = f"{desk.place.secret_file}: owned by user {name}, neither root nor the running user nobody"
    remedy = "chown root:nogroup, and chmod 0640"
    for told in (desk.run("verify", "--all", expect=66).stderr, desk.place.run("-t").stdout,
                 desk.run("send", "--print", "http://127.0.0.1:1/", expect=66).stderr):
        assert f"{words}: {remedy}" in told, told
    row = doctor(desk)["secret"]
    assert (row["text"], row["remedy"]) == (words, remedy)
    os.chown(desk.place.secret_file, 0, NOBODY.pw_gid)      # as told
    assert doctor(desk)["secret"]["ok"]


def test_secret_given_away_while_the_receiver_runs(desk):
    """In its sandbox it may not look a name up: then the number is enough. The old secrets stay in force."""
    with Socket(desk.place) as server:
        assert_accepted(server.send(signed(webhook_id="msg_first")))
        secret(desk, 1, 0o640)
        assert_accepted(server.send(signed(webhook_id="msg_second")))
        log = server.receiver.log()
        assert re.search(r"owned by user (daemon|1), neither root nor the running user (root|0): .*chown root", log), log
        assert "the secrets read before stay in force" in log
