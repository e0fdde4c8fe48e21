"""The Chatterbox engine: torch, upstream's modules and our streaming decoder.

Imported only by the build functions of `engine/registry.py`, so a server with the embedded voice never loads torch.
"""
