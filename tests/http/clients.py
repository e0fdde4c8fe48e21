"""HTTP and WebSocket clients for tests."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import av
import httpx2 as httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from wyoming_chatterbox.speech.model import Model
from wyoming_chatterbox.testing.serving import Running, running

HTTP = "http://127.0.0.1:0"
TOKEN = "a-token-of-more-than-16"


@contextlib.asynccontextmanager
async def serving(model: Model, fallback: Model | None = None, **changes: Any) -> AsyncIterator[Running]:
    """A started server with its HTTP edge."""
    async with running(model, fallback, http_uri=HTTP, **changes) as server:
        yield server


@contextlib.asynccontextmanager
async def asking(server: Running, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain HTTP client."""
    async with httpx.AsyncClient(base_url=server.http, headers=headers, timeout=30) as client:
        yield client


def socket_uri(server: Running) -> str:
    return server.http.replace("http://", "ws://") + "/ws/stream/audio"


@contextlib.asynccontextmanager
async def talking(server: Running, **options: Any) -> AsyncIterator[ClientConnection]:
    """A WebSocket that was welcomed."""
    async with connect(socket_uri(server), **options) as socket:
        hello = json.loads(await socket.recv())
        assert hello["type"] == "connected", hello
        yield socket


async def say(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


@dataclass
class Utterance:
    """What a client heard of one utterance."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    audio: bytes = b""
    first_audio: float | None = None

    @property
    def types(self) -> list[str]:
        """Runs of chunks folded into one."""
        folded: list[str] = []
        for message in self.messages:
            if message["type"] != "chunk" or folded[-1:] != ["chunk"]:
                folded.append(message["type"])
        return folded

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def metrics(self) -> dict[str, Any]:
        return self.of("metrics")[0]


async def hear(socket: ClientConnection, timeout: float = 20) -> Utterance:
    """Everything up to the metrics of the next utterance."""
    heard = Utterance()
    started = time.perf_counter()

    async def read() -> None:
        while True:
            message = await socket.recv()
            if isinstance(message, bytes):
                if heard.first_audio is None:
                    heard.first_audio = time.perf_counter() - started
                assert heard.messages[-1]["type"] == "chunk", "a frame without a chunk before it"
                assert heard.messages[-1]["bytes"] == len(message)
                heard.audio += message
                continue
            heard.messages.append(json.loads(message))
            if heard.messages[-1]["type"] == "metrics":
                return

    await asyncio.wait_for(read(), timeout)
    return heard


def decoded(data: bytes) -> tuple[np.ndarray, int]:
    """(mono samples in [-1, 1], sample rate) of a file in any container, as a player would hear it."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=stream.rate)
        frames = [each for frame in container.decode(stream) for each in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), stream.rate


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32767


async def until(condition: Any, complaint: str, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        await asyncio.sleep(0.002)


async def raw(server: Running, sent: bytes, *, timeout: float = 10) -> bytes:
    """What comes back for bytes, to the end of the connection."""
    assert server.server.http is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", server.server.http.port)
    writer.write(sent)
    try:
        return await asyncio.wait_for(reader.read(), timeout)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()
