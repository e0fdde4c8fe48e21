"""Audio that was made and not taken yet: engines do not wait for clients, and clients do not fill the memory."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from ..hosting.base import AudioChunk
from ..limits import LEAD_SECONDS, MAX_WAITING_BYTES, STALLED_SECONDS
from .errors import ServerBusy


class AudioStore:
    """The outboxes of all utterances and what they hold; for the event loop."""

    def __init__(self, limit: int = MAX_WAITING_BYTES, stalled: float = STALLED_SECONDS) -> None:
        """`limit`: bytes; `stalled`: seconds."""
        self._limit = limit
        self._stalled = stalled
        self._outboxes: set[Outbox] = set()
        self.bytes = 0
        """What is waiting now."""

    def open(self, sample_rate: int) -> Outbox:
        """Returns an outbox for one utterance; it has to be closed."""
        outbox = Outbox(self, round(LEAD_SECONDS * sample_rate) * 2)
        self._outboxes.add(outbox)
        return outbox

    def make_room(self) -> None:
        """While there is too much, drop what has waited for longest. Of clients that take their audio none is lost."""
        while self.bytes > self._limit:
            oldest = min(self._outboxes, key=lambda one: one.untaken_since)
            if time.monotonic() - oldest.untaken_since < self._stalled:
                return
            oldest.fail(ServerBusy("The audio was not taken, and the server needs the memory for others"))

    def forget(self, outbox: Outbox) -> None:
        self._outboxes.discard(outbox)


@dataclass(frozen=True)
class _End:
    error: BaseException | None


class Outbox:
    """One utterance's audio between the task that makes it and the edge that sends it."""

    def __init__(self, store: AudioStore, lead: int) -> None:
        """`lead`: bytes that may wait when more is begun."""
        self._store = store
        self._lead = lead
        self._chunks: deque[AudioChunk | _End] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()  # something was put in, for the reader
        self._taken = asyncio.Event()  # something was taken out, for the writer
        self._failure: ServerBusy | None = None
        self.untaken_since = float("inf")
        """time.monotonic() at which the client last took something, or the first of what waits came; inf: nothing
        waits."""

    # For the task that makes the audio

    @property
    def has_room(self) -> bool:
        """Whether more may be begun."""
        return self._bytes < self._lead

    async def room(self) -> None:
        """Wait until more may be begun. Raises ServerBusy where the client took nothing for too long."""
        while not self.has_room and self._failure is None:
            self._taken.clear()
            await self._taken.wait()
        self._raise_failure()

    def put(self, chunk: AudioChunk) -> None:
        """Add audio. Raises ServerBusy where the client took nothing for too long."""
        self._raise_failure()
        if not self._bytes:
            self.untaken_since = time.monotonic()
        self._chunks.append(chunk)
        self._count(chunk.samples.nbytes)
        self._changed.set()
        self._store.make_room()

    def end(self, error: BaseException | None) -> None:
        """No more comes: all was made, or an error ended it, which the reader gets behind the audio before it."""
        if self._failure is None:
            self._chunks.append(_End(error))
            self._changed.set()

    def fail(self, error: ServerBusy) -> None:
        """Drop what waits and end both sides with an error."""
        self._clear()
        self._failure = error
        self._chunks.append(_End(error))
        self._changed.set()
        self._taken.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    # For the edge

    async def get(self) -> AudioChunk | None:
        """Returns the next piece, or None at the end. Raises what ended the audio."""
        while not self._chunks:
            self._changed.clear()
            await self._changed.wait()
        chunk = self._chunks.popleft()
        if isinstance(chunk, _End):
            if chunk.error is not None:
                raise chunk.error
            return None
        self._count(-chunk.samples.nbytes)
        self.untaken_since = time.monotonic() if self._bytes else float("inf")
        self._taken.set()
        return chunk

    def close(self) -> None:
        """The client has it all, or is gone."""
        self._clear()
        self._store.forget(self)

    def _clear(self) -> None:
        self._count(-self._bytes)
        self._chunks.clear()
        self.untaken_since = float("inf")

    def _count(self, change: int) -> None:
        self._bytes += change
        self._store.bytes += change
