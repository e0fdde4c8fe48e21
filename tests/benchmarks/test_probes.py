"""What looks into a decoder, and what would not end in time."""

from __future__ import annotations

import dataclasses
import itertools
import time
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from script.benchmarks import (
    comparison,
    runner,
)
from script.benchmarks.job import Job, Utterance
from script.benchmarks.probes import SeamlessSource, SeamlessTokens
from tests.benchmarks.helpers import noise
from wyoming_chatterbox.engine.chatterbox.s3gen.source import SAMPLES_PER_FRAME

pytestmark = pytest.mark.timeout(300)
"""Four processes that import torch: a busy machine takes its time."""


class Tokens:
    """Stands for T3."""

    def __init__(self) -> None:
        self.made = 0

    def tokens(self, first: int, *, step: int) -> Generator[int, None, None]:
        for token in range(first, 1000, step):
            self.made += 1
            yield token


def test_tokens_are_seen_and_replaced_at_their_full_cost() -> None:
    t3 = Tokens()
    probe = SeamlessTokens()
    assert not probe.can_replace
    watched = probe.wrap(t3.tokens)
    assert probe.can_replace
    assert list(itertools.islice(watched(5, step=5), 3)) == probe.sampled == [5, 10, 15]
    probe.clear()
    t3.made = 0
    with probe.replaced([1, 2, 3, 4]):
        assert list(watched(5, step=5)) == [1, 2, 3, 4]
    assert probe.sampled == [5, 10, 15, 20]
    assert t3.made == 5, "the end of speech is sampled, too"
    with probe.replaced([7, 8], with_t3=False):
        assert list(watched(5, step=5)) == [7, 8]
    assert t3.made == 5


class Source:
    """Stands for our vocoder's source."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.random = torch.Generator().manual_seed(0)

    def samples(self, state: Any, f0: Any) -> tuple[Any, Any]:
        return self.torch.randn(1, 1, f0.shape[1] * SAMPLES_PER_FRAME, generator=self.random), self.torch.zeros(1)


class Vocoder:
    """Stands for our vocoder: what is heard is its source, of which it knows two frames more than it returns."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.source = Source(torch)

    def speak(self, *cuts: int) -> Any:
        """Shape (frames * 480,); the last cut is followed by the two frames that had to wait."""
        state, heard = types.SimpleNamespace(position=0), []
        for index, new in enumerate(cuts):
            final = index == len(cuts) - 1
            source = self.source.samples(state, self.torch.zeros(1, new + 2))[0][0, 0]
            frames = new + 2 * final
            heard.append(source[: frames * SAMPLES_PER_FRAME])
            state.position += frames
        return self.torch.cat(heard)


def test_another_decode_gets_the_streams_source() -> None:
    torch = pytest.importorskip("torch")
    vocoder = Vocoder(torch)
    probe = SeamlessSource()
    vocoder.source = probe.wrap(vocoder.source)
    stream = vocoder.speak(5, 20, 8)
    length = 35 * SAMPLES_PER_FRAME
    assert len(stream) == length
    for cuts in ([33], [12, 21]):
        with probe.replayed():
            probe.clear()
            assert torch.equal(vocoder.speak(*cuts), stream)
    with probe.replayed():
        probe.clear()
        longer = vocoder.speak(40)
    assert torch.equal(longer[:length], stream) and len(longer) > length, "behind its end it is another one"
    probe.clear()
    assert not torch.equal(vocoder.speak(33), stream)


class Clockwork:
    """Stands for a loaded engine: half a second of work for every token."""

    on_cuda = False
    can_replace = True
    source = SeamlessSource()

    def __init__(self, job: Job) -> None:
        self.spoken: list[tuple[str, Any]] = []

    def warm_up(self) -> None:
        pass

    def peak_vram(self) -> None:
        return None

    def speak(self, utterance: Utterance, **settings: Any) -> runner.Run:
        self.spoken.append((utterance.name, utterance.given))
        total = utterance.tokens * 0.5
        tokens = utterance.given or [1] * utterance.tokens
        return runner.Run([(total, 1.0)], total, [], tokens, tokens, [noise(0.1)])


def work(monkeypatch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> dict[str, Any]:
    monkeypatch.setattr(runner.upstream, "load_chatterbox", lambda: None)
    monkeypatch.setattr(runner, "Speaker", Clockwork)
    utterances = [Utterance(name, "Hello.", tokens) for name, tokens in (("short", 10), ("long", 100), ("last", 20))]
    job = Job("", "cpu", "seamless", "ours", {}, False, True, time.time(), utterances, seams=True)
    return runner.work(dataclasses.replace(job, **changes), folder)


@pytest.mark.parametrize(
    ("seconds", "spoken", "left_out", "seams"),
    [
        (None, ["short", "long", "last"], 0, True),
        (1000.0, ["short", "long", "last"], 0, True),
        (55.0, ["short", "last"], 1, True),
        (6.5, ["short"], 2, True),
        (0.0, ["short"], 3, False),
    ],
)
def test_what_would_not_end_in_time_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    seconds: float | None,
    spoken: list[str],
    left_out: int,
    seams: bool,
) -> None:
    until = None if seconds is None else time.time() + seconds
    result = work(monkeypatch, tmp_path, until=until)
    assert [each["name"] for each in result["utterances"]] == spoken
    assert len(result["left_out"]) == left_out
    assert ("seams" in result) == seams


def test_seams_are_looked_at_with_the_tokens_of_the_exact_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = work(monkeypatch, tmp_path, seam_tokens=[3] * 20)
    assert result["seams"]["decoded"] == [3] * 20
    assert result["utterances"][-1]["decoded"] == [1] * 20
    comparison.read_samples(result, tmp_path)
    assert [len(chunk) for chunk in result["seams"]["one_chunk"]] == [2400]
