"""Tables for people. What is not known is a dash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Column = tuple[str, Callable[[dict[str, Any]], str]]

_UNKNOWN = "-"


def number(name: str, places: int = 2) -> Callable[[dict[str, Any]], str]:
    """Returns a column's text: a row's figure with so many places after the point."""

    def shown(row: dict[str, Any]) -> str:
        value = row.get(name)
        return _UNKNOWN if value is None else f"{value:.{places}f}"

    return shown


def words(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: _UNKNOWN if row.get(name) is None else str(row[name])


def _alike(row: dict[str, Any]) -> str:
    return _UNKNOWN if row["alike"] is None else f"{row['alike']}/{row['tokens']}"


def _hole(name: str) -> Callable[[dict[str, Any]], str]:
    depth, error = number(name, 1), number(f"{name}_error", 1)
    return lambda row: _UNKNOWN if row[name] is None else f"{depth(row)} ±{error(row)}"


SPEED: tuple[Column, ...] = (
    ("decoder", words("decoder")),
    ("text", words("utterance")),
    ("audio s", number("audio_s")),
    ("first audio s", number("first_audio_s")),
    ("its length s", number("first_chunk_s")),
    ("first x", number("first_audio_x", 1)),
    ("all s", number("total_s")),
    ("RTF", number("rtf", 3)),
    ("RTF x", number("rtf_x", 1)),
    ("underruns", number("underruns", 0)),
    ("gaps s", number("gap_s")),
    ("runs", number("runs", 0)),
)

STAGES: tuple[Column, ...] = (
    ("decoder", words("decoder")),
    ("text", words("utterance")),
    ("prefill s", number("prefill_s")),
    ("token ms", number("token_ms", 1)),
    ("tokens/s", number("tokens_per_s", 1)),
    ("tokens s", number("token_s")),
    ("flow s", number("flow_s")),
    ("vocoder s", number("vocoder_s")),
    ("watermark s", number("watermark_s")),
    ("tokens alike", _alike),
)

PROCESSES: tuple[Column, ...] = (
    ("decoder", words("decoder")),
    ("load s", number("load_s", 1)),
    ("warm-up s", number("warm_up_s", 1)),
    ("peak RSS MB", number("peak_rss_mb", 0)),
    ("of upstream's", number("peak_rss_x")),
    ("anonymous MB", number("peak_anonymous_mb", 0)),
    ("VRAM MB", number("peak_vram_mb", 0)),
)

HOLES: tuple[Column, ...] = (
    ("decoder", words("decoder")),
    ("joins", number("joins", 0)),
    ("hole, 2 ms", _hole("hole_2ms")),
    ("hole, 5 ms", _hole("hole_5ms")),
    ("level", number("own_level")),
    ("level, 5 ms", number("own_level_5ms")),
    ("mel", number("own_mel")),
    ("near", number("own_mel_near")),
    ("elsewhere", number("own_mel_elsewhere")),
)

TO_EXACT: tuple[Column, ...] = (
    ("decoder", words("decoder")),
    ("level", number("exact_level")),
    ("level, 5 ms", number("exact_level_5ms")),
    ("mel", number("exact_mel")),
    ("near", number("exact_mel_near")),
    ("elsewhere", number("exact_mel_elsewhere")),
)

BUSY: tuple[Column, ...] = (
    ("decoder", words("decoder")),
    ("alone s", number("total_quiet_s")),
    ("beside it s", number("total_busy_s")),
    ("x", number("total_x")),
    ("prefill x", number("prefill_x")),
    ("tokens x", number("token_x")),
    ("flow x", number("flow_x")),
    ("vocoder x", number("vocoder_x")),
    ("rounds", number("rounds", 0)),
)

GPU: tuple[Column, ...] = (
    ("variant", words("variant")),
    ("at once", number("at_once", 0)),
    ("first audio s", number("first_audio_s", 3)),
    ("latest s", number("first_audio_max_s", 3)),
    ("RTF", number("rtf", 3)),
    ("audio s per s", number("audio_per_s", 1)),
    ("tokens/s", number("tokens_per_s", 0)),
    ("underruns", number("underruns", 0)),
    ("VRAM MB", number("peak_vram_mb", 0)),
)

SOCKETS: tuple[Column, ...] = (
    ("latency", words("what")),
    ("n", number("n", 0)),
    ("median ms", number("median_ms")),
    ("p99 ms", number("p99_ms")),
    ("max ms", number("max_ms")),
)


def table(title: str, columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> str:
    """Aligned columns: words to the left, figures to the right. Empty where there are no rows."""
    if not rows:
        return ""
    cells = [[heading for heading, _ in columns], *([shown(row) for _, shown in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    to_the_left = [any(cell[:1].isalpha() for cell in column[1:]) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(line, widths, to_the_left, strict=True)
        ).rstrip()
        for line in cells
    ]
    return "\n".join([title, "", *lines, ""])
