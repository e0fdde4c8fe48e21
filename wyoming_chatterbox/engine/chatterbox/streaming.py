"""Our own `generate_stream()` for the models of the Chatterbox family: upstream's modules and weights, no seams.

Tokens come from `t3/`, become mel frames and samples in `s3gen/`, and get their watermark in `watermark.py`;
`compute/plan.py` says how exactly. A chunk is decoded when enough tokens are there; chunks grow, because
the exact way decodes the voice's prompt and all that came before once more for each. Nothing here depends on time: the
same text, voice, settings and seed give the same samples on the same device.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch

from ...audio import peak_frame_power, trim_end
from ...speech_settings import GenerationSettings
from ..base import CancelToken, Samples
from ..memory import trim_heap
from .compute.graph_check import check_together
from .compute.plan import Plan
from .s3gen.flow import FRAMES_PER_TOKEN, TOKENS_PER_SECOND, StreamingFlow, split_tokens
from .s3gen.incremental_vocoder import IncrementalVocoder
from .s3gen.source import HarmonicSource
from .s3gen.vocoder import GPU_MULTIPLE, StreamingVocoder
from .specs import ORIGINAL, ChatterboxSpec
from .speech_length import max_tokens_for, min_tokens_for
from .t3.sampling import sampling_of
from .t3.tokens import TokenGenerator
from .text import text_tokens
from .token_thread import TokenThread
from .tracing import Timeline
from .watermark import StreamingWatermark

_LOGGER = logging.getLogger(__name__)

SAMPLE_RATE = 24_000
SAMPLES_PER_TOKEN = SAMPLE_RATE // TOKENS_PER_SECOND

_RETRY_SEED_OFFSET = 3
"""Between a request's seed and that of a second try, which speaks as if its seed had been asked for. An utterance has
three seeds, one behind the other."""

_MAX_CHUNK_TOKENS = 200
_SHORT_TEXT, _SHORT_TEXT_TOKENS = 20, 40
"""Characters that are seldom spoken in fewer than 1.2 s, so not worth two chunks, and the tokens of one for them."""

_WINDOW_FRAMES = 100
"""Mel frames that become samples at once where memory matters, 60 MB; they are decoded with 40 more around them."""

_TRAILING_SILENCE = 0.3
"""Seconds of silence that may stay at the end of an utterance."""


TokenSource: TypeAlias = Callable[..., Generator[int, None, None]]
"""Makes the speech tokens of an utterance; called as `TokenGenerator.tokens` is."""


@dataclass(frozen=True)
class Probes:
    """Where a measurement looks into a decoder: each is given a part, and returns what is used in its place."""

    token_source: Callable[[TokenSource], TokenSource] = lambda tokens: tokens
    harmonic_source: Callable[[HarmonicSource], HarmonicSource] = lambda source: source


class SeamlessDecoder:
    """Speaks with upstream's ChatterboxTTS, whose modules it uses and does not change."""

    def __init__(self, model: Any, plan: Plan, probes: Probes | None = None, spec: ChatterboxSpec = ORIGINAL) -> None:
        probes = probes or Probes()
        self._model = model
        self.plan = plan
        self.spec = spec
        self.tokens = TokenGenerator(
            model.t3, plan.token_precision, weight_first=plan.token_weight_first, graphs=plan.graphs
        )
        self.token_source: TokenSource = probes.token_source(self.tokens.tokens)
        self.flow = StreamingFlow(
            model.s3gen.flow,
            attention=plan.flow_attention,
            steps=plan.flow_steps,
            prompt_seconds=plan.flow_prompt,
            precision=plan.flow_precision,
            graphs=plan.graphs,
        )
        hift = model.s3gen.mel2wav
        source = probes.harmonic_source(HarmonicSource(hift))
        self.vocoder: StreamingVocoder | IncrementalVocoder = (
            IncrementalVocoder(hift, plan.vocoder_precision, source)
            if plan.incremental_vocoder
            else StreamingVocoder(hift, multiple=GPU_MULTIPLE if model.t3.device.type == "cuda" else 1, source=source)
        )
        # One stream for all utterances: torch keeps memory for every stream that was ever used.
        self.cuda_stream = torch.cuda.Stream(model.t3.device) if model.t3.device.type == "cuda" else None
        self._token_thread = TokenThread(self.cuda_stream)
        # Of fewer tokens nothing can be heard yet: the last ones wait for what follows them, in the flow decoder and
        # in the vocoder.
        self._min_chunk_tokens = self.flow.lookahead + self.vocoder.right // FRAMES_PER_TOKEN + 1

    def stream(
        self,
        text: str,
        conditionals: Any,
        settings: GenerationSettings,
        seed: int,
        cancel: CancelToken,
        voice_key: Any = None,
        timeline: Timeline | None = None,
        language: str = "en",
    ) -> Generator[Samples, None, None]:
        """Speak one piece of text.

        Args:
            text: cleaned, not blank.
            conditionals: upstream's Conditionals, at the exaggeration that is wanted; not changed.
            seed: of tokens, noise and source, at least 0.
            voice_key: what the conditionals are, but for their exaggeration: what is computed of them is kept for
                utterances with an equal key.
            timeline: where to write down what was done when.
            language: of the text, a code of the model's.

        Yields:
            Samples of shape (n,), n > 0.

        Raises:
            Cancelled: `cancel` was set.
        """
        timeline = Timeline() if timeline is None else timeline
        tokens_of_text = text_tokens(self._model.tokenizer, text, self.spec, language)
        limit = max_tokens_for(text)

        def speech_tokens(seed: int) -> Generator[int, None, None]:
            tokens_cancel = CancelToken(cancel)
            tokens = self.token_source(
                conditionals.t3,
                tokens_of_text,
                cfg_weight=self._cfg_weight(settings),
                temperature=settings.temperature,
                sampling=sampling_of(settings, self.spec.sampling),
                seed=seed,
                limit=limit,
                cancel=tokens_cancel,
                prefix_key=None if voice_key is None else (voice_key, settings.exaggeration),
                timeline=timeline,
            )
            return self._token_thread.iterate(tokens, tokens_cancel) if self.plan.parallel else tokens

        size = float(self._first_chunk(text, settings))
        growth = settings.chunk_growth or self.plan.chunk_growth
        beginning = self._usable_beginning(speech_tokens, seed, int(size), text, limit)
        chunk, final = beginning.chunk, beginning.final
        count = len(chunk)
        lookahead: list[int] = []
        with contextlib.closing(beginning.tokens) as tokens:
            with torch.inference_mode():
                utterance = _Utterance(self, conditionals, beginning.seed, cancel, voice_key, timeline)
            with contextlib.closing(utterance):
                while True:
                    # inference_mode is a property of the thread: it must be over whenever a caller has it.
                    with torch.inference_mode():
                        samples = utterance.push(chunk, final=final)
                    if len(samples):
                        yield samples
                    if final:
                        break
                    size = min(size * growth, max(size, _MAX_CHUNK_TOKENS))
                    with torch.inference_mode():
                        chunk, lookahead, final = _next_chunk(tokens, lookahead, int(size), self.plan.lookahead_tokens)
                    count += len(chunk)
                    final = final or count >= limit
        if count >= limit:
            _LOGGER.warning(
                "Speech was ended after %.0f s: the model went on for longer than %d characters take",
                count / TOKENS_PER_SECOND,
                len(text),
            )
        elif count < min_tokens_for(text):
            _LOGGER.warning(
                "Speech ended after %.1f s, far too early for %d characters; another seed may speak all of them",
                count / TOKENS_PER_SECOND,
                len(text),
            )

    def _usable_beginning(
        self, speech_tokens: Callable[[int], Generator[int, None, None]], seed: int, size: int, text: str, limit: int
    ) -> _Beginning:
        """Returns the first chunk's tokens. Where the speech ends with them as no speech of this text does, those of a
        second seed, unless they are no better."""
        first = self._beginning(speech_tokens, seed, size, limit)
        fault = first.fault(text, limit)
        if not fault:
            return first
        _LOGGER.warning("With seed %d %s; trying seed %d", seed, fault, seed + _RETRY_SEED_OFFSET)
        second = self._beginning(speech_tokens, seed + _RETRY_SEED_OFFSET, size, limit)
        return second if not second.fault(text, limit) or len(second.chunk) > len(first.chunk) else first

    def _beginning(
        self, speech_tokens: Callable[[int], Generator[int, None, None]], seed: int, size: int, limit: int
    ) -> _Beginning:
        tokens = speech_tokens(seed)
        with contextlib.ExitStack() as stack:
            stack.callback(tokens.close)
            with torch.inference_mode():
                chunk, _, final = _next_chunk(tokens, [], size, 0)
            final = final or len(chunk) >= limit
            if not final:
                stack.pop_all()  # there are more of them
        return _Beginning(seed, tokens, chunk, final)

    def capture(self, settings: GenerationSettings) -> None:
        """Capture the CUDA graphs that utterances of usual length need, and check them; elsewhere, do nothing."""
        guided = self._cfg_weight(settings) > 0
        with torch.inference_mode():
            self.tokens.capture(guided=guided)
            self.flow.capture()
            self._check_together(guided)

    def _check_together(self, guided: bool) -> None:
        """Let both families of graphs work at once, as they do in an utterance; where they disturb each other, go on
        without any."""
        try:
            with self.tokens.trial(guided=guided) as tokens:
                flow = self.flow.trial()
                if tokens is not None and flow is not None and self.cuda_stream is not None:
                    check_together(self.tokens.decoder.device, self.cuda_stream, tokens, flow)
        except Exception as error:  # a mismatch; a driver, too little memory
            self.tokens.drop_graphs(error)
            self.flow.drop_graphs(error)

    def forget(self, voice_key: Any) -> None:
        """Drop what is kept of a voice."""
        self.tokens.forget(voice_key)
        self.flow.forget(voice_key)

    def close(self) -> None:
        """End the thread that makes tokens."""
        self._token_thread.close()

    def _cfg_weight(self, settings: GenerationSettings) -> float:
        return settings.cfg_weight if self.spec.t3.guided else 0.0

    def _first_chunk(self, text: str, settings: GenerationSettings) -> int:
        """Tokens of the first chunk."""
        size = settings.chunk_size or self.plan.chunk_size
        if not settings.chunk_size and self.plan.single_chunk_if_short and len(text) <= _SHORT_TEXT:
            size = max(size, _SHORT_TEXT_TOKENS)
        return max(size, self._min_chunk_tokens)


