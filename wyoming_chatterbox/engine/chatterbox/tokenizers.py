"""Text tokens of the models that chatterbox-streaming has no tokenizer for."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch

from .language_preparation import LanguagePreparation

SPACE = "[SPACE]"


class GPT2TextTokenizer:
    """Turbo's and Nano's: GPT-2's byte pairs, and tags such as [laugh] as tokens of their own."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    def encode(self, text: str, language: str = "") -> list[int]:
        """Returns the tokens of a text."""
        return list(self._tokenizer(text).input_ids)

    def text_to_tokens(self, text: str, language: str = "") -> torch.Tensor:
        """Returns the tokens of a text, shape (1, n)."""
        return torch.tensor([self.encode(text)], dtype=torch.int)


class MultilingualTokenizer:
    """Multilingual's: decomposed lower-case graphemes behind a token that names the language."""

    def __init__(self, files: Sequence[Path]) -> None:
        """`files`: the graphemes', and Cangjie5_TC.json, without which Chinese is not prepared."""
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(files[0]))
        vocabulary = self._tokenizer.get_vocab()
        missing = [name for name in ("[START]", "[STOP]", SPACE) if name not in vocabulary]
        if missing:
            raise ValueError(f"it has no token {missing[0]}")
        self._preparation = LanguagePreparation(files[1] if len(files) > 1 else None)

    def encode(self, text: str, language: str) -> list[int]:
        """Returns the tokens of a text; `language` is one of the model's codes."""
        text = unicodedata.normalize("NFKD", text.lower())
        text = f"[{language}]{self._preparation(text, language)}"
        return list(self._tokenizer.encode(text.replace(" ", SPACE)).ids)

    def text_to_tokens(self, text: str, language: str) -> torch.Tensor:
        """Returns the tokens of a text, shape (1, n)."""
        return torch.tensor([self.encode(text, language)], dtype=torch.int)
