"""WS /ws/stream/audio against a real uvicorn."""

from __future__ import annotations

import asyncio
import json
import time

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.http.clients import decoded, hear, samples, say, serving, socket_uri, talking, until
from wyoming_chatterbox.http.messages import SERVER
from wyoming_chatterbox.limits import MAX_MESSAGE_FAULTS, MAX_PENDING
from wyoming_chatterbox.testing.engines import BreakingEngine, SlowEngine, ToneEngine, model_of


async def closed(socket) -> tuple[int, str]:  # type: ignore[no-untyped-def]
    """Read to the end; the code and the reason."""
    try:
        while True:
            await asyncio.wait_for(socket.recv(), 10)
    except ConnectionClosed as end:
        assert end.rcvd is not None, "the connection broke instead of being closed"
        return end.rcvd.code, end.rcvd.reason


async def test_an_utterance_message_by_message() -> None:
    engine = ToneEngine(chunks=3)
    async with serving(model_of(engine)) as server, connect(socket_uri(server)) as socket:
        hello = json.loads(await socket.recv())
        assert hello["type"] == "connected" and len(hello["connection_id"]) == 16
        assert (hello["model"], hello["sample_rate"], hello["voices"][0]["name"]) == ("tone", 24000, "tone")
        await say(socket, type="start", text="Hello there.", id="mine", seed=3, exaggeration=1)
        heard = await hear(socket)
    assert heard.types == ["started", "chunk", "metrics"]
    for message in [hello, *heard.messages]:
        SERVER.validate_python(message)
    started, chunks, metrics = heard.messages[0], heard.of("chunk"), heard.metrics
    assert (started["id"], started["voice"], started["fallback"]) == ("mine", "tone", False)
    assert started["format"] == {"encoding": "pcm_s16le", "sample_rate": 24000, "channels": 1}
    assert [one["index"] for one in chunks] == [0, 1, 2]
    assert [one["offset"] for one in chunks] == pytest.approx([0, 0.1, 0.2])
    assert all(0 < one["made"] <= one["sent"] for one in chunks)
    assert samples(heard.audio) == pytest.approx(np.full(7200, 0.001), abs=1e-4)
    assert (metrics["outcome"], metrics["chunks"], metrics["sentences"], metrics["chars"]) == ("finished", 3, 1, 12)
    assert metrics["audio_duration"] == pytest.approx(0.3)
    assert 0 < metrics["first_audio"] < metrics["total_time"]
    assert metrics["rtf"] == pytest.approx(0.01)
    assert metrics["utterance"] == started["utterance"] and metrics["cached"] is False
    assert (engine.settings[0].seed, engine.settings[0].exaggeration) == (3, 1.0)


async def test_a_text_in_pieces_is_spoken_while_it_is_written() -> None:
    engine = ToneEngine()
    async with serving(model_of(engine)) as server, talking(server) as socket:
        await say(socket, type="start")
        for piece in ("Good mor", "ning to you. And", " now the wea"):
            await say(socket, type="text", text=piece)
        assert json.loads(await socket.recv())["type"] == "started", "before the text has ended"
        await say(socket, type="text", text="ther.")
        await say(socket, type="end")
        await hear(socket)
    assert engine.texts == ["Good morning to you.", "And now the weather."]


async def test_several_utterances_are_answered_in_order_and_an_error_of_one_leaves_the_others() -> None:
    async with serving(model_of(BreakingEngine(at=2))) as server, talking(server) as socket:
        await say(socket, type="start", text="One is fine.", id="1")
        await say(socket, type="start", text="This will break.", id="2")
        await say(socket, type="start", text="x", id="3", exaggeration=9.5)
        await say(socket, type="start", text="x", id="4", voice="nobody")
        await say(socket, type="start", id="5", audio_prompt_path="x")
        await say(socket, type="text", text="of a start that was refused")
        await say(socket, type="end")
        await say(socket, type="start", text="", id="6")
        await say(socket, type="start", text="Seven is fine.", id="7")
        heard = [await hear(socket) for _ in range(7)]
    assert [one.metrics["id"] for one in heard] == ["1", "2", "3", "4", "5", "6", "7"]
    outcomes = [one.metrics["outcome"] for one in heard]
    assert outcomes == [
        *("finished", "engine-failed", "invalid-setting", "voice-not-found", "invalid-setting", "empty-text"),
        "finished",
    ]
    assert heard[1].types == ["started", "chunk", "error", "metrics"]
    assert [one.of("error")[0]["id"] for one in heard[1:6]] == ["2", "3", "4", "5", "6"]
    assert heard[2].of("error")[0]["message"] == "exaggeration: 9.5 is out of range (allowed: 0 to 2)"
    assert "is called --reference-clip" in heard[4].of("error")[0]["message"]


