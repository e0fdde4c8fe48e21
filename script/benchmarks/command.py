"""The command line: which parts, in which order, what is printed and written."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine.registry import MODELS, ORIGINAL
from wyoming_chatterbox.knobs import knobs_of

from . import busy, comparison, gpu, plot, report, sockets
from .checkpoint import Checkpoint, check_model_dir, checkpoint
from .device import find_device
from .errors import BenchError
from .machine import in_words, machine, versions
from .progress import Progress

PARTS = ("decoders", "seams", "gpu", "sockets", "busy")
_USUAL = {"decoders", "seams", "gpu", "sockets"}
"""Without --only; "busy" makes the machine slow for other programs too, so it must be asked for."""

_NEED_THE_MODEL = {"decoders", "seams", "gpu", "busy"}

PROFILES: tuple[str, ...] = tuple(
    choice
    for knob in knobs_of(ComputeSettings)
    if knob.name == "profile"
    for choice in knob.choices
    if choice != "auto"
)

_ORIGINAL_ONLY = frozenset({"busy", "sockets"})
"""Parts that are not measured with another model; the sockets need none."""

_QUICK_SECONDS = 570.0
"""Of ten minutes; the rest is for what follows the last decoder."""

_REPEAT_WITHIN = 10.0
"""Seconds that are spent on one utterance, if one run does not take longer."""

_ROUNDS, _QUICK_ROUNDS = 20, 10


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="script/bench",
        description="Measure our decoder beside upstream's, on the same weights, tokens and seed; the seams; what a "
        "GPU gives; the server through its socket. Tables go to stdout, what is going on to stderr.",
    )
    made.add_argument("--quick", action="store_true", help="2 and 5 s of speech, in 10 minutes at most on two cores")
    made.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"only these parts: {', '.join(PARTS)} (default: all that can be measured here, but for busy: each "
        "profile beside a program that keeps all cores busy)",
    )
    made.add_argument("--profiles", default=",".join(PROFILES), help="of our decoder (default: %(default)s)")
    made.add_argument(
        "--model-dir",
        type=Path,
        metavar="DIR",
        help="real weights (default: random ones of full size, kept in a cache)",
    )
    made.add_argument(
        "--model",
        choices=[spec.name for spec in MODELS.values() if spec.clones],
        default=ORIGINAL.name,
        help="whose decoders and seams are measured; upstream has one for the original alone (default: %(default)s)",
    )
    made.add_argument("--device", default="auto", help="auto, cpu, mps, cuda or cuda:N (default: %(default)s)")
    made.add_argument("--rounds", type=int, metavar="N", help="requests for each latency through the socket")
    made.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, with machine and versions")
    made.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the decoders' time lines there")
    made.add_argument(
        "--tiny",
        action="store_true",
        help="small random networks, to test the benchmark itself; --model-dir is one of "
        "wyoming_chatterbox/testing/random_checkpoint.py",
    )
    return made


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    # Its processes and folders go with it, too, when it is ended like this.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        return _measure(options, list(arguments))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)


def needs_the_model(arguments: Sequence[str]) -> bool:
    """Returns True if the packages of the original model are needed; ends the program where the arguments are wrong."""
    parts = parser().parse_args(arguments).only
    return parts is None or bool(_NEED_THE_MODEL & set(parts))


def _measure(options: argparse.Namespace, arguments: list[str]) -> int:
    parts = set(options.only or _USUAL)
    if options.model != ORIGINAL.name:
        if options.only and parts & _ORIGINAL_ONLY:
            raise BenchError(f"--only {' '.join(sorted(parts & _ORIGINAL_ONLY))}: for the original model only")
        parts -= _ORIGINAL_ONLY
    profiles = _profiles(options.profiles)
    _check(options)
    progress = Progress()
    facts = machine()
    found: dict[str, Any] = {
        "command": " ".join(["script/bench", *arguments]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": facts,
        "versions": versions(),
        "weights": None,
        "speed": [],
        "processes": [],
        "seams": [],
        "gpu": [],
        "sockets": [],
        "busy": [],
        "timelines": [],
        "left_out": [],
        "errors": [],
    }
    if parts & _NEED_THE_MODEL:
        facts.update(find_device(options.device))
        if "gpu" in parts and not facts["device"].startswith("cuda"):
            if options.only:
                raise BenchError(f"--only gpu: torch would run on {facts['device']}; that part needs a GPU of NVIDIA")
            found["left_out"].append("gpu: no GPU of NVIDIA that torch can use")
            parts -= {"gpu"}
    print(f"{in_words(facts, found['versions'])}\n{found['command']}", flush=True)
    if "sockets" in parts:
        rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
        found["sockets"] = sockets.measure(rounds, progress)
        _show(report.table("Through the socket", report.SOCKETS, found["sockets"]))
    if parts & _NEED_THE_MODEL:
        with checkpoint(options.model_dir, options.tiny, progress, options.model) as weights:
            found["weights"] = weights.described
            print(f"\nWeights: {weights.described}", flush=True)
            if parts & {"decoders", "seams"}:
                _compare(found, weights, facts["device"], profiles, parts, options, progress)
            if "busy" in parts:
                found["busy"], errors = busy.measure(weights, facts["device"], profiles, progress, quick=options.quick)
                found["errors"] += errors
                _show(report.table("Beside a program that keeps all cores busy", report.BUSY, found["busy"]))
            if "gpu" in parts:
                found["gpu"], errors = gpu.measure(
                    weights, facts["device"], profiles, progress, quick=options.quick, model=options.model
                )
                found["errors"] += errors
                _show(report.table("Several utterances at once", report.GPU, found["gpu"]))
    for heading in ("left_out", "errors"):
        for line in found[heading]:
            print(f"{heading.replace('_', ' ')}: {line}")
    if options.json:
        options.json.write_text(json.dumps(rounded(found), indent=1) + "\n")
    if options.plot:
        _draw(found, options.plot)
    progress.say("done")
    return 1 if found["errors"] else 0


def _compare(
    found: dict[str, Any],
    weights: Checkpoint,
    device: str,
    profiles: Sequence[str],
    parts: set[str],
    options: argparse.Namespace,
    progress: Progress,
) -> None:
    lengths = [5] if "decoders" not in parts else [2, 5] if options.quick else [2, 5, 10]
    compared = comparison.compare(
        weights,
        device,
        profiles,
        [comparison.UTTERANCES[length] for length in lengths],
        progress,
        with_seams="seams" in parts,
        repeat_within=0.0 if options.quick or "decoders" not in parts else _REPEAT_WITHIN,
        until=progress.began + _QUICK_SECONDS if options.quick else None,
        model=options.model,
    )
    found["speed"], found["processes"] = compared.speed, compared.processes
    found["seams"], found["timelines"] = compared.seams, compared.timelines
    found["left_out"] += compared.left_out
    found["errors"] += compared.errors
    if "decoders" in parts:
        _show(report.table("Speed (x: how often upstream's figure is that of the row)", report.SPEED, found["speed"]))
        _show(report.table("What takes how long", report.STAGES, found["speed"]))
        _show(report.table("The process", report.PROCESSES, found["processes"]))
    _show(
        report.table(
            "At the joins, in dB; level and mel: to the same tokens in one chunk", report.HOLES, found["seams"]
        )
    )
    _show(report.table("The same to the exact profile's one chunk, in dB", report.TO_EXACT, found["seams"]))


def rounded(value: Any) -> Any:
    """With no more digits than mean something."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def _profiles(given: str) -> list[str]:
    profiles = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    for name in profiles:
        if name not in PROFILES:
            raise BenchError(f"--profiles: {name!r} is unknown (known: {', '.join(PROFILES)})")
    if not profiles:
        raise BenchError(f"--profiles names none (known: {', '.join(PROFILES)})")
    return profiles


def _check(options: argparse.Namespace) -> None:
    """What would otherwise be noticed only later."""
    if options.model_dir is not None:
        check_model_dir(options.model_dir, options.model)
    for flag, path in (("--json", options.json), ("--plot", options.plot)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise BenchError(f"{flag} {path}: give a file in a folder that is there")
    if options.rounds is not None and options.rounds < 1:
        raise BenchError(f"--rounds {options.rounds}: at least 1")


def _draw(found: dict[str, Any], path: Path) -> None:
    if not found["timelines"]:
        print("no plot: no utterance was spoken by all decoders", file=sys.stderr)
        return
    facts = found["machine"]
    on = facts.get("gpu") or f"{facts['cores']} cores of {facts['cpu']}"
    plot.draw(found["timelines"], path, f"{on}; {found['weights']}")


def _show(text: str) -> None:
    if text:
        print(f"\n{text}", end="", flush=True)
