"""The models: everything that the rest of the program knows of a model is its entry here.

Importing it imports neither numpy nor torch; what builds an engine imports what it needs.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..compute_settings import ComputeSettings
from ..knobs import Knob, knobs_of
from ..limits import MIN_CLIP_SECONDS
from ..speech_settings import GenerationSettings, UtteranceSettings
from ..voices.voice import Voice
from .built_in_voices import CHATTERBOX_DEFAULT, HEART
from .weights.pins import CHATTERBOX
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

    repository: Repository | None = None
    """Where its weights are; None: in a package that is installed with the server."""

    extra: str = ""
    """The extra of the distribution with the packages that it needs; empty: the light server has them."""

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


def _build_original(options: BuildOptions, progress: BuildProgress, cancel: CancelToken) -> Engine:
    from .chatterbox.compute.verdicts import VERDICTS
    from .chatterbox.engine import OriginalEngine
    from .preload import gc_paused
    from .weights import download

    directory = options.model_dir
    if directory is None:
        assert ORIGINAL.repository is not None
        directory = download.download(
            ORIGINAL.repository,
            cache_dir=options.download_dir,
            local_files_only=options.local_files_only,
            on_progress=progress.downloading,
            cancel=cancel,
        )
    progress.loading()
    VERDICTS.keep_in(options.data / "timed-tests.json")
    voices = _voices_to_prepare(options, directory)
    with gc_paused(keep=options.stays_loaded):
        return OriginalEngine.load(
            directory,
            options.device,
            voices,
            options.utterance.generation.seed,
            original_compute(options.compute, options.utterance.generation.decoder),
            _conditionals_cache(options.data / "conditionals"),
            options.utterance.with_overrides(voices[0].settings if voices else {}).generation,
        )


def _voices_to_prepare(options: BuildOptions, directory: Path) -> tuple[Voice, ...]:
    """Returns the default voice, if it is a cloned one; any voice if the model has no built-in one; else none."""
    from ..voices.selection import UnknownVoice, find_voice
    from .weights.download import find_files

    if options.default_voice is not None:
        try:
            return (find_voice(options.voices, name=options.default_voice),)
        except UnknownVoice:
            pass
    return () if find_files(directory).conditionals is not None else options.voices[:1]


def original_compute(compute: ComputeSettings, decoder: str) -> ComputeSettings:
    """Returns how to compute the original model: upstream's decoder can do nothing but what upstream does."""
    if decoder != "upstream":
        return compute
    if compute.profile != "exact" or compute.dtype not in ("auto", "float32") or compute.quantize == "int8":
        _LOGGER.warning("--decoder upstream computes in float32: --profile, --dtype and --quantize have no effect")
    return ComputeSettings(dtype="float32", threads=compute.threads)


def _build_embedded(options: BuildOptions, progress: BuildProgress, cancel: CancelToken) -> Engine:
    from .embedded import create_embedded_engine
    from .preload import gc_paused

    with gc_paused():
        return create_embedded_engine()


ORIGINAL = ModelSpec(
    name=CHATTERBOX_DEFAULT.model,
    licence="MIT",
    languages=CHATTERBOX_DEFAULT.languages,
    voices=(CHATTERBOX_DEFAULT,),
    build=_build_original,
    parameters=_parameters(),
    clones=True,
    min_clip_seconds=MIN_CLIP_SECONDS,
    repository=CHATTERBOX,
    extra="chatterbox",
)
"""Chatterbox's first, English model."""

EMBEDDED = ModelSpec(
    name=HEART.model,
    licence="Apache-2.0",
    languages=HEART.languages,
    voices=(HEART,),
    build=_build_embedded,
    parameters=_parameters("seed"),
)
"""The small model inside the installation; it answers while another one cannot."""

MODELS: Mapping[str, ModelSpec] = {spec.name: spec for spec in (ORIGINAL, EMBEDDED)}
"""All models, by name. The first one that clones is that of voices which name none."""

CLONING_MODELS: Mapping[str, tuple[str, ...]] = {spec.name: spec.languages for spec in MODELS.values() if spec.clones}
"""The languages of the models that clone, by the model's name."""


def create_library(
    folders: Sequence[Path],
    reference_clip: Path | None = None,
    models: Mapping[str, tuple[str, ...]] = CLONING_MODELS,
) -> VoiceLibrary:
    """Returns the library of the voices in these folders, and of one more clip, for the models that clone.

    Nothing is read yet.
    """
    from ..voices.library import VoiceLibrary

    # The voice that answers while no other can must be there under its own name.
    reserved = [voice.name for voice in EMBEDDED.voices]
    return VoiceLibrary(folders, reference_clip, models=models, reserved_names=reserved)


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
