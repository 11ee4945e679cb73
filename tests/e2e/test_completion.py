"""packaging/completion: bash and zsh find and load them, and complete subcommands, options and values."""

import re
import subprocess

import pytest

from psapi_command import PSAPI, Desk
from receiver import ROOT, SLOWER
from sender import SECRET, signed

# The work of readline: $1 is the line; words are split at blanks and COMP_WORDBREAKS.
ASK = r"""
. /usr/share/bash-completion/bash_completion || exit 9
compopt() { :; }        # bash's own, for a completion that readline has asked for
_completion_loader psapi
complete -p psapi >&2 || exit 9
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_KEY=9
mapfile -t COMP_WORDS < <(printf '%s' "$1" | sed 's/[:=]/ & /g' | tr -s ' ' '\n')
[[ $1 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMPREPLY=()
_psapi psapi "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def desk(place):
    desk = Desk(place)
    folder = place.dir / "bash" / "completions"
    folder.mkdir(parents=True)
    (folder / "psapi").symlink_to(ROOT / "packaging/completion" / "psapi")
    patient = place.dir / "patient"
    patient.mkdir()
    (patient / "timeout").write_text('#!/bin/sh\nshift\nexec "$@"\n')      # 2 s, which a busy machine may need
    (patient / "timeout").chmod(0o755)
    yield desk
    desk.close()


def complete(desk, line):
    """The completions of this line."""
    environment = desk.environment() | {"BASH_COMPLETION_USER_DIR": str(desk.place.dir / "bash"),
                                        "PATH": f"{desk.place.dir}/patient:{PSAPI.parent}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "--norc", "-c", ASK, "bash", line], cwd=desk.place.dir,
                          env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60 * SLOWER)
    assert done.returncode == 0 and done.stderr == "complete -F _psapi psapi\n", done
    return done.stdout.splitlines()


def test_subcommands(desk):
    overview = desk.run("help").stdout
    known = re.findall(r"^  ([a-z]+) +\S", overview, re.M)
    assert len(known) > 10
    assert complete(desk, "psapi ") == known
    assert complete(desk, "psapi re") == ["retry", "replay", "recover"]
    assert complete(desk, "psapi --spool /x re") == ["retry", "replay", "recover"]
    assert complete(desk, "psapi help sh") == ["show"]
    assert complete(desk, "psapi help set") == ["setup", "settings"]
    assert complete(desk, "psapi help show ") == []


def test_options(desk):
    """The options of the subcommand, and those of all subcommands."""
    common = {"-f", "--file", "-o", "--set", "--spool", "--json", "--wide", "--local-time", "-h", "--help", "-V", "--version"}
    assert set(complete(desk, "psapi -")) == common
    common -= {"-V", "--version"}                       # of psapi alone
    assert set(complete(desk, "psapi drain -")) == {"-j", "--jobs", "--batch", "-v", "--verbose"} | common
    assert set(complete(desk, "psapi prune --")) >= {"--older-than", "--dry-run", "--force", "--json"}
    assert complete(desk, "psapi send --wr") == ["--wrong-secret"]
    assert complete(desk, "psapi attempts -f --ou") == ["--outcome"]
    assert complete(desk, "psapi list --json --wa") == ["--waiting"]


def test_values(desk):
    assert complete(desk, "psapi list --type producersync.npn.d") == ["producersync.npn.deactivated"]
    assert complete(desk, "psapi attempts --outcome ") == [
        "accepted", "duplicate", "held", "ignored", "rejected", "error"]
    assert complete(desk, "psapi -o PSAPI_TH") == ["PSAPI_THREADS="]
    assert complete(desk, "psapi secret ") == ["add", "list", "drop"]
    assert "90d" in complete(desk, "psapi prune --older-than ")
    assert complete(desk, "psapi doctor --socket unix:") == ["/"], "what follows the colon"
    assert complete(desk, "psapi drain -j ") == []
    assert "jq" in complete(desk, "psapi drain -- jq")


def test_files(desk):
    (desk.place.dir / "a-directory").mkdir()
    (desk.place.dir / "a-file").write_text("")
    assert complete(desk, "psapi --spool a-") == ["a-directory"]
    assert sorted(complete(desk, "psapi -f a-")) == ["a-directory", "a-file"]
    assert sorted(complete(desk, "psapi verify a-")) == ["a-directory", "a-file"]
    assert complete(desk, "psapi attempts -f a-") == [], "there it takes no file"
    assert sorted(complete(desk, "psapi metrics a-")) == ["a-directory", "a-file"]
    assert complete(desk, "psapi check -w ") == []


def test_ids(desk):
    """Of the spool in the line; retry completes failed events, and those that wait for a retry."""
    waiting, failed, colon = desk.deliver(signed(webhook_id="msg_waiting"),
                                          signed(b"no JSON", webhook_id="msg_failed"),
                                          signed(webhook_id="msg:colon"))
    assert sorted(complete(desk, "psapi show msg_")) == [failed, waiting]
    assert complete(desk, "psapi done msg_w") == [waiting]
    assert complete(desk, "psapi retry ") == [failed]
    assert complete(desk, "psapi show msg:") == ["colon"], "bash takes what follows the colon for the word"
    assert waiting in complete(desk, "psapi verify m")
    assert complete(desk, "psapi replay ") == []
    desk.write_state(waiting, tries=1, due_at="2199-01-01T00:00:00Z", reason="exit status 75")
    assert sorted(complete(desk, "psapi retry ")) == [failed, waiting]
    desk.run("retry", waiting)
    other = desk.place.dir / "other"
    other.mkdir()
    assert complete(desk, f"psapi --spool {other} retry ") == []
    conf = desk.place.dir / "other.conf"
    conf.write_text(f"PSAPI_SPOOL={desk.spool.path}\n")
    del desk.place.settings["PSAPI_SPOOL"]
    assert complete(desk, f"psapi -f {conf} retry ") == [failed]
    desk.place.settings["PSAPI_SPOOL"] = desk.spool.path


def test_fingerprints(desk):
    assert complete(desk, "psapi secret drop ") == [
        row["fingerprint"] for row in desk.rows("secret", "list")]
    desk.place.write_secret("# none", "")
    assert complete(desk, "psapi secret drop ") == []
    desk.place.write_secret(SECRET)



# ---- zsh ----

# A real zsh with its line editor on a pseudo-terminal. What it would offer goes into a file: compadd is asked for the
# matches first. The last word of the line is completed by the key TAB.
ZSH = r"""
zmodload zsh/zpty || exit 9
zpty z zsh -f -i
zpty -w z "PROMPT=; fpath=($FOLDER \$fpath); autoload -U compinit; compinit -u -D"
zpty -w z "bindkey '^I' complete-word; zstyle ':completion:*' insert-tab false; LISTMAX=9999"
zpty -w z 'compadd() { local -a found; if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
builtin compadd -O found "$@"; print -rl -- $found >>$OUT; builtin compadd "$@"; }'
zpty -w z 'finished() { print -r -- "(end)" >>$OUT; exit }; comppostfuncs=(finished)'
zpty -w z 'print -r -- "(ready)" >>$OUT'
until [[ -s $OUT ]]; do sleep 0.05; done
zpty -n -w z "$1"$'\t'
for ((i = 0; i < 400; i++)); do
	[[ $(tail -n 1 $OUT) != "(end)" ]] || break
	zpty -r -t z >/dev/null 2>&1
	sleep 0.05
