"""What Chatterbox's own text clean-up would spoil, said so that it cannot.

Upstream's `punc_norm` runs on every text and knows no contexts. What it does to ordinary sentences is what the model
was trained with, so it stays, and they become the same tokens as upstream's. These it spoils, and they are written
differently before:

| text | punc_norm makes | here |
|---|---|---|
| 07:05, 3:1 | 07,05 and 3,1 | seven oh five, 3 to 1 |
| host:8123 | host,8123 | host, 8123 |
| Wait... what? a; b | two spaces behind the comma, which the model never saw | one |
| Really...? (...) | Really, ? (, ) | Really? and nothing |
| late—very late, late — very late | late-very late, late - very late | a comma, as for " - " |
| 10 - 12, 5 - 3 = 2 | 10, 12 and 5, 3 | 10 to 12, 5 minus 3 |
| ≥ 5 | a sign that the tokenizer does not know | at least 5 |

Left as upstream has it: a colon or semicolon between words is a comma; the first letter becomes a capital one, "iPhone"
included, as the tokenizer's pieces of either differ little; a text that ends in "..." ends in a comma.
"""

from __future__ import annotations

from typing import Any

import regex
import torch

from ..english import spoken_colons, spoken_dashes, spoken_signs
from . import upstream
from .specs import ChatterboxSpec

_COLON_INSIDE = regex.compile(r"(?<=[\p{L}\p{N}]):(?=[\p{L}\p{N}])")
_SEMICOLON = regex.compile(r"\s?;\s+")
_DASH = regex.compile(r"(?<=[^\s—–\d])(?:\s?—\s?|\s–\s)(?=[^\s—–])|(?<=\d)(?:\s?—\s?|\s–\s)(?=[^\s\d—–])")
_NOTHING = regex.compile(r"[(\[]\s?(?:\.{3}|…)\s?[)\]]")
_ELLIPSIS_FIRST = regex.compile(r"^\s*(?:\.{3}|…)\s*(?=\S)")
_ELLIPSIS_BEFORE_MARK = regex.compile(r"\s?(?:\.{3}|…)\s?(?=[?!,;:])")
_ELLIPSIS_BEFORE_CLOSER = regex.compile(r"\s?(?:\.{3}|…)(?=[\"'”’)\]}»])")
_ELLIPSIS = regex.compile(r"(?<=\S)\s?(?:\.{3}|…)\s?(?=\S)")


def prepare_text(text: str) -> str:
    """Returns one cleaned sentence as upstream's punc_norm should be given it."""
    text = spoken_dashes(spoken_colons(spoken_signs(text)))
    if ":" in text:
        text = _COLON_INSIDE.sub(", ", text)
    if ";" in text:
        text = _SEMICOLON.sub(", ", text)
    if "—" in text or "–" in text:
        text = _DASH.sub(", ", text)
    if "..." in text or "…" in text:
        text = _NOTHING.sub("", text)
        text = _ELLIPSIS_FIRST.sub("", text)
        text = _ELLIPSIS_BEFORE_MARK.sub("", text)
        text = _ELLIPSIS_BEFORE_CLOSER.sub(",", text)
        text = _ELLIPSIS.sub(", ", text)
    return text


def text_tokens(tokenizer: Any, text: str, spec: ChatterboxSpec, language: str) -> torch.Tensor:
    """Returns what a model reads of a text, shape (1, n); `language` is a code of the model's."""
    text = normalize_punctuation(text, spec)
    tokens: torch.Tensor = (
        tokenizer.text_to_tokens(text, language) if spec.multilingual else tokenizer.text_to_tokens(text)
    )
    return tokens


def normalize_punctuation(text: str, spec: ChatterboxSpec) -> str:
    """Returns a text with the punctuation that a model was trained with, as its developers' `punc_norm` makes it."""
    if spec.punctuation is None:
        return str(upstream.load_chatterbox().punc_norm(text))
    text = " ".join(text.split())
    text = text[:1].upper() + text[1:] if text[:1].islower() else text
    for written, read in spec.punctuation:
        text = text.replace(written, read)
    text = text.rstrip(" ")
    return text if text.endswith(spec.sentence_ends) else f"{text}."
