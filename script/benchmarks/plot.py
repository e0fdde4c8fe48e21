"""The time lines as a PNG: what was made when, against real-time playback."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .playback import played, underruns

_COLOURS = {
    "tokens made": "#999999",
    "mel made": "#56b4e9",
    "audio sent": "#0072b2",
    "playback": "#009e73",
    "underrun": "#d55e00",
}
"""Of Okabe and Ito's palette, which colour-blind people can tell apart."""

_DECODERS = ("#000000", "#0072b2", "#009e73", "#d55e00", "#cc79a7")


def draw(timelines: Sequence[dict[str, Any]], path: Path, subtitle: str = "") -> None:
    """Draw one panel for every decoder, each with its own time axis, and one with all of them.

    Args:
        timelines: see `decoders.Comparison`; at least one.
        subtitle: what it was measured on.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MPLCONFIGDIR", folder)  # where it would leave a list of fonts
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        rows = (len(timelines) + 1) // 2
        figure = Figure(figsize=(11, 2.9 * (rows + 1)), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)  # needs no display
        grid = figure.add_gridspec(rows + 1, 2)
        panels = [figure.add_subplot(grid[index // 2, index % 2]) for index in range(len(timelines))]
        for panel, timeline in zip(panels, timelines, strict=True):
            _panel(panel, timeline)
        shown = [item for panel in panels for item in zip(*panel.get_legend_handles_labels(), strict=True)]
        handles = {label: handle for handle, label in reversed(shown)}
        names = [name for name in _COLOURS if name in handles]
        panels[0].legend([handles[name] for name in names], names, fontsize=8, loc="lower right")
        _together(figure.add_subplot(grid[rows, :]), timelines)
        title = f"{timelines[0]['utterance']} of speech: what is there when, and what a listener hears"
        figure.suptitle(f"{title}\n{subtitle}" if subtitle else title, fontsize=11)
        figure.savefig(path, format="png", metadata={"Software": None})


def _panel(axes: Any, timeline: dict[str, Any]) -> None:
    made = {"tokens made": timeline["tokens"], "mel made": timeline["mel"], "audio sent": _sent(timeline["arrivals"])}
    for name, points in made.items():
        if points:
            times, audio = _steps(points, timeline["total_s"])
            axes.step(times, audio, where="post", label=name, **_line(name))
    heard, end = 0.0, math.inf
    for begin, seconds in played(timeline["arrivals"]):
        if begin > end:
            axes.plot([end, begin], [heard, heard], label="underrun", **_line("underrun"))
        axes.plot([begin, begin + seconds], [heard, heard + seconds], label="playback", **_line("playback"))
        heard += seconds
        end = begin + seconds
    gaps = underruns(timeline["arrivals"])
    said = f"{gaps.count} underrun{'s' * (gaps.count > 1)}, {gaps.seconds:.1f} s" if gaps.count else "no underrun"
    rtf = timeline["total_s"] / heard
    first = timeline["arrivals"][0][0]
    axes.set_title(f"{timeline['decoder']}: first audio {first:.2f} s, RTF {rtf:.2f}, {said}", fontsize=9)
    _label(axes)


def _together(axes: Any, timelines: Sequence[dict[str, Any]]) -> None:
    for index, timeline in enumerate(timelines):
        times, audio = _steps(_sent(timeline["arrivals"]), timeline["total_s"])
        colour = _DECODERS[index % len(_DECODERS)]
        axes.step(times, audio, where="post", color=colour, linewidth=2, label=timeline["decoder"])
    longest = max(sum(seconds for _, seconds in timeline["arrivals"]) for timeline in timelines)
    axes.plot([0, longest], [0, longest], color="#999999", linewidth=1, linestyle="--", label="as fast as speech")
    axes.set_title("audio sent by all", fontsize=9)
    axes.legend(fontsize=8, loc="lower right")
    _label(axes)


def _line(name: str) -> dict[str, Any]:
    return {"color": _COLOURS[name], "linewidth": 1.2 if name.endswith(" made") else 2}


def _label(axes: Any) -> None:
    axes.set_xlabel("seconds since the request", fontsize=8)
    axes.set_ylabel("seconds of audio", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.5)


def _sent(arrivals: Sequence[Sequence[float]]) -> list[list[float]]:
    sent = 0.0
    found = []
    for at, seconds in arrivals:
        sent += seconds
        found.append([at, sent])
    return found


def _steps(points: Sequence[Sequence[float]], end: float) -> tuple[list[float], list[float]]:
    """From nothing at 0 to the last point's value at the end."""
    last = points[-1]
    return [0.0, *(at for at, _ in points), max(end, last[0])], [0.0, *(value for _, value in points), last[1]]
