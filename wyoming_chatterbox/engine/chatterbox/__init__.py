"""The Chatterbox engine: torch, upstream's modules and our streaming decoder.

Imported only by the build functions of `engine/registry.py`, so a server with the embedded voice never loads torch.
Importing it raises EngineUnavailable where torch is missing or does not load.
"""

from ..preload import preload_torch

preload_torch()  # before any module here imports torch by itself
