"""What `--model auto` means, on machines that are simulated by what their drivers answer and what is known of their
speed."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from wyoming_chatterbox import model_choice
from wyoming_chatterbox.compute_settings import ComputeSettings
from wyoming_chatterbox.engine import cpu_speed, hardware
from wyoming_chatterbox.engine.weights.files import TURBO
from wyoming_chatterbox.model_choice import choose_for_this_machine, resolve_auto
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.speech_settings import GenerationSettings


class Machine:
    """A machine whose hardware a test decides."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data = folder / "data"
        self._patch = monkeypatch
        self._bin = folder / "bin"
        self._bin.mkdir()
        monkeypatch.setenv("PATH", str(self._bin))
        monkeypatch.setattr(hardware, "_NVIDIA_GPUS", folder / "gpus")
        monkeypatch.setattr(hardware, "_NVIDIA_DEVICE", folder / "nvidia0")
        monkeypatch.setattr(cpu_speed, "_run_test", self._fail)
        self.has_packages(True)
        self.has_memory(16.0)

    def has_gpus(self, *mib: int | str) -> None:
        """`nvidia-smi` lists GPUs of these sizes."""
        program = self._bin / "nvidia-smi"
        lines = "\\n".join(str(size) for size in mib)
        program.write_text(f'#!/bin/sh\nif [ "$1" = -L ]; then echo "GPU 0: a card"; else printf "{lines}\\n"; fi\n')
        program.chmod(0o755)

    def has_packages(self, installed: bool) -> None:
        self._patch.setattr(model_choice, "is_installed", lambda: installed)

    def has_memory(self, gb: float) -> None:
        self._patch.setattr(model_choice, "memory", lambda: gb)

    def takes(self, *rtfs: float) -> list[float]:
        """Timed tests of the processor have these results; returns those that are left."""
        left = list(rtfs)
        self._patch.setattr(cpu_speed, "_run_test", lambda *_: left.pop(0))
        return left

    def choose(self, **settings: object) -> tuple[str, str]:
        choice = choose_for_this_machine(Settings(data_dir=self.data, **settings))  # type: ignore[arg-type]
        return choice.model, choice.reason

    @staticmethod
    def _fail(*_: object) -> float:
        raise AssertionError("the processor was timed")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


GERMAN = "; it speaks English: multilingual, which speaks de, needs a GPU with 6 GB"


@pytest.mark.parametrize(
    ("gpus", "languages", "model", "reason"),
    [
        ((24_564,), (), "original", "the NVIDIA GPU has 25.8 GB"),
        ((6144,), (), "original", "the NVIDIA GPU has 6.4 GB"),
        ((4096,), (), "turbo", "the NVIDIA GPU has 4.3 GB, too little for original"),
        ((2048, 8192), (), "original", "the NVIDIA GPU has 8.6 GB"),
        (("[N/A]",), (), "original", "the NVIDIA GPU does not say how much memory it has"),
        ((8192,), ("de,en",), "multilingual", "the NVIDIA GPU has 8.6 GB, and this model speaks de"),
        ((4096,), ("de",), "turbo", f"the NVIDIA GPU has 4.3 GB, too little for original{GERMAN}"),
    ],
)
def test_a_gpu_by_its_memory(
    machine: Machine, gpus: Sequence[int | str], languages: tuple[str, ...], model: str, reason: str
) -> None:
    machine.has_gpus(*gpus)
    assert machine.choose(languages=languages) == (model, reason)


def test_the_chosen_gpu_counts(machine: Machine) -> None:
    machine.has_gpus(24_564, 4096)
    assert machine.choose(device="cuda:1")[0] == "turbo"
    assert machine.choose(device="cuda:0", language="nb-NO")[0] == "multilingual"


def test_a_gpu_without_packages(machine: Machine) -> None:
    machine.has_gpus(24_564)
    machine.has_packages(False)
    model, reason = machine.choose()
    assert model == "embedded" and reason.startswith("there is an NVIDIA GPU, but not what it needs: ")


@pytest.mark.parametrize(
    ("rtf", "model", "verdict"), [(0.55, "nano", ""), (0.8, "nano", ""), (1.4, "embedded", ", more than 0.8 s")]
)
def test_a_processor_by_its_speed(machine: Machine, rtf: float, model: str, verdict: str) -> None:
    machine.takes(rtf)
    speed = f"this processor takes about {rtf:.2f} s for a second of nano's speech"
    assert machine.choose() == (model, f"there is no NVIDIA GPU, and {speed}{verdict}")
    assert machine.choose(language="de") if rtf <= 0.8 else True, "it is timed once where it is fast enough"


