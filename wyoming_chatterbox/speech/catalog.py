"""The models that run and the voices that can be requested."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from ..voices.voice import Voice
from .fallback import ModelRoute
from .memory_room import MemoryRoom
from .model import Model, ModelStatus


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

    def __init__(
        self,
        primary: Model,
        fallback: Model | None = None,
        others: Sequence[Model] = (),
        room: MemoryRoom | None = None,
    ) -> None:
        """
        Args:
            primary: the chosen model.
            fallback: the model, loaded within a second, that speaks while another one cannot; None where nothing may.
                It can be the primary one itself.
            others: further models, which are loaded when they are asked for.
            room: the memory that all but the fallback share; None: there is enough.
        """
        self.primary = primary
        self.fallback = fallback
        self.models: tuple[Model, ...] = (primary,) if fallback in (None, primary) else (fallback, primary)
        self.others = tuple(others)
        self.models += self.others
        """All models, in the order in which they are to be loaded."""

        if room is not None and others:
            for model in self.speakers:
                model.room = functools.partial(self._room, room, model)

    @property
    def speakers(self) -> tuple[Model, ...]:
        """All models but the fallback; the primary one first."""
        return (self.primary, *self.others)

    @contextlib.asynccontextmanager
    async def _room(self, room: MemoryRoom, model: Model) -> AsyncIterator[float]:
        """Makes room for a model; yields the GB that are lacking. The primary one is always tried."""
        async with room.for_loading(model, [other for other in self.speakers if other is not model]) as lacking:
            yield 0.0 if model is self.primary else lacking

    @property
    def primary_is_fallback(self) -> bool:
        """The chosen model is the small one: nothing else runs."""
        return self.primary == self.fallback

    @property
    def voices(self) -> tuple[Voice, ...]:
        """All voices that can be requested; the first is the primary model's default."""
        fallback = () if self.fallback is None or self.primary_is_fallback else (self.fallback,)
        return tuple(voice for model in (*self.speakers, *fallback) for voice in model.voices)

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
        answering = (self.primary,) if self.fallback is None else (self.primary, self.fallback)
        speaks = next((model.name for model in answering if model.ready), None)
        return Readiness(self.primary.name, self.primary.status, speaks)

    def describe(self) -> str:
        """Returns which model speaks, in one line for people."""
        primary = self.primary
        summary = f"Chatterbox speech, model {primary.name} {primary.status}"
        if primary.ready or self.primary_is_fallback:
            return f"{summary}, but failed last: {primary.last_error}" if primary.last_error else summary
        instead = "nothing speaks" if self.fallback is None else "the embedded voice speaks"
        return f"{summary}; {instead} in its place"

    def describe_other(self, model: Model) -> str:
        """Returns what a model that is not the primary one does, in one line for people."""
        return f"Chatterbox speech, model {model.name} {model.status}"
