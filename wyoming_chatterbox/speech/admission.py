"""Who may have the engines work: so many utterances at once, spoken or waiting for their turn."""

from __future__ import annotations

import asyncio
from collections import deque

from ..waiting import within
from .errors import ServerBusy

PATIENCE_SECONDS = 1.0
"""How long an utterance waits for a place before it is refused. Clients that leave at once, however many, give theirs
back within milliseconds; one that is still refused after a second would have waited for minutes."""


class Admission:
    """Counts places; for the event loop."""

    def __init__(self, limit: int, patience: float = PATIENCE_SECONDS) -> None:
        """`limit`: utterances that are admitted at once (--max-queue)."""
        self._limit = limit
        self._patience = patience
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0
        """Places that are taken."""

    async def enter(self) -> None:
        """Take a place, in order of arrival. Raises ServerBusy where none becomes free in time."""
        if self.running < self._limit and not self._waiting:
            self.running += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        entered = False
        try:
            await within(self._patience, place)
            entered = True
        except asyncio.TimeoutError:
            raise ServerBusy(
                f"{self.running} utterances are waiting already; try again later, or raise --max-queue"
            ) from None
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
            if not entered and place.done() and not place.cancelled():
                self.leave()

    def enter_again(self) -> None:
        """Take a place for an utterance that was admitted before: it is never refused in its middle."""
        self.running += 1

    def leave(self) -> None:
        """Give a place to whoever has waited for longest, or back."""
        while self._waiting and self.running <= self._limit:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1


class Place:
    """One utterance's place. It is held while an engine works for it or is to, not while its client writes or reads."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._admitted = False
        self._held = False

    async def take(self) -> None:
        """Take the place, if it is not held already. Raises ServerBusy, but only before the first sentence."""
        if self._held:
            return
        if self._admitted:
            self._admission.enter_again()
        else:
            await self._admission.enter()
            self._admitted = True
        self._held = True

    def leave(self) -> None:
        """Give the place back, if it is held."""
        if self._held:
            self._held = False
            self._admission.leave()
