"""Repairs WAV files whose header states no length: written into a pipe, or by a program that was interrupted."""

from __future__ import annotations

from ..limits import MAX_WAV_CHUNKS

MIN_UNKNOWN_LENGTH = 0x7FFFF000
"""Lengths from here on mean "unknown": programs that write into a pipe state 0xFFFFFFFF, 0x80000000 or, like sox, a
little less than 2 GiB. No file that is read here has more than 64 MB."""

_TRAILING_CHUNKS = (b"LIST", b"INFO", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"fact", b"JUNK", b"_PMX", b"iXML")
"""Chunks that may follow the samples. After a `data` chunk of 0 bytes, one of these means that there are no samples."""


def with_length(content: bytes) -> bytes:
    """Returns the file with its true length in the header, if that states 0 or "unknown"; else the same object."""
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return content
    at = 12
    for _ in range(MAX_WAV_CHUNKS):
        if at + 8 > len(content):
            return content
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"data":
            break
        at += 8 + size + size % 2
    else:
        return content
    rest = len(content) - at - 8
    is_empty = size == 0 and (rest == 0 or content[at + 8 : at + 12] in _TRAILING_CHUNKS)
    if is_empty or 0 < size < MIN_UNKNOWN_LENGTH:
        return content
    lengths = [number.to_bytes(4, "little") for number in (len(content) - 8, rest)]
    return b"".join((content[:4], lengths[0], content[8 : at + 4], lengths[1], content[at + 8 :]))
