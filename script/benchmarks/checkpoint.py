"""The weights that all decoders share: the user's own, or random ones.

Cost, sample counts and the shape of the joins do not depend on the weights, so random ones of full size will do. They
end the speech where the benchmark wants it. How good real speech sounds cannot be seen with them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wyoming_chatterbox.engine.base import EngineError
from wyoming_chatterbox.engine.registry import MODELS, ORIGINAL
from wyoming_chatterbox.engine.weights.files import find_files
from wyoming_chatterbox.testing import random_checkpoint

from .errors import BenchError
from .machine import available_memory
from .progress import Progress

ROOT = Path(__file__).resolve().parents[2]
_BUILDER = Path(random_checkpoint.__file__)

INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""Torch makes this folder when it is imported, by default one of its own in /tmp, and leaves it there."""

CLIP_SECONDS = 10.5
"""Of the reference clip: upstream's own voice has 10 s, and it takes no more."""

# The format is what upstream's own loader reads.
_OPTIONS = ("--clip-seconds", str(CLIP_SECONDS), "--format", "pt")

_TINY_OPTIONS = {name: ("--clip-seconds", "6") for name in ("turbo", "nano")}
"""They take no clip of 5 s or less."""

_FULL_SIZE = 3.3e9
"""Bytes on disk: 3.2 GB, and the clip and the voice."""

_MEMORY_TO_BUILD = 6e9
_MEMORY_TO_SPEAK = 6e9
"""Bytes. Upstream has 5 to 7 GB at most, 3.2 of them the weights' own pages, which the system may drop."""

_PREFIX = "random-checkpoint-"
_UNFINISHED = f"{_PREFIX}unfinished-"
_GIVEN_UP = 3600.0
"""Seconds; nobody is at work any more on what is unfinished for so long."""


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    ends_where_told: bool
    """Random weights of ours: the benchmark says after how many tokens the speech ends."""

    tiny: bool
    described: str


@contextlib.contextmanager
def checkpoint(
    model_dir: Path | None, tiny: bool, progress: Progress, model: str = ORIGINAL.name
) -> Iterator[Checkpoint]:
    """The weights to measure with.

    Args:
        model_dir: the user's; with `tiny`, a tiny checkpoint of wyoming_chatterbox/testing/random_checkpoint.py.
        model: the one that the weights are of.

    Raises:
        BenchError: they are not there, or the machine is too small for them.
    """
    if model_dir is not None:
        check_model_dir(model_dir, model)
    if tiny:
        described = "tiny random weights, a voice prompt of 3 s: the figures say nothing"
        if model_dir is not None:
            yield Checkpoint(model_dir, True, True, described)
            return
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            path = Path(folder, "checkpoint")
            progress.say("building a tiny random checkpoint: about 10 s")
            _build(path, model, "--tiny", *_TINY_OPTIONS.get(model, ()))
            yield Checkpoint(path, True, True, described)
        return
    if model_dir is not None:
        check_memory(_MEMORY_TO_SPEAK)
        yield Checkpoint(model_dir, False, False, f"the weights in {model_dir}, its built-in voice")
        return
    described = "random weights of full size, a voice prompt of 10 s"
    yield Checkpoint(_cached(progress, model), True, False, described)


def cache_folder() -> Path:
    """Returns the user's cache, outside the repository."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # By the specification a relative path counts as none.
    base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return base / "wyoming-chatterbox"


def check_disk(folder: Path) -> None:
    """Raise BenchError when there is no room for a checkpoint of full size."""
    free = shutil.disk_usage(folder).free
    if free < _FULL_SIZE:
        raise BenchError(
            f"random weights of full size need {_FULL_SIZE / 1e9:.1f} GB in {folder}, {free / 1e9:.1f} GB are free: "
            "make room, name another place with XDG_CACHE_HOME, or give a checkpoint with --model-dir"
        )


def check_memory(needed: float) -> None:
    """Raise BenchError when so many bytes of memory are not there."""
    free = available_memory()
    if free is not None and free < needed:
        raise BenchError(
            f"the full-size model needs about {needed / 1e9:.0f} GB of memory, {free / 1e9:.1f} GB are available: "
            "end other programs, or measure only the server with --only sockets"
        )


def check_model_dir(model_dir: Path, model: str = ORIGINAL.name) -> None:
    """Raise BenchError where the weights are not in a directory."""
    if not model_dir.is_dir():
        raise BenchError(f"--model-dir {model_dir} is not a directory; give the one with the weights")
    try:
        layout = MODELS[model].layout
        assert layout is not None
        files = find_files(model_dir, layout)
    except EngineError as error:
        what = str(error).split(";")[0]
        raise BenchError(f"--model-dir: {what}; without --model-dir random weights are made") from error
    if files.conditionals is None:
        raise BenchError(
            f"--model-dir: {model_dir} has no conds.pt, the built-in voice, which the benchmark speaks with"
        )


def _cached(progress: Progress, model: str) -> Path:
    """Returns the random checkpoint of full size; made once, and again when the program that makes it changes."""
    check_memory(_MEMORY_TO_SPEAK)
    folder = cache_folder()
    recipe = hashlib.sha256(_BUILDER.read_bytes() + " ".join(_OPTIONS).encode()).hexdigest()[:12]
    prefix = _PREFIX if model == ORIGINAL.name else f"{_PREFIX}{model}-"
    path = folder / f"{prefix}{recipe}"
    if path.is_dir():
        progress.say(f"random weights of full size: {path}")
        return path
    check_memory(_MEMORY_TO_BUILD)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{_PREFIX}*"):
            if recipe in old.name:  # another model's
                continue
            if not old.name.startswith(_UNFINISHED) or time.time() - old.stat().st_mtime > _GIVEN_UP:
                progress.say(f"removing {old}, which is out of date")
                shutil.rmtree(old)
        check_disk(folder)
        progress.say("building random weights of full size, 3.2 GB: about 30 s")
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as aside:
            made = Path(aside, "made")
            _build(made, model, *_OPTIONS)
            made.rename(path)
    except OSError as error:
        raise BenchError(
            f"{folder} cannot keep the random weights: {error.strerror or error}; name another place with "
            "XDG_CACHE_HOME, or give a checkpoint with --model-dir"
        ) from error
    progress.say(f"kept for the next time: {path}")
    return path


def _build(path: Path, model: str, *options: str) -> None:
    # More than 999 tokens: it never ends by itself.
    words = [sys.executable, str(_BUILDER), str(path), "--model", model, "--eos-at", "1000", *options]
    env = {INDUCTOR_CACHE: str(path.parent), **os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        why = "killed, likely for memory" if done.returncode < 0 else lines[-1]
        raise BenchError(f"the random weights could not be made: {why}")
