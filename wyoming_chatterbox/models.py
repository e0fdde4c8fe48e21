"""From the settings to the models that speak."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from .blocking import call_within
from .compute_settings import ComputeSettings
from .engine import upstream
from .engine.base import CancelToken, Engine
from .engine.embedded import EMBEDDED_MODEL, HEART, create_embedded_engine
from .engine.loading import without_collections
from .errors import SettingsError
from .hosting.base import EngineSpec, LoadPhase, StatusReport
from .hosting.thread import EngineBuilder, ThreadHost
from .limits import PATH_SECONDS
from .settings import Settings
from .speech.catalog import ModelCatalog
from .speech.model import Model
from .voices.choosing import UnknownVoice, find_voice
from .voices.conditionals_cache import ConditionalsCache
from .voices.library import CHATTERBOX_DEFAULT
from .voices.voice import Voice

_LOGGER = logging.getLogger(__name__)


def create_catalog(settings: Settings) -> ModelCatalog:
    """Returns the chosen model with the embedded voice as its fallback, if it may have one. Nothing is loaded yet.

    Raises:
        SettingsError: the chosen model can never speak here and nothing may speak in its place.
    """
    limit = settings.engine_timeout
    embedded = Model(EMBEDDED_MODEL, (HEART,), ThreadHost(EMBEDDED_MODEL, _build_embedded, chunk_timeout=limit))
    if choose_model(settings) == EMBEDDED_MODEL:
        for path in _clips(settings):
            _LOGGER.warning("%s is of no use to the embedded voice; voices are cloned with --model original", path)
        if settings.unload_after:
            _LOGGER.warning("--unload-after is for the original model: the embedded voice is small, and stays")
        return ModelCatalog(embedded, embedded)
    if not settings.fallback and not upstream.is_installed():
        raise SettingsError(f"model: 'original' cannot be used: {upstream.INSTALL_REMEDY}")
    original = Model(
        "original",
        (CHATTERBOX_DEFAULT,),
        ThreadHost("original", _original_builder(settings), chunk_timeout=limit),
        unload_after=settings.unload_after * 60 or None,
    )
    return ModelCatalog(original, embedded if settings.fallback else None)


def choose_model(settings: Settings) -> str:
    """The model that `auto` means on this machine, or the one that was asked for."""
    if settings.model != "auto":
        return settings.model
    if not upstream.nvidia_gpu_present():
        _LOGGER.info("Model auto: no NVIDIA GPU here, the embedded voice speaks (--model original to change that)")
        return EMBEDDED_MODEL
    if not upstream.is_installed():
        _LOGGER.warning("Model auto: an NVIDIA GPU is here, but %s; the embedded voice speaks", upstream.INSTALL_REMEDY)
        return EMBEDDED_MODEL
    return "original"


def _clips(settings: Settings) -> list[Path]:
    """The reference clip, and the folders of voices that have something in them: an empty one is nobody's wish."""
    found = [] if settings.reference_clip is None else [settings.reference_clip]
    for folder in settings.voice_folders:
        with contextlib.suppress(OSError, TimeoutError):
            if call_within(PATH_SECONDS, _has_entries, folder):
                found.append(folder)
    return found


def _has_entries(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(not entry.name.startswith(".") for entry in entries)


def _build_embedded(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
    with without_collections():
        return create_embedded_engine()


def _original_builder(settings: Settings) -> EngineBuilder:
    cache = ConditionalsCache(settings.data / "conditionals")

    def build(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        from .engine.original import OriginalEngine
        from .engine.verdicts import VERDICTS

        directory = settings.model_dir or _download(settings, report, cancel)
        report(LoadPhase.LOADING, None)
        VERDICTS.keep_in(settings.data / "timed-tests.json")
        voices = _voices_to_begin_with(settings, spec.voices, directory)
        usual = settings.utterance.with_overrides(voices[0].settings if voices else {}).generation
        with without_collections(keep=not settings.unload_after):
            return OriginalEngine.load(
                directory,
                settings.device,
                voices,
                settings.generation.seed,
                _compute(settings),
                cache,
                usual,
            )

    return build


def _voices_to_begin_with(settings: Settings, voices: tuple[Voice, ...], directory: Path) -> tuple[Voice, ...]:
    """The default voice, if it is a cloned one; where the model has no voice of its own, any."""
    from .engine.weights import find_files

    with contextlib.suppress(UnknownVoice):
        if settings.default_voice is not None:
            return (find_voice(voices, name=settings.default_voice),)
    return () if find_files(directory).conditionals is not None else voices[:1]


def _compute(settings: Settings) -> ComputeSettings:
    """How to compute; upstream's own decoder can do nothing but what upstream does."""
    wanted = settings.compute
    if settings.generation.decoder != "upstream":
        return wanted
    if wanted.profile != "exact" or wanted.dtype not in ("auto", "float32") or wanted.quantize == "int8":
        _LOGGER.warning("--decoder upstream computes in float32: --profile, --dtype and --quantize have no effect")
    return ComputeSettings(dtype="float32", threads=wanted.threads)


def _download(settings: Settings, report: StatusReport, cancel: CancelToken) -> Path:
    from .engine import weights

    def progress(done: int, total: int) -> None:
        report(LoadPhase.DOWNLOADING, done / total if total else None)

    return weights.download(
        weights.ORIGINAL,
        cache_dir=settings.download_dir,
        local_files_only=settings.local_files_only,
        on_progress=progress,
        cancel=cancel,
    )
