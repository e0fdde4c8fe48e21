"""Who is served where more connect than may: who asks for something comes before who holds what it does not use."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from wyoming.event import Event, async_read_event

from tests.protocol.raw import line, raw, raw_clients
from wyoming_chatterbox.healthcheck import check
from wyoming_chatterbox.protocol import pool
from wyoming_chatterbox.testing.engines import SlowEngine, ToneEngine, model_of
from wyoming_chatterbox.testing.serving import describe, read_answer, running, stream, synthesize


async def test_more_clients_with_requests_than_allowed_are_told_so_and_may_still_ask_what_the_server_is() -> None:
    async with running(model_of(SlowEngine(seconds=0.02, chunks=50)), max_connections=2) as server:
        async with server.client() as one, server.client() as two:
            speaking = [asyncio.create_task(synthesize(client, "A long text.")) for client in (one, two)]
            await asyncio.sleep(0.1)
            async with server.client() as three:
                assert (await describe(three)).type == "info"
                refused = await synthesize(three, "Hello.")
                assert refused.types == ["error", "audio-stop"]
                assert refused.error["code"] == "server-busy"
                for answer in speaking:
                    assert (await answer).types == ["audio-start", "audio-chunk", "audio-stop"]


async def test_the_client_that_was_idle_for_longest_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_IDLE_BEFORE_EVICTION", 0.3)
    async with running(model_of(ToneEngine()), max_connections=2) as server:
        async with server.client() as one, server.client() as two:
            for client in (two, one):
                assert (await synthesize(client, "Hello.")).types[-1] == "audio-stop"
            async with server.client() as three:
                assert (await describe(three)).type == "info"
                assert (await describe(two)).type == "info", "it asked a moment ago, and may ask again"
            await asyncio.sleep(0.4)
            for client in (one, two):
                assert (await describe(client)).type == "info"
            reader, writer = await raw(server)
            writer.write(b'{"type": "desc')
            assert (await read_answer(two, "error")).error["code"] == "server-busy"
            assert await two.read_event() is None
            assert (await describe(one)).type == "info"
            await asyncio.sleep(0.4)
            async with server.client() as four:
                assert (await describe(four)).type == "info"
                writer.write(b'ribe"}\n')
                event = await asyncio.wait_for(async_read_event(reader), 5)
                assert event is not None and event.type == "info", "it was in the middle of an event"
            writer.close()


async def test_a_burst_of_clients_leaves_no_socket_behind() -> None:
    async with running(model_of(ToneEngine()), max_connections=4) as server:
        opened = await asyncio.gather(*(raw(server) for _ in range(60)))
        most = 4 + pool.SPARE_CONNECTIONS
        reading = [asyncio.create_task(reader.read()) for reader, _ in opened]

        async def enough_ended() -> None:
            while sum(task.done() for task in reading) < 60 - most:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(enough_ended(), 20)  # which of them depends on the order in which they are accepted
        ended = [task.result() for task in reading if task.done()]
        assert all(b"server-busy" in answer for answer in ended), "everyone is told, none is left hanging"
        for task in reading:
            task.cancel()
        for _, writer in opened:
            writer.close()
        await asyncio.sleep(0.2)
        assert not len(server.server.wyoming.connections)


@pytest.mark.parametrize(
    "sent",
    [b"", line(type="ping") * 3, line(type="synthesize-start"), b'{"type": "desc'],
    ids=["silent", "pinging", "a-stream-without-text", "half-an-event"],
)
async def test_clients_that_want_nothing_lock_nobody_out(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_IDLE_BEFORE_EVICTION", 0.1)
    async with running(model_of(ToneEngine()), max_connections=4) as server:
        async with raw_clients(server, 40, sent):
            await asyncio.sleep(0.2)
            async with server.client() as client:
                assert (await describe(client)).type == "info"
                assert (await stream(client, ["Hello."])).types[-1] == "synthesize-stopped"


async def test_the_health_check_gets_in_while_clients_open_connections_in_a_loop() -> None:
    async with running(model_of(ToneEngine()), max_connections=4) as server:
        storming = True

        async def storm() -> None:
            while storming:
                async with raw_clients(server, 10, line(type="ping")):
                    await asyncio.sleep(0)

        task = asyncio.create_task(storm())
        try:
            for _ in range(10):
                said = await asyncio.to_thread(check, f"tcp://127.0.0.1:{server.port}", 5.0)
                assert said.startswith("chatterbox ")
        finally:
            storming = False
            await task


async def test_an_address_with_most_of_the_connections_makes_room_before_others() -> None:
    async with running(model_of(ToneEngine()), max_connections=8, uri=("tcp://0.0.0.0:0",)) as server:
        async with server.client() as idle:
            assert (await synthesize(idle, "Hello.")).types[-1] == "audio-stop"
            await asyncio.sleep(0.01)
            async with raw_clients(server, 60, line(type="synthesize-start"), source="127.0.0.2"):
                await asyncio.sleep(0.1)
                assert (await describe(idle)).type == "info", "it has been idle for longest, but is one of one"


async def test_clients_that_do_not_take_their_audio_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wyoming_chatterbox.protocol.connection.STALLED_SECONDS", 0.2)
    monkeypatch.setattr(pool, "MIN_IDLE_BEFORE_EVICTION", 0.1)
    engine = ToneEngine(chunks=300, samples=24000)
    async with running(model_of(engine), max_connections=3) as server:
        async with raw_clients(server, 3, line(type="synthesize", data={"text": "Much audio."}), window=4096):
            while len(engine.texts) < 3 or server.server.service.running:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.4)
            async with server.client() as client:
                await client.write_event(Event("synthesize", {"text": "Hello."}))
                assert (await read_answer(client, "audio-stop")).types[-1] == "audio-stop"


async def test_a_stream_that_is_answered_makes_room_for_nobody() -> None:
    engine = SlowEngine(seconds=0.02, chunks=60)
    async with running(model_of(engine), max_connections=1) as server, server.client() as client:
        asking = asyncio.create_task(stream(client, ["A long answer."]))
        while not engine.made:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        with contextlib.suppress(OSError):
            async with raw_clients(server, 40, line(type="synthesize", data={"text": "Me, too."})):
                answer = await asking
        assert answer.types == ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
        assert time.monotonic() - started < 20
