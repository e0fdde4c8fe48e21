"""Admission and order: how many utterances are served at once, and whose sentence a model speaks next."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from ..timeouts import wait_for
from .errors import ServerBusy

PATIENCE_SECONDS = 1.0
"""How long an utterance waits for admission before it is refused. Clients that leave at once, however many, free their
slots within milliseconds; an utterance that is still refused after a second would have waited for minutes."""


class Admission:
    """Counts the utterances that are spoken or wait for their turn; for the event loop."""

    def __init__(self, limit: int, patience: float = PATIENCE_SECONDS) -> None:
        """`limit`: utterances that are admitted at once (--max-queue)."""
        self._limit = limit
        self._patience = patience
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0
        """Slots that are in use."""

    async def enter(self) -> None:
        """Take a slot, in order of arrival. Raises ServerBusy if none becomes free in time."""
        if self.running < self._limit and not self._waiting:
            self.running += 1
            return
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(slot)
        entered = False
        try:
            await wait_for(self._patience, slot)
            entered = True
        except asyncio.TimeoutError:
            raise ServerBusy(
                f"{self.running} utterances are waiting already; try again later, or raise --max-queue"
            ) from None
        finally:
            if slot in self._waiting:
                self._waiting.remove(slot)
            if not entered and slot.done() and not slot.cancelled():
                self.leave()

    def reenter(self) -> None:
        """Take a slot for an utterance that was admitted before: it is never refused in its middle."""
        self.running += 1

    def leave(self) -> None:
        """Pass a slot to the utterance that has waited for longest, or free it."""
        while self._waiting and self.running <= self._limit:
            slot = self._waiting.popleft()
            if not slot.done():
                slot.set_result(None)
                return
        self.running -= 1


class QueueSlot:
    """One utterance's slot. It is held while an engine works for the utterance or is about to, not while its client
    writes text or reads audio."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._admitted = False
        self._held = False

    async def acquire(self) -> None:
        """Take the slot unless it is held already. Raises ServerBusy, but only before the first sentence."""
        if self._held:
            return
        if self._admitted:
            self._admission.reenter()
        else:
            await self._admission.enter()
            self._admitted = True
        self._held = True

    def release(self) -> None:
        """Free the slot if it is held."""
        if self._held:
            self._held = False
            self._admission.leave()


class SentenceOrder:
    """Decides whose job a model's host gets next: the one that has waited for longest.

    A host gets one job at a time, a sentence or a voice to prepare, so utterances that are spoken at the same time take
    turns sentence by sentence.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()  # its waiters are served in order

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and hold it inside."""
        async with self._turn:
            yield
