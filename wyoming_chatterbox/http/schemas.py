"""What clients send and get, as pydantic models: the OpenAPI and the JSON schema of the messages are made of them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from ..knobs import UNSUPPORTED, Knob
from ..limits import MAX_INSTRUCTIONS_CHARS, MAX_NAME_CHARS
from ..speech_settings import utterance_knobs

_MISSPELT = 0.85
"""How like a field's name another one must be to be taken for its misspelling: "exagerration" is one, at 0.92; "stream"
(0.63 of "stream_format"), "speaker_id" (0.82) and "language_id" (0.84) are fields of other servers."""


def _small_letters(value: object) -> object:
    """MP3 is mp3."""
    return value.casefold() if isinstance(value, str) else value


ResponseFormat = Annotated[Literal["wav", "pcm", "mp3", "opus", "flac", "aac"], BeforeValidator(_small_letters)]
StreamFormat = Annotated[Literal["audio", "sse"], BeforeValidator(_small_letters)]

KNOBS = {knob.name: knob for knob in utterance_knobs()}
"""What a request may set for its utterance."""


def _schema(knob: Knob) -> dict[str, Any]:
    """Bounds for the JSON schema. They are checked by the settings alone, whose errors name what is allowed."""
    if knob.minimum is None or knob.maximum is None:
        return {}
    if knob.nonzero_minimum is not None:
        return {"anyOf": [{"const": 0}, {"minimum": knob.nonzero_minimum, "maximum": knob.maximum}, {"type": "null"}]}
    return {"minimum": knob.minimum, "maximum": knob.maximum}


def _field(knob: Knob) -> Any:
    unit = f", in {knob.unit}" if knob.unit else ""
    return Field(None, description=f"{knob.help}{unit}. Default: the voice's, else the server's", title=knob.name)


def _whole(value: object) -> object:
    """30.0 is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _narrowed(schema: dict[str, Any]) -> None:
    """Add every setting's bounds to a model's JSON schema."""
    for name, knob in KNOBS.items():
        if name in schema.get("properties", {}):
            schema["properties"][name].update(_bounded(schema["properties"][name], _schema(knob)))


def _bounded(declared: dict[str, Any], bounds: dict[str, Any]) -> dict[str, Any]:
    kind = next(bound["type"] for bound in declared["anyOf"] if bound["type"] != "null")
    if "anyOf" in bounds:
        return {"anyOf": [{"type": kind, **bound} if "type" not in bound else bound for bound in bounds["anyOf"]]}
    return {"anyOf": [{"type": kind, **bounds}, {"type": "null"}]}


Whole = Annotated[int, BeforeValidator(_whole)]


class Strict(BaseModel):
    """Of what clients send: no guessing, nothing unknown."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra=_narrowed)


class _SpeechSettings(Strict):
    """What a request may set for its utterance."""

    def overrides(self) -> dict[str, object]:
        """Returns the settings that are not null, by the name of the knob."""
        return {name: value for name in KNOBS if (value := getattr(self, name)) is not None}


_TYPES: dict[type, Any] = {int: Whole, float: float, bool: bool}
"""By a knob's kind: the type of its field."""

if TYPE_CHECKING:
    SpeechSettings = _SpeechSettings
else:
    SpeechSettings = create_model(
        "SpeechSettings",
        __base__=_SpeechSettings,
        __module__=__name__,
        **{name: (_TYPES[knob.kind] | None, _field(knob)) for name, knob in KNOBS.items()},
    )


