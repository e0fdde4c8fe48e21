"""The models that run and the voices that can be requested."""

from __future__ import annotations

from dataclasses import dataclass

from ..voices.voice import Voice
from .fallback import ModelRoute
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
