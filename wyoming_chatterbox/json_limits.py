"""Parsing JSON from the network at a bounded cost: what it would become is counted before any of it is made."""

from __future__ import annotations

import json
import re
from typing import Any

from .errors import WyomingChatterboxError
from .limits import MAX_JSON_DEPTH, MAX_JSON_DIGITS, MAX_JSON_VALUES

_BRACKETS = re.compile(r"[^\[\]{}]+")


class TooMuchJSON(WyomingChatterboxError, ValueError):
    """The document would become more than MAX_JSON_VALUES values, or more than MAX_JSON_DEPTH deep."""


def parse(document: bytes) -> Any:
    """Returns what a JSON document (in UTF-8) says.

    Raises:
        ValueError: it is not JSON, or too much of it.
    """
    text = document.decode("utf-8", "surrogatepass")
    _check(text)
    return json.loads(text, parse_int=_integer, parse_float=_float)


def _check(text: str) -> None:
    """Raise TooMuchJSON where a document has too many values or is too deep; 1 MiB takes some milliseconds."""
    outside = text
    if _values(text) > MAX_JSON_VALUES or text.count("[") + text.count("{") > MAX_JSON_DEPTH:
        # Only now, as it costs more: what stands inside strings does not count. Without its escapes, a text's quotes
        # are those that begin and end a string.
        plain = text.replace("\\\\", "").replace('\\"', "")
        if plain.count('"') > 2 * MAX_JSON_VALUES:
            raise TooMuchJSON(f"more than {MAX_JSON_VALUES} values")
        outside = "".join(plain.split('"')[::2])
        if _values(outside) > MAX_JSON_VALUES:
            raise TooMuchJSON(f"more than {MAX_JSON_VALUES} values")
    depth = 0
    for bracket in _BRACKETS.sub("", outside):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_JSON_DEPTH:
            raise TooMuchJSON(f"nested more than {MAX_JSON_DEPTH} deep")


def _values(text: str) -> int:
    """At least as many values as a document has: each is followed by one of these or is the last of its container."""
    return sum(map(text.count, ",:[{"))


def _integer(digits: str) -> int:
    return int(_checked(digits))


def _float(digits: str) -> float:
    return float(_checked(digits))


def _checked(digits: str) -> str:
    if len(digits) > MAX_JSON_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return digits
