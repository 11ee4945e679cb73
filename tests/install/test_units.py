"""The systemd units, sysusers.d, tmpfiles.d and the shipped configuration, checked with systemd's own tools."""

import os
import re
import shutil
import subprocess

import pytest

from receiver import BINARY, ROOT

MOST_EXPOSED = 1.5      # systemd-analyze security: 0 is none, 10 all


@pytest.fixture
def units(installed, tmp_path):
    """The installed units. For the templates, which cannot be loaded themselves, an instance of each."""
    for unit in (installed / "destdir/usr/local/lib/systemd/system").iterdir():
        shutil.copy(unit, tmp_path / unit.name.replace("@.", "@name."))
    return tmp_path


def exposure(*arguments):
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager", *arguments],
                          capture_output=True, text=True)
    [found] = re.findall(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    return float(found)


def test_verify(units, installed):
    """systemd-analyze verify reports nothing, with an existing user and the right paths of the programs."""
    for unit in units.iterdir():
        text = unit.read_text().replace("/usr/local/bin/", f"{installed}/destdir/usr/local/bin/")
        unit.write_text(re.sub(r"^(User|Group|SocketUser|SocketGroup)=.*$", r"\1=root", text, flags=re.M))
    names = sorted(str(unit) for unit in units.iterdir())
    assert len(names) == 20
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


@pytest.mark.parametrize("name", ["psapi-fcgi.service", "psapi-fcgi@name.service", "psapi-web.service"])
def test_the_receiver_is_hardly_exposed(units, name):
    assert exposure(units / name) <= MOST_EXPOSED


def test_strict_drain_is_hardly_exposed(units, installed):
    """psapi-drain-strict.conf forbids what some handlers need; psapi-drain.service says why it does not."""
    strict = (installed / "destdir/usr/local/share/doc/psapi-fcgi/examples/systemd/psapi-drain-strict.conf")
    unit = units / "psapi-drain.service"
    assert exposure(unit) > MOST_EXPOSED and "psapi-drain-strict.conf" in unit.read_text()
    unit.write_text(unit.read_text() + strict.read_text())
    assert exposure(unit) <= MOST_EXPOSED


def test_templates_differ_in_nothing_but_the_name():
    """Both units of a pair have the same directives."""
    def settings(path):
        lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        return [line.replace("psapi/%i.sock", "psapi/psapi.sock").replace(" (%i)", "").replace("@%i", "")
                .replace("=-/var/spool/psapi", "=/var/spool/psapi").replace("psapi-%i", "psapi")
                for line in lines if not line.startswith(("Environment=PSAPI_CONF=", "ExecStartPre=",
                                                          "InaccessiblePaths="))]

    templates = sorted((ROOT / "packaging/systemd").glob("*@.*"))
    assert len(templates) == 8
    for template in templates:
        assert settings(template) == settings(template.with_name(template.name.replace("@", ""))), template


def test_the_receiver_tells_when_it_is_ready(installed):
    service = (installed / "destdir/usr/local/lib/systemd/system/psapi-fcgi.service").read_text()
    assert "\nType=notify\n" in service


def test_users_and_directories(installed, tmp_path):
    """The users and directories that sysusers.d and tmpfiles.d make, below another root."""
    if os.geteuid() != 0:
        pytest.skip("users and their directories can be made by root only")
    shutil.copytree(installed / "destdir", tmp_path, dirs_exist_ok=True)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nwww-data:x:33:\n")
    for tool in ("systemd-sysusers", "systemd-tmpfiles"):
        create = ["--create"] if tool == "systemd-tmpfiles" else []
        subprocess.run([tool, f"--root={tmp_path}", *create, "psapi-fcgi.conf"],
                       check=True, capture_output=True)
    [user] = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines() if "psapi" in line]
    assert user[5:] == ["/var/lib/psapi", "/usr/sbin/nologin"]
    assert (tmp_path / "var/spool/psapi").stat().st_mode & 0o7777 == 0o2770
    assert (tmp_path / "var/spool/psapi").stat().st_uid == int(user[2])
    assert (tmp_path / "run/psapi").stat().st_uid == 0


def test_shipped_settings_are_the_defaults():
    """packaging/etc/psapi.conf has every setting with its default."""
    table = subprocess.run([BINARY, "-h"], capture_output=True, text=True).stdout
    defaults = dict(re.findall(r"^  (PSAPI_\w+) .*\(default (.*)\)$", table, re.M))
    shown = dict(re.findall(r"^#?(PSAPI_\w+)=(.*)$", (ROOT / "packaging/etc/psapi.conf").read_text(), re.M))
    assert set(shown) == set(defaults)
    for key in set(defaults) - {"PSAPI_LISTEN", "PSAPI_LISTEN_GROUP"}:
        assert (shown[key] or "none") == defaults[key], key
    socket = (ROOT / "packaging/systemd/psapi-fcgi.socket").read_text()
    assert f"ListenStream={shown['PSAPI_LISTEN'].removeprefix('unix:')}\n" in socket
    assert f"SocketGroup={shown['PSAPI_LISTEN_GROUP']}\n" in socket
