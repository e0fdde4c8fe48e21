"""SSML is spoken without its tags."""

from __future__ import annotations

import html

import regex

from ...limits import MAX_SSML_TAG_CHARS

_BREAKS = frozenset({"p", "s", "break", "sentence", "paragraph", "speak"})
"""Elements between which a sentence cannot go on."""

_SILENT = frozenset({"metadata", "desc", "script", "style"})
"""Elements whose text is not meant to be heard."""

_MAX_ENTITY_CHARS = 34
"""The longest named one, &CounterClockwiseContourIntegral;."""

_CDATA = "<![CDATA["
_TAG = regex.compile(r"(/?)\s*([\p{L}_][\p{L}\p{N}_:.-]*)(.*?)(/?)$", regex.S)
_ALIAS = regex.compile(r"\balias\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")


class SSMLStripper:
    """Text out of SSML that may arrive in pieces of any size; `sub` elements give their alias.

    One look at every character, and nothing is expanded but character references: half of what is called SSML is not
    well-formed, and a parser of documents takes seconds for what a stranger sends. What turns out to be no markup is
    text: rather a word too many than a sentence lost.
    """

    def __init__(self) -> None:
        self._markup = ""  # of the tag, comment or reference that is being read
        self._quote = ""  # the quotation mark that must come before the tag can end
        self._silent = 0  # elements around the text that are not heard
        self._aliased: list[bool] = []  # the sub elements around it: whether their alias was spoken instead
        self._aliases = 0

    def strip(self, piece: str) -> str:
        """Feed a piece, get the text that it completes."""
        return "".join(self._add(char) for char in piece)

    def finish(self) -> str:
        """Returns the text that was held back in case markup went on."""
        rest, self._markup, self._quote = self._markup, "", ""
        return "" if rest.startswith(("<!", "<?")) else self._heard(html.unescape(rest))

    def _add(self, char: str) -> str:
        if not self._markup:
            if char not in "<&":
                return self._heard(char)
            self._markup = char
            return ""
        return self._add_to_reference(char) if self._markup[0] == "&" else self._add_to_tag(char)

    def _heard(self, text: str) -> str:
        # A line break in XML is a space; a blank line would be taken for a paragraph.
        return "" if self._silent or self._aliases else text.replace("\n", " ")

    def _add_to_reference(self, char: str) -> str:
        reference = self._markup + char
        if char not in ";<& \n" and len(reference) < _MAX_ENTITY_CHARS:
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
            return self._heard(markup) + self._add(char)  # "5 < 6"
        if len(markup) > MAX_SSML_TAG_CHARS + 2:
            markup = markup[:MAX_SSML_TAG_CHARS] + markup[-2:]  # how it began, and how it may end
        self._markup = markup + char
        if markup.startswith(_CDATA):
            return self._add_to_cdata()
        if markup.startswith("<!--"):
            if char == ">" and self._markup.endswith("-->") and len(self._markup) >= 7:
                self._markup = ""
            return ""
        if char == "<" and markup[1] not in "!?":
            return self._give_up(markup) + self._add(char)
        if self._quote:
            self._quote = "" if char == self._quote else self._quote
        elif char in "\"'" and markup.rstrip().endswith("="):
            self._quote = char
        elif char == ">":
            self._markup = ""
            return self._tag(markup[1:])
        return ""

    def _add_to_cdata(self) -> str:
        """Its text is heard; what may be its end is not, until it is known that it goes on."""
        held = self._markup[len(_CDATA) :]
        if held.endswith("]]>"):
            self._markup = ""
            return ""
        keep = 2 if held.endswith("]]") else 1 if held.endswith("]") else 0
        self._markup = _CDATA + held[len(held) - keep :]
        return self._heard(held[: len(held) - keep])

    def _give_up(self, markup: str) -> str:
        """Handles a tag that begins inside another: that one was none, or a quotation mark of it is missing."""
        self._markup = self._quote = ""
        tag, end, text = markup.partition(">")
        return self._tag(tag[1:]) + self._heard(html.unescape(text)) if end else self._heard(html.unescape(markup))

    def _tag(self, tag: str) -> str:
        match = _TAG.match(tag)
        if match is None:  # a declaration
            return ""
        closing, name, attributes, empty = match.groups()
        name = name.lower()
        if name in _SILENT and not empty:
            self._silent = max(0, self._silent + (-1 if closing else 1))
        elif name == "sub" and not empty:
            return self._end_sub() if closing else self._begin_sub(attributes)
        elif name in _BREAKS:
            return "\n\n"
        return ""

    def _begin_sub(self, attributes: str) -> str:
        alias = _ALIAS.search(attributes)
        text = html.unescape(alias.group(1) or alias.group(2) or "") if alias else ""
        spoken = self._heard(text)
        self._aliased.append(bool(text))
        self._aliases += bool(text)
        return spoken

    def _end_sub(self) -> str:
        if self._aliased:
            self._aliases -= self._aliased.pop()
        return ""
