"""Several utterances at once, as the engine's one thread speaks them: in turns, sentence by sentence."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .playback import Arrival, underruns


def run_sequentially(
    make: Sequence[Callable[[], Iterator[Any]]], sample_rate: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Speak utterances that are all asked for at the same moment.

    Args:
        make: begins each utterance, which is one sentence; the iterator yields samples, shape (n,).
        sample_rate: of these samples.
        clock: seconds.

    Returns:
        A row. `rtf` is what one listener finds: seconds from the request to the utterance's end, by its length; all
        together make `audio_per_s` seconds of audio in one second.
    """
    started = clock()
    arrivals: list[list[Arrival]] = [[] for _ in make]
    for begin, own in zip(make, arrivals, strict=True):  # as EngineWorker: a sentence to its end, then the next one
        for samples in begin():
            own.append((clock() - started, len(samples) / sample_rate))
    wall = clock() - started
    firsts = [each[0][0] for each in arrivals]
    lengths = [sum(seconds for _, seconds in each) for each in arrivals]
    gaps = [underruns(each) for each in arrivals]
    return {
        "at_once": len(make),
        "first_audio_s": statistics.median(firsts),
        "first_audio_max_s": max(firsts),
        "rtf": statistics.median(each[-1][0] / length for each, length in zip(arrivals, lengths, strict=True)),
        "audio_per_s": sum(lengths) / wall,
        "underruns": sum(each.count for each in gaps),
        "gap_s": max(each.seconds for each in gaps),
        "total_s": wall,
    }
