"""A real server on a real socket for a test, and clients that behave as the real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wyoming.client import AsyncTcpClient
from wyoming.event import Event
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeVoice

from ..server import Server
from ..settings import Settings
from ..speech.catalog import ModelCatalog
from ..speech.model import Model
from ..speech_settings import GenerationSettings
from ..voices.library import VoiceLibrary

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "tcp://127.0.0.1:0"


def settings(**changes: Any) -> Settings:
    """Settings for a server that a test starts: loopback, a free port, nothing on the LAN."""
    return Settings(
        **{"uri": (LOOPBACK,), "zeroconf": False, "cache_size": 0, "generation": GenerationSettings(), **changes}
    )


@dataclass
class Running:
    server: Server
    port: int

    @property
    def http(self) -> str:
        """Where the HTTP edge is: http://127.0.0.1:PORT."""
        assert self.server.http is not None, "started without http_uri"
        return self.server.http.uri

    def client(self) -> AsyncTcpClient:
        return AsyncTcpClient("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def running(
    model: Model,
    fallback: Model | None = None,
    *,
    wait: bool = True,
    library: VoiceLibrary | None = None,
    **changes: Any,
) -> AsyncIterator[Running]:
    """A started server; `wait` for its model to be loaded."""
    server = Server(settings(**changes), ModelCatalog(model, fallback), library)
    await server.start()
    try:
        if wait:
            await asyncio.wait_for(model.wait_until_decided(), 30)
        port = server.wyoming.listeners[0].port
        assert port is not None
        yield Running(server, port)
    finally:
        server.stop()
        await server.shutdown()


@dataclass
class Answer:
    """What a client got for one request."""

    events: list[Event] = field(default_factory=list)
    first_audio: float | None = None
    """Seconds from the request to the first audio-chunk."""

    seconds: float = 0.0

    @property
    def types(self) -> list[str]:
        """The events' types, runs of audio-chunk folded into one."""
        folded: list[str] = []
        for event in self.events:
            if event.type != "audio-chunk" or folded[-1:] != ["audio-chunk"]:
                folded.append(event.type)
        return folded

    @property
    def pcm(self) -> bytes:
        return b"".join(event.payload or b"" for event in self.events if event.type == "audio-chunk")

    @property
    def error(self) -> dict[str, Any]:
        return next(event.data for event in self.events if event.type == "error")

    @property
    def start(self) -> dict[str, Any]:
        return next(event.data for event in self.events if event.type == "audio-start")


async def read_answer(client: AsyncTcpClient, last: str, started: float | None = None, timeout: float = 30) -> Answer:
    """Read until the event `last` or the end of the connection."""
    answer = Answer()
    started = time.perf_counter() if started is None else started

    async def read() -> None:
        while (event := await client.read_event()) is not None:
            answer.events.append(event)
            if event.type == "audio-chunk" and answer.first_audio is None:
                answer.first_audio = time.perf_counter() - started
            if event.type == last:
                return

    await asyncio.wait_for(read(), timeout)
    answer.seconds = time.perf_counter() - started
    return answer


async def synthesize(client: AsyncTcpClient, text: str, voice: str | None = None, **data: Any) -> Answer:
    """Speak on the plain path, as Home Assistant does; returns the answer."""
    chosen = SynthesizeVoice(name=voice) if voice else None
    event = Synthesize(text=text, voice=chosen).event()
    event.data.update(data)
    started = time.perf_counter()
    await client.write_event(event)
    return await read_answer(client, "audio-stop", started)


async def stream(
    client: AsyncTcpClient, pieces: Sequence[str], voice: str | None = None, pause: float = 0.0, **data: Any
) -> Answer:
    """Speak on the streaming path with Home Assistant's exact events: start, chunks, the whole text once more, stop.

    It writes and reads in two tasks, as Home Assistant does, and fails as its writing task would when the end
    comes before everything was written.
    """
    chosen = SynthesizeVoice(name=voice) if voice else None
    written = False

    async def write() -> None:
        nonlocal written
        start = SynthesizeStart(voice=chosen).event()
        start.data.update(data)
        await client.write_event(start)
        for piece in pieces:
            await client.write_event(SynthesizeChunk(text=piece).event())
            if pause:
                await asyncio.sleep(pause)
        await client.write_event(Synthesize(text="".join(pieces), voice=chosen).event())
        await client.write_event(SynthesizeStop().event())
        written = True

    started = time.perf_counter()
    writing = asyncio.create_task(write())
    answer = await read_answer(client, "synthesize-stopped", started)
    assert written or answer.types[-1] != "synthesize-stopped", "synthesize-stopped came before the text was written"
    await writing
    return answer


async def describe(client: AsyncTcpClient) -> Event:
    """Ask for Info, skipping what comes before it."""
    await client.write_event(Event(type="describe"))
    while True:
        event = await client.read_event()
        assert event is not None, "the connection was closed instead of an answer to describe"
        if event.type == "info":
            return event


class Process:
    """The program in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str, timeout: float = 60) -> re.Match[str]:
        """Wait until the log matches."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log)
            if found:
                return found
            if self.process.poll() is not None:
                time.sleep(0.05)
                found = re.search(pattern, self.log)
                if found:
                    return found
                raise AssertionError(f"the server ended with {self.process.returncode} before {pattern!r}:\n{self.log}")
            time.sleep(0.01)
        raise AssertionError(f"{pattern!r} is not in the log after {timeout} s:\n{self.log}")

    @property
    def port(self) -> int:
        return int(self.wait_for(r"listens on tcp://\S*:(\d+)(?:,|\s)").group(1))

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what would configure a server."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WYOMING_CHATTERBOX_")}
    # Nor may a test hear what another one said.
    return {**clean, "PYTHONPATH": str(ROOT), "WYOMING_CHATTERBOX_CACHE_SIZE": "0", **changes}


@contextlib.contextmanager
def spawned(
    tmp_path: Path,
    *arguments: str,
    program: Sequence[str] = (sys.executable, "-m", "wyoming_chatterbox"),
    uri: str = LOOPBACK,
    stdin: int | None = subprocess.DEVNULL,
    env: dict[str, str] | None = None,
) -> Iterator[Process]:
    """The real program as a user starts it, on loopback; killed at the end if it still runs."""
    log = tmp_path / f"server-{time.monotonic_ns()}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*program, "--uri", uri, "--no-zeroconf", *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=tmp_path,
            env=environment(**(env or {})),
        )
    try:
        yield Process(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