def _next_chunk(
    tokens: Iterator[int], lookahead: list[int], size: int, extra: int
) -> tuple[list[int], list[int], bool]:
    """Returns the next chunk of so many tokens; those that were made behind it; whether the speech ends with this
    chunk.

    Args:
        lookahead: tokens that were made before, the next ones.
        extra: tokens that are made behind the chunk; where the speech ends among them, they belong to it.
    """
    known = [*lookahead, *itertools.islice(tokens, max(0, size + extra - len(lookahead)))]
    if len(known) < size + extra:
        return known, [], True
    return known[:size], known[size:], False


@dataclass(frozen=True)
class _Beginning:
    """The first tokens of an utterance. Nothing of them was sent yet."""

    seed: int
    tokens: Generator[int, None, None]
    """Gives those behind them."""

    chunk: list[int]
    final: bool
    """Whether the speech ends with them."""

    def fault(self, text: str, limit: int) -> str:
        """Returns what is wrong with them, for the log; empty where nothing is."""
        if not self.final:
            return ""
        if not self.chunk:
            return "there was no speech"
        if len(self.chunk) >= limit:
            return f"speech went on for longer than {len(text)} characters take"
        if len(self.chunk) < min_tokens_for(text):
            seconds = len(self.chunk) / TOKENS_PER_SECOND
            return f"speech ended after {seconds:.1f} s, far too early for {len(text)} characters"
        return ""


