"""What the commands print: tables and progress on a terminal, plain lines into a pipe, JSON where that is wanted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..installation import voices_command
from ..voices.library import VoiceLibrary
from ..voices.voice import Voice

_WIDTH_OF_A_PIPE = 200


class Output:
    """Results go to standard output, progress to standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(highlight=False)
        if not self._out.is_terminal:
            self._out = Console(highlight=False, width=_WIDTH_OF_A_PIPE)
        self._progress = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def working(self, text: str) -> Iterator[Callable[[str], None]]:
        """While something goes on whose length is not known; yields a function that says what it is now."""
        if not self._progress.is_terminal:
            yield lambda now: None
            return
        with self._progress.status(escape(text)) as status:
            yield lambda now: status.update(escape(now))

    @contextlib.contextmanager
    def counting(self, text: str) -> Iterator[Callable[[int, int], None]]:
        """While things are done one by one; yields a function that takes (how many are done, how many there are)."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        quiet = not self._progress.is_terminal
        with Progress(*columns, console=self._progress, transient=True, disable=quiet) as progress:
            task = progress.add_task(escape(text), total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    def voices(self, library: VoiceLibrary, voices: Sequence[dict[str, Any]]) -> None:
        """The list of voices, and what is wrong with the others."""
        if self.as_json:
            problems = [
                {"file": problem.file, "message": problem.message, "fatal": problem.fatal, "voice": problem.voice}
                for problem in library.problems
            ]
            self._json({"folders": list(map(str, library.folders)), "voices": voices, "problems": problems})
            return
        folders = ", ".join(map(str, library.folders))
        if not voices:
            remedy = f"put a clip there, or use `{voices_command()} add FILE`"
            self._out.print(f"There are no voices in {escape(folders)}: {remedy}", soft_wrap=True)
        else:
            table = Table("Voice", "Title", "Languages", "Sound", "Manner", "Also called", title=f"Voices in {folders}")
            for voice in voices:
                name = voice["name"] + (f" ({voice['speaker']})" if voice["speaker"] else "")
                table.add_row(
                    escape(name) + (" [dim]hidden[/dim]" if voice["hidden"] else ""),
                    escape(voice["title"]),
                    escape(", ".join(voice["languages"])),
                    f"{voice['seconds']:.1f} s",
                    escape(", ".join(f"{key} {value}" for key, value in voice["settings"].items())),
                    escape(", ".join(voice["aliases"])),
                )
            self._out.print(table)
        for problem in library.problems:
            self._line(str(problem), fatal=problem.fatal)

    def reports(self, reports: Sequence[dict[str, Any]]) -> None:
        """What `check` found."""
        if self.as_json:
            self._json({"voices": reports})
            return
        if not reports:
            self._out.print("There are no voices to check")
            return
        table = Table("Voice", "Sound", "Verdict")
        for report in reports:
            lines = [f"[red]not usable:[/red] {escape(message)}" for message in report["errors"]]
            lines += [f"[yellow]warning:[/yellow] {escape(message)}" for message in report["warnings"]]
            sound = "" if report["seconds"] is None else f"{report['seconds']:.1f} s"
            table.add_row(escape(report["voice"]), sound, "\n".join(lines) or "[green]good[/green]")
        self._out.print(table)

    def added(self, voice: Voice, seconds: float, warnings: Sequence[str], folder: Path) -> None:
        """A voice was added."""
        if self.as_json:
            self._json({"added": voice.name, "folder": str(folder), "seconds": seconds, "warnings": list(warnings)})
            return
        self._out.print(f"Voice {escape(voice.name)} is in {escape(str(folder))}: {seconds:.1f} s of sound")
        for warning in warnings:
            self._line(warning, fatal=False)

    def removed(self, name: str, deleted: Sequence[Path]) -> None:
        """A voice was removed."""
        if self.as_json:
            self._json({"removed": name, "deleted": list(map(str, deleted))})
            return
        for path in deleted:
            self._out.print(f"Deleted {escape(str(path))}")

    def spoken(self, result: dict[str, Any]) -> None:
        """What `preview` made."""
        if self.as_json:
            self._json(result)
            return
        self._out.print(
            f"Voice {escape(result['voice'])} says {result['seconds']:.1f} s in {escape(result['file'])}: "
            f"first sound after {result['first_audio']:.2f} s, RTF {result['rtf']:.2f}, model {result['model']}"
        )

    def _line(self, text: str, *, fatal: bool) -> None:
        word = "[red]error[/red]" if fatal else "[yellow]warning[/yellow]"
        self._out.print(f"{word}: {escape(text)}", soft_wrap=True)

    def _json(self, value: object) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False))
