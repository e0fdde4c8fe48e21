"""How speech ends: second seeds, limits, silence; and voices that change."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.streaming.helpers import LONG, RATE, SAMPLES_PER_TOKEN, TEXT, chunks_of, speak
from tests.engine.chatterbox.tiny import ending_after
from wyoming_chatterbox.engine.base import EngineError
from wyoming_chatterbox.engine.chatterbox import streaming
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.testing.random_checkpoint import write_clip

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


@pytest.fixture
def seeds(engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, int]]:
    """How many tokens speech has, by its seed; that of others has `TOKENS`."""
    lengths: dict[int, int] = {}
    real = engine.decoder.token_source

    def tokens(*arguments: Any, seed: int, limit: int, **named: Any) -> Iterator[int]:
        length = min(limit, lengths.get(seed, TOKENS))
        yield from itertools.islice(itertools.cycle(real(*arguments, seed=seed, limit=TOKENS, **named)), length)

    monkeypatch.setattr(engine.decoder, "token_source", tokens)
    yield lengths


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    ("lengths", "options", "spoken_with", "said"),
    [
        ({5: 0}, {}, 8, "With seed 5 there was no speech; trying seed 8"),
        ({5: 4}, {}, 8, "With seed 5 speech ended after 0.2 s, far too early for 38 characters; trying seed 8"),
        ({5: 999}, {"text": "Hi.", "chunk_size": 200}, 8, "With seed 5 speech went on for longer than 3 characters"),
        ({5: 4, 8: 3}, {}, 5, "trying seed 8"),
        ({5: 4, 8: 4}, {}, 5, "trying seed 8"),
        ({5: 3, 8: 4}, {}, 8, "trying seed 8"),
        ({5: 0, 8: 999}, {"text": "Hi.", "chunk_size": 200}, 8, "trying seed 8"),
        ({5: 14}, {}, 5, ""),
        ({5: 13}, {}, 5, "Speech ended after 0.5 s, far too early for 38 characters; another seed may"),
    ],
    ids=str,
)
def test_speech_that_fails_before_anything_was_sent_is_tried_with_another_seed(
    engine: ChatterboxEngine,
    seeds: dict[int, int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    parallel: bool,
    lengths: dict[int, int],
    options: dict[str, Any],
    spoken_with: int,
    said: str,
) -> None:
    monkeypatch.setattr(engine.decoder, "plan", dataclasses.replace(engine.plan, parallel=parallel))
    seeds.update(lengths)
    options = {"chunk_size": 12, **options}
    samples = speak(engine, seed=5, **options)
    assert said in caplog.text if said else not caplog.text
    assert TEXT not in caplog.text and "Hi." not in caplog.text
    assert np.array_equal(speak(engine, seed=5, **options), samples), "the same every time"
    limit = streaming.max_tokens_for(options.get("text", TEXT))
    assert len(samples) == min(limit, lengths.get(spoken_with, TOKENS)) * SAMPLES_PER_TOKEN
    if lengths.get(spoken_with, 30) >= 14:
        seeds[5] = 30
        seeds.pop(8, None)
        expected = speak(engine, seed=spoken_with, **options)
        if lengths.get(spoken_with, 30) == 30:
            assert np.array_equal(samples, expected), "as if that seed had been asked for"


def test_speech_that_fails_with_both_seeds_is_an_error(engine: ChatterboxEngine, seeds: dict[int, int]) -> None:
    seeds.update({0: 0, 3: 0})
    with pytest.raises(EngineError, match="made no speech"):
        speak(engine)


def test_a_model_that_does_not_stop_is_stopped_and_all_it_made_is_heard(
    engine: ChatterboxEngine, caplog: pytest.LogCaptureFixture
) -> None:
    with ending_after(engine.chatterbox, 999):
        samples = speak(engine, text="Hi.")
    assert len(samples) == streaming.max_tokens_for("Hi.") * SAMPLES_PER_TOKEN
    assert "Speech was ended after 4 s: the model went on for longer than 3 characters take" in caplog.text
    caplog.clear()
    speak(engine)
    assert "Speech was ended" not in caplog.text


@pytest.mark.parametrize("loud", [0.5, 0.1])
def test_silence_at_the_end_is_cut(long_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch, loud: float) -> None:
    """Also where all of the last chunk is silent, and the loud part in one before it."""
    vocoder = long_engine.decoder.vocoder
    real, begin = vocoder.push, [0]

    def fading(state: Any, mel: Any, **options: Any) -> Any:
        done, preview = real(state, mel, **options)
        places = torch.arange(begin[0], begin[0] + len(done))
        begin[0] += len(done)
        return done * torch.where(places < loud * RATE, 1.0, 1e-4), preview * 1e-4

    monkeypatch.setattr(vocoder, "push", fading)
    chunks = chunks_of(long_engine, chunk_size=25)
    assert len(chunks) == 2
    first = len(chunks[0])  # sent before it was known that only silence follows
    assert first == 14 * SAMPLES_PER_TOKEN
    assert sum(map(len, chunks)) == pytest.approx(max(first, loud * RATE) + 0.3 * RATE, abs=RATE * 0.005)


def test_a_quiet_end_stays(long_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    vocoder = long_engine.decoder.vocoder
    real = vocoder.push

    def quieter(state: Any, mel: Any, *, final: bool, redo_frames: int) -> Any:
        done, preview = real(state, mel, final=final, redo_frames=redo_frames)
        return done * (0.01 if final else 1.0), preview

    monkeypatch.setattr(vocoder, "push", quieter)
    assert len(speak(long_engine)) == LONG * SAMPLES_PER_TOKEN


def test_one_token_is_spoken(engine: ChatterboxEngine) -> None:
    with ending_after(engine.chatterbox, 1):
        assert len(speak(engine)) == SAMPLES_PER_TOKEN


def test_a_clip_with_a_frame_more_than_its_tokens_loses_no_more_than_that_frame(
    engine: ChatterboxEngine, tmp_path: Path
) -> None:
    lengths = set()
    for seconds in (2.0, 2.02, 2.03):
        clip = tmp_path / f"{seconds}.wav"
        write_clip(clip, seconds=seconds)
        voice = create_voices(clip)[0]
        frames = engine._conditionals_of(voice).gen
        more = frames["prompt_feat"].shape[1] - 2 * frames["prompt_token"].shape[1]
        lengths.add(more)
        for chunk_size in (12, 500):
            samples = speak(engine, voice=voice, chunk_size=chunk_size)
            assert len(samples) == TOKENS * SAMPLES_PER_TOKEN - more * SAMPLES_PER_TOKEN // 2
    assert lengths == {0, 1}


def test_a_file_that_becomes_another_voice_and_looks_as_before_is_no_danger(
    engine: ChatterboxEngine, tmp_path: Path
) -> None:
    """The prompt belongs to what was computed, not to the file's name, time and size."""
    clip = tmp_path / "mine.wav"
    heard = []
    for pitch in (120, 230):
        write_clip(clip, pitch=pitch, seconds=2.0)
        os.utime(clip, ns=(1, 1))
        (voice,) = create_voices(clip)
        heard.append(speak(engine, voice=voice))
    engine.decoder.tokens.prefixes.clear()
    assert np.array_equal(speak(engine, voice=voice), heard[1])
    assert not np.array_equal(*heard)