@pytest.mark.parametrize("name", ["wav", "mp3", "opus", "flac", "aac"])
async def test_other_formats_put_together_are_a_file(name: str) -> None:
    async with serving(model_of(ToneEngine(chunks=10))) as server, talking(server) as socket:
        await say(socket, type="start", text="Hello there.", response_format=name)
        heard = await hear(socket)
    assert heard.messages[0]["format"]["encoding"] == name
    sound, rate = decoded(heard.audio)
    assert len(sound) / rate == pytest.approx(1.0, abs=0.1)
    assert sum(one["samples"] for one in heard.of("chunk")) == 24000
    assert heard.metrics["audio_duration"] == pytest.approx(1.0)


async def test_a_long_chunk_comes_in_frames_that_clients_take() -> None:
    engine = ToneEngine(chunks=1)
    engine.samples = 24000 * 12
    async with serving(model_of(engine)) as server, talking(server) as socket:
        await say(socket, type="start", text="Hello there.")
        heard = await hear(socket)
    assert [one["samples"] for one in heard.of("chunk")] == [120_000, 120_000, 48_000]
    assert [one["offset"] for one in heard.of("chunk")] == [0, 5, 10]


async def test_nothing_comes_between_a_chunk_and_its_frame() -> None:
    async with serving(model_of(SlowEngine(seconds=0.0, chunks=60))) as server, talking(server) as socket:

        async def ping() -> None:
            while True:
                await say(socket, type="ping")

        await say(socket, type="start", text="Hello there.")
        pinging = asyncio.create_task(ping())
        heard = await hear(socket)  # it looks at the order
        pinging.cancel()
    assert len(heard.of("chunk")) == 60 and len(heard.of("pong")) > 20


async def test_cancel_stops_the_engine_and_the_connection_goes_on() -> None:
    engine = SlowEngine(seconds=0.2)
    async with serving(model_of(engine)) as server, talking(server) as socket:
        await say(socket, type="start", text="This takes for ever.", id="a")
        await say(socket, type="start", text="This never begins.", id="b")
        await until(lambda: engine.made > 0, "it never began")
        await say(socket, type="cancel", id="b")
        cancelled = time.monotonic()
        await say(socket, type="cancel")
        first, second = await hear(socket), await hear(socket)
        assert engine.stopped_at is not None and engine.stopped_at - cancelled < 0.15, "before its next chunk"
        assert (first.metrics["outcome"], second.metrics["outcome"]) == ("cancelled", "cancelled")
        assert (first.metrics["id"], second.types) == ("a", ["metrics"])
        await say(socket, type="cancel")
        await say(socket, type="ping")
        assert json.loads(await socket.recv()) == {"type": "pong"}
        engine.seconds, engine.chunks = 0, 2
        await say(socket, type="start", text="And this is heard.")
        assert (await hear(socket)).metrics["outcome"] == "finished"
    assert engine.texts == ["This takes for ever.", "And this is heard."]


@pytest.mark.parametrize("politely", [True, False])
async def test_the_work_stops_when_the_client_leaves(politely: bool) -> None:
    engine = SlowEngine(seconds=0.5)
    async with serving(model_of(engine)) as server, talking(server) as socket:
        await say(socket, type="start", text="This takes for ever.")
        await until(lambda: bool(engine.texts), "it never began")
        left = time.monotonic()
        if politely:
            await socket.close()
        else:
            socket.transport.abort()
        await until(lambda: engine.stopped_at is not None, "the engine goes on")
        assert engine.stopped_at is not None and engine.stopped_at - left < 0.3
        await until(lambda: server.server.service.running == 0, "its place is not free")
        await until(lambda: not server.server.http.state.active_streams, "the session stays")


