"""The HTTP edge from outside: how soon each route's first byte of audio is there, and how soon the work stops when the
client leaves."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from websockets.asyncio.client import connect

from wyoming_chatterbox.testing.engines import SlowEngine, model_of
from wyoming_chatterbox.testing.serving import running, spawned

from .progress import Progress

ROUTES: tuple[tuple[str, str, dict[str, object]], ...] = (
    ("POST /v1/audio/speech, pcm", "/v1/audio/speech", {"response_format": "pcm"}),
    ("POST /v1/audio/speech, wav", "/v1/audio/speech", {"response_format": "wav"}),
    ("POST /v1/audio/speech, mp3", "/v1/audio/speech", {"response_format": "mp3"}),
    ("POST /v1/audio/speech, opus", "/v1/audio/speech", {"response_format": "opus"}),
    ("POST /v1/audio/speech, flac", "/v1/audio/speech", {"response_format": "flac"}),
    ("POST /v1/audio/speech, aac", "/v1/audio/speech", {"response_format": "aac"}),
    ("POST /v1/audio/speech, pcm, sse", "/v1/audio/speech", {"response_format": "pcm", "stream_format": "sse"}),
    ("POST /v1/audio/speech, pcm, speed 1.2", "/v1/audio/speech", {"response_format": "pcm", "speed": 1.2}),
    ("POST /audio/speech/stream, wav", "/audio/speech/stream", {}),
)
SOCKET = "/ws/stream/audio"

_SERVER = """
import asyncio
from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import settings
from wyoming_chatterbox.__main__ import _set_up_logging
from wyoming_chatterbox.server import Server
from wyoming_chatterbox.speech.catalog import ModelCatalog
_set_up_logging("INFO")
asyncio.run(Server(settings(http_uri="http://127.0.0.1:0"), ModelCatalog(model_of(ToneEngine(chunks=20)))).run())
"""

_TEXT = "The kitchen light is on, and the front door is locked."

_WARM_UP = 3
"""Rounds that are not counted: codecs are loaded when they are first used."""


def first_bytes(rounds: int, progress: Progress) -> list[tuple[str, list[float]]]:
    """(route, seconds from the request to its first byte of audio), each on a connection that is open already."""
    progress.say("sockets: first byte of each HTTP route")
    with tempfile.TemporaryDirectory() as folder, spawned(Path(folder), program=(sys.executable, "-c", _SERVER)) as it:
        port = int(it.wait_for(r"listens on .*http://\S+?:(\d+)").group(1))
        found = [
            (f"zero-cost engine, {name}", asyncio.run(_repeated(rounds, lambda: _http(port, path, extra))))  # noqa: B023
            for name, path, extra in ROUTES
        ]
        found.append((f"zero-cost engine, WS {SOCKET}, pcm", asyncio.run(_repeated(rounds, lambda: _socket(port)))))
    return found


def cancellations(rounds: int, progress: Progress) -> list[tuple[str, list[float]]]:
    """(edge, seconds from the client's leaving to the engine's stop). The engine takes 10 s for its first chunk and
    looks at its cancellation every millisecond, as Chatterbox does before every token."""
    progress.say("sockets: from a client's leaving to the engine's stop")
    return [
        ("cancel: HTTP client leaves", asyncio.run(_cancelled(rounds, _leave_http))),
        ("cancel: WebSocket client leaves", asyncio.run(_cancelled(rounds, _leave_socket))),
        ("cancel: WebSocket cancel message", asyncio.run(_cancelled(rounds, _cancel_on_socket))),
    ]


async def _repeated(rounds: int, once: Callable[[], Awaitable[float]]) -> list[float]:
    return [await once() for _ in range(rounds + _WARM_UP)][_WARM_UP:]


def _request(path: str, extra: dict[str, object]) -> bytes:
    body = json.dumps({"input": _TEXT, **extra}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def _http(port: int, path: str, extra: dict[str, object]) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.perf_counter()
    writer.write(_request(path, extra))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head.split(b"\r\n")[0], head
    size = int(await reader.readline(), 16)  # of the first piece of the body
    await reader.readexactly(min(size, 1))
    seconds = time.perf_counter() - started
    writer.close()
    return seconds


async def _socket(port: int) -> float:
    async with connect(f"ws://127.0.0.1:{port}{SOCKET}", max_size=None) as socket:
        await socket.recv()
        started = time.perf_counter()
        await socket.send(json.dumps({"type": "start", "text": _TEXT}))
        while isinstance(await socket.recv(), str):
            pass
        return time.perf_counter() - started


async def _cancelled(rounds: int, leave: Callable[[int, SlowEngine], Awaitable[float]]) -> list[float]:
    """`leave` asks, waits until the engine is at work, leaves, and says when (time.monotonic())."""
    engine = SlowEngine(seconds=10.0)
    found: list[float] = []
    async with running(model_of(engine), http_uri="http://127.0.0.1:0") as server:
        assert server.server.http is not None
        for number in range(1, rounds + 1):
            engine.stopped_at = None
            asked = len(engine.texts)
            left = await leave(server.server.http.port, engine)
            while engine.stopped_at is None:
                await asyncio.sleep(0.0005)
            assert len(engine.texts) == asked + 1, number
            found.append(engine.stopped_at - left)
    return found


async def _at_work(engine: SlowEngine, asked: int) -> None:
    while len(engine.texts) == asked:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)


async def _leave_http(port: int, engine: SlowEngine) -> float:
    asked = len(engine.texts)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request("/v1/audio/speech", {"response_format": "pcm"}))
    await _at_work(engine, asked)
    left = time.monotonic()
    writer.transport.abort()
    return left


async def _leave_socket(port: int, engine: SlowEngine) -> float:
    asked = len(engine.texts)
    async with connect(f"ws://127.0.0.1:{port}{SOCKET}", close_timeout=0.1) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "start", "text": _TEXT}))
        await _at_work(engine, asked)
        left = time.monotonic()
        socket.transport.abort()
    return left


async def _cancel_on_socket(port: int, engine: SlowEngine) -> float:
    asked = len(engine.texts)
    async with connect(f"ws://127.0.0.1:{port}{SOCKET}", close_timeout=0.1) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "start", "text": _TEXT}))
        await _at_work(engine, asked)
        left = time.monotonic()
        await socket.send(json.dumps({"type": "cancel"}))
        while json.loads(await socket.recv())["type"] != "metrics":
            pass
    return left
