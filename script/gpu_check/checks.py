"""The checks that need the engine, in their order. Each returns what it found, or raises what is wrong.

What only a GPU can do raises Skipped elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine import memory
from wyoming_chatterbox.engine.base import CancelToken
from wyoming_chatterbox.engine.chatterbox.compute.cuda_graphs import GraphFamily
from wyoming_chatterbox.engine.chatterbox.compute.graph_check import (
    GraphMismatch,
    Trial,
    check_replay,
    check_together,
    tolerance,
)
from wyoming_chatterbox.engine.chatterbox.engine import ChatterboxEngine
from wyoming_chatterbox.engine.chatterbox.s3gen.graphs import FlowGraphs
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.random_checkpoint import set_eos_at

from .record import FAILED, PASSED, SKIPPED, Outcome

REPLAYS_TOGETHER = 200
"""Of each family beside the other: half a second of what an utterance does."""

_REPLAYS_AFTER = 20
"""Of each graph that stays, after another family is gone."""

_FIRST_AUDIO_ROUNDS = 5
"""Texts for each way: the median of five is no outlier's."""

_TIMED_REPLAYS = 20

_WORDS = ("the", "kettle", "is", "on", "and", "the", "light", "in", "the", "hall", "is", "off")

_NEVER = 999
"""Speech tokens after which a random checkpoint ends its speech; the last position that upstream has."""

_DESTROYED_FRAMES = 256
"""Of the graph whose family is destroyed: any number will do."""

_GARBAGE_BYTES = 1 << 26
"""That are written over memory a destroyed family gave back: what cuBLAS takes as a workspace, and more."""


class Skipped(Exception):
    """A check cannot be done here; the message says why."""


class CheckFailed(Exception):
    """What was found is not right; the message says what."""


@dataclass
class Checked:
    """What the checks look at."""

    torch: Any
    model_dir: Path
    device: str
    ends_where_told: bool
    """Whether the weights are random ones, whose speech `set_eos_at` ends."""

    engine: Any = None
    settings: GenerationSettings = field(default_factory=GenerationSettings)

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def decoder(self) -> Any:
        """The SeamlessDecoder."""
        return self.engine.decoder

    def need_gpu(self) -> None:
        if not self.on_cuda:
            raise Skipped("no GPU")

    def need_graphs(self) -> None:
        self.need_gpu()
        if not all(graph_counts(self).values()):
            raise Skipped("not all graphs are there")

    @property
    def guided(self) -> bool:
        return self.settings.cfg_weight > 0

    def trials(self) -> Iterator[Trial]:
        """Every captured step; each must be done with before the next one is asked for."""
        yield from self.decoder.tokens.trials(guided=self.guided)
        yield from self.decoder.flow.trials()


Found = tuple[str, dict[str, Any]]
"""(for people, for JSON)."""


def _in_inference_mode(check: Callable[[Checked], Found]) -> Callable[[Checked], Found]:
    """A check of captured steps, which belong into it."""

    @functools.wraps(check)
    def checked_in_it(checked: Checked) -> Found:
        with checked.torch.inference_mode():
            return check(checked)

    return checked_in_it


def versions(checked: Checked) -> Found:
    """Versions, the GPU, and what loading takes of its memory."""
    torch = checked.torch
    figures: dict[str, Any] = {"torch": torch.__version__}
    if checked.on_cuda:
        properties = torch.cuda.get_device_properties(checked.device)
        figures |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "vram": properties.total_memory,
        }
    started = time.perf_counter()
    checked.engine = ChatterboxEngine.load(checked.model_dir, checked.device, None, 0, ComputeSettings())
    figures["load_s"] = time.perf_counter() - started
    if checked.ends_where_told:
        set_eos_at(checked.engine.chatterbox.t3, _NEVER)
    words = f"torch {figures['torch']}, loaded in {figures['load_s']:.1f} s"
    if checked.on_cuda:
        figures["vram_loaded"] = torch.cuda.memory_allocated(checked.device)
        figures["vram_peak"] = torch.cuda.max_memory_allocated(checked.device)
        words = (
            f"{figures['gpu']} (capability {figures['capability']}, {_gb(figures['vram'])}), CUDA {figures['cuda']}, "
            f"cuDNN {figures['cudnn']}, {words}: VRAM {_gb(figures['vram_loaded'])}, while loading at most "
            f"{_gb(figures['vram_peak'])}"
        )
    return words, figures


