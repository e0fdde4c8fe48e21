"""Models, voices, settings, health, metrics; clients that others made."""

from __future__ import annotations

import asyncio
import json
import logging
import re

import openai
import pytest

from tests.http.clients import asking, hear, say, serving, talking, until
from wyoming_chatterbox.engine.base import CancelToken, Engine
from wyoming_chatterbox.hosting.base import EngineSpec, LoadPhase, StatusReport
from wyoming_chatterbox.http.models_route import ALIASES
from wyoming_chatterbox.http.schemas import KNOBS, SpeechBody
from wyoming_chatterbox.speech_settings import utterance_knobs
from wyoming_chatterbox.testing.engines import RATE, BreakingEngine, SlowEngine, ToneEngine, hosted_model, model_of
from wyoming_chatterbox.testing.serving import ROOT, synthesize


async def test_models_voices_and_settings_are_listed() -> None:
    other = model_of(ToneEngine("embedded"))
    async with serving(model_of(ToneEngine("original")), other) as server, asking(server) as client:
        models = (await client.get("/v1/models")).json()
        assert [one["id"] for one in models["data"]] == ["original", "embedded", *ALIASES]
        one = (await client.get("/v1/models/embedded")).json()
        assert (one["object"], one["voices"]) == ("model", [{"name": "embedded", "language": "en"}])
        missing = await client.get("/v1/models/whisper")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model-not-found")
        voices = (await client.get("/v1/audio/voices")).json()["voices"]
        assert [(voice["id"], voice["model"], voice["default"]) for voice in voices] == [
            ("original", "original", True),
            ("embedded", "embedded", False),
        ]
        assert {"exaggeration", "seed"} <= set(voices[0]["settings"]) and voices[1]["settings"] == ["seed"]
        listed = (await client.get("/api/settings")).json()
        assert [each["name"] for each in listed] == [knob.name for knob in utterance_knobs()]
        assert {"minimum": 0.0, "maximum": 2.0, "default": 0.5}.items() <= listed[0].items()
        upstream = ["context_window", "fade_duration", "print_metrics"]
        assert [setting["name"] for setting in listed if setting["upstream_only"]] == upstream


def test_every_setting_of_an_utterance_is_a_field_of_a_request() -> None:
    fields = SpeechBody.model_fields
    assert set(KNOBS) <= set(fields)
    assert {field for field in fields if field not in KNOBS} == {
        *("input", "model", "voice", "language", "speaker", "response_format", "stream_format", "speed", "instructions")
    }


async def test_health_says_who_speaks_while_a_model_is_loaded() -> None:
    reports: list[StatusReport] = []
    go_on = asyncio.Event()
    loop = asyncio.get_running_loop()

    def make(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        report(LoadPhase.DOWNLOADING, 0.25)
        reports.append(report)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        return ToneEngine("original")

    model, other = hosted_model("original", ToneEngine("original").voices, make), model_of(ToneEngine("embedded"))
    async with serving(model, other, wait=False) as server, asking(server) as client:
        await until(lambda: bool(reports), "it is not loaded")
        await asyncio.sleep(0.02)
        answer = await client.get("/health/ready")
        said = answer.json()
        assert answer.status_code == 200
        assert (said["model"], said["state"], said["progress"], said["speaks"]) == (
            "original", "downloading", 0.25, "embedded",
        )  # fmt: skip
        assert "downloading, 25% done" in said["status"]
        text = (await client.get("/metrics")).text
        assert 'wyoming_chatterbox_model_state{model="original",state="downloading"} 1.0' in text
        assert "wyoming_chatterbox_model_progress 0.25" in text
        go_on.set()
        await model.wait_until_decided()
        said = (await client.get("/health/ready")).json()
        assert (said["state"], said["speaks"]) == ("ready", "original")
        assert 'state="ready"} 1.0' in (await client.get("/metrics")).text


async def test_health_says_503_where_nothing_can_speak() -> None:
    def make(spec: EngineSpec, report: StatusReport, cancel: CancelToken) -> Engine:
        raise ValueError("no weights")

    async with (
        serving(hosted_model("original", ToneEngine("original").voices, make)) as server,
        asking(server) as client,
    ):
        answer = await client.get("/health/ready")
        assert (answer.status_code, answer.json()["state"], answer.json()["speaks"]) == (503, "failed", None)
        assert (await client.get("/health/live")).text == "OK"
        answer = await client.post("/v1/audio/speech", json={"input": "Hello."})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model-unavailable")


def series(text: str) -> dict[str, float]:
    """name{labels} → value"""
    rows = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in rows}


