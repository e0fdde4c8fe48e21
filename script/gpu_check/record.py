"""What was found: written as JSON after every check, so that a process that is killed leaves what was known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from script.benchmarks.report import number, table, words

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"


@dataclass(frozen=True)
class Outcome:
    """What became of one check."""

    check: str
    state: str
    """PASSED, FAILED or SKIPPED."""

    found: str
    """For people, in a line; where the check failed or was skipped, why."""

    seconds: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    """As JSON has them."""


class Record:
    """A JSON file with what was checked where, and what became of it."""

    def __init__(self, path: Path) -> None:
        """`path`: the file; where it is there, it is continued."""
        self.path = path
        self._content: dict[str, Any] = {"checks": []}
        if path.exists():
            self._content = json.loads(path.read_text())

    def set(self, **facts: Any) -> None:
        """Keep facts beside the checks."""
        self._content.update(facts)
        self._write()

    def add(self, outcome: Outcome) -> None:
        self._content["checks"].append(asdict(outcome))
        self._write()

    def get(self, name: str) -> Any:
        """Returns a fact; None where it was not set."""
        return self._content.get(name)

    @property
    def checks(self) -> list[dict[str, Any]]:
        return list(self._content["checks"])

    @property
    def failed(self) -> bool:
        return any(each["state"] == FAILED for each in self.checks)

    def _write(self) -> None:
        # In the place of the old file at once: the process may be killed at any time.
        aside = self.path.with_suffix(".new")
        aside.write_text(json.dumps(self._content, indent=1) + "\n")
        aside.replace(self.path)


def checks_table(checks: Sequence[dict[str, Any]]) -> str:
    columns = (
        ("check", words("check")),
        ("result", words("state")),
        ("s", number("seconds", 1)),
        ("found", words("found")),
    )
    return table("Checks", columns, checks)


def graphs_table(graphs: Sequence[dict[str, Any]]) -> str:
    columns = (
        ("graph", words("graph")),
        ("ms", number("graph_ms", 3)),
        ("without ms", number("eager_ms", 3)),
    )
    return table("One step, with its graph and without", columns, graphs)
