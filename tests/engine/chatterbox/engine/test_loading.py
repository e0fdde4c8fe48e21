"""Loading the weights: formats, damaged files, foreign weights, pickles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.chatterbox.engine.helpers import open_stream, speak
from wyoming_chatterbox.engine.base import EngineError, EngineUnavailable, Samples
from wyoming_chatterbox.engine.chatterbox import loader, upstream
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.engine.weights.download import WeightsError
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import CLIP

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


@pytest.fixture
def copied(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint in a directory of its own, as links: replace a file, do not write into it."""
    for path in tiny_checkpoint.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def _state(path: Path) -> dict[str, Any]:
    return loader.read_state(path)


def _replace(path: Path, content: Any, suffix: str = ".pt") -> Path:
    path.unlink()
    path = path.with_suffix(suffix)
    torch.save(content, path)
    return path


def test_pt_files_speak_as_the_safetensors_files_do(
    engine: ChatterboxEngine, settings: GenerationSettings, plain_speech: Samples, copied: Path
) -> None:
    _replace(copied / "ve.safetensors", _state(copied / "ve.safetensors"))
    _replace(copied / "t3_cfg.safetensors", {"model": [_state(copied / "t3_cfg.safetensors")]})
    s3gen = _state(copied / "s3gen.safetensors")
    derived = {name: tensor for name, tensor in engine.chatterbox.s3gen.state_dict().items() if name not in s3gen}
    derived = {name: tensor for name, tensor in derived.items() if name in loader._DERIVED_BUFFERS}
    assert derived.keys() == loader._DERIVED_BUFFERS
    _replace(copied / "s3gen.safetensors", {**s3gen, **derived})
    spoken = speak(ChatterboxEngine.load(copied, "cpu", None, 0), settings=settings)
    # Weights are the file's own pages, and how they are aligned there decides in which order some CPUs add up.
    assert spoken.shape == plain_speech.shape
    assert np.abs(spoken - plain_speech).max() < 1e-5


def test_no_random_numbers_are_drawn_to_be_overwritten(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a billion of them took ten seconds and as much memory as the weights."""
    before = torch.get_rng_state()
    tts = upstream.load_chatterbox()
    with loader._skip_weight_init():
        tts.T3(), tts.VoiceEncoder(), torch.nn.Embedding(10, 10), torch.nn.Linear(10, 10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("speech_head.weight"), "lacks speech_head.weight"),
        (lambda state: state.update(extra=torch.zeros(1)), "has unknown extra"),
        (lambda state: state.update({"text_head.weight": torch.zeros(3, 4)}), "has other shapes for text_head.weight"),
        (lambda state: state.clear(), "and .* more"),
    ],
)
def test_weights_of_another_model_are_refused(copied: Path, change: Any, words: str) -> None:
    state = _state(copied / "t3_cfg.safetensors")
    change(state)
    path = _replace(copied / "t3_cfg.safetensors", state)
    with pytest.raises(EngineError, match=f"{path.name} does not fit Chatterbox.*{words}") as caught:
        ChatterboxEngine.load(copied, "cpu", None, 0)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["ve.safetensors", "conds.pt", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage"])
def test_a_damaged_file_is_named(copied: Path, name: str, content: bytes) -> None:
    (copied / name).unlink()
    (copied / name).write_bytes(content)
    with pytest.raises(EngineError, match=name):
        ChatterboxEngine.load(copied, "cpu", None, 0)


class _Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("went_off",)


@pytest.mark.parametrize("name", ["ve.safetensors", "conds.pt"])
def test_a_pickle_with_code_is_refused_and_not_run(copied: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied)
    path = _replace(copied / name, {"model": [_Bomb()], "t3": _Bomb(), "gen": {}})
    with pytest.raises(EngineError, match=path.name):
        ChatterboxEngine.load(copied, "cpu", None, 0)
    assert not (copied / "went_off").exists()


def test_without_any_voice_there_is_no_engine(copied: Path) -> None:
    (copied / "conds.pt").unlink()
    with pytest.raises(EngineUnavailable, match=r"no conds\.pt.*--voices-dir"):
        ChatterboxEngine.load(copied, "cpu", None, 0)
    engine = ChatterboxEngine.load(copied, "cpu", create_voices(copied / CLIP), 0)
    assert [voice.name for voice in engine.voices] == ["clip"]
    with pytest.raises(EngineError, match=r"'default' is not here.*conds\.pt"):
        next(open_stream(engine))


def test_an_empty_directory_is_refused_before_torch_is_asked(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"t3_cfg\.safetensors"):
        ChatterboxEngine.load(tmp_path, "cuda:99", None, 0)
