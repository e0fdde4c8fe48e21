"""Whether an NVIDIA GPU is there, seen without torch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wyoming_chatterbox.engine import hardware


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a driver; returns the one folder on its PATH."""
    monkeypatch.setattr(hardware, "_NVIDIA_GPUS", tmp_path / "gpus")
    monkeypatch.setattr(hardware, "_NVIDIA_DEVICE", tmp_path / "nvidia0")
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def test_no_nvidia_gpu(no_gpu: Path) -> None:
    assert hardware.nvidia_gpu_present() is False


def test_the_driver_of_an_nvidia_gpu_is_seen(no_gpu: Path) -> None:
    hardware._NVIDIA_GPUS.mkdir()
    assert hardware.nvidia_gpu_present() is False, "a driver without a GPU"
    (hardware._NVIDIA_GPUS / "0000:01:00.0").mkdir()
    assert hardware.nvidia_gpu_present() is True


def test_the_device_file_of_an_nvidia_gpu_is_seen(no_gpu: Path) -> None:
    hardware._NVIDIA_DEVICE.touch()
    assert hardware.nvidia_gpu_present() is True


@pytest.mark.skipif(sys.platform == "win32", reason="the program of this test is a shell script")
@pytest.mark.parametrize(
    ("script", "present"),
    [
        ("echo 'GPU 0: NVIDIA GeForce RTX 4090'", True),
        ("echo 'No devices were found'; exit 6", False),
        ("echo 'GPU 0: lost'; exit 9", False),
        ("while :; do :; done", False),
    ],
)
def test_nvidia_smi_is_asked(no_gpu: Path, monkeypatch: pytest.MonkeyPatch, script: str, present: bool) -> None:
    monkeypatch.setattr(hardware, "_NVIDIA_SMI_TIMEOUT", 0.5)
    program = no_gpu / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert hardware.nvidia_gpu_present() is present
