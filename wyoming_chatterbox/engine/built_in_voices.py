"""The voices that come with the models."""

from __future__ import annotations

from ..voices.voice import Voice

MULTILINGUAL_LANGUAGES = (
    *("en", "ar", "da", "de", "el", "es", "fi", "fr", "he", "hi", "it", "ja"),
    *("ko", "ms", "nl", "no", "pl", "pt", "ru", "sv", "sw", "tr", "zh"),
)
"""Of Multilingual. The first one is that of voices for which nobody says anything."""


def _default(model: str, title: str, language: str = "en") -> Voice:
    """Returns the voice inside a checkpoint of the Chatterbox family (conds.pt), in one of its languages."""
    first = language == "en"
    return Voice(
        name="default" if first else f"default-{language}",
        model=model,
        description=f"{title} (built-in voice)" if first else f"{title} (built-in voice, {language})",
        languages=(language,),
        base="default",
        attribution="Resemble AI",
        attribution_url="https://github.com/resemble-ai/chatterbox",
    )


CHATTERBOX_DEFAULT = _default("original", "Chatterbox")
TURBO_DEFAULT = _default("turbo", "Chatterbox Turbo")
NANO_DEFAULT = _default("nano", "Chatterbox Nano")
MULTILINGUAL_VOICES, MULTILINGUAL_V2_VOICES = (
    tuple(_default(model, title, language) for language in MULTILINGUAL_LANGUAGES)
    for model, title in (
        ("multilingual", "Chatterbox Multilingual"),
        ("multilingual-v2", "Chatterbox Multilingual v2"),
    )
)

HEART = Voice(
    name="embedded",
    model="embedded",
    description="Heart (embedded, American English)",
    languages=("en",),
    attribution="hibari-tts",
    attribution_url="https://github.com/MMWilliams/hibari",
)
"""The voice inside the installation."""
