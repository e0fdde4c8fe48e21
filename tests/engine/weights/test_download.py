from __future__ import annotations

import errno
import io
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.engine.weights import hub_server as hubs
from tests.engine.weights.hub_server import Hub
from wyoming_chatterbox.engine.base import Cancelled, CancelToken
from wyoming_chatterbox.engine.registry import ORIGINAL
from wyoming_chatterbox.engine.weights import download as downloads
from wyoming_chatterbox.engine.weights import hub as hub_module
from wyoming_chatterbox.engine.weights.download import WeightsError, download
from wyoming_chatterbox.engine.weights.files import find_files
from wyoming_chatterbox.engine.weights.progress import size_text

NOISE = random.Random(1).randbytes(1_200_000)
BIG, SMALL, TINY = NOISE[:900_000], NOISE[900_000:], b'{"a": 1}\n'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: run script/setup --chatterbox")
    monkeypatch.setattr(hub_module, "_PAUSE", 0.01)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hubs.running(Hub({"big.bin": BIG, "small.bin": SMALL, "tiny.json": TINY})) as one:
        _use_endpoint(monkeypatch, one.url)
        yield one


def _use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """What HF_ENDPOINT does, which huggingface_hub looks at only when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def _get(hub: Hub, cache: Path, **options: Any) -> Path:
    return download(hub.repository, cache_dir=cache, **{"local_files_only": False, **options})


def _failure(hub: Hub, cache: Path, **options: Any) -> WeightsError:
    with pytest.raises(WeightsError) as caught:
        _get(hub, cache, **options)
    message = str(caught.value)
    assert "\n" not in message and hub.id in message and "bin" in message, "one sentence, naming file and repository"
    return caught.value


def _check(directory: Path) -> None:
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == {
        "big.bin": BIG,
        "small.bin": SMALL,
        "tiny.json": TINY,
    }


def _partial_sizes(cache: Path) -> list[int]:
    return [path.stat().st_size for path in cache.rglob("*.incomplete")]


def test_the_pinned_repository_is_well_formed() -> None:
    assert ORIGINAL.repository is not None and len(ORIGINAL.repository.revision) == 40
    assert all(len(file.sha256) == 64 and file.size > 0 for file in ORIGINAL.files)
    assert {file.name for file in ORIGINAL.files} >= {"ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors"}


def test_a_fresh_download_brings_every_file(hub: Hub, tmp_path: Path) -> None:
    directory = _get(hub, tmp_path)
    _check(directory)
    assert directory.name == hubs.REVISION
    assert not _partial_sizes(tmp_path)


def test_a_second_download_asks_nobody_and_hashes_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = _get(hub, tmp_path)
    hub.requests.clear()
    monkeypatch.setattr(downloads, "sha256_of", _unexpected)
    assert _get(hub, tmp_path) == directory
    assert hub.requests == []


def _unexpected(*args: Any) -> Any:
    raise AssertionError("not expected to be called")


def test_a_touched_file_is_hashed_again(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(_get(hub, tmp_path) / "big.bin", ns=(1, 1))
    hashed = []
    original = downloads.sha256_of
    monkeypatch.setattr(downloads, "sha256_of", lambda path, cancel: hashed.append(path.name) or original(path, cancel))
    _get(hub, tmp_path)
    assert hashed == ["big.bin"]


def test_a_cache_that_cannot_be_written_to_is_hashed_at_every_start(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = _get(hub, tmp_path)
    for marker in tmp_path.rglob(".verified-*"):
        marker.unlink()
        marker.mkdir()  # tests may run as root, whom no permission stops
    assert _get(hub, tmp_path) == directory
    monkeypatch.setattr(downloads, "sha256_of", _unexpected)
    with pytest.raises(AssertionError):
        _get(hub, tmp_path)


def test_a_damaged_list_of_verified_files_counts_as_none(hub: Hub, tmp_path: Path) -> None:
    _get(hub, tmp_path)
    (marker,) = tmp_path.rglob(".verified-*")
    for content in ("", "[]", '{"big.bin": 3}'):
        marker.write_text(content)
        _check(_get(hub, tmp_path))


def test_huggingface_hub_finds_what_we_downloaded_and_we_what_it_did(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    _get(hub, ours)
    path = hf_hub_download(hub.id, "big.bin", revision=hubs.REVISION, cache_dir=ours, local_files_only=True)
    assert Path(path).read_bytes() == BIG

    for name in hub.files:
        hf_hub_download(hub.id, name, revision=hubs.REVISION, cache_dir=theirs)
    hub.requests.clear()
    _check(_get(hub, theirs))
    assert hub.requests == []


def test_a_blob_without_a_name_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    (_get(hub, tmp_path) / "big.bin").unlink()  # as when the same file is known from another revision
    hub.requests.clear()
    _check(_get(hub, tmp_path))
    assert hub.gets == []


def test_a_cut_download_goes_on_where_it_was(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [300_000, 200_000, 0]
    _check(_get(hub, tmp_path))
    assert hub.ranges == [None, "bytes=300000-", "bytes=500000-", "bytes=500000-", None, None]


def test_a_server_that_ignores_ranges_is_read_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [300_000]
    hub.ignores_ranges = True
    seen = []
    _check(_get(hub, tmp_path, on_progress=lambda done, total: seen.append(done)))
    assert max(seen) == seen[-1] == len(BIG) + len(SMALL) + len(TINY)


def test_a_download_that_never_gets_further_gives_up_and_keeps_what_came(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [300_000, *[0] * 10]
    error = _failure(hub, tmp_path)
    assert error.retryable
    assert "big.bin" in str(error) and hub.url in str(error)
    assert _partial_sizes(tmp_path) == [300_000]
    hub.cuts = []
    hub.requests.clear()
    _check(_get(hub, tmp_path))
    assert hub.ranges[0] == "bytes=300000-"


def test_a_download_is_continued_after_its_process_was_killed(hub: Hub, tmp_path: Path) -> None:
    hub.bytes_per_second = 400_000
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
    program = (
        "from tests.engine.weights.hub_server import Hub; from wyoming_chatterbox.engine.weights.download import *\n"
        f"repository = Repository({hub.id!r}, {hubs.REVISION!r}, (RemoteFile{_pin(hub, 'big.bin')},))\n"
        "download(repository, cache_dir=None, local_files_only=False)"
    )
    process = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        _wait_for(lambda: sum(_partial_sizes(tmp_path)) > 200_000)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (kept,) = _partial_sizes(tmp_path)
    assert 200_000 < kept < len(BIG)
    hub.bytes_per_second = 0
    hub.requests.clear()
    _check(_get(hub, tmp_path))
    assert hub.ranges[0] == f"bytes={kept}-"


def _pin(hub: Hub, name: str) -> tuple[str, int, str]:
    (file,) = [file for file in hub.repository.files if file.name == name]
    return file.name, file.size, file.sha256


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen within 30 s"
        time.sleep(0.02)


def test_a_file_that_arrives_damaged_is_fetched_once_more(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.corrupt = 1
    _check(_get(hub, tmp_path))
    assert [request.path for request in hub.gets].count("/content/big.bin") == 2
    assert "big.bin of someone/model is damaged (SHA-256" in caplog.text


def test_a_file_that_keeps_arriving_damaged_is_an_error_and_is_deleted(hub: Hub, tmp_path: Path) -> None:
    hub.corrupt = 99
    error = _failure(hub, tmp_path)
    assert "damaged twice" in str(error) and not error.retryable
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size >= len(TINY) * 100]


def test_a_file_that_was_damaged_on_the_disk_is_fetched_again(hub: Hub, tmp_path: Path) -> None:
    path = _get(hub, tmp_path) / "small.bin"
    path.write_bytes(SMALL[:-1])
    _check(_get(hub, tmp_path))


def test_a_damaged_file_is_not_fetched_when_only_local_files_may_be_used(hub: Hub, tmp_path: Path) -> None:
    path = _get(hub, tmp_path) / "small.bin"
    path.write_bytes(SMALL[:-1])
    with pytest.raises(WeightsError, match=r"damaged.*299999 bytes instead of 300000.*--local-files-only") as caught:
        _get(hub, tmp_path, local_files_only=True)
    assert str(path) in str(caught.value)
    assert path.exists()


def test_a_partial_file_of_something_else_is_noticed(hub: Hub, tmp_path: Path) -> None:
    for content in (b"x" * 1000, b"x" * (len(BIG) + 1)):
        cache = tmp_path / str(len(content))
        partial = cache / "models--someone--model" / "blobs" / f"{_pin(hub, 'big.bin')[2]}.incomplete"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(content)
        _check(_get(hub, cache))


def test_local_files_only_names_what_is_missing(hub: Hub, tmp_path: Path) -> None:
    error = _failure(hub, tmp_path, local_files_only=True)
    assert "big.bin, small.bin, tiny.json" in str(error) and str(tmp_path) in str(error)
    assert not error.retryable
    assert hub.requests == []
    directory = _get(hub, tmp_path)
    assert _get(hub, tmp_path, local_files_only=True) == directory


def test_the_offline_mode_of_huggingface_hub_is_named(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = _failure(hub, tmp_path)
    assert "HF_HUB_OFFLINE" in str(error) and not error.retryable


def test_no_network_is_worth_another_try(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        _use_endpoint(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}")
        error = _failure(hub, tmp_path)
    assert error.retryable
    assert "no answer from http://127.0.0.1" in str(error)


@pytest.mark.parametrize("field", ["status", "get_status"])
@pytest.mark.parametrize(
    ("status", "retryable", "words"),
    [
        (404, False, "HTTP 404"),
        (401, False, "HF_TOKEN"),
        (403, False, "HF_TOKEN"),
        (400, False, "HTTP 400"),
        (429, True, "429"),
        (503, True, "503"),
    ],
)
def test_a_refusal_names_its_status_and_whether_to_try_again(
    hub: Hub, tmp_path: Path, field: str, status: int, retryable: bool, words: str
) -> None:
    setattr(hub, field, status)
    error = _failure(hub, tmp_path)
    assert words in str(error)
    assert error.retryable is retryable


def test_a_file_that_the_repository_lacks_is_named(hub: Hub, tmp_path: Path) -> None:
    repository = hub.repository
    del hub.files["small.bin"]
    with pytest.raises(WeightsError, match=r"small\.bin of someone/model .*HTTP 404") as caught:
        download(repository, cache_dir=tmp_path, local_files_only=False)
    assert not caught.value.retryable


def test_the_token_goes_to_the_hub_and_to_nobody_else(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = "hf_secret"
    assert "HF_TOKEN" in str(_failure(hub, tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    _check(_get(hub, tmp_path))
    assert hub.gets
    assert all("authorization" not in request.headers for request in hub.gets), "the files are on another host"


def test_something_that_is_no_hub_is_recognised(hub: Hub, tmp_path: Path) -> None:
    hub.is_hub = False
    assert "does not answer like a Hugging Face hub" in str(_failure(hub, tmp_path))


def test_a_file_of_another_size_is_not_even_begun(hub: Hub, tmp_path: Path) -> None:
    repository = hub.repository
    hub.files["big.bin"] += b"more"
    with pytest.raises(WeightsError, match=r"big\.bin .*900004 bytes of it instead of 900000"):
        download(repository, cache_dir=tmp_path, local_files_only=False)
    assert hub.gets == []


def test_cancelling_stops_at_once_and_keeps_what_came(hub: Hub, tmp_path: Path) -> None:
    hub.bytes_per_second = 400_000
    cancel = CancelToken()
    cancelled_at = []

    def on_progress(done: int, total: int) -> None:
        if done > 200_000 and not cancel.is_set:
            cancel.set()
            cancelled_at.append(time.monotonic())

    with pytest.raises(Cancelled):
        _get(hub, tmp_path, on_progress=on_progress, cancel=cancel)
    assert time.monotonic() - cancelled_at[0] < 0.5
    (kept,) = _partial_sizes(tmp_path)
    assert kept > 200_000
    hub.bytes_per_second = 0
    hub.requests.clear()
    _check(_get(hub, tmp_path))
    assert hub.ranges[0] == f"bytes={kept}-"


def test_another_process_that_downloads_the_same_file_is_waited_for(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub.utils import WeakFileLock

    lock = tmp_path / ".locks" / "models--someone--model" / f"{_pin(hub, 'big.bin')[2]}.lock"
    lock.parent.mkdir(parents=True)
    cancel = CancelToken()
    with WeakFileLock(lock):
        threading.Timer(0.5, cancel.set).start()
        with pytest.raises(Cancelled):
            _get(hub, tmp_path, cancel=cancel)
        assert hub.gets == []
    _check(_get(hub, tmp_path))


def test_too_little_space_is_said_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_200_008))
    error = _failure(hub, tmp_path / "not" / "there" / "yet")
    assert "1200009 bytes" in str(error) and "1200008 bytes" in str(error) and "--download-dir" in str(error)
    assert hub.requests == []


def test_only_what_is_still_to_come_needs_space(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.cuts = [600_000, *[0] * 10]
    _failure(hub, tmp_path)
    hub.cuts = []
    monkeypatch.setattr(hub_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=600_009))
    _check(_get(hub, tmp_path))


@pytest.mark.parametrize(
    ("number", "words", "may_pass"),
    [(errno.ENOSPC, "bytes) are needed", True), (errno.EROFS, "cannot be written to", False)],
)
def test_a_disk_that_fails_is_an_error_of_its_own(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, may_pass: bool
) -> None:
    def fail(*args: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(hub_module.HubDownloader, "_write", fail)
    error = _failure(hub, tmp_path)
    assert words in str(error) and error.retryable is may_pass


def test_progress_counts_over_all_files_and_ends_complete(hub: Hub, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    _get(hub, tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    total = len(BIG) + len(SMALL) + len(TINY)
    assert {each[1] for each in seen} == {total}
    assert [each[0] for each in seen] == sorted(each[0] for each in seen)
    assert seen[-1][0] == total and len(seen) > 3


def test_the_log_has_one_line_per_ten_percent_and_no_bar(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    _get(hub, tmp_path)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Downloading")]
    percents = [int(line.split(": ")[1].split()[0]) for line in lines]
    assert [percent // 10 for percent in percents] == list(range(11))
    assert lines[0] == "Downloading someone/model: 0 % (0 bytes of 1.2 MB)"
    assert "B/s" not in capfd.readouterr().err


def test_a_terminal_gets_a_bar_and_no_lines(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    caplog.set_level(logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    _get(hub, tmp_path)
    monkeypatch.undo()
    assert "someone/model: 100%" in terminal.getvalue()
    assert "Downloading" not in caplog.text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (107_374, "107 kB"), (3_191_966_992, "3.19 GB")]
)
def test_sizes_are_written_for_a_reader(count: int, text: str) -> None:
    assert size_text(count) == text


def _make(directory: Path, *names: str) -> Path:
    for name in names:
        (directory / name).touch()
    return directory


def test_files_are_found_in_either_format_and_safetensors_win(tmp_path: Path) -> None:
    _make(tmp_path, "ve.pt", "ve.safetensors", "t3_cfg.pt", "s3gen.safetensors", "tokenizer.json")
    files = find_files(tmp_path)
    assert files.voice_encoder.name == "ve.safetensors"
    assert files.t3.name == "t3_cfg.pt"
    assert files.s3gen.name == "s3gen.safetensors"
    assert files.conditionals is None
    assert find_files(_make(tmp_path, "conds.pt")).conditionals == tmp_path / "conds.pt"


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    _make(tmp_path, "ve.pt")
    with pytest.raises(WeightsError) as caught:
        find_files(tmp_path)
    for words in (str(tmp_path), "t3_cfg.safetensors or t3_cfg.pt", "s3gen.safetensors", "tokenizer.json"):
        assert words in str(caught.value)
    assert "ve." not in str(caught.value)
