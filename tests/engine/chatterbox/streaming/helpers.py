"""What these tests share."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.base import CancelToken, Samples
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.voices.voice import Voice

RATE = 24_000


SAMPLES_PER_TOKEN = 960


TEXT = "The kettle is on, and so is the radio."


LONG = 60
"""Tokens of an utterance with several joins."""


def chunks_of(
    engine: ChatterboxEngine, *, text: str = TEXT, voice: Voice = CHATTERBOX_DEFAULT, **settings: Any
) -> list[Samples]:
    stream = engine.generate_stream(text, voice, dataclasses.replace(GenerationSettings(), **settings), CancelToken())
    return [samples for samples, _ in stream]


def speak(engine: ChatterboxEngine, **options: Any) -> Samples:
    return np.concatenate(chunks_of(engine, **options))


def load_engine(directory: Path, **compute: Any) -> ChatterboxEngine:
    return ChatterboxEngine.load(directory, "cpu", None, 0, ComputeSettings(**compute))
