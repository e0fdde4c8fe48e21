"""A model that nobody asks for gives its memory back, and comes back when somebody does."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import threading
import time
import weakref
from collections.abc import Callable

import pytest
from wyoming.client import AsyncTcpClient
from wyoming.info import Info
from wyoming.tts import SynthesizeChunk, SynthesizeStart, SynthesizeStop

from wyoming_chatterbox.engine.base import CancelToken, Engine, EngineError
from wyoming_chatterbox.hosting.base import EngineSpec, StatusReport
from wyoming_chatterbox.hosting.thread import ThreadHost
from wyoming_chatterbox.model_factory import create_catalog
from wyoming_chatterbox.speech.model import Model, ModelState
from wyoming_chatterbox.testing.engines import SlowEngine, ToneEngine, hosted_model, model_of, voice
from wyoming_chatterbox.testing.serving import Answer, describe, read_answer, running, settings, synthesize

PLAIN = ["audio-start", "audio-chunk", "audio-stop"]
IDLE = 0.3
"""Seconds after which these models are unloaded."""

RETRY = 1.0
"""Seconds after which they are tried to be loaded again."""


class Original(SlowEngine):
    """Closes within `closing` seconds, and says on which thread."""

    def __init__(self, seconds: float = 0.0, chunks: int = 2, closing: float = 0.0) -> None:
        super().__init__(seconds, chunks, "original")
        self.voices = (voice("anna", "original"), voice("default", "original"))
        self.closing = closing
        self.closed_on: list[int] = []
        self.asked_too_late = False

    def work(self, number: int, cancel: CancelToken) -> None:
        self.asked_too_late |= bool(self.closed_on)
        super().work(number, cancel)

    def close(self) -> None:
        time.sleep(self.closing)
        self.closed_on.append(threading.get_ident())


class Loader:
    """Makes a model whose engines are made by `make`, and keeps them."""

    def __init__(self, make: Callable[[], Original] = Original, idle: float = IDLE, timeout: float = 5.0) -> None:
        self.engines: list[Original] = []
        self.before_load: Callable[[], None] = lambda: None
        self._make = make
        declared = (voice("declared", "original"),)
        self.host = ThreadHost("original", self._load, chunk_timeout=timeout)
        self.model = Model("original", declared, self.host, retry_seconds=(RETRY,), unload_after=idle)

    def _load(self, spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        self.before_load()
        self.engines.append(self._make())
        return self.engines[-1]


def embedded() -> Model:
    return model_of(ToneEngine("embedded"))


async def until(model: Model, state: ModelState, seconds: float = 5.0) -> None:
    await eventually(lambda: model.status.state is state, f"{model.name} never was {state}", seconds)


async def eventually(condition: Callable[[], bool], complaint: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        await asyncio.sleep(0.005)


async def info(client: AsyncTcpClient) -> tuple[str, list[str]]:
    """(what the server says about itself, its voices)"""
    program = Info.from_event(await describe(client)).tts[0]
    return program.description or "", [one.name for one in program.voices]


def speaker(answer: Answer) -> tuple[str, bool]:
    return answer.start["model"], answer.start["fallback"]


async def test_an_idle_model_is_closed_and_the_next_request_brings_it_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loader = Loader()
    async with running(loader.model, embedded()) as server, server.client() as client:
        assert speaker(await synthesize(client, "Hello.")) == ("original", False)
        await until(loader.model, ModelState.UNLOADED)
        await eventually(lambda: bool(loader.engines[0].closed_on), "the engine was not closed")
        assert set(loader.engines[0].closed_on) == loader.engines[0].threads, "closed where it lived"
        text, voices = await info(client)
        assert "original not loaded, loads with the next request; the embedded voice speaks in its place" in text
        assert voices == ["anna", "default", "embedded"]
        assert len(loader.engines) == 1, "describe is no request"
        assert speaker(await synthesize(client, "Good morning.", voice="default")) == ("embedded", True)
        await until(loader.model, ModelState.READY)
        assert speaker(await synthesize(client, "Good morning, again.", voice="default")) == ("original", False)
        await until(loader.model, ModelState.UNLOADED)
        await asyncio.sleep(0.2)
        assert loader.model.status.state is ModelState.UNLOADED, "it was asked for before, not now"
    assert [engine.texts for engine in loader.engines] == [["Hello."], ["Good morning, again."]]
    story = [record.getMessage() for record in caplog.records if record.name.endswith("speech.model")]
    for line in (
        "Model original was not used for 0.005 min: unloading it",
        "Model original is unloaded, memory given back: RSS ",
        "Reloading model original",
        "Model original is back after ",
    ):
        assert any(one.startswith(line) for one in story), f"{line!r} is not in the log: {story}"


async def test_loading_again_begins_before_the_text_is_there() -> None:
    loader = Loader()
    async with running(loader.model, embedded()) as server, server.client() as client:
        await until(loader.model, ModelState.UNLOADED)
        await client.write_event(SynthesizeStart().event())
        await until(loader.model, ModelState.READY)
        await asyncio.sleep(2 * IDLE)
        assert loader.model.ready, "somebody is about to speak with it"
        await client.write_event(SynthesizeChunk(text="Here I am.").event())
        await client.write_event(SynthesizeStop().event())
        assert speaker(await read_answer(client, "synthesize-stopped")) == ("original", False)


async def test_a_long_utterance_and_a_pause_in_its_text_are_not_idle() -> None:
    loader = Loader(lambda: Original(seconds=0.1, chunks=8))
    async with running(loader.model, embedded()) as server, server.client() as client:
        await client.write_event(SynthesizeStart().event())
        await client.write_event(SynthesizeChunk(text="The first sentence. And").event())
        await asyncio.sleep(0.8 + 2 * IDLE)
        assert loader.model.ready
        await client.write_event(SynthesizeChunk(text=" the second one.").event())
        await client.write_event(SynthesizeStop().event())
        answer = await read_answer(client, "synthesize-stopped")
        ended = time.monotonic()
        assert answer.types == [*PLAIN, "synthesize-stopped"]
        await until(loader.model, ModelState.UNLOADED)
        assert IDLE * 0.3 < time.monotonic() - ended < IDLE + 3, "idle time counts from the end"
    assert loader.engines[0].texts == ["The first sentence.", "And the second one."]
    assert len(loader.engines) == 1


async def test_who_waits_for_a_turn_keeps_the_model() -> None:
    loader = Loader(lambda: Original(seconds=0.2, chunks=2))
    async with running(loader.model, embedded()) as server:

        async def ask() -> Answer:
            async with server.client() as client:
                return await synthesize(client, "Hello.")

        answers = await asyncio.gather(*(ask() for _ in range(4)))
    assert [speaker(answer) for answer in answers] == [("original", False)] * 4
    assert len(loader.engines) == 1


async def test_time_to_load_is_not_idle() -> None:
    loader = Loader()
    async with running(loader.model, embedded()) as server, server.client() as client:
        await until(loader.model, ModelState.UNLOADED)
        loader.before_load = lambda: time.sleep(3 * IDLE)
        await synthesize(client, "Hello.")
        await until(loader.model, ModelState.READY)
        await asyncio.sleep(IDLE / 2)
        assert speaker(await synthesize(client, "Hello again.")) == ("original", False)


async def test_the_embedded_voice_by_its_name_does_not_wake_the_model() -> None:
    loader = Loader()
    async with running(loader.model, embedded()) as server, server.client() as client:
        await until(loader.model, ModelState.UNLOADED)
        assert speaker(await synthesize(client, "Hello.", voice="embedded")) == ("embedded", False)
        await asyncio.sleep(0.1)
        assert loader.model.status.state is ModelState.UNLOADED
        await until(loader.model, ModelState.UNLOADED)
    assert len(loader.engines) == 1


async def test_speech_of_the_embedded_voice_does_not_keep_the_model() -> None:
    loader = Loader()
    async with running(loader.model, embedded()) as server, server.client() as client:
        deadline = time.monotonic() + 5
        while loader.model.ready:
            assert time.monotonic() < deadline
            await synthesize(client, "Hello.", voice="embedded")
            await asyncio.sleep(0.02)


async def test_a_request_while_it_is_unloaded_is_answered_at_once_and_loads_it_afterwards() -> None:
    loader = Loader(lambda: Original(closing=1.0))
    async with running(loader.model, embedded()) as server, server.client() as client:
        await until(loader.model, ModelState.UNLOADED)
        answers = [await synthesize(client, f"Hello number {number}.") for number in range(3)]
        assert loader.engines[0].closed_on == [], "it was still unloaded"
        assert "original waiting to be loaded; the embedded voice speaks" in (await info(client))[0]
        await until(loader.model, ModelState.READY)
        assert speaker(await synthesize(client, "Hello again.")) == ("original", False)
    for answer in answers:
        assert (answer.types, speaker(answer)) == (PLAIN, ("embedded", True))
        assert answer.seconds < 0.5


async def test_without_a_fallback_requests_are_refused_until_it_is_back() -> None:
    loader = Loader()
    async with running(loader.model, None) as server, server.client() as client:
        await until(loader.model, ModelState.UNLOADED)
        assert "next request; nothing speaks in its place" in (await info(client))[0]
        loader.before_load = lambda: time.sleep(0.5)
        first = await synthesize(client, "Hello.")
        assert first.types == ["error", "audio-stop"]
        assert first.error["code"] == "model-unavailable"
        assert first.error["text"] == "Model original is waiting to be loaded; try again later"
        await until(loader.model, ModelState.LOADING)
        second = await synthesize(client, "Hello.")
        assert second.error["text"] == "Model original is loading weights; try again later"
        await until(loader.model, ModelState.READY)
        assert speaker(await synthesize(client, "Hello.")) == ("original", False)


async def test_what_fails_to_load_again_is_tried_again_while_the_embedded_voice_speaks() -> None:
    loader = Loader()
    tries: list[float] = []

    def fail_twice() -> None:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise RuntimeError("the GPU is full")

    async with running(loader.model, embedded()) as server, server.client() as client:
        await until(loader.model, ModelState.UNLOADED)
        loader.before_load = fail_twice
        assert speaker(await synthesize(client, "Hello.")) == ("embedded", True)
        await until(loader.model, ModelState.FAILED)
        assert "original failed: the GPU is full; the embedded voice speaks" in (await info(client))[0]
        assert speaker(await synthesize(client, "Hello.")) == ("embedded", True)
        await until(loader.model, ModelState.READY)
        assert speaker(await synthesize(client, "Hello.")) == ("original", False)
        await until(loader.model, ModelState.UNLOADED)
    assert len(tries) == 3


class Weights:
    """Large, and in a circle as modules may be."""

    def __init__(self) -> None:
        self.itself = self


async def test_what_was_loaded_before_it_failed_is_not_kept_until_the_next_try() -> None:
    loader = Loader()
    kept: list[weakref.ref[Weights]] = []

    def fail_half_way() -> None:
        weights = Weights()
        kept.append(weakref.ref(weights))
        raise EngineError("the GPU is full")

    gc.disable()
    try:
        async with running(loader.model, embedded()) as server, server.client() as client:
            await until(loader.model, ModelState.UNLOADED)
            loader.before_load = fail_half_way
            await synthesize(client, "Hello.")
            await until(loader.model, ModelState.FAILED)
            await eventually(lambda: kept[0]() is None, "it is still in memory", RETRY / 2)
            assert len(kept) == 1
    finally:
        gc.enable()


async def test_an_engine_that_breaks_while_it_is_closed_comes_back_too(caplog: pytest.LogCaptureFixture) -> None:
    loader = Loader()
    async with running(loader.model, embedded()) as server, server.client() as client:
        loader.engines[0].close = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        await until(loader.model, ModelState.UNLOADED)
        await eventually(lambda: "broke while it was unloaded" in caplog.text, "the log does not say what happened")
        await synthesize(client, "Hello.")
        await until(loader.model, ModelState.READY)
        assert speaker(await synthesize(client, "Hello.")) == ("original", False)


async def test_an_engine_that_hangs_is_unloaded_only_after_it_came_back() -> None:
    released = threading.Event()
    loader = Loader(timeout=0.2)
    async with running(loader.model, embedded()) as server, server.client() as client:
        loader.engines[0].work = lambda number, cancel: (released.wait(10), None)[1]  # type: ignore[method-assign]
        assert speaker(await synthesize(client, "Hello.")) == ("embedded", True)
        await asyncio.sleep(2 * IDLE)
        assert "the engine made nothing for 0.2 s" in str(loader.model.status)
        released.set()
        await until(loader.model, ModelState.READY)
        await until(loader.model, ModelState.UNLOADED)
        await synthesize(client, "Hello.")
        await until(loader.model, ModelState.READY)
    assert len(loader.engines) == 2


@pytest.mark.parametrize("asked", [False, True], ids=["nobody asked", "somebody asked"])
async def test_a_server_that_stops_while_it_unloads_ends_in_time_with_the_engine_closed(asked: bool) -> None:
    loader = Loader(lambda: Original(closing=0.3))
    async with running(loader.model, embedded()) as server:
        await until(loader.model, ModelState.UNLOADED)
        if asked:
            async with server.client() as client:
                await synthesize(client, "Hello.")
        started = time.monotonic()
    assert time.monotonic() - started < 1.0
    assert len(loader.engines[0].closed_on) == 1
    assert len(loader.engines) == 1


async def test_a_server_that_stops_before_its_thread_came_to_unloading_closes_the_engine_too() -> None:
    loader = Loader()
    async with running(loader.model, embedded()):
        await asyncio.sleep(IDLE / 2)
        loader.host._thread.post(lambda: time.sleep(IDLE))
        await until(loader.model, ModelState.UNLOADED)
    assert len(loader.engines[0].closed_on) == 1


async def test_a_server_stops_at_once_while_its_model_is_unloaded() -> None:
    loader = Loader()
    async with running(loader.model, embedded()):
        await until(loader.model, ModelState.UNLOADED)
        await asyncio.sleep(0.1)
        started = time.monotonic()
    assert time.monotonic() - started < 0.3
    assert len(loader.engines[0].closed_on) == 1


async def test_whenever_a_request_comes_it_is_spoken(caplog: pytest.LogCaptureFixture) -> None:
    """Requests at all moments of a model that is unloaded, and loaded again, all the time."""
    idle = 0.02
    loader = Loader(lambda: Original(seconds=0.002, closing=0.01), idle=idle)
    rng = random.Random(0)
    answers: list[Answer] = []
    async with running(loader.model, embedded()) as server:

        async def ask(until: float) -> None:
            async with server.client() as client:
                while time.monotonic() < until:
                    answers.append(await synthesize(client, "Hello there. And you."))
                    await asyncio.sleep(rng.uniform(0.0, 3 * idle))

        until = time.monotonic() + 3
        await asyncio.gather(ask(until), ask(until))
    assert {tuple(answer.types) for answer in answers} == {tuple(PLAIN)}
    assert {speaker(answer) for answer in answers} == {("original", False), ("embedded", True)}
    assert max(answer.seconds for answer in answers) < 1.0
    assert len(loader.engines) > 5
    assert not any(engine.asked_too_late or len(engine.closed_on) > 1 for engine in loader.engines)
    assert "failed, the embedded voice goes on" not in caplog.text


async def test_by_default_a_model_stays() -> None:
    engine = Original()
    model = hosted_model("original", engine.voices, lambda spec, report, cancel: engine)
    async with running(model, embedded()) as server, server.client() as client:
        await synthesize(client, "Hello.")
        await asyncio.sleep(0.3)
        assert model.ready


async def test_the_setting_is_for_the_chosen_model_and_not_for_the_embedded_voice() -> None:
    models = create_catalog(settings(model="embedded", unload_after=0.001))
    chosen, fallback = models.primary, models.fallback
    assert chosen is fallback and models.models == (chosen,)
    async with running(chosen, fallback) as server, server.client() as client:
        await asyncio.sleep(0.3)
        assert chosen.ready
        assert speaker(await synthesize(client, "Hello.")) == ("embedded", False)
