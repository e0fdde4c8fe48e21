"""Checks the names of voices, and compares them."""

from __future__ import annotations

import unicodedata

import regex

from ..limits import MAX_VOICE_NAME_CHARS
from .errors import VoiceError

_RESERVED = frozenset('?&#/\\:*"<>|')
"""`?` and `&` begin settings in a request; the rest cannot be in file names everywhere."""

_INVISIBLE = regex.compile(r"[\p{C}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}\u2800]")
"""Characters without a shape of their own: control and format characters (bidi overrides and marks, joiners),
surrogates, private and unassigned code points, line separators, fillers, variation selectors, and the Braille blank.
With one of them two names look alike, or read in another order than they are spelled. Letters of right-to-left scripts
need none of these."""


def name_key(name: str) -> str:
    """Returns the form in which names are compared: without regard to case and to how Unicode composes a letter."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def check_name(name: str) -> str:
    """Returns a voice's name in Unicode's composed form (NFC).

    Raises:
        VoiceError: it cannot be one; the message says why.
    """
    name = unicodedata.normalize("NFC", name)
    if not name or name != name.strip() or name.startswith("."):
        raise VoiceError(
            f"{name!r} cannot be a voice's name: it is empty, begins with a dot, or begins or ends with a space; "
            "rename it"
        )
    if len(name) > MAX_VOICE_NAME_CHARS:
        raise VoiceError(
            f"a voice's name has at most {MAX_VOICE_NAME_CHARS} characters, {name[:20]!r}… has {len(name)}; rename it"
        )
    bad = next((c for c in name if c in _RESERVED or _INVISIBLE.match(c)), None)
    if bad is not None:
        raise VoiceError(f"a voice's name cannot contain {_described(bad)}; rename it")
    return name


def _described(character: str) -> str:
    """Returns a character for people: itself where it can be seen, else its code point and Unicode's name for it."""
    if character in _RESERVED:
        return repr(character)
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python spells bytes in a file name that are no UTF-8
        return f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8"
    unicode_name = unicodedata.name(character, "")
    return f"U+{code:04X}{f' ({unicode_name})' if unicode_name else ''}, which cannot be seen"
