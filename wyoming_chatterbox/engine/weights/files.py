"""Which files a model consists of, and where they are in a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .repository import WeightsError


@dataclass(frozen=True)
class WeightLayout:
    """What the files of a model are called. Of several names for one part, an earlier one wins."""

    repository: str
    """The id of the repository that has them, for messages."""

    t3: tuple[str, ...]
    s3gen: tuple[str, ...]
    voice_encoder: tuple[str, ...]
    tokenizer: tuple[str, ...]
    """All of them are needed; the first one stands for them."""

    optional: tuple[str, ...] = ()
    """Files of the tokenizer that only some languages need."""


ORIGINAL = WeightLayout(
    repository="ResembleAI/chatterbox",
    t3=("t3_cfg.safetensors", "t3_cfg.pt"),
    s3gen=("s3gen.safetensors", "s3gen.pt"),
    voice_encoder=("ve.safetensors", "ve.pt"),
    tokenizer=("tokenizer.json",),
)

_GPT2_TOKENIZER = (
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)

TURBO = WeightLayout(
    repository="ResembleAI/chatterbox-turbo",
    t3=("t3_turbo_v1.safetensors",),
    s3gen=("s3gen_meanflow.safetensors",),
    voice_encoder=("ve.safetensors",),
    tokenizer=_GPT2_TOKENIZER,
)

NANO = WeightLayout(
    repository="ResembleAI/chatterbox-nano",
    t3=("t3_nano_v1.safetensors",),
    s3gen=("s3gen_meanflow.safetensors",),
    voice_encoder=("ve.safetensors",),
    tokenizer=_GPT2_TOKENIZER,
)


def _multilingual(t3: str) -> WeightLayout:
    return WeightLayout(
        repository="ResembleAI/chatterbox",
        t3=(t3,),
        s3gen=("s3gen.safetensors", "s3gen.pt"),
        voice_encoder=("ve.safetensors", "ve.pt"),
        tokenizer=("grapheme_mtl_merged_expanded_v1.json",),
        optional=("Cangjie5_TC.json",),
    )


MULTILINGUAL_V2 = _multilingual("t3_mtl23ls_v2.safetensors")
MULTILINGUAL_V3 = _multilingual("t3_mtl23ls_v3.safetensors")


PACKS: Mapping[str, tuple[str, WeightLayout]] = {
    t3: (
        language,
        dataclasses.replace(MULTILINGUAL_V3, repository=repository, t3=(t3,), s3gen=("s3gen_v3.safetensors",)),
    )
    for t3, language, repository in (
        ("t3_pt_br.safetensors", "pt", "ResembleAI/Chatterbox-Multilingual-pt-br"),
        ("t3_pt_pt.safetensors", "pt", "ResembleAI/Chatterbox-Multilingual-pt-pt"),
        ("t3_es_es.safetensors", "es", "ResembleAI/Chatterbox-Multilingual-es-es"),
        ("t3_es_mx_latam.safetensors", "es", "ResembleAI/Chatterbox-Multilingual-es-mx-latam"),
        ("t3_hi.safetensors", "hi", "ResembleAI/Chatterbox-Multilingual-hi"),
        ("t3_zh_cmn.safetensors", "zh", "ResembleAI/Chatterbox-Multilingual-zh-cmn"),
    )
}
"""Multilingual trained for one language: its language model's file → the language, and what its files are called."""


def pack_in(folder: Path) -> tuple[str, WeightLayout] | None:
    """Returns the language and the layout of the single-language pack in a folder; None if there is none, or where the
    weights for all languages are too. Raises nothing."""
    if any((folder / name).is_file() for layout in (MULTILINGUAL_V2, MULTILINGUAL_V3) for name in layout.t3):
        return None
    return next((pack for t3, pack in PACKS.items() if (folder / t3).is_file()), None)


@dataclass(frozen=True)
class ModelFiles:
    """Where the parts of a model are."""

    voice_encoder: Path
    t3: Path
    s3gen: Path
    tokenizer: tuple[Path, ...]
    conditionals: Path | None
    """The built-in voice; a model without it speaks only with reference clips."""

    def fingerprint(self) -> str:
        """Returns what identifies their content, without reading gigabytes: the hub's cache names files by their
        hashes; of others size and date tell whether they are the same."""
        paths = [self.voice_encoder, self.t3, self.s3gen, *self.tokenizer, self.conditionals]
        found = [(path.resolve().name, path.stat()) for path in paths if path is not None]
        return " ".join(f"{name}:{status.st_size}:{status.st_mtime_ns}" for name, status in found)


def find_files(model_dir: Path, layout: WeightLayout = ORIGINAL) -> ModelFiles:
    """Returns the parts of a model in a folder.

    Raises:
        WeightsError: a part is missing; the message names the folder and all that is missing.
    """
    found: dict[str, Path] = {}
    missing = []
    parts = {"voice_encoder": layout.voice_encoder, "t3": layout.t3, "s3gen": layout.s3gen}
    for part, names in parts.items():
        path = next((model_dir / name for name in names if (model_dir / name).is_file()), None)
        if path is None:
            missing.append(" or ".join(names))
        else:
            found[part] = path
    missing += [name for name in layout.tokenizer if not (model_dir / name).is_file()]
    if missing:
        raise WeightsError(
            f"{model_dir} has no {', no '.join(missing)}; put the files of {layout.repository} there, or leave "
            "out --model-dir to download them"
        )
    conditionals = model_dir / "conds.pt"
    return ModelFiles(
        **found,
        tokenizer=(
            *(model_dir / name for name in layout.tokenizer),
            *(model_dir / name for name in layout.optional if (model_dir / name).is_file()),
        ),
        conditionals=conditionals if conditionals.is_file() else None,
    )


def revision_of(files: ModelFiles) -> str:
    """Returns what the conditionals of a voice depend on: another value where those weights may be others."""
    import hashlib  # the settings import this module for the models' names, and --help these for nothing
    import json

    # Not their content: it would take seconds at every start to read it.
    used = [(path.name, path.stat()) for path in (files.voice_encoder, files.s3gen)]
    identities = [(name, status.st_size, status.st_mtime_ns) for name, status in used]
    return hashlib.sha256(json.dumps(identities).encode()).hexdigest()
