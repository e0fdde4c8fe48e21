"""What goes wrong on a connection, and that every time the client is told and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from wyoming.event import Event, async_read_event

from tests.protocol.raw import line, raw
from wyoming_chatterbox.testing.engines import BreakingEngine, SlowEngine, ToneEngine, model_of
from wyoming_chatterbox.testing.serving import Running, describe, read_answer, running, stream, synthesize


async def settle(server: Running, seconds: float = 2.0) -> None:
    """Wait until nothing is spoken any more."""
    deadline = time.monotonic() + seconds
    while server.server.service.running:
        assert time.monotonic() < deadline, "a request still has its place in the queue"
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("at", [1, 2])
async def test_an_engine_that_fails_ends_the_request_with_an_error_and_the_stop_events(at: int) -> None:
    async with running(model_of(BreakingEngine(at))) as server:
        async with server.client() as client:
            plain = await synthesize(client, "Please break now.")
            assert plain.error == {"text": "Model breaking failed: out of memory", "code": "engine-failed"}
            assert plain.types[-2:] == ["error", "audio-stop"]
            streamed = await stream(client, ["Fine so far. ", "Please break", " now."])
            assert streamed.error["code"] == "engine-failed"
            assert streamed.types[-3:] == ["error", "audio-stop", "synthesize-stopped"]
            assert (await synthesize(client, "All is well.")).types == ["audio-start", "audio-chunk", "audio-stop"]
        await settle(server)


async def test_an_engine_with_a_bug_ends_the_request_as_one_that_fails() -> None:
    engine = BreakingEngine(1, ZeroDivisionError("division by zero"))
    async with running(model_of(engine)) as server, server.client() as client:
        answer = await synthesize(client, "Please break now.")
    assert answer.error == {"text": "Model breaking failed: division by zero", "code": "engine-failed"}
    assert answer.types == ["error", "audio-stop"]


async def test_a_client_that_leaves_stops_its_work_and_frees_its_place() -> None:
    engine = SlowEngine(seconds=1.5)
    async with running(model_of(engine)) as server:
        client = server.client()
        await client.connect()
        await client.write_event(Event("synthesize", {"text": "A very long answer."}))
        while (event := await client.read_event()) and event.type != "audio-chunk":
            pass
        left = time.monotonic()
        await client.disconnect()
        await settle(server)
        while engine.stopped_at is None:
            await asyncio.sleep(0.001)
        assert engine.stopped_at - left < 0.7, "it stopped inside the chunk, which takes 1.5 s"
        async with server.client() as other:
            assert (await describe(other)).type == "info"


async def test_a_client_that_leaves_while_it_waits_is_never_spoken_for() -> None:
    engine = SlowEngine(seconds=0.05, chunks=6)
    async with running(model_of(engine)) as server, server.client() as first:
        answer = asyncio.create_task(synthesize(first, "The first one."))
        await asyncio.sleep(0.05)
        second = server.client()
        await second.connect()
        await second.write_event(Event("synthesize", {"text": "The second one."}))
        await asyncio.sleep(0.05)
        assert server.server.service.running == 2
        await second.disconnect()
        await answer
        await settle(server)
    assert engine.texts == ["The first one."]


async def test_requests_on_a_busy_connection_are_answered_in_their_order() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        for number in range(5):
            await client.write_event(Event("synthesize", {"text": f"Request {number}."}))
        for _ in range(5):
            assert (await read_answer(client, "audio-stop")).types == ["audio-start", "audio-chunk", "audio-stop"]
    assert engine.texts == [f"Request {number}." for number in range(5)]


async def test_more_requests_than_may_wait_on_a_connection_are_refused_one_by_one() -> None:
    async with running(model_of(SlowEngine(seconds=0.002, chunks=5))) as server, server.client() as client:
        for number in range(20):
            await client.write_event(Event("synthesize", {"text": f"Request {number}."}))
        answers = [await read_answer(client, "audio-stop") for _ in range(20)]
    refused = [answer.error["code"] for answer in answers if "error" in answer.types]
    assert refused == ["server-busy"] * 4, "16 may wait"


async def test_more_utterances_than_may_wait_are_refused() -> None:
    async with running(model_of(SlowEngine(seconds=0.05, chunks=30)), max_queue=1) as server:
        async with server.client() as one, server.client() as two:
            first = asyncio.create_task(synthesize(one, "The first."))
            await asyncio.sleep(0.1)
            second = await stream(two, ["The second."])
            assert second.error["code"] == "server-busy"
            assert second.types == ["error", "audio-stop", "synthesize-stopped"]
            assert (await first).types[-1] == "audio-stop"
            assert (await synthesize(two, "The third.")).types == ["audio-start", "audio-chunk", "audio-stop"]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"text": "Hi.", "voice": {"name": "tonne"}}, "voice-not-found"),
        ({"text": "Hi.", "voice": {"name": "tone", "speaker": "bob"}}, "voice-not-found"),
        ({"text": "Hi.", "voice": {"language": "de"}}, "voice-not-found"),
        ({"text": "Hi.", "voice": "tone"}, "invalid-event"),
        ({"text": "Hi.", "voice": {"name": ["tone"]}}, "invalid-event"),
        ({"text": 5}, "invalid-event"),
        ({}, "empty-text"),
        ({"text": "x" * 20_001}, "text-too-long"),
        ({"text": "Hi.", "text_format": "markdown"}, "unsupported-text-format"),
    ],
)
async def test_a_request_that_cannot_be_answered_gets_its_code_and_the_connection_lives(
    data: dict[str, Any], code: str
) -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        await client.write_event(Event("synthesize", data))
        answer = await read_answer(client, "audio-stop")
        assert answer.types == ["error", "audio-stop"]
        assert answer.error["code"] == code
        assert answer.seconds < 2
        assert (await synthesize(client, "Hello.")).types == ["audio-start", "audio-chunk", "audio-stop"]


async def test_an_unknown_voice_is_answered_with_the_near_names() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        answer = await stream(client, ["Hello."], voice="tonne")
    assert answer.error["text"] == "There is no voice 'tonne'; similar names: tone"
    assert answer.types == ["error", "audio-stop", "synthesize-stopped"]


async def test_a_streamed_text_that_grows_too_long_ends_with_an_error_and_the_stop_events() -> None:
    async with running(model_of(ToneEngine()), max_text_chars=100) as server, server.client() as client:
        answer = await stream(client, ["Some words. "] * 20)
        assert answer.error["code"] == "text-too-long"
        assert answer.types[-3:] == ["error", "audio-stop", "synthesize-stopped"]


async def test_a_chunk_whose_text_is_no_string_ends_its_stream() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        await client.write_event(Event("synthesize-start", {}))
        await client.write_event(Event("synthesize-chunk", {"text": None}))
        assert (await read_answer(client, "audio-stop")).error["code"] == "invalid-event"
        await client.write_event(Event("synthesize-stop", {}))
        assert (await read_answer(client, "synthesize-stopped")).types == ["synthesize-stopped"]


@pytest.mark.parametrize("name", ["synthesize-chunk", "synthesize-stop"])
async def test_stream_events_without_a_stream_are_refused(name: str) -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        await client.write_event(Event(name, {"text": "Hi."}))
        assert (await read_answer(client, "error")).error["code"] == "invalid-event"
        assert (await stream(client, ["Hello."])).types[-1] == "synthesize-stopped"


async def test_a_second_start_inside_a_stream_ends_it_with_an_error_rather_than_mixing_two_texts() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        for name, text in (("start", ""), ("chunk", "One "), ("start", ""), ("chunk", "two."), ("stop", "")):
            await client.write_event(Event(f"synthesize-{name}", {"text": text} if text else {}))
        answer = await read_answer(client, "synthesize-stopped")
        assert answer.types == ["error", "audio-stop", "synthesize-stopped"]
        assert answer.error["code"] == "invalid-event"
        assert (await stream(client, ["Hello."])).types[-1] == "synthesize-stopped"
    assert engine.texts == ["Hello."]


async def test_a_new_stream_may_begin_where_one_failed_and_was_given_up() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server, server.client() as client:
        await client.write_event(Event("synthesize-start", {"voice": {"name": "nobody"}}))
        assert (await read_answer(client, "audio-stop")).error["code"] == "voice-not-found"
        answer = await stream(client, ["Hello."])
        assert answer.types[0] == "synthesize-stopped"
        assert (await read_answer(client, "synthesize-stopped")).types[-1] == "synthesize-stopped"
    assert engine.texts == ["Hello."]


async def test_ssml_is_spoken_without_its_tags_in_both_ways() -> None:
    engine = ToneEngine()
    ssml = '<speak>Hello <emphasis>you</emphasis>.<break/>The <sub alias="World Wide Web">WWW</sub> &amp; I.</speak>'
    async with running(model_of(engine)) as server, server.client() as client:
        await synthesize(client, ssml, text_format="ssml")
        whole = list(engine.texts)
        await stream(client, [ssml[:9], ssml[9:30], *ssml[30:]], text_format="ssml")
    assert whole == ["Hello you.", "The World Wide Web & I."]
    assert engine.texts == whole * 2


async def test_ping_select_program_and_unknown_events() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        await client.write_event(Event("ping", {"text": "abc"}))
        assert (await client.read_event()) == Event("pong", {"text": "abc"})
        await client.write_event(Event("select-program", {"name": "chatterbox"}))
        await client.write_event(Event("transcribe", {}))
        assert (await describe(client)).type == "info"
        await client.write_event(Event("select-program", {"name": "piper"}))
        assert (await read_answer(client, "error")).error["code"] == "program-not-found"
        assert (await synthesize(client, "Hello.")).types == ["audio-start", "audio-chunk", "audio-stop"]


async def test_audio_sent_to_the_wrong_port_is_swallowed() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        for _ in range(50):
            await client.write_event(Event("audio-chunk", {"rate": 16000, "width": 2, "channels": 1}, bytes(100_000)))
        assert (await describe(client)).type == "info"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\n", "not JSON"),
        (b"\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"null\n", "not a JSON object"),
        (b"\xff\xfe\n", "not JSON"),
        (b"{}\n", "no 'type'"),
        (line(type=5), "no 'type'"),
        (line(type="synthesize", data=[1]), "not an object"),
        (line(type="synthesize", data_length="5"), "data_length"),
        (line(type="synthesize", data_length=-1), "data_length"),
        (line(type="synthesize", data_length=2**40), "at most"),
        (line(type="synthesize", payload_length=2**40), "at most"),
        (line(type="synthesize", payload_length=True), "payload_length"),
        (line(type="synthesize", data_length=3) + b"[1]", "not a JSON object"),
        (b'{"type": "a", "data_length": ' + b"9" * 1000 + b"}\n", "digits"),
        (b"[" * 60_000 + b"\n", "more than 2048 values"),
        (b"x" * 70_000, "longer than"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value.replace(" ", "-"),
)
async def test_what_is_no_event_gets_an_error_and_a_closed_socket(sent: bytes, reason: str) -> None:
    async with running(model_of(ToneEngine())) as server:
        reader, writer = await raw(server)
        writer.write(sent)
        event = await asyncio.wait_for(async_read_event(reader), 5)
        assert event is not None and event.type == "error"
        assert event.data["code"] == "invalid-event"
        assert reason in event.data["text"]
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        async with server.client() as client:
            assert (await describe(client)).type == "info"


async def test_half_an_event_is_not_waited_for_for_ever() -> None:
    async with running(model_of(ToneEngine()), event_timeout=0.2) as server:
        for sent in (b'{"type": "desc', line(type="synthesize", data_length=100) + b"{"):
            reader, writer = await raw(server)
            writer.write(sent)
            event = await asyncio.wait_for(async_read_event(reader), 5)
            assert event is not None and event.data["code"] == "invalid-event"
            assert await reader.read() == b""
            writer.close()


async def test_an_idle_connection_is_closed_but_not_one_that_waits_for_its_answer() -> None:
    async with running(model_of(SlowEngine(seconds=0.1, chunks=6)), idle_timeout=0.2) as server:
        async with server.client() as client:
            assert (await synthesize(client, "This takes 0.6 seconds.")).types[-1] == "audio-stop"
            started = time.monotonic()
            assert await client.read_event() is None
            assert time.monotonic() - started < 2


async def test_a_text_that_pauses_for_too_long_ends_with_an_error() -> None:
    async with running(model_of(ToneEngine()), text_timeout=0.3) as server, server.client() as client:
        await client.write_event(Event("synthesize-start", {}))
        await client.write_event(Event("synthesize-chunk", {"text": "And then"}))
        answer = await read_answer(client, "never")
    assert answer.types == ["error", "audio-stop"], "and then the connection is closed: the text was never ended"
    assert answer.error["code"] == "text-timeout"


async def test_a_client_that_takes_no_audio_is_cut_off() -> None:
    engine = SlowEngine(seconds=0.0, chunks=2000)
    engine.samples = 24000
    async with running(model_of(engine), write_timeout=0.3) as server:
        reader, writer = await raw(server)
        writer.write(line(type="synthesize", data={"text": "Much audio."}))
        await asyncio.sleep(0.1)
        assert server.server.service.running == 1
        await settle(server, 10)
        del reader
        writer.close()


async def test_lone_surrogates_and_other_junk_in_the_text_do_no_harm() -> None:
    engine = ToneEngine()
    async with running(model_of(engine)) as server:
        reader, writer = await raw(server)
        writer.write(b'{"type": "synthesize", "data": {"text": "Hi \\ud800 there\\u0000\\u202e."}}\n')
        types = []
        while (event := await asyncio.wait_for(async_read_event(reader), 5)) is not None:
            types.append(event.type)
            if event.type == "audio-stop":
                break
        writer.close()
    assert engine.texts == ["Hi there."]
    assert "error" not in types


async def test_a_long_voice_name_with_junk_is_answered() -> None:
    async with running(model_of(ToneEngine())) as server:
        reader, writer = await raw(server)
        writer.write(b'{"type": "synthesize", "data": {"text": "Hi.", "voice": {"name": "\\ud800../../x\\u0000"}}}\n')
        event = await asyncio.wait_for(async_read_event(reader), 5)
        assert event is not None and event.data["code"] == "voice-not-found"
        writer.close()


@pytest.mark.parametrize("number", range(5))
async def test_a_malformed_line_inside_a_stream_ends_the_connection_at_once(number: int) -> None:
    async with running(model_of(ToneEngine())) as server:
        reader, writer = await raw(server)
        writer.write(line(type="synthesize-start") + line(type="synthesize-chunk", data={"text": "One two"}) + b"{\n")
        events = []
        while (event := await asyncio.wait_for(async_read_event(reader), 3)) is not None:
            events.append(event)
        writer.close()
        assert [event.type for event in events].count("error") == 1
        await settle(server)
        await asyncio.sleep(0.05)
        assert not len(server.server.wyoming.connections)


async def test_clients_that_half_close_in_the_middle_of_audio_leave_nothing_behind() -> None:
    async with running(model_of(ToneEngine(chunks=50)), max_connections=20) as server:
        for _ in range(60):
            reader, writer = await raw(server)
            writer.write(line(type="synthesize", data={"text": "Hello there. How are you? " * 5}))
            await reader.read(1)
            writer.write_eof()
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        await settle(server)
        await asyncio.sleep(0.1)
        assert not len(server.server.wyoming.connections)


async def test_a_client_that_asks_and_does_not_read_is_let_go_before_it_takes_the_memory() -> None:
    async with running(model_of(SlowEngine(seconds=0.5))) as server:
        reader, writer = await raw(server)
        request = line(type="synthesize", data={"text": "x" * 10_000})
        with contextlib.suppress(ConnectionError):
            for _ in range(2000):
                writer.write(request)
                await writer.drain()
        await settle(server, 5)
        assert not len(server.server.wyoming.connections)
        writer.close()
        del reader


async def test_a_stream_says_at_its_end_who_spoke_at_last() -> None:
    engine, embedded = BreakingEngine(1, model="original"), ToneEngine("embedded")
    other = model_of(embedded)
    async with running(model_of(engine), other) as server, server.client() as client:
        await other.wait_until_decided()
        answer = await synthesize(client, "This is fine. Now break.")
        assert answer.start["fallback"] is False
        stop = answer.events[-1]
        assert (stop.type, stop.data["model"], stop.data["fallback"]) == ("audio-stop", "embedded", True)
        info = (await describe(client)).data["tts"][0]
        assert "original ready, but failed last: EngineError" in info["description"]


async def test_names_and_values_of_any_size_come_back_short() -> None:
    async with running(model_of(ToneEngine())) as server, server.client() as client:
        for data in ({"voice": {"name": "x" * 500_000}}, {"text": ["x" * 500_000]}, {"text_format": "x" * 500_000}):
            await client.write_event(Event("synthesize", {"text": "Hi.", **data}))
            answer = await read_answer(client, "audio-stop")
            assert len(answer.error["text"]) < 200
            assert answer.seconds < 1
