"""The models: everything that the rest of the program knows of a model is its entry here.

Importing it imports neither numpy nor torch; what builds an engine imports what it needs.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..compute_settings import ComputeSettings
from ..errors import SettingsError
from ..knobs import Knob, knobs_of
from ..limits import MIN_CLIP_SECONDS, MIN_TURBO_CLIP_SECONDS
from ..speech_settings import GenerationSettings, UtteranceSettings
from ..voices.voice import Voice
from .built_in_voices import (
    CHATTERBOX_DEFAULT,
    HEART,
    MULTILINGUAL_V2_VOICES,
    MULTILINGUAL_VOICES,
    NANO_DEFAULT,
    TURBO_DEFAULT,
)
from .tags import TURBO_SOUNDS
from .weights import files, pins
from .weights.files import WeightLayout
from .weights.repository import RemoteFile, Repository

if TYPE_CHECKING:
    from ..voices.library import VoiceLibrary
    from .base import CancelToken, Engine
    from .chatterbox.conditionals_store import ConditionalsCache

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildOptions:
    """What an engine is built with, from the settings and the voices of the server."""

    data: Path
    """Folder for what an engine may keep from one start to the next."""

    device: str = "auto"
    model_dir: Path | None = None
    """Folder with the weights; None: they are downloaded."""

    download_dir: Path | None = None
    local_files_only: bool = False
    utterance: UtteranceSettings = field(default_factory=UtteranceSettings)
    """How an utterance is spoken whose voice and request change nothing."""

    compute: ComputeSettings = field(default_factory=ComputeSettings)
    voices: tuple[Voice, ...] = ()
    """The cloned voices that exist."""

    default_voice: str | None = None
    built_in_voices: tuple[Voice, ...] = ()
    """Of the model, as they are to be named; none: as they are called."""

    layout: WeightLayout | None = None
    """What the files of its weights are called, where it is not as usual."""

    stays_loaded: bool = True
    """The engine is never unloaded."""


class BuildProgress(Protocol):
    """Receives how far the building of an engine is; called on the thread that builds it."""

    def downloading(self, done: int, total: int) -> None:
        """`done` of `total` bytes of the weights are there."""

    def loading(self) -> None:
        """The weights are there, and are being loaded."""


Build = Callable[[BuildOptions, BuildProgress, "CancelToken"], "Engine"]
"""Builds an engine, blocking for as long as that takes.

Raises:
    EngineError: it cannot be built; the message says why and what to do.
    Cancelled: the token was set.
"""


@dataclass(frozen=True)
class ModelSpec:
    """One model."""

    name: str
    """As --model and clients call it."""

    licence: str
    """SPDX identifier of the weights' licence."""

    languages: tuple[str, ...]
    """Codes of the languages it speaks."""

    voices: tuple[Voice, ...]
    """Its built-in voices."""

    build: Build
    parameters: Mapping[str, Knob]
    """The settings of speech that have an effect on it, by their names."""

    tags: tuple[str, ...] = ()
    """Words in brackets that it performs instead of reading them, such as laugh."""

    clones: bool = False
    """It speaks in voices that are taken from reference clips."""

    min_clip_seconds: float = 0.0
    """Shortest speech that a voice can be cloned from."""

    memory_gb: float = 0.2
    """What it takes once it is loaded, at most, on a GPU or beside the server."""

    repository: Repository | None = None
    """Where its weights are; None: in a package that is installed with the server."""

    layout: WeightLayout | None = None
    """What the files of its weights are called; None: in a package that is installed with the server."""

    upstream_decoder: bool = False
    """chatterbox-streaming has a decoder for it, see --decoder."""

    extra: str = ""
    """The extra of the distribution with the packages that it needs; empty: the light server has them."""

    def speaking(self, languages: Sequence[str]) -> ModelSpec:
        """Returns this model for a house of these languages, codes of its own; as it is for none, or where it speaks
        only one. The voice of the first language has the built-in one's own name.

        Raises:
            SettingsError: it does not speak one of them.
        """
        if not languages or len(self.languages) == 1:
            return self
        for language in languages:
            if language not in self.languages:
                spoken = ", ".join(self.languages)
                raise SettingsError(f"languages: {language!r} is not spoken by model {self.name} (it speaks {spoken})")
        by_language = {voice.languages[0]: voice for voice in self.voices}
        voices = tuple(
            dataclasses.replace(by_language[language], name=f"default-{language}" if number else "default")
            for number, language in enumerate(languages)
        )
        return dataclasses.replace(self, languages=tuple(languages), voices=voices)

    def in_folder(self, folder: Path | None) -> ModelSpec:
        """Returns this model as a folder has it; with a single-language pack there, it speaks that language only."""
        if folder is None or self.layout is None or len(self.languages) == 1:
            return self
        pack = files.pack_in(folder)
        if pack is None:
            return self
        language, layout = pack
        return dataclasses.replace(self.speaking((language,)), layout=layout)

    def beside_another(self) -> ModelSpec:
        """Returns this model for a server whose `default` voice is another model's: its own is called as it is."""
        voices = tuple(
            dataclasses.replace(voice, name=voice.name.replace("default", self.name, 1), base=self.name)
            for voice in self.voices
        )
        return dataclasses.replace(self, voices=voices)

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """The files of its weights, pinned by size and checksum."""
        return () if self.repository is None else self.repository.files

    @property
    def download_bytes(self) -> int:
        """Size of all its files."""
        return sum(file.size for file in self.files)


