"""Which model speaks an utterance: that of its voice, or the fallback while that one cannot."""

from __future__ import annotations

import asyncio
import contextlib

from ..timeouts import wait_for
from ..voices.voice import Voice
from .errors import ModelUnavailable
from .model import Model

FALLBACK_READY_TIMEOUT = 60.0
"""Longest wait of an utterance for the fallback to be loaded, in seconds. It takes one; a slow disk some ten."""


class ModelRoute:
    """The model that speaks an utterance: that of its voice, or from some sentence on the fallback."""

    def __init__(self, model: Model, fallback: Model | None, voice: Voice) -> None:
        self.model = model
        self.voice = voice
        self.on_fallback = False
        """The fallback speaks in the place of the requested voice's model."""

        self._fallback = fallback

    async def ensure_ready(self) -> None:
        """Make sure that `model` can speak the next sentence, or put the fallback in its place.

        Raises:
            ModelUnavailable: nothing can speak it.
        """
        if self.model.ready:
            return
        if self.model != self._fallback and not self.switch_to_fallback():
            raise ModelUnavailable(f"Model {self.model.name} is {self.model.status}; try again later")
        with contextlib.suppress(asyncio.TimeoutError):
            await wait_for(FALLBACK_READY_TIMEOUT, self.model.wait_until_decided())
        if not self.model.ready:
            raise ModelUnavailable(f"The embedded voice is {self.model.status}")

    def switch_to_fallback(self) -> bool:
        """Let the fallback speak from now on; returns False if there is none, or it speaks already."""
        if self._fallback is None or self.model == self._fallback:
            return False
        self.model = self._fallback
        self.voice = self._fallback.voices[0]
        self.on_fallback = True
        return True
