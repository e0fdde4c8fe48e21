"""The connections that are served, and which of them is closed when there are too many.

A connection that waits for its client (for a request, for text, for audio to be read) is closed in favour of one that
asks for something. So every client that connects is heard, and `describe` is answered, whatever others hold open.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from ..limits import LARGE_EVENTS, SPARE_CONNECTIONS
from ..speech.errors import ServerBusy, SpeechError

_LOGGER = logging.getLogger(__name__)

MIN_IDLE_BEFORE_EVICTION = 1.0
"""Seconds; a client that has waited for less is about to send something: Home Assistant does within a millisecond."""

_SHARE = 4
"""Connections of an address that has more than a quarter of all are closed before all others."""


class Activity(enum.IntEnum):
    """What a connection is doing; the lowest is closed first."""

    IDLE = 0
    """All its requests are answered."""

    INSIDE_EVENT = 1
    """An event of its client has arrived in part."""

    WRITING = 2
    """It has a streaming request whose text pauses."""

    STALLED = 3
    """Its client does not read its audio."""

    SERVED = 4
    """The server is working for it: it is never closed."""


@dataclass(frozen=True)
class Standing:
    """What a connection is doing, and for how long."""

    activity: Activity
    seconds: float


class PooledConnection(Protocol):
    """What the pool needs of a connection."""

    @property
    def standing(self) -> Standing: ...

    @property
    def busy(self) -> bool: ...

    async def refuse(self, error: SpeechError) -> None: ...

    def stop(self) -> None: ...


class ConnectionPool:
    """The Wyoming connections of one server; for the event loop."""

    def __init__(self, limit: int) -> None:
        """`limit`: connections that may have requests at once (--max-connections)."""
        self._limit = limit
        self._tasks: dict[PooledConnection, asyncio.Task[None]] = {}
        self._addresses: dict[PooledConnection, str] = {}
        self._evicted: set[PooledConnection] = set()  # their sockets are still to be closed
        self._closing_tasks: set[asyncio.Task[None]] = set()
        self.large_events = asyncio.Semaphore(LARGE_EVENTS)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> dict[PooledConnection, asyncio.Task[None]]:
        """All connections and the tasks that serve them."""
        return dict(self._tasks)

    def add(self, member: PooledConnection, task: asyncio.Task[None], address: str = "") -> None:
        """Add a connection until its task ends. `address`: the client's, without its port."""
        self._tasks[member] = task
        self._addresses[member] = address
        task.add_done_callback(lambda _: self._on_closed(member))

    def admit(self) -> bool:
        """Make room for one more connection. Returns False if the server is working for all of them."""
        count = sum(1 for _ in self._served())
        if count < self._limit:
            return True
        return (
            self._make_room(fresh=count >= self._limit + SPARE_CONNECTIONS) or count < self._limit + SPARE_CONNECTIONS
        )

    def may_ask(self, member: PooledConnection) -> bool:
        """Returns True if a connection may have a request: at most `limit` do, but another may be closed for it."""
        busy = sum(other.busy for other in self._served() if other is not member)
        return busy < self._limit or self._make_room(fresh=True, busy=True, but=member)

    def _served(self) -> Iterator[PooledConnection]:
        return (member for member in self._tasks if member not in self._evicted)

    def _make_room(self, *, fresh: bool, busy: bool = False, but: PooledConnection | None = None) -> bool:
        """Close the connection that can be spared best. Returns False if there is none.

        Args:
            fresh: also one that may be about to send something.
            busy: only one that has requests.
            but: not this one.
        """
        candidates = {
            candidate: standing
            for candidate in self._served()
            if candidate is not but
            and (candidate.busy or not busy)
            and (standing := candidate.standing).activity is not Activity.SERVED
            and (fresh or standing.seconds >= MIN_IDLE_BEFORE_EVICTION)
        }
        if not candidates:
            return False
        per_address = Counter(self._addresses[candidate] for candidate in candidates)

        def order(member: PooledConnection) -> tuple[bool, bool, Activity, float]:
            standing = candidates[member]
            alone = per_address[self._addresses[member]] <= self._limit // _SHARE
            return alone, standing.seconds < MIN_IDLE_BEFORE_EVICTION, standing.activity, -standing.seconds

        member = min(candidates, key=order)
        standing = candidates[member]
        _LOGGER.warning(
            "Closing a connection (%s for %.1f s) to make room: %d are open, see --max-connections",
            standing.activity.name.lower().replace("_", " "),
            standing.seconds,
            len(self._tasks),
        )
        self._evicted.add(member)
        # Its own task ends when the socket is closed, also if it has not begun yet.
        task = asyncio.create_task(member.refuse(ServerBusy("Others need the place of this connection")))
        self._closing_tasks.add(task)
        task.add_done_callback(self._closing_tasks.discard)
        return True

    def _on_closed(self, member: PooledConnection) -> None:
        self._tasks.pop(member, None)
        self._addresses.pop(member, None)
        self._evicted.discard(member)


def address_of(writer: asyncio.StreamWriter) -> str:
    """Returns the client's address without its port; empty where it has none, as on a Unix socket."""
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def elapsed(since: float | None) -> float:
    """Returns the seconds since a moment of time.monotonic(); 0 where there is none."""
    return 0.0 if since is None else time.monotonic() - since
