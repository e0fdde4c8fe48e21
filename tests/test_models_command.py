"""`wyoming-chatterbox models`: what is on the disk, downloads, checks and deletions, with a hub of our own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.weights import hub_server as hubs
from tests.engine.weights.hub_server import Hub
from tests.engine.weights.test_download import _use_endpoint
from wyoming_chatterbox.commands import models
from wyoming_chatterbox.engine.registry import MODELS
from wyoming_chatterbox.errors import SettingsError

FILES = {"big.bin": b"b" * 50_000, "own.bin": b"o" * 20_000, "tiny.json": b"{}"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Has a repository that nano takes whole, and turbo but for one file."""
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: run script/setup --chatterbox")
    with hubs.running(Hub(FILES)) as one:
        _use_endpoint(monkeypatch, one.url)
        part = dataclasses.replace(
            one.repository, files=tuple(file for file in one.repository.files if file.name != "own.bin")
        )
        changed = {"nano": one.repository, "turbo": part}
        for name, repository in changed.items():
            monkeypatch.setitem(MODELS, name, dataclasses.replace(MODELS[name], repository=repository))  # type: ignore[arg-type]
        yield one


def _run(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str) -> tuple[int, str, str]:
    status = models.run([*arguments, "--download-dir", str(tmp_path)], environment={})
    said = capsys.readouterr()
    return status, said.out, said.err


def _states(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> dict[str, str]:
    _, out, _ = _run(capsys, tmp_path, "list", "--json")
    return {row["name"]: row["state"] for row in json.loads(out)["models"]}


def test_a_model_is_downloaded_listed_verified_and_removed(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(_states(capsys, tmp_path)) == list(MODELS)
    assert _states(capsys, tmp_path)["nano"] == "no"
    assert _states(capsys, tmp_path)["embedded"] == "inside the installation"
    status, out, _ = _run(capsys, tmp_path, "download", "nano")
    assert status == 0 and out.startswith(f"Model nano is in {tmp_path}")
    assert _states(capsys, tmp_path)["nano"] == "yes"
    status, out, _ = _run(capsys, tmp_path, "verify", "nano")
    assert status == 0 and out.splitlines() == [f"nano {name}: as it was published" for name in FILES]
    status, out, _ = _run(capsys, tmp_path, "list")
    assert "23 languages" in out and "MIT" in out and "1.94 GB" not in out
    # turbo reads two of the files, and is whole: they stay.
    status, out, _ = _run(capsys, tmp_path, "remove", "nano", "--yes")
    assert status == 0 and "Model nano is deleted: 20 kB are free again" in out
    assert (_states(capsys, tmp_path)["nano"], _states(capsys, tmp_path)["turbo"]) == ("2 of 3 files", "yes")
    _run(capsys, tmp_path, "remove", "turbo", "--yes")
    assert _states(capsys, tmp_path)["turbo"] == "no"
    assert not [path for path in tmp_path.rglob("blobs/*") if path.is_file()]


def test_what_another_revision_has_in_common_stays(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, tmp_path, "download", "nano")
    snapshot = next(tmp_path.rglob("snapshots/*/big.bin")).parent
    other = snapshot.parent / "another-revision"
    other.mkdir()
    (other / "same.bin").symlink_to((snapshot / "big.bin").resolve())
    _run(capsys, tmp_path, "remove", "nano", "--yes")
    _, out, _ = _run(capsys, tmp_path, "remove", "turbo", "--yes")
    assert "2 bytes are free again" in out and not (snapshot / "big.bin").exists()
    assert (other / "same.bin").read_bytes() == FILES["big.bin"]


def test_what_differs_from_the_published_file_is_named_with_what_came(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(capsys, tmp_path, "download", "nano")
    damaged = next(tmp_path.rglob("snapshots/*/own.bin"))
    damaged.resolve().write_bytes(b"x" * 20_000)
    status, out, _ = _run(capsys, tmp_path, "verify")
    lines = [line for line in out.splitlines() if not line.endswith("as it was published")]
    assert status == models.EXIT_PROBLEM and len(lines) == 1
    assert lines[0].startswith("nano own.bin: 20000 bytes with SHA-256 ") and " instead of 20000 with " in lines[0]
    damaged.unlink()
    status, out, _ = _run(capsys, tmp_path, "verify", "nano", "--json")
    assert {"model": "nano", "file": "own.bin", "wrong": "it is not there"} in json.loads(out)["files"]


def test_without_a_network_it_says_what_to_do(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(capsys, tmp_path, "download", "nano", "--local-files-only")
    assert status == models.EXIT_PROBLEM and not out and "run once without --local-files-only" in err
    status, out, _ = _run(capsys, tmp_path, "verify")
    assert (status, out) == (0, "No weights are on the disk\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["download"], "download: give the name of a model (original, turbo, nano, multilingual, multilingual-v2)"),
        (["remove", "embedded"], "'embedded': no model of this name is downloaded"),
        (["fetch"], "invalid choice: 'fetch'"),
        (["list", "--downlod-dir", "x"], "--downlod-dir: unknown flag; did you mean --download-dir?"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        models.run(arguments, environment={})
    assert message in str(caught.value)