def _parameters(*names: str) -> dict[str, Knob]:
    """Returns the knobs of speech of these names; of all, if there are none."""
    return {knob.name: knob for knob in knobs_of(GenerationSettings) if not names or knob.name in names}


@functools.cache
def _conditionals_cache(folder: Path) -> ConditionalsCache:
    """Returns one cache for all engines of this process: it has threads of its own."""
    from .chatterbox.conditionals_store import ConditionalsCache

    return ConditionalsCache(folder)


def _build_chatterbox(name: str, options: BuildOptions, progress: BuildProgress, cancel: CancelToken) -> Engine:
    """Returns an engine of a model of the Chatterbox family, by its name."""
    from .chatterbox.compute.verdicts import VERDICTS
    from .chatterbox.engine import ChatterboxEngine
    from .preload import gc_paused
    from .weights import download

    spec = MODELS[name]
    layout = options.layout or spec.layout
    assert spec.repository is not None and layout is not None
    directory = options.model_dir
    if directory is None:
        directory = download.download(
            spec.repository,
            cache_dir=options.download_dir,
            local_files_only=options.local_files_only,
            on_progress=progress.downloading,
            cancel=cancel,
        )
    progress.loading()
    VERDICTS.keep_in(options.data / "timed-tests.json")
    voices = _voices_to_prepare(options, directory, layout)
    with gc_paused(keep=options.stays_loaded):
        return ChatterboxEngine.load(
            directory,
            options.device,
            voices,
            options.utterance.generation.seed,
            effective_compute(options.compute, options.utterance.generation.decoder),
            _conditionals_cache(options.data / "conditionals"),
            options.utterance.with_overrides(voices[0].settings if voices else {}).generation,
            name=name,
            layout=layout,
            built_in_voices=options.built_in_voices or spec.voices,
        )


def _voices_to_prepare(options: BuildOptions, directory: Path, layout: WeightLayout) -> tuple[Voice, ...]:
    """Returns the default voice, if it is a cloned one; any voice if the model has no built-in one; else none."""
    from ..voices.selection import UnknownVoice, find_voice
    from .weights.files import find_files

    if options.default_voice is not None:
        try:
            return (find_voice(options.voices, name=options.default_voice),)
        except UnknownVoice:
            pass
    return () if find_files(directory, layout).conditionals is not None else options.voices[:1]


def effective_compute(compute: ComputeSettings, decoder: str) -> ComputeSettings:
    """Returns how to compute a model: upstream's decoder can do nothing but what upstream does."""
    if decoder != "upstream":
        return compute
    other_precision = compute.dtype not in ("auto", "float32") or compute.quantize == "int8"
    if other_precision or compute.profile not in ("auto", "exact"):
        _LOGGER.warning("--decoder upstream computes in float32: --profile, --dtype and --quantize have no effect")
    return ComputeSettings(dtype="float32", threads=compute.threads)


def _build_embedded(options: BuildOptions, progress: BuildProgress, cancel: CancelToken) -> Engine:
    from .embedded import create_embedded_engine
    from .preload import gc_paused

    with gc_paused():
        return create_embedded_engine()


def _chatterbox(
    voices: tuple[Voice, ...],
    repository: Repository,
    layout: WeightLayout,
    parameters: Mapping[str, Knob],
    **others: Any,
) -> ModelSpec:
    """Returns a model of the Chatterbox family, which all are under the MIT licence and clone voices."""
    return ModelSpec(
        name=voices[0].model,
        licence="MIT",
        languages=tuple(voice.languages[0] for voice in voices),
        voices=voices,
        build=functools.partial(_build_chatterbox, voices[0].model),
        parameters=parameters,
        clones=True,
        repository=repository,
        layout=layout,
        extra="chatterbox",
        **others,
    )


