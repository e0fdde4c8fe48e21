"""The voices that come with the models."""

from __future__ import annotations

from ..voices.voice import Voice


def _default(model: str, title: str) -> Voice:
    """Returns the voice inside a checkpoint of the Chatterbox family (conds.pt)."""
    return Voice(
        name="default",
        model=model,
        description=f"{title} (built-in voice)",
        languages=("en",),
        attribution="Resemble AI",
        attribution_url="https://github.com/resemble-ai/chatterbox",
    )


CHATTERBOX_DEFAULT = _default("original", "Chatterbox")
TURBO_DEFAULT = _default("turbo", "Chatterbox Turbo")
NANO_DEFAULT = _default("nano", "Chatterbox Nano")

HEART = Voice(
    name="embedded",
    model="embedded",
    description="Heart (embedded, American English)",
    languages=("en",),
    attribution="hibari-tts",
    attribution_url="https://github.com/MMWilliams/hibari",
)
"""The voice inside the installation."""
