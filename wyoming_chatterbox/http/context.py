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
from ..series import Series
from ..settings import Settings
from ..speech.service import SpeechService
from ..voices.library import VoiceLibrary
from .containers import Encoder
from .tokens import Tokens

ENCODER_THREADS = max(2, os.cpu_count() or 1)
"""Encoding takes some milliseconds of one core per second of audio; more threads than cores make nothing faster."""

UPLOAD_THREADS = 4
"""Clips that are added or deleted at once; further ones wait. A dead share may hold all of them for ever."""


class Talk(Protocol):
    """Something that speaks to one client for a while: a request that is answered with audio, or a WebSocket."""

    def stop(self) -> None:
        """The server stops: finish what is spoken, begin nothing."""

    def end(self) -> None:
        """The deadline is over: end now."""

    async def ended(self) -> None:
        """Wait for its end."""


@dataclass
class Context:
    """One server's edge."""

    settings: Settings
    service: SpeechService
    tokens: Tokens | None = None
    library: VoiceLibrary | None = None
    """The voices that can be cloned; None where the model cannot."""

    talks: set[Talk] = field(default_factory=set)
    series: Series = field(default_factory=Series)
    sockets: int = 0
    """WebSockets that are open."""

    stopping: bool = False

    encoders: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ENCODER_THREADS, thread_name_prefix="encoder")
    )
    """Threads of the encoders alone: they only compute, so nothing can hang here and hold up everybody's audio."""

    uploads: DaemonThreads = field(default_factory=lambda: DaemonThreads("uploads", UPLOAD_THREADS))
    """Threads that write to the folders of voices."""

    async def encode(self, encoder: Encoder, pcm: bytes | None) -> bytes:
        """An encoder's bytes for a piece of PCM, or (None) its last ones; off the event loop where it takes long."""
        if not encoder.blocking:
            return encoder.finish() if pcm is None else encoder.encode(pcm)
        loop = asyncio.get_running_loop()
        if pcm is None:
            return await loop.run_in_executor(self.encoders, encoder.finish)
        return await loop.run_in_executor(self.encoders, encoder.encode, pcm)

    async def drain(self, timeout: float, last_words: float) -> int:
        """Ask every talk to finish, wait with a deadline, end the rest; how many had to be ended.

        Args:
            timeout: seconds that they may take to finish what is spoken.
            last_words: seconds that those which must end may take to say so.
        """
        self.stopping = True
        for talk in list(self.talks):
            talk.stop()
        late = await self._wait(timeout)
        for talk in late:
            talk.end()
        if late:
            await self._wait(last_words)
        self.encoders.shutdown(wait=False, cancel_futures=True)
        return len(late)

    async def _wait(self, timeout: float) -> set[Talk]:
        """Those that have not ended in time."""
        if not self.talks:
            return set()
        waiting = {asyncio.ensure_future(talk.ended()): talk for talk in self.talks}
        _, late = await asyncio.wait(waiting, timeout=timeout)
        for task in late:
            task.cancel()
        return {waiting[task] for task in late}


def _context(connection: HTTPConnection) -> Context:
    context: Context = connection.app.state.context
    return context


Here = Annotated[Context, Depends(_context)]
"""A route's parameter: the edge it belongs to."""
