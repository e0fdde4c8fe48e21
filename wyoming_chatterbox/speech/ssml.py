"""SSML is spoken without its tags."""

from __future__ import annotations

import html

import regex

_BREAKS = frozenset({"p", "s", "break", "sentence", "paragraph", "speak"})
"""Elements between which a sentence cannot go on."""

_SILENT = frozenset({"metadata", "desc", "script", "style"})
"""Elements whose text is not meant to be heard."""

MAX_TAG_CHARS = 2000
"""What is kept of one tag; the longest real ones carry an URL or an alias."""

_MAX_ENTITY_CHARS = 34
"""The longest named one, &CounterClockwiseContourIntegral;."""

_TAG = regex.compile(r"(/?)\s*([\p{L}_][\p{L}\p{N}_:.-]*)(.*?)(/?)$", regex.S)
_ALIAS = regex.compile(r"\balias\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


class SSMLStripper:
    """Text out of SSML that may arrive in pieces of any size; `sub` elements give their alias.

    One look at every character, and nothing is expanded but character references: half of what is called SSML is not
    well-formed, and a parser of documents takes seconds for what a stranger sends.
    """

    def __init__(self) -> None:
        self._markup = ""  # of the tag, comment or reference that is being read
        self._quote = ""  # the quotation mark that must come before the tag can end
        self._silent: list[str] = []
        self._aliased: list[bool] = []

    def strip(self, piece: str) -> str:
        """Feed a piece, get the text that it completes."""
        text: list[str] = []
        for char in piece:
            if not self._markup:
                if char in "<&":
                    self._markup = char
                else:
                    text.append(self._heard(char))
            elif self._markup[0] == "&":
                text.append(self._add_to_reference(char))
            else:
                text.append(self._add_to_tag(char))
        return "".join(text)

    def finish(self) -> str:
        """The text that was held back in case a reference went on."""
        rest, self._markup = self._markup, ""
        return self._heard(html.unescape(rest)) if rest.startswith("&") or rest == "<" else ""

    def _heard(self, text: str) -> str:
        # A line break in XML is a space; a blank line would be taken for a paragraph.
        return "" if self._silent or any(self._aliased) else text.replace("\n", " ")

    def _add_to_reference(self, char: str) -> str:
        reference = self._markup + char
        if char != ";" and char not in "<& \n" and len(reference) < _MAX_ENTITY_CHARS:
            self._markup = reference
            return ""
        self._markup = ""
        if char in "<&":
            self._markup = char
            return self._heard(reference[:-1])
        return self._heard(html.unescape(reference))

    def _add_to_tag(self, char: str) -> str:
        markup = self._markup
        if len(markup) == 1 and not (char.isalpha() or char in "/!?_"):
            self._markup = ""
            return self._heard(markup + char)  # "5 < 6"
        if len(markup) >= MAX_TAG_CHARS:
            # Only how it ends matters now.
            markup = markup[:9] + markup[-2:]
        self._markup = markup + char
        if markup.startswith("<![CDATA["):
            if self._markup.endswith("]]>"):
                self._markup = ""
                return ""
            # Its text is heard; what may be its end is not, until it is known that it goes on.
            held = self._markup[9:]
            keep = 2 if held.endswith("]]") else 1 if held.endswith("]") else 0
            self._markup = self._markup[:9] + held[len(held) - keep :]
            return self._heard(held[: len(held) - keep])
        if markup.startswith("<!--"):
            if char == ">" and self._markup.endswith("-->") and len(self._markup) >= 7:
                self._markup = ""
            return ""
        if self._quote:
            self._quote = "" if char == self._quote else self._quote
            return ""
        if char in "\"'" and markup[1] not in "!?":
            self._quote = char
        if char != ">":
            return ""
        self._markup, tag = "", self._markup
        return self._tag(tag[1:-1])

    def _tag(self, tag: str) -> str:
        found = _TAG.match(tag)
        if found is None:  # a declaration
            return ""
        closing, name, attributes, empty = found.groups()
        name = name.lower()
        if name in _SILENT and not empty:
            if closing:
                self._silent = self._silent[:-1]
            else:
                self._silent.append(name)
        elif name == "sub" and not empty:
            if closing:
                self._aliased = self._aliased[:-1]
                return ""
            alias = _ALIAS.search(attributes)
            text = html.unescape(alias.group(1) or alias.group(2) or "") if alias else ""
            spoken = self._heard(text)
            self._aliased.append(bool(text))
            return spoken
        elif name in _BREAKS:
            return "\n\n"
        return ""
