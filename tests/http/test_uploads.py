"""Voices are added and deleted by clients, if they have a token."""

from __future__ import annotations

from pathlib import Path

from tests.http.clients import TOKEN, asking, raw, serving
from tests.voices.audio_factory import audio
from wyoming_chatterbox.engine.registry import create_library
from wyoming_chatterbox.limits import MAX_CLIP_BYTES
from wyoming_chatterbox.testing.engines import ToneEngine, model_of

HELLO = {"input": "Hello there.", "response_format": "pcm"}


def upload(name: str, clip: bytes | None = None, filename: str = "clip.wav") -> dict:
    return {"data": {"name": name}, "files": {"file": (filename, audio() if clip is None else clip, "audio/wav")}}


async def test_without_a_token_file_nobody_may(tmp_path: Path) -> None:
    library = create_library((tmp_path / "voices",))
    async with serving(model_of(ToneEngine("original")), library=library) as server, asking(server) as client:
        answer = await client.post("/v1/audio/voices", **upload("anna"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "token-needed")
        answer = await client.delete("/v1/audio/voices/anna")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "token-needed")
    assert not list(tmp_path.rglob("anna*"))


async def test_a_voice_is_there_when_its_upload_is_answered_and_gone_when_it_is_deleted(tmp_path: Path) -> None:
    tokens, folder = tmp_path / "tokens", tmp_path / "voices"
    tokens.write_text(TOKEN)
    engine = ToneEngine("original")
    settings = {"http_token_file": tokens, "voices_dir": (folder,), "library": create_library((folder,))}
    async with serving(model_of(engine), **settings) as server:
        async with asking(server) as stranger:
            assert (await stranger.post("/v1/audio/voices", **upload("anna"))).status_code == 401
            assert not list(folder.glob("*"))
        async with asking(server, authorization=f"Bearer {TOKEN}") as client:
            answer = await client.post("/v1/audio/voices", **upload("anna"))
            assert answer.status_code == 201, answer.text
            assert answer.json()["voice"]["name"] == "anna"
            names = [voice["name"] for voice in (await client.get("/v1/audio/voices")).json()["voices"]]
            assert names == ["original", "anna"]
            answer = await client.post("/v1/audio/speech", json={**HELLO, "voice": "anna"})
            assert (answer.status_code, answer.headers["x-voice"]) == (200, "anna")
            for wrong, said in (
                (upload("anna"), "anna"),
                (upload("../../etc/cron"), "name"),
                (upload("b", b"no audio"), ""),
                (upload("b", filename="clip.exe"), ".exe"),
                (upload("b", b""), ""),
            ):
                answer = await client.post("/v1/audio/voices", **wrong)
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid-voice"), answer.text
                assert said in answer.json()["error"]["message"]
            answer = await client.post("/v1/audio/voices", data={"name": "b"})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
            answer = await client.post("/v1/audio/voices", json={"name": "b"})
            assert answer.status_code == 400
            sent = f"POST /v1/audio/voices HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
            answer = await raw(server, f"{sent}Content-Length: {2 * MAX_CLIP_BYTES}\r\n\r\n".encode())
            assert b" 413 " in answer and b'"body-too-large"' in answer
            assert [path.name for path in folder.glob("*")] == ["anna.wav"]
            replaced = upload("anna")
            replaced["data"]["replace"] = "true"
            assert (await client.post("/v1/audio/voices", **replaced)).status_code == 201
            answer = await client.delete("/v1/audio/voices/anna")
            assert (answer.status_code, answer.json()["deleted"]) == (200, ["anna.wav"])
            answer = await client.delete("/v1/audio/voices/anna")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "voice-not-found")
            answer = await client.post("/v1/audio/speech", json={**HELLO, "voice": "anna"})
            assert answer.status_code == 404


async def test_a_model_that_clones_nothing_says_so(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    async with serving(model_of(ToneEngine()), http_token_file=tokens) as server:
        async with asking(server, authorization=f"Bearer {TOKEN}") as client:
            answer = await client.post("/v1/audio/voices", **upload("anna"))
            assert (answer.status_code, answer.json()["error"]["code"]) == (409, "cannot-clone")
