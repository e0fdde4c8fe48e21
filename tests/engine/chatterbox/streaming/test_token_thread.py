"""Tokens in a thread of their own."""

from __future__ import annotations

import dataclasses
import gc
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoint_fixture import TOKENS
from tests.engine.chatterbox.streaming.helpers import SAMPLES_PER_TOKEN, TEXT, load_engine, speak
from tests.engine.chatterbox.tiny import ending_after
from wyoming_chatterbox.engine.base import Cancelled, CancelToken, EngineError
from wyoming_chatterbox.engine.built_in_voices import CHATTERBOX_DEFAULT
from wyoming_chatterbox.engine.chatterbox import token_thread
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.t3.decode import Decoder
from wyoming_chatterbox.speech_settings import GenerationSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*sdp_kernel:FutureWarning")


@pytest.fixture
def parallel_engine(tiny_checkpoint: Path) -> ChatterboxEngine:
    engine = load_engine(tiny_checkpoint)
    engine.decoder.plan = dataclasses.replace(engine.plan, parallel=True)
    return engine


def _token_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == token_thread.NAME]


@pytest.fixture
def at_work(parallel_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which tokens are being made."""
    real, threads = parallel_engine.decoder.token_source, []

    def tokens(*args: Any, **options: Any) -> Iterator[int]:
        threads.append(threading.get_ident())
        try:
            yield from real(*args, **options)
        finally:
            threads.remove(threading.get_ident())

    monkeypatch.setattr(parallel_engine.decoder, "token_source", tokens)
    return threads


def test_tokens_from_another_thread_make_the_same_samples(
    tiny_checkpoint: Path, parallel_engine: ChatterboxEngine
) -> None:
    # Not the module's: other tests move its end of speech, which a kept prompt was computed with.
    engine = load_engine(tiny_checkpoint)
    for seed in (0, 1):
        assert np.array_equal(speak(parallel_engine, seed=seed), speak(engine, seed=seed))


def test_all_utterances_have_one_thread_which_ends_with_the_engine(
    parallel_engine: ChatterboxEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new thread begins without what libraries keep per thread: 23 to 37 ms for every shape of cuDNN's attention."""
    real, threads = Decoder._sample, set()

    def draw(self: Decoder, *args: Any) -> None:
        threads.add(threading.get_ident())
        real(self, *args)

    monkeypatch.setattr(Decoder, "_sample", draw)
    before = _token_threads()
    for seed in (0, 1, 2):
        speak(parallel_engine, seed=seed)
    (thread,) = [thread for thread in _token_threads() if thread not in before]
    assert threads == {thread.ident}
    assert sys.getswitchinterval() <= token_thread.SWITCH_INTERVAL
    stream = parallel_engine.generate_stream(TEXT, CHATTERBOX_DEFAULT, GenerationSettings(), CancelToken())
    parallel_engine.close()
    thread.join(10)
    assert not thread.is_alive()
    with pytest.raises(EngineError, match="closed"):
        next(stream)


def test_a_decoder_that_nobody_closed_ends_its_thread() -> None:
    thread = token_thread.TokenThread()
    assert list(thread.iterate((number for number in range(3)), CancelToken())) == [0, 1, 2]
    (running,) = [running for running in _token_threads() if running is thread._thread]
    del thread
    gc.collect()
    running.join(10)
    assert not running.is_alive()


def test_who_is_cancelled_before_its_turn_waits_for_nobody() -> None:
    thread, go = token_thread.TokenThread(), threading.Event()

    def slow() -> Generator[int, None, None]:
        yield 1
        assert go.wait(20)

    first, cancel = thread.iterate(slow(), CancelToken()), CancelToken()
    assert next(first) == 1
    begun: list[int] = []
    second = thread.iterate((number for number in range(3) if not begun.append(number)), cancel)
    threading.Timer(0.05, cancel.set).start()
    with pytest.raises(Cancelled):
        next(second)
    go.set()
    assert list(first) == []
    assert list(thread.iterate((number for number in range(2)), CancelToken())) == [0, 1]
    assert not begun


def test_nothing_is_at_work_once_an_utterance_ended(parallel_engine: ChatterboxEngine, at_work: list[int]) -> None:
    with ending_after(parallel_engine.chatterbox, 999):
        stream = parallel_engine.generate_stream("a" * 300, CHATTERBOX_DEFAULT, GenerationSettings(), CancelToken())
        next(stream)
        assert at_work
        stream.close()
        assert not at_work, "abandoned"
        cancel = CancelToken()
        stream = parallel_engine.generate_stream("a" * 300, CHATTERBOX_DEFAULT, GenerationSettings(), cancel)
        next(stream)
        cancel.set()
        with pytest.raises(Cancelled):
            list(stream)
    assert not at_work, "cancelled"


def test_an_error_in_the_thread_is_raised_where_the_tokens_are_taken(
    parallel_engine: ChatterboxEngine, at_work: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = Decoder._sample, [0]

    def breaking(self: Any, logits: Any, cache: Any) -> None:
        calls[0] += 1
        if calls[0] == 5:
            raise RuntimeError("broken")
        real(self, logits, cache)

    monkeypatch.setattr(Decoder, "_sample", breaking)
    with pytest.raises(EngineError, match="RuntimeError: broken"):
        speak(parallel_engine)
    assert not at_work
    assert len(speak(parallel_engine)) == TOKENS * SAMPLES_PER_TOKEN