async def test_a_client_that_takes_no_audio_is_cut_off_and_the_engine_does_not_run_away() -> None:
    engine = SlowEngine(seconds=0.0, chunks=3)
    engine.samples = 24000 * 4
    async with serving(model_of(engine), write_timeout=0.4) as server:
        async with connect(socket_uri(server), max_queue=1, close_timeout=0.1) as socket:
            await socket.recv()
            for _ in range(12):
                await say(socket, type="start", text="One is here. Two is here. Three is here.")
            socket.transport.pause_reading()
            await until(lambda: server.server.service.running == 1, "it never began")
            await until(lambda: server.server.service.running == 0, "it is served for ever", 10)
            await until(lambda: not server.server.http.state.active_streams, "the session stays")
            await until(lambda: not server.server.http._uvicorn.server_state.connections, "its connection stays")
            # What is made and not taken: the kernel's buffers hold a few megabytes on loopback.
            assert len(engine.texts) < 3 * 12, "all of it was made for nobody"


NONSENSE: list[tuple[str | bytes, str]] = [
    ("{", "not JSON"),
    ("[]", "not a JSON object"),
    ("{}", "type"),
    ('{"type": 5}', "type"),
    ('{"type": "shout"}', "'shout'"),
    ('{"type": "text", "text": "x"}', "without a start"),
    ('{"type": "end"}', "without a start"),
    ('{"type": "text"}', "text"),
    ('{"type": "text", "text": 5}', "text"),
    ('{"type": "cancel", "id": 5}', "id"),
    ('{"type": "ping", "x": 5}', "x"),
    (b"audio", "binary"),
    ("[" * 100_000, "not JSON"),
]


async def test_what_makes_no_sense_is_answered() -> None:
    async with serving(model_of(ToneEngine())) as server, talking(server) as socket:
        for message, said in NONSENSE:
            await socket.send(message)
            answer = json.loads(await socket.recv())
            assert (answer["type"], said in answer["message"]) == ("error", True), answer
            assert answer["code"] in ("invalid-event", "invalid-setting") and len(answer["message"]) < 300
        await say(socket, type="start", text="Hello.")
        assert (await hear(socket)).metrics["outcome"] == "finished"


async def test_nothing_but_nonsense_ends_the_connection() -> None:
    async with serving(model_of(ToneEngine())) as server, talking(server) as socket:
        for _ in range(MAX_MESSAGE_FAULTS):
            await socket.send("{")
        assert (await closed(socket))[0] == 1008


async def test_a_message_that_is_too_long_ends_the_connection() -> None:
    async with serving(model_of(ToneEngine())) as server, talking(server) as socket:
        await socket.send('{"type": "start", "text": "' + "x" * 1_100_000 + '"}')
        assert (await closed(socket))[0] == 1009


async def test_too_many_utterances_at_once_are_refused_and_far_too_many_end_the_connection() -> None:
    async with serving(model_of(SlowEngine(seconds=0.2))) as server, talking(server) as socket:
        for number in range(MAX_PENDING + 1):
            await say(socket, type="start", text="Hello.", id=str(number))
        for _ in range(MAX_PENDING):
            await say(socket, type="cancel")
            assert (await hear(socket)).metrics["outcome"] == "cancelled"
        assert (await hear(socket)).metrics["outcome"] == "server-busy"
        for _ in range(2 * MAX_PENDING + 1):
            await say(socket, type="start", text="Hello.")
        assert (await closed(socket))[0] == 1008


async def test_a_start_inside_a_text_ends_that_text() -> None:
    async with serving(model_of(ToneEngine())) as server, talking(server) as socket:
        await say(socket, type="start", id="a")
        await say(socket, type="text", text="And then")
        await say(socket, type="start", id="b", text="Hello.")
        assert (await hear(socket)).metrics["outcome"] == "invalid-event"
        assert (await hear(socket)).metrics["outcome"] == "finished"


async def test_a_text_that_pauses_for_too_long_ends_with_an_error() -> None:
    async with serving(model_of(ToneEngine()), text_timeout=0.2) as server, talking(server) as socket:
        await say(socket, type="start")
        assert (await hear(socket)).metrics["outcome"] == "text-timeout"


