"""What was computed is found again, or computed again; it is never wrong."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from wyoming_chatterbox.engine.chatterbox import conditionals_store
from wyoming_chatterbox.engine.chatterbox.conditionals_store import ConditionalsCache

pytest.importorskip("safetensors")

ARRAYS = {
    "t3.tokens": np.arange(6, dtype=np.int64).reshape(1, 6),
    "gen.feat": np.random.default_rng(0).normal(size=(1, 9, 80)).astype(np.float32),
    "gen.length": np.array([6], dtype=np.int32),
}


def same(one: object, other: object) -> bool:
    assert isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys()
    return all(np.array_equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)


def test_what_was_kept_comes_back_under_all_of_its_words_only(tmp_path: Path) -> None:
    cache = ConditionalsCache(tmp_path / "a" / "b")
    assert cache.get("clip", "revision", "cpu") is None
    cache.put(ARRAYS, "clip", "revision", "cpu")
    again = ConditionalsCache(tmp_path / "a" / "b").get("clip", "revision", "cpu")
    assert again is not None and same(again, ARRAYS)
    for words in (("clip2", "revision", "cpu"), ("clip", "revision2", "cpu"), ("clip", "revision", "cuda"), ("clip",)):
        assert cache.get(*words) is None
    (file,) = (tmp_path / "a" / "b").iterdir()
    assert file.suffix == ".safetensors"


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle", "huge", "other"])
def test_a_damaged_file_is_as_good_as_none_and_goes(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import save

    cache = ConditionalsCache(tmp_path)
    cache.put(ARRAYS, "x")
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    if damage == "huge":
        monkeypatch.setattr(conditionals_store, "_MAX_FILE_BYTES", 1000)
    else:
        file.write_bytes(
            {
                "cut": bytes(content[: len(content) // 2]),
                "flipped": bytes(content),
                "empty": b"",
                "pickle": pickle.dumps(ARRAYS),
                "other": save(ARRAYS),
            }[damage]
        )
    assert cache.get("x") is None
    assert "is damaged: it is computed again" in caplog.text
    assert not list(tmp_path.iterdir())


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    big = {"a": np.zeros(250_000, dtype=np.float32)}
    cache = ConditionalsCache(tmp_path, max_bytes=3_500_000)
    for number, name in enumerate("abc"):
        cache.put(big, name)
        os.utime(cache._path((name,)), (number, number))
    assert cache.get("a") is not None
    cache.put(big, "d")
    assert [name for name in "abcd" if cache.get(name) is not None] == ["a", "c", "d"]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    (tmp_path / "file").write_text("")
    cache = ConditionalsCache(tmp_path / "file" / "conditionals")
    cache.put(ARRAYS, "x")
    cache.put(ARRAYS, "y")
    assert cache.get("x") is None
    kept = [message for message in caplog.messages if "cannot be kept in" in message]
    assert len(kept) == 1 and "--data-dir" in kept[0]
