"""From what a language model or a template writes to what can be spoken."""

from __future__ import annotations

import html

import regex

from .boundaries import MONTHS

_SPEAKABLE = regex.compile(r"[\p{L}\p{N}]")

_IMAGE_OR_LINK = regex.compile(r"!?\[([^\[\]]*)\]\(\s*<?(?:[^()\s]|\([^()\s]*\))*+>?(?:\s+[\"'][^\"']*[\"'])?\s*\)")
_AUTOLINK = regex.compile(r"<([a-z][a-z0-9+.-]{1,15}://[^<>\s]+|[^<>\s@]{1,64}@[^<>\s@]+)>", regex.I)
_URL = regex.compile(
    r"\b(?:[a-z][a-z0-9+.-]{1,15}://(?:[^\s/@]{1,100}@)?(?:www\.)?|www\.)"
    r"([\w-]++(?:\.[\w-]++)*+)(?::\d+)?(?:[/?#](?:[^\s<>\"'()\[\]]|\([^\s()]*\))*+)?",
    regex.I,
)
"""With any scheme, or with www. and none."""

_END_MARKS = regex.compile(r"[.,;:!?…]*$")
_FENCE = regex.compile(r"^\s*(?:`{3,}|~{3,})[\w+.-]*[ \t]*$")
_FENCE_INLINE = regex.compile(r"`{3,}|~{3,}")
_HEADING = regex.compile(r"^\s*#{1,6}\s+")
_QUOTE = regex.compile(r"^\s*(?:>\s*)+")
_BULLET = regex.compile(r"^\s*[-*+•–—]\s+(?:\[[ xX]\]\s+)?")
_NUMBERED = regex.compile(rf"^\s*(\d{{1,3}})[.)]\s+(?!(?:{'|'.join(sorted(MONTHS))})\b)", regex.I)
"""The number of a list item, but not the day of a date: "3. Oktober"."""

_KEYCAP_ITEM = regex.compile(r"^([0-9])\uFE0F?\u20E3\s*(?=[^\s.,:;)])")
_KEYCAP = regex.compile(r"([0-9#*])\uFE0F?\u20E3")
_RULE = regex.compile(r"^\s*(?:[-*_=]\s*){3,}$")
_TABLE_RULE = regex.compile(r"^\s*\|?(?:\s*:?-{2,}:?\s*\|)+\s*(?::?-{2,}:?)?\s*$")
_TABLE_CELLS = regex.compile(r"\s*\|\s*")
_HTML_TAG = regex.compile(
    r"</?(?:[abiusp]|br|em|strong|su[bp]|code|span|div|hr|del|ins|small|mark|[uod]l|li|d[td]|h[1-6]|img|pre|blockquote"
    r"|table|t[rdh]|thead|tbody)\b[^<>]*>",
    regex.I,
)
_ANY_TAG = regex.compile(
    r"</?\p{L}[\p{L}\p{N}_:.-]*+(?:\s+[\w:.-]++\s*=\s*(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*+\s*/?>"
    r"|<\|[^<>|]{1,64}\|>|<!--(?:(?!-->)[^<])*+-->"
)
"""Of any name, with attributes that have values, so that "a <b and c> d" stays; and what marks turns: <|im_end|>."""

_LONGEST_EMPHASIS = 1000
"""Characters between two underscores: the longest sentence that may be set. Without a limit, every underscore that
nothing closes would be looked for to the end of the text."""

_STRONG_UNDERSCORES = regex.compile(rf"(?<![\w_])(_{{1,3}})(?=\S)(.{{1,{_LONGEST_EMPHASIS}}}?)(?<=\S)\1(?![\w_]|\.\w)")
_STRIKE = regex.compile(r"~~(?=\S)(.+?)(?<=\S)~~")
_ESCAPED = regex.compile(r"\\([\\`*_{}\[\]()#+.!~>|-])")
_LEFTOVER_LINK = regex.compile(r"\]\([^()\s]*\)?")

