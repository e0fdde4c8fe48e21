"""The requests of one connection: answered one at a time, in order of arrival, each until it is cancelled."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Generic, TypeVar

from ..limits import MAX_PENDING
from .errors import SpeechError
from .request import SpeechRequest


class Turn:
    """One request of a connection, from its arrival to the end of its answer."""

    def __init__(self, request: SpeechRequest) -> None:
        self.request = request
        self.error: SpeechError | None = None
        """Why the request is refused; it is still answered in its turn."""

        self._cancelled = asyncio.Event()

    def refuse(self, error: SpeechError) -> None:
        """Answer the request with an error, and drop its text."""
        self.error = error
        self.request.text.drop()

    def cancel(self) -> None:
        """Stop answering the request, or do not begin to."""
        self._cancelled.set()

    async def run(self, answer: Coroutine[Any, Any, None]) -> bool:
        """Run a coroutine that answers this turn, until it ends or `cancel` is called.

        Returns:
            False if it was cancelled by `cancel`.

        Raises:
            Exception: what the coroutine raises.
        """
        answering = asyncio.create_task(answer)
        cancelling = asyncio.create_task(self._cancelled.wait())
        try:
            if not self._cancelled.is_set():
                await asyncio.wait((answering, cancelling), return_when=asyncio.FIRST_COMPLETED)
            completed = answering.done()
            if not completed:
                answering.cancel()
                # Not `await answering`: a cancellation of this task itself would look like the one of `answering`.
                await asyncio.wait((answering,))
            if not answering.cancelled():
                answering.result()
            return completed
        finally:
            answering.cancel()
            cancelling.cancel()
            await asyncio.gather(answering, return_exceptions=True)


TurnT = TypeVar("TurnT", bound=Turn)


class TurnQueue(Generic[TurnT]):
    """A connection's turns, the one that is being answered first; for the event loop."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        """`on_change`: called whenever a turn was added or has been answered."""
        self._turns: deque[TurnT] = deque()
        self._on_change = on_change
        self._wakeup = asyncio.Event()
        self._closed = False
        self.idle_since = time.monotonic()
        """time.monotonic() at which the last turn had been answered, or the queue was made."""

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[TurnT]:
        return iter(self._turns)

    @property
    def current(self) -> TurnT | None:
        """The turn that is being answered, or will be next."""
        return self._turns[0] if self._turns else None

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self._closed

    @property
    def is_full(self) -> bool:
        """True while a further request has to be refused."""
        return len(self._turns) >= MAX_PENDING

    def add(self, turn: TurnT) -> None:
        """Let a turn be answered after those before it."""
        self._turns.append(turn)
        self._wakeup.set()
        self._on_change()

    def close(self) -> None:
        """Let `answer_all` return once no turn is left; what is added until then is still answered."""
        self._closed = True
        self._wakeup.set()

    def clear(self) -> None:
        """Forget all turns: their connection is gone."""
        self._turns.clear()
        self.idle_since = time.monotonic()

    async def answer_all(self, answer: Callable[[TurnT], Awaitable[None]]) -> None:
        """Answer the turns in order until the queue is closed and empty.

        A turn stays in the queue while it is answered, and also if `answer` raises, which ends this.
        """
        while True:
            while not self._turns:
                if self._closed:
                    return
                self._wakeup.clear()
                await self._wakeup.wait()
            await answer(self._turns[0])
            self._turns.popleft()
            self.idle_since = time.monotonic()
            self._on_change()
