"""What the tests of our own decoder share: the tiny model, and ways to compare."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.checkpoint_fixture import TOKENS
from wyoming_chatterbox.engine.chatterbox import loader
from wyoming_chatterbox.engine.weights.files import find_files
from wyoming_chatterbox.testing.random_checkpoint import set_eos_at


def load_model(directory: Path) -> Any:
    """Upstream's ChatterboxTTS with the tiny checkpoint's weights."""
    return loader.load_model(find_files(directory), "cpu", 0)


@contextlib.contextmanager
def ending_after(model: Any, tokens: int) -> Iterator[None]:
    """The model ends its speech after so many tokens; 999 is never."""
    set_eos_at(model.t3, tokens)
    try:
        yield
    finally:
        set_eos_at(model.t3, TOKENS)


def level(samples: Any) -> float:
    """In dB."""
    return float(10 * np.log10(np.mean(np.square(np.asarray(samples, dtype=np.float64))) + 1e-20))


def agreement(samples: Any, expected: Any) -> float:
    """How far the difference is below what was expected, in dB."""
    samples, expected = np.asarray(samples, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert samples.shape == expected.shape
    return level(expected) - level(samples - expected)


def joins(chunks: list[Any]) -> list[int]:
    """Where one chunk ends and the next begins, in samples."""
    return [int(end) for end in np.cumsum([len(chunk) for chunk in chunks])[:-1]]
