"""The pages about installing: links lead somewhere, and what a user is told to type is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from wyoming_chatterbox.protocol.info import PROGRAM_NAME
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.speech.metrics import UtteranceMetrics
from wyoming_chatterbox.testing.serving import ROOT, environment

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "addon").glob("*.md")])


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        parts = urlsplit(target)
        ours = re.match(r"https://github\.com/wyoming-chatterbox/wyoming-chatterbox/blob/main/(.*?)(#|$)", target)
        if parts.scheme and ours is None:
            assert parts.scheme == "https", target
            continue
        if ours is not None:  # Home Assistant shows the app's pages outside the repository
            path = ROOT / ours.group(1)
        else:
            path = (page.parent / parts.path).resolve() if parts.path else page
        assert path.exists(), f"{page.name} links to {target}"
        if parts.fragment and path.suffix == ".md":
            assert parts.fragment in anchors(path), f"{page.name} links to {target}"


def test_a_link_to_nowhere_would_be_noticed() -> None:
    assert "by-hand" in anchors(ROOT / "docs" / "home-assistant.md")
    assert "by-foot" not in anchors(ROOT / "docs" / "home-assistant.md")


def test_what_to_type_by_hand_is_where_the_server_listens() -> None:
    port = urlsplit(Settings().uri[0]).port
    page = (ROOT / "docs" / "home-assistant.md").read_text()
    assert re.search(rf"^\| Port \| `{port}` \| `{port}`", page, re.M)
    assert f"The name of the new entry is *{PROGRAM_NAME}*" in page
    for text in ((ROOT / "addon" / "config.yaml").read_text(), (ROOT / "Dockerfile").read_text()):
        assert f"{port}/tcp" in text
    assert f":{port}" in (ROOT / "addon/rootfs/etc/s6-overlay/s6-rc.d/discovery/run").read_text()


def test_the_commands_of_the_page_are_those_of_the_files() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    assert "docker compose --profile gpu up -d gpu" in page
    assert services["gpu"]["profiles"] == ["gpu"]
    assert "profiles" not in services["wyoming-chatterbox"], "`docker compose up` starts it"
    devices = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert [one["driver"] for one in devices] == ["nvidia"]
    for service in services.values():
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["network_mode"] == "host"


def test_the_health_command_of_the_page_runs() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    assert ".venv/bin/python -m wyoming_chatterbox.healthcheck\n" in page
    done = subprocess.run(
        [sys.executable, "-m", "wyoming_chatterbox.healthcheck", "--help"],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0
    assert "Exit status" in done.stdout


def test_the_log_line_that_the_page_shows_has_the_fields_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    shown = re.findall(r"(\w+)=", page.partition("Utterance 7:")[2].partition("\n\n")[0])
    with caplog.at_level("INFO"):
        UtteranceMetrics(id=7, streamed=True, received=0.0).log()
    assert shown == re.findall(r"(\w+)=", caplog.messages[-1])


def test_the_sample_is_a_small_picture() -> None:
    path = ROOT / "docs" / "sample.png"
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size < 200_000
    assert "docs/sample.png" in (ROOT / "README.md").read_text()
