"""Words in brackets that some models perform instead of reading them: `[laugh]`."""

from __future__ import annotations

TURBO_SOUNDS = ("clear throat", "sigh", "shush", "cough", "groan", "sniff", "gasp", "chuckle", "laugh")
"""What Turbo and Nano have tokens for, and make audible."""

TURBO_STYLES = (
    "angry",
    "fear",
    "surprised",
    "whispering",
    "advertisement",
    "dramatic",
    "narration",
    "crying",
    "happy",
    "sarcastic",
)
"""What they have tokens for too; by their users' accounts these change little."""
