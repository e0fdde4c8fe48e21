"""Who gives way when there are more connections than may be open.

A connection is refused only where all others are at work. Otherwise the newcomer gets in, and of the address that has
the most connections goes the one that is missed least: so nobody can keep others, or a health check, out by opening
connections and doing nothing with them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from ..limits import RESERVED_CONNECTIONS, SPARE_CONNECTIONS
from ..speech.errors import ServerBusy
from .errors import error_response

_LOGGER = logging.getLogger(__name__)

SILENT_SECONDS = 5.0
"""A client that was silent, or took nothing, for less is about to go on. A player reads at least once a second."""

CLOSING, STALLED, NO_REQUEST, HALF_REQUEST, SILENT_WEBSOCKET = range(5)
"""Ranks: the smallest gives way first. None is the rank of a connection that is at work."""

_HEALTH = ("/health", "/health/live", "/health/ready")


class SlotHolder(Protocol):
    """A connection, as it matters here."""

    address: str
    since: float
    stalled_at: float | None

    @property
    def rank(self) -> int | None:
        """One of the ranks above."""

    def evict(self) -> None:
        """End at once."""


class ConnectionSlots:
    """The connections that are open."""

    def __init__(self, max_connections: int) -> None:
        self._max_open = max_connections + SPARE_CONNECTIONS
        self._open: dict[SlotHolder, None] = {}

    def acquire(self, newcomer: SlotHolder) -> None:
        """Count a connection in, and let another one go for it where there are too many."""
        self._open[newcomer] = None
        if len(self._open) <= self._max_open:
            return
        counts = Counter(holder.address for holder in self._open)
        candidates = [
            (-counts[holder.address], rank, holder.since, id(holder), holder)
            for holder in self._open
            if holder is not newcomer and (rank := self._rank(holder)) is not None
        ]
        leaver = min(candidates)[-1] if candidates else newcomer
        _LOGGER.info(
            "Closing an HTTP connection of %s: %d are open (--max-connections)", leaver.address, self._max_open
        )
        self._open.pop(leaver)
        leaver.evict()

    def release(self, holder: SlotHolder) -> None:
        """Count a connection out."""
        self._open.pop(holder, None)

    def is_full(self) -> bool:
        """True if so many are at work that the rest must be left to health checks."""
        max_busy = self._max_open - RESERVED_CONNECTIONS
        return len(self._open) > max_busy and sum(self._rank(holder) is None for holder in self._open) > max_busy

    def _rank(self, holder: SlotHolder) -> int | None:
        now = asyncio.get_running_loop().time()
        if holder.stalled_at is not None and now - holder.stalled_at >= SILENT_SECONDS:
            return STALLED
        return holder.rank


class OverloadGuard:
    """Refuses requests, other than for the server's health, while there is no room."""

    def __init__(self, app: ASGIApp, slots: ConnectionSlots) -> None:
        self.app = app
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["path"] not in _HEALTH and self._slots.is_full():
            error = ServerBusy("Too many clients are connected; try again later")
            await error_response(error, headers={"Connection": "close"})(scope, receive, send)
            return
        await self.app(scope, receive, send)
