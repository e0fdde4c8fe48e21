"""Which of the library's voices a model still has to prepare, and which it may drop from memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from ..voices.voice import Voice

_LOGGER = logging.getLogger(__name__)


class PreparationQueue:
    """Lists the voices that are to be prepared; for the event loop. Voices with the same fingerprint count as one."""

    def __init__(self) -> None:
        self._offered: dict[str, Voice] = {}
        self._to_do: dict[str, Voice] = {}
        self._users: Counter[str] = Counter()
        self._gone: dict[str, Voice] = {}
        self._work = asyncio.Event()
        self._ready = self._computed = 0  # since the queue was last empty
        self._seconds = 0.0

    def offer(self, voices: Sequence[Voice]) -> None:
        """Replace the voices; those that are new are to be prepared."""
        offered = {voice.fingerprint: voice for voice in voices}
        self._gone = {key: voice for key, voice in {**self._gone, **self._offered}.items() if key not in offered}
        new = {key: voice for key, voice in offered.items() if key not in self._offered or key in self._to_do}
        self._offered = offered
        self._set(new)

    def requeue_all(self) -> None:
        """Prepare all voices again, for an engine that was just loaded."""
        self._gone.clear()
        self._set(dict(self._offered))

    def _set(self, to_do: dict[str, Voice]) -> None:
        self._to_do = to_do
        if to_do:
            self._work.set()
        else:
            self._work.clear()

    async def next(self, first: str | None = None) -> Voice:
        """Wait for a voice that is to be prepared and return it; the one named `first` comes before the others."""
        await self._work.wait()
        preferred = [voice for voice in self._to_do.values() if first is not None and voice.name == first]
        return preferred[0] if preferred else next(iter(self._to_do.values()))

    def done(self, voice: Voice, seconds: float = 0.0, *, computed: bool = False, failed: bool = False) -> None:
        """Take a voice off the queue, prepared or `failed`, and log the progress."""
        self._to_do.pop(voice.fingerprint, None)
        self._seconds += seconds
        if not failed:
            self._ready += 1
            self._computed += computed
            remaining = len(self._to_do)
            if computed and remaining:
                _LOGGER.info("Voices to be taken from their clips: %d more", remaining)
        if self._to_do:
            return
        if self._ready > 1:
            _LOGGER.info(
                "%d voices are ready (computed now: %d, there already: %d), it took %.1f s",
                self._ready,
                self._computed,
                self._ready - self._computed,
                self._seconds,
            )
        self._ready, self._computed, self._seconds = 0, 0, 0.0
        self._work.clear()

    @contextlib.contextmanager
    def using(self, voice: Voice) -> Iterator[None]:
        """Keep what is in memory for a voice, for the time of an utterance."""
        self._users[voice.fingerprint] += 1
        try:
            yield
        finally:
            self._users[voice.fingerprint] -= 1
            if not self._users[voice.fingerprint]:
                del self._users[voice.fingerprint]

    def pop_unused(self) -> list[Voice]:
        """Returns, once, the voices that are gone and that no utterance uses."""
        unused = [voice for key, voice in self._gone.items() if key not in self._users]
        for voice in unused:
            del self._gone[voice.fingerprint]
        return unused
