"""The process that loads the engine and does the checks: `python -m script.gpu_check.runner JOB.json`.

A GPU that fails takes its process with it; the command, which uses none, tells of it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from script.benchmarks.progress import Progress
from wyoming_chatterbox.engine.chatterbox import upstream
from wyoming_chatterbox.testing import random_checkpoint

from .checks import CHECKS, Checked, do
from .record import Record


def main(path: Path) -> int:
    """
    Args:
        path: a JSON file with `model_dir`, `device`, `tiny`, `ends_where_told`, `began` (see Progress) and `record`,
            the file that gets the outcomes.
    """
    job = json.loads(path.read_text())
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    progress, record = Progress(job["began"], "gpu-check"), Record(Path(job["record"]))
    if job["tiny"]:
        random_checkpoint.apply_tiny_sizes()
    progress.say("loading the packages")
    upstream.load_chatterbox()
    import torch

    checked = Checked(torch, Path(job["model_dir"]), job["device"], job["ends_where_told"])
    for name, check in CHECKS:
        progress.say(name)
        outcome = do(name, check, checked)
        record.add(outcome)
        progress.say(f"{name}: {outcome.state}: {outcome.found}")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
