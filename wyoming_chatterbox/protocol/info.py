"""What the server says about itself when it is asked to describe."""

from __future__ import annotations

from collections.abc import Iterable

from wyoming.info import Attribution, Info, TtsProgram, TtsVoice, TtsVoiceSpeaker

from .. import __version__
from ..speech.service import SpeechService
from ..voices.voice import Voice

PROGRAM_NAME = "chatterbox"
"""Home Assistant names its entity after it and remembers the server by it, so it never changes."""

_URL = "https://github.com/resemble-ai/chatterbox"


def describe(service: SpeechService) -> Info:
    """Returns the Info event's content; takes microseconds, whatever the model is doing.

    The first program has the voices of all models: Home Assistant looks at no other.
    """
    programs = [_program(PROGRAM_NAME, service.describe(), service.voices, service.streaming)]
    for model in service.further_models:
        programs.append(_program(program_of(model.name), model.description, model.voices, service.streaming))
    return Info(tts=programs)


def program_of(model: str) -> str:
    """Returns the name of the program of a model beside the primary one."""
    return f"{PROGRAM_NAME}-{model}"


def _program(name: str, description: str, voices: Iterable[Voice], streaming: bool) -> TtsProgram:
    return TtsProgram(
        name=name,
        description=description,
        attribution=Attribution(name="Resemble AI", url=_URL),
        installed=True,
        version=__version__,
        voices=_voices(voices),
        supports_synthesize_streaming=streaming,
    )


def _voices(voices: Iterable[Voice]) -> list[TtsVoice]:
    """Each voice once, with its speakers; hidden ones are left out."""
    by_name: dict[str, TtsVoice] = {}
    for voice in voices:
        if voice.hidden:
            continue
        listed = by_name.setdefault(voice.name, _voice(voice))
        if voice.speaker is not None:
            listed.speakers = [*(listed.speakers or ()), TtsVoiceSpeaker(name=voice.speaker)]
    return list(by_name.values())


def _voice(voice: Voice) -> TtsVoice:
    return TtsVoice(
        name=voice.name,
        description=voice.description,
        attribution=Attribution(name=voice.attribution, url=voice.attribution_url),
        installed=True,
        version=__version__,
        languages=list(voice.languages),
    )
