"""What clients of OpenAI's API and of other servers send, as they send it."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.http.clients import TOKEN, asking, hear, say, serving, talking
from wyoming_chatterbox.http.encoders import MEDIA_TYPES
from wyoming_chatterbox.testing.engines import ToneEngine, model_of

HELLO = {"input": "Hello there.", "response_format": "pcm"}

HARMLESS: list[dict[str, Any]] = [
    *({"stream": True}, {"stream": False}, {"user": "user-1234"}, {"lang_code": "a"}, {"language_id": "en"}),
    *({"instructions": "Cheerfully."}, {"speaker_id": "0"}, {"volume_multiplier": 1.0}, {"split_text": True}),
    *({"normalization_options": {"normalize": True}}, {"extra": [1, 2]}, {"": 1}, {"x" * 10_000: 1}),
    {
        name: None
        for name in ("model", "voice", "speed", "stream_format", "response_format", "instructions", "language")
    },
    {name: None for name in ("exaggeration", "seed", "cfg_weight", "temperature", "speaker", "user", "stream")},
    *({"model": ""}, {"voice": ""}, {"language": ""}, {"instructions": ""}),
    *({"response_format": "PCM"}, {"stream_format": "Audio"}, {"speed": 1}, {"voice": {"id": "tone"}}),
]

FOREIGN_MODELS = (
    *("tts-1", "TTS-1-HD", "tts-1-1106", "gpt-4o-mini-tts", "gpt-4o-mini-tts-2025-12-15", "chatterbox", "kokoro"),
    *("chatterbox-turbo", "hexgrad/Kokoro-82M", "speaches-ai/piper-en_US-amy-low", "m" * 200),
)


async def test_what_other_servers_take_is_taken() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for body in HARMLESS:
            answer = await client.post("/v1/audio/speech", json={**HELLO, **body})
            assert answer.status_code == 200, (body, answer.text)
            default = body.get("response_format", "") is None
            assert answer.headers["content-type"] == ("audio/mpeg" if default else "audio/pcm"), body


@pytest.mark.parametrize("name", MEDIA_TYPES)
async def test_capitals_of_a_format_do_not_matter(name: str) -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        answer = await client.post("/v1/audio/speech", json={**HELLO, "response_format": name.upper()})
        assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPES[name])
        async with talking(server) as socket:
            await say(socket, type="start", text="Hello.", response_format=name.capitalize())
            heard = await hear(socket)
            expected = "pcm_s16le" if name == "pcm" else name
            assert heard.of("started")[0]["format"]["encoding"] == expected


async def test_a_model_of_another_server_is_what_this_one_speaks_with() -> None:
    other = model_of(ToneEngine("embedded"))
    async with serving(model_of(ToneEngine("original")), other) as server, asking(server) as client:
        await other.wait_until_decided()
        for model in FOREIGN_MODELS:
            answer = await client.post("/v1/audio/speech", json={**HELLO, "model": model, "voice": "alloy"})
            assert (answer.status_code, answer.headers.get("x-model")) == (200, "original"), model
        answer = await client.post("/v1/audio/speech", json={**HELLO, "model": "Embedded"})
        assert answer.headers["x-model"] == "embedded"
        answer = await client.post("/v1/audio/speech", json={**HELLO, "model": "kokoro", "voice": "embedded"})
        assert answer.headers["x-model"] == "embedded", "the voice that was asked for says which model"
        missing = await client.get("/v1/models/kokoro")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model-not-found")


async def test_a_start_message_may_say_null_and_is_else_ours() -> None:
    async with serving(model_of(ToneEngine())) as server, talking(server) as socket:
        nulls = dict.fromkeys(("voice", "language", "speaker", "response_format", "id", "exaggeration", "seed"))
        await say(socket, type="start", text="Hello.", **nulls)
        heard = await hear(socket)
        assert heard.metrics["outcome"] == "finished" and heard.of("started")[0]["format"]["encoding"] == "pcm_s16le"
        for wrong, message in (({"lang_code": "a"}, "lang_code"), ({"response_format": "ogg"}, "'mp3'")):
            await say(socket, type="start", text="Hello.", **wrong)
            heard = await hear(socket)
            assert message in heard.of("error")[0]["message"]


async def test_models_and_voices_are_where_clients_look_for_them() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        listed = (await client.get("/v1/models")).json()
        assert listed["data"][0]["id"] == "tone"
        for path in ("/v1/audio/models", "/audio/models"):
            audio = (await client.get(path)).json()
            assert audio["models"] == audio["data"] == listed["data"]
        assert (await client.get("/models")).json() == listed
        assert (await client.get("/models/tone")).json() == listed["data"][0]
        assert (await client.get("/audio/voices")).json() == (await client.get("/v1/audio/voices")).json()


async def test_openais_client_raises_what_is_wrong_and_how_to_mend_it(tmp_path: Any) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    right: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
    cases: list[tuple[type[openai.APIStatusError], dict[str, Any], str, str | None, tuple[str, ...]]] = [
        (openai.NotFoundError, {"voice": "tony"}, "voice-not-found", None, ("'tony'", "similar names: tone")),
        (openai.NotFoundError, {"voice": "xyz"}, "voice-not-found", None, ("'xyz'", "available: tone")),
        (
            openai.BadRequestError,
            {"speed": 9.0},
            "invalid-request",
            "speed",
            ("speed", "9.0", "less than or equal to 4"),
        ),
        (openai.BadRequestError, {"speed": 0.1}, "invalid-request", "speed", ("speed", "0.1", "equal to 0.25")),
        (openai.BadRequestError, {"response_format": "ogg"}, "invalid-request", "response_format", ("'ogg'", "'opus'")),
        (openai.BadRequestError, {"input": ""}, "invalid-request", "input", ("input", "at least 1 character")),
        (
            openai.BadRequestError,
            {"extra_body": {"seed": -5}},
            "invalid-setting",
            "seed",
            ("seed", "-5", "allowed: -1"),
        ),
    ]
    async with serving(model_of(ToneEngine()), http_token_file=tokens) as server:
        async with openai.AsyncOpenAI(api_key=TOKEN, base_url=f"{server.http}/v1", max_retries=0) as client:
            assert (await client.audio.speech.create(**right)).response.status_code == 200
            for kind, wrong, code, param, said in cases:
                with pytest.raises(kind) as refused:
                    await client.audio.speech.create(**{**right, **wrong})
                assert (refused.value.code, refused.value.param) == (code, param), refused.value
                assert all(part in str(refused.value) for part in said), refused.value
            with pytest.raises(openai.NotFoundError) as missing:
                await client.models.retrieve("whisper")
            assert missing.value.code == "model-not-found" and "available: tone" in str(missing.value)
        for key in ("none", f"{TOKEN}x"):
            async with openai.AsyncOpenAI(api_key=key, base_url=f"{server.http}/v1/", max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError) as unknown:
                    await client.audio.speech.create(**right)
                assert unknown.value.code == "unauthorized"
                assert "API key" in str(unknown.value) and "--http-token-file" in str(unknown.value)
                assert key == "none" or key not in str(unknown.value), "a key is no value to repeat"
