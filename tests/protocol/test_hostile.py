"""What clients can do to a server's memory, its log and its turn, and what it does about it."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
import weakref

import pytest
from wyoming.event import Event

from tests.protocol.raw import line, raw
from wyoming_chatterbox import json_limits
from wyoming_chatterbox.protocol import connection, reader, streaming
from wyoming_chatterbox.testing.engines import BreakingEngine, ToneEngine, model_of
from wyoming_chatterbox.testing.serving import describe, read_answer, running, stream, synthesize


def nested(count: int) -> bytes:
    return b'{"a": [' + b"[]," * count + b"1]}"


@pytest.mark.parametrize("kind", ["synthesize", "ping", "synthesize-start"])
async def test_data_that_would_become_many_values_is_refused_before_it_is_made(kind: str) -> None:
    async with running(model_of(ToneEngine())) as server:
        for data in (nested(300_000), b'{"a":' + b"[" * 20 + b"]" * 20 + b"}"):
            reader, writer = await raw(server)
            writer.write(line(type=kind, data_length=len(data)) + data)
            assert b"is too much: " in await asyncio.wait_for(reader.read(), 10)
            writer.close()


async def test_data_that_nobody_looks_at_is_not_parsed() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        for kind in ("transcribe", "describe"):
            await client.write_event(Event(kind, json.loads(nested(10_000))))
        assert (await describe(client)).type == "info"


async def test_an_event_is_not_kept_while_the_next_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Event]] = []
    read = reader.EventReader.read

    async def watched(self: reader.EventReader) -> Event | None:
        event = await read(self)
        if event is not None:
            alive.append(weakref.ref(event))
        return event

    monkeypatch.setattr(reader.EventReader, "read", watched)
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        await client.write_event(Event("ping", {"text": "x" * 100_000}))
        assert await client.read_event() is not None
        await asyncio.sleep(0.05)
        gc.collect()
        assert [one() for one in alive] == [None]


def test_what_stands_in_a_text_does_not_count() -> None:
    text = '[{"a\\' * 5000 + "," * 20_000
    assert json_limits.parse(json.dumps({"text": text}).encode()) == {"text": text}


async def test_events_without_sense_in_a_loop_end_the_connection() -> None:
    async with running(model_of(ToneEngine())) as server:
        reader, writer = await raw(server)
        writer.write(line(type="synthesize-stop") * 1000)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.count(b"synthesize-stop came without") == connection.MAX_EVENT_FAULTS
        writer.close()


async def test_a_request_after_a_stream_that_failed_and_was_given_up_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "GIVEN_UP_SECONDS", 0.1)
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        await client.write_event(Event("synthesize-start", {"voice": {"name": "nobody"}}))
        assert (await read_answer(client, "audio-stop")).error["code"] == "voice-not-found"
        answer = await synthesize(client, "Hello.")
        assert answer.types == ["synthesize-stopped", "audio-start", "audio-chunk", "audio-stop"]


async def test_the_whole_text_behind_a_stream_that_failed_is_not_spoken() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        answer = await stream(client, ["Hello."], voice="nobody")
        assert answer.types == ["error", "audio-stop", "synthesize-stopped"]
        assert (await synthesize(client, "Next.")).types[-1] == "audio-stop"
    assert engine.texts == ["Next."]


async def test_one_client_does_not_hear_what_another_one_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    engine = BreakingEngine(1, ValueError("cannot break 'my secret'"))
    async with running(model_of(engine)) as server:
        async with server.client() as one, server.client() as two:
            assert "my secret" in (await synthesize(one, "break my secret")).error["text"], "it said so itself"
            description = (await describe(two)).data["tts"][0]["description"]
    assert "failed last: ValueError" in description
    assert "my secret" not in description + caplog.text


async def test_clients_that_do_not_read_hold_no_place() -> None:
    engine = ToneEngine(chunks=200, samples=24000)
    async with running(model_of(engine), max_queue=2) as server:
        sockets = [await raw(server) for _ in range(4)]
        for _, writer in sockets:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(line(type="synthesize", data={"text": "Much audio."}))
        deadline = time.monotonic() + 10
        while len(engine.texts) < 4 or server.server.service.running:
            assert time.monotonic() < deadline, "a client that reads nothing keeps its place"
            await asyncio.sleep(0.02)
        async with server.client() as client:
            await client.write_event(Event("synthesize", {"text": "Hello."}))
            assert (await read_answer(client, "audio-stop")).types[-1] == "audio-stop"
        for _, writer in sockets:
            writer.transport.abort()
