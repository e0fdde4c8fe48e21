"""What can be asked for: models, voices, settings."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path

from ..engine.registry import MODELS
from ..limits import MAX_NAME_CHARS
from ..speech.service import SpeechService
from ..voices.voice import Voice
from .errors import ModelNotFound
from .schemas import (
    KNOBS,
    AudioModelList,
    ErrorBody,
    ModelItem,
    ModelList,
    ModelVoice,
    SettingItem,
    VoiceItem,
    VoiceList,
)
from .state import State

router = APIRouter()

ALIASES = ("chatterbox", "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that clients have built in: each is whatever this server speaks with."""

OPENAI_VOICES = frozenset(
    {
        *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
        *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
    }
)
"""Voices that clients have built in: each is the default voice, unless there is one of that name here."""

_OWNER = "wyoming-chatterbox"
_STARTED = int(time.time())


def requested_voice(service: SpeechService, voice: str | None) -> str | None:
    """Returns the name of the voice that a client asks for; None (the default voice) for a name that OpenAI's clients
    have built in, unless a voice here has it."""
    names = {known.name.casefold() for known in service.voices}
    return None if voice is not None and voice.casefold() in OPENAI_VOICES - names else voice


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def models(state: State) -> ModelList:
    """The models, and the names by which OpenAI's clients ask for them."""
    return ModelList(data=[_model(state.service, name) for name in _model_names(state.service)])


@router.get("/v1/models/{model}", responses={400: {"model": ErrorBody}, 404: {"model": ErrorBody}})
@router.get("/models/{model}", include_in_schema=False)
async def model(model: Annotated[str, Path(max_length=MAX_NAME_CHARS)], state: State) -> ModelItem:
    """One of them."""
    names = _model_names(state.service)
    if model.casefold() not in names:
        raise ModelNotFound(f"There is no model {model!r}; available: {', '.join(names)}")
    return _model(state.service, model)


@router.get("/v1/audio/models")
@router.get("/audio/models", include_in_schema=False)
async def audio_models(state: State) -> AudioModelList:
    """The same list as of GET /v1/models, also by the name of `models`, under which Open WebUI looks for it."""
    items = [_model(state.service, name) for name in _model_names(state.service)]
    return AudioModelList(data=items, models=items)


@router.get("/v1/audio/voices")
@router.get("/audio/voices", include_in_schema=False)
async def voices(state: State) -> VoiceList:
    """The voices that a request can name."""
    return voice_list(state.service)


@router.get("/api/settings")
async def settings(state: State) -> list[SettingItem]:
    """What one utterance may set, with bounds and this server's defaults."""
    defaults = state.settings.utterance
    return [
        SettingItem(
            name=knob.name,
            help=knob.help,
            kind="bool" if knob.kind is bool else "int" if knob.kind is int else "float",
            unit=knob.unit,
            minimum=knob.minimum,
            maximum=knob.maximum,
            default=getattr(defaults if hasattr(defaults, knob.name) else defaults.generation, knob.name),
            allowed=knob.allowed,
            upstream_only=knob.upstream_only,
        )
        for knob in KNOBS.values()
    ]


def voice_list(service: SpeechService) -> VoiceList:
    """Returns all voices as they are sent: each once, with its speakers; hidden ones are left out."""
    default = service.default_voice
    items: dict[str, VoiceItem] = {}
    for voice in service.voices:
        if voice.hidden:
            continue
        item = items.setdefault(voice.name, voice_item(voice))
        item.default = item.default or voice is default
        if voice.speaker is not None:
            item.speakers.append(voice.speaker)
    return VoiceList(voices=list(items.values()))


def voice_item(voice: Voice) -> VoiceItem:
    """One voice as it is sent, without its speakers."""
    return VoiceItem(
        id=voice.name,
        name=voice.name,
        description=voice.description,
        languages=list(voice.languages),
        model=voice.model,
        default=False,
        speakers=[],
        attribution=voice.attribution,
        licence=voice.licence,
        settings=_settings_of(voice.model),
    )


def _settings_of(model: str) -> list[str]:
    spec = MODELS.get(model)
    return [name for name, knob in spec.parameters.items() if not knob.server_only] if spec is not None else []


def _model_names(service: SpeechService) -> list[str]:
    return list(dict.fromkeys([*(voice.model for voice in service.voices), *ALIASES]))


def _model(service: SpeechService, name: str) -> ModelItem:
    voices = {
        voice.name: ModelVoice(name=voice.name, language=voice.languages[0] if voice.languages else "")
        for voice in service.voices
        if not voice.hidden and name.casefold() in (*ALIASES, voice.model)
    }
    return ModelItem(id=name, created=_STARTED, owned_by=_OWNER, voices=list(voices.values()))
