"""A model of the Chatterbox family, through our own decoder or, the original one, upstream's `generate_stream()`.

The loaded model is shared by all streams and never changes: each call works on a shallow copy that carries
its own conditionals. Likewise each stream has its own random numbers, its own cancellation, and leaves no
trace in the thread between two chunks, so that streams may be advanced in turns.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import logging
import secrets
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import torch

from ...compute_settings import ComputeSettings
from ...language_codes import model_language
from ...speech_settings import GenerationSettings
from ...voices.library import built_in
from ...voices.voice import Voice
from ..base import CancelToken, EngineError, EngineUnavailable, NothingToSay, Samples, StreamMetrics
from ..built_in_voices import CHATTERBOX_DEFAULT
from ..memory import trim_heap
from ..tags import keep_tags
from ..weights.files import ORIGINAL as ORIGINAL_LAYOUT
from ..weights.files import WeightLayout, find_files, revision_of
from . import loader, upstream
from .compute import gpu
from .compute.device import pick_device
from .compute.plan import Plan, choose_plan, with_profile
from .compute.threads import use_threads
from .conditionals import VoiceConditionals
from .conditionals_store import ConditionalsCache
from .fingerprint import fingerprint
from .overflow import without_overflow
from .s3gen.flow import TOKENS_PER_SECOND
from .specs import SPECS, plan_options
from .speech_length import MAX_SPEECH_TOKENS
from .streaming import SAMPLE_RATE, Probes, SeamlessDecoder
from .t3.sampling import CURRENT, STREAMING, sampling_of
from .text import prepare_text, text_tokens
from .tracing import Timeline
from .upstream_stream import UpstreamStream, wrap_errors

_LOGGER = logging.getLogger(__name__)

_UPSTREAM_CHUNK_SIZE = 25
"""The default of upstream's `generate_stream()`."""

_WARM_UP_TEXT = "Good morning, the kettle is on."

_GPU_WARM_UP_TEXT = (
    "Good morning, the kettle is on, and breakfast will be ready in a few minutes. It is eighteen degrees outside, "
    "with a little rain in the afternoon, and the windows upstairs are open."
)
"""About 10 s of speech, a long sentence: its chunks have the lengths that others will have."""

BUILT_IN_KEY = "built-in"
"""Cache key for the built-in voice; cloned voices are keyed by their conditionals."""


def _ignore(kept: Any) -> None:
    """Do nothing: a closed engine keeps nothing that could be dropped."""


