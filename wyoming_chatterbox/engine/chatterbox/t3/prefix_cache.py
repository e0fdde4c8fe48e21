"""What prompts of one voice have in common, kept for its next utterance."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from torch import Tensor

MAX_PREFIXES = 16
"""One per voice and exaggeration in use."""

MAX_POSITIONS = 2304
"""Of all prefixes together, 0.25 MB each in float32: the longest there is has 2146. Requests say how long their texts
are, and may ask for another exaggeration every time."""

UNCONDITIONAL_BLOCK = 64
"""Positions. The unconditional row is prefilled in blocks of this size, so that results are bit-identical regardless of
earlier requests."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values that an utterance's prompt shares with others of the same voice and exaggeration. Immutable, so
    that utterances at the same time may read it."""

    voice: tuple[Tensor, ...]
    """The voice's part per layer, shape (2, heads, positions, head size); the same in both rows."""

    unconditional: tuple[tuple[Tensor, ...], ...] = ()
    """As above, of the text's positions in the unconditional row, which hold no words; in blocks of
    `UNCONDITIONAL_BLOCK`."""

    @property
    def length(self) -> int:
        """Positions of the voice's part."""
        return int(self.voice[0].shape[2])

    @property
    def positions(self) -> int:
        """All positions that it holds."""
        return self.length + UNCONDITIONAL_BLOCK * len(self.unconditional)


class PrefixCache:
    """Prefixes by key, those that were not used for longest dropped first. Threads may share it."""

    def __init__(self) -> None:
        self._prefixes: OrderedDict[Hashable, Prefix] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._prefixes)

    def __iter__(self) -> Iterator[Hashable]:
        """Returns all keys, the one that was used last at the end."""
        return iter([*self._prefixes])

    def get(self, key: Hashable) -> Prefix | None:
        """Returns the prefix of a key, which counts as used, or None."""
        with self._lock:
            if key in self._prefixes:
                self._prefixes.move_to_end(key)
            return self._prefixes.get(key)

    def put(self, key: Hashable, prefix: Prefix) -> None:
        """Keep a prefix, even where it is more than may be kept: then all others go."""
        with self._lock:
            self._prefixes[key] = prefix
            self._drop_old()

    def extend(self, key: Hashable, prefix: Prefix) -> None:
        """Keep a prefix in place of one with fewer blanks; where the key was dropped meanwhile, do nothing."""
        with self._lock:
            known = self._prefixes.get(key)
            if known is not None and len(known.unconditional) < len(prefix.unconditional):
                self._prefixes[key] = prefix
                self._drop_old()

    def forget(self, voice: Hashable) -> None:
        """Drop what is kept of a voice, whose keys are (voice, …)."""
        with self._lock:
            for key in [key for key in self._prefixes if isinstance(key, tuple) and key[0] == voice]:
                del self._prefixes[key]

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._prefixes.clear()

    def _drop_old(self) -> None:
        positions = sum(prefix.positions for prefix in self._prefixes.values())
        while len(self._prefixes) > 1 and (len(self._prefixes) > MAX_PREFIXES or positions > MAX_POSITIONS):
            _, oldest = self._prefixes.popitem(last=False)
            positions -= oldest.positions
