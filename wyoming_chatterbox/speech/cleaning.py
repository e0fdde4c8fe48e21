"""From what a language model or a template writes to what can be spoken."""

from __future__ import annotations

import html

import regex

_SPEAKABLE = regex.compile(r"[\p{L}\p{N}]")

_IMAGE_OR_LINK = regex.compile(r"!?\[([^\[\]]*)\]\(\s*<?(?:[^()\s]|\([^()\s]*\))*+>?(?:\s+[\"'][^\"']*[\"'])?\s*\)")
_AUTOLINK = regex.compile(r"<(https?://[^<>\s]+)>", regex.I)
_URL = regex.compile(
    r"\bhttps?://(?:[^\s/@]+@)?(?:www\.)?([\w-]++(?:\.[\w-]++)*+)(?::\d+)?(?:[/?#](?:[^\s<>\"'()\[\]]|\([^\s()]*\))*+)?",
    regex.I,
)
_END_MARKS = regex.compile(r"[.,;:!?…]*$")
_FENCE = regex.compile(r"^\s*(?:`{3,}|~{3,})[\w+.-]*[ \t]*$", regex.M)
_FENCE_INLINE = regex.compile(r"`{3,}|~{3,}")
_HEADING = regex.compile(r"^\s*#{1,6}\s+", regex.M)
_QUOTE = regex.compile(r"^\s*(?:>\s*)+", regex.M)
_BULLET = regex.compile(r"^\s*[-*+•–—]\s+(?:\[[ xX]\]\s+)?", regex.M)
_NUMBERED = regex.compile(r"^\s*(\d{1,3})[.)]\s+", regex.M)
_RULE = regex.compile(r"^\s*(?:[-*_=]\s*){3,}$", regex.M)
_TABLE_RULE = regex.compile(r"^\s*\|?(?:\s*:?-{2,}:?\s*\|)+\s*(?::?-{2,}:?)?\s*$", regex.M)
_TABLE_CELLS = regex.compile(r"\s*\|\s*")
_TAG = regex.compile(
    r"</?(?:[abiusp]|br|em|strong|su[bp]|code|span|div|hr|del|ins|small|mark|[uod]l|li|d[td]|h[1-6]|img|pre|blockquote"
    r"|table|t[rdh]|thead|tbody)\b[^<>]*>",
    regex.I,
)
_STRONG_UNDERSCORES = regex.compile(r"(?<![\w_])(_{1,3})(?=\S)(.+?)(?<=\S)\1(?![\w_]|\.\w)")
_STRIKE = regex.compile(r"~~(?=\S)(.+?)(?<=\S)~~")
_ESCAPED = regex.compile(r"\\([\\`*_{}\[\]()#+.!~>|-])")
_LEFTOVER_LINK = regex.compile(r"\]\([^()\s]*\)?")

# Emoji with what joins and colours them; digits, # and * are emoji of their own in Unicode, so they are spared.
_EMOJI = regex.compile(
    r"[0-9#*]\uFE0F?\u20E3|[\U0001F1E6-\U0001F1FF]{1,2}|[\p{Extended_Pictographic}--[©®™↔↕‼⁉]]"
    r"(?:\uFE0F|[\U0001F3FB-\U0001F3FF]|\u200D\p{Extended_Pictographic}|[\U000E0020-\U000E007F])*|[\uFE0E\uFE0F]",
    regex.V1,
)
_JOINERS = regex.compile(r"(?<!\p{L}\p{M}*)[\u200C\u200D]|[\u200C\u200D](?!\p{L})")
# Everything invisible but the joiners, which carry meaning inside Persian and Indic words: controls, bidi and
# zero-width marks, private use, lone surrogates (JSON can carry them; no codec takes them), unassigned.
_INVISIBLE = regex.compile(r"[\p{C}--[\n\t\u200C\u200D]]", regex.V1)

_MINUS = regex.compile(r"(?<![\p{L}\p{N}])[−–](?=[.$€£]?\d)|−")
"""The typographic signs that language models write; engines read the one on the keyboard."""

_SIGNS = (("℃", "°C"), ("℉", "°F"), ("≥", " at least "), ("≤", " at most "), ("≈", " about "), ("→", ", "))
"""Signs that the engines pass over in silence."""

_REPEATED = (
    (regex.compile(r"\.{4,}|…{2,}|(?:\.\s){2,}\."), "..."),
    (regex.compile(r"!{2,}"), "!"),
    (regex.compile(r"\?{2,}"), "?"),
    (regex.compile(r"[!?]*\?[!?]*!+[!?]*|!+\?[!?]*"), "?!"),
    (regex.compile(r",(?:\s*,)+"), ","),
    (regex.compile(r";(?:\s*;)+"), ";"),
    (regex.compile(r":(?:\s*:)+"), ":"),
    (regex.compile(r"([-–—])\1+"), "—"),
    (regex.compile(r"([%$€£])\1+"), r"\1"),
    (regex.compile(r"([&@+])\1{2,}"), r"\1"),
    (regex.compile(r"([_=~#/\\|^<>])\1{2,}"), " "),
    (regex.compile(r"([。！？])\1+"), r"\1"),
)
_STRAY_MARKS = regex.compile(r"(?<!\S)[*_`~#|\\]+(?!\S)|[*`]+")
_SPACE_BEFORE = regex.compile(r"\s+([,.!?;:](?:\s|$))")
_DANGLING = regex.compile(r"^(?:[\s,;:!?)\]}»—–]|[.-](?![.$€£]?\d))+(?=[\p{L}\p{N}\"'(\[¿¡$€£+.-])")


def clean(text: str) -> str:
    """One sentence without markdown, markup, emoji, invisible characters and repeated punctuation.

    Returns an empty string where nothing speakable is left: no letter and no digit.
    """
    text = html.unescape(text)
    text = _INVISIBLE.sub("", text)
    text = _EMOJI.sub(" ", text)
    text = _MINUS.sub("-", text)
    for sign, words in _SIGNS:
        text = text.replace(sign, words)
    text = _JOINERS.sub("", text)
    text = _FENCE.sub("", text)
    text = _FENCE_INLINE.sub(" ", text)
    text = _RULE.sub("", text)
    text = _TABLE_RULE.sub("", text)
    text = _IMAGE_OR_LINK.sub(r"\1", text)
    text = _AUTOLINK.sub(r"\1", text)
    text = _URL.sub(_host, text)
    text = _LEFTOVER_LINK.sub("", text)
    text = _TAG.sub(" ", text)
    text = _QUOTE.sub("", text)
    text = _HEADING.sub("", text)
    text = _BULLET.sub("", text)
    text = _NUMBERED.sub(r"\1, ", text)
    text = _STRONG_UNDERSCORES.sub(r"\2", text)
    text = _STRIKE.sub(r"\1", text)
    text = _ESCAPED.sub(r"\1", text)
    if "|" in text:
        text = _TABLE_CELLS.sub(", ", text).strip(", ")
    text = _STRAY_MARKS.sub("", text)
    for pattern, replacement in _REPEATED:
        text = pattern.sub(replacement, text)
    text = " ".join(text.split())
    text = _SPACE_BEFORE.sub(r"\1", text)
    text = _DANGLING.sub("", text)
    return text if _SPEAKABLE.search(text) else ""


def _host(url: regex.Match[str]) -> str:
    """What is said of an address: its host, and the end of the sentence that stands behind it."""
    marks = _END_MARKS.search(url.group(0))
    return str(url.group(1)) + (marks.group(0) if marks else "")
