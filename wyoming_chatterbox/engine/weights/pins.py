"""The published repositories, pinned: revision, sizes and SHA-256 of every file that is downloaded."""

from __future__ import annotations

from .repository import RemoteFile, Repository

_ORIGINAL_FILES = (
    ("ve.safetensors", 5_695_784, "f0921cab452fa278bc25cd23ffd59d36f816d7dc5181dd1bef9751a7fb61f63c"),
    ("t3_cfg.safetensors", 2_129_653_744, "914cb1696f47527fe8852ca8f1fe1fa63cb34f76f9c715e84e067b744dd0da81"),
    ("s3gen.safetensors", 1_056_484_620, "2b78103c654207393955e4900aac14a12de8ef25f4b09424f1ef91941f161d4e"),
    ("tokenizer.json", 25_470, "d71e3a44eabb1784df9a68e9f95b251ecbf1a7af6a9f50835856b2ca9d8c14a5"),
    ("conds.pt", 107_374, "6552d70568833628ba019c6b03459e77fe71ca197d5c560cef9411bee9d87f4e"),
)

CHATTERBOX = Repository(
    id="ResembleAI/chatterbox",
    revision="05e904af2b5c7f8e482687a9d7336c5c824467d9",
    files=tuple(RemoteFile(name, size, sha256) for name, size, sha256 in _ORIGINAL_FILES),
)
"""Chatterbox's first, English model."""