class VoiceReference(BaseModel):
    """A voice by its id, as OpenAI's clients may name one; ids are names here."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str = Field(max_length=MAX_NAME_CHARS)


def _narrowed_and_open(schema: dict[str, Any]) -> None:
    """Add the bounds, and that other fields are ignored."""
    _narrowed(schema)
    schema.pop("additionalProperties", None)


class SpeechBody(SpeechSettings):
    """OpenAI's "create speech", and what Chatterbox has beside it. null is the default of every field but `input`.

    Fields of other servers are ignored. One whose name is almost that of a field here, or is a setting that Chatterbox
    does not let anybody choose, is refused.
    """

    model_config = ConfigDict(json_schema_extra=_narrowed_and_open)

    input: str = Field(min_length=1, description="The text to speak")
    model: str | None = Field(
        None,
        max_length=MAX_NAME_CHARS,
        description="A model of GET /v1/models. By any other name: whatever the server speaks with, which X-Model says",
    )
    voice: Annotated[str, Field(max_length=MAX_NAME_CHARS)] | VoiceReference | None = Field(
        None,
        description="A voice of GET /v1/audio/voices. OpenAI's names (alloy, nova, …) and none are the default voice",
    )
    language: str | None = Field(
        None, max_length=MAX_NAME_CHARS, description="Where no voice is named: the first one that speaks it, as en-US"
    )
    speaker: str | None = Field(None, max_length=MAX_NAME_CHARS, description="Of a voice that has several")
    response_format: ResponseFormat | None = Field(
        None, description="Default: mp3, as OpenAI's; wav for /audio/speech/stream"
    )
    stream_format: StreamFormat | None = Field(
        None,
        description="The audio itself (audio, the default), or server-sent events (sse) with pieces of it in base64",
    )
    speed: float | None = Field(
        None,
        ge=0.25,
        le=4.0,
        description="Tempo of what was spoken, at the same pitch; the model has no rate of its own. Default: 1",
    )
    instructions: str | None = Field(
        None,
        max_length=MAX_INSTRUCTIONS_CHARS,
        description="Accepted for OpenAI's clients, without effect: Chatterbox takes none. See exaggeration",
    )

    @model_validator(mode="before")
    @classmethod
    def _ignore_fields_of_others(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if name in cls.model_fields or _is_mistaken(name)}


def _is_mistaken(name: str) -> bool:
    """Returns True if ignoring an unknown field would hide a mistake: it is misspelt, or cannot be chosen."""
    close = difflib.get_close_matches(name[:MAX_NAME_CHARS], SpeechBody.model_fields, n=1, cutoff=_MISSPELT)
    return name in UNSUPPORTED or bool(close)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str = Field(description="One of the codes of docs/http.md")


class ErrorBody(BaseModel):
    """Every answer with a status of 400 or more."""

    error: ErrorDetail


class VoiceItem(BaseModel):
    """One voice."""

    id: str
    name: str
    description: str
    languages: list[str]
    model: str
    default: bool
    speakers: list[str]
    attribution: str
    licence: str
    settings: list[str] = Field(description="The settings of an utterance that this voice's model follows")


class VoiceList(BaseModel):
    """All voices, the model's first."""

    voices: list[VoiceItem]


class VoiceAdded(BaseModel):
    """A voice that was added, and what could be better about its clip."""

    voice: VoiceItem
    warnings: list[str]


class VoiceRemoved(BaseModel):
    """The files that were deleted."""

    deleted: list[str]


class ModelVoice(BaseModel):
    """A voice as some clients read it from a model."""

    name: str
    language: str


class ModelItem(BaseModel):
    """A model in OpenAI's shape; its voices are ours."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    voices: list[ModelVoice]


class ModelList(BaseModel):
    """All models, and the names under which OpenAI's clients ask for them."""

    object: Literal["list"] = "list"
    data: list[ModelItem]


class AudioModelList(ModelList):
    """The same models twice: where OpenAI's clients look for them, and where Open WebUI's does."""

    models: list[ModelItem]


class SettingItem(BaseModel):
    """One setting that an utterance may bring."""

    name: str
    help: str
    kind: Literal["float", "int", "bool"]
    unit: str
    minimum: float | None
    maximum: float | None
    default: float | bool
    allowed: str
    upstream_only: bool = Field(description="Has an effect with --decoder upstream alone")


class Health(BaseModel):
    """Whether a request would be spoken now."""

    model: str
    state: Literal["waiting", "downloading", "loading", "warming", "ready", "unloaded", "failed"]
    progress: float | None = Field(description="Share of the download that is done, 0 to 1")
    speaks: str | None = Field(description="The model that would answer; null: none can")
    status: str = Field(description="The same in words")
    stopping: bool
