"""The same in, the same out: streams do not hear each other, and leave no trace in the thread or the model."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.chatterbox.engine.helpers import (
    SMALL_CHUNKS,
    count_hooks,
    is_plain_thread,
    open_stream,
    speak,
    with_small_chunks,
)
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, Samples
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.speech_settings import GenerationSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def test_the_same_seed_gives_the_same_samples(
    engine: ChatterboxEngine, settings: GenerationSettings, plain_speech: Samples
) -> None:
    torch.randn(123)
    assert np.array_equal(speak(engine, settings=settings), plain_speech)


def test_a_model_loaded_anew_makes_the_same_samples(
    tiny_checkpoint: Path, settings: GenerationSettings, plain_speech: Samples
) -> None:
    torch.randn(123)  # what a process did before must not matter
    again = ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0)
    assert np.array_equal(speak(again, settings=settings), plain_speech)
    # The seed at loading is that of noise which belongs to upstream's model; ours belongs to the utterance.
    other = ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 1)
    is_same = np.array_equal(speak(other, settings=settings), plain_speech)
    assert is_same is (settings.decoder == "seamless")


def test_seed_minus_one_draws_a_new_seed_every_time(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    drawn = dataclasses.replace(settings, seed=-1)
    torch.manual_seed(0)
    first = speak(engine, settings=drawn)
    torch.manual_seed(0)
    assert not np.array_equal(speak(engine, settings=drawn), first)


def test_the_callers_random_numbers_are_left_alone(
    engine: ChatterboxEngine, settings: GenerationSettings, tiny_checkpoint: Path
) -> None:
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0)
    stream = open_stream(engine, settings=settings)
    next(stream)
    assert torch.equal(torch.randn(4), expected)
    stream.close()


VARIANTS: list[dict[str, Any]] = [
    {"voice": "high", "settings": {"exaggeration": 0.2}},
    {"voice": "default", "settings": {"exaggeration": 1.4, "seed": 5}},
    {"voice": "high", "settings": {"exaggeration": 1.4}, "text": "No, it is off."},
]


def _variant(engine: ChatterboxEngine, settings: GenerationSettings, options: dict[str, Any]) -> dict[str, Any]:
    (voice,) = [voice for voice in engine.voices if voice.name == options["voice"]]
    return {**options, "voice": voice, "settings": with_small_chunks(settings, **options["settings"])}


def test_streams_that_take_turns_sound_as_they_do_alone(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    options = [_variant(engine, settings, each) for each in VARIANTS]
    alone = [speak(engine, **each) for each in options]
    streams = [open_stream(engine, **each) for each in options]
    heard: list[list[Samples]] = [[] for _ in streams]
    for _ in SMALL_CHUNKS[settings.decoder]:
        for stream, chunks in zip(streams, heard, strict=True):
            chunks.append(next(stream)[0])
            torch.randn(7)
    assert all(next(stream, None) is None for stream in streams)
    for chunks, expected in zip(heard, alone, strict=True):
        assert np.array_equal(np.concatenate(chunks), expected)
    assert not np.array_equal(alone[0], alone[2]) and not np.array_equal(alone[0], alone[1])


def test_voices_sound_different(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    high, default = (speak(engine, voice=voice, settings=settings) for voice in engine.voices)
    assert not np.array_equal(high, default)


def _content(conditionals: Any) -> dict[str, Any]:
    parts = {**{f"t3.{name}": value for name, value in vars(conditionals.t3).items()}, **conditionals.gen}
    return {name: value.clone() if torch.is_tensor(value) else value for name, value in parts.items()}


def test_the_shared_model_and_the_voices_never_change(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    high = engine.voices[0]
    model = engine.chatterbox
    before = dict(vars(model))
    kept = [_content(model.conds), _content(engine._conditionals_of(high))]
    speak(engine, settings=dataclasses.replace(settings, exaggeration=1.9))
    speak(engine, voice=high, settings=dataclasses.replace(settings, exaggeration=0.1))
    assert vars(model) == before
    for content, expected in zip([model.conds, engine._conditionals_of(high)], kept, strict=True):
        after = _content(content)
        assert after.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(after[name], value) if torch.is_tensor(value) else after[name] is value, name


def test_inference_mode_is_not_left_on_for_the_caller(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    for _ in open_stream(engine, settings=settings):
        assert is_plain_thread()
    assert is_plain_thread()
    first, second = open_stream(engine, settings=settings), open_stream(engine, settings=settings)
    next(first)
    next(second)
    first.close()
    assert is_plain_thread()
    second.close()
    assert is_plain_thread()


def test_the_callers_own_modes_come_back(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    stream = open_stream(engine, settings=settings)
    with torch.no_grad():
        next(stream)
        assert not torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    with torch.inference_mode():
        next(stream)
        assert torch.is_inference_mode_enabled()
    assert next(stream, None) is None
    assert is_plain_thread()


def test_no_hook_stays_on_the_model(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    before = count_hooks(engine)
    stream = open_stream(engine, settings=settings)
    next(stream)
    assert count_hooks(engine) == before, "between two chunks"
    stream.close()
    assert count_hooks(engine) == before, "abandoned"
    speak(engine, settings=settings)
    assert count_hooks(engine) == before, "complete"
    cancel = CancelToken()
    stream = open_stream(engine, settings=settings, cancel=cancel)
    next(stream)
    cancel.set()
    with pytest.raises(Cancelled):
        next(stream)
    assert count_hooks(engine) == before, "cancelled"
    assert is_plain_thread()


def test_calls_leave_nothing_in_memory(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    def tensors() -> int:
        gc.collect()
        return sum(type(each) in (torch.Tensor, torch.nn.Parameter) for each in gc.get_objects())

    speak(engine, settings=settings)
    before = tensors(), count_hooks(engine)
    for seed in range(3):
        speak(engine, settings=dataclasses.replace(settings, seed=seed))
        stream = open_stream(engine, settings=settings)
        next(stream)
        stream.close()
    del stream
    assert (tensors(), count_hooks(engine)) == before
