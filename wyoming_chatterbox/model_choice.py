"""Which model `--model auto` means on this machine, and why."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass

from .blocking import call_within
from .engine.base import EngineError
from .engine.cpu_speed import FAST_ENOUGH, SpeedUnknown, estimated_rtf
from .engine.hardware import memory, nvidia_gpu_memory, nvidia_gpu_present
from .engine.registry import EMBEDDED, MODELS, MULTILINGUAL, MULTILINGUAL_V2, NANO, ORIGINAL, TURBO, ModelSpec
from .engine.requirements import INSTALL_HINT, is_installed
from .engine.weights.files import find_files
from .language_codes import model_language
from .limits import PATH_SECONDS
from .settings import Settings

_LOGGER = logging.getLogger(__name__)

ORIGINAL_GPU_GB = 5.5
"""Memory of a GPU for `original` and `multilingual`: 5 GB are needed, and what is sold as 6 GB has 6.4 in fact."""

TURBO_GPU_GB = 3.9
"""For `turbo`, which has 2.8 GB of weights as published and two thirds of that in bfloat16: what is sold as 4 GB."""

NANO_GB = 3.5
"""Memory of a machine for `nano`, which takes 2 GB beside what else runs there."""


@dataclass(frozen=True)
class ModelChoice:
    """A model, and why it was chosen."""

    model: str
    reason: str
    on_cpu: bool = False
    """The processor computes, whatever GPU there is."""


def resolve_auto(settings: Settings) -> Settings:
    """Returns settings that name a model: what `auto` means on this machine, or the one that was asked for."""
    if settings.model != "auto":
        return settings
    choice = choose_for_this_machine(settings)
    _LOGGER.info("Model auto: %s, because %s", choice.model, choice.reason)
    device = "cpu" if choice.on_cpu else settings.device
    return dataclasses.replace(settings, model=choice.model, device=device)


def choose_for_this_machine(settings: Settings) -> ModelChoice:
    """Returns what `auto` means on this machine; blocks for some 10 s where its processor has to be timed first."""
    installed, has_gpu = is_installed(), settings.device != "cpu" and nvidia_gpu_present()
    if has_gpu and not installed:
        choice = ModelChoice(EMBEDDED.name, f"there is an NVIDIA GPU, but not what it needs: {INSTALL_HINT}")
    elif has_gpu:
        choice = _for_gpu(settings)
    else:
        why = "the device is the processor" if settings.device == "cpu" else "there is no NVIDIA GPU"
        choice = _for_cpu(settings, why, installed)
    others = [code for code in _languages(settings) if code not in MODELS[choice.model].languages]
    if not others:
        return choice
    wanted = f"{MULTILINGUAL.name}, which speaks {', '.join(others)}, needs a GPU with 6 GB"
    return dataclasses.replace(choice, reason=f"{choice.reason}; it speaks English: {wanted}")


def _for_gpu(settings: Settings) -> ModelChoice:
    _, _, index = settings.device.partition(":")
    size = nvidia_gpu_memory(int(index) if index else None)
    gpu = "the NVIDIA GPU does not say how much memory it has" if size is None else f"the NVIDIA GPU has {size:.1f} GB"
    if size is None or size >= ORIGINAL_GPU_GB:
        foreign = [code for code in _languages(settings) if code not in ORIGINAL.languages]
        if foreign and _is_possible(MULTILINGUAL, settings):
            return ModelChoice(MULTILINGUAL.name, f"{gpu}, and this model speaks {', '.join(foreign)}")
        if _is_possible(ORIGINAL, settings):
            return ModelChoice(ORIGINAL.name, gpu)
        for spec in (TURBO, MULTILINGUAL, MULTILINGUAL_V2, NANO):
            if _is_possible(spec, settings):
                return ModelChoice(spec.name, f"{gpu}, and {settings.model_dir} has the weights of this model")
        return ModelChoice(ORIGINAL.name, gpu)  # it will say what is missing
    if size >= TURBO_GPU_GB and _is_possible(TURBO, settings):
        return ModelChoice(TURBO.name, f"{gpu}, too little for {ORIGINAL.name}")
    return _for_cpu(settings, f"{gpu}, too little", installed=True)


def _for_cpu(settings: Settings, why: str, installed: bool) -> ModelChoice:
    """Returns nano where the processor is fast enough for it, else the embedded voice."""
    reason = _why_not_nano(settings, installed)
    if reason is not None:
        return ModelChoice(EMBEDDED.name, f"{why}, and {reason}")
    try:
        rtf = estimated_rtf(NANO.name, settings.compute, settings.data)
    except SpeedUnknown as error:
        return ModelChoice(EMBEDDED.name, f"{why}, and {error}")
    speed = f"this processor takes about {rtf:.2f} s for a second of {NANO.name}'s speech"
    if rtf > FAST_ENOUGH:
        return ModelChoice(EMBEDDED.name, f"{why}, and {speed}, more than {FAST_ENOUGH:g} s")
    return ModelChoice(NANO.name, f"{why}, and {speed}", on_cpu=True)


def _why_not_nano(settings: Settings, installed: bool) -> str | None:
    """Returns why nano cannot speak here, however fast the processor is; None: it can."""
    if not installed:
        return f"the packages of {NANO.name} are not installed"
    if settings.compute.profile == "exact" or settings.compute.flow_attention == "full":
        return f"{NANO.name} is too slow on a processor with --profile exact or --flow-attention full"
    if not _is_possible(NANO, settings):
        return "the settings are for another model (--decoder, --model-dir)"
    if memory() < NANO_GB:
        return f"{NANO.name} needs {NANO_GB:g} GB of memory, this machine has {memory():.1f} GB"
    return None


def _is_possible(spec: ModelSpec, settings: Settings) -> bool:
    """Whether this model has the decoder of the settings and, where they name a folder of weights, is in it."""
    if settings.generation.decoder == "upstream" and not spec.upstream_decoder:
        return False
    if settings.model_dir is None or spec.layout is None:
        return True
    try:
        call_within(PATH_SECONDS, find_files, settings.model_dir, spec.layout)
    except (EngineError, OSError, RuntimeError):
        return False
    return True


def _languages(settings: Settings) -> tuple[str, ...]:
    """Returns the languages that the settings name; none: nobody said."""
    if settings.house_languages:
        return settings.house_languages
    return () if settings.language is None else (model_language(settings.language),)
