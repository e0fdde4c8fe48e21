from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.checkpoint_fixture import SKIP_REASON
from wyoming_chatterbox.engine.base import EngineUnavailable
from wyoming_chatterbox.engine.chatterbox import upstream

needs_chatterbox = pytest.mark.skipif(not upstream.is_installed(), reason=SKIP_REASON)


@pytest.fixture
def not_loaded_yet() -> Iterator[None]:
    upstream.load_chatterbox.cache_clear()
    yield
    upstream.load_chatterbox.cache_clear()


@pytest.mark.parametrize(
    "module",
    [
        "chatterbox.upstream",
        "weights.download",
        "weights.hub",
        "chatterbox.loader",
        "chatterbox.upstream_stream",
        "chatterbox.engine",
    ],
)
def test_importing_an_engine_module_imports_no_torch(module: str) -> None:
    program = (
        f"import sys, wyoming_chatterbox.engine.{module}; from wyoming_chatterbox.engine.chatterbox import upstream; "
        "upstream.is_installed(); "
        "upstream.nvidia_gpu_present(); "
        "sys.exit(','.join({'torch', 'chatterbox', 'huggingface_hub', 'transformers'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["torch", "torchaudio", "chatterbox", "s3tokenizer", "perth"])
def test_a_missing_package_is_named_with_the_remedy(
    package: str, not_loaded_yet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "_is_found", lambda name: name != package)
    assert not upstream.is_installed()
    with pytest.raises(EngineUnavailable) as caught:
        upstream.load_chatterbox()
    message = str(caught.value)
    assert message.startswith(f"Chatterbox needs {package}, not installed here")
    assert "run script/setup --chatterbox" in message and "wyoming-chatterbox[" not in message


def test_all_missing_packages_are_named_at_once(not_loaded_yet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_is_found", lambda name: name not in ("torch", "perth", "chatterbox"))
    with pytest.raises(EngineUnavailable, match="needs torch, chatterbox and perth, not installed"):
        upstream.load_chatterbox()


def test_a_module_that_is_blocked_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chatterbox", None)
    assert not upstream.is_installed()


def test_a_package_that_fails_inside_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_by_tests.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineUnavailable, match="nowhere_to_be_found fails"):
        upstream._import("broken_by_tests")


def test_a_watermarker_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    perth = ModuleType("perth")
    vars(perth)["PerthImplicitWatermarker"] = None
    monkeypatch.setitem(sys.modules, "perth", perth)
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    with pytest.raises(EngineUnavailable, match=r"pkg_resources.*pip install 'setuptools<81'"):
        upstream._import_watermarker()


def test_torchaudio_loads_without_its_extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "torchaudio"
    (package / "_extension").mkdir(parents=True)
    (package / "__init__.py").write_text("from . import _extension, functional")
    (package / "_extension" / "__init__.py").write_text("raise OSError('libc10_cuda.so: cannot open')")
    (package / "functional.py").write_text(
        textwrap.dedent("""
            from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, fail_if_no_align

            @fail_if_no_align
            def plain():
                return _IS_TORCHAUDIO_EXT_AVAILABLE
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torchaudio"}
    try:
        for name in kept:
            del sys.modules[name]
        upstream._import_torchaudio()
        assert sys.modules["torchaudio"].functional.plain() is False
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules.update(kept)


@needs_chatterbox
def test_upstream_loads_beside_the_installed_packages() -> None:
    tts = upstream.load_chatterbox()
    assert hasattr(tts.ChatterboxTTS, "generate_stream")
    assert upstream.load_chatterbox() is tts


@needs_chatterbox
def test_collecting_garbage_does_not_look_at_the_libraries() -> None:
    """That takes 0.1 s in one piece, with the interpreter's lock, when a model is unloaded."""
    program = (
        "import gc; from wyoming_chatterbox.engine.chatterbox import upstream; upstream.load_chatterbox(); "
        "print(len(gc.get_objects()), gc.get_freeze_count(), gc.isenabled())"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    looked_at, frozen, enabled = answer.stdout.split()
    assert int(looked_at) < 10_000 < 100_000 < int(frozen)
    assert enabled == "True"


@needs_chatterbox
def test_what_upstream_needs_of_torchaudio_works() -> None:
    upstream.load_chatterbox()
    torch = upstream.load_torch()
    import torchaudio

    sound = torch.sin(torch.arange(4800) / 10)[None]
    assert torchaudio.transforms.Resample(24000, 16000)(sound).shape == (1, 3200)
    assert torchaudio.compliance.kaldi.fbank(sound, num_mel_bins=80).shape[1] == 80


@needs_chatterbox
@pytest.mark.parametrize("module", ["t3", "inference.alignment_stream_analyzer"])
def test_the_attention_spy_is_replaced_wherever_it_is_looked_up(module: str) -> None:
    upstream.load_chatterbox()
    analyzer = sys.modules[f"chatterbox.models.t3.{module}"].AlignmentStreamAnalyzer
    layer = SimpleNamespace(layers=None)  # the real one would hook its tenth layer
    analyzer(layer, None, text_tokens_slice=(0, 1), alignment_layer_idx=9, eos_idx=0)


@needs_chatterbox
def test_what_upstream_says_of_its_insides_is_not_in_the_log(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    upstream.load_chatterbox()
    caplog.set_level(logging.INFO)
    logging.getLogger("chatterbox").setLevel(logging.WARNING)  # as where the server's level is not DEBUG
    sys.modules["chatterbox.models.s3gen.flow"].logging.info("input frame rate=25")
    sys.modules["chatterbox.models.s3gen.s3gen"].print("WARNING: cosydec received ref longer than 10s")
    assert (capsys.readouterr(), caplog.text) == (("", ""), "")


def test_what_upstream_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    upstream.load_chatterbox().print("Latency")  # type: ignore[attr-defined]
    assert capsys.readouterr() == ("", "Latency\n")


@needs_chatterbox
def test_another_package_of_the_same_name_is_recognised(not_loaded_yet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(upstream.load_chatterbox().ChatterboxTTS, "generate_stream")
    upstream.load_chatterbox.cache_clear()
    with pytest.raises(EngineUnavailable, match=r"no generate_stream\(\): chatterbox-tts"):
        upstream.load_chatterbox()


def _torch(cuda: int = 0, mps: bool = False) -> Any:
    return SimpleNamespace(
        __version__="9.9",
        cuda=SimpleNamespace(is_available=lambda: cuda > 0, device_count=lambda: cuda),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)),
    )


@pytest.mark.parametrize(
    ("torch", "wanted", "device"),
    [
        (_torch(), "auto", "cpu"),
        (_torch(cuda=1), "auto", "cuda"),
        (_torch(mps=True), "auto", "mps"),
        (_torch(cuda=1, mps=True), "auto", "cuda"),
        (_torch(cuda=1), "cpu", "cpu"),
        (_torch(cuda=1), "cuda", "cuda"),
        (_torch(cuda=2), "cuda:1", "cuda:1"),
        (_torch(mps=True), "mps", "mps"),
    ],
)
def test_a_device_is_picked(torch: Any, wanted: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "load_torch", lambda: torch)
    assert upstream.pick_device(wanted) == device


@pytest.mark.parametrize(
    ("torch", "wanted", "words"),
    [
        (_torch(), "cuda", "finds no CUDA GPU"),
        (_torch(), "cuda:0", "finds no CUDA GPU"),
        (_torch(cuda=1), "cuda:1", "only 1 CUDA GPUs"),
        (_torch(cuda=1), "mps", "finds no Metal GPU"),
    ],
)
def test_a_device_that_is_not_here_is_refused(
    torch: Any, wanted: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "load_torch", lambda: torch)
    with pytest.raises(EngineUnavailable, match=words) as caught:
        upstream.pick_device(wanted)
    assert wanted in str(caught.value)


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(upstream, "load_torch", _torch)
    monkeypatch.setattr(upstream, "nvidia_gpu_present", lambda: True)
    assert upstream.pick_device("auto") == "cpu"
    assert "There is an NVIDIA GPU, but torch 9.9 cannot use it" in caplog.text


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a driver; returns the one folder on its PATH."""
    monkeypatch.setattr(upstream, "_NVIDIA_GPUS", tmp_path / "gpus")
    monkeypatch.setattr(upstream, "_NVIDIA_DEVICE", tmp_path / "nvidia0")
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    return programs


def test_no_nvidia_gpu(no_gpu: Path) -> None:
    assert upstream.nvidia_gpu_present() is False


def test_the_driver_of_an_nvidia_gpu_is_seen(no_gpu: Path) -> None:
    upstream._NVIDIA_GPUS.mkdir()
    assert upstream.nvidia_gpu_present() is False, "a driver without a GPU"
    (upstream._NVIDIA_GPUS / "0000:01:00.0").mkdir()
    assert upstream.nvidia_gpu_present() is True


def test_the_device_file_of_an_nvidia_gpu_is_seen(no_gpu: Path) -> None:
    upstream._NVIDIA_DEVICE.touch()
    assert upstream.nvidia_gpu_present() is True


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
    monkeypatch.setattr(upstream, "_NVIDIA_SMI_TIMEOUT", 0.5)
    program = no_gpu / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    assert upstream.nvidia_gpu_present() is present