def test_a_gpu_that_is_too_small_leaves_the_work_to_the_processor(machine: Machine) -> None:
    machine.has_gpus(2048)
    machine.takes(0.5)
    settings = resolve_auto(Settings(data_dir=machine.data))
    assert (settings.model, settings.device) == ("nano", "cpu")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"compute": ComputeSettings(profile="exact")}, "nano is too slow on a processor with --profile exact"),
        ({"compute": ComputeSettings(flow_attention="full")}, "or --flow-attention full"),
        ({"generation": GenerationSettings(decoder="upstream")}, "the settings are for another model"),
        ({"model_dir": Path("/nowhere")}, "the settings are for another model (--decoder, --model-dir)"),
    ],
)
def test_settings_that_nano_cannot_follow(machine: Machine, settings: dict[str, object], reason: str) -> None:
    model, said = machine.choose(**settings)
    assert model == "embedded" and reason in said


def test_a_small_machine(machine: Machine) -> None:
    machine.has_memory(2.0)
    expected = "there is no NVIDIA GPU, and nano needs 3.5 GB of memory, this machine has 2.0 GB"
    assert machine.choose() == ("embedded", expected)
    machine.has_packages(False)
    assert machine.choose() == ("embedded", "there is no NVIDIA GPU, and the packages of nano are not installed")
    assert machine.choose(device="cpu")[1].startswith("the device is the processor, and ")


def test_a_folder_of_weights_says_which_model(machine: Machine, tmp_path: Path) -> None:
    machine.has_gpus(24_564)
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in (*TURBO.t3, *TURBO.s3gen, *TURBO.voice_encoder, *TURBO.tokenizer):
        (folder / name).touch()
    expected = ("turbo", f"the NVIDIA GPU has 25.8 GB, and {folder} has the weights of this model")
    assert machine.choose(model_dir=folder) == expected
    assert machine.choose(model_dir=tmp_path)[0] == "original", "which says what is missing there"


def test_what_was_too_slow_is_timed_three_times(machine: Machine) -> None:
    left = machine.takes(1.5, 1.2, 1.4, 0.1)
    rtfs = [cpu_speed.estimated_rtf("nano", ComputeSettings(), machine.data) for _ in range(5)]
    assert (rtfs, left) == ([1.5, 1.2, 1.2, 1.2, 1.2], [0.1])
    assert cpu_speed.estimated_rtf("nano", ComputeSettings(threads=4), machine.data) == 0.1, "other settings"


@pytest.mark.parametrize("content", ["", "[]", "null", '{"a": 1}', '{"a": [1, 2, 3]}', "{" * 100_000, "\0" * 70_000])
def test_a_damaged_result_is_forgotten(machine: Machine, caplog: pytest.LogCaptureFixture, content: str) -> None:
    machine.data.mkdir()
    (machine.data / "cpu-speed.json").write_text(content)
    machine.takes(0.5)
    assert cpu_speed.estimated_rtf("nano", ComputeSettings(), machine.data) == 0.5
    assert cpu_speed.estimated_rtf("nano", ComputeSettings(), machine.data) == 0.5


def test_a_failed_test_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(model_choice, "nvidia_gpu_present", lambda: False)
    monkeypatch.setattr(model_choice, "is_installed", lambda: True)
    monkeypatch.setattr(cpu_speed, "_MODULE", "wyoming_chatterbox.no_such_module")
    with caplog.at_level(logging.INFO):
        assert resolve_auto(Settings(data_dir=machine.data)).model == "embedded"
    assert "Model auto: embedded, because there is no NVIDIA GPU, and the timed test of this CPU failed" in caplog.text
    assert "No module named wyoming_chatterbox.no_such_module" in caplog.text


def test_the_real_test_is_made_once(tmp_path: Path) -> None:
    compute = ComputeSettings(threads=1)
    rtf = cpu_speed.estimated_rtf("nano", compute, tmp_path)
    assert 0.05 < rtf < 50
    ((key, (kept, tests)),) = json.loads((tmp_path / "cpu-speed.json").read_text()).items()
    assert (kept, tests) == (rtf, 1) and "threads=1" in key and hardware.processor() in key
    assert (tmp_path / "timed-tests.json").exists(), "the model will not time its parts again"


def test_a_named_model_is_taken(machine: Machine) -> None:
    settings = Settings(model="turbo", data_dir=machine.data)
    assert resolve_auto(settings) is settings
    assert dataclasses.replace(settings, model="auto") != settings
