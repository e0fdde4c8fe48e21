"""Warming up and closing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.chatterbox.engine.helpers import open_stream, speak
from wyoming_chatterbox.engine.base import EngineError, Samples
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.speech_settings import GenerationSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def test_warming_up_speaks_one_chunk_and_logs_its_time(
    engine: ChatterboxEngine, settings: GenerationSettings, plain_speech: Samples, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine.warm_up()
    assert "Warmed up: the first chunk took" in caplog.text
    assert np.array_equal(speak(engine, settings=settings), plain_speech)


def test_warming_up_computes_what_the_default_voice_in_its_manner_needs(tiny_checkpoint: Path) -> None:
    engine = ChatterboxEngine.load(
        tiny_checkpoint, "cpu", None, 0, warm_up_settings=GenerationSettings(exaggeration=0.7)
    )
    engine.warm_up()
    prompts = [key[1] for key in engine.decoder.tokens.prefixes]
    assert prompts == [0.7], "what the first request needs is there, and nothing else"


@pytest.mark.parametrize("on_gpu", [False, True])
def test_warming_up_on_a_gpu_speaks_a_long_sentence_to_its_end(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    engine = ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0)
    monkeypatch.setattr(ChatterboxEngine, "is_on_gpu", on_gpu)
    ends: list[bool] = []
    real = engine.decoder.vocoder.push

    def push(*args: Any, final: bool, **options: Any) -> Any:
        ends.append(final)
        return real(*args, final=final, **options)

    monkeypatch.setattr(engine.decoder.vocoder, "push", push)
    engine.warm_up()
    assert any(ends) is on_gpu


def test_a_closed_engine_refuses(own_engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    begun = open_stream(own_engine, settings=settings)
    next(begun)
    own_engine.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        next(open_stream(own_engine, settings=settings))
    assert len(next(begun)[0]), "what was begun holds the model until it ends"
    own_engine.close()