async def test_utterances_of_all_edges_are_counted() -> None:
    engine, embedded = BreakingEngine(2, model="original"), ToneEngine("embedded")
    other = model_of(embedded)
    async with serving(model_of(engine), other, max_queue=7) as server, asking(server) as client:
        await other.wait_until_decided()
        async with server.client() as wyoming:
            await synthesize(wyoming, "Hello there.")
        await client.post("/v1/audio/speech", json={"input": "Hello there.", "response_format": "pcm"})
        await client.post("/v1/audio/speech", json={"input": "Hello.", "seed": -5})
        async with talking(server) as socket:
            await say(socket, type="start", text="This will break.")
            await hear(socket)
            await say(socket, type="start")
            await say(socket, type="cancel")
            await hear(socket)
            engine._at = 1
            await say(socket, type="start", text="This will break.")
            await hear(socket)
            counted = series((await client.get("/metrics")).text)
        ended = {
            ("wyoming", "original", "finished"): 1,
            ("http", "original", "finished"): 1,
            ("http", "-", "error"): 1,
            ("ws", "original", "error"): 1,
            ("ws", "original", "cancelled"): 1,
            ("ws", "embedded", "finished"): 1,
        }
        for (edge, model, outcome), count in ended.items():
            name = f'wyoming_chatterbox_utterances_total{{edge="{edge}",model="{model}",outcome="{outcome}"}}'
            assert counted[name] == count, name
        assert counted['wyoming_chatterbox_errors_total{code="engine-failed",edge="ws"}'] == 1
        assert counted['wyoming_chatterbox_errors_total{code="invalid-setting",edge="http"}'] == 1
        assert counted['wyoming_chatterbox_cancellations_total{edge="ws"}'] == 1
        assert counted['wyoming_chatterbox_fallbacks_total{edge="ws"}'] == 1
        assert counted['wyoming_chatterbox_first_audio_seconds_count{edge="http",model="original"}'] == 1
        assert counted['wyoming_chatterbox_rtf_count{model="original"}'] == 3
        assert counted['wyoming_chatterbox_http_requests_total{route="/v1/audio/speech",status="200"}'] == 1
        assert counted['wyoming_chatterbox_http_requests_total{route="/v1/audio/speech",status="400"}'] == 1
        assert counted["wyoming_chatterbox_queue"] == 0 and counted["wyoming_chatterbox_queue_limit"] == 7
        assert counted["wyoming_chatterbox_websockets"] == 1
        assert counted["process_resident_memory_bytes"] > 10e6


async def test_paths_that_strangers_make_up_are_one_series() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for number in range(5):
            await client.get(f"/v1/nothing{number}")
            await client.get(f"/v1/models/nothing{number}")
        counted = series((await client.get("/metrics")).text)
    assert counted['wyoming_chatterbox_http_requests_total{route="other",status="404"}'] == 5
    assert counted['wyoming_chatterbox_http_requests_total{route="/v1/models/{model}",status="404"}'] == 5
    assert not any("nothing" in name for name in counted)


