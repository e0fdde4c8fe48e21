"""Loading large things on an engine's thread without stopping the event loop.

Two things hold the interpreter's lock for longer than `describe` may take (100 ms):

- `import torch` maps 430 MB of libraries: 0.2 s on a fast disk. A library that is loaded already costs the import
  nothing, and a call through ctypes gives the lock back while it runs.
- The garbage collector looks at every object there is, again and again while hundreds of thousands are made: 0.25 s
  in one piece with the embedded voice's word lists in memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from ..openmp import limit_spinning
from .errors import EngineUnavailable
from .requirements import INSTALL_HINT, is_found

_LOGGER = logging.getLogger(__name__)


def preload_torch() -> None:
    """Import torch as a server needs it: without stopping the event loop, and with threads that sleep while they wait.

    Raises:
        EngineUnavailable: torch is missing or does not load; the message names the remedy.
    """
    if not is_found("torch"):
        raise EngineUnavailable(f"Chatterbox needs torch, not installed here: {INSTALL_HINT}")
    limit_spinning()  # for programs that use the Python API; the server has done it
    load_libraries("torch", "lib/libtorch_cpu.so", "lib/libtorch_cuda.so", "lib/libtorch_python.so")
    with gc_paused():  # modules are never unloaded
        import_module("torch")


def import_module(name: str) -> ModuleType:
    """Import a module of the Chatterbox engine's packages.

    Raises:
        EngineUnavailable: it does not load; the message names the module that failed and the remedy.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        culprit = error.name or name
        raise EngineUnavailable(f"Chatterbox cannot be loaded, {culprit} fails: {error}; {INSTALL_HINT}") from error
    except (OSError, RuntimeError, AttributeError) as error:
        # Compiled libraries that do not fit each other, and packages of other versions than upstream knows.
        raise EngineUnavailable(f"Chatterbox cannot be loaded, {name} fails: {error}; {INSTALL_HINT}") from error


def load_libraries(package: str, *patterns: str) -> None:
    """Load a package's libraries before it is imported; what cannot be loaded is left to the import.

    Args:
        package: top-level name; nothing happens where it is missing or imported already.
        patterns: globs inside the package's folder, in the order in which the libraries need each other.
    """
    if not sys.platform.startswith("linux") or package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return
    try:
        dlopen = ctypes.CDLL(None).dlopen
    except (OSError, AttributeError):  # before glibc 2.34 it was in a library of its own
        return
    dlopen.restype = ctypes.c_void_p
    dlopen.argtypes = [ctypes.c_char_p, ctypes.c_int]
    for pattern in patterns:
        for path in sorted(Path(spec.origin).parent.glob(pattern)):
            # ctypes.CDLL(path) would hold the lock; a foreign function does not.
            if not dlopen(os.fsencode(path), os.RTLD_LAZY):
                _LOGGER.debug("%s could not be loaded ahead of its package", path.name)


@contextlib.contextmanager
def gc_paused(*, keep: bool = True) -> Iterator[None]:
    """Collect no garbage inside.

    Args:
        keep: never look again at what is there at the end, it is there to stay. What is there and refers to itself
            in a circle can never be freed: not for what may be unloaded.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            gc.freeze()
        if was_on:
            gc.enable()
