"""From the settings to the models that speak."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from pathlib import Path

from .blocking import call_within
from .engine.base import CancelToken, Engine
from .engine.registry import EMBEDDED, MODELS, ORIGINAL, BuildOptions, ModelSpec
from .engine.requirements import INSTALL_HINT, is_installed
from .errors import SettingsError
from .hosting.base import EngineSpec, LoadPhase, StatusReport
from .hosting.thread import EngineBuilder, ThreadHost
from .knobs import knobs_of
from .limits import PATH_SECONDS
from .model_choice import resolve_auto
from .settings import CLONING_MODELS, Settings
from .speech.catalog import ModelCatalog
from .speech.model import Model
from .speech_settings import GenerationSettings

_LOGGER = logging.getLogger(__name__)


def create_catalog(settings: Settings) -> ModelCatalog:
    """Returns the chosen model with the embedded voice as its fallback, if it may have one. Nothing is loaded yet.

    Raises:
        SettingsError: the chosen model can never speak here and nothing may speak in its place.
    """
    settings = resolve_auto(settings)
    embedded = _create_model(EMBEDDED, settings)
    spec = MODELS[settings.model].speaking(settings.house_languages)
    if not spec.clones:
        for path in _clips(settings):
            _LOGGER.warning(
                "%s is of no use to the %s voice; voices are cloned with --model %s", path, spec.name, CLONING_MODELS[0]
            )
    if spec.name == EMBEDDED.name:
        if settings.unload_after:
            _LOGGER.warning("--unload-after is for the original model: the embedded voice is small, and stays")
        return ModelCatalog(embedded, embedded)
    _check_settings(spec, settings)
    if not settings.fallback and spec.extra and not is_installed():
        raise SettingsError(f"model: {spec.name!r} cannot be used: {INSTALL_HINT}")
    return ModelCatalog(_create_model(spec, settings), embedded if settings.fallback else None)


def _check_settings(spec: ModelSpec, settings: Settings) -> None:
    """Warn of settings of speech that the model does not have. Raises SettingsError where it could not speak at all."""
    if settings.generation.decoder == "upstream" and not spec.upstream_decoder:
        raise SettingsError(f"decoder: 'upstream' is for model {ORIGINAL.name} only; {spec.name} is spoken by seamless")
    for knob in knobs_of(GenerationSettings):
        if knob.name not in spec.parameters and getattr(settings.generation, knob.name) != knob.default:
            _LOGGER.warning("%s has no effect: model %s has no such setting", knob.flag, spec.name)


def _create_model(spec: ModelSpec, settings: Settings) -> Model:
    """Returns a model of the registry over a thread of its own; nothing is loaded yet."""
    host = ThreadHost(spec.name, _builder(spec, settings), chunk_timeout=settings.engine_timeout)
    unload_after = None if spec is EMBEDDED else settings.unload_after * 60 or None
    # The embedded voice answers for others, and takes what is theirs.
    parameters = spec.parameters if spec.clones else None
    return Model(spec.name, spec.voices, host, unload_after=unload_after, parameters=parameters)


def _builder(spec: ModelSpec, settings: Settings) -> EngineBuilder:
    options = BuildOptions(
        data=settings.data,
        device=settings.device,
        model_dir=settings.model_dir,
        download_dir=settings.download_dir,
        local_files_only=settings.local_files_only,
        utterance=settings.utterance,
        compute=settings.compute,
        default_voice=settings.default_voice,
        languages=settings.house_languages,
        stays_loaded=not settings.unload_after,
    )

    def build(engine: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        return spec.build(dataclasses.replace(options, voices=engine.voices), _Progress(report), cancel)

    return build


class _Progress:
    """Tells a host how far the building of its engine is."""

    def __init__(self, report: StatusReport) -> None:
        self._report = report

    def downloading(self, done: int, total: int) -> None:
        self._report(LoadPhase.DOWNLOADING, done / total if total else None)

    def loading(self) -> None:
        self._report(LoadPhase.LOADING, None)


def _clips(settings: Settings) -> list[Path]:
    """Returns the reference clip, and the folders of voices that have something in them: an empty one is nobody's
    wish."""
    clips = [] if settings.reference_clip is None else [settings.reference_clip]
    for folder in settings.voice_folders:
        with contextlib.suppress(OSError, TimeoutError):
            if call_within(PATH_SECONDS, _has_entries, folder):
                clips.append(folder)
    return clips


def _has_entries(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(not entry.name.startswith(".") for entry in entries)