async def test_the_dashboard_asks_for_series_that_there_are() -> None:
    dashboard = json.loads((ROOT / "docs" / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 8
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        await client.post("/v1/audio/speech", json={"input": "Hello."})
        text = (await client.get("/metrics")).text
    known = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for query in queries:
        for name in re.findall(r"\b(?:wyoming_chatterbox|process)_\w+", query):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in known or base in known, f"{name} of {query!r}"


async def test_openais_client_speaks_streams_and_reads_errors() -> None:
    engine = SlowEngine(seconds=0.1, chunks=4)
    async with serving(model_of(engine)) as server:
        async with openai.AsyncOpenAI(api_key="none", base_url=f"{server.http}/v1", max_retries=0) as client:
            assert "tts-1" in [one.id async for one in client.models.list()]
            assert (await client.models.retrieve("slow")).id == "slow"
            answer = await client.audio.speech.create(
                model="gpt-4o-mini-tts",
                voice="nova",
                input="Hello.",
                instructions="Cheerfully.",
                response_format="pcm",
                extra_body={"exaggeration": 0.7},
            )
            assert len(await answer.aread()) == 4 * 4800
            assert engine.settings[0].exaggeration == 0.7
            engine.made = 0
            async with client.audio.speech.with_streaming_response.create(
                model="tts-1", voice="alloy", input="Hello there.", response_format="pcm", speed=1.0
            ) as streamed:
                sizes = []
                async for piece in streamed.iter_bytes():
                    if not sizes:
                        assert engine.made < 4, "the first bytes came only when all of it was made"
                    sizes.append(len(piece))
                assert sum(sizes) == 4 * 4800
            with pytest.raises(openai.NotFoundError) as refused:
                await client.audio.speech.create(model="tts-1", voice="nobody", input="Hello.")
            assert refused.value.code == "voice-not-found" and "There is no voice 'nobody'" in str(refused.value)
            with pytest.raises(openai.BadRequestError) as wrong:
                await client.audio.speech.create(model="tts-1", voice="alloy", input="x", extra_body={"cfg_weight": 5})
            assert wrong.value.param == "cfg_weight"


async def test_what_wyoming_openai_asks_for_is_answered() -> None:
    """Its calls, in their order: it finds out what kind of server this is, lists the voices, and speaks."""
    async with serving(model_of(ToneEngine())) as server:
        async with openai.AsyncOpenAI(api_key="none", base_url=f"{server.http}/v1/", max_retries=0) as client:
            plain = client._client
            assert (await plain.get("/readyz")).status_code == 404, "not LocalAI, whose voices are its models"
            health = await plain.get("../../health")
            assert (health.status_code, health.text) == (200, "OK"), "taken for Speaches: its voices are listed"
            model = (await plain.get("/models/tts-1")).json()
            assert [voice["name"] for voice in model["voices"]] == ["tone"]
            voices = (await plain.get("/audio/voices")).json()["voices"]
            assert [voice["id"] for voice in voices] == ["tone"], "as it asks Kokoro-FastAPI"
            async with client.audio.speech.with_streaming_response.create(
                model="tts-1", voice="tone", input="Hello.", response_format="wav", speed=1.0, instructions=""
            ) as answer:
                data = b"".join([piece async for piece in answer.iter_bytes(chunk_size=2048)])
            assert data[:4] == b"RIFF" and int.from_bytes(data[24:28], "little") == RATE
            assert len(data) == 44 + 2 * 4800


async def test_a_hit_of_the_cache_is_said_and_costs_no_work(tmp_path, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    caplog.set_level(logging.INFO)
    engine = ToneEngine()
    async with serving(model_of(engine), cache_size=1, data_dir=tmp_path) as server, asking(server) as client:
        body = {"input": "Hello there. How are you?", "response_format": "pcm"}
        first = (await client.post("/v1/audio/speech", json=body)).content
        await until(lambda: len(server.server.service.cache) == 2, "nothing is kept")
        assert (await client.post("/v1/audio/speech", json=body)).content == first
        async with talking(server) as socket:
            await say(socket, type="start", text="How are you?")
            heard = await hear(socket)
            assert heard.metrics["cached"] and heard.of("chunk")[0]["cached"] and heard.metrics["rtf"] is None
        async with server.client() as wyoming:
            assert (await synthesize(wyoming, "Hello there. How are you?")).pcm == first
        assert engine.texts == ["Hello there.", "How are you?"]
        counted = series((await client.get("/metrics")).text)
    assert counted["wyoming_chatterbox_cache_hits_total"] == 5
    assert counted["wyoming_chatterbox_cache_misses_total"] == 2
    assert counted["wyoming_chatterbox_cache_sentences"] == 2
    lines = [record.getMessage() for record in caplog.records if "Utterance" in record.getMessage()]
    assert ["cached=0" in line for line in lines] == [True, False, False, False]
