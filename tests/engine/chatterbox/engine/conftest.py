"""Fixtures of these tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.engine.chatterbox.engine.helpers import SETTINGS, plain_by_decoder, speak
from wyoming_chatterbox.engine.base import Samples
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.registry import create_voices
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import write_clip


@pytest.fixture(params=["seamless", "upstream"])
def settings(request: pytest.FixtureRequest) -> GenerationSettings:
    """Chunks of equal size to begin with, and either decoder: what the engine promises holds for both."""
    return dataclasses.replace(SETTINGS, decoder=request.param)


@pytest.fixture(scope="session")
def high_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference clip unlike the checkpoint's own."""
    path = tmp_path_factory.mktemp("clips") / "high.wav"
    write_clip(path, pitch=230.0, seconds=2.0)
    return path


@pytest.fixture(scope="package")
def engine(tiny_checkpoint: Path, high_clip: Path) -> ChatterboxEngine:
    """Two voices, "high" and "default". Tests leave it as it was."""
    return ChatterboxEngine.load(tiny_checkpoint, "cpu", create_voices(high_clip), 0)


@pytest.fixture
def own_engine(tiny_checkpoint: Path) -> ChatterboxEngine:
    """One that a test may spoil."""
    return ChatterboxEngine.load(tiny_checkpoint, "cpu", None, 0)


@pytest.fixture
def plain_speech(engine: ChatterboxEngine, settings: GenerationSettings) -> Samples:
    """The built-in voice with all defaults."""
    if settings.decoder not in plain_by_decoder:
        plain_by_decoder[settings.decoder] = speak(engine, settings=settings)
    return plain_by_decoder[settings.decoder]
