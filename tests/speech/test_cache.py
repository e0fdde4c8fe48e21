"""Sentences that were spoken before are said again without any work of a model."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engines import RATE, BreakingEngine, SlowEngine, ToneEngine, model_of, voice
from tests.serving import Running, running, stream, synthesize
from wyoming_chatterbox.engine.base import Cancel, Samples, StreamMetrics
from wyoming_chatterbox.settings import GenerationSettings
from wyoming_chatterbox.speech.cache import SpeechCache
from wyoming_chatterbox.speech.model import Model, ModelState
from wyoming_chatterbox.voices.voice import Voice

SETTINGS = GenerationSettings()
ANNA = dataclasses.replace(voice("anna", "original"), clips=(Path("anna.wav"),), fingerprint="abc")
SECOND = b"\x01\x02" * RATE


async def opened(folder: Path, size: int = 10_000_000) -> SpeechCache:
    cache = SpeechCache(folder, size)
    await cache.open()
    return cache


async def kept(server: Running, count: int) -> None:
    """Wait until so many sentences are on disk."""
    for _ in range(500):
        if len(server.server.service.cache) == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(server.server.service.cache)} sentences are kept, not {count}")


def key(cache: SpeechCache, text: str = "Hello.", **changes: object) -> str | None:
    named = {"voice": ANNA, "settings": SETTINGS, "model_fingerprint": "weights", **changes}
    return cache.key(text, **named)  # type: ignore[arg-type]


async def test_what_makes_the_sound_makes_the_key(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    keys = [
        key(cache),
        key(cache, "Hello!"),
        key(cache, voice=dataclasses.replace(ANNA, name="bob")),
        key(cache, voice=dataclasses.replace(ANNA, fingerprint="another clip")),
        key(cache, voice=dataclasses.replace(ANNA, speaker="loud")),
        key(cache, model_fingerprint="other weights"),
        *(
            key(cache, settings=dataclasses.replace(SETTINGS, **{name: value}))
            for name, value in (
                *(("exaggeration", 0.6), ("seed", 1), ("chunk_size", 30), ("temperature", 0.7), ("top_p", 0.9)),
                *(("sampling", "streaming"), ("min_p", 0.1), ("repetition_penalty", 1.0)),
            )
        ),
    ]
    assert None not in keys and len(set(keys)) == len(keys)
    assert key(cache) == keys[0]


async def test_what_would_not_sound_the_same_is_not_kept(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    assert key(cache, settings=dataclasses.replace(SETTINGS, seed=-1)) is None
    assert key(cache, voice=dataclasses.replace(ANNA, fingerprint="")) is None, "a clip whose content is not known"
    assert key(cache, model_fingerprint="") is None
    assert key(await opened(tmp_path, size=0)) is None


async def test_a_sentence_comes_back_sample_for_sample_also_after_a_restart(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    name = key(cache) or ""
    cache.put(name, SECOND, RATE)
    await cache.close()
    again = await opened(tmp_path)
    found = await again.get(name)
    assert found is not None and found.sample_rate == RATE and found.seconds == 1.0
    assert np.rint(found.samples * 32767).astype("<i2").tobytes() == SECOND
    assert (again.hits, again.misses) == (1, 0)
    assert await again.get(key(again, "Other.") or "") is None
    assert (again.hits, again.misses) == (1, 1)


async def test_its_size_is_bounded_and_what_was_not_asked_for_for_longest_goes_first(tmp_path: Path) -> None:
    cache = await opened(tmp_path, size=3 * 48_100)
    names = [key(cache, f"Sentence {number}.") or "" for number in range(4)]
    for name in names[:3]:
        cache.put(name, SECOND, RATE)
        while name not in cache._files:
            await asyncio.sleep(0.005)
    assert await cache.get(names[0]) is not None
    cache.put(names[3], SECOND, RATE)
    await asyncio.sleep(0.05)
    await cache.close()
    left = {path.stem for path in tmp_path.iterdir()}
    assert left == {names[0], names[2], names[3]}
    assert cache.size <= 3 * 48_100
    smaller = await opened(tmp_path, size=48_100)
    await smaller.close()
    assert len(list(tmp_path.iterdir())) == 1, "--cache-size was made smaller"


async def test_the_order_of_use_survives_a_restart(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    names = [key(cache, f"Sentence {number}.") or "" for number in range(2)]
    for name in names:
        cache.put(name, SECOND, RATE)
    await cache.close()
    for age, name in enumerate(names):
        os.utime(tmp_path / f"{name}.wav", ns=(age, age))
    cache = await opened(tmp_path)
    assert await cache.get(names[0]) is not None
    await cache.close()
    cache = await opened(tmp_path, size=48_100)
    await cache.close()
    assert [path.stem for path in tmp_path.iterdir()] == [names[0]]


@pytest.mark.parametrize("content", [b"", b"RIFF", b"x" * 5000, None])
async def test_a_damaged_or_missing_file_is_a_miss_and_is_forgotten(tmp_path: Path, content: bytes | None) -> None:
    cache = await opened(tmp_path)
    name = key(cache) or ""
    cache.put(name, SECOND, RATE)
    await cache.close()
    path = tmp_path / f"{name}.wav"
    if content is None:
        cache = await opened(tmp_path)
        path.unlink()
    else:
        path.write_bytes(content or path.read_bytes()[:1000])
        cache = await opened(tmp_path)
    assert await cache.get(name) is None
    assert len(cache) == 0


async def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "song.wav").write_text("mine too")
    (tmp_path / "77.part").write_text("of a process that was killed")
    cache = await opened(tmp_path, size=1)
    assert len(cache) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "song.wav"]


async def test_a_folder_that_cannot_be_used_turns_it_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    cache = await opened(tmp_path / "file" / "speech")
    assert not cache.enabled and "Nothing is cached" in caplog.text
    engine = ToneEngine()
    async with running(model_of(engine), cache_size=1, data_dir=tmp_path / "file") as server, server.client() as client:
        assert (await synthesize(client, "Hello.")).types[-1] == "audio-stop"


async def test_sentences_are_replayed_in_pieces_with_their_pauses_and_at_any_rate(tmp_path: Path) -> None:
    engine = ToneEngine(chunks=30)
    heard = {}
    for rate in (0, 16000):
        for _ in range(2):
            async with running(model_of(engine), cache_size=5, data_dir=tmp_path, sample_rate=rate) as server:
                async with server.client() as client:
                    answer = await synthesize(client, "Hello there. How are you?")
                    heard.setdefault(rate, []).append(answer.pcm)
                await kept(server, 2)
    assert len(engine.texts) == 2, "spoken once, whatever the rate it is sent at"
    assert heard[0][0] == heard[0][1]
    assert len(heard[0][0]) == 2 * (2 * 3 * RATE + RATE // 4)
    assert len(heard[16000][0]) == pytest.approx(len(heard[0][0]) * 2 / 3, rel=0.001)
    assert heard[16000][0] == heard[16000][1]


async def test_a_text_that_is_still_written_is_replayed_sentence_by_sentence(tmp_path: Path) -> None:
    engine = ToneEngine()
    async with running(model_of(engine), cache_size=5, data_dir=tmp_path) as server, server.client() as client:
        await synthesize(client, "Good morning to you. It rains.")
        await kept(server, 2)
        answer = await stream(client, ["Good mor", "ning to you. The ", "sun shines. It ra", "ins."])
    assert engine.texts == ["Good morning to you.", "It rains.", "The sun shines."]
    values = np.unique(np.frombuffer(answer.pcm, dtype="<i2"))
    assert len(values) == 4, "the first, the second and the third sentence of this engine, and pauses"


async def test_what_was_not_finished_or_not_spoken_by_its_voice_is_not_kept(tmp_path: Path) -> None:
    slow = SlowEngine(seconds=0.05)
    async with running(model_of(slow), cache_size=5, data_dir=tmp_path) as server:
        async with server.client() as client:
            asking = asyncio.create_task(synthesize(client, "This is cut off."))
            await asyncio.sleep(0.3)
            asking.cancel()
        await asyncio.sleep(0.2)
        assert len(server.server.service.cache) == 0
    broken, embedded = BreakingEngine(at=1, model="original"), ToneEngine("embedded")
    other = model_of(embedded)
    async with running(model_of(broken), other, cache_size=5, data_dir=tmp_path) as server, server.client() as client:
        await other.settled()
        assert (await synthesize(client, "This will break.")).start["fallback"]
        await asyncio.sleep(0.1)
        assert len(server.server.service.cache) == 0
        broken._at = 2
        assert "error" in (await synthesize(client, "This will break too.")).types
        await asyncio.sleep(0.1)
        assert len(server.server.service.cache) == 0


async def test_an_unloaded_model_is_not_loaded_for_what_is_kept(tmp_path: Path) -> None:
    engine = ToneEngine("original")
    model = Model("original", engine.voices, lambda report, cancel: engine, unload_after=0.2)
    async with running(model, cache_size=5, data_dir=tmp_path) as server, server.client() as client:
        first = await synthesize(client, "Hello there.")
        await kept(server, 1)
        for _ in range(300):
            if not model.ready:
                break
            await asyncio.sleep(0.01)
        again = await synthesize(client, "Hello there.")
        assert again.pcm == first.pcm
        await asyncio.sleep(0.1)
        assert model.status.state is ModelState.UNLOADED
        assert engine.texts == ["Hello there."]


async def test_nothing_is_kept_where_it_is_turned_off(tmp_path: Path) -> None:
    engine = ToneEngine()
    async with running(model_of(engine), cache_size=0, data_dir=tmp_path) as server, server.client() as client:
        for _ in range(2):
            await synthesize(client, "Hello there.")
    assert len(engine.texts) == 2
    assert not (tmp_path / "speech").exists()


async def test_closing_while_a_full_cache_is_written_is_no_fault(tmp_path: Path) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    cache = await opened(tmp_path, size=len(SECOND) + 100)
    for text in ("One.", "Two."):
        name = key(cache, text)
        assert name is not None
        cache.put(name, SECOND, RATE)
    await cache.close()
    await asyncio.sleep(0.05)
    assert faults == []


class OtherClip(ToneEngine):
    """A clip was replaced after its voice was listed: until it is listed anew, the new one is heard."""

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: Cancel
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        for samples, metrics in super().generate_stream(text, voice, settings, cancel):
            yield samples, dataclasses.replace(metrics, keepable="new" not in text)


async def test_the_sound_of_another_clip_is_not_kept_under_the_old_ones_name(tmp_path: Path) -> None:
    engine = OtherClip()
    engine.fingerprint = "weights"
    async with running(model_of(engine), data_dir=tmp_path, cache_size=10) as server, server.client() as client:
        for text in ("It is new.", "It is old.", "It is new."):
            await synthesize(client, text)
        await kept(server, 1)
    assert engine.texts == ["It is new.", "It is old.", "It is new."]
