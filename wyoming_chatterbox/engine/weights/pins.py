"""The published repositories, pinned: revision, sizes and SHA-256 of every file that is downloaded."""

from __future__ import annotations

from .repository import RemoteFile, Repository

_VOICE_ENCODER = ("ve.safetensors", 5_695_784, "f0921cab452fa278bc25cd23ffd59d36f816d7dc5181dd1bef9751a7fb61f63c")

_S3GEN = ("s3gen.safetensors", 1_056_484_620, "2b78103c654207393955e4900aac14a12de8ef25f4b09424f1ef91941f161d4e")
_CONDITIONALS = ("conds.pt", 107_374, "6552d70568833628ba019c6b03459e77fe71ca197d5c560cef9411bee9d87f4e")
_CANGJIE = ("Cangjie5_TC.json", 1_920_163, "7073fd9de919443ae88e0bd2449917a65fe54898a4413ed1edcc4b67f28bce8c")

_ORIGINAL_FILES = (
    _VOICE_ENCODER,
    ("t3_cfg.safetensors", 2_129_653_744, "914cb1696f47527fe8852ca8f1fe1fa63cb34f76f9c715e84e067b744dd0da81"),
    _S3GEN,
    ("tokenizer.json", 25_470, "d71e3a44eabb1784df9a68e9f95b251ecbf1a7af6a9f50835856b2ca9d8c14a5"),
    _CONDITIONALS,
)

_TURBO_AND_NANO_FILES = (
    ("s3gen_meanflow.safetensors", 1_064_875_036, "d65cb687a2ed581ee6cc297e919ffefa63386944f42364ae13b78a594945514f"),
    _VOICE_ENCODER,
    ("conds.pt", 169_454, "b1852099306fd6a7814eb9d0bd10186caba7249596cc23868f78a0eefbfa5033"),
    ("vocab.json", 999_186, "f6bd25a65e4e63ca31360e9fb11c7e4f9a391a78385d640acd814092dd6eee4f"),
    ("merges.txt", 456_318, "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
    ("added_tokens.json", 418, "72e4ab6acb0d9309ac3df4b526ae5fd80a2da5bc5ab7bb02d85096a374f69193"),
    ("special_tokens_map.json", 470, "92ba8063bf40aa163eadebbfe0de07c2aebe44cf0d4a9e8726580b0781fd2640"),
    ("tokenizer_config.json", 3_878, "bca16a2ac1ddbd78b8d6228f0031884cc74b6ea54b967d6f6d2ebae9ccde23e6"),
)


def _repository(id: str, revision: str, *files: tuple[str, int, str]) -> Repository:
    return Repository(id, revision, tuple(RemoteFile(name, size, sha256) for name, size, sha256 in files))


CHATTERBOX = _repository("ResembleAI/chatterbox", "05e904af2b5c7f8e482687a9d7336c5c824467d9", *_ORIGINAL_FILES)
"""Chatterbox's first, English model."""

TURBO = _repository(
    "ResembleAI/chatterbox-turbo",
    "749d1c1a46eb10492095d68fbcf55691ccf137cd",
    ("t3_turbo_v1.safetensors", 1_915_480_052, "fcf1f8c1d651bb7e3acd69ee5be269b4ac10c02980b7708213d598bc9f7cdf87"),
    *_TURBO_AND_NANO_FILES,
)

NANO = _repository(
    "ResembleAI/chatterbox-nano",
    "71ccd1d0081b430592cea481f4307e764e07bc64",
    ("t3_nano_v1.safetensors", 869_899_204, "72b110185087d945dbdf54dee4e333848e1811bdd5fd6cb16ceb8da50006f0c9"),
    *_TURBO_AND_NANO_FILES,
)

_GRAPHEMES = "grapheme_mtl_merged_expanded_v1.json"

MULTILINGUAL_V2 = _repository(
    "ResembleAI/chatterbox",
    "05e904af2b5c7f8e482687a9d7336c5c824467d9",
    _VOICE_ENCODER,
    ("t3_mtl23ls_v2.safetensors", 2_143_989_752, "b1237586127ce98e7800a68e49938eb5092846862aabcb6e17b2fda7889a6c75"),
    _S3GEN,
    (_GRAPHEMES, 70_011, "df81a7ca7c31796cbe97f7a7142d5a53b12e88e12417ebe98f66602cafaf0461"),
    _CANGJIE,
    _CONDITIONALS,
)

MULTILINGUAL_V3 = _repository(
    "ResembleAI/chatterbox",
    "5bb1f6ee58e50c3b8d408bc82a6d3740c2db6e18",
    _VOICE_ENCODER,
    ("t3_mtl23ls_v3.safetensors", 2_143_989_928, "5abca8321ede76f8e61f1cc0d19aea6c946b28871017ce8726f8a69203f05953"),
    _S3GEN,
    (_GRAPHEMES, 69_989, "69632f47220a788a52ce2661d096453c5655e9bf25289d89a8d832c46ee07dbf"),
    _CANGJIE,
    _CONDITIONALS,
)
"""It shares all large files but the language model's with the original one, at another revision."""
