"""A program that was written for chatterbox-streaming, on our decoder."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoint_fixture import SKIP_REASON, TOKENS
from wyoming_chatterbox.api import ChatterboxTTS
from wyoming_chatterbox.engine.base import Cancelled, CancelToken
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.requirements import is_installed
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import write_clip

if not is_installed():
    pytest.skip(SKIP_REASON, allow_module_level=True)

import torch

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")

TEXT = "The kettle is on."


@pytest.fixture(scope="module")
def tts(tiny_checkpoint: Path) -> ChatterboxTTS:
    return ChatterboxTTS.from_local(tiny_checkpoint, "cpu")


def _samples(tts: ChatterboxTTS, *arguments: Any, **named: Any) -> Any:
    return torch.cat(
        [chunk for chunk, _ in tts.generate_stream(*arguments, **{"print_metrics": False, **named})], dim=1
    )


def test_the_parameters_are_upstreams_and_ours_come_behind_them() -> None:
    def parameters(tts: Any) -> list[tuple[str, Any]]:
        return [(each.name, each.default) for each in inspect.signature(tts.generate_stream).parameters.values()]

    theirs = parameters(upstream.load_chatterbox().ChatterboxTTS)
    ours = parameters(ChatterboxTTS)
    assert len(theirs) == 1 + 9
    assert ours[: len(theirs)] == theirs
    assert [name for name, _ in ours[len(theirs) :]] == [
        *("seed", "cancel", "chunk_growth", "sampling", "repetition_penalty", "min_p", "top_p")
    ]


def test_it_yields_what_upstream_does(tts: ChatterboxTTS, capsys: pytest.CaptureFixture[str]) -> None:
    chunks = list(tts.generate_stream(TEXT, None, 0.7, 0.3, 1.0, 12, seed=5))
    assert len(chunks) > 1
    for number, (chunk, metrics) in enumerate(chunks, 1):
        assert chunk.dtype == torch.float32 and chunk.shape[0] == 1 and chunk.shape[1] > 0
        assert metrics.chunk_count == number
    assert f"{len(chunks)} chunks, {TOKENS / 25:.2f} s of audio" in capsys.readouterr().out
    settings = dataclasses.replace(
        GenerationSettings(), exaggeration=0.7, cfg_weight=0.3, temperature=1.0, chunk_size=12, seed=5
    )
    same = tts._engine.generate_stream(TEXT, tts._engine.voices[0], settings, CancelToken())
    heard = torch.cat([chunk for chunk, _ in chunks], dim=1)[0].numpy()
    assert np.array_equal(heard, np.concatenate([samples for samples, _ in same]))


def test_seed_clip_and_what_is_wrong(tts: ChatterboxTTS, tmp_path: Path) -> None:
    clip = tmp_path / "high.wav"
    write_clip(clip, pitch=230.0, seconds=6.0)
    first = _samples(tts, TEXT, seed=1)
    assert torch.equal(_samples(tts, TEXT, seed=1), first)
    assert not torch.equal(_samples(tts, TEXT), _samples(tts, TEXT)), "without one, upstream's are never the same"
    assert not torch.equal(_samples(tts, TEXT, str(clip), seed=1), first)
    for change in ({"sampling": "streaming"}, {"min_p": 0.5}, {"top_p": 0.5}):
        assert not torch.equal(_samples(tts, TEXT, seed=1, **change), first), change
    with pytest.raises(SettingsError, match="temperature"):
        next(iter(tts.generate_stream(TEXT, temperature=99.0)))
    cancel = CancelToken()
    stream = iter(tts.generate_stream(TEXT, chunk_size=12, cancel=cancel))
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        next(stream)


@pytest.mark.parametrize(("warm_up", "is_warm"), [(True, True), (False, False), (None, False)])
def test_it_is_warm_where_that_is_asked_for_or_there_is_a_gpu(
    tiny_checkpoint: Path, warm_up: bool | None, is_warm: bool
) -> None:
    tts = ChatterboxTTS.from_local(tiny_checkpoint, "cpu", warm_up=warm_up)
    assert bool(tts._engine.decoder.tokens.prefixes) is is_warm, "what is kept of the built-in voice is computed"
