"""Texts that cannot be spoken, and what goes wrong in the model."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import pytest
import torch

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.engine.helpers import (
    SAMPLES_PER_TOKEN,
    SETTINGS,
    count_hooks,
    counted_calls,
    is_plain_thread,
    open_stream,
    speak,
)
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, EngineError
from wyoming_chatterbox.engine.chatterbox import engine as engine_module
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import set_eos_at

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def test_a_text_that_is_too_long_is_refused_before_anything_runs(engine: ChatterboxEngine) -> None:
    counted = counted_calls(engine, "token", SETTINGS, cancel=CancelToken(), at=0)
    with counted as passes, pytest.raises(EngineError) as caught:
        next(open_stream(engine, text="a" * 2048 + "."))
    assert "2049 tokens" in str(caught.value) and "at most 2048" in str(caught.value)
    assert passes == [0]


def test_the_longest_text_is_spoken(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    assert len(speak(engine, text="a" * 2047 + ".", settings=settings)) == TOKENS * SAMPLES_PER_TOKEN


@pytest.mark.parametrize("text", ["", "  \n"])
def test_a_blank_text_is_refused(engine: ChatterboxEngine, text: str) -> None:
    with pytest.raises(EngineError, match="no text"):
        next(open_stream(engine, text=text))


def test_a_stream_without_a_chunk_is_an_error(own_engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    set_eos_at(own_engine.chatterbox.t3, 0)
    with pytest.raises(EngineError, match="made no speech"):
        next(open_stream(own_engine, settings=settings))
    assert is_plain_thread()


def test_a_token_that_does_not_exist_is_an_error_upstream(own_engine: ChatterboxEngine) -> None:
    settings = dataclasses.replace(SETTINGS, decoder="upstream")
    # transformers puts hooks of its own on a model that is used for the first time.
    speak(own_engine, settings=settings)
    own_engine.chatterbox.t3.speech_head.weight.data[7000, 0] = 50.0
    before = count_hooks(own_engine)
    with pytest.raises(EngineError, match=r"Chatterbox failed on this text.*IndexError") as caught:
        next(open_stream(own_engine, settings=settings))
    assert not isinstance(caught.value, Cancelled)
    assert count_hooks(own_engine) == before and is_plain_thread()


@pytest.mark.parametrize("part", ["t3.text_emb", "s3gen.flow.input_embedding", "s3gen.mel2wav.f0_predictor"])
def test_a_full_gpu_is_said_in_words(
    engine: ChatterboxEngine, settings: GenerationSettings, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    with monkeypatch.context() as patched:
        patched.setattr(operator.attrgetter(part)(engine.chatterbox), "forward", fail)
        with pytest.raises(EngineError, match="GPU has too little memory"):
            next(open_stream(engine, settings=settings))
        assert is_plain_thread()
    assert len(speak(engine, settings=settings)) == TOKENS * SAMPLES_PER_TOKEN, "and it goes on"


@pytest.mark.parametrize(("end", "is_cut"), [(19, False), (20, True)])
def test_speech_that_upstream_cuts_is_logged(
    own_engine: ChatterboxEngine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: int,
    is_cut: bool,
) -> None:
    tts = upstream.load_chatterbox()
    real = tts.ChatterboxTTS.inference_stream

    def limited(self: Any, *, max_new_tokens: int, **options: Any) -> Any:
        assert max_new_tokens == engine_module.MAX_SPEECH_TOKENS, "upstream's limit"
        return real(self, max_new_tokens=20, **options)

    with monkeypatch.context() as patched:
        patched.setattr(tts.ChatterboxTTS, "inference_stream", limited)
        set_eos_at(own_engine.chatterbox.t3, end)
        stream = open_stream(own_engine, settings=dataclasses.replace(SETTINGS, decoder="upstream", chunk_size=10))
        next(stream)  # the real limit is passed to upstream by now
        patched.setattr(engine_module, "MAX_SPEECH_TOKENS", 20)
        list(stream)
    assert ("Speech was cut at" in caplog.text) is is_cut
