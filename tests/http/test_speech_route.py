"""POST /v1/audio/speech and its kin, against a real uvicorn."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import time
import wave
from typing import Any

import av
import httpx2 as httpx
import numpy as np
import pytest

from tests.http.clients import asking, decoded, samples, serving, until
from wyoming_chatterbox.http.encoders import MEDIA_TYPES
from wyoming_chatterbox.testing.engines import BreakingEngine, SlowEngine, ToneEngine, model_of

HELLO = {"input": "Hello there.", "response_format": "pcm"}


async def test_pcm_is_the_samples_that_the_engine_made() -> None:
    async with serving(model_of(ToneEngine(chunks=3))) as server, asking(server) as client:
        for path in ("/v1/audio/speech", "/audio/speech", "/audio/speech/stream"):
            answer = await client.post(path, json=HELLO)
            assert answer.status_code == 200 and answer.headers["content-type"] == "audio/pcm"
            assert len(answer.content) == 3 * 2400 * 2
        assert np.unique(samples(answer.content)) == pytest.approx([0.003], abs=1e-4), (
            "the third sentence of this engine"
        )
        assert (answer.headers["x-model"], answer.headers["x-voice"], answer.headers["x-fallback"]) == (
            "tone", "tone", "false",
        )  # fmt: skip


@pytest.mark.parametrize("name", MEDIA_TYPES)
async def test_every_format_decodes_to_the_same_sound(name: str) -> None:
    engine = ToneEngine(chunks=8)
    engine.samples = 2400
    async with serving(model_of(engine)) as server, asking(server) as client:
        answer = await client.post(
            "/v1/audio/speech", json={"input": "One is here. Two is there.", "response_format": name}
        )
    assert answer.headers["content-type"] == MEDIA_TYPES[name]
    if name == "pcm":
        heard, rate = samples(answer.content), 24000
    else:
        heard, rate = decoded(answer.content)
    seconds = 2 * 8 * 0.1 + 0.25
    assert len(heard) / rate == pytest.approx(seconds, abs=0.08)
    if name in ("pcm", "wav", "flac"):
        assert np.unique(heard) == pytest.approx([0.0, 0.001, 0.002], abs=1e-4), "lossless"


async def test_the_defaults_are_openais_mp3_and_wav_for_the_stream() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        assert (await client.post("/v1/audio/speech", json={"input": "Hi."})).headers["content-type"] == "audio/mpeg"
        answer = await client.post("/audio/speech/stream", json={"input": "Hi."})
        assert answer.headers["content-type"] == "audio/wav"
        with wave.open(io.BytesIO(answer.content)) as reader:
            assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (24000, 1, 2)
            assert len(reader.readframes(10**6)) == 9600


@pytest.mark.parametrize("name", MEDIA_TYPES)
async def test_the_first_chunk_is_heard_before_the_second_is_made(name: str) -> None:
    engine = SlowEngine(seconds=1.0, chunks=2)
    engine.samples = 24000
    body = {"input": "Slowly.", "response_format": name}
    async with serving(model_of(engine)) as server, asking(server) as client:
        heard = b""
        async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
            reading = answer.aiter_raw()
            with contextlib.suppress(asyncio.TimeoutError):
                while engine.made < 2:
                    heard += await asyncio.wait_for(anext(reading), 1.6)
                    if engine.made == 1 and _seconds(heard, name) > 0.8:
                        return
    raise AssertionError(f"{_seconds(heard, name):.2f} of the first chunk's 1.0 s came before the second was made")


def _seconds(heard: bytes, name: str) -> float:
    """How much of the beginning of a file is to be heard."""
    if name == "pcm":
        return len(heard) / 48000
    try:
        sound, rate = decoded(heard)
    except (av.error.FFmpegError, ValueError):
        return 0.0
    return len(sound) / rate


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 4.0])
async def test_speed_changes_the_length_and_not_the_pitch(speed: float) -> None:
    class Pitch(ToneEngine):
        def generate_stream(self, text, voice, settings, cancel):  # type: ignore[no-untyped-def]
            for made, metrics in super().generate_stream(text, voice, settings, cancel):
                position = np.arange(len(made)) + (metrics.chunk_count - 1) * len(made)
                yield (0.3 * np.sin(2 * np.pi * 400 * position / 24000)).astype(np.float32), metrics

    async with serving(model_of(Pitch(chunks=20))) as server, asking(server) as client:
        answer = await client.post("/v1/audio/speech", json={**HELLO, "speed": speed})
    heard = samples(answer.content)
    assert len(heard) / 24000 == pytest.approx(2.0 / speed, rel=0.05, abs=0.03)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * 24000 / len(heard) == pytest.approx(400, abs=6)


async def test_server_sent_events_are_openais() -> None:
    async with serving(model_of(ToneEngine(chunks=3))) as server, asking(server) as client:
        answer = await client.post("/v1/audio/speech", json={**HELLO, "stream_format": "sse"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 3 + ["speech.audio.done"]
    assert sum(len(base64.b64decode(event["audio"])) for event in events[:-1]) == 3 * 4800
    usage = events[-1]["usage"]
    assert usage == {"input_tokens": 12, "output_tokens": 8, "total_tokens": 20}  # 0.3 s are 7.5 speech tokens


async def test_an_error_before_the_audio_has_a_status_and_one_behind_it_breaks_the_body_off() -> None:
    async with serving(model_of(BreakingEngine(at=1))) as server, asking(server) as client:
        answer = await client.post("/v1/audio/speech", json={**HELLO, "input": "This will break."})
        assert answer.status_code == 500
        assert answer.json()["error"] == {
            "message": "Model breaking failed: out of memory",
            "type": "server_error",
            "param": None,
            "code": "engine-failed",
        }
    async with serving(model_of(BreakingEngine(at=2))) as server, asking(server) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/v1/audio/speech", json={**HELLO, "input": "This will break."})
        body = {**HELLO, "input": "This will break.", "stream_format": "sse"}
        *_, last = [line for line in (await client.post("/v1/audio/speech", json=body)).text.splitlines() if line]
        event = json.loads(last.removeprefix("data: "))
        assert (event["type"], event["error"]["code"]) == ("error", "engine-failed")


WRONG: list[tuple[dict[str, Any], int, str, str | None, str]] = [
    ({"input": ""}, 400, "invalid-request", "input", "input: "),
    ({}, 400, "invalid-request", "input", "input: Field required"),
    ({"input": "x" * 20_001}, 413, "text-too-long", "input", "20000 characters"),
    ({"input": "x", "exaggeration": 7}, 400, "invalid-setting", "exaggeration", "(allowed: 0 to 2)"),
    ({"input": "x", "exaggeration": "high"}, 400, "invalid-setting", "exaggeration", "exaggeration: 'high'"),
    ({"input": "x", "seed": 1.5}, 400, "invalid-setting", "seed", "seed: 1.5"),
    ({"input": "x", "chunk_size": 3}, 400, "invalid-setting", "chunk_size", "chunk_size: 3 is out of range"),
    (
        {"input": "x", "audio_prompt_path": "x"},
        400,
        "invalid-setting",
        "audio_prompt_path",
        "is called --reference-clip",
    ),
    ({"input": "x", "top_p": 1.1}, 400, "invalid-setting", "top_p", "1.1 is out of range (allowed: 0 to 1)"),
    ({"input": "x", "exagerration": 1}, 400, "invalid-setting", "exagerration", "did you mean exaggeration?"),
    ({"input": "x", "langauge": "en"}, 400, "invalid-setting", "langauge", "did you mean language?"),
    ({"input": "x", "audio_prompt_path": "/x"}, 400, "invalid-setting", "audio_prompt_path", "--voices-dir"),
    ({"input": None}, 400, "invalid-request", "input", "input: "),
    ({"input": ["secret"]}, 400, "invalid-request", "input", "a valid string"),
    ({"input": "x", "speed": 9}, 400, "invalid-request", "speed", "less than or equal to 4, not 9"),
    ({"input": "x", "speed": 0}, 400, "invalid-request", "speed", "greater than or equal to 0.25, not 0"),
    ({"input": "x", "speed": "1.0"}, 400, "invalid-request", "speed", "valid number, not '1.0'"),
    ({"input": "x", "response_format": "ogg"}, 400, "invalid-request", "response_format", "'mp3'"),
    ({"input": "x", "response_format": ""}, 400, "invalid-request", "response_format", "'mp3'"),
    ({"input": "x", "stream_format": "websocket"}, 400, "invalid-request", "stream_format", "'audio' or 'sse'"),
    ({"input": "x", "model": 5}, 400, "invalid-request", "model", "model: Input should be a valid string, not 5"),
    ({"input": "x", "voice": 5}, 400, "invalid-request", "voice", "voice: Input should be a valid string, not 5"),
    ({"input": "x", "voice": "nobody"}, 404, "voice-not-found", None, "There is no voice 'nobody'"),
    ({"input": "x", "voice": "Zoë 🎉"}, 404, "voice-not-found", None, "There is no voice 'Zoë 🎉'"),
    ({"input": "x", "voice": "v" * 300}, 400, "invalid-request", "voice", "voice"),
    ({"input": "x", "language": "fr"}, 404, "voice-not-found", None, "No voice speaks 'fr'"),
]


async def test_what_is_wrong_is_refused_by_name() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for body, status, code, param, said in WRONG:
            answer = await client.post("/v1/audio/speech", json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error
            assert said in error["message"]
            assert len(error["message"]) < 400


NO_JSON: list[tuple[bytes, str, str]] = [
    (b"{", "application/json", "not JSON"),
    (b"[" * 100_000, "application/json", ""),
    (b'"text"', "application/json", "JSON object"),
    (b'{"input": "x"}', "text/plain", "Content-Type: application/json"),
    (b"\xff\xfe", "application/json", ""),
    (b"", "application/json", ""),
]


async def test_what_is_no_json_object_is_refused() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for content, kind, said in NO_JSON:
            answer = await client.post("/v1/audio/speech", content=content, headers={"content-type": kind})
            assert answer.status_code == 400, content[:20]
            assert said in answer.json()["error"]["message"]


async def test_openais_voices_are_the_default_one_and_settings_reach_the_engine() -> None:
    engine = ToneEngine()
    async with serving(model_of(engine)) as server, asking(server) as client:
        for voice in ("alloy", "Nova", {"id": "tone"}, "tone?exaggeration=0.9&min_p=0.1"):
            body = {
                **HELLO,
                "voice": voice,
                "model": "tts-1-hd",
                "temperature": 1,
                "seed": 5.0,
                "top_p": 0.9,
                "repetition_penalty": 2,
                "instructions": "Cheer!",
            }
            assert (await client.post("/v1/audio/speech", json=body)).status_code == 200
    assert [one.exaggeration for one in engine.settings] == [0.5, 0.5, 0.5, 0.9]
    assert [one.min_p for one in engine.settings] == [0.05, 0.05, 0.05, 0.1]
    assert {(one.temperature, one.seed, one.top_p, one.repetition_penalty) for one in engine.settings} == {
        (1.0, 5, 0.9, 2.0)
    }


async def test_a_model_is_asked_for_by_its_name() -> None:
    original, embedded = ToneEngine("original"), ToneEngine("embedded")
    other = model_of(embedded)
    async with serving(model_of(original), other) as server, asking(server) as client:
        await other.wait_until_decided()
        for body, model in (
            ({}, "original"),
            ({"model": "embedded"}, "embedded"),
            ({"model": "embedded", "voice": "alloy"}, "embedded"),
            ({"model": "original", "voice": "original"}, "original"),
            ({"model": "tts-1", "voice": "embedded"}, "embedded"),
        ):
            answer = await client.post("/v1/audio/speech", json={**HELLO, **body})
            assert answer.headers["x-model"] == model, body
        answer = await client.post("/v1/audio/speech", json={**HELLO, "model": "original", "voice": "embedded"})
        assert answer.status_code == 404 and "spoken by model 'embedded'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", MEDIA_TYPES)
async def test_blank_text_is_a_short_file_of_silence(name: str) -> None:
    """One that can be decoded: clients keep what they get, or report a file of no bytes as an error."""
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for more in ({}, {"speed": 4.0}, {"speed": 0.25}):
            body = {"input": " \n ", "response_format": name, **more}
            answer = await client.post("/v1/audio/speech", json=body)
            assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPES[name])
            heard, rate = (samples(answer.content), 24000) if name == "pcm" else decoded(answer.content)
            assert 0.01 < len(heard) / rate < 0.7 and np.abs(heard).max() < 0.001
        answer = await client.post("/v1/audio/speech", json={**body, "stream_format": "sse"})
        assert [json.loads(line[6:])["type"] for line in answer.text.splitlines() if line][-1] == "speech.audio.done"
        spoken = await client.post("/v1/audio/speech", json={"input": "Hello there.", "response_format": "pcm"})
        assert samples(spoken.content).min() > 0, "no silence where there is something to speak"


async def test_the_work_stops_when_the_client_leaves() -> None:
    engine = SlowEngine(seconds=0.5)
    async with serving(model_of(engine)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.server.http.port)
        body = json.dumps({**HELLO, "input": "This takes for ever."}).encode()
        writer.write(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await until(lambda: bool(engine.texts), "it never began")
        left = time.monotonic()
        writer.transport.abort()
        await until(lambda: engine.stopped_at is not None, "the engine goes on")
        assert engine.stopped_at is not None and engine.stopped_at - left < 0.3, "before its first chunk"
        await until(lambda: server.server.service.running == 0, "its place is not free")
        assert not server.server.http.state.active_streams


async def test_a_client_that_takes_no_audio_is_cut_off() -> None:
    engine = SlowEngine(seconds=0.0, chunks=2000)
    engine.samples = 24000
    async with serving(model_of(engine), write_timeout=0.3) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.http.port)
        body = json.dumps({**HELLO, "input": "Much audio."}).encode()
        writer.write(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await until(lambda: server.server.service.running == 1, "it never began")
        await until(lambda: server.server.service.running == 0, "it is served for ever", 10)
        await until(lambda: not server.server.http._uvicorn.server_state.connections, "its connection stays")
        writer.close()
        del reader


async def test_what_is_too_much_is_refused_for_now() -> None:
    async with serving(model_of(SlowEngine(seconds=0.1)), max_queue=1) as server, asking(server) as client:
        first = asyncio.create_task(client.post("/v1/audio/speech", json=HELLO))
        await until(lambda: server.server.service.running == 1, "it never began")
        answer = await client.post("/v1/audio/speech", json=HELLO)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server-busy")
        assert answer.headers["retry-after"]
        first.cancel()


async def test_who_is_spoken_to_when_the_server_stops_hears_the_end() -> None:
    engine = SlowEngine(seconds=0.1, chunks=6)
    async with serving(model_of(engine)) as server, asking(server) as client:
        async with asking(server) as other:
            await other.get("/health/live")
            speaking = asyncio.create_task(client.post("/v1/audio/speech", json=HELLO))
            await until(lambda: engine.made > 1, "it never began")
            server.server.stop()
            stopping = asyncio.create_task(server.server.shutdown())
            await asyncio.sleep(0)
            refused = await other.post("/v1/audio/speech", json=HELLO)  # on a connection that was there before
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting-down")
            assert (await other.get("/health/ready")).status_code == 503
            assert len((await speaking).content) == 6 * 4800
            await stopping


async def test_who_cannot_finish_in_time_sees_a_body_that_breaks_off() -> None:
    engine = SlowEngine(seconds=0.1)
    async with serving(model_of(engine), shutdown_timeout=0.3) as server, asking(server) as client:
        speaking = asyncio.create_task(client.post("/v1/audio/speech", json=HELLO))
        await until(lambda: engine.made > 1, "it never began")
        began = time.monotonic()
        server.server.stop()
        await server.server.shutdown()
        assert time.monotonic() - began < 4
        with pytest.raises(httpx.HTTPError):
            await speaking
