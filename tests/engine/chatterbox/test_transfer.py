"""Nothing in the midst of a chunk waits for the device.

On torch's meta device tensors have no values: whatever would bring one to the host, or would need one there, raises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chatterbox.tiny import load_model
from wyoming_chatterbox.engine.base import CancelToken
from wyoming_chatterbox.engine.chatterbox.s3gen.flow import StreamingFlow
from wyoming_chatterbox.engine.chatterbox.s3gen.incremental_vocoder import IncrementalVocoder
from wyoming_chatterbox.engine.chatterbox.s3gen.source import SAMPLES_PER_FRAME, HarmonicSource

META = torch.device("meta")


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> Any:
    return load_model(tiny_checkpoint)


@pytest.fixture(scope="module")
def s3gen(tiny_checkpoint: Path) -> Any:
    """Flow decoder and vocoder on the meta device."""
    return load_model(tiny_checkpoint).s3gen.to(META)


def test_a_value_on_the_meta_device_cannot_be_read() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        float(torch.zeros(1, device=META))
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(1, device=META).cpu()


def test_the_vocoders_source_stays_on_the_device(s3gen: Any) -> None:
    source = HarmonicSource(s3gen.mel2wav)
    state = source.start(3)
    with torch.inference_mode():
        for frames in (10, 7):
            source.draw_noise(state, frames)
            samples, cycles = source.samples(state, torch.zeros(1, frames, device=META))
            source.advance(state, frames, cycles[-1])
            assert samples.shape == (1, 1, frames * SAMPLES_PER_FRAME)
            assert samples.device == cycles.device == state.cycles.device == META
    assert state.position == 17


@pytest.mark.parametrize("attention", ["full", "causal"])
def test_frames_are_decoded_without_waiting(s3gen: Any, model: Any, attention: str) -> None:
    flow = StreamingFlow(s3gen.flow, attention=attention, steps=2)
    conditionals = {
        name: value.to(META) if torch.is_tensor(value) else value for name, value in model.conds.gen.items()
    }
    with torch.inference_mode():
        state = flow.start(conditionals, 3)
        for final in (False, True):
            mel = flow.push(state, [5] * 10, final=final, cancel=CancelToken())
            assert mel.device == META and mel.shape[2] > 0


def test_frames_become_samples_without_waiting(s3gen: Any) -> None:
    vocoder = IncrementalVocoder(s3gen.mel2wav)
    with torch.inference_mode():
        state = vocoder.start(3)
        lengths = [
            vocoder.push(state, torch.zeros(1, 80, 30, device=META), final=final)[0].shape[0] for final in (False, True)
        ]
    assert sum(lengths) == 60 * SAMPLES_PER_FRAME
