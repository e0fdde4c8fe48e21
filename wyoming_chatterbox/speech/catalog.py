"""The models that run, the voices that can be requested, and which model speaks an utterance."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from ..timeouts import wait_for
from ..voices.voice import Voice
from .errors import ModelUnavailable
from .model import Model, ModelStatus

FALLBACK_READY_TIMEOUT = 60.0
"""Longest wait of an utterance for the fallback to be loaded, in seconds. It takes one; a slow disk some ten."""


@dataclass(frozen=True)
class Readiness:
    """Whether a request would be spoken now, and by which model."""

    model: str
    """The chosen model."""

    status: ModelStatus
    speaks: str | None
    """Name of the model that would answer a request for the default voice; None: nothing can."""


class ModelCatalog:
    """The models of a server; for the event loop."""

    def __init__(self, primary: Model, fallback: Model | None = None) -> None:
        """
        Args:
            primary: the chosen model.
            fallback: the model, loaded within a second, that speaks while another one cannot; None where nothing may.
                It can be the primary one itself.
        """
        self.primary = primary
        self.fallback = fallback
        self.models: tuple[Model, ...] = (primary,) if fallback in (None, primary) else (fallback, primary)
        """All models, in the order in which they are to be loaded."""

    @property
    def primary_is_fallback(self) -> bool:
        """The chosen model is the small one: nothing else runs."""
        return self.primary == self.fallback

    @property
    def voices(self) -> tuple[Voice, ...]:
        """All voices that can be requested; the first is the primary model's default."""
        return tuple(voice for model in reversed(self.models) for voice in model.voices)

    def voices_of(self, model: str | None) -> tuple[Voice, ...]:
        """Returns the voices of the model with this name, in any case; none if there is no such model."""
        return tuple(voice for voice in self.voices if model is not None and voice.model == model.casefold())

    def fallback_for(self, model: Model) -> Model | None:
        """Returns the model that may speak in the place of another; None if there is none."""
        return None if model == self.fallback else self.fallback

    def route(self, voice: Voice) -> ModelRoute:
        """Returns the route of an utterance in this voice: its model, and the fallback."""
        model = next((model for model in self.models if model.name == voice.model), self.primary)
        return ModelRoute(model, self.fallback, voice)

    def readiness(self) -> Readiness:
        """Returns which model would speak now; takes microseconds."""
        speaks = next((model.name for model in reversed(self.models) if model.ready), None)
        return Readiness(self.primary.name, self.primary.status, speaks)

    def describe(self) -> str:
        """Returns which model speaks, in one line for people."""
        primary = self.primary
        summary = f"Chatterbox speech, model {primary.name} {primary.status}"
        if primary.ready or self.primary_is_fallback:
            return f"{summary}, but failed last: {primary.last_error}" if primary.last_error else summary
        instead = "nothing speaks" if self.fallback is None else "the embedded voice speaks"
        return f"{summary}; {instead} in its place"


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