async def test_an_idle_connection_is_closed_but_not_one_that_is_spoken_to() -> None:
    async with serving(model_of(SlowEngine(seconds=0.1, chunks=6)), idle_timeout=0.2) as server:
        async with talking(server) as socket:
            await say(socket, type="start", text="This takes 0.6 seconds.")
            assert (await hear(socket)).metrics["outcome"] == "finished"
            assert (await closed(socket))[0] == 1001


async def test_connections_are_limited() -> None:
    async with serving(model_of(ToneEngine()), max_connections=2) as server:
        async with talking(server), talking(server):
            async with connect(socket_uri(server)) as third:
                assert json.loads(await third.recv())["code"] == "server-busy"
                assert (await closed(third))[0] == 1013
        await until(lambda: server.server.http.state.open_websockets == 0, "places are not given back")
        async with talking(server):
            pass


async def test_the_fallback_is_said() -> None:
    engine, embedded = BreakingEngine(1, model="original"), ToneEngine("embedded")
    other = model_of(embedded)
    async with serving(model_of(engine), other) as server, talking(server) as socket:
        await other.wait_until_decided()
        await say(socket, type="start", text="This is fine. Now it will break.")
        heard = await hear(socket)
    assert [one["fallback"] for one in heard.of("chunk")] == [False] * 3 + [True] * 2
    assert (heard.messages[0]["fallback"], heard.metrics["fallback"], heard.metrics["model"]) == (
        False,
        True,
        "embedded",
    )


async def test_a_server_that_stops_lets_an_utterance_finish_and_says_why_it_closes() -> None:
    engine = SlowEngine(seconds=0.1, chunks=5)
    async with serving(model_of(engine)) as server, talking(server) as socket, talking(server) as idle:
        await say(socket, type="start", text="This is heard to its end.")
        await until(lambda: engine.made > 0, "it never began")
        server.server.stop()
        stopping = asyncio.create_task(server.server.shutdown())
        heard = await hear(socket)
        assert (heard.metrics["outcome"], len(heard.audio)) == ("finished", 5 * 4800)
        assert (await closed(socket))[0] == 1012
        assert (await closed(idle))[0] == 1012
        await stopping


async def test_a_server_that_cannot_wait_says_so() -> None:
    engine = SlowEngine(seconds=0.1)
    async with serving(model_of(engine), shutdown_timeout=0.3) as server, talking(server) as socket:
        await say(socket, type="start", text="This is not heard to its end.", id="mine")
        await until(lambda: engine.made > 0, "it never began")
        server.server.stop()
        stopping = asyncio.create_task(server.server.shutdown())
        messages = []
        with pytest.raises(ConnectionClosed) as end:
            while True:
                message = await socket.recv()
                if isinstance(message, str):
                    messages.append(json.loads(message))
        assert end.value.rcvd is not None and end.value.rcvd.code == 1012
        assert (messages[-1]["code"], messages[-1]["id"]) == ("shutting-down", "mine")
        await stopping


@pytest.mark.parametrize(
    "message",
    [r'{"type":"start","text":"Hi.","id":"\ud800"}', r'{"type":"start","text":"Hi.","id":"\ud800","seed":-9}'],
)
async def test_an_id_that_is_no_unicode_is_refused_and_the_connection_stays(message: str) -> None:
    async with serving(model_of(ToneEngine())) as server, talking(server) as socket:
        await socket.send(message)
        heard = await hear(socket)
        assert heard.types == ["error", "metrics"] and heard.of("error")[0]["id"] == "\ud800"
        await say(socket, type="start", text="Still here.")
        assert (await hear(socket)).metrics["outcome"] == "finished"


async def test_who_cancels_gets_the_frame_of_every_chunk_that_was_announced() -> None:
    """Cancelled at forty moments, of which some lie between a chunk and its frame."""
    async with serving(model_of(SlowEngine(0.0, chunks=3000))) as server, talking(server) as socket:
        for moment in range(40):
            await say(socket, type="start", text="Hello there.")
            kinds: list[str] = []
            while kinds[-1:] != ["metrics"]:
                message = await asyncio.wait_for(socket.recv(), 5)
                kinds.append("frame" if isinstance(message, bytes) else json.loads(message)["type"])
                if len(kinds) == 1 + moment % 12:
                    await say(socket, type="cancel")
            assert kinds.count("frame") == kinds.count("chunk") == json.loads(message)["chunks"], kinds[-3:]
