"""Our own `generate_stream()` for the original model: upstream's modules and weights, no seams.

Tokens come from `t3.py`, become mel frames in `flow.py`, samples in `vocoder.py`, and get their watermark in
`watermark.py`. A chunk is decoded when enough tokens are there; chunks grow, because every one of them decodes the
voice's prompt and all that came before once more. Nothing here depends on time: the same text, voice, settings and seed
give the same samples on the same device.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Generator
from typing import Any

import numpy as np

from ..audio import loudest_power, trim_end
from ..settings import GenerationSettings
from . import upstream
from .base import Cancel, Samples
from .flow import FRAMES_PER_TOKEN, StreamingFlow
from .t3 import TokenGenerator
from .vocoder import StreamingVocoder
from .watermark import StreamingWatermark

_LOGGER = logging.getLogger(__name__)

SAMPLE_RATE = 24_000
TOKENS_PER_SECOND = 25

MAX_SPEECH_TOKENS = 1000
"""Upstream's cap, 40 seconds; the model was not trained on longer speech."""

_MARGIN_TOKENS = 75
_TOKENS_PER_CHARACTER = 5
_TOKENS_PER_DIGIT = 15
"""Slow speech has 8 characters per second, 3 tokens each, and a digit is a word or two ("$1,234,567"); a model that
goes on for longer has lost its text."""

_MAX_CHUNK_TOKENS = 200
_TRAILING_SILENCE = 0.3
"""Seconds of silence that may stay at the end of an utterance."""


class SeamlessDecoder:
    """Speaks with upstream's ChatterboxTTS, whose modules it uses and does not change."""

    def __init__(self, model: Any) -> None:
        self._torch = upstream.load_torch()
        self._model = model
        self._tokens = TokenGenerator(model.t3)
        self._flow = StreamingFlow(model.s3gen.flow)
        self._vocoder = StreamingVocoder(model.s3gen.mel2wav)
        # Of fewer tokens nothing can be heard yet: the last ones wait for what follows them, in the flow decoder and
        # in the vocoder.
        self._least = self._flow.lookahead + self._vocoder.right // FRAMES_PER_TOKEN + 1

    def stream(
        self, text: str, conditionals: Any, settings: GenerationSettings, seed: int, cancel: Cancel, prompt_key: Any
    ) -> Generator[Samples, None, None]:
        """Speak one piece of text.

        Args:
            text: cleaned, not blank.
            conditionals: upstream's Conditionals, at the exaggeration that is wanted; not changed.
            seed: of tokens, noise and source, at least 0.
            prompt_key: what the conditionals are, see `TokenGenerator.tokens`.

        Yields:
            Samples of shape (n,), n > 0.

        Raises:
            Cancelled: `cancel` was set.
        """
        torch = self._torch
        text_tokens = self._model.tokenizer.text_to_tokens(upstream.load_chatterbox().punc_norm(text))
        limit = most_tokens(text)
        utterance = _Utterance(self, conditionals, seed, cancel)
        tokens = self._tokens.tokens(
            conditionals.t3,
            text_tokens,
            cfg_weight=settings.cfg_weight,
            temperature=settings.temperature,
            seed=seed,
            limit=limit,
            cancel=cancel,
            prompt_key=prompt_key,
        )
        size = float(max(settings.chunk_size, self._least))
        count = 0
        with contextlib.closing(tokens):
            while True:
                # inference_mode is a property of the thread: it must be over whenever a caller has it.
                with torch.inference_mode():
                    chunk = list(itertools.islice(tokens, int(size)))
                    count += len(chunk)
                    final = len(chunk) < int(size) or count >= limit
                    samples = utterance.push(chunk, final=final)
                if len(samples):
                    yield samples
                if final:
                    break
                size = min(size * settings.chunk_growth, max(size, _MAX_CHUNK_TOKENS))
        if count >= limit:
            _LOGGER.warning(
                "Speech was ended after %.0f s: the model went on for longer than %d characters take",
                count / TOKENS_PER_SECOND,
                len(text),
            )


def most_tokens(text: str) -> int:
    """No speech of this text takes more tokens."""
    digits = sum(character.isdigit() for character in text)
    tokens = _TOKENS_PER_CHARACTER * (len(text) - digits) + _TOKENS_PER_DIGIT * digits
    return min(MAX_SPEECH_TOKENS, _MARGIN_TOKENS + tokens)


class _Utterance:
    """The tokens of one utterance on their way to samples."""

    def __init__(self, decoder: SeamlessDecoder, conditionals: Any, seed: int, cancel: Cancel) -> None:
        self._decoder = decoder
        self._cancel = cancel
        # The tokens' seed is the first of three, so that no noise follows another's.
        self._flow = decoder._flow.start(conditionals.gen, seed + 1)
        self._vocoder = decoder._vocoder.start(seed + 2)
        self._watermark = StreamingWatermark(decoder._model.watermarker, SAMPLE_RATE)
        # Upstream silences and fades in the first 40 ms, where the reference clip may be heard.
        self._fade = decoder._model.s3gen.trim_fade.cpu().numpy()
        self._loudest = 0.0

    def push(self, tokens: list[int], *, final: bool) -> Samples:
        decoder = self._decoder
        started = time.perf_counter()
        mel = decoder._flow.push(self._flow, tokens, final=final, cancel=self._cancel)
        decoded = time.perf_counter()
        self._cancel.raise_if_set()
        done, preview = decoder._vocoder.push(self._vocoder, mel, final=final)
        samples = self._faded(done.cpu().numpy().astype(np.float32))
        if final:
            samples = trim_end(samples, SAMPLE_RATE, keep=_TRAILING_SILENCE, loudest=self._loudest)
        self._loudest = max(self._loudest, loudest_power(samples, SAMPLE_RATE))
        marked = self._watermark.apply(samples, preview.cpu().numpy().astype(np.float32))
        _LOGGER.debug(
            "%d tokens, %d frames in %.3f s, %d samples in %.3f s",
            len(tokens),
            mel.shape[2],
            decoded - started,
            len(marked),
            time.perf_counter() - decoded,
        )
        return np.clip(marked, -1.0, 1.0)

    def _faded(self, samples: Samples) -> Samples:
        fade, self._fade = self._fade[: len(samples)], self._fade[len(samples) :]
        if len(fade):
            samples = samples.copy()
            samples[: len(fade)] *= fade
        return samples
