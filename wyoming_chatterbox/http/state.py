"""What every route of the edge shares."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from ..blocking import DaemonThreads
from ..limits import UPLOAD_THREADS
from ..settings import Settings
from ..speech.service import SpeechService
from ..voices.library import VoiceLibrary
from .auth import BearerTokens
from .encoders import Encoder
from .prometheus import PrometheusMetrics

ENCODER_THREADS = max(2, os.cpu_count() or 1)
"""Encoding takes some milliseconds of one core per second of audio; more threads than cores make nothing faster."""


class ActiveStream(Protocol):
    """Something that speaks to one client for a while: a request that is answered with audio, or a WebSocket."""

    def stop(self) -> None:
        """The server stops: finish what is spoken, begin nothing."""

    def end(self) -> None:
        """The deadline is over: end now."""

    async def ended(self) -> None:
        """Wait for its end."""


@dataclass
class EdgeState:
    """One server's edge."""

    settings: Settings
    service: SpeechService
    tokens: BearerTokens | None = None
    library: VoiceLibrary | None = None
    """The voices that can be cloned; None where the model cannot."""

    active_streams: set[ActiveStream] = field(default_factory=set)
    prometheus: PrometheusMetrics = field(default_factory=PrometheusMetrics)
    open_websockets: int = 0
    """WebSockets that are open."""

    stopping: bool = False

    encoders: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ENCODER_THREADS, thread_name_prefix="encoder")
    )
    """Threads of the encoders alone: they only compute, so nothing can hang here and hold up everybody's audio."""

    uploads: DaemonThreads = field(default_factory=lambda: DaemonThreads("uploads", UPLOAD_THREADS))
    """Threads that write to the folders of voices."""

    async def encode(self, encoder: Encoder, pcm: bytes | None) -> bytes:
        """Returns an encoder's bytes for a piece of PCM, or (None) its last ones; off the event loop where it takes
        long."""
        if not encoder.blocking:
            return encoder.finish() if pcm is None else encoder.encode(pcm)
        loop = asyncio.get_running_loop()
        if pcm is None:
            return await loop.run_in_executor(self.encoders, encoder.finish)
        return await loop.run_in_executor(self.encoders, encoder.encode, pcm)

    async def drain(self, timeout: float, forced_close_timeout: float) -> int:
        """Ask every talk to finish, wait with a deadline, end the rest; how many had to be ended.

        Args:
            timeout: seconds that they may take to finish what is spoken.
            last_words: seconds that those which must end may take to say so.
        """
        self.stopping = True
        for stream in list(self.active_streams):
            stream.stop()
        late = await self._wait(timeout)
        for stream in late:
            stream.end()
        if late:
            await self._wait(forced_close_timeout)
        self.encoders.shutdown(wait=False, cancel_futures=True)
        return len(late)

    async def _wait(self, timeout: float) -> set[ActiveStream]:
        """Those that have not ended in time."""
        if not self.active_streams:
            return set()
        waiting = {asyncio.ensure_future(stream.ended()): stream for stream in self.active_streams}
        _, late = await asyncio.wait(waiting, timeout=timeout)
        for task in late:
            task.cancel()
        return {waiting[task] for task in late}


def _state_of(connection: HTTPConnection) -> EdgeState:
    state: EdgeState = connection.app.state.edge
    return state


State = Annotated[EdgeState, Depends(_state_of)]
"""A route's parameter: the edge it belongs to."""
