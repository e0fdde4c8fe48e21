"""Language codes as clients, voices and models write them: "en", "en_US", "nb-NO"."""

from __future__ import annotations

_SAME_LANGUAGE = {"nb": "no", "nn": "no", "iw": "he", "in": "id", "ji": "yi", "fil": "tl", "cmn": "zh"}
"""Language codes → the codes that models use for the same language: Bokmål is what Norwegian usually means, the others
are former or narrower codes."""


def language_tag(code: str) -> str:
    """Returns a code in one spelling, for comparison: "en-us" for "en_US"."""
    return code.replace("_", "-").casefold()


def model_language(code: str) -> str:
    """Returns the code that models use for the language of a tag: "no" for "nb-NO", "zh" for "cmn"."""
    primary = language_tag(code).split("-")[0]
    return _SAME_LANGUAGE.get(primary, primary)


def same_language(first: str, second: str) -> bool:
    """Returns True if two codes mean the same language, whatever script or region they name."""
    return model_language(first) == model_language(second)
