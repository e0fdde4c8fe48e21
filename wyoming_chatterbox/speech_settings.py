"""How an utterance is spoken: the settings that the server, a voice and a request can have different values of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .knobs import Knob, check_knobs, knob, knobs_of, unknown_setting

_UPSTREAM_GROUP = "Chatterbox, only with --decoder upstream"


@dataclass(frozen=True)
class GenerationSettings:
    """How one utterance is spoken: the parameters of chatterbox-streaming's `generate_stream()` and our own.

    Its other two parameters are the text, which every request brings, and `audio_prompt_path`, which is
    the voice's reference clip.
    """

    exaggeration: float = knob(
        0.5, "Emotion of the delivery; 0.5 is neutral, higher is more dramatic", bounds=(0.0, 2.0), group="Chatterbox"
    )
    cfg_weight: float = knob(
        0.5,
        "Classifier-free guidance: lower speaks slower and follows the clip's accent less",
        bounds=(0.0, 1.0),
        group="Chatterbox",
    )
    temperature: float = knob(
        0.8, "Sampling temperature; higher values vary more", bounds=(0.05, 5.0), group="Chatterbox"
    )
    sampling: str = knob(
        "current",
        "How speech tokens are sampled: current is what Chatterbox's developers recommend for these weights, with "
        "the three settings below; streaming is the older method of chatterbox-streaming, which can end in noise: a"
        " repetition penalty of 2, top_p 0.8 and no min_p, regardless of these settings (with --decoder seamless "
        "only)",
        choices=("current", "streaming"),
        group="Chatterbox",
        server_only=True,
    )
    repetition_penalty: float = knob(
        1.2,
        "How much less likely a speech token becomes after it was sampled; 1 is no penalty (with --sampling current"
        " only)",
        bounds=(1.0, 2.0),
        group="Chatterbox",
    )
    min_p: float = knob(
        0.05,
        "Exclude speech tokens less likely than this share of the likeliest one; 0 excludes none (with --sampling "
        "current only)",
        bounds=(0.0, 1.0),
        group="Chatterbox",
    )
    top_p: float = knob(
        0.0,
        "Sample from the likeliest speech tokens whose probabilities add up to this; 1 excludes none. 0 suits the "
        "model (turbo, nano: 0.95; others: 1). With --sampling current only",
        bounds=(0.0, 1.0),
        group="Chatterbox",
    )
    top_k: int = knob(
        0,
        "Sample from so many of the likeliest speech tokens; 0 suits the model (1000). For turbo and nano",
        bounds=(0, 6561),
        group="Chatterbox",
    )
    decoder: str = knob(
        "seamless",
        "How speech tokens become audio: seamless is this server's own decoder, upstream is that of "
        "chatterbox-streaming, for comparison",
        choices=("seamless", "upstream"),
        group="Chatterbox",
        server_only=True,
    )
    chunk_size: int = knob(
        0,
        "Speech tokens (25 per second) of the first chunk, at least 5; a smaller chunk plays sooner and costs more "
        "(seamless: at least 12). 0 suits the profile and the device (12 to 28; upstream: 25)",
        unit="tokens",
        bounds=(0, 500),
        nonzero_minimum=5,
        group="Chatterbox",
    )
    chunk_growth: float = knob(
        0.0,
        "Length of each chunk relative to the one before, at least 1, up to 200 tokens; 1 keeps them equal. 0 suits"
        " the profile and the device (1.5 to 4; with --decoder seamless only)",
        bounds=(0.0, 4.0),
        nonzero_minimum=1,
        group="Chatterbox",
    )
    context_window: int = knob(
        50,
        "Speech tokens of context that each chunk is decoded with; seamless uses all of them",
        unit="tokens",
        # Upstream slices tokens[-context_window:], so 0 would mean all of them rather than none.
        bounds=(1, 1000),
        group=_UPSTREAM_GROUP,
        upstream_only=True,
    )
    fade_duration: float = knob(
        0.02,
        "Fade-in at the start of every chunk; seamless needs none",
        unit="seconds",
        bounds=(0.0, 0.5),
        group=_UPSTREAM_GROUP,
        upstream_only=True,
    )
    print_metrics: bool = knob(
        False,
        "Let chatterbox-streaming print its own metrics too, to the log",
        group=_UPSTREAM_GROUP,
        upstream_only=True,
    )
    seed: int = knob(
        0,
        "The same text, voice, settings and seed give the same samples; -1 draws a new seed for every utterance",
        bounds=(-1, 2**31 - 1),
        group="Chatterbox",
    )

    def __post_init__(self) -> None:
        check_knobs(self)

    def with_overrides(self, values: Mapping[str, object]) -> GenerationSettings:
        """Returns these settings with the values of a voice or an utterance in their place.

        Args:
            values: by the knob's name, as text (of a query) or of the knob's type.

        Raises:
            SettingsError: a name is unknown, a setting is the server's alone, or a value is not allowed; the message
                names it and the remedy.
        """
        if not values:
            return self
        return dataclasses.replace(self, **_coerced(values, _overridable(GenerationSettings)))


@dataclass(frozen=True)
class UtteranceSettings:
    """How an utterance is spoken, and how its audio is processed."""

    generation: GenerationSettings = field(default_factory=GenerationSettings)
    gain: float = knob(0.0, "Output gain; peaks are soft-clipped", unit="dB", bounds=(-24, 12), group="Audio")
    sentence_silence: float = knob(
        0.25, "Silence between two sentences", unit="seconds", bounds=(0.0, 5.0), group="Audio"
    )

    def with_overrides(self, values: Mapping[str, object]) -> UtteranceSettings:
        """Returns these settings with others in their place; see `GenerationSettings.with_overrides`."""
        if not values:
            return self
        coerced = _coerced(values, _overridable(UtteranceSettings))
        audio = {name: coerced.pop(name) for name in list(coerced) if hasattr(self, name)}
        return dataclasses.replace(self, generation=dataclasses.replace(self.generation, **coerced), **audio)


def utterance_knobs() -> tuple[Knob, ...]:
    """Returns the knobs that a request may set for its utterance."""
    return tuple(_overridable(UtteranceSettings).values())


def voice_knobs() -> tuple[Knob, ...]:
    """Returns the knobs that a voice may set: those of an utterance, without upstream's own."""
    return tuple(knob for knob in utterance_knobs() if not knob.upstream_only)


@functools.cache
def _overridable(cls: type) -> dict[str, Knob]:
    return {knob.name: knob for knob in knobs_of(cls) if not knob.server_only}


def _coerced(values: Mapping[str, object], knobs: Mapping[str, Knob]) -> dict[str, Any]:
    """Returns values of the knobs' types. Raises SettingsError."""
    unknown = next((name for name in values if name not in knobs), None)
    if unknown is not None:
        raise unknown_setting(unknown, list(knobs))
    return {name: knobs[name].coerce(value) for name, value in values.items()}