done
zpty -d z
"""


def complete_zsh(desk, line):
    out = desk.place.dir / "zsh.out"
    out.unlink(missing_ok=True)
    environment = desk.environment() | {"FOLDER": str(ROOT / "packaging/completion"), "OUT": str(out), "TERM": "dumb",
                                        "PATH": f"{desk.place.dir}/patient:{PSAPI.parent}:/usr/bin:/bin", "HOME": str(desk.place.dir)}
    done = subprocess.run(["zsh", "-f", "-c", ZSH, "zsh", line], cwd=desk.place.dir, env=environment, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=60 * SLOWER)
    assert done.returncode == 0, done
    lines = out.read_text().splitlines()
    assert lines[0] == "(ready)" and lines[-1] == "(end)", lines
    return [found for found in lines[1:-1] if found]


def test_zsh(desk):
    waiting, failed = desk.deliver(signed(webhook_id="msg_waiting"), signed(b"no JSON", webhook_id="msg_failed"))
    known = re.findall(r"^  ([a-z]+) +\S", desk.run("help").stdout, re.M)
    assert sorted(complete_zsh(desk, "psapi ")) == sorted(known)
    assert sorted(complete_zsh(desk, "psapi --spool /x re")) == ["recover", "replay", "retry"]
    assert set(complete_zsh(desk, "psapi help set")) == {"setup", "settings"}
    assert set(complete_zsh(desk, "psapi prune --")) >= {"--older-than", "--dry-run", "--force", "--json"}
    assert complete_zsh(desk, "psapi send --wr") == ["--wrong-secret"]
    assert "--version" in complete_zsh(desk, "psapi --") and "--version" not in complete_zsh(desk, "psapi list --")
    assert complete_zsh(desk, "psapi attempts --outcome ac") == ["accepted"]
    assert complete_zsh(desk, "psapi -o PSAPI_TH") == ["PSAPI_THREADS"]
    assert sorted(complete_zsh(desk, "psapi show msg_")) == [failed, waiting]
    assert complete_zsh(desk, f"psapi --spool {desk.spool.path} retry ") == [failed]
    desk.write_state(waiting, tries=1, due_at="2199-01-01T00:00:00Z", reason="exit status 75")
    assert sorted(complete_zsh(desk, "psapi retry ")) == [failed, waiting]
    (desk.place.dir / "a-directory").mkdir()
    assert "a-directory" in " ".join(complete_zsh(desk, "psapi --spool a-"))
    assert "jq" in complete_zsh(desk, "psapi drain -- jq")
    assert complete_zsh(desk, "psapi roster --at 9") == ["90d"]
