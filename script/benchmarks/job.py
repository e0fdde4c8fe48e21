"""What the process that measures one decoder is told."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Utterance:
    name: str
    text: str
    tokens: int
    """After so many the speech ends, where the checkpoint lets it be told."""

    given: list[int] | None = None
    """Speech tokens that are decoded in place of those that T3 samples."""


@dataclass
class Job:
    model_dir: str
    device: str
    decoder: str
    """upstream or seamless."""

    name: str
    """In progress lines."""

    compute: dict[str, Any]
    """ComputeSettings."""

    tiny: bool
    ends_where_told: bool
    """Whether set_eos_at() decides how long the speech is."""

    began: float
    """See Progress."""

    utterances: list[Utterance] = field(default_factory=list)
    """Spoken one after the other."""

    model: str = "original"
    """Which one of the family it is."""

    seams: bool = False
    """Whether to decode the last of them in one chunk too."""

    seam_tokens: list[int] | None = None
    """The speech tokens of that one, where seams are looked at; None: those of the utterance."""

    in_turns: Utterance | None = None
    at_once: list[int] = field(default_factory=list)
    """How often `in_turns` is spoken at the same time; for every number one measurement."""

    busy: Utterance | None = None
    """Spoken in turns alone and beside another program, see busy.py."""

    busy_rounds: int = 1
    busy_threads: int = 1
    """Of the other program."""

    repeat_within: float = 0.0
    """An utterance is spoken again until so many seconds are over, 5 times at most; the median run counts."""

    until: float | None = None
    """By time.time(): what is not expected to end by then is not begun, but for the first utterance. None: no hurry."""

    seed: int = 0
    temperature: float = 0.05
    """Low, so that decoders that agree sample the same tokens."""

    @classmethod
    def read(cls, path: Path) -> Job:
        job = cls(**json.loads(path.read_text()))
        job.utterances = [Utterance(**each) for each in job.utterances]  # type: ignore[arg-type]
        job.in_turns = None if job.in_turns is None else Utterance(**job.in_turns)  # type: ignore[arg-type]
        job.busy = None if job.busy is None else Utterance(**job.busy)  # type: ignore[arg-type]
        return job
