"""Reading the sentences of a text while it arrives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

from ..settings import Settings
from .admission import QueueSlot
from .request import SpeechRequest, TextPaused
from .text.sentences import Sentence, SentenceSplitter
from .text.ssml import SSMLStripper
from .text.thoughts import ThoughtFilter
from .text_turns import TextTurns

SENTENCE_PAUSE_SECONDS = 1.0
"""Seconds without text after which what looks like a whole sentence is spoken, rather than when the next one begins:
an assistant that says "Let me check." and calls a tool is heard."""


async def read_sentences(
    request: SpeechRequest, settings: Settings, turns: TextTurns, slot: QueueSlot
) -> AsyncGenerator[Sentence, None]:
    """Yields the sentences of a request's text.

    Args:
        slot: released while the text has to be waited for.

    Raises:
        SpeechError: the text failed, see `TextStream.read`.
    """
    splitter = SentenceSplitter(settings.max_sentence_chars, settings.first_clause_words)
    stripper = SSMLStripper() if request.ssml else ThoughtFilter()

    def feed(text: str) -> Iterator[Sentence]:
        return splitter.feed(stripper.strip(text))

    while True:
        if request.text.is_starved:
            slot.release()
        try:
            piece = await request.text.read(SENTENCE_PAUSE_SECONDS if splitter.may_be_complete else None)
        except TextPaused:
            for sentence in splitter.flush():
                yield sentence
            continue
        if piece is None:
            break
        async with aclosing(turns.split(piece, feed)) as sentences:
            async for sentence in sentences:
                yield sentence
    for sentence in splitter.feed(stripper.finish()):
        yield sentence
    for sentence in splitter.flush():
        yield sentence
