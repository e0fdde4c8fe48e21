"""The systemd unit: its variables are settings, its paths those of the page, and it is closed as far as it can be."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from wyoming_chatterbox.__main__ import EXIT_USAGE
from wyoming_chatterbox.knobs import knobs_of
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.serving import ROOT

UNIT = ROOT / "systemd" / "wyoming-chatterbox.service"
DROP_IN = ROOT / "systemd" / "nvidia.conf"
PAGE = (ROOT / "docs" / "install.md").read_text()


def values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.M)


def test_its_variables_are_settings() -> None:
    named = {line.split("=")[0] for line in values("Environment")}
    ours = {name for name in named if name.startswith("WYOMING_CHATTERBOX_")}
    assert ours
    assert ours <= {knob.environment for knob in knobs_of(Settings)}
    assert "WYOMING_CHATTERBOX_DATA_DIR=%S/wyoming-chatterbox" in values("Environment"), "the page says so"


def test_a_wrong_setting_is_not_tried_again() -> None:
    assert values("RestartPreventExitStatus") == [str(EXIT_USAGE)]
    assert float(values("TimeoutStopSec")[0]) > Settings().shutdown_timeout + 2


def test_what_the_page_on_security_says_of_it() -> None:
    assert values("DynamicUser") == ["yes"]
    assert values("ProtectSystem") == ["strict"], "read-only"
    assert values("CapabilityBoundingSet") == [""]
    assert values("NoNewPrivileges") == ["yes"]
    assert not values("User")
    page = (ROOT / "docs" / "security.md").read_text()
    assert "`DynamicUser`" in page and "read-only; its state and cache folders" in page


def test_the_page_says_where_its_files_are() -> None:
    program = values("ExecStart")[0]
    assert program == "/opt/wyoming-chatterbox/.venv/bin/wyoming-chatterbox"
    assert "/opt/wyoming-chatterbox/script/setup" in PAGE
    for path in (values("EnvironmentFile")[0].lstrip("-"), f"/var/lib/{values('StateDirectory')[0]}"):
        assert path in PAGE
    assert f"/etc/systemd/system/{UNIT.name}.d/{DROP_IN.name}" in PAGE + DROP_IN.read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("gpu", [False, True])
def test_what_systemd_thinks_of_it_is_what_the_page_says(tmp_path: Path, gpu: bool) -> None:
    shutil.copy(UNIT, tmp_path)
    if gpu:
        folder = tmp_path / f"{UNIT.name}.d"
        folder.mkdir()
        shutil.copy(DROP_IN, folder)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", tmp_path / UNIT.name],
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: (\d+\.\d)", done.stdout)
    assert found, done.stdout + done.stderr
    said = re.search(r"rates the unit (\d+\.\d) of 10, with the GPU's drop-in (\d+\.\d)", PAGE.replace("\n", " "))
    assert said is not None
    # Another systemd weighs a little differently.
    assert abs(float(found.group(1)) - float(said.group(2 if gpu else 1))) <= 0.3


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(values("ExecStart")[0], "/bin/true"))
    folder = tmp_path / f"{UNIT.name}.d"
    folder.mkdir()
    shutil.copy(DROP_IN, folder)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert not [line for line in done.stderr.splitlines() if UNIT.name in line or DROP_IN.name in line], done.stderr


def test_the_apps_profile_lets_the_server_use_its_folders() -> None:
    """In AppArmor `/data/**` is all that is in the folder, but not the folder: `/data/{,**}` is both."""
    profile = (ROOT / "addon" / "apparmor.txt").read_text()
    rules = dict(re.findall(r"^ {4}(/\S+) (\w+),$", profile.partition("profile server")[2], re.M))
    for folder in ("/data", "/share/wyoming-chatterbox", "/tmp"):
        assert set("rwk") <= set(rules[f"{folder}/{{,**}}"]), folder
    assert set("mr") <= set(rules["/opt/wyoming-chatterbox/{,**}"])
    variables = re.findall(r"(?:_DIR|_HOME|_FILE)=(/\S+)", (ROOT / "addon" / "Dockerfile").read_text())
    assert len(variables) >= 6
    assert not [one for one in variables if not one.startswith(("/data", "/share/wyoming-chatterbox", "/tmp/"))]


@pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="apparmor_parser is not installed")
def test_the_apps_profile_can_be_compiled(tmp_path: Path) -> None:
    """And one with a mistake cannot."""
    profile = (ROOT / "addon" / "apparmor.txt").read_text()
    for text, status in ((profile, 0), (profile.replace("cx -> server", "cx -> "), 1)):
        path = tmp_path / "profile"
        path.write_text(text)
        done = subprocess.run(["apparmor_parser", "-QKS", path], capture_output=True, timeout=100)
        assert bool(done.returncode) is bool(status), done.stderr
    # The name that the Supervisor replaces by the app's slug is at the left, once.
    assert len(re.findall(r"^profile (\w+)", profile, re.M)) == 1
