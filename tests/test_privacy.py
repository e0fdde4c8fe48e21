"""What people say is in no line of the log at INFO, whatever goes wrong while it is spoken."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.clients import HTTP, asking, say, talking
from wyoming_chatterbox.engine.base import CancelToken, EngineError, NothingToSay
from wyoming_chatterbox.engine.chatterbox.upstream_stream import wrap_errors
from wyoming_chatterbox.engine.embedded import HibariEngine
from wyoming_chatterbox.engine.system_speech import SystemSpeechEngine
from wyoming_chatterbox.faults import log_fault, without_spoken
from wyoming_chatterbox.speech.model import Model
from wyoming_chatterbox.speech_settings import GenerationSettings
from wyoming_chatterbox.testing.engines import BreakingEngine, ToneEngine, hosted_model, model_of
from wyoming_chatterbox.testing.serving import Running, running, stream, synthesize

SECRET = "kohlrabi"
SETTINGS = GenerationSettings()


@contextlib.contextmanager
def log_at_info() -> Iterator[io.StringIO]:
    """The whole log as the program would write it at --log-level INFO, tracebacks included."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def send(server: Running, *lines: bytes) -> None:
    """Write raw lines to the Wyoming port and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"".join(lines))
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 10)
    writer.close()


def broken_by(error: Exception) -> Model:
    return model_of(BreakingEngine(at=1, error=error))


@pytest.mark.parametrize(
    "error",
    [
        KeyError(SECRET),
        ValueError(f"cannot read {SECRET!r}"),
        UnicodeEncodeError("ascii", SECRET, 0, 1, f"of {SECRET}"),
        NothingToSay("nothing to say in this text"),
        EngineError("out of memory"),
    ],
)
async def test_a_model_that_fails_on_a_text_does_not_log_it(error: Exception) -> None:
    with log_at_info() as log:
        for fallback in (None, model_of(ToneEngine(model="embedded"))):
            async with running(broken_by(error), fallback) as server, server.client() as client:
                await synthesize(client, f"They break the {SECRET}.")
                await stream(client, ["They break", f" the {SECRET}. ", "And then?"])
    assert "Utterance" in log.getvalue()
    assert SECRET not in log.getvalue()


async def test_what_the_embedded_voice_cannot_speak_is_not_logged() -> None:
    model = hosted_model("embedded", (), lambda spec, report, cancel: HibariEngine())
    with log_at_info() as log:
        async with running(model) as server, server.client() as client:
            for text in ("你好秘密", "...", "[]()", "\u200b", "<think>秘密"):
                await synthesize(client, text)
    assert "found nothing to say in this text" in log.getvalue()
    assert "秘密" not in log.getvalue()


async def test_malformed_wyoming_events_do_not_log_their_text() -> None:
    data = json.dumps({"text": SECRET})[:-1].encode()
    with log_at_info() as log:
        async with running(model_of(ToneEngine()), max_text_chars=100) as server:
            await send(server, b'{"type": "synthesize", "data": {"text": "' + SECRET.encode() + b'"}\n')
            await send(server, b'{"data": {"text": "' + SECRET.encode() + b'"}}\n')
            await send(server, b'["' + SECRET.encode() + b'"]\n')
            await send(server, b'{"type": "synthesize", "data_length": %d}\n' % len(data), data)
            await send(server, b'{"type": "synthesize", "data": {"text": ["' + SECRET.encode() + b'"]}}\n')
            await send(server, b'{"type": "synthesize", "data": {"text": "x", "voice": "v", "t": "kohlrabi"}}\n')
            await send(server, b'{"type": "synthesize-start"}\n{"type": "synthesize-chunk", "data": {"text": {"a": "')
            async with server.client() as client:
                await synthesize(client, f"{SECRET} " * 100)
    assert log.getvalue().count("\n") >= 5
    assert SECRET not in log.getvalue()


async def test_malformed_http_requests_do_not_log_their_text() -> None:
    with log_at_info() as log:
        async with running(broken_by(KeyError(SECRET)), http_uri=HTTP) as server:
            async with asking(server) as client:
                for body in ({"input": [SECRET]}, {"text": SECRET}, {"input": f"break {SECRET}"}):
                    await client.post("/v1/audio/speech", json=body)
                await client.post("/v1/audio/speech", content=b'{"input": "' + SECRET.encode())
            async with talking(server) as socket:
                await say(socket, type="start", text=[SECRET])
                await say(socket, type="text", text={"a": SECRET})
                await say(socket, type="text", txt=SECRET)
                await say(socket, type="start", text=f"They break {SECRET}.")
                await asyncio.sleep(0.2)
    assert "WebSocket" in log.getvalue()
    assert SECRET not in log.getvalue()


def test_errors_of_libraries_and_programs_do_not_repeat_the_text(tmp_path: Path) -> None:
    engine = HibariEngine()

    def fails(text: str, seed: int | None) -> None:
        raise KeyError(text.split()[-1])

    engine._tts.stream = fails
    with pytest.raises(EngineError, match="failed on this text") as caught:
        list(engine.generate_stream(f"The {SECRET}", engine.voices[0], SETTINGS, CancelToken()))
    assert SECRET not in str(caught.value)

    program = tmp_path / "espeak-ng"
    program.write_text('#!/bin/sh\ncat "$2" >&2; exit 3\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    system = SystemSpeechEngine.__new__(SystemSpeechEngine)
    system._program, system._path = "espeak-ng", str(program)
    with pytest.raises(EngineError, match="failed with status 3") as caught:
        system._run(f"The {SECRET}", CancelToken())
    assert SECRET not in str(caught.value)

    pytest.importorskip("torch")
    with pytest.raises(EngineError, match="failed on this text") as caught, wrap_errors(f"The {SECRET}"):
        raise ValueError(f"no token for {SECRET}")
    assert SECRET not in str(caught.value)


def test_a_detail_is_shown_unless_it_repeats_the_text() -> None:
    assert without_spoken("no kernel image", "Turn on the light.") == "no kernel image"
    assert "DEBUG" in without_spoken("KeyError: 4711", "The code is 4711.")
    assert "DEBUG" in without_spoken("KeyError: KOHLRABI", "Kohlrabi!")


def test_a_fault_shows_where_it_was_raised_and_its_messages_only_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("wyoming_chatterbox.test")

    def fail() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise RuntimeError(f"{SECRET} is missing") from error

    for level in (logging.INFO, logging.DEBUG):
        caplog.clear()
        with caplog.at_level(level):
            try:
                fail()
            except RuntimeError as error:
                log_fault(logger, error, "Utterance %d broke", 7)
        assert "Utterance 7 broke\n" in caplog.text
        assert "in fail" in caplog.text and "KeyError\nwhich led to\n" in caplog.text
        assert (f"{SECRET} is missing" in caplog.text.split("The same with")[-1]) == (level == logging.DEBUG)
