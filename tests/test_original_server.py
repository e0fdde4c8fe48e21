"""The original model through the socket: the real program, the real classes, random weights."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.info import Info

from tests.checkpoint_fixture import TOKENS
from tests.random_checkpoint import CLIP
from tests.serving import Answer, describe, read_answer, spawned, stream, synthesize

PROGRAM = (
    sys.executable,
    "-c",
    "from tests.random_checkpoint import apply_tiny_sizes; apply_tiny_sizes(); "
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
        assert names == ["anna", "default", "embedded"]
        assert (answer.start["voice"], answer.start["rate"]) == ("anna", 16000)
        assert seconds(answer) == pytest.approx(SENTENCE_SECONDS, abs=0.01)
        assert " chunks=3 " in server.wait_for(r"Utterance 1: .*").group(0)
        assert "RTF (Real-Time Factor)" in server.log, "--print-metrics"


async def test_the_embedded_voice_answers_while_the_model_loads(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = ("--model", "original", "--model-dir", str(tiny_checkpoint))
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        server.wait_for("Model embedded is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            waits = []
            answer = await synthesize(client, "Hello there.", voice="default")
            assert "Model original is ready" not in server.log, "the model was there before it was asked"
            while "Model original is ready" not in server.log:
                started = time.perf_counter()
                description = Info.from_event(await describe(client)).tts[0].description
                waits.append(time.perf_counter() - started)
                await asyncio.sleep(0.02)
        assert (answer.start["model"], answer.start["fallback"]) == ("embedded", True)
        assert "the embedded voice speaks in its place" in (description or "")
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
