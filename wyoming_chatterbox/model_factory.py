"""From the settings to the models that speak."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
from pathlib import Path

from .blocking import call_within
from .engine.base import CancelToken, Engine
from .engine.hardware import free_memory, nvidia_gpu_memory, nvidia_gpu_present
from .engine.registry import EMBEDDED, MODELS, ORIGINAL, BuildOptions, ModelSpec
from .engine.requirements import INSTALL_HINT, is_installed
from .engine.weights.files import pack_in
from .errors import SettingsError
from .hosting.base import EngineSpec, LoadPhase, StatusReport
from .hosting.thread import EngineBuilder, ThreadHost
from .knobs import knobs_of
from .limits import PATH_SECONDS
from .model_choice import resolve_auto
from .settings import CLONING_MODELS, Settings
from .speech.catalog import ModelCatalog
from .speech.memory_room import MemoryRoom
from .speech.model import Model
from .speech_settings import GenerationSettings

_LOGGER = logging.getLogger(__name__)


OTHERS_UNLOAD_AFTER = 30.0
"""Minutes without speech after which a model that is not the primary one is unloaded, where nobody says."""


def create_catalog(settings: Settings) -> ModelCatalog:
    """Returns the chosen models with the embedded voice as their fallback, if they may have one. Nothing is loaded yet.

    Raises:
        SettingsError: a chosen model can never speak here and nothing may speak in its place.
    """
    settings = resolve_auto(settings)
    embedded = _create_model(EMBEDDED, settings)
    specs = [_spec(name, settings) for name in settings.models]
    primary = specs[0]
    if not primary.clones:
        for path in _clips(settings):
            _LOGGER.warning(
                "%s is of no use to the %s voice; voices are cloned with --model %s",
                path,
                primary.name,
                CLONING_MODELS[0],
            )
    if primary.name == EMBEDDED.name:
        if settings.unload_after:
            _LOGGER.warning("--unload-after is for the other models: the embedded voice is small, and stays")
        return ModelCatalog(embedded, embedded)
    for spec in specs:
        _check_settings(spec, settings)
        if not settings.fallback and spec.extra and not is_installed():
            raise SettingsError(f"model: {spec.name!r} cannot be used: {INSTALL_HINT}")
    # Nobody chooses a further model without naming one of its voices, so that it has no default voice to prepare.
    unload_after = settings.unload_after or OTHERS_UNLOAD_AFTER
    of_others = dataclasses.replace(settings, unload_after=unload_after, voice=None, reference_clip=None)
    others = [_create_model(spec.beside_another(), of_others, on_demand=True) for spec in specs[1:]]
    room = MemoryRoom({spec.name: spec.memory_gb for spec in specs}, functools.partial(_free_memory, settings.device))
    return ModelCatalog(_create_model(primary, settings), embedded if settings.fallback else None, others, room)


def spoken_languages(settings: Settings) -> tuple[str, ...]:
    """Returns the languages that a model of several is to speak: those of the house, or the one that its folder of
    weights is for; none: all."""
    pack = call_within(PATH_SECONDS, pack_in, settings.model_dir) if settings.model_dir is not None else None
    return settings.house_languages if pack is None else (pack[0],)


def _spec(name: str, settings: Settings) -> ModelSpec:
    """Returns a model as these settings have it. Raises SettingsError if it does not speak the house's languages."""
    spec = call_within(PATH_SECONDS, MODELS[name].in_folder, settings.model_dir)
    if spec.layout != MODELS[name].layout:
        _LOGGER.info("%s has a single-language pack: model %s speaks %s", settings.model_dir, name, spec.languages[0])
    return spec.speaking(settings.house_languages)


def _free_memory(device: str) -> float:
    """Returns the GB that are free where models are computed."""
    if device != "cpu" and nvidia_gpu_present():
        _, _, index = device.partition(":")
        free = nvidia_gpu_memory(int(index) if index else None, free=True)
        if free is not None:
            return free
    return free_memory()


def _check_settings(spec: ModelSpec, settings: Settings) -> None:
    """Warn of settings of speech that the model does not have. Raises SettingsError where it could not speak at all."""
    if settings.generation.decoder == "upstream" and not spec.upstream_decoder:
        raise SettingsError(f"decoder: 'upstream' is for model {ORIGINAL.name} only; {spec.name} is spoken by seamless")
    for knob in knobs_of(GenerationSettings):
        if knob.name not in spec.parameters and getattr(settings.generation, knob.name) != knob.default:
            _LOGGER.warning("%s has no effect: model %s has no such setting", knob.flag, spec.name)


def _create_model(spec: ModelSpec, settings: Settings, on_demand: bool = False) -> Model:
    """Returns a model of the registry over a thread of its own; nothing is loaded yet."""
    host = ThreadHost(spec.name, _builder(spec, settings), chunk_timeout=settings.engine_timeout)
    unload_after = None if spec is EMBEDDED else settings.unload_after * 60 or None
    # The embedded voice answers for others, and takes what is theirs.
    parameters = spec.parameters if spec.clones else None
    return Model(spec.name, spec.voices, host, unload_after=unload_after, parameters=parameters, on_demand=on_demand)


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
        built_in_voices=spec.voices,
        layout=spec.layout,
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
