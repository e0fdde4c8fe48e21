"""What every route of the edge shares."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Protocol

from fastapi import Depends
from starlette.requests import HTTPConnection

from ..series import Series
from ..settings import Settings
from ..speech.service import SpeechService
from ..voices.library import VoiceLibrary
from .tokens import Tokens


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
