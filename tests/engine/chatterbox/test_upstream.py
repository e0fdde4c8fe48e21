from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from wyoming_chatterbox.engine import requirements
from wyoming_chatterbox.engine.base import EngineUnavailable
from wyoming_chatterbox.engine.chatterbox import upstream


@pytest.fixture
def not_loaded_yet() -> Iterator[None]:
    upstream.load_chatterbox.cache_clear()
    yield
    upstream.load_chatterbox.cache_clear()


@pytest.mark.parametrize("package", ["torch", "torchaudio", "chatterbox", "s3tokenizer", "perth"])
def test_a_missing_package_is_named_with_the_remedy(
    package: str, not_loaded_yet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "is_found", lambda name: name != package)
    assert not requirements.is_installed()
    with pytest.raises(EngineUnavailable) as caught:
        upstream.load_chatterbox()
    message = str(caught.value)
    assert message.startswith(f"Chatterbox needs {package}, not installed here")
    assert "run script/setup --chatterbox" in message and "wyoming-chatterbox[" not in message


def test_all_missing_packages_are_named_at_once(not_loaded_yet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "is_found", lambda name: name not in ("torch", "perth", "chatterbox"))
    with pytest.raises(EngineUnavailable, match="needs torch, chatterbox and perth, not installed"):
        upstream.load_chatterbox()


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
        upstream.import_torchaudio()
        assert sys.modules["torchaudio"].functional.plain() is False
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules.update(kept)


def test_upstream_loads_beside_the_installed_packages() -> None:
    tts = upstream.load_chatterbox()
    assert hasattr(tts.ChatterboxTTS, "generate_stream")
    assert upstream.load_chatterbox() is tts


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


def test_what_upstream_needs_of_torchaudio_works() -> None:
    upstream.load_chatterbox()
    import torchaudio

    sound = torch.sin(torch.arange(4800) / 10)[None]
    assert torchaudio.transforms.Resample(24000, 16000)(sound).shape == (1, 3200)
    assert torchaudio.compliance.kaldi.fbank(sound, num_mel_bins=80).shape[1] == 80


@pytest.mark.parametrize("module", ["t3", "inference.alignment_stream_analyzer"])
def test_the_attention_spy_is_replaced_wherever_it_is_looked_up(module: str) -> None:
    upstream.load_chatterbox()
    analyzer = sys.modules[f"chatterbox.models.t3.{module}"].AlignmentStreamAnalyzer
    layer = SimpleNamespace(layers=None)  # the real one would hook its tenth layer
    analyzer(layer, None, text_tokens_slice=(0, 1), alignment_layer_idx=9, eos_idx=0)


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


def test_another_package_of_the_same_name_is_recognised(not_loaded_yet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(upstream.load_chatterbox().ChatterboxTTS, "generate_stream")
    upstream.load_chatterbox.cache_clear()
    with pytest.raises(EngineUnavailable, match=r"no generate_stream\(\): chatterbox-tts"):
        upstream.load_chatterbox()
