"""Memory for a model that is to be loaded beside others: where it is too little, others are unloaded first."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

from ..blocking import run_blocking
from ..timeouts import wait_for

_LOGGER = logging.getLogger(__name__)

_FREE_SECONDS = 10.0
"""Longest wait for a driver to say how much memory is free."""

_WAY_SECONDS = 120.0
"""Longest wait for a model to make way: the longest answer, and the time that unloading takes. One that hangs never
does."""


class SharesMemory(Protocol):
    """What of a model counts here."""

    name: str

    @property
    def loaded(self) -> bool:
        """Its engine takes memory."""

    async def make_way(self) -> None:
        """Unload it once nobody uses it."""


class MemoryRoom:
    """The memory that the models of a server share; for the event loop."""

    def __init__(self, needs: Mapping[str, float], free: Callable[[], float]) -> None:
        """
        Args:
            needs: GB that a model takes, by its name.
            free: returns the GB that are free now; may block.
        """
        self._needs = needs
        self._free = free
        self._loading: set[str] = set()

    @contextlib.asynccontextmanager
    async def for_loading(self, model: SharesMemory, others: Sequence[SharesMemory]) -> AsyncIterator[float]:
        """Keeps room for a model while it is loaded: its memory is not free for others. Before that others are unloaded
        until there is room, in their order and each once it is not in use.

        Yields:
            GB that are lacking all the same; 0 where there is room.
        """
        self._loading.add(model.name)
        try:
            lacking = await self._lacking(model.name)
            for other in others:
                if lacking and other.loaded:
                    _LOGGER.info(
                        "Model %s needs %.1f GB more than are free: model %s makes way once it is not in use",
                        model.name,
                        lacking,
                        other.name,
                    )
                    with contextlib.suppress(asyncio.TimeoutError):
                        await wait_for(_WAY_SECONDS, other.make_way())
                    lacking = await self._lacking(model.name)
            yield lacking
        finally:
            self._loading.discard(model.name)

    async def _lacking(self, model: str) -> float:
        try:
            free = await run_blocking(self._free, timeout=_FREE_SECONDS, name="memory")
        except asyncio.TimeoutError:
            return 0.0  # nobody knows
        return max(0.0, sum(self._needs.get(name, 0.0) for name in self._loading | {model}) - free)
