"""What comes out of the engine: chunks, metrics, and the settings that reach the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.engine.helpers import (
    SAMPLES_PER_TOKEN,
    SETTINGS,
    SMALL_CHUNKS,
    TEXT,
    open_stream,
    speak,
    with_small_chunks,
)
from wyoming_chatterbox.engine.base import Samples
from wyoming_chatterbox.engine.chatterbox import engine as engine_module
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import CLIP

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


CHUNKS = {"seamless": [14, 16], "upstream": [25, 5]}
"""Tokens heard in every chunk. Ours waits with 3 tokens for what the flow decoder looks ahead to, and with 8 for the
vocoder's context."""


def test_speech_comes_in_chunks_of_samples(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    chunks = [samples for samples, _ in open_stream(engine, settings=settings)]
    assert [len(samples) / SAMPLES_PER_TOKEN for samples in chunks] == CHUNKS[settings.decoder]
    small = [samples for samples, _ in open_stream(engine, settings=with_small_chunks(settings))]
    assert [len(samples) / SAMPLES_PER_TOKEN for samples in small] == SMALL_CHUNKS[settings.decoder]
    for samples in chunks:
        assert samples.dtype == np.float32 and samples.ndim == 1
        assert np.isfinite(samples).all() and np.abs(samples).max() <= 1.0
        assert np.sqrt(np.mean(samples**2)) > 0.01, "random weights, but not silent"


def test_metrics_are_plain_and_the_last_are_complete(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    items = list(open_stream(engine, settings=settings))
    assert [metrics.chunk_count for _, metrics in items] == [1, 2]
    first, last = items[0][1], items[-1][1]
    values = dataclasses.asdict(last)
    kinds = {"chunk_count": int, "cacheable": bool}
    assert all(type(value) is kinds.get(name, float) for name, value in values.items())
    assert last.cacheable, "the built-in voice is what it was"
    assert last.total_audio_duration == TOKENS / 25
    assert 0 < last.latency_to_first_chunk == first.latency_to_first_chunk  # type: ignore[operator]
    assert last.total_generation_time > first.total_generation_time > 0  # type: ignore[operator]
    assert last.rtf == last.total_generation_time / last.total_audio_duration  # type: ignore[operator]


def test_time_that_the_caller_takes_is_not_counted(
    engine: ChatterboxEngine, settings: GenerationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(engine_module.time, "perf_counter", lambda: now[0])
    stream = open_stream(engine, settings=settings)
    next(stream)
    now[0] += 100
    _, metrics = next(stream)
    assert metrics.total_generation_time == 0


def test_all_nine_parameters_reach_upstreams_generate_stream(
    engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tts = upstream.load_chatterbox()
    given = {}
    real = tts.ChatterboxTTS.generate_stream
    monkeypatch.setattr(tts.ChatterboxTTS, "generate_stream", lambda self, **o: given.update(o) or real(self, **o))
    settings = GenerationSettings(
        decoder="upstream",
        exaggeration=0.7,
        cfg_weight=0.3,
        temperature=0.9,
        chunk_size=15,
        context_window=20,
        fade_duration=0.01,
        print_metrics=True,
    )
    assert len(speak(engine, settings=settings)) == TOKENS * SAMPLES_PER_TOKEN
    assert given == {
        "text": TEXT,
        "audio_prompt_path": None,
        **{
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name
            not in ("seed", "decoder", "chunk_growth", "sampling", "repetition_penalty", "min_p", "top_p", "top_k")
        },
    }


@pytest.mark.parametrize(
    "change",
    [
        {"exaggeration": 1.5},
        {"cfg_weight": 0.9},
        {"temperature": 0.3},
        {"chunk_size": 15},
        {"context_window": 3},
        {"fade_duration": 0.4},
        {"seed": 7},
        {"sampling": "streaming"},
        {"min_p": 0.5},
        {"top_p": 0.5},
    ],
)
def test_every_setting_is_heard(
    engine: ChatterboxEngine, settings: GenerationSettings, plain_speech: Samples, change: dict[str, Any]
) -> None:
    heard = speak(engine, settings=dataclasses.replace(settings, **change))
    of_the_other = {
        "seamless": {"context_window", "fade_duration"},
        "upstream": {"sampling", "repetition_penalty", "min_p", "top_p"},
    }
    assert np.array_equal(heard, plain_speech) is bool(change.keys() & of_the_other[settings.decoder])


@pytest.mark.parametrize("fixed", [{"decoder": "upstream"}, {"sampling": "streaming"}], ids=str)
def test_settings_of_sampling_that_have_no_effect_are_warned_of_once(
    tiny_checkpoint: Path, fixed: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    engine = ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0)
    fixed_settings = dataclasses.replace(SETTINGS, **fixed)
    plain = speak(engine, settings=fixed_settings)
    assert "no effect" not in caplog.text
    for top_p in (0.5, 0.6):
        assert np.array_equal(speak(engine, settings=dataclasses.replace(fixed_settings, top_p=top_p)), plain)
    ((name, value),) = fixed.items()
    assert caplog.text.count("no effect") == 1
    assert f"repetition_penalty, min_p and top_p have no effect with --{name} {value}" in caplog.text


def test_metrics_are_printed_on_stderr_if_at_all(engine: ChatterboxEngine, capfd: pytest.CaptureFixture[str]) -> None:
    speak(engine, settings=dataclasses.replace(SETTINGS, decoder="upstream"))
    assert "Latency" not in capfd.readouterr().err
    speak(engine, settings=dataclasses.replace(SETTINGS, decoder="upstream", print_metrics=True))
    out, err = capfd.readouterr()
    assert out == "" and "Latency to first chunk" in err and "Total chunks yielded: 2" in err


def test_loading_prints_nothing_on_stdout(tiny_checkpoint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ChatterboxEngine.load(tiny_checkpoint, "cpu", create_voices(tiny_checkpoint / CLIP), 0)
    out, err = capfd.readouterr()
    assert out == "" and "PerthNet" not in err, "no line that is none of the log's"
