"""The one place that imports chatterbox-streaming 0.1.2, and what it needs to run beside today's packages.

Upstream pins packages of 2024 and is installed without its pins. Beside newer ones it needs three things,
none of which changes what it computes:

- its attention spy has to go: it crashes beside transformers 4.57 and later, and nothing reads its result;
- torchaudio's compiled extension may not load beside a CPU build of torch, and nothing here calls it;
- the Perth watermarker imports `pkg_resources`, which setuptools 81 no longer has.

torch is imported inside the functions: `--help` must not wait for it, and a light install has none.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ...installation import installing
from ...openmp import limit_spinning
from ..base import EngineUnavailable
from ..preload import load_libraries, without_collections

_LOGGER = logging.getLogger(__name__)

INSTALL_REMEDY = installing("chatterbox", and_then="pip install --no-deps -r requirements-chatterbox.txt")

_PACKAGES = ("torch", "torchaudio", "chatterbox", "s3tokenizer", "perth")
"""Top-level modules without which nothing is worth trying."""

_ANALYZER = "AlignmentStreamAnalyzer"
_ANALYZER_MODULES = (
    "chatterbox.models.t3.t3",
    # tts.py looks the class up here anew each time it builds its backend.
    "chatterbox.models.t3.inference.alignment_stream_analyzer",
)

_PRINTING_MODULES = (
    "chatterbox.models.s3gen.s3gen",
    "chatterbox.models.s3gen.utils.mel",
    "perth.perth_net.perth_net_implicit.model.perth_net",
)

_LOGGING_MODULE = "chatterbox.models.s3gen.flow"
"""Logs its frame rate for every chunk, at INFO and to the root logger."""

_UPSTREAM_LOGGER = logging.getLogger("chatterbox")

_NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")
_NVIDIA_DEVICE = Path("/dev/nvidia0")

_NVIDIA_SMI_TIMEOUT = 5.0
"""Seconds; the driver wakes sleeping GPUs for it, which takes one or two."""


def is_installed() -> bool:
    """Whether the packages of the original model are here; imports none of them."""
    return not _missing_packages()


@functools.cache
def load_chatterbox() -> ModuleType:
    """Import upstream and return its `chatterbox.tts` module, mended as the module docstring says.

    The module holds every class that an engine needs: ChatterboxTTS, T3, S3Gen, VoiceEncoder, EnTokenizer, T3Cond
    and Conditionals.

    Raises:
        EngineUnavailable: a package is missing or does not load; the message names it and the remedy.
    """
    missing = _missing_packages()
    if missing:
        raise EngineUnavailable(f"Chatterbox needs {_listed(missing)}, not installed here: {INSTALL_REMEDY}")
    with hushed(), without_collections():  # modules are never unloaded
        load_torch()
        _import_torchaudio()
        _import_watermarker()
        tts = _import("chatterbox.tts")
        if not hasattr(tts.ChatterboxTTS, "generate_stream"):
            raise EngineUnavailable(
                "the installed `chatterbox` module has no generate_stream(): chatterbox-tts and others install a "
                "module of the same name; uninstall them, then " + INSTALL_REMEDY
            )
        for name in _ANALYZER_MODULES:
            setattr(_import(name), _ANALYZER, _NoAlignment)
    # Said at the first request of every process: attentions are not returned, which upstream asks for and never
    # looks at, and a context manager of torch is deprecated.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*sdp_kernel", FutureWarning)
    # A name in the module wins over the built-in. Unlike redirect_stdout this leaves the rest of the process
    # alone while the engine's thread works, and standard output may be a client's connection (stdio://).
    vars(tts)["print"] = _print_to_stderr  # what --print-metrics asks for
    for name in _PRINTING_MODULES:
        vars(_import(name))["print"] = _print_to_log
    vars(_import(_LOGGING_MODULE))["logging"] = _UPSTREAM_LOGGER
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        _UPSTREAM_LOGGER.setLevel(logging.WARNING)
    return tts


def load_torch() -> Any:
    """Import torch. Raises EngineUnavailable when it is missing or broken."""
    if not _is_found("torch"):
        raise EngineUnavailable(f"Chatterbox needs torch, not installed here: {INSTALL_REMEDY}")
    limit_spinning()  # for programs that use the Python API; the server has done it
    load_libraries("torch", "lib/libtorch_cpu.so", "lib/libtorch_cuda.so", "lib/libtorch_python.so")
    return _import("torch")


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Send what libraries print to stderr, and drop their warnings, which no user of a server can do anything about.

    For loading only: it holds for the whole process while it lasts.
    """
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def pick_device(wanted: str) -> str:
    """The torch device for the `device` setting: auto, cpu, mps, cuda or cuda:N.

    Raises:
        EngineUnavailable: torch is missing, or the wanted device is not here.
    """
    torch = load_torch()
    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        if torch.backends.mps.is_available():
            return "mps"
        if nvidia_gpu_present():
            _LOGGER.warning(
                "There is an NVIDIA GPU, but torch %s cannot use it (an old driver, or a build of torch without CUDA): "
                "Chatterbox runs on the CPU, far slower than speech",
                torch.__version__,
            )
        return "cpu"
    name, _, index = wanted.partition(":")
    if name == "cuda":
        if not torch.cuda.is_available():
            raise EngineUnavailable(
                f"device {wanted}: torch {torch.__version__} finds no CUDA GPU; use --device auto or cpu, or install "
                "the NVIDIA driver and a build of torch with CUDA"
            )
        count = torch.cuda.device_count()
        if index and int(index) >= count:
            raise EngineUnavailable(f"device {wanted}: there are only {count} CUDA GPUs here, counted from cuda:0")
    elif name == "mps" and not torch.backends.mps.is_available():
        raise EngineUnavailable(f"device mps: torch {torch.__version__} finds no Metal GPU; use --device auto or cpu")
    return wanted


