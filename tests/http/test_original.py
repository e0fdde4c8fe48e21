"""The original model through HTTP and WebSocket: the real program, the real classes, random weights."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path

import httpx2 as httpx
import pytest
from websockets.asyncio.client import connect

from tests.checkpoint_fixture import TOKENS
from tests.http.clients import TOKEN, hear, say
from tests.test_original_server import PROGRAM
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.testing.random_checkpoint import CLIP
from wyoming_chatterbox.testing.serving import Process, spawned

HELLO = {"input": "Hello there, how are you?", "response_format": "pcm", "voice": "default"}


def base_of(server: Process) -> str:
    server.wait_for("Model original is ready")
    return server.wait_for(r"listens on .*(http://\S+)").group(1)


@pytest.mark.slow
async def test_it_streams_clones_an_upload_and_says_it_again_from_the_cache(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "tokens").write_text(TOKEN)
    arguments = [
        "--model",
        "original",
        "--model-dir",
        str(tiny_checkpoint),
        "--device",
        "cpu",
        "--http-uri",
        "http://:0",
    ]
    arguments += ["--http-token-file", str(tmp_path / "tokens"), "--data-dir", str(tmp_path / "data")]
    arguments += ["--cache-size", "10"]
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        base = base_of(server)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as client:
            first = (await client.post("/v1/audio/speech", json=HELLO)).content
            assert len(first) / 48000 == pytest.approx(TOKENS / 25, abs=0.01)
            clip = {"file": ("me.wav", (tiny_checkpoint / CLIP).read_bytes())}
            added = await client.post("/v1/audio/voices", data={"name": "anna"}, files=clip)
            assert added.status_code == 201, added.text
            anna = await client.post("/v1/audio/speech", json={**HELLO, "voice": "anna"})
            assert anna.headers["x-voice"] == "anna" and anna.content != first
            again = await client.post("/v1/audio/speech", json=HELLO)
            assert again.content == first
            other = (await client.post("/v1/audio/speech", json={**HELLO, "exaggeration": 0.9})).content
            assert other != first
            drawn = {**HELLO, "seed": -1}
            assert (await client.post("/v1/audio/speech", json=drawn)).status_code == 200
            assert (await client.post("/v1/audio/speech", json=drawn)).status_code == 200
        async with connect(base.replace("http", "ws") + "/ws/stream/audio", additional_headers=headers) as socket:
            await socket.recv()
            await say(socket, type="start", text=HELLO["input"], voice="default")
            heard = await hear(socket)
        assert heard.audio == first and heard.metrics["cached"] and heard.metrics["model"] == "original"
        lines = re.findall(r"Utterance \d+: .*", server.log)
        assert ["cached=1" in line for line in lines] == [False, False, True, False, False, False, True]
        assert all("rtf=-" in line and "generation=0.00s" in line for line in lines if "cached=1" in line)
        assert server.stop() == 0
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        base = base_of(server)
        async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as client:
            assert (await client.post("/v1/audio/speech", json=HELLO)).content == first
        assert "cached=1" in server.log, "after a restart, with the same weights"


async def test_a_client_that_leaves_stops_the_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = (
        "--model",
        "original",
        "--model-dir",
        str(tiny_checkpoint),
        "--device",
        "cpu",
        "--http-uri",
        "http://:0",
    )
    text = " ".join(f"This is sentence number {number} of very many." for number in range(200))
    with spawned(tmp_path, *arguments, program=PROGRAM) as server:
        base = base_of(server)
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            async with client.stream("POST", "/v1/audio/speech", json={**HELLO, "input": text}) as answer:
                async for _ in answer.aiter_raw():
                    break
        async with connect(base.replace("http", "ws") + "/ws/stream/audio") as socket:
            await socket.recv()
            await say(socket, type="start", text=text)
            while json.loads(await socket.recv())["type"] != "chunk":
                pass
        for _ in range(100):
            ended = re.findall(r"Utterance (\d+): (\w+) edge=(\w+) .*sentences=(\d+)", server.log)
            if len(ended) == 2:
                break
            await asyncio.sleep(0.05)
        assert [(outcome, edge) for _, outcome, edge, _ in ended] == [("cancelled", "http"), ("cancelled", "ws")]
        assert all(int(sentences) < 20 for *_, sentences in ended)


def test_what_makes_the_sound_makes_the_fingerprint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    def fingerprint(folder: Path = tiny_checkpoint, seed: int = 0, **compute: object) -> str:
        engine = ChatterboxEngine.load(folder, "cpu", None, seed, ComputeSettings(**compute))  # type: ignore[arg-type]
        engine.close()
        return engine.fingerprint

    own = fingerprint()
    assert own == fingerprint() and own
    assert own != fingerprint(seed=3), "the noise of upstream's decoder is part of the voice"
    assert own != fingerprint(flow_steps=4)
    copy = tmp_path / "weights"
    shutil.copytree(tiny_checkpoint, copy)
    (copy / "tokenizer.json").touch()
    assert own != fingerprint(copy), "other files"
