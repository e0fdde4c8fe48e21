"""The connections that are served, and which of them makes room when there are too many.

A connection that waits for its client (for a request, for text, for audio to be taken) makes room for one that asks
for something. So whoever connects is heard, and `describe` is answered, whatever others hold.
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

from ..speech.errors import ServerBusy, SpeechError
from .events import LARGE_EVENTS

_LOGGER = logging.getLogger(__name__)

SPARE_CONNECTIONS = 16
"""Beyond those that may be served: clients that only ask what the server is, and those that are told it is busy."""

FRESH_SECONDS = 1.0
"""A client that has waited for less is about to say something: Home Assistant does so within a millisecond."""

STALLED_SECONDS = 5.0
"""A client that has taken no audio for so long does not listen, or is paused."""

_SHARE = 4
"""An address with more than a quarter of the connections makes room before all others."""


class State(enum.IntEnum):
    """What a connection is at; the lower, the sooner it makes room."""

    IDLE = 0
    """It asked for nothing that is not answered."""

    INSIDE_EVENT = 1
    """It is in the middle of saying something."""

    WRITING = 2
    """It has a stream whose text does not come."""

    STALLED = 3
    """It does not take its audio."""

    SERVED = 4
    """The server owes it something: it makes no room."""


@dataclass(frozen=True)
class Standing:
    """What a connection is at, and for how long."""

    state: State
    seconds: float


class Member(Protocol):
    """What the pool has to know of a connection."""

    @property
    def standing(self) -> Standing: ...

    @property
    def busy(self) -> bool: ...

    async def refuse(self, error: SpeechError) -> None: ...

    async def stop(self) -> None: ...


class ConnectionPool:
    """Keeps the connections of one server; for the event loop."""

    def __init__(self, limit: int) -> None:
        """`limit`: connections that may have requests at once (--max-connections)."""
        self._limit = limit
        self._tasks: dict[Member, asyncio.Task[None]] = {}
        self._addresses: dict[Member, str] = {}
        self._leaving: set[Member] = set()  # they make room; their sockets are still to be closed
        self._farewells: set[asyncio.Task[None]] = set()
        self.large_events = asyncio.Semaphore(LARGE_EVENTS)

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def tasks(self) -> dict[Member, asyncio.Task[None]]:
        """All connections and the tasks that serve them."""
        return dict(self._tasks)

    def add(self, member: Member, task: asyncio.Task[None], address: str = "") -> None:
        """Keep a connection until its task ends. `address`: the client's, without its port."""
        self._tasks[member] = task
        self._addresses[member] = address
        task.add_done_callback(lambda _: self._forget(member))

    def admit(self) -> bool:
        """Make room for one more connection. Returns False where all that there are get something from the server."""
        there = sum(1 for _ in self._served())
        if there < self._limit:
            return True
        return self._let_go(fresh=there >= self._limit + SPARE_CONNECTIONS) or there < self._limit + SPARE_CONNECTIONS

    def may_ask(self, member: Member) -> bool:
        """Returns whether a connection may have a request: at most `limit` do, but one may make room for it."""
        busy = sum(one.busy for one in self._served() if one is not member)
        return busy < self._limit or self._let_go(fresh=True, busy=True, but=member)

    def _served(self) -> Iterator[Member]:
        return (one for one in self._tasks if one not in self._leaving)

    def _let_go(self, *, fresh: bool, busy: bool = False, but: Member | None = None) -> bool:
        """Let the connection go that can be spared best, if there is one.

        Args:
            fresh: also one that may be about to say something.
            busy: only one that has requests.
            but: not this one.
        """
        found = {
            one: standing
            for one in self._served()
            if one is not but
            and (one.busy or not busy)
            and (standing := one.standing).state is not State.SERVED
            and (fresh or standing.seconds >= FRESH_SECONDS)
        }
        if not found:
            return False
        per_address = Counter(self._addresses[one] for one in found)

        def order(member: Member) -> tuple[bool, bool, State, float]:
            standing = found[member]
            alone = per_address[self._addresses[member]] <= self._limit // _SHARE
            return alone, standing.seconds < FRESH_SECONDS, standing.state, -standing.seconds

        member = min(found, key=order)
        standing = found[member]
        _LOGGER.warning(
            "Closing a connection (%s for %.1f s) to make room: %d are open, see --max-connections",
            standing.state.name.lower().replace("_", " "),
            standing.seconds,
            len(self._tasks),
        )
        self._leaving.add(member)
        # Its own task ends when the socket is closed, also if it has not begun yet.
        task = asyncio.create_task(member.refuse(ServerBusy("Others need the place of this connection")))
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)
        return True

    def _forget(self, member: Member) -> None:
        self._tasks.pop(member, None)
        self._addresses.pop(member, None)
        self._leaving.discard(member)


def address_of(writer: asyncio.StreamWriter) -> str:
    """Returns the client's address without its port; empty where it has none, as on a Unix socket."""
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) and peer else ""


def elapsed(since: float | None) -> float:
    """Returns the seconds since a moment of time.monotonic(); 0 where there is none."""
    return 0.0 if since is None else time.monotonic() - since
