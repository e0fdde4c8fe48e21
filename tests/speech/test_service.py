"""Who speaks when: the model, and the embedded voice while the model cannot."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import re
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Info

from wyoming_chatterbox.engine.base import CancelToken, Engine, EngineError, EngineUnavailable, NothingToSay
from wyoming_chatterbox.hosting.base import EngineSpec, LoadPhase, StatusReport
from wyoming_chatterbox.server import Server
from wyoming_chatterbox.speech.catalog import ModelCatalog
from wyoming_chatterbox.speech.errors import InvalidSetting
from wyoming_chatterbox.speech.model import Model, ModelState
from wyoming_chatterbox.speech.request import SpeechRequest
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.engines import BreakingEngine, SlowEngine, ToneEngine, hosted_model, model_of, voice
from wyoming_chatterbox.testing.serving import describe, read_answer, running, settings, stream, synthesize

PLAIN = ["audio-start", "audio-chunk", "audio-stop"]


class Retryable(EngineError):
    retryable = True


def loading(engine: ToneEngine, load: Callable[[StatusReport, CancelToken], None], retry: float = 0.05) -> Model:
    """A model whose loading does `load` first."""

    def make(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        load(report, cancel)
        return engine

    return hosted_model(engine.model, engine.voices, make, retry_seconds=(retry,))


def fallback() -> tuple[ToneEngine, Model]:
    engine = ToneEngine("embedded")
    return engine, model_of(engine)


async def test_the_embedded_voice_speaks_while_the_model_loads_and_the_model_when_it_is_there() -> None:
    engine, (embedded, other) = ToneEngine("original"), fallback()
    released = asyncio.Event()

    def load(report: StatusReport, cancel: CancelToken) -> None:
        report(LoadPhase.DOWNLOADING, 0.43)
        deadline = time.monotonic() + 10
        while not released.is_set() and time.monotonic() < deadline:
            time.sleep(0.005)

    model = loading(engine, load)
    async with running(model, other, wait=False) as server, server.client() as client:
        while model.status.progress is None:
            await asyncio.sleep(0.01)
        info = Info.from_event(await describe(client)).tts[0]
        assert "original downloading, 43% done; the embedded voice speaks in its place" in (info.description or "")
        assert [one.name for one in info.voices] == ["original", "embedded"]
        answer = await synthesize(client, "Hello.", voice="original")
        assert answer.types == PLAIN
        assert (answer.start["model"], answer.start["fallback"]) == ("embedded", True)
        assert embedded.texts == ["Hello."]
        released.set()
        await model.wait_until_decided()
        answer = await synthesize(client, "Hello again.", voice="original")
        assert (answer.start["model"], answer.start["fallback"]) == ("original", False)
        assert engine.texts == ["Hello again."]
        assert "original ready" in (Info.from_event(await describe(client)).tts[0].description or "")


async def test_warming_up_is_said_by_info_and_with_its_time_by_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine, (_, other) = ToneEngine("original"), fallback()
    released = threading.Event()
    engine.warm_up = lambda: (released.wait(10), None)[1]  # type: ignore[method-assign]
    model = model_of(engine)
    async with running(model, other, wait=False) as server, server.client() as client:
        while model.status.state is not ModelState.WARMING:
            await asyncio.sleep(0.01)
        description = Info.from_event(await describe(client)).tts[0].description or ""
        assert "model original warming up; the embedded voice speaks in its place" in description
        answer = await synthesize(client, "Hello.", voice="original")
        assert (answer.start["model"], answer.start["fallback"]) == ("embedded", True)
        await asyncio.sleep(0.2)
        released.set()
        await model.wait_until_decided()
    lines = [record.getMessage() for record in caplog.records]
    ready = next(line for line in lines if line.startswith("Model original is ready after "))
    assert (
        lines.index("Model original: loading weights") < lines.index("Model original: warming up") < lines.index(ready)
    )
    warming = re.search(r", (\S+) s of them to warm up$", ready)
    assert warming is not None and float(warming.group(1)) >= 0.2


async def test_the_embedded_voice_speaks_after_the_model_failed_and_info_says_why() -> None:
    def load(report: StatusReport, cancel: CancelToken) -> None:
        raise EngineUnavailable("no weights here")

    embedded, other = fallback()
    async with running(loading(ToneEngine("original"), load), other) as server, server.client() as client:
        answer = await stream(client, ["Hello. ", "You."])
        description = Info.from_event(await describe(client)).tts[0].description or ""
    assert answer.types == [*PLAIN, "synthesize-stopped"]
    assert embedded.texts == ["Hello.", "You."]
    assert "original failed: no weights here; the embedded voice speaks in its place" in description


async def test_the_embedded_voice_can_be_chosen_by_name_and_is_no_fallback_then() -> None:
    engine, (embedded, other) = ToneEngine("original"), fallback()
    async with running(model_of(engine), other) as server, server.client() as client:
        await other.wait_until_decided()
        answer = await synthesize(client, "Hello.", voice="embedded")
    assert (answer.start["model"], answer.start["fallback"]) == ("embedded", False)
    assert (engine.texts, embedded.texts) == ([], ["Hello."])


async def test_without_a_fallback_requests_are_refused_at_once_while_the_model_loads() -> None:
    def load(report: StatusReport, cancel: CancelToken) -> None:
        while not cancel.is_set:
            time.sleep(0.005)

    async with running(loading(ToneEngine("original"), load), None, wait=False) as server, server.client() as client:
        answer = await stream(client, ["Hello."])
    assert answer.error["code"] == "model-unavailable"
    assert "Model original is loading" in answer.error["text"]
    assert answer.types == ["error", "audio-stop", "synthesize-stopped"]


async def test_a_load_that_may_succeed_later_is_tried_again() -> None:
    tries = 0
    network = threading.Event()

    def load(report: StatusReport, cancel: CancelToken) -> None:
        nonlocal tries
        tries += 1
        if not network.is_set():
            raise Retryable("no network")

    model = loading(ToneEngine("original"), load)
    _, other = fallback()
    async with running(model, other) as server, server.client() as client:
        deadline = time.monotonic() + 30
        while tries < 2 or model.status.state is not ModelState.FAILED:  # it is LOADING in between
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert not model.ready
        network.set()
        while not model.ready:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (await synthesize(client, "Hello.")).start["model"] == "original"
    assert tries >= 3


async def test_a_load_that_fails_for_good_is_tried_once() -> None:
    tries = 0

    def load(report: StatusReport, cancel: CancelToken) -> None:
        nonlocal tries
        tries += 1
        raise RuntimeError("a bug")

    model = loading(ToneEngine("original"), load, retry=0.01)
    async with running(model, fallback()[1]):
        await asyncio.sleep(0.1)
    assert tries == 1
    assert "a bug" in str(model.status)


async def test_a_model_that_breaks_before_a_sentence_is_heard_hands_it_to_the_embedded_voice() -> None:
    engine, (embedded, other) = BreakingEngine(1, model="original"), fallback()
    async with running(model_of(engine), other) as server, server.client() as client:
        await other.wait_until_decided()
        answer = await synthesize(client, "This is fine. Now break. The rest.")
        assert answer.types == PLAIN
        assert embedded.texts == ["Now break.", "The rest."]
        again = await synthesize(client, "Fine again.")
        assert again.start["model"] == "original", "the next utterance is the model's again"


async def test_a_model_that_breaks_inside_a_sentence_ends_with_an_error() -> None:
    engine, (embedded, other) = BreakingEngine(2, model="original"), fallback()
    async with running(model_of(engine), other) as server, server.client() as client:
        await other.wait_until_decided()
        answer = await synthesize(client, "Now break. The rest.")
    assert answer.error["code"] == "engine-failed"
    assert embedded.texts == []


async def test_clients_are_taken_once_the_embedded_voice_is_there_and_are_answered_at_once() -> None:
    engine = ToneEngine("embedded")
    model = loading(engine, lambda report, cancel: time.sleep(0.5))
    server = Server(settings(), ModelCatalog(model, model))
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0.1)
    port = server.wyoming.listeners[0].port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await starting
    async with AsyncTcpClient("127.0.0.1", port) as client:
        answer = await synthesize(client, "Hello.")
    await server.shutdown()
    assert answer.types == PLAIN
    assert answer.seconds < 0.4


async def test_silence_stands_between_sentences_and_less_of_it_between_clauses() -> None:
    engine = ToneEngine(chunks=1)
    text = "Clause number one, then the second one goes on. The next sentence."
    async with (
        running(model_of(engine), sentence_silence=0.5, first_clause_words=3) as server,
        server.client() as client,
    ):
        answer = await synthesize(client, text)
    assert engine.texts == ["Clause number one,", "then the second one goes on.", "The next sentence."]
    samples = np.frombuffer(answer.pcm, dtype="<i2")
    edges = np.flatnonzero(np.diff((samples != 0).astype(int)))
    gaps = [(edges[i + 1] - edges[i]) / 24000 for i in range(0, len(edges) - 1, 2)]
    assert gaps == pytest.approx([0.2, 0.5], abs=0.001)


async def test_an_engine_works_on_one_thread_only() -> None:
    engine = SlowEngine(seconds=0.001, chunks=2)
    async with running(model_of(engine)) as server:

        async def ask() -> None:
            async with server.client() as client:
                await stream(client, ["First one. ", "Second one. ", "Third one."])

        await asyncio.gather(*(ask() for _ in range(5)))
    assert len(engine.threads) == 1
    assert len(engine.texts) == 15


async def test_voices_of_the_model_come_first() -> None:
    engine = ToneEngine("original")
    engine.voices = (voice("anna", "original"), voice("default", "original"))
    async with running(model_of(engine), fallback()[1]) as server, server.client() as client:
        names = [one.name for one in Info.from_event(await describe(client)).tts[0].voices]
        assert names == ["anna", "default", "embedded"]
        assert (await synthesize(client, "Hello.")).start["voice"] == "anna"
        assert (await synthesize(client, "Hello.", voice="DEFAULT")).start["voice"] == "default"
        await client.write_event(Event("synthesize", {"text": "Hello.", "voice": {"language": "en_GB"}}))
        assert (await read_answer(client, "audio-stop")).start["voice"] == "anna"


class PickyEngine(ToneEngine):
    """Finds nothing to say in what begins with a Z."""

    def work(self, number: int, cancel: CancelToken) -> None:
        if self.texts[-1].startswith("Z"):
            raise NothingToSay(f"nothing to say in {self.texts[-1]!r}")


async def test_a_sentence_that_the_engine_cannot_speak_does_not_take_the_others_with_it() -> None:
    async with running(model_of(PickyEngine())) as server, server.client() as client:
        answer = await synthesize(client, "The first one. Zzz zzz. The third one.")
        nothing = await synthesize(client, "Zzz zzz.")
    assert answer.types == PLAIN
    assert len(set(np.frombuffer(answer.pcm, dtype="<i2")) - {0}) == 2
    assert nothing.types == ["error", "audio-stop"]
    assert nothing.error["code"] == "engine-failed"


async def test_a_whole_sentence_is_spoken_while_the_text_pauses() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        await client.write_event(Event("synthesize-start", {}))
        await client.write_event(Event("synthesize-chunk", {"text": "Let me check that. "}))
        answer = await read_answer(client, "audio-chunk", timeout=3)
        assert answer.first_audio is not None and answer.first_audio > 0.5
        await client.write_event(Event("synthesize-chunk", {"text": "it is on"}))
        await asyncio.sleep(1.3)
        assert engine.texts == ["Let me check that."], "half a sentence waits for its other half"
        await client.write_event(Event("synthesize-chunk", {"text": ", I see."}))
        await client.write_event(Event("synthesize-stop", {}))
        await read_answer(client, "synthesize-stopped")
    assert engine.texts == ["Let me check that.", "it is on, I see."]


async def test_clients_without_anything_to_say_keep_nobody_from_speaking() -> None:
    async with running(model_of(ToneEngine()), max_queue=2) as server:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                client = await stack.enter_async_context(server.client())
                await client.write_event(Event("synthesize-start", {}))
            async with server.client() as client:
                assert (await stream(client, ["Hello."])).types[-1] == "synthesize-stopped"


async def test_an_engine_that_hangs_is_replaced_until_it_comes_back() -> None:
    engine, (embedded, other) = SlowEngine(seconds=0.0, chunks=1, model="original"), fallback()
    released = threading.Event()
    engine.work = lambda number, cancel: (released.wait(10), None)[1]  # type: ignore[method-assign]
    model = hosted_model("original", engine.voices, lambda spec, report, cancel: engine, engine_timeout=0.2)
    async with running(model, other) as server, server.client() as client:
        await other.wait_until_decided()
        async with server.client() as waiting:
            both = await asyncio.gather(synthesize(client, "Hello."), synthesize(waiting, "Hello, too."))
        for answer in both:
            assert answer.types == PLAIN, "the embedded voice said it"
            assert answer.seconds < 3
        assert "the engine made nothing for 0.2 s" in str(model.status)
        assert (await synthesize(client, "Hello again.")).start["fallback"]
        released.set()
        deadline = time.monotonic() + 2
        while not model.ready:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert (await synthesize(client, "Here I am.")).start["model"] == "original"
    assert sorted(embedded.texts) == ["Hello again.", "Hello, too.", "Hello."]


async def test_text_without_a_word_keeps_nobody_waiting() -> None:
    async with running(model_of(ToneEngine()), max_sentence_chars=1000) as server:
        async with server.client() as noisy, server.client() as polling:
            asking = asyncio.create_task(synthesize(noisy, "!?" * 10_000))
            waits = []
            while not asking.done():
                started = time.perf_counter()
                await describe(polling)
                waits.append(time.perf_counter() - started)
            assert (await asking).types == ["audio-start", "audio-stop"]
    assert len(waits) > 3
    assert max(waits) < 0.8, "2 s in one piece when nobody else gets a turn"


async def test_an_utterances_settings_win_over_its_voices_and_those_over_the_servers() -> None:
    engine = ToneEngine()
    engine.voices = (dataclasses.replace(engine.voices[0], settings={"exaggeration": 0.9, "cfg_weight": 0.3}),)
    generation = GenerationSettings(exaggeration=0.1, cfg_weight=0.2, temperature=0.4)
    async with running(model_of(engine), generation=generation) as server:
        service = server.server.service
        async for _ in service.speak(
            SpeechRequest(service.whole_text("One."), settings={"cfg_weight": "0.7"})
        ).chunks():
            pass
        with pytest.raises(InvalidSetting, match="cfg_weight: 7 is out of range"):
            async for _ in service.speak(
                SpeechRequest(service.whole_text("Two."), settings={"cfg_weight": 7})
            ).chunks():
                pass
    assert engine.texts == ["One."], "what is refused is not spoken"
    assert engine.settings == [GenerationSettings(exaggeration=0.9, cfg_weight=0.7, temperature=0.4)]


async def test_a_fault_of_the_server_is_not_logged_as_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("wyoming_chatterbox.speech.utterance.clean", broken)
    async with running(model_of(ToneEngine())) as server:
        service, outcomes = server.server.service, []
        service.observers.append(lambda metrics: outcomes.append(metrics.outcome))
        with pytest.raises(ZeroDivisionError):
            async for _ in service.speak(SpeechRequest(service.whole_text("Hello."))).chunks():
                pass
    assert outcomes == ["internal-error"]
