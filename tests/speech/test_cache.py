"""Sentences that were spoken before are said again without any work of a model."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import os
import stat
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wyoming_chatterbox.engine.base import CancelToken, Samples, StreamMetrics
from wyoming_chatterbox.speech.cache import SpeechCache
from wyoming_chatterbox.speech.model import ModelState
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.engines import (
    RATE,
    BreakingEngine,
    SlowEngine,
    ToneEngine,
    hosted_model,
    model_of,
    voice,
)
from wyoming_chatterbox.testing.serving import Running, environment, running, stream, synthesize
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


@pytest.mark.parametrize("content", [b"", b"RIFF", b"x" * 5000, b"x" * 48_068, None])
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
    (tmp_path / ".0123456789abcdef.part").write_text("of another server that is writing it")
    for name in (".fedcba9876543210.part", "77.part", f"{'0' * 64}.77.part", "mine.part"):
        (tmp_path / name).write_text("of a process that was killed" * (name != "mine.part"))
        os.utime(tmp_path / name, (1, 1))
    cache = await opened(tmp_path, size=1)
    assert len(cache) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".0123456789abcdef.part",
        "mine.part",
        "notes.txt",
        "song.wav",
    ]


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
        await other.wait_until_decided()
        assert (await synthesize(client, "This will break.")).start["fallback"]
        await asyncio.sleep(0.1)
        assert len(server.server.service.cache) == 0
        broken._at = 2
        assert "error" in (await synthesize(client, "This will break too.")).types
        await asyncio.sleep(0.1)
        assert len(server.server.service.cache) == 0


async def test_an_unloaded_model_is_not_loaded_for_what_is_kept(tmp_path: Path) -> None:
    engine = ToneEngine("original")
    model = hosted_model("original", engine.voices, lambda spec, report, cancel: engine, unload_after=0.2)
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
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Iterator[tuple[Samples, StreamMetrics]]:
        for samples, metrics in super().generate_stream(text, voice, settings, cancel):
            yield samples, dataclasses.replace(metrics, cacheable="new" not in text)


async def test_the_sound_of_another_clip_is_not_kept_under_the_old_ones_name(tmp_path: Path) -> None:
    engine = OtherClip()
    engine.fingerprint = "weights"
    async with running(model_of(engine), data_dir=tmp_path, cache_size=10) as server, server.client() as client:
        for text in ("It is new.", "It is old.", "It is new."):
            await synthesize(client, text)
        await kept(server, 1)
    assert engine.texts == ["It is new.", "It is old.", "It is new."]


async def test_random_bytes_in_a_file_are_not_played(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = await opened(tmp_path)
    name = key(cache) or ""
    cache.put(name, SECOND, RATE)
    await cache.close()
    path = tmp_path / f"{name}.wav"
    content = bytearray(path.read_bytes())
    content[20_000:20_100] = os.urandom(100)
    path.write_bytes(content)
    cache = await opened(tmp_path)
    assert await cache.get(name) is None
    assert (len(cache), "damaged" in caplog.text) == (0, True)
    while path.exists():
        await asyncio.sleep(0.005)


async def test_another_sentences_file_under_this_ones_name_is_not_played(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    name, other = key(cache) or "", key(cache, "Other.") or ""
    cache.put(other, SECOND, RATE)
    await cache.close()
    (tmp_path / f"{other}.wav").rename(tmp_path / f"{name}.wav")
    cache = await opened(tmp_path)
    assert len(cache) == 1 and await cache.get(name) is None


async def test_a_file_of_a_version_without_checksums_counts_as_absent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = await opened(tmp_path)
    name = key(cache) or ""
    await cache.close()
    with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(SECOND)
    cache = await opened(tmp_path)
    assert await cache.get(name) is None and not caplog.records
    cache.put(name, SECOND, RATE)
    while name not in cache._files:
        await asyncio.sleep(0.005)
    assert await cache.get(name) is not None


async def test_a_cached_sentence_is_still_a_wav_file_for_other_programs(tmp_path: Path) -> None:
    cache = await opened(tmp_path)
    name = key(cache) or ""
    cache.put(name, SECOND, RATE)
    await cache.close()
    content = (tmp_path / f"{name}.wav").read_bytes()
    assert int.from_bytes(content[4:8], "little") == len(content) - 8
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.readframes(file.getnframes())) == (RATE, SECOND)


async def test_what_is_kept_is_nobody_elses_to_read(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir(0o755)
    for folder in (tmp_path / "new" / "speech", old):
        cache = await opened(folder)
        cache.put(key(cache) or "", SECOND, RATE)
        await cache.close()
        (path,) = folder.iterdir()
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, folder)] == [0o600, 0o700]


async def test_a_pipe_in_the_place_of_a_sentence_is_a_miss(tmp_path: Path) -> None:
    engine = ToneEngine()
    async with running(model_of(engine), cache_size=5, data_dir=tmp_path) as server, server.client() as client:
        await synthesize(client, "Hello there.")
        await kept(server, 1)
        (path,) = (tmp_path / "speech").glob("*.wav")
        path.unlink()
        os.mkfifo(path)
        answers = [await synthesize(client, "Hello there.") for _ in range(3)]
    assert [answer.types[-1] for answer in answers] == ["audio-stop"] * 3
    assert len(engine.texts) == 2, "spoken once more, and kept again"


class Disk:
    """Makes the calls of a cache hang, as a disk that does not answer."""

    def __init__(self, cache: SpeechCache, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.answers = threading.Event()
        work = getattr(cache, name)

        def hangs(*arguments: object) -> object:
            self.answers.wait(30)
            return work(*arguments)

        monkeypatch.setattr(cache, name, hangs)


async def test_a_disk_that_hangs_suspends_the_cache_until_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = ToneEngine()
    async with running(model_of(engine), cache_size=5, data_dir=tmp_path) as server:
        cache = server.server.service.cache
        async with server.client() as client:
            await synthesize(client, "Hello there.")
        await kept(server, 1)
        cache._read_seconds = 0.1
        disk = Disk(cache, monkeypatch, "_read")

        async def ask() -> list[str]:
            async with server.client() as client:
                return (await synthesize(client, "Hello there.")).types

        assert await asyncio.gather(*(ask() for _ in range(8))) == [["audio-start", "audio-chunk", "audio-stop"]] * 8
        assert cache.suspended and caplog.text.count("The cache hangs") == 1
        await ask()
        assert len(engine.texts) == 10, "the model speaks, and nothing asks the disk again"
        disk.answers.set()
        while cache.suspended:
            await asyncio.sleep(0.005)
        await ask()
        assert len(engine.texts) == 10, "the cache is back"


@pytest.mark.parametrize("name", ["_read", "_write"])
async def test_closing_does_not_wait_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    cache = SpeechCache(tmp_path, 10_000_000, read_seconds=0.05)
    await cache.open()
    cache.put(key(cache) or "", SECOND, RATE)
    while not len(cache):
        await asyncio.sleep(0.005)
    disk = Disk(cache, monkeypatch, name)
    if name == "_read":
        assert await cache.get(key(cache) or "") is None
    else:
        cache.put(key(cache, "Other.") or "", SECOND, RATE)
    await asyncio.wait_for(cache.close(), 5)
    disk.answers.set()


async def test_a_directory_that_hangs_at_the_start_is_used_once_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = SpeechCache(tmp_path, 10_000_000, open_seconds=0.05)
    disk = Disk(cache, monkeypatch, "_scan")
    await cache.open()
    assert key(cache) is None and "until" in caplog.text
    disk.answers.set()
    while not cache.enabled:
        await asyncio.sleep(0.005)
    assert key(cache) is not None


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from wyoming_chatterbox.speech.cache import SpeechCache

async def main():
    cache = SpeechCache(Path(sys.argv[1]), 10_000_000)
    await cache.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 100_000))
    for number in range(5):
        cache.put(f"{number:064x}", b"1" * 48_000, 24_000)
    await cache.close()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    cache.put(f"{9:064x}", b"1" * 48_000, 24_000)
    await cache.close()
    print(len(cache))

asyncio.run(main())
"""


def test_a_disk_that_takes_no_more_is_told_once_and_holds_nothing_unfinished(tmp_path: Path) -> None:
    """As if it were full: the system refuses every byte beyond the first 20,000 of a file."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60, env=environment()
    )
    assert (done.stdout, done.stderr.count("Sentences cannot be kept")) == ("1\n", 1), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{9:064x}.wav"]
