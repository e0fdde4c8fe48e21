"""Chunks: what is heard at their joins, and how long they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.streaming.helpers import LONG, RATE, SAMPLES_PER_TOKEN, chunks_of, speak
from tests.engine.chatterbox.tiny import agreement, ending_after, joins, level
from wyoming_chatterbox.engine.base import EngineError, Samples
from wyoming_chatterbox.engine.chatterbox import streaming
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


def _dips(chunks: list[Samples]) -> list[float]:
    """How much louder the first 5 ms of every chunk are than the 35 ms after them, in dB."""
    samples = np.concatenate(chunks)
    return [level(samples[at : at + 120]) - level(samples[at + 120 : at + 960]) for at in joins(chunks)]


def test_the_level_at_joins_is_that_of_one_chunk(long_engine: ChatterboxEngine) -> None:
    whole = speak(long_engine, chunk_size=500)
    chunks = chunks_of(long_engine, chunk_size=12, chunk_growth=1.0)
    streamed = np.concatenate(chunks)
    assert len(joins(chunks)) == 3
    for at in joins(chunks):
        around = slice(at - RATE * 5 // 1000, at + RATE * 40 // 1000)
        assert abs(level(streamed[around]) - level(whole[around])) < 0.2
        assert abs(level(streamed[at : at + 120]) - level(whole[at : at + 120])) < 0.5
        assert abs(streamed[at] - streamed[at - 1]) < 1.5 * abs(whole[at] - whole[at - 1]) + 0.01


def test_upstream_has_a_hole_at_every_join(long_engine: ChatterboxEngine) -> None:
    """So that the test above is known to see what it looks for."""
    theirs = _dips(chunks_of(long_engine, chunk_size=12, decoder="upstream"))
    ours = _dips(chunks_of(long_engine, chunk_size=12, chunk_growth=1.0))
    assert max(theirs) < -10
    assert np.mean(theirs) < np.mean(ours) - 6


CHUNKINGS: list[tuple[dict[str, Any], float]] = [
    ({"chunk_size": 5, "chunk_growth": 1.0}, 32),
    ({"chunk_size": 12, "chunk_growth": 2.0}, 35),
    ({"chunk_size": 17, "chunk_growth": 1.3}, 33),
    ({}, 40),
    ({"chunk_size": LONG}, 45),
]
"""And how many dB the samples are from those of one chunk at least."""


@pytest.mark.parametrize(("chunking", "least"), CHUNKINGS, ids=str)
def test_every_chunking_says_the_same(long_engine: ChatterboxEngine, chunking: dict[str, Any], least: float) -> None:
    whole = speak(long_engine, chunk_size=500)
    streamed = speak(long_engine, **chunking)
    assert len(streamed) == LONG * SAMPLES_PER_TOKEN == len(whole)
    # What is left is the flow decoder: what was heard does not know the tokens after its chunk. Were frames that nobody
    # has heard yet not taken from the latest decode, it would be 30.7, 32.1, 31.6 and 34.0 dB for all but the last.
    assert agreement(streamed, whole) > least
    assert agreement(speak(long_engine, seed=1, **chunking), whole) < 10


def test_chunks_grow_to_200_tokens_and_no_further(engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    real = streaming._Utterance.push

    def counted(self: Any, tokens: list[int], *, final: bool) -> Samples:
        taken.append((len(tokens), final))
        return real(self, tokens, final=final)

    monkeypatch.setattr(streaming._Utterance, "push", counted)
    with ending_after(engine.chatterbox, 500):
        speak(engine, chunk_size=25, chunk_growth=4.0, text="a" * 200)
    assert taken == [(25, False), (100, False), (200, False), (175, True)]
    taken.clear()
    speak(engine, chunk_size=TOKENS)
    assert taken == [(TOKENS, False), (0, True)]
    taken.clear()
    with ending_after(engine.chatterbox, 0), pytest.raises(EngineError, match="made no speech"):
        speak(engine)
    assert taken == [(0, True)]


def test_speech_that_ends_a_few_tokens_behind_a_chunk_ends_with_it(
    engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more chunk would cost as much as many tokens. The first one does not wait for tokens that are not its own."""
    taken: list[int] = []
    made: list[int] = []
    real, tokens = streaming._Utterance.push, engine.decoder.token_source

    def counted(self: Any, tokens: list[int], *, final: bool) -> Samples:
        taken.append(len(tokens))
        return real(self, tokens, final=final)

    def watched(*arguments: Any, **named: Any) -> Iterator[int]:
        for token in tokens(*arguments, **named):
            made.append(len(taken))
            yield token

    monkeypatch.setattr(streaming._Utterance, "push", counted)
    monkeypatch.setattr(engine.decoder, "token_source", watched)
    for ahead, length, expected in (
        (4, 51, [12, 39]),  # the fourth token behind the chunk is the end
        (4, 52, [12, 36, 4]),
        (0, 49, [12, 36, 1]),
        (4, 14, [12, 2]),
        (16, 12, [12, 0]),
        (16, 62, [12, 50]),
    ):
        monkeypatch.setattr(engine.decoder, "plan", dataclasses.replace(engine.plan, lookahead_tokens=ahead))
        taken.clear()
        made.clear()
        with ending_after(engine.chatterbox, length):
            samples = speak(engine, chunk_size=12, chunk_growth=3.0)
        assert taken == expected
        assert len(samples) == length * SAMPLES_PER_TOKEN
        assert made.count(0) == 12
        assert made.count(1) == min(length - 12, 36 + ahead)


def test_a_short_text_is_one_chunk_where_two_would_cost_twice_as_much(engine: ChatterboxEngine) -> None:
    assert len(chunks_of(engine, text="The kettle is on now")) == 1
    assert len(chunks_of(engine, text="The kettle is on now.")) == 2
    assert len(chunks_of(engine, text="The kettle is on now", chunk_size=12)) == 2, "unless it is asked for"


def test_the_first_chunk_is_the_smallest_that_is_heard(engine: ChatterboxEngine) -> None:
    first, *_ = chunks_of(engine, chunk_size=5)
    assert len(first) == SAMPLES_PER_TOKEN
    assert engine.decoder._min_chunk_tokens == 12
