"""The original model through the socket: the real program, the real classes, random weights."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Info

from tests.checkpoint_fixture import TOKENS
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.model_factory import create_catalog
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.random_checkpoint import CLIP
from wyoming_chatterbox.testing.serving import (
    Answer,
    Process,
    describe,
    read_answer,
    running,
    spawned,
    stream,
    synthesize,
)

PROGRAM = (
    sys.executable,
    "-c",
    "from wyoming_chatterbox.testing.random_checkpoint import apply_tiny_sizes; apply_tiny_sizes(); "
    "from wyoming_chatterbox.__main__ import run; run()",
)
"""The program with upstream's sizes made tiny; everything else is as a user starts it."""

SENTENCE_SECONDS = TOKENS / 25


def seconds(answer: Answer) -> float:
    return len(answer.pcm) / 2 / answer.start["rate"]


async def test_it_speaks_through_the_socket_in_both_ways_and_the_log_has_its_metrics(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint), "--device", "cpu")
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            while "ready" not in (Info.from_event(await describe(client)).tts[0].description or ""):
                await asyncio.sleep(0.1)
            plain = await synthesize(client, "Hello there, how are you?", voice="default")
            streamed = await stream(client, ["Hello the", "re, how are ", "you?"], voice="default")
            twice = await stream(client, ["This is the first. ", "This is the second."])
        lines = re.findall(r"Utterance \d: .*", server.log)
        assert server.stop() == 0
    assert plain.types == ["audio-start", "audio-chunk", "audio-stop"]
    assert (plain.start["model"], plain.start["voice"], plain.start["fallback"]) == ("original", "default", False)
    assert plain.pcm == streamed.pcm, "same text, voice, settings and seed: same samples"
    assert seconds(plain) == pytest.approx(SENTENCE_SECONDS, abs=0.01)
    assert seconds(twice) == pytest.approx(2 * SENTENCE_SECONDS + 0.25, abs=0.01)
    assert np.frombuffer(plain.pcm, dtype="<i2").std() > 10
    fields = dict(part.split("=") for part in lines[0].split() if "=" in part)
    assert (fields["model"], fields["chunks"], fields["sentences"]) == ("original", "2", "1")
    assert float(fields["audio"].rstrip("s")) == pytest.approx(SENTENCE_SECONDS, abs=0.01)
    for name in ("first_chunk", "first_audio", "generation", "rtf"):
        assert float(fields[name].rstrip("s")) > 0


async def test_settings_reach_the_model_and_a_clip_becomes_a_voice(tiny_checkpoint: Path, tmp_path: Path) -> None:
    clip = tmp_path / "anna.wav"
    shutil.copy(tiny_checkpoint / CLIP, clip)
    arguments = ["--model", "original", "--model-dir", str(tiny_checkpoint), "--reference-clip", str(clip)]
    arguments += ["--chunk-size", "10", "--exaggeration", "0.9", "--print-metrics", "--sample-rate", "16000"]
    arguments += ["--decoder", "upstream"]
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model original is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            names = [voice.name for voice in Info.from_event(await describe(client)).tts[0].voices]
            answer = await synthesize(client, "Hello there.")
        assert names == ["default", "anna", "embedded"]
        assert (answer.start["voice"], answer.start["rate"]) == ("anna", 16000)
        assert seconds(answer) == pytest.approx(SENTENCE_SECONDS, abs=0.01)
        assert " chunks=3 " in server.wait_for(r"Utterance 1: .*").group(0)
        assert "RTF (Real-Time Factor)" in server.log, "--print-metrics"


async def test_the_embedded_voice_answers_while_the_model_loads(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint))
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model embedded is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            waits, descriptions = [], []
            answer = await synthesize(client, "Hello there.", voice="default")
            assert "Model original is ready" not in server.log, "the model was there before it was asked"
            while "Model original is ready" not in server.log:
                started = time.perf_counter()
                descriptions.append(Info.from_event(await describe(client)).tts[0].description or "")
                waits.append(time.perf_counter() - started)
                await asyncio.sleep(0.02)
        assert (answer.start["model"], answer.start["fallback"]) == ("embedded", True)
        assert "the embedded voice speaks in its place" in descriptions[0]
        assert sorted(waits)[len(waits) // 2] < 0.1
        assert " fallback=yes " in server.wait_for(r"Utterance 1: .*").group(0)


async def test_a_client_that_leaves_stops_the_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint), "--chunk-size", "5")
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model original is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Event("synthesize", {"text": "This is a sentence of some length. " * 50}))
            await read_answer(client, "audio-chunk")
        line = server.wait_for(r"Utterance 1: .*", timeout=2).group(0)
        assert " cancelled " in line
        assert int(re.search(r"sentences=(\d+)", line).group(1)) < 5  # type: ignore[union-attr]
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            started = time.perf_counter()
            answer = await synthesize(client, "The next one.")
            assert answer.types == ["audio-start", "audio-chunk", "audio-stop"]
            assert time.perf_counter() - started < 5


async def test_damaged_weights_leave_the_embedded_voice_and_say_why(tiny_checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint, broken)
    (broken / "s3gen.safetensors").write_bytes(b"not weights")
    with spawned(tmp_path, "--model", "original", "--model-dir", str(broken), program=PROGRAM) as server:
        server.wait_for("The embedded voice speaks in the place of model original")
        assert re.search(r"ERROR .*s3gen\.safetensors cannot be read as weights", server.log)
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            info = Info.from_event(await describe(client)).tts[0]
            answer = await synthesize(client, "Hello there.")
        assert "s3gen.safetensors cannot be read as weights" in (info.description or "")
        assert (answer.start["model"], answer.start["fallback"]) == ("embedded", True)


