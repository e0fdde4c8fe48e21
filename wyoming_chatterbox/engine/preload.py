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
import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_LOGGER = logging.getLogger(__name__)


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
def without_collections(*, keep: bool = True) -> Iterator[None]:
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
