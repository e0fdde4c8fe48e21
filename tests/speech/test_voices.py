"""What the service and the model do with the library's voices."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wyoming.info import Info

from tests.voices.audio_factory import write
from wyoming_chatterbox.engine.base import CancelToken, EngineError, Samples, StreamMetrics, SupportsCloning
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.speech.catalog import ModelCatalog
from wyoming_chatterbox.speech.request import SpeechRequest
from wyoming_chatterbox.speech.service import SpeechService
from wyoming_chatterbox.speech_settings import GenerationSettings, utterance_knobs
from wyoming_chatterbox.testing.engines import RATE, ToneEngine, hosted_model, model_of, voice
from wyoming_chatterbox.testing.serving import describe, running, settings, synthesize
from wyoming_chatterbox.voices.voice import Voice


class CloningEngine(ToneEngine):
    """Says what it did; `seconds` is what a voice costs that it has not prepared."""

    def __init__(self, seconds: float = 0.0, fails: Sequence[str] = (), chunks: int = 2) -> None:
        super().__init__("original", chunks=chunks)
        self.seconds = seconds
        self.fails = fails
        self.did: list[str] = []
        self.known: set[str] = set()

    def prepare_voice(self, voice: Voice) -> bool:
        if voice.name in self.fails:
            raise EngineError("no voice in it")
        if voice.fingerprint in self.known:
            return False
        time.sleep(self.seconds)
        self.known.add(voice.fingerprint)
        self.did.append(f"prepared {voice.name}")
        return True

    def forget_voice(self, voice: Voice) -> None:
        self.known.discard(voice.fingerprint)
        self.did.append(f"forgot {voice.name}")

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        if voice.clips:
            self.prepare_voice(voice)
        self.did.append(f"spoke {voice.name}")
        for samples, metrics in super().generate_stream(text, voice, settings, cancel):
            yield samples * 0 + np.float32(0.25), metrics


def cloned(name: str, fingerprint: str = "", **fields: Any) -> Voice:
    plain = voice(name, "original")
    return dataclasses.replace(plain, clips=(Path(name),), fingerprint=fingerprint or name, base=name, **fields)


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def spoken(service: SpeechService, text: str, name: str | None = None, **options: Any) -> Any:
    request = SpeechRequest(service.whole_text(text), voice=name, **options)
    pcm = b"".join([piece.pcm async for piece in service.speak(request).chunks()])
    return np.frombuffer(pcm, dtype="<i2") / 32767


# How an utterance is spoken


async def test_a_voices_gain_and_silence_win_over_the_servers_and_the_requests_over_both() -> None:
    model = model_of(CloningEngine())
    model.set_cloned_voices([cloned("loud", settings={"gain": 6.0, "sentence_silence": 1.0})])
    service = SpeechService(settings(gain=-6.0, sentence_silence=0.5), ModelCatalog(model))
    await model.load()
    sentence = 2 * 2400
    for name, gain, pause, own in (
        (None, -6.0, 0.5, {}),
        ("loud", 6.0, 1.0, {}),
        ("loud?gain=-12", -12.0, 1.0, {}),
        ("loud?sentence_silence=0", 6.0, 0.0, {}),
        ("loud", 0.0, 0.0, {"gain": 0, "sentence_silence": 0}),
        ("loud?gain=3", 3.0, 1.0, {"gain": 0}),
    ):
        samples = await spoken(service, "One is here. Two is here.", name, settings=own)
        assert len(samples) == 2 * sentence + round(pause * RATE)
        assert samples[0] == samples[-1] == pytest.approx(0.25 * 10 ** (gain / 20), abs=1e-4)
    await model.close()


async def test_the_embedded_voice_is_not_made_louder_in_another_ones_place() -> None:
    engine, fallback = CloningEngine(), ToneEngine("embedded")
    model, other = model_of(engine), model_of(fallback)
    model.set_cloned_voices([cloned("loud", settings={"gain": 12.0})])
    service = SpeechService(settings(), ModelCatalog(model, other))
    await other.load()
    assert (await spoken(service, "Hello.", "loud")).max() == pytest.approx(0.001, abs=1e-4)
    await model.close()
    await other.close()


async def test_a_voices_manner_reaches_the_engine_and_a_request_changes_it() -> None:
    engine = CloningEngine()
    model = model_of(engine)
    model.set_cloned_voices([cloned("bold", settings={"exaggeration": 1.5, "seed": 4})])
    service = SpeechService(settings(), ModelCatalog(model))
    await model.load()
    await spoken(service, "Hello.", "bold")
    await spoken(service, "Hello.", "bold?seed=9")
    await spoken(service, "Hello.", "?seed=7")
    assert [(one.exaggeration, one.seed) for one in engine.settings] == [(1.5, 4), (1.5, 9), (0.5, 7)]
    await model.close()


def test_what_an_utterance_may_set() -> None:
    names = {one.name for one in utterance_knobs()}
    assert {"exaggeration", "seed", "gain", "sentence_silence"} <= names and "decoder" not in names
    plain = settings().utterance
    assert (
        plain.with_overrides({"gain": "-3", "seed": 5}).gain == -3.0
        and plain.with_overrides({"seed": 5}).generation.seed == 5
    )
    for values, message in (
        ({"gain": 40}, "gain: 40 is out of range"),
        ({"decoder": "x"}, "decoder: unknown"),
        ({"voice": "x"}, "voice: unknown setting"),
    ):
        with pytest.raises(SettingsError, match=message):
            plain.with_overrides(values)


async def test_hidden_voices_are_not_listed_and_speakers_are_one_voice() -> None:
    model = model_of(CloningEngine())
    model.set_cloned_voices(
        [cloned("fam", "1", speaker="dad"), cloned("fam", "2", speaker="mum"), cloned("spy", hidden=True)]
    )
    async with running(model) as server, server.client() as client:
        listed = Info.from_event(await describe(client)).tts[0].voices
        assert [one.name for one in listed] == ["original", "fam"]
        assert [one.name for one in listed[1].speakers or ()] == ["dad", "mum"]
        assert (await synthesize(client, "Hello.", voice="spy")).start["voice"] == "spy"


async def test_the_reference_clip_is_the_default_and_so_is_the_voice_that_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "voices"
    write(folder / "anna.wav")
    write(folder / "ben.wav")
    clip = write(tmp_path / "zoe.wav")
    for changes, reference, default in (
        ({}, None, "original"),
        ({"reference_clip": clip}, clip, "zoe"),
        ({"voice": "ben"}, None, "ben"),
        ({"voice": "ben", "reference_clip": clip}, clip, "ben"),
    ):
        library = create_library((folder,), reference)
        async with running(model_of(CloningEngine()), library=library, **changes) as server, server.client() as client:
            assert (await synthesize(client, "Hello.")).start["voice"] == default
            assert server.server.service.default_voice.name == default  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match="voice: There is no voice 'bn'; similar names: ben"):
        async with running(model_of(CloningEngine()), library=create_library((folder,)), voice="bn"):
            pass


# Preparing in the background


async def test_voices_are_prepared_one_by_one_the_default_first_and_again_after_a_change(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    engine = CloningEngine()
    model = model_of(engine)
    model.set_cloned_voices([cloned("a"), cloned("b"), cloned("twin", "a"), cloned("c")])
    task = asyncio.create_task(model.prepare_voices("c"))
    await model.load()
    await until(lambda: len(engine.did) == 3)
    assert engine.did == ["prepared c", "prepared twin", "prepared b"], "of one fingerprint once"
    model.set_cloned_voices([cloned("a"), cloned("b", "b2"), cloned("d")])
    await until(lambda: len(engine.did) == 7)
    assert sorted(engine.did[3:]) == ["forgot b", "forgot c", "prepared b", "prepared d"]
    await until(lambda: "2 voices are ready" in caplog.text)
    assert "3 voices are ready (computed now: 3, there already: 0)" in caplog.text
    task.cancel()
    await model.close()


async def test_a_voice_that_is_asked_for_does_not_wait_for_the_others() -> None:
    engine = CloningEngine(seconds=0.1)
    model = model_of(engine)
    voices = [cloned(f"v{number:02}") for number in range(30)]
    model.set_cloned_voices(voices)
    service = SpeechService(settings(), ModelCatalog(model))
    await model.load()
    task = asyncio.create_task(model.prepare_voices())
    await until(lambda: len(engine.did) >= 2)
    started = time.monotonic()
    await spoken(service, "Hello.", "v29")
    assert time.monotonic() - started < 1.0, "at most one other voice and its own were in front of it"
    assert len(engine.did) < 10 and "prepared v29" in engine.did
    task.cancel()
    await model.close()


async def test_no_voice_is_prepared_while_somebody_speaks() -> None:
    engine = CloningEngine(chunks=1)
    model = model_of(engine)
    model.set_cloned_voices([cloned("a")])
    await model.load()
    with model.lease(voice("original", "original")):
        task = asyncio.create_task(model.prepare_voices())
        await asyncio.sleep(0.1)
        assert engine.did == []
    await until(lambda: engine.did == ["prepared a"])
    task.cancel()
    await model.close()


async def test_a_voice_that_is_gone_is_forgotten_when_nobody_speaks_with_it_any_more() -> None:
    engine = CloningEngine()
    model = model_of(engine)
    anna = cloned("anna")
    model.set_cloned_voices([anna])
    await model.load()
    with model.lease(anna):
        with model.lease(anna):
            model.set_cloned_voices([])
        await asyncio.sleep(0.05)
        assert engine.did == []
    await until(lambda: engine.did == ["forgot anna"])
    model.set_cloned_voices([anna])
    with model.lease(anna):
        model.set_cloned_voices([])
        model.set_cloned_voices([anna])
    await asyncio.sleep(0.05)
    assert engine.did == ["forgot anna"], "it came back"
    await model.close()


async def test_a_voice_that_cannot_be_prepared_is_said_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    engine = CloningEngine(fails=("bad",))
    model = model_of(engine)
    model.set_cloned_voices([cloned("bad"), cloned("good")])
    task = asyncio.create_task(model.prepare_voices())
    await model.load()
    await until(lambda: engine.did == ["prepared good"])
    assert "Voice bad cannot be spoken: no voice in it" in caplog.text
    task.cancel()
    await model.close()


async def test_a_model_that_comes_back_prepares_its_voices_again() -> None:
    made: list[CloningEngine] = []

    def make(spec: object, report: object, cancel: object) -> CloningEngine:
        made.append(CloningEngine())
        return made[-1]

    model = hosted_model("original", (voice("original", "original"),), make, unload_after=0.5)
    model.set_cloned_voices([cloned("a"), cloned("b")])
    task = asyncio.create_task(model.prepare_voices())
    await model.load()
    keeping = asyncio.create_task(model.unload_when_idle())
    await until(lambda: len(made[0].did) == 2)
    await until(lambda: not model.ready)
    assert [one.name for one in model.voices] == ["original", "a", "b"]
    with model.lease(cloned("a")):
        model.request_load()
        await until(lambda: len(made) == 2 and model.ready)
    await until(lambda: made[1].did == ["prepared a", "prepared b"])
    for one in (task, keeping):
        one.cancel()
    await model.close()


def test_the_engine_of_these_tests_clones_and_the_plain_one_does_not() -> None:
    assert isinstance(CloningEngine(), SupportsCloning) and not isinstance(ToneEngine(), SupportsCloning)
