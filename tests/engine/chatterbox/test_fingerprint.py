"""What the speech cache goes by: whatever changes the sound changes the engine's fingerprint."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from wyoming_chatterbox.engine.chatterbox import fingerprint as fingerprints
from wyoming_chatterbox.engine.chatterbox.compute.plan import Plan
from wyoming_chatterbox.engine.chatterbox.fingerprint import fingerprint
from wyoming_chatterbox.engine.chatterbox.t3.sampling import CURRENT, STREAMING, Sampling
from wyoming_chatterbox.testing.serving import ROOT

BY_TYPE: dict[str, tuple[Any, Any]] = {"str": ("a", "b"), "bool": (False, True), "int": (1, 2), "float": (1.0, 2.0)}
"""Two values of every type that fields of a plan have."""

PLAN = Plan(**{field.name: BY_TYPE[str(field.type)][0] for field in dataclasses.fields(Plan)})


def make(**changes: Any) -> str:
    arguments = {"weights": "t3:1", "device": "cpu", "seed": 0, "plan": PLAN, "threads": 2, **changes}
    return fingerprint(**arguments)


@pytest.mark.parametrize("field", dataclasses.fields(Plan), ids=lambda field: field.name)
def test_every_field_of_the_plan_counts(field: Any) -> None:
    assert make(plan=dataclasses.replace(PLAN, **{field.name: BY_TYPE[str(field.type)][1]})) != make()


@pytest.mark.parametrize("field", dataclasses.fields(Sampling), ids=lambda field: field.name)
@pytest.mark.parametrize("way", [0, 1])
def test_every_sampling_setting_counts(field: Any, way: int) -> None:
    ways = [CURRENT, STREAMING]
    ways[way] = dataclasses.replace(ways[way], **{field.name: 0.123})
    assert make(sampling=tuple(ways)) != make()


@pytest.mark.parametrize("changes", [{"weights": "t3:2"}, {"seed": 1}, {"threads": 1}, {"device": "mps"}], ids=str)
def test_weights_seed_threads_and_device_count(changes: dict[str, Any]) -> None:
    assert make(**changes) != make()


@pytest.mark.parametrize("name", ["torch", "chatterbox-streaming", "numpy"])
def test_versions_of_packages_count(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before, version = make(), importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda asked: "0.0" if asked == name else version(asked))
    assert make() != before


@pytest.mark.parametrize("changed", ["chatterbox/s3gen/flow.py", "chatterbox/t3/decode.py"])
def test_our_decoder_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changed: str) -> None:
    before = make()
    shutil.copytree(fingerprints._PACKAGE_FOLDER / "engine", tmp_path / "engine")
    (tmp_path / "audio.py").write_text("")
    monkeypatch.setattr(fingerprints, "_PACKAGE_FOLDER", tmp_path)
    digests = []
    for change in ("", "# another way to decode\n"):
        with (tmp_path / "engine" / changed).open("a") as file:
            file.write(change)
        fingerprints._source_digest.cache_clear()
        digests.append(make())
    fingerprints._source_digest.cache_clear()
    assert len({before, *digests}) == 3


def test_every_process_has_the_same() -> None:
    program = "from tests.engine.chatterbox.test_fingerprint import make; print(make())"
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout.split()[-1]
        for seed in ("1", "2")
    }
    assert len(found) == 1 and len(found.pop()) == 64
