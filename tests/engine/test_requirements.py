"""Which packages the Chatterbox engine needs, asked without importing them, and loading torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wyoming_chatterbox.engine import preload, requirements
from wyoming_chatterbox.engine.errors import EngineUnavailable


@pytest.mark.parametrize(
    "module", ["registry", "requirements", "hardware", "memory", "weights.download", "weights.hub"]
)
def test_importing_an_engine_module_imports_no_torch(module: str) -> None:
    program = (
        f"import sys, wyoming_chatterbox.engine.{module}\n"
        "from wyoming_chatterbox.engine import hardware, requirements\n"
        "requirements.is_installed(); hardware.nvidia_gpu_present(); "
        "sys.exit(','.join({'torch', 'chatterbox', 'huggingface_hub', 'transformers'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_torch_that_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preload, "is_found", lambda name: name != "torch")
    with pytest.raises(EngineUnavailable, match="Chatterbox needs torch, not installed here: run script/setup"):
        preload.preload_torch()


def test_a_module_that_is_blocked_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chatterbox", None)
    assert not requirements.is_installed()


def test_a_package_that_fails_inside_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_by_tests.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineUnavailable, match="nowhere_to_be_found fails"):
        preload.import_module("broken_by_tests")
