"""SSML is spoken without its tags."""

from __future__ import annotations

from html.parser import HTMLParser

_BREAKS = frozenset({"p", "s", "break", "sentence", "paragraph", "speak"})
"""Elements between which a sentence cannot go on."""

_SILENT = frozenset({"metadata", "meta", "lexicon", "lookup", "desc", "script", "style"})
"""Elements whose text is not meant to be heard."""


class SSMLStripper(HTMLParser):
    """Text out of SSML that may arrive in pieces of any size; `sub` elements give their alias.

    The standard library's tolerant parser, because half of what is called SSML is not well-formed, and
    because it expands no external entities.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._text: list[str] = []
        self._silent = 0
        self._aliased: list[bool] = []

    def strip(self, piece: str) -> str:
        """Feed a piece, get the text that it completes."""
        self.feed(piece)
        return self._take()

    def finish(self) -> str:
        """The text that was held back in case a tag or an entity went on."""
        self.close()
        return self._take()

    def _take(self) -> str:
        text = "".join(self._text)
        self._text.clear()
        return text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self._silent += 1
        elif tag == "sub":
            alias = dict(attrs).get("alias")
            if alias and not self._silent:
                self._text.append(alias)
            self._aliased.append(bool(alias))
        elif tag in _BREAKS:
            self._text.append("\n\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BREAKS:
            self._text.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self._silent = max(0, self._silent - 1)
        elif tag == "sub":
            self._aliased = self._aliased[:-1]
        elif tag in _BREAKS:
            self._text.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self._silent and not any(self._aliased):
            # A line break in XML is a space; a blank line would be taken for a paragraph.
            self._text.append(" ".join(data.split("\n")))
