"""The voices that come with the models."""

from __future__ import annotations

from ..voices.voice import Voice

CHATTERBOX_DEFAULT = Voice(
    name="default",
    model="original",
    description="Chatterbox (built-in voice)",
    languages=("en",),
    attribution="Resemble AI",
    attribution_url="https://github.com/resemble-ai/chatterbox",
)
"""The voice inside the original model's checkpoint (conds.pt)."""

HEART = Voice(
    name="embedded",
    model="embedded",
    description="Heart (embedded, American English)",
    languages=("en",),
    attribution="hibari-tts",
    attribution_url="https://github.com/MMWilliams/hibari",
)
"""The voice inside the installation."""