class ChatterboxEngine:
    """Speaks with upstream's modules. Made by `load`; see the `Engine` protocol."""

    def __init__(
        self,
        model: Any,
        voices: tuple[Voice, ...],
        plan: Plan,
        cache: ConditionalsCache | None = None,
        revision: str = "",
        warm_up_settings: GenerationSettings | None = None,
        name: str = CHATTERBOX_DEFAULT.model,
    ) -> None:
        self._name = name
        self.spec = SPECS[name]
        self.chatterbox: Any = model
        """Upstream's ChatterboxTTS; its `conds` are the built-in voice's, or None."""

        self._voices = voices
        self.plan = plan
        self._warm_up_settings = warm_up_settings or GenerationSettings()
        self.decoder: SeamlessDecoder | None = None
        """Ours; None for an engine that speaks with upstream's only."""

        self._warned_of_sampling = False
        self.fingerprint = ""
        self._cloned = VoiceConditionals(
            model, cache, revision, self._forget, self.spec.loudness, self.spec.min_clip_seconds
        )
        self.timeline: Timeline | None = None
        """Where `--decoder seamless` writes down what it does; None: nowhere."""

    @classmethod
    def load(
        cls,
        model_dir: Path,
        device: str,
        voices: Sequence[Voice] | None,
        seed: int,
        compute: ComputeSettings | None = None,
        cache: ConditionalsCache | None = None,
        warm_up_settings: GenerationSettings | None = None,
        probes: Probes | None = None,
        name: str = CHATTERBOX_DEFAULT.model,
        layout: WeightLayout = ORIGINAL_LAYOUT,
        built_in_voices: Sequence[Voice] = (CHATTERBOX_DEFAULT,),
    ) -> ChatterboxEngine:
        """Load the weights and the voices that are wanted at once.

        Args:
            model_dir: has the weights, as `layout` says.
            device: auto, cpu, mps, cuda or cuda:N.
            voices: cloned ones, the default first; others can be spoken with as well. None: only the built-in one.
            seed: of the noise that upstream's decoder has; -1 counts as 0, since the noise is part of the voice.
            compute: speed against fidelity; None: the defaults.
            cache: where what is computed of voices is kept; None: only in memory.
            warm_up_settings: how the first voice will mostly be spoken, to be warm for it.
            probes: look into our decoder, for measurements.
            name: which model it is, a key of SPECS.
            layout: what its files are called.
            built_in_voices: the voices of a checkpoint that has any.

        Raises:
            EngineUnavailable: packages, weights or the device are missing.
            EngineError: a file is damaged, or the clip cannot be used.
        """
        spec = SPECS[name]
        files = find_files(model_dir, layout)
        device = pick_device(device)
        threads = use_threads(compute.threads if compute is not None else 0)
        if device.startswith("cuda"):
            gpu.set_up(device)  # on this thread, which is the one that speaks, too
        options = plan_options(spec)
        compute = with_profile(compute or ComputeSettings(), torch.device(device), options)
        plan = choose_plan(compute, torch.device(device), options)
        model = loader.load_model(files, device, max(seed, 0), plan, spec)
        voices = (*(voices or ()), *built_in(built_in_voices if model.conds is not None else (), voices or ()))
        if not voices:
            raise EngineUnavailable(
                f"{model_dir} has no conds.pt, the built-in voice: add it, or a voice of your own (--voices-dir)"
            )
        wider = without_overflow(plan, model, spec)
        if wider != plan:
            del model  # its weights are converted; not beside the new one
            plan, model = wider, loader.load_model(files, device, max(seed, 0), wider, spec)
        _LOGGER.info("Profile %s: %s", compute.profile, plan)
        with torch.no_grad():
            engine = cls(model, voices, plan, cache, revision_of(files), warm_up_settings, name)
            engine.fingerprint = fingerprint(files.fingerprint(), device, max(seed, 0), plan, threads)
            engine.decoder = SeamlessDecoder(model, plan, probes, spec)
            loader.free_converted_weights(model, plan)
        trim_heap()  # of what loading used and gave back
        if voices[0].clips:
            engine._conditionals_of(voices[0])
        return engine

    @property
    def model(self) -> str:
        return self._name

    @property
    def is_on_gpu(self) -> bool:
        """Whether the model is in a GPU's memory."""
        return self.chatterbox is not None and self.chatterbox.t3.device.type != "cpu"

    @property
    def sample_rate(self) -> int:
        return SAMPLE_RATE

    @property
    def voices(self) -> tuple[Voice, ...]:
        return self._voices

    def warm_up(self) -> None:
        """Speak up to the first chunk, on a GPU to the end of a long sentence: it loads kernels, captures graphs, fills
        the allocator's pools, lets libraries choose algorithms for the lengths of later chunks, and computes what is
        kept of the default voice in its manner."""
        if self._warm_up_settings.decoder == "seamless" and self.decoder is not None:
            self.decoder.capture(self._warm_up_settings)
        text = _GPU_WARM_UP_TEXT if self.is_on_gpu else _WARM_UP_TEXT
        stream = self.generate_stream(text, self._voices[0], self._warm_up_settings, CancelToken())
        with contextlib.closing(stream):
            _, metrics = next(stream)
            if self.is_on_gpu:
                for _ in stream:
                    pass
        _LOGGER.info("Warmed up: the first chunk took %.2f s", metrics.latency_to_first_chunk)

    def generate_stream(
        self, text: str, voice: Voice, settings: GenerationSettings, cancel: CancelToken
    ) -> Generator[tuple[Samples, StreamMetrics], None, None]:
        """Speak one piece of text; see `Engine.generate_stream`.

        All fields of every metrics are set: they count what was done up to this chunk. What upstream does
        after its last chunk, when it samples the end of speech, is not in them.
        """
        started = time.perf_counter()
        cancel.raise_if_set()
        if self.chatterbox is None:
            raise EngineError("the engine is closed")
        language = self._language_of(voice)
        text = keep_tags(text, self.spec.tags)
        if language == "en":
            text = prepare_text(text)
        self._check_length(text, language)
        self._warn_of_fixed_sampling(settings)
        kept, key = self._conditionals_and_key(voice)
        conditionals = self._with_exaggeration(kept, settings.exaggeration)
        if settings.decoder == "upstream":
            stream = self._upstream(text, conditionals, settings, cancel)
        else:
            stream = self._seamless(text, conditionals, key, settings, cancel, language)
        cacheable = not voice.clips or key.fingerprint == voice.fingerprint
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
                yield samples, StreamMetrics(chunks, first, worked, duration, worked / duration, cacheable)
        if not chunks:
            raise EngineError(
                "Chatterbox made no speech of this text, it ended before the first sound; try another seed"
            )

    def _language_of(self, voice: Voice) -> str:
        """Returns the code of the language that a voice is listed for; all models but one speak English whatever it is.

        Raises:
            EngineError: the model does not speak it.
        """
        languages = self.spec.languages
        language = languages[0] if len(languages) == 1 else model_language(voice.languages[0])
        if language not in languages:
            raise EngineError(
                f"{self.spec.title} does not speak {language!r}, for which voice {voice.name!r} is listed; it speaks "
                f"{', '.join(languages)}"
            )
        return language

    def _warn_of_fixed_sampling(self, settings: GenerationSettings) -> None:
        """Say once that settings have no effect, where sampling is chatterbox-streaming's."""
        upstreams = settings.decoder == "upstream"
        if (
            not self.spec.upstream_decoder
            or self._warned_of_sampling
            or not (upstreams or settings.sampling == "streaming")
        ):
            return
        if sampling_of(dataclasses.replace(settings, sampling="current")) != CURRENT:
            self._warned_of_sampling = True
            _LOGGER.warning(
                "The settings repetition_penalty, min_p and top_p have no effect with %s: chatterbox-streaming's are "
                "fixed (%g, %g and %g)",
                "--decoder upstream" if upstreams else "--sampling streaming",
                STREAMING.repetition_penalty,
                STREAMING.min_p,
                STREAMING.top_p,
            )

    def _seamless(
        self,
        text: str,
        conditionals: Any,
        key: Any,
        settings: GenerationSettings,
        cancel: CancelToken,
        language: str,
    ) -> Generator[Samples, None, None]:
        """Our own decoding."""
        if self.decoder is None:
            raise EngineError("this engine speaks with --decoder upstream only")
        seed = secrets.randbelow(2**31) if settings.seed < 0 else settings.seed
        stream = self.decoder.stream(text, conditionals, settings, seed, cancel, key, self.timeline, language)
        with contextlib.closing(stream):
            while True:
                with wrap_errors(text):
                    samples = next(stream, None)
                if samples is None:
                    return
                yield samples

    def _upstream(
        self, text: str, conditionals: Any, settings: GenerationSettings, cancel: CancelToken
    ) -> Generator[Samples, None, None]:
        """chatterbox-streaming's own `generate_stream()`, for comparison."""
        if not self.spec.upstream_decoder:
            raise EngineError(f"decoder upstream is not for {self.spec.title}; start without --decoder upstream")
        if not self.plan.upstream_weights_intact:
            raise EngineError(
                "decoder upstream needs the weights as they were published; start with --profile exact --dtype float32"
            )
        view = copy.copy(self.chatterbox)
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
        steps = UpstreamStream(view, settings.seed, cancel, text)
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

    def prepare_voice(self, voice: Voice) -> bool:
        """Compute in advance what the first request for a voice needs; True if anything was. See `SupportsCloning`."""
        if self.chatterbox is None:
            raise EngineError("the engine is closed")
        return voice.clips != () and self._cloned.prepare(voice)

    def forget_voice(self, voice: Voice) -> None:
        """Drop what is kept of a voice in memory."""
        self._cloned.forget(voice.fingerprint)

    def _forget(self, kept: Any) -> None:
        if self.decoder is not None:
            self.decoder.forget(kept)

    def close(self) -> None:
        """Drop the model; `memory.release_memory()` returns its memory to the system."""
        if self.decoder is not None:
            self.decoder.close()
        self.chatterbox = self.decoder = None
        self._cloned = VoiceConditionals(None, None, "", _ignore)

    def _check_length(self, text: str, language: str) -> None:
        """Raise EngineError for a text that upstream would answer with an IndexError, or with another text."""
        if not text.strip():
            raise NothingToSay("there is no text to speak")
        limit = self.chatterbox.t3.hp.max_text_tokens
        count = text_tokens(self.chatterbox.tokenizer, text, self.spec, language).shape[1]
        if count > limit:
            raise EngineError(
                f"the text is too long for Chatterbox in one piece: {count} tokens ({len(text)} characters), "
                f"at most {limit}; split it into sentences"
            )

    def _conditionals_of(self, voice: Voice) -> Any:
        """Returns the voice's conditionals (upstream's Conditionals, at some exaggeration); not to be changed."""
        return self._conditionals_and_key(voice)[0]

    def _conditionals_and_key(self, voice: Voice) -> tuple[Any, Any]:
        """(the voice's conditionals, what they are known by where something is kept of them)."""
        if voice.clips:
            kept = self._cloned.of(voice)
            return kept.conditionals, kept
        if self.chatterbox.conds is None:
            raise EngineError(f"voice {voice.name!r} is not here: the weights came without conds.pt")
        return self.chatterbox.conds, BUILT_IN_KEY

    def _with_exaggeration(self, conditionals: Any, exaggeration: float) -> Any:
        """Returns a copy that one call may do with as it likes: upstream writes into both parts."""
        tts = upstream.load_chatterbox()
        t3 = tts.T3Cond(
            speaker_emb=conditionals.t3.speaker_emb,
            cond_prompt_speech_tokens=conditionals.t3.cond_prompt_speech_tokens,
            emotion_adv=torch.full((1, 1, 1), exaggeration),
        ).to(device=self.chatterbox.device)
        return tts.Conditionals(t3, dict(conditionals.gen))


def to_tensor(samples: Samples) -> torch.Tensor:
    """Returns samples as upstream's `generate_stream()` yields them: float32 on the CPU, shape (1, samples)."""
    return torch.from_numpy(samples)[None]
