"""`wyoming-chatterbox voices preview`: what a voice sounds like, spoken by the model itself."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
import wave
from contextlib import aclosing
from pathlib import Path
from typing import Any

from ..audio import CHANNELS, SAMPLE_WIDTH
from ..blocking import run_blocking
from ..engine.registry import create_library
from ..model_factory import create_catalog
from ..settings import CLONING_MODELS, Settings
from ..speech.errors import SpeechError
from ..speech.model import Model
from ..speech.request import SpeechRequest
from ..speech.service import SpeechService
from ..timeouts import wait_for
from ..voices.errors import VoiceError
from .output import Output

_LOOK_SECONDS = 0.2
_JOIN_SECONDS = 5.0


def preview(name: str, output: Path, text: str, settings: Settings, screen: Output) -> int:
    """Write a WAV file with some words in a voice; the exit status.

    Raises:
        SettingsError: the model's packages are not here.
        VoiceError: the voice cannot be spoken, or the file not written.
    """
    if not output.absolute().parent.is_dir():
        raise VoiceError(f"{output}: there is no directory {output.parent}; make it, or name another file")
    model = settings.models[0] if settings.models[0] in CLONING_MODELS else CLONING_MODELS[0]
    # Nobody is helped by hearing the embedded voice, or what was said before.
    settings = dataclasses.replace(settings, model=model, fallback=False, cache_size=0)
    screen.spoken(asyncio.run(_preview(name, output, text, settings, screen)))
    return 0


async def _preview(name: str, output: Path, text: str, settings: Settings, screen: Output) -> dict[str, Any]:
    library = create_library(settings.voice_folders, settings.reference_clip, settings.models, settings.house_languages)
    library.scan(patient=False)  # nothing else happens in this loop yet
    models = create_catalog(settings)
    model = models.primary
    model.set_cloned_voices([voice for voice in library.voices if voice.model == model.name])
    service = SpeechService(settings, models)
    try:
        request = SpeechRequest(service.whole_text(text), voice=name)
        service.resolve_voice(request)  # before gigabytes are loaded
        await _load(model, screen)
        return await _speak(service, request, output, screen)
    except SpeechError as error:
        raise VoiceError(str(error)) from None
    finally:
        await model.close()
        await run_blocking(model.join, _JOIN_SECONDS, timeout=None)


async def _load(model: Model, screen: Output) -> None:
    loading = asyncio.create_task(model.load())
    with screen.working(f"Model {model.name}") as say:
        while not model.ready:
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(_LOOK_SECONDS, model.wait_until_decided())
            say(f"Model {model.name}: {model.status}")
            if loading.done() or model.status.error:
                break
    if not model.ready:
        loading.cancel()
        raise VoiceError(f"model {model.name} cannot speak: {model.status.error}")


async def _speak(service: SpeechService, request: SpeechRequest, output: Path, screen: Output) -> dict[str, Any]:
    started = time.perf_counter()
    first: float | None = None
    pcm = b""
    spoken_by = None
    with screen.working("Speaking") as say:
        async with aclosing(service.speak(request).chunks()) as pieces:
            async for piece in pieces:
                first = time.perf_counter() - started if first is None else first
                pcm += piece.pcm
                spoken_by = piece.voice
                say(f"Speaking: {len(pcm) / SAMPLE_WIDTH / service.sample_rate:.1f} s")
    if spoken_by is None:
        raise VoiceError("there is nothing to say in this text; give one with --text")
    seconds = len(pcm) / (SAMPLE_WIDTH * CHANNELS * service.sample_rate)
    try:
        with wave.open(str(output), "wb") as file:
            file.setnchannels(CHANNELS)
            file.setsampwidth(SAMPLE_WIDTH)
            file.setframerate(service.sample_rate)
            file.writeframes(pcm)
    except OSError as error:
        raise VoiceError(f"{output} cannot be written: {error.strerror}") from error
    return {
        "voice": spoken_by.name,
        "model": spoken_by.model,
        "file": str(output),
        "seconds": round(seconds, 2),
        "first_audio": round(first or 0.0, 3),
        "rtf": round((time.perf_counter() - started) / seconds, 3),
    }