async def test_without_a_fallback_the_refusal_says_what_is_wrong(tiny_checkpoint: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ("--model", "original", "--model-dir", str(empty), "--no-fallback")
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model original cannot be used")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            answer = await synthesize(client, "Hello there.")
        assert answer.error["code"] == "model-unavailable"
        assert "has no ve.safetensors or ve.pt" in answer.error["text"]


def resident(server: Process) -> float:
    """Its memory in MB."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def settled_threads_of(server: Process) -> int:
    """Its threads, once none has come or gone for a second: those that look after the voices come a little later."""
    counts: list[int] = []
    while len(counts) < 10 or len(set(counts[-10:])) > 1:
        counts.append(len(list(Path(f"/proc/{server.process.pid}/task").iterdir())))
        await asyncio.sleep(0.1)
    return counts[-1]


class Watch:
    """Asks a server all the time what it does, and how long that takes."""

    def __init__(self, server: Process) -> None:
        self._server = server
        self.said: set[str] = set()
        self.longest = 0.0

    async def until(self, words: str, lines: int, seconds: float = 30) -> None:
        """Ask until the log has so many lines with these words, and once more."""
        deadline = time.perf_counter() + seconds
        async with AsyncTcpClient("127.0.0.1", self._server.port) as client:
            logged = False
            while not logged:
                logged = self._server.log.count(words) >= lines
                started = time.perf_counter()
                assert started < deadline, f"the log never said {words!r}:\n{self._server.log}"
                self.said.add(Info.from_event(await describe(client)).tts[0].description or "")
                self.longest = max(self.longest, time.perf_counter() - started)
                await asyncio.sleep(0.002)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc and malloc_trim are Linux'")
async def test_an_unloaded_model_gives_its_memory_back_and_speaks_as_before_when_it_is_loaded_again(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint), "--unload-after", "0.02")
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model original is ready")
        worst = []
        for cycle in (1, 2):
            async with AsyncTcpClient("127.0.0.1", server.port) as client:
                before = await synthesize(client, "Hello there, how are you?", voice="default")
                loaded = resident(server)
                watch = Watch(server)
                await watch.until("memory given back", cycle)
                given_back = loaded - resident(server)
                meanwhile = await synthesize(client, "Hello there, how are you?", voice="default")
                await watch.until("Model original is back", cycle)
                after = await synthesize(client, "Hello there, how are you?", voice="default")
            assert (meanwhile.start["model"], meanwhile.start["fallback"]) == ("embedded", True)
            assert (after.start["model"], after.start["fallback"]) == ("original", False)
            assert after.pcm == before.pcm, "same text, voice, settings and seed: same samples"
            assert given_back > 100, "40 MB of weights, and what the heap kept for itself"
            for state in ("not loaded, loads with the next request", "loading weights", "warming up"):
                assert any(f"model original {state}; the embedded voice" in said for said in watch.said)
            worst.append(watch.longest)
        assert min(worst) < 0.1, f"{worst}: describe is answered within 100 ms whatever happens"
        assert "Model original was not used for 0.02 min: unloading it" in server.log
        assert re.search(r"unloaded, memory given back: RSS \S+ [MG]B → \S+ MB$", server.log, re.M)
        assert re.search(r"Model original is back after \S+ s, \S+ s of them to warm up", server.log)
        assert server.stop() == 0


async def test_nothing_holds_an_unloaded_model(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modules: list[weakref.ref[object]] = []
    close = ChatterboxEngine.close

    def close_and_look(engine: ChatterboxEngine) -> None:
        roots = (engine.chatterbox.t3, engine.chatterbox.s3gen, engine.chatterbox.ve)
        modules.extend(weakref.ref(module) for root in roots for module in root.modules())
        modules.extend(weakref.ref(part) for part in (engine.chatterbox, engine.decoder))
        del roots
        close(engine)

    monkeypatch.setattr(ChatterboxEngine, "close", close_and_look)
    settings = {"model": "original", "model_dir": tiny_checkpoint, "unload_after": 0.005, "device": "cpu"}
    models = create_catalog(Settings(**settings))  # type: ignore[arg-type]
    async with running(models.primary, models.fallback) as server, server.client() as client:
        assert (await synthesize(client, "Hello there. And you.")).start["model"] == "original"
        deadline = time.monotonic() + 10
        while not modules or any(module() is not None for module in modules):
            assert time.monotonic() < deadline, {type(module()).__name__ for module in modules} or "never unloaded"
            await asyncio.sleep(0.05)
    assert len(modules) > 1000


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux'")
async def test_the_model_computes_with_as_many_threads_as_it_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    counts = []
    for number in (1, 6):
        arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint), "--threads", str(number))
        with spawned(tmp_path, *arguments, program=PROGRAM) as server:
            server.wait_for("Model original is ready")
            counts.append(await settled_threads_of(server))
            assert f"Computing with {number} CPU thread" in server.log
    # One more or less may be there of those that wait for files and names.
    assert counts[1] - counts[0] == pytest.approx(5, abs=1)
