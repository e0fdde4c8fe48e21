"""The server from outside, through its socket.

First-audio latency of the embedded voice and of an engine that costs nothing (the server's own overhead), and how long
`describe` takes while speech is made. The HTTP edge's own are in http.py.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from wyoming.client import AsyncTcpClient

from wyoming_chatterbox.testing.serving import describe, spawned, stream, synthesize

from . import http
from .progress import Progress

TEXT = "The kitchen light is on, and the front door is locked."
LONG = "The quick brown fox jumps over the lazy dog, while seven wizards quietly measure how long it takes. " * 40

ZERO_COST_SERVER = """
import asyncio
from wyoming_chatterbox.testing.engines import ToneEngine, model_of
from wyoming_chatterbox.testing.serving import settings
from wyoming_chatterbox.__main__ import _set_up_logging
from wyoming_chatterbox.server import Server
from wyoming_chatterbox.speech.catalog import ModelCatalog
_set_up_logging("INFO")
asyncio.run(Server(settings(), ModelCatalog(model_of(ToneEngine(chunks=20)))).run())
"""

_DESCRIBING = 5.0
"""Seconds for which `describe` is asked while two clients are spoken to."""


def measure(rounds: int, progress: Progress) -> list[dict[str, Any]]:
    """Returns a row for each latency, in milliseconds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        progress.say("sockets: an engine that costs nothing")
        with spawned(Path(folder), program=(sys.executable, "-c", ZERO_COST_SERVER)) as server:
            server.wait_for("is ready")
            port = server.port
            rows.append(_row("zero-cost engine, synthesize", asyncio.run(_first_audio(port, rounds, False))))
            rows.append(_row("zero-cost engine, stream", asyncio.run(_first_audio(port, rounds, True))))
        progress.say("sockets: the embedded voice")
        with spawned(Path(folder), "--model", "embedded") as server:
            server.wait_for("is ready")
            port = server.port
            rows.append(_row("embedded voice, synthesize", asyncio.run(_first_audio(port, rounds, False))))
            rows.append(_row("embedded voice, stream", asyncio.run(_first_audio(port, rounds, True))))
            progress.say(f"sockets: describe while the embedded voice speaks, {_DESCRIBING:.0f} s")
            rows.append(_row("describe while speaking", asyncio.run(_describe_while_speaking(port, _DESCRIBING))))
    rows += [_row(name, values) for name, values in http.first_bytes(rounds, progress)]
    rows += [_row(name, values) for name, values in http.cancellations(rounds, progress)]
    return rows


async def _first_audio(port: int, rounds: int, streamed: bool) -> list[float]:
    """Returns the seconds from the request to the first audio-chunk, one new connection each, as Home Assistant
    does."""
    found = []
    for _ in range(rounds + 3):
        async with AsyncTcpClient("127.0.0.1", port) as client:
            answer = await (stream(client, [TEXT]) if streamed else synthesize(client, TEXT))
        assert answer.first_audio is not None and "error" not in answer.types
        found.append(answer.first_audio)
    return found[3:]


async def _describe_while_speaking(port: int, seconds: float) -> list[float]:
    """Returns the seconds that `describe` takes, each on a connection of its own, while two clients are spoken to all
    the time."""

    async def listen() -> None:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            while True:
                await synthesize(client, LONG)

    listeners = [asyncio.create_task(listen()) for _ in range(2)]
    await asyncio.sleep(0.3)
    found = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await describe(client)
        found.append(time.perf_counter() - started)
        await asyncio.sleep(0.01)
    for listener in listeners:
        assert not listener.done()
        listener.cancel()
    return found


def _row(name: str, values: list[float]) -> dict[str, Any]:
    ordered = sorted(value * 1000 for value in values)
    return {
        "what": name,
        "n": len(ordered),
        "median_ms": round(statistics.median(ordered), 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max_ms": round(ordered[-1], 2),
    }
