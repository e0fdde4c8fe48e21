"""The one place that imports chatterbox-streaming 0.1.2, and what it needs to run beside today's packages.

Upstream pins packages of 2024 and is installed without its pins. Beside newer ones it needs three things,
none of which changes what it computes:

- its attention spy has to go: it crashes beside transformers 4.57 and later, and nothing reads its result;
- torchaudio's compiled extension may not load beside a CPU build of torch, and nothing here calls it;
- the Perth watermarker imports `pkg_resources`, which setuptools 81 no longer has.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from ..errors import EngineUnavailable
from ..preload import gc_paused, import_module
from ..requirements import INSTALL_HINT, is_found, missing_packages

_LOGGER = logging.getLogger(__name__)

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


@functools.cache
def load_chatterbox() -> ModuleType:
    """Import upstream and return its `chatterbox.tts` module, mended as the module docstring says.

    The module holds every class that an engine needs: ChatterboxTTS, T3, S3Gen, VoiceEncoder, EnTokenizer, T3Cond
    and Conditionals.

    Raises:
        EngineUnavailable: a package is missing or does not load; the message names it and the remedy.
    """
    missing = missing_packages()
    if missing:
        raise EngineUnavailable(f"Chatterbox needs {_listed(missing)}, not installed here: {INSTALL_HINT}")
    with suppress_output(), gc_paused():  # modules are never unloaded
        import_torchaudio()
        _import_watermarker()
        tts = import_module("chatterbox.tts")
        if not hasattr(tts.ChatterboxTTS, "generate_stream"):
            raise EngineUnavailable(
                "the installed `chatterbox` module has no generate_stream(): chatterbox-tts and others install a "
                "module of the same name; uninstall them, then " + INSTALL_HINT
            )
        for name in _ANALYZER_MODULES:
            setattr(import_module(name), _ANALYZER, _NoAlignment)
    # Said at the first request of every process: attentions are not returned, which upstream asks for and never
    # looks at, and a context manager of torch is deprecated.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*sdp_kernel", FutureWarning)
    # A name in the module wins over the built-in. Unlike redirect_stdout this leaves the rest of the process
    # alone while the engine's thread works, and standard output may be a client's connection (stdio://).
    vars(tts)["print"] = _print_to_stderr  # what --print-metrics asks for
    for name in _PRINTING_MODULES:
        vars(import_module(name))["print"] = _print_to_log
    vars(import_module(_LOGGING_MODULE))["logging"] = _UPSTREAM_LOGGER
    if not _LOGGER.isEnabledFor(logging.DEBUG):
        _UPSTREAM_LOGGER.setLevel(logging.WARNING)
    return tts


@contextlib.contextmanager
def suppress_output() -> Iterator[None]:
    """Send what libraries print to stderr, and drop their warnings, which no user of a server can do anything about.

    For loading only: it holds for the whole process while it lasts.
    """
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class _NoAlignment:
    """In place of upstream's attention spy: it is constructed, and never asked for anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


def import_torchaudio() -> None:
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
    import_module("torchaudio")


def _same_function(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def _import_watermarker() -> None:
    """Raises EngineUnavailable where perth has set its watermarker to None instead of failing to import."""
    perth = import_module("perth")
    if getattr(perth, "PerthImplicitWatermarker", None) is None:
        reason = "it needs pkg_resources, which setuptools has only before version 81"
        if is_found("pkg_resources"):
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
