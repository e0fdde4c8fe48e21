"""Voices through the socket: the real program, files that come, change and go while it runs."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from wyoming.client import AsyncTcpClient
from wyoming.info import Info, TtsVoice
from wyoming.tts import SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from tests.test_original_server import PROGRAM
from tests.voices.audio_factory import audio, sound, write
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.testing.serving import Process, describe, read_answer, spawned, synthesize
from wyoming_chatterbox.voices.watcher import watch_folders

LISTED_SECONDS = 2.0
"""From the last byte of a file to Info, as is promised."""


async def voices(client: AsyncTcpClient) -> dict[str, TtsVoice]:
    return {voice.name: voice for voice in Info.from_event(await describe(client)).tts[0].voices}


async def until_listed(client: AsyncTcpClient, name: str, listed: bool = True, seconds: float = 15) -> float:
    """Seconds until Info lists a voice, or no longer does."""
    started = time.perf_counter()
    while (name in await voices(client)) is not listed:
        assert time.perf_counter() - started < seconds, f"{name} is {'not ' if listed else ''}listed"
        await asyncio.sleep(0.02)
    return time.perf_counter() - started


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Path]]:
    """The program with the tiny checkpoint, and its folder of voices. Tests use names of their own."""
    folder = tmp_path_factory.mktemp("served")
    write(folder / "voices" / "first.wav")
    arguments = ["--model", "original", "--model-dir", str(tiny_checkpoint), "--device", "cpu", "--cache-size", "0"]
    with spawned(folder, *arguments, "--data-dir", str(folder), program=PROGRAM) as process:
        process.wait_for("Model original is ready")
        yield process, folder / "voices"


@pytest.fixture
async def client(server: tuple[Process, Path]) -> AsyncIterator[AsyncTcpClient]:
    async with AsyncTcpClient("127.0.0.1", server[0].port) as connected:
        yield connected


async def test_a_clip_that_is_dropped_in_is_listed_and_speaks(
    server: tuple[Process, Path], client: AsyncTcpClient
) -> None:
    process, folder = server
    assert list(await voices(client)) == ["default", "first", "embedded"]
    write(folder / "anna.wav", sound(pitch=200))
    took = await until_listed(client, "anna")
    answer = await synthesize(client, "Hello there.", voice="anna")
    assert (answer.start["voice"], answer.start["model"], answer.start["fallback"]) == ("anna", "original", False)
    default = await synthesize(client, "Hello there.")
    assert default.start["voice"] == "default" and default.pcm != answer.pcm
    process.wait_for("Took the voice anna from its clip in")
    (folder / "anna.wav").unlink()
    gone = await until_listed(client, "anna", listed=False)
    refused = await synthesize(client, "Hello there.", voice="ann")
    assert refused.error["code"] == "voice-not-found" and "There is no voice 'ann'" in refused.error["text"]
    print(f"listed after {took:.2f} s, spoken after {answer.first_audio:.2f} s more, gone after {gone:.2f} s")
    assert min(took, gone) < LISTED_SECONDS


async def test_the_manner_beside_the_clip_is_taken_over_when_it_changes(
    server: tuple[Process, Path], client: AsyncTcpClient
) -> None:
    _, folder = server
    write(folder / "bold.wav", sound(pitch=150))
    await until_listed(client, "bold")
    plain = await synthesize(client, "Hello there.", voice="bold")
    asked = await synthesize(client, "Hello there.", voice="bold?exaggeration=1.7&seed=4")
    assert plain.pcm != asked.pcm
    (folder / "bold.yaml").write_text("title: Bold and brave\nexaggeration: 1.7\nseed: 4\n")
    while (await voices(client))["bold"].description != "Bold and brave":
        await asyncio.sleep(0.05)
    assert (await synthesize(client, "Hello there.", voice="BOLD")).pcm == asked.pcm
    assert (await synthesize(client, "Hello there.", voice="bold?seed=0&exaggeration=0.5")).pcm == plain.pcm


async def test_a_half_written_file_waits_until_it_is_whole(
    server: tuple[Process, Path], client: AsyncTcpClient
) -> None:
    process, folder = server
    content = audio(sound(pitch=90))
    half = len(content) // 2
    with (folder / "slow.wav").open("wb") as file:
        file.write(content[:half])
        file.flush()
        await asyncio.sleep(1.5)
        assert "slow" not in await voices(client)
        file.write(content[half:])
    await until_listed(client, "slow", seconds=LISTED_SECONDS * 3)
    assert "slow.wav" not in process.log, "nothing was wrong with it"


async def test_a_running_stream_keeps_the_voice_it_began_with(
    server: tuple[Process, Path], client: AsyncTcpClient
) -> None:
    process, folder = server
    write(folder / "steady.wav", sound(pitch=170))
    await until_listed(client, "steady")
    expected = await synthesize(client, "One is here. Two is here.", voice="steady")
    await client.write_event(SynthesizeStart(voice=SynthesizeVoice(name="steady")).event())
    await client.write_event(SynthesizeChunk("One is here. Two").event())
    begun = await read_answer(client, "audio-chunk")
    write(folder / "steady.wav", sound(pitch=260))
    while "Voices changed: steady" not in process.log:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)  # the new one is computed, or at least could be
    await client.write_event(SynthesizeChunk(" is here.").event())
    await client.write_event(SynthesizeStop().event())
    rest = await read_answer(client, "synthesize-stopped")
    assert begun.pcm + rest.pcm == expected.pcm
    assert (await synthesize(client, "One is here. Two is here.", voice="steady")).pcm != expected.pcm


async def test_settings_in_a_name_are_refused_by_name(client: AsyncTcpClient) -> None:
    for name, message in {
        "first?exaggeration=9": "exaggeration: 9.0 is out of range (allowed: 0 to 2)",
        "first?shout=1": "shout: unknown setting",
        "first?seed=1&seed=2": "seed: appears twice",
        "first?decoder=upstream": "decoder: unknown setting",
        "first?x": "cannot be parsed; write name?setting=value",
    }.items():
        error = (await synthesize(client, "Hello there.", voice=name)).error
        assert error["code"] == "invalid-setting" and message in error["text"]


async def test_a_clients_name_is_never_a_path(server: tuple[Process, Path], client: AsyncTcpClient) -> None:
    _, folder = server
    outside = write(folder.parent / "outside.wav")
    for name in (
        "../outside",
        str(outside),
        str(outside.with_suffix("")),
        "first.wav",
        "./first",
        "first\0",
        "voices/../first",
    ):
        error = (await synthesize(client, "Hello there.", voice=name)).error
        assert error["code"] == "voice-not-found"


async def test_describe_is_answered_while_voices_are_computed(
    server: tuple[Process, Path], client: AsyncTcpClient
) -> None:
    process, folder = server
    for number in range(12):
        write(folder / f"many{number}.wav", sound(pitch=300 + number))
    waits: list[float] = []
    while process.log.count("Took the voice many") < 12:
        assert len(waits) < 5000, process.log
        started = time.perf_counter()
        await describe(client)
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(0.005)
    print(f"{len(waits)} times, longest {max(waits):.3f} s")
    assert sorted(waits)[int(len(waits) * 0.9)] < 0.1
    assert re.search(r"Voices to be taken from their clips: \d+ more", process.log)
    process.wait_for(r"\d+ voices are ready \(computed now: \d+, there already: 0\)")


@pytest.mark.slow
async def test_the_next_start_computes_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "mine" / f"v{number}.wav", sound(5.5, pitch=100 + 50 * number))
    arguments = ["--model", "original", "--model-dir", str(tiny_checkpoint), "--device", "cpu", "--voice", "v1"]
    arguments += ["--data-dir", str(tmp_path / "data"), "--voices-dir", str(tmp_path / "mine")]
    heard = []
    for computed in (3, 0):
        with spawned(tmp_path, *arguments, program=PROGRAM) as server:
            there = 3 - computed
            server.wait_for(
                rf"3 voices are ready \(computed now: {max(computed - 1, 0)}, there already: {max(there, 1)}\)"
            )
            assert server.log.count("Took the voice") == computed
            assert computed == 0 or "Took the voice v1" in next(x for x in server.log.splitlines() if "Took" in x)
            async with AsyncTcpClient("127.0.0.1", server.port) as client:
                heard.append((await synthesize(client, "Hello there.")).pcm)
    assert heard[0] == heard[1]
    assert len(list((tmp_path / "data" / "conditionals").iterdir())) == 3
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["v0.wav", "v1.wav", "v2.wav"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference-clip", "bad.wav"], r"--reference-clip: 'bad\.wav' cannot be used: it cannot be decoded"),
        (["--voice", "gone"], "--voice: There is no voice 'gone'"),
        (["--voices-dir", "/nowhere/at/all"], "--voices-dir: '/nowhere/at/all' is not a directory"),
    ],
)
def test_what_is_named_and_not_usable_ends_the_start(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "bad.wav").write_text("no audio")
    own = ["--model", "original", "--data-dir", str(tmp_path / "data")]
    with spawned(tmp_path, *own, *arguments) as server:
        assert server.process.wait(60) == 2
        assert re.search(message, server.log)


async def test_where_the_system_tells_nothing_the_folder_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import watchfiles

    def none_left(*_: object, **__: object) -> object:
        raise OSError("no inotify watch is left")

    monkeypatch.setattr(watchfiles, "watch", none_left)
    library = create_library((tmp_path,))
    library.open()
    task = asyncio.create_task(watch_folders(library))
    write(tmp_path / "anna.wav")
    deadline = time.monotonic() + 10
    while not library.voices:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert "cannot report changes to voices (no inotify watch is left)" in caplog.text
    task.cancel()
