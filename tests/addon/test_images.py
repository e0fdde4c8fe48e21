"""What can be told of the images without building them; script/check-image builds and runs them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wyoming_chatterbox.testing.serving import ROOT, environment

FILES = ["Dockerfile", "addon/Dockerfile"]


def instructions(path: str) -> list[tuple[str, str]]:
    """(name, arguments) of a Dockerfile's instructions, each on one line."""
    lines = [line for line in (ROOT / path).read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def every(path: str, name: str) -> list[str]:
    return [arguments for one, arguments in instructions(path) if one == name]


@pytest.mark.parametrize("path", FILES)
def test_what_is_copied_is_there_and_not_ignored(path: str) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for arguments in every(path, "COPY") for source in arguments.split()[:-1]]
    assert "wyoming_chatterbox" in copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(source == one or source.startswith(f"{one}/") for one in allowed), f"{source} is ignored"


@pytest.mark.parametrize("path", FILES)
def test_all_that_decides_what_is_installed_is_copied(path: str) -> None:
    decides = re.findall(r'"([\w.-]+\.(?:toml|txt))"', (ROOT / "script" / "_environment.py").read_text())
    copied = " ".join(every(path, "COPY")).split()
    assert len(set(decides)) >= 4
    assert set(decides) <= set(copied)


def test_both_images_install_in_the_same_way() -> None:
    server, app = ([line for line in every(path, "RUN") if "script/setup" in line] for path in FILES)
    assert len(server) == 1
    assert server == app


@pytest.mark.parametrize("path", FILES)
def test_the_health_check_is_ours_and_its_limit_is_long_enough(path: str) -> None:
    (check,) = every(path, "HEALTHCHECK")
    assert json.loads(check[check.index("[") :]) == ["python", "-m", "wyoming_chatterbox.healthcheck"]
    help_text = subprocess.run(
        [sys.executable, "-m", "wyoming_chatterbox.healthcheck", "--help"],
        capture_output=True,
        text=True,
        env=environment(),
    ).stdout
    own = re.search(r"for one address \(default: (\d+)\)", help_text)
    limit = re.search(r"--timeout=(\d+)s", check)
    assert own is not None and limit is not None
    assert int(limit.group(1)) > int(own.group(1))


def test_the_server_is_not_root_and_the_app_is_s6s() -> None:
    assert every("Dockerfile", "USER") == ["10200:10200"]
    assert every("Dockerfile", "VOLUME") == ['["/data"]']
    assert every("addon/Dockerfile", "USER") == []
    assert every("addon/Dockerfile", "ENTRYPOINT") == [], "the base image's /init"


@pytest.mark.parametrize("path", FILES)
def test_the_base_image_is_one_debian_release(path: str) -> None:
    (base,) = every(path, "FROM")
    assert re.fullmatch(r"[a-z0-9./-]+:trixie(-slim)?(@sha256:[0-9a-f]{64})?", base)


def test_the_servers_base_image_is_pinned_to_its_content() -> None:
    (base,) = every("Dockerfile", "FROM")
    assert re.search(r"@sha256:[0-9a-f]{64}$", base)


def test_the_profile_names_the_python_of_that_release() -> None:
    """trixie's is 3.13: a transition needs the exact name."""
    profile = (ROOT / "addon" / "apparmor.txt").read_text()
    assert re.findall(r"^  (\S+) cx -> server,", profile, re.M) == [
        "/opt/wyoming-chatterbox/.venv/bin/wyoming-chatterbox",
        "/usr/bin/python3.13",
    ]
    (folder,) = {path for path in every("addon/Dockerfile", "WORKDIR") if path != "/"}
    assert f"{Path(folder)}/.venv/bin/wyoming-chatterbox cx" in profile


def test_the_apps_server_may_neither_read_nor_write_where_s6_keeps_the_supervisors_token() -> None:
    profile = (ROOT / "addon" / "apparmor.txt").read_text()
    server = profile[profile.index("profile server") :]
    assert re.findall(r"^ +(?:owner )?/run\S* ", server, re.M) == []