def captured(checked: Checked) -> Found:
    """The warm-up captures graphs of both families, and finds nothing wrong with them."""
    checked.need_gpu()
    torch, started = checked.torch, time.perf_counter()
    with _warnings() as warnings:
        checked.engine.warm_up()
    seconds = time.perf_counter() - started
    counts = graph_counts(checked)
    if warnings or not all(counts.values()):
        raise CheckFailed("; ".join(warnings) or f"graphs are missing: {_listed(counts)}")
    vram = torch.cuda.memory_allocated(checked.device)
    reserved = torch.cuda.memory_reserved(checked.device)
    words = f"{_listed(counts)}; warm-up {seconds:.1f} s, VRAM {_gb(vram)} of tensors, {_gb(reserved)} reserved"
    return words, {"graphs": counts, "warm_up_s": seconds, "vram": vram, "vram_reserved": reserved}


def first_audio(checked: Checked) -> Found:
    """Seconds to the first audio without cuDNN's attention and with it, each for texts of lengths that are new."""
    enable = getattr(checked.torch.backends.cuda, "enable_cudnn_sdp", None)
    ways = (False, True) if checked.on_cuda and enable is not None else (False,)
    rounds = _FIRST_AUDIO_ROUNDS if checked.on_cuda else 1
    texts = (" ".join(itertools.islice(itertools.cycle(_WORDS), count)).capitalize() + "." for count in range(5, 99))
    seconds: dict[bool, list[float]] = {way: [] for way in ways}
    try:
        for _ in range(rounds):
            for way in ways:
                if checked.on_cuda and enable is not None:
                    enable(way)
                seconds[way].append(_seconds_to_first_audio(checked, next(texts)))
    finally:
        if checked.on_cuda and enable is not None:
            enable(False)  # as gpu.set_up does
    without = statistics.median(seconds[False])
    figures: dict[str, Any] = {"without_cudnn_s": without, "of_texts_s": seconds[False]}
    if True not in seconds:
        why = "no GPU" if not checked.on_cuda else "this torch has no such switch"
        return f"{1000 * without:.0f} ms; with cuDNN's attention: skipped ({why})", figures
    with_it = statistics.median(seconds[True])
    figures |= {"with_cudnn_s": with_it, "of_texts_with_cudnn_s": seconds[True]}
    return f"{1000 * without:.0f} ms without cuDNN's attention, {1000 * with_it:.0f} ms with it (medians)", figures


@_in_inference_mode
def step_times(checked: Checked) -> Found:
    """Milliseconds of every captured step, with its graph and without."""
    checked.need_graphs()
    rows: list[dict[str, Any]] = []
    for trial in checked.trials():
        times = {"graph_ms": _milliseconds(checked, trial, trial.replay)}
        times["eager_ms"] = _milliseconds(checked, trial, trial.step)
        rows.append({"graph": trial.name, **times})
    faster = statistics.median(row["eager_ms"] / row["graph_ms"] for row in rows)
    return f"{len(rows)} graphs, {faster:.1f} times as fast as without (median)", {"rows": rows}


@_in_inference_mode
def same_as_eager(checked: Checked) -> Found:
    """Every graph gives what its step gives."""
    checked.need_graphs()
    decoder, count = checked.decoder, 0
    token_trials, flow_trials = decoder.tokens.trials(guided=checked.guided), decoder.flow.trials()
    for trials, dtype in ((token_trials, decoder.tokens.decoder.dtype), (flow_trials, decoder.flow._estimator.dtype)):
        for trial in trials:
            check_replay(trial, tolerance(dtype))
            count += 1
    return f"{count} graphs, each as its step but for rounding", {"graphs": count}


@_in_inference_mode
def same_together(checked: Checked) -> Found:
    """Graphs of both families, replayed at once, give to the last bit what each gives alone."""
    checked.need_graphs()
    decoder = checked.decoder
    with decoder.tokens.trial(guided=checked.guided) as tokens:
        check_together(
            decoder.tokens.decoder.device,
            decoder.cuda_stream,
            tokens,
            decoder.flow.trial(),
            REPLAYS_TOGETHER,
        )
    return f"{REPLAYS_TOGETHER} replays of each family beside the other, the same to the last bit", {}


