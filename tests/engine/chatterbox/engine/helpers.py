"""What these tests share."""

from __future__ import annotations

import contextlib
import dataclasses
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from wyoming_chatterbox.engine.base import CancelToken, Samples
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.voices.voice import Voice

TEXT = "The kettle is on."


SETTINGS = GenerationSettings(chunk_size=25, chunk_growth=1.5)


SAMPLES_PER_TOKEN = 960


SMALL_CHUNKS = {"seamless": [1, 29], "upstream": [10, 10, 10]}
"""The same at chunk size 10; ours takes 12, as of fewer nothing could be heard."""


def with_small_chunks(settings: GenerationSettings, **changes: Any) -> GenerationSettings:
    return dataclasses.replace(settings, chunk_size=10, **changes)


def open_stream(
    engine: ChatterboxEngine,
    *,
    text: str = TEXT,
    voice: Voice = CHATTERBOX_DEFAULT,
    settings: GenerationSettings = SETTINGS,
    cancel: CancelToken | None = None,
) -> Any:
    return engine.generate_stream(text, voice, settings, cancel or CancelToken())


def speak(engine: ChatterboxEngine, **options: Any) -> Samples:
    return np.concatenate([samples for samples, _ in open_stream(engine, **options)])


plain_by_decoder: dict[str, Samples] = {}


def count_hooks(engine: ChatterboxEngine) -> int:
    """Hooks on any module of the model, and forward methods put in place of their class's."""
    roots = (engine.chatterbox.t3, engine.chatterbox.s3gen, engine.chatterbox.ve)
    modules = [module for root in roots for module in root.modules()]
    hooks = sum(len(module._forward_pre_hooks) + len(module._forward_hooks) for module in modules)
    return hooks + sum("forward" in vars(module) for module in modules)


def is_plain_thread() -> bool:
    return not torch.is_inference_mode_enabled() and torch.is_grad_enabled() and not torch.zeros(1).is_inference()


PARTS: dict[str, dict[str, tuple[str, str]]] = {
    "token": {"seamless": ("decoder.tokens.decoder", "logits"), "upstream": ("chatterbox.t3.speech_head", "forward")},
    "step": {
        "seamless": ("decoder.flow", "_estimator"),
        "upstream": ("chatterbox.s3gen.flow.decoder.estimator.time_embeddings", "forward"),
    },
    "vocoder": {"seamless": ("decoder.vocoder", "push"), "upstream": ("chatterbox.s3gen.mel2wav", "decode")},
}
"""What is called once for every unit of work, by decoder: (its owner, its name)."""


@contextlib.contextmanager
def counted_calls(
    engine: ChatterboxEngine, part: str, settings: GenerationSettings, *, cancel: CancelToken, at: int
) -> Iterator[list[int]]:
    """Counts the calls of a part, and sets `cancel` in one of them."""
    passes = [0]
    path, name = PARTS[part][settings.decoder]
    owner = operator.attrgetter(path)(engine)
    real = getattr(owner, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes[0] += 1
        if passes[0] == at:
            cancel.set()
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, name, counted)
        yield passes
