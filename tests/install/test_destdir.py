"""make install, uninstall and dist: in a DESTDIR, and with other directories."""

import gzip
import hashlib
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from receiver import ROOT

# -o all: nothing is built again with the directories of a test.
MAKE = ["make", "-s", "--no-print-directory", "-C", str(ROOT), "-o", "all"]


def make(*arguments):
    done = subprocess.run([*MAKE, *map(str, arguments)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(directory):
    return {str(p.relative_to(directory)) for p in Path(directory).rglob("*") if p.is_file()}


@pytest.mark.parametrize("server", ["nginx", "apache-fcgid", "cgi"])
def test_e2e_from_there(installed, server):
    """The suite with the installed programs. The shipped files of web servers have their paths."""
    snippet = installed / "destdir/etc/nginx/snippets/psapi.conf"
    assert snippet.read_text() == (ROOT / "nginx/psapi.conf").read_text()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "120", f"--server={server}", "--store=spool",
         "tests/e2e/test_accept.py", "tests/e2e/test_refusals.py"], cwd=ROOT, text=True, capture_output=True,
        timeout=280, env=os.environ | {"PSAPI_BIN": str(installed / "destdir/usr/local/bin")})
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20, done.stdout


def test_man_pages_and_completion(installed):
    there = files(installed / "destdir/usr/local/share")
    assert {"man/man8/psapi-fcgi.8", "man/man1/psapi.1", "man/man5/psapi-spool.5", "man/man5/psapi.conf.5",
            "man/man7/psapi-handlers.7", "bash-completion/completions/psapi",
            "zsh/site-functions/_psapi"} <= there


def test_every_directory_can_be_chosen(tmp_path):
    """Installed files have the right paths of each other, and no others."""
    make("install", f"DESTDIR={tmp_path}", "prefix=/opt/p", "exec_prefix=/opt/e", "sysconfdir=/opt/etc",
         "localstatedir=/opt/var", "runstatedir=/opt/run", "mandir=/opt/man", "docdir=/opt/doc")
    there = files(tmp_path)
    assert {name.split("/")[0] for name in there} == {"opt"}
    assert {"opt/e/bin/psapi", "opt/e/bin/psapi-fcgi", "opt/e/bin/psapi-web", "opt/etc/psapi/psapi.conf", "opt/doc/README.md",
            "opt/p/lib/systemd/system/psapi-fcgi.socket"} <= there
    for name in (name for name in there if (tmp_path / name).read_bytes()[:4] != b"\x7fELF"):
        if name.startswith("opt/doc/") and not name.startswith("opt/doc/examples/"):
            continue    # of the documents only the paths of programs and files
        text = (tmp_path / name).read_text()
        assert not re.search(r"(?<!opt)/(usr/local/bin|etc|var/spool|var/lib|run)/psapi", text), name


def test_the_programs_know_where_their_settings_are(tmp_path):
    """In a separate build: the defaults are compiled in."""
    out = ["OUT=" + str(tmp_path / "o"), f"BIN={tmp_path}/o/", "sysconfdir=/opt/etc", "localstatedir=/opt/var"]
    make(*out, f"{tmp_path}/o/psapi-fcgi")
    shown = subprocess.run([tmp_path / "o/psapi-fcgi", "-h"], capture_output=True, text=True).stdout
    for path in ("/opt/etc/psapi/psapi.conf", "/opt/etc/psapi/secret", "/opt/var/spool/psapi",
                 "/opt/etc/psapi/handlers.d"):
        assert path in shown
    assert " /etc/" not in shown and " /var/" not in shown


def test_again_and_away(tmp_path):
    """Files that the administrator has changed survive a second install, and an uninstall."""
    make("install", f"DESTDIR={tmp_path}")
    conf = tmp_path / "etc/psapi/psapi.conf"
    conf.write_text("PSAPI_THREADS=4\n")
    assert f"{conf}: is there, and stays" in make("install", f"DESTDIR={tmp_path}")
    assert conf.read_text() == "PSAPI_THREADS=4\n"
    make("uninstall", f"DESTDIR={tmp_path}")
    assert files(tmp_path) == {"etc/psapi/psapi.conf", "etc/nginx/snippets/psapi.conf",
                               "etc/apache2/conf-available/psapi.conf", "etc/logrotate.d/psapi-fcgi",
                               "etc/nginx/snippets/psapi-web.conf", "etc/apache2/conf-available/psapi-web.conf"}


def test_dist(tmp_path):
    """The tarball has the files of git, always the same bytes, and builds."""
    if subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True).returncode != 0:
        pytest.skip("no git repository: a tarball is made from one")
    sums = set()
    for _ in range(2):
        tarball = ROOT / make("dist").strip()
        sums.add(hashlib.sha256(tarball.read_bytes()).hexdigest())
    assert len(sums) == 1
    assert tarball == ROOT / f"dist/psapi-fcgi-{version()}.tar.gz"
    assert gzip.open(tarball).read(1)
    with tarfile.open(tarball) as archive:
        archive.extractall(tmp_path)
    source = tmp_path / f"psapi-fcgi-{version()}"
    tracked = subprocess.run(["git", "-C", ROOT, "ls-tree", "-r", "--name-only", "HEAD"], text=True,
                             capture_output=True, check=True).stdout.split("\n")
    assert files(source) == set(filter(None, tracked))
    subprocess.run(["make", "-s", "-C", source, "psapi-fcgi"], check=True, capture_output=True, timeout=280)
    assert version() in subprocess.run([source / "psapi-fcgi", "-V"], capture_output=True, text=True).stdout


def version():
    return re.search(r"^VERSION = (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1)