def nvidia_gpu_present() -> bool:
    """Whether the machine has an NVIDIA GPU with a driver, whatever torch is installed; imports no torch."""
    try:
        if any(_NVIDIA_GPUS.iterdir()):
            return True
    except OSError:
        pass  # no such driver, or not Linux
    if _NVIDIA_DEVICE.exists():
        return True
    program = shutil.which("nvidia-smi")  # Windows, and Linux inside Windows, have only this
    if program is None:
        return False
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, timeout=_NVIDIA_SMI_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listing.returncode == 0 and b"GPU" in listing.stdout


class _NoAlignment:
    """In place of upstream's attention spy: it is constructed, and never asked for anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def _missing_packages() -> list[str]:
    return [name for name in _PACKAGES if not _is_found(name)]


def _is_found(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return importlib.util.find_spec(name) is not None


def _import(name: str) -> ModuleType:
    """Import a module; what goes wrong becomes EngineUnavailable, naming the module that failed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        culprit = error.name or name
        raise EngineUnavailable(f"Chatterbox cannot be loaded, {culprit} fails: {error}; {INSTALL_REMEDY}") from error
    except (OSError, RuntimeError, AttributeError) as error:
        # Compiled libraries that do not fit each other, and packages of other versions than upstream knows.
        raise EngineUnavailable(f"Chatterbox cannot be loaded, {name} fails: {error}; {INSTALL_REMEDY}") from error


def _import_torchaudio() -> None:
    """Import torchaudio, without its compiled extension where that does not load beside this torch.

    Upstream uses Resample and compliance.kaldi.fbank, which are plain torch.
    """
    try:
        importlib.import_module("torchaudio")
        return
    except (ImportError, OSError, RuntimeError) as error:
        _LOGGER.debug("torchaudio's extension does not load, going on without it: %s", error)
    stub = ModuleType("torchaudio._extension", "In place of torchaudio's compiled extension, which does not load.")
    vars(stub).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        fail_if_no_align=_same_function,
        _load_lib=lambda library: False,
    )
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]  # half of it is imported already
    sys.modules["torchaudio._extension"] = stub
    _import("torchaudio")


def _same_function(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _import_watermarker() -> None:
    """Raises EngineUnavailable where perth has set its watermarker to None instead of failing to import."""
    perth = _import("perth")
    if getattr(perth, "PerthImplicitWatermarker", None) is None:
        reason = "it needs pkg_resources, which setuptools has only before version 81"
        if _is_found("pkg_resources"):
            reason = "one of the packages it imports does not load"
        raise EngineUnavailable(
            f"the Perth watermarker is not usable ({reason}), and Chatterbox does not speak without its watermark: "
            f"pip install 'setuptools<81' resemble-perth"
        )


def _print_to_stderr(*values: Any, **options: Any) -> None:
    print(*values, **{**options, "file": options.get("file") or sys.stderr})


def _print_to_log(*values: Any, **options: Any) -> None:
    """In the place of upstream's `print`: what it thinks of its input, of which the voices' own warnings tell users."""
    _UPSTREAM_LOGGER.debug("%s", " ".join(map(str, values)).strip())


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
