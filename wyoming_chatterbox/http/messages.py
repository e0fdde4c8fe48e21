"""The messages of WS /ws/stream/audio: their JSON schema in docs/websocket.md is made of these models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from ..limits import MAX_NAME_CHARS
from .schemas import ResponseFormat, SpeechSettings, Strict, VoiceItem

Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
"""The client's own name for an utterance; it comes back in everything that is said about it."""


class Start(SpeechSettings):
    """Speak an utterance: a whole text, or one that follows in `text` messages."""

    type: Literal["start"]
    text: str | None = Field(None, description="All of the text. Absent: it follows in `text` messages, until `end`")
    voice: str | None = Field(None, max_length=MAX_NAME_CHARS, description="Default: the server's voice")
    language: str | None = Field(
        None, max_length=MAX_NAME_CHARS, description="Where no voice is named: the first one that speaks it"
    )
    speaker: str | None = Field(None, max_length=MAX_NAME_CHARS, description="Of a voice that has several")
    response_format: ResponseFormat | None = Field(None, description="Default: pcm")
    id: Id | None = None


class Text(Strict):
    """More of the text of the last `start`, which had none."""

    type: Literal["text"]
    text: str


class End(Strict):
    """That text is complete."""

    type: Literal["end"]


class CancelUtterance(Strict):
    """Stop an utterance: the one that is spoken, or the one of this id. What is over already stays as it is."""

    type: Literal["cancel"]
    id: Id | None = None


class Ping(Strict):
    """Ask for a `pong`."""

    type: Literal["ping"]


ClientMessage = Annotated[Start | Text | End | CancelUtterance | Ping, Field(discriminator="type")]


class Connected(BaseModel):
    """The first message: who is there."""

    type: Literal["connected"] = "connected"
    connection_id: str
    model: str
    status: str = Field(description="What the model is doing, in words")
    voices: list[VoiceItem]
    sample_rate: int


class Format(BaseModel):
    """What the binary frames hold, put together: PCM, or the bytes of a file in that format."""

    encoding: Literal["pcm_s16le", "wav", "mp3", "opus", "flac", "aac"]
    sample_rate: int
    channels: Literal[1] = 1


class Started(BaseModel):
    """The first audio of an utterance is about to come."""

    type: Literal["started"] = "started"
    utterance: int = Field(description="Its number in the server's log")
    id: str | None
    model: str
    voice: str
    fallback: bool = Field(description="The voice is not the one asked for: its model cannot speak now")
    format: Format


class Chunk(BaseModel):
    """Says what the binary frame behind it holds."""

    type: Literal["chunk"] = "chunk"
    index: int = Field(ge=0)
    bytes: int = Field(ge=1)
    samples: int = Field(ge=0, description="Samples that went into it; what a format keeps back comes later")
    offset: float = Field(ge=0, description="Seconds of audio before it")
    made: float = Field(ge=0, description="Seconds from the start message to when its last sample was made")
    sent: float = Field(ge=0, description="Seconds from the start message to when it was given to the socket")
    voice: str
    fallback: bool
    cached: bool = Field(description="It comes from the cache")


class Metrics(BaseModel):
    """The last message of an utterance, whatever became of it. Times are in seconds."""

    type: Literal["metrics"] = "metrics"
    utterance: int
    id: str | None
    outcome: str = Field(description="finished, cancelled, or the code of the error")
    first_audio: float | None = Field(description="From the start message to the first frame given to the socket")
    first_chunk: float | None = Field(description="From the engine's start on the first sentence to its first chunk")
    rtf: float | None = Field(description="Generation time / audio duration")
    chunks: int = Field(description="Frames sent")
    sentences: int
    chars: int = Field(description="Characters given to the engine, after cleaning")
    audio_duration: float = Field(description="Of what was sent")
    generation_time: float = Field(description="Time the engine worked")
    total_time: float = Field(description="From the start message to this one")
    model: str
    voice: str
    fallback: bool
    cached: bool = Field(description="All of it came from the cache")


class Failed(BaseModel):
    """Something could not be done. About an utterance it comes before its `metrics`."""

    type: Literal["error"] = "error"
    code: str
    message: str
    id: str | None = None


class Pong(BaseModel):
    """The answer to `ping`."""

    type: Literal["pong"] = "pong"


ServerMessage = Annotated[
    Connected | Started | Chunk | Metrics | Failed | Pong,
    Field(discriminator="type"),
]

CLIENT: TypeAdapter[Start | Text | End | CancelUtterance | Ping] = TypeAdapter(ClientMessage)
SERVER: TypeAdapter[Connected | Started | Chunk | Metrics | Failed | Pong] = TypeAdapter(ServerMessage)


def schemas() -> dict[str, Any]:
    """Returns the JSON schemas of both directions."""
    return {
        "client": CLIENT.json_schema(),
        "server": SERVER.json_schema(mode="serialization"),
    }
