"""The original Chatterbox model, through our own decoder or upstream's `generate_stream()`.

The loaded model is shared by all streams and never changes: each call works on a shallow copy that carries
its own conditionals. Likewise each stream has its own random numbers, its own cancellation, and leaves no
trace in the thread between two chunks, so that streams may be advanced in turns.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..settings import ComputeSettings, GenerationSettings
from ..voices.library import original_voices
from ..voices.voice import Voice
from . import checkpoint, upstream
from .base import Cancel, EngineError, EngineUnavailable, Samples, StreamMetrics
from .cpu import use_threads
from .flow import TOKENS_PER_SECOND
from .memory import trim_heap
from .profiles import Plan, choose_plan
from .seamless import MAX_SPEECH_TOKENS, SAMPLE_RATE, SeamlessDecoder
from .steps import Steps, described, explained_errors
from .timeline import Timeline
from .weights import find_files

_LOGGER = logging.getLogger(__name__)

MODEL = "original"

_UPSTREAM_CHUNK_SIZE = 25
"""The default of upstream's `generate_stream()`."""

_WARM_UP_TEXT = "Good morning, the kettle is on."

_BUILT_IN = "built-in"
"""What is computed of the built-in voice is kept under this name, of a clip under what was computed of it."""


class OriginalEngine:
    """Speaks with chatterbox-streaming's ChatterboxTTS. Made by `load`; see the `Engine` protocol."""

    def __init__(self, model: Any, voices: tuple[Voice, ...], plan: Plan) -> None:
        self._model: Any = model
        """Upstream's ChatterboxTTS; its `conds` are the built-in voice's, or None."""

        self._voices = voices
        self._plan = plan
        self._decoder: Any = None
        """Ours; None for an engine that speaks with upstream's only."""

        self.fingerprint = ""
        self._clips: dict[Path, _ClipConditionals] = {}
        self.timeline: Timeline | None = None
        """Where `--decoder seamless` writes down what it does; None: nowhere."""

    @classmethod
    def load(
        cls,
        model_dir: Path,
        device: str,
        reference_clip: Path | None,
        seed: int,
        compute: ComputeSettings | None = None,
    ) -> OriginalEngine:
        """Load the weights and, where there is a reference clip, the voice it holds.

        Args:
            model_dir: has the weights, as `weights.find_files` expects them.
            device: auto, cpu, mps, cuda or cuda:N.
            reference_clip: audio file whose voice becomes the default; None leaves only the built-in one.
            seed: of the noise that upstream's decoder has; -1 counts as 0, since the noise is part of the voice.
            compute: speed against fidelity; None: exact.

        Raises:
            EngineUnavailable: packages, weights or the device are missing.
            EngineError: a file is damaged, or the clip cannot be used.
        """
        files = find_files(model_dir)
        device = upstream.pick_device(device)
        use_threads(compute.threads if compute is not None else 0)
        if device.startswith("cuda"):
            # Streams and graphs belong to the thread's current device; this is the thread that speaks, too.
            torch = upstream.load_torch()
            torch.cuda.set_device(torch.device(device).index or 0)
        model = checkpoint.load_model(files, device, max(seed, 0))
        voices = [voice for voice in original_voices(reference_clip) if voice.reference_clip or model.conds is not None]
        if not voices:
            raise EngineUnavailable(f"{model_dir} has no conds.pt, the built-in voice: add it or give --reference-clip")
        plan = choose_plan(compute or ComputeSettings(), model.t3.device)
        _LOGGER.info("Profile %s: %s", (compute or ComputeSettings()).profile, plan)
        with upstream.load_torch().no_grad():
            engine = cls(model, tuple(voices), plan)
            engine.fingerprint = f"{files.fingerprint()} {device} {max(seed, 0)} {plan} {compute}"
            engine._decoder = SeamlessDecoder(model, plan)
            checkpoint.drop_converted(model, plan.token_precision, plan.flow_precision)
        trim_heap()  # of what loading used and gave back
        if reference_clip is not None:
            engine._conditionals_of(voices[0])
        return engine

    @property
    def model(self) -> str:
        return MODEL

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    def warm_up(self) -> None:
        """Speak up to the first chunk: it loads kernels, captures graphs, fills the allocator's pools, and computes
        what is kept of the default voice."""
        self._decoder.capture()
        stream = self.generate_stream(_WARM_UP_TEXT, self._voices[0], GenerationSettings(), Cancel())
        with contextlib.closing(stream):
            _, metrics = next(stream)
        _LOGGER.info("Warmed up: the first chunk took %.2f s", metrics.latency_to_first_chunk)

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: Cancel
    ) -> Generator[tuple[Samples, StreamMetrics], None, None]:
        """Speak one piece of text; see `Engine.generate_stream`.

        All fields of every metrics are set: they count what was done up to this chunk. What upstream does
        after its last chunk, when it samples the end of speech, is not in them.
        """
        started = time.perf_counter()
        cancel.raise_if_set()
        if self._model is None:
            raise EngineError("the engine is closed")
        self._check_length(text)
        conditionals = self._with_exaggeration(self._conditionals_of(voice), settings.exaggeration)
        if settings.decoder == "upstream":
            stream = self._upstream(text, conditionals, settings, cancel)
        else:
            stream = self._seamless(text, conditionals, voice, settings, cancel)
        worked = time.perf_counter() - started
        chunks = samples_made = 0
        first = 0.0
        with contextlib.closing(stream):
            while True:
                resumed = time.perf_counter()
                samples = next(stream, None)
                worked += time.perf_counter() - resumed
                if samples is None:
                    break
                chunks += 1
                samples_made += len(samples)
                if chunks == 1:
                    first = time.perf_counter() - started
                duration = samples_made / SAMPLE_RATE
                yield samples, StreamMetrics(chunks, first, worked, duration, worked / duration)
        if not chunks:
            raise EngineError(
                "Chatterbox made no speech of this text, it ended before the first sound; try another seed"
            )

    def _seamless(
        self, text: str, conditionals: Any, voice: Voice, settings: GenerationSettings, cancel: Cancel
    ) -> Generator[Samples, None, None]:
        """Our own decoding."""
        seed = secrets.randbelow(2**31) if settings.seed < 0 else settings.seed
        # These very conditionals: a clip that changed has others.
        clip = voice.reference_clip
        key = _BUILT_IN if clip is None else self._clips[clip]
        stream = self._decoder.stream(text, conditionals, settings, seed, cancel, key, self.timeline)
        with contextlib.closing(stream):
            while True:
                with explained_errors():
                    samples = next(stream, None)
                if samples is None:
                    return
                yield samples

    def _upstream(
        self, text: str, conditionals: Any, settings: GenerationSettings, cancel: Cancel
    ) -> Generator[Samples, None, None]:
        """chatterbox-streaming's own `generate_stream()`, for comparison."""
        if not self._plan.keeps_original:
            raise EngineError(
                "decoder upstream needs the weights as they were published; start with --profile exact --dtype float32"
            )
        view = copy.copy(self._model)
        view.conds = conditionals
        stream = view.generate_stream(
            text=text,
            audio_prompt_path=None,
            exaggeration=settings.exaggeration,
            cfg_weight=settings.cfg_weight,
            temperature=settings.temperature,
            chunk_size=settings.chunk_size or _UPSTREAM_CHUNK_SIZE,
            context_window=settings.context_window,
            fade_duration=settings.fade_duration,
            print_metrics=settings.print_metrics,
        )
        steps = Steps(view, settings.seed, cancel)
        try:
            while (samples := steps.next_chunk(stream)) is not None:
                yield samples
        finally:
            steps.close(stream)
        if steps.tokens >= MAX_SPEECH_TOKENS:
            _LOGGER.warning(
                "Speech was cut at %d s: Chatterbox makes no more than %d speech tokens of one text (%d characters)",
                MAX_SPEECH_TOKENS // TOKENS_PER_SECOND,
                MAX_SPEECH_TOKENS,
                len(text),
            )

    def close(self) -> None:
        """Drop the model; `memory.give_back()` returns its memory to the system."""
        self._model = self._decoder = None
        self._clips.clear()

    def _check_length(self, text: str) -> None:
        """Raise EngineError for a text that upstream would answer with an IndexError, or with another text."""
        if not text.strip():
            raise EngineError("there is no text to speak")
        limit = self._model.t3.hp.max_text_tokens
        count = len(self._model.tokenizer.encode(upstream.load_chatterbox().punc_norm(text)))
        if count > limit:
            raise EngineError(
                f"the text is too long for Chatterbox in one piece: {count} tokens ({len(text)} characters), "
                f"at most {limit}; split it into sentences"
            )

    def _conditionals_of(self, voice: Voice) -> Any:
        """The voice's conditionals (upstream's Conditionals, at some exaggeration); not to be changed.

        Those of a clip are computed once, and again when the file changes.
        """
        clip = voice.reference_clip
        if clip is None:
            if self._model.conds is None:
                raise EngineError(f"voice {voice.name!r} is not here: the weights came without conds.pt")
            return self._model.conds
        kept = self._clips.get(clip)
        try:
            facts = clip.stat()
            version = (facts.st_mtime_ns, facts.st_size)
        except OSError as error:
            if kept is not None:  # a voice that is known goes on speaking when its file goes away
                return kept.conditionals
            raise EngineError(f"reference clip {clip} cannot be read: {error.strerror}") from error
        if kept is None or kept.version != version:
            if kept is not None and self._decoder is not None:
                self._decoder.forget(kept)
            kept = _ClipConditionals(version, self._computed_conditionals(clip))
            self._clips[clip] = kept
        return kept.conditionals

    def _computed_conditionals(self, clip: Path) -> Any:
        torch = upstream.load_torch()
        view = copy.copy(self._model)  # upstream stores the result in `conds` of the object it is called on
        started = time.perf_counter()
        try:
            with torch.no_grad():
                view.prepare_conditionals(clip)
        except Exception as error:
            raise EngineError(
                f"reference clip {clip} cannot be used ({described(error)}); give 5 to 15 s of clear speech as WAV"
            ) from error
        _LOGGER.info("Took the voice of %s in %.1f s", clip, time.perf_counter() - started)
        return view.conds

    def _with_exaggeration(self, conditionals: Any, exaggeration: float) -> Any:
        """A copy that one call may do with as it likes: upstream writes into both parts."""
        tts = upstream.load_chatterbox()
        torch = upstream.load_torch()
        t3 = tts.T3Cond(
            speaker_emb=conditionals.t3.speaker_emb,
            cond_prompt_speech_tokens=conditionals.t3.cond_prompt_speech_tokens,
            emotion_adv=torch.full((1, 1, 1), exaggeration),
        ).to(device=self._model.device)
        return tts.Conditionals(t3, dict(conditionals.gen))


@dataclass(frozen=True, eq=False)
class _ClipConditionals:
    """Equal only to itself: what was computed from another file, or at another time, is another voice."""

    version: tuple[int, int]
    """The file's modification time (ns) and size (bytes) they were computed from."""

    conditionals: Any