@_in_inference_mode
def same_after_destruction(checked: Checked) -> Found:
    """A family of graphs that is destroyed takes nothing with it that the others use."""
    checked.need_graphs()
    decoder = checked.decoder
    with decoder.tokens.trial(guided=checked.guided) as tokens:
        trials = [tokens, decoder.flow.trial()]
        expected = [trial.after(trial.replay) for trial in trials]
        _capture_and_destroy(checked)
        for _ in range(_REPLAYS_AFTER):
            for trial, right in zip(trials, expected, strict=True):
                for value, wanted in zip(trial.after(trial.replay), right, strict=True):
                    if not checked.torch.equal(value, wanted):
                        raise GraphMismatch(f"{trial.name}: a replay after another family was destroyed differs")
    return f"{_REPLAYS_AFTER} replays of each family after another one was destroyed, the same to the last bit", {}


CHECKS: tuple[tuple[str, Callable[[Checked], Found]], ...] = (
    ("versions and VRAM", versions),
    ("graphs captured", captured),
    ("first audio", first_audio),
    ("ms per graph", step_times),
    ("graph = eager", same_as_eager),
    (f"{REPLAYS_TOGETHER} concurrent replays", same_together),
    ("after a family is destroyed", same_after_destruction),
)


def do(name: str, check: Callable[[Checked], Found], checked: Checked) -> Outcome:
    """Do a check; whatever it raises is its outcome."""
    started = time.perf_counter()
    try:
        if checked.engine is None and check is not versions:
            raise Skipped("the engine did not load")
        found, figures = check(checked)
    except Skipped as reason:
        return Outcome(name, SKIPPED, str(reason))
    except Exception as error:  # of a driver, of torch: all of them are what the check is for
        lines = str(error).strip().splitlines() or [""]
        return Outcome(name, FAILED, f"{type(error).__name__}: {lines[0]}", time.perf_counter() - started)
    return Outcome(name, PASSED, found, time.perf_counter() - started, figures)


def graph_counts(checked: Checked) -> dict[str, int]:
    """How many graphs each family has."""
    tokens, flow = checked.decoder.tokens, checked.decoder.flow
    return {
        "language model": tokens.steps.count,
        "flow decoder": len(flow._graphs._captured) if flow._graphs is not None else 0,
    }


def _capture_and_destroy(checked: Checked) -> None:
    """Capture a graph in a family of its own, replay it, let all of it go, and write over the memory it gave back."""
    torch, flow = checked.torch, checked.decoder.flow

    def capture_and_replay() -> None:
        solver = FlowGraphs(flow._estimator, flow._times, flow._graphs._guidance)
        buffers = solver.buffers(_DESTROYED_FRAMES)
        family = GraphFamily(flow._estimator.device)
        graph = family.capture(lambda: solver.step(buffers), (buffers.x, solver._index))
        graph.replay()
        _wait(checked)

    capture_and_replay()
    gc.collect()
    memory.release_memory()
    garbage = torch.full((_GARBAGE_BYTES // 4,), float("nan"), device=flow._estimator.device)
    _wait(checked)
    del garbage


def _seconds_to_first_audio(checked: Checked, text: str) -> float:
    _wait(checked)
    started = time.perf_counter()
    stream = checked.engine.generate_stream(text, checked.engine.voices[0], checked.settings, CancelToken())
    with contextlib.closing(stream):
        samples, _ = next(stream)
        seconds = time.perf_counter() - started
    if not len(samples):
        raise CheckFailed("the first chunk is empty")
    return seconds


def _milliseconds(checked: Checked, trial: Trial, work: Callable[[], None]) -> float:
    """The median on the GPU of some runs from the trial's state: a step moves on, and must not leave its buffers."""
    cuda = checked.torch.cuda
    times: list[float] = []
    for _ in range(_TIMED_REPLAYS + 1):
        trial.begin()
        began, ended = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        began.record()
        work()
        ended.record()
        ended.synchronize()
        times.append(began.elapsed_time(ended))
    return statistics.median(times[1:])


def _wait(checked: Checked) -> None:
    if checked.on_cuda:
        checked.torch.cuda.synchronize()


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """What our package logs as a warning or worse."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    collector = Collector(logging.WARNING)
    logger = logging.getLogger("wyoming_chatterbox")
    logger.addHandler(collector)
    try:
        yield found
    finally:
        logger.removeHandler(collector)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} of the {name}" for name, count in counts.items())


def _gb(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