class _Utterance:
    """The tokens of one utterance on their way to samples."""

    def __init__(
        self,
        decoder: SeamlessDecoder,
        conditionals: Any,
        seed: int,
        cancel: CancelToken,
        voice_key: Any,
        timeline: Timeline,
    ) -> None:
        self._decoder = decoder
        self._cancel = cancel
        self._timeline = timeline
        # The tokens' seed is the first of three, so that no noise follows another's.
        self._flow = decoder.flow.start(conditionals.gen, seed + 1, voice_key)
        self._vocoder: Any = decoder.vocoder.start(seed + 2)  # the state of whichever it is
        self._watermark = StreamingWatermark(decoder._model.watermarker, SAMPLE_RATE)
        # Upstream silences and fades in the first 40 ms, where the reference clip may be heard.
        self._fade = decoder._model.s3gen.trim_fade.cpu().numpy()
        self._loudest = 0.0
        self._tokens = 0
        """Speech tokens so far."""

    def push(self, tokens: list[int], *, final: bool) -> Samples:
        timeline = self._timeline
        started = timeline.now()
        self._trim_memory()
        s3gen = self._decoder.spec.s3gen
        self._tokens += len(tokens)
        if final:
            tokens = [*tokens, *s3gen.closing_tokens]
        before = self._flow.frames
        mel = self._decode_flow(tokens, final=final)
        new = self._flow.frames - before
        timeline.add("flow", started, new)
        started = timeline.now()
        samples, preview = self._vocode(mel, mel.shape[2] - new, final=final)
        samples = self._fade_in(samples)
        timeline.add("vocoder", started, len(samples))
        started = timeline.now()
        self._trim_memory()
        if final and s3gen.drops_last_token and self._tokens > 1:
            # No chunk but the last one has any of it: it waits for what follows it.
            samples = samples[: max(0, len(samples) - SAMPLES_PER_TOKEN)]
        if final:
            samples = trim_end(samples, SAMPLE_RATE, keep=_TRAILING_SILENCE, loudest=self._loudest)
        self._loudest = max(self._loudest, peak_frame_power(samples, SAMPLE_RATE))
        marked = self._watermark.apply(samples, preview)
        timeline.add("watermark", started, len(marked))
        return np.clip(marked, -1.0, 1.0)

    def close(self) -> None:
        """Give back what the next utterance in this voice can use."""
        self._decoder.flow.finish(self._flow)

    def _decode_flow(self, tokens: list[int], *, final: bool) -> torch.Tensor:
        """Mel frames, shape (1, 80, n): those that may take the place of waiting ones, and new ones behind them."""
        flow, waiting = self._decoder.flow, self._vocoder.waiting
        pieces = list(split_tokens(tokens, flow.max_push_tokens))
        # Only with full attention are frames replaced, and there a chunk is one piece.
        mels = [
            flow.push(
                self._flow,
                piece,
                final=final and index == len(pieces) - 1,
                cancel=self._cancel,
                redo_frames=waiting if index == 0 else 0,
            )
            for index, piece in enumerate(pieces)
        ]
        return mels[0] if len(mels) == 1 else torch.cat(mels, dim=2)

    def _vocode(self, mel: torch.Tensor, redo_frames: int, *, final: bool) -> tuple[Samples, Samples]:
        """(samples that are final, a preview of what follows them), see StreamingVocoder."""
        windows = mel.split(_WINDOW_FRAMES, dim=2) if self._decoder.plan.low_memory else (mel,)
        done = []
        for index, window in enumerate(windows):
            self._trim_memory()
            self._cancel.raise_if_set()
            samples, preview = self._decoder.vocoder.push(
                self._vocoder,
                window,
                final=final and index == len(windows) - 1,
                redo_frames=redo_frames if index == 0 else 0,
            )
            done.append(samples.cpu().numpy().astype(np.float32))
        return np.concatenate(done), preview.cpu().numpy().astype(np.float32)

    def _trim_memory(self) -> None:
        if self._decoder.plan.low_memory:
            trim_heap()

    def _fade_in(self, samples: Samples) -> Samples:
        fade, self._fade = self._fade[: len(samples)], self._fade[len(samples) :]
        if len(fade):
            samples = samples.copy()
            samples[: len(fade)] *= fade
        return samples
