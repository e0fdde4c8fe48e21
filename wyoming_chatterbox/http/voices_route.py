"""Putting reference clips among the voices, and taking them away: only with a token."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, UploadFile

from ..limits import FOLDER_SECONDS, MAX_CLIP_BYTES, MAX_CONFIG_CHARS, MAX_NAME_CHARS
from ..settings import CLONING_MODELS
from ..speech.errors import VoiceNotFound
from ..voices.errors import VoiceError
from ..voices.files import FORMATS
from ..voices.library import VoiceLibrary
from ..voices.names import name_key
from .errors import BodyTooLarge, CannotClone, InvalidVoice, VoicesUnavailable
from .models_route import voice_item
from .schemas import ErrorBody, VoiceAdded, VoiceRemoved
from .state import EdgeState, State

_LOGGER = logging.getLogger(__name__)

router = APIRouter()

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 408, 409, 413, 503)
}
_Name = Annotated[str, Form(min_length=1, max_length=MAX_NAME_CHARS, description="Of the voice; its file is named so")]
_Clip = Annotated[UploadFile, File(description=f"5 to 15 seconds of clear speech; {FORMATS}")]
_Manner = Annotated[str, Form(max_length=MAX_CONFIG_CHARS, description="The voice's settings, as in NAME.yaml")]
_Replace = Annotated[bool, Form(description="Whether a voice of that name may be replaced")]


@router.post("/v1/audio/voices", status_code=201, responses=_ERRORS)
async def add_voice(
    state: State, name: _Name, file: _Clip, manner: _Manner = "", replace: _Replace = False
) -> VoiceAdded:
    """A voice of its own from a reference clip. It can be asked for when this is answered."""
    library = _library(state)
    if file.size is not None and file.size > MAX_CLIP_BYTES:
        raise BodyTooLarge(f"The clip is longer than {MAX_CLIP_BYTES} bytes")
    suffix = os.path.splitext(file.filename or "")[1].lower() or ".wav"
    clip = await file.read()
    try:
        adding = functools.partial(library.add, name, clip, suffix, config=manner, replace=replace)
        voice, warnings = await state.uploads.run(adding, timeout=FOLDER_SECONDS)
    except asyncio.TimeoutError:
        raise _unavailable() from None
    except VoiceError as error:
        raise InvalidVoice(str(error)) from None
    _LOGGER.info("Voice %r was added by a client", voice.name)
    return VoiceAdded(voice=voice_item(voice), warnings=list(warnings))


@router.delete("/v1/audio/voices/{name}", responses=_ERRORS)
async def remove_voice(state: State, name: Annotated[str, Path(max_length=MAX_NAME_CHARS)]) -> VoiceRemoved:
    """Delete a voice's files."""
    library = _library(state)
    if not any(name_key(voice.name) == name_key(name) for voice in library.voices):
        raise VoiceNotFound(f"There is no cloned voice {name!r}")
    try:
        removed = await state.uploads.run(library.remove, name, timeout=FOLDER_SECONDS)
    except asyncio.TimeoutError:
        raise _unavailable() from None
    except VoiceError as error:
        raise InvalidVoice(str(error)) from None
    _LOGGER.info("Voice %r was deleted by a client", name)
    return VoiceRemoved(deleted=[path.name for path in removed])


def _library(state: EdgeState) -> VoiceLibrary:
    if state.library is None:
        raise CannotClone(f"The model of this server clones no voices; start it with --model {CLONING_MODELS[0]}")
    return state.library


def _unavailable() -> VoicesUnavailable:
    return VoicesUnavailable(f"The folder of voices did not answer within {FOLDER_SECONDS:g} s; is its disk there?")
