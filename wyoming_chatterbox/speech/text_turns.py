"""Looking at texts, a little at a time: splitting one into sentences is work of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator

from .text.sentences import Sentence

TURN_SECONDS = 0.001
"""Work on one text before another one, or a client's event, gets its turn."""

CHARS_AT_ONCE = 8
"""Characters after which the clock is looked at; eight of the worst ones take 1 ms."""


class TextTurns:
    """Lets texts be looked at in turns, one turn of all of them between two looks at the network."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()  # its waiters are served in order

    async def split(self, text: str, feed: Callable[[str], Iterator[Sentence]]) -> AsyncGenerator[Sentence, None]:
        """Yields the sentences that a text completes.

        Args:
            text: of any length.
            feed: takes some of it and gives out the sentences which that completes.
        """
        start = 0
        while start < len(text):
            sentences: list[Sentence] = []
            async with self._turn:
                until = time.perf_counter() + TURN_SECONDS
                while start < len(text) and time.perf_counter() < until:
                    sentences.extend(feed(text[start : start + CHARS_AT_ONCE]))
                    start += CHARS_AT_ONCE
                await asyncio.sleep(0)
            for sentence in sentences:
                yield sentence