_TURBO_PARAMETERS = _parameters(
    "temperature", "repetition_penalty", "top_p", "top_k", "chunk_size", "chunk_growth", "seed"
)

ORIGINAL = _chatterbox(
    (CHATTERBOX_DEFAULT,),
    pins.CHATTERBOX,
    files.ORIGINAL,
    {name: knob for name, knob in _parameters().items() if name != "top_k"},
    memory_gb=5.0,
    min_clip_seconds=MIN_CLIP_SECONDS,
    upstream_decoder=True,
)
"""Chatterbox's first, English model."""

TURBO = _chatterbox(
    (TURBO_DEFAULT,),
    pins.TURBO,
    files.TURBO,
    _TURBO_PARAMETERS,
    tags=TURBO_SOUNDS,
    memory_gb=3.5,
    min_clip_seconds=MIN_TURBO_CLIP_SECONDS,
)
"""A faster English model, for GPUs, that laughs."""

NANO = _chatterbox(
    (NANO_DEFAULT,),
    pins.NANO,
    files.NANO,
    _TURBO_PARAMETERS,
    tags=TURBO_SOUNDS,
    memory_gb=2.5,
    min_clip_seconds=MIN_TURBO_CLIP_SECONDS,
)
"""Turbo with a smaller language model, for CPUs."""

_MULTILINGUAL_PARAMETERS = {
    name: knob
    for name, knob in ORIGINAL.parameters.items()
    if name not in ("sampling", "decoder", "context_window", "fade_duration", "print_metrics")
}

MULTILINGUAL = _chatterbox(
    MULTILINGUAL_VOICES,
    pins.MULTILINGUAL_V3,
    files.MULTILINGUAL_V3,
    _MULTILINGUAL_PARAMETERS,
    memory_gb=5.0,
    min_clip_seconds=MIN_CLIP_SECONDS,
)
"""23 languages; the third version."""

MULTILINGUAL_V2 = _chatterbox(
    MULTILINGUAL_V2_VOICES,
    pins.MULTILINGUAL_V2,
    files.MULTILINGUAL_V2,
    _MULTILINGUAL_PARAMETERS,
    memory_gb=5.0,
    min_clip_seconds=MIN_CLIP_SECONDS,
)
"""The version before it, which its developers' code still takes unless told otherwise."""

EMBEDDED = ModelSpec(
    name=HEART.model,
    licence="Apache-2.0",
    languages=HEART.languages,
    voices=(HEART,),
    build=_build_embedded,
    parameters=_parameters("seed"),
)
"""The small model inside the installation; it answers while another one cannot."""

MODELS: Mapping[str, ModelSpec] = {
    spec.name: spec for spec in (ORIGINAL, TURBO, NANO, MULTILINGUAL, MULTILINGUAL_V2, EMBEDDED)
}
"""All models, by name."""

CLONING_MODELS: Mapping[str, tuple[str, ...]] = {spec.name: spec.languages for spec in MODELS.values() if spec.clones}
"""The languages of the models that clone, by the model's name."""


def create_library(
    folders: Sequence[Path],
    reference_clip: Path | None = None,
    running: Sequence[str] = (),
    languages: Sequence[str] = (),
    models: Mapping[str, tuple[str, ...]] = CLONING_MODELS,
) -> VoiceLibrary:
    """Returns the library of the voices in these folders, and of one more clip, for the models that clone.

    Nothing is read yet.

    Args:
        running: the models that speak the voices that name none, the primary one first; none: nobody knows yet.
        languages: of the house, for a model of several.
        models: the languages of the models that clone, by the model's name.
    """
    from ..voices.library import VoiceLibrary

    running = [name for name in running if name in models]
    spoken = {name: MODELS[name].speaking(languages).languages if languages else models[name] for name in running}
    models = {**spoken, **{name: codes for name, codes in models.items() if name not in spoken}}
    # The voice that answers while no other can must be there under its own name.
    reserved = [voice.name for voice in EMBEDDED.voices]
    return VoiceLibrary(folders, reference_clip, models=models, running=running, reserved_names=reserved)


def create_voices(clip: Path) -> tuple[Voice, ...]:
    """Returns the voice of one clip, as the library makes it of --reference-clip.

    Raises:
        VoiceError: the clip cannot be used; the message names it.
    """
    from ..voices.errors import VoiceError

    library = create_library((), clip)
    library.scan(patient=False)
    for problem in library.problems:
        if problem.fatal:
            raise VoiceError(str(problem))
    return library.voices