# Emoji with what joins and colours them. Keycaps are spoken as what is on them.
_EMOJI = regex.compile(
    r"[\U0001F1E6-\U0001F1FF]{1,2}|[\p{Extended_Pictographic}--[©®™↔↕‼⁉]]"
    r"(?:\uFE0F|[\U0001F3FB-\U0001F3FF]|\u200D\p{Extended_Pictographic}|[\U000E0020-\U000E007F])*|[\uFE0E\uFE0F]",
    regex.V1,
)
_JOINERS = regex.compile(r"(?<!\p{L}\p{M}*)[\u200C\u200D]|[\u200C\u200D](?!\p{L})")
# Everything invisible but the joiners, which carry meaning inside Persian and Indic words: controls, bidi and
# zero-width marks, private use, lone surrogates (JSON can carry them; no codec takes them), unassigned.
_INVISIBLE = regex.compile(r"[\p{C}--[\n\t\u200C\u200D]]", regex.V1)

_MINUS = regex.compile(r"(?<![\p{L}\p{N}])[−–](?=[.$€£]?\d)|−")
"""The typographic signs that language models write; engines read the one on the keyboard."""

_SPACED_MINUS = regex.compile(
    r"(?:^|(?<=[:(,=]\s?)|(?<=\b(?:is|was|be|of|to|at|about|around|below|only|now|ist|war|auf|bei|von|bis|sind|nur|etwa"
    r"|est|de|à|fait|es|son|a|hace)\s))[-−–]\s(?=\d+(?:[.,]\d+)?\s?(?:[°º˚℃℉]|degrees\b|Grad\b|grados\b|degrés\b|dBm?\b))",
    regex.I,
)
"""A dash apart from its number is a minus where a temperature or a level follows, at the beginning or behind a word or
mark that asks for a value: "- 3 °C", "it is - 3 °C". Elsewhere it is what it looks like: the bullet of "- 3 eggs", the
dash of "Kitchen - 21 °C", the range of "2 - 5 °C"."""

_DEGREE = regex.compile(r"(?<=\d\s?)[º˚](?=\s?[CF]\b)")
"""Look-alikes of the degree sign: the ordinal of Spanish and Portuguese, the ring above."""

_DIGIT_GROUPS = regex.compile(r"(?<![\d.,])\d{1,3}(?:[\u00a0\u202f\u2009]\d{3})++(?!\d)")
"""12 345 678, with spaces that do not break; others may stand between two numbers."""

_SIGNS = (("℃", "°C"), ("℉", "°F"), ("\u2126", "\u03a9"), ("\u212a", "K"), ("🔟", "10"), ("→", ", "))
"""Signs that engines pass over in silence, and code points that look like another one: OHM SIGN, KELVIN SIGN."""

_REPEATED = (
    (regex.compile(r"\.{4,}|(?:\.\s){2,}\."), "..."),
    (regex.compile(r"…{2,}"), "…"),
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
    if not _SPEAKABLE.search(text):
        return ""
    text = html.unescape(text)
    text = _DIGIT_GROUPS.sub(_without_spaces, text)
    text = " ".join(text.split())
    text = _INVISIBLE.sub("", text)
    for sign, spoken in _SIGNS:
        text = text.replace(sign, spoken)
    text = _KEYCAP_ITEM.sub(r"\1, ", text)
    text = _KEYCAP.sub(r"\1", text)
    text = _EMOJI.sub(" ", text)
    text = _SPACED_MINUS.sub("-", text)
    text = _MINUS.sub("-", text)
    text = _DEGREE.sub("°", text)
    text = _JOINERS.sub("", text)
    text = _FENCE.sub("", text)
    text = _FENCE_INLINE.sub(" ", text)
    text = _RULE.sub("", text)
    text = _TABLE_RULE.sub("", text)
    text = _IMAGE_OR_LINK.sub(r"\1", text)
    text = _AUTOLINK.sub(r"\1", text)
    text = _URL.sub(_host, text)
    text = _LEFTOVER_LINK.sub("", text)
    if "<" in text:
        text = _ANY_TAG.sub(" ", _HTML_TAG.sub(" ", text))
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
    """Returns what is said of an address: its host, and the end of the sentence that stands behind it."""
    marks = _END_MARKS.search(url.group(0))
    return str(url.group(1)) + (marks.group(0) if marks else "")


def _without_spaces(number: regex.Match[str]) -> str:
    return "".join(number.group(0).split())
