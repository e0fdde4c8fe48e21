"""Cancelling stops before the next speech token, flow step or vocoder pass."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.chatterbox.engine.helpers import counted_calls, open_stream, speak, with_small_chunks
from wyoming_chatterbox.engine.base import Cancelled, CancelToken
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.speech_settings import GenerationSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


@pytest.mark.parametrize("at", [1, 4])
def test_cancelling_stops_before_the_next_speech_token(
    engine: ChatterboxEngine, settings: GenerationSettings, at: int
) -> None:
    cancel = CancelToken()
    with counted_calls(engine, "token", settings, cancel=cancel, at=at) as passes, pytest.raises(Cancelled):
        list(open_stream(engine, settings=settings, cancel=cancel))
    assert passes == [at]


def test_cancelling_stops_before_the_next_step_of_the_flow(
    engine: ChatterboxEngine, settings: GenerationSettings
) -> None:
    cancel = CancelToken()
    with counted_calls(engine, "step", settings, cancel=cancel, at=4) as passes, pytest.raises(Cancelled):
        list(open_stream(engine, settings=settings, cancel=cancel))
    assert passes == [4], "of ten for every chunk"


def test_cancelling_stops_before_the_vocoder(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    cancel = CancelToken()
    with (
        counted_calls(engine, "step", settings, cancel=cancel, at=10),
        counted_calls(engine, "vocoder", settings, cancel=CancelToken(), at=0) as passes,
        pytest.raises(Cancelled),
    ):
        list(open_stream(engine, settings=settings, cancel=cancel))
    assert passes == [0]


def test_what_was_cancelled_before_is_not_begun(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    cancel = CancelToken()
    cancel.set()
    with counted_calls(engine, "token", settings, cancel=CancelToken(), at=0) as passes, pytest.raises(Cancelled):
        next(open_stream(engine, settings=settings, cancel=cancel))
    assert passes == [0]


def test_cancelling_one_stream_leaves_the_other_alone(engine: ChatterboxEngine, settings: GenerationSettings) -> None:
    small = with_small_chunks(settings)
    expected = speak(engine, settings=small)
    cancel = CancelToken()
    stopped, other = open_stream(engine, settings=small, cancel=cancel), open_stream(engine, settings=small)
    next(stopped)
    heard = [next(other)[0]]
    cancel.set()
    heard += [samples for samples, _ in other]
    assert np.array_equal(np.concatenate(heard), expected)
    with pytest.raises(Cancelled):
        next(stopped)
