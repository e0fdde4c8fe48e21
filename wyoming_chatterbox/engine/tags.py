"""Words in brackets that some models perform instead of reading them: `[laugh]`."""

from __future__ import annotations

import re
from collections.abc import Collection

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

_TAG = re.compile(rf"\s*\[({'|'.join(map(re.escape, TURBO_SOUNDS + TURBO_STYLES))})\]", re.IGNORECASE)


def keep_tags(text: str, tags: Collection[str]) -> str:
    """Returns a text without the tags that some model has and this one has not, which would be read aloud; those that
    it has are written as it knows them."""
    if "[" not in text:
        return text

    def known(match: re.Match[str]) -> str:
        written, name = match.group(0), match.group(1).lower()
        return written.replace(match.group(1), name) if name in tags else ""

    return _TAG.sub(known, text).strip()
