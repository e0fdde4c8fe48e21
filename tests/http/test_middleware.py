"""Who may ask, how much, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.http.clients import TOKEN, asking, hear, raw, say, serving, socket_uri, talking
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.http.auth import BearerTokens
from wyoming_chatterbox.limits import MAX_JSON_BYTES, UNREAD_BODY_SECONDS
from wyoming_chatterbox.path_checks import check_paths
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.engines import ToneEngine, model_of

HELLO = {"input": "Hello there.", "response_format": "pcm"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"\n{TOKEN}\n")
    return path


async def test_only_this_servers_names_are_answered() -> None:
    async with serving(model_of(ToneEngine()), http_host=("tts.example.org",)) as server, asking(server) as client:
        for host in ("localhost", "127.0.0.1:1", "[::1]", "192.168.1.5:10201", "TTS.example.org:80", "LOCALHOST:5"):
            assert (await client.get("/health/live", headers={"host": host})).status_code == 200, host
        for host in (
            "evil.example",
            "tts.example.org.evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ):
            answer = await client.get("/v1/models", headers={"host": host})
            assert (answer.status_code, answer.json()["error"]["code"]) == (421, "host-not-allowed"), host
        assert b"400 Bad Request" in await raw(server, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
        with pytest.raises(InvalidStatus) as refused:
            async with connect(socket_uri(server), additional_headers={"Host": "evil.example"}):
                pass
        assert refused.value.response.status_code in (400, 421)


async def test_pages_of_others_are_refused_unless_they_are_named() -> None:
    engine = ToneEngine()
    async with serving(model_of(engine), http_cors_origin=("https://ha.example",)) as server, asking(server) as client:
        port = server.http.rpartition(":")[2]
        for origin in ("http://evil.example", "null", f"http://localhost:{port}", "http://127.0.0.1"):
            answer = await client.post("/v1/audio/speech", json=HELLO, headers={"origin": origin})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin-not-allowed"), origin
            assert "access-control-allow-origin" not in answer.headers
            with pytest.raises(InvalidStatus) as refused:
                async with connect(socket_uri(server), origin=origin):  # type: ignore[arg-type]
                    pass
            assert refused.value.response.status_code == 403
        assert not engine.texts
        own = {"origin": server.http}
        assert (await client.post("/v1/audio/speech", json=HELLO, headers=own)).status_code == 200
        named = {"origin": "https://ha.example"}
        answer = await client.post("/v1/audio/speech", json=HELLO, headers=named)
        assert answer.headers["access-control-allow-origin"] == "https://ha.example"
        assert "X-Voice" in answer.headers["access-control-expose-headers"]
        preflight = {**named, "access-control-request-method": "POST"}
        answer = await client.options("/v1/audio/speech", headers=preflight)
        assert answer.status_code == 204 and "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"].split(", ") == ["Authorization", "Content-Type", "*"]
        async with connect(socket_uri(server), origin="https://ha.example"):  # type: ignore[arg-type]
            pass


async def test_no_page_of_another_server_is_let_in_by_default() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        preflight = {"origin": "https://ha.example", "access-control-request-method": "POST"}
        answer = await client.options("/v1/audio/speech", headers=preflight)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


async def test_a_token_is_needed_where_there_is_a_file_of_them(token_file: Path) -> None:
    engine = ToneEngine()
    async with serving(model_of(engine), http_token_file=token_file) as server, asking(server) as client:
        for method, path in (
            ("POST", "/v1/audio/speech"),
            ("POST", "/audio/speech"),
            ("POST", "/audio/speech/stream"),
            ("GET", "/v1/models"),
            ("GET", "/v1/audio/voices"),
            ("POST", "/v1/audio/voices"),
            ("DELETE", "/v1/audio/voices/x"),
            ("GET", "/api/settings"),
            ("GET", "/metrics"),
        ):
            for said in (None, "Bearer wrong-but-long-enough", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"):
                answer = await client.request(method, path, json=HELLO, headers={"authorization": said} if said else {})
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized"), (path, said)
                assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/", "/health/live", "/health/ready", "/openapi.json"):
            assert (await client.get(path)).status_code == 200, path
        assert not engine.texts
        right = {"authorization": f"Bearer {TOKEN}"}
        assert (await client.post("/v1/audio/speech", json=HELLO, headers=right)).status_code == 200


async def test_a_websocket_shows_its_token_in_a_header_or_as_a_subprotocol(token_file: Path) -> None:
    async with serving(model_of(ToneEngine()), http_token_file=token_file) as server:
        for options in ({}, {"subprotocols": ["chatterbox", "bearer.wrong-but-long-enough"]}):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(socket_uri(server), **options):  # type: ignore[arg-type]
                    pass
            assert refused.value.response.status_code == 401
            assert json.loads(refused.value.response.body)["error"]["code"] == "unauthorized"
        for options in (
            {"subprotocols": ["chatterbox", f"bearer.{TOKEN}"]},
            {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}},
        ):
            async with connect(socket_uri(server), **options) as socket:  # type: ignore[arg-type]
                assert socket.subprotocol == ("chatterbox" if "subprotocols" in options else None)
                await socket.recv()
                await say(socket, type="start", text="Hello.")
                assert (await hear(socket)).metrics["outcome"] == "finished"


async def test_tokens_are_read_again_when_their_file_changes(
    token_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = BearerTokens(token_file)
    assert await tokens.accept(TOKEN) and not await tokens.accept("another-long-token")
    token_file.write_text("another-long-token\n" + "one-more-long-token\n")
    os.utime(token_file, ns=(1, 1))
    assert not await tokens.accept(TOKEN)
    assert await tokens.accept("another-long-token") and await tokens.accept("one-more-long-token")
    token_file.write_text("short\none-more-long-token\n")
    assert not await tokens.accept("another-long-token") and not await tokens.accept("short")
    assert await tokens.accept("one-more-long-token"), "one bad line locks out nobody else"
    assert "less than 16" in caplog.text
    token_file.write_text("")
    assert not await tokens.accept("one-more-long-token"), "an emptied file revokes every token"
    token_file.unlink()
    assert not await tokens.accept("one-more-long-token"), "a deleted file revokes every token"
    assert "nobody is let in" in caplog.text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no token"),
        ("short", "less than 16"),
        ("x" * 70_000, "longer"),
        ("c2VjcmV0/c2VjcmV0c2VjcmV0==", "browsers cannot send"),
    ],
)
def test_a_token_file_that_cannot_be_used_ends_the_start(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(content)
    with pytest.raises(SettingsError, match=said):
        BearerTokens(path)
    with pytest.raises(SettingsError, match=r"http_token_file: .* is not a file; create it and write a token"):
        check_paths(Settings(http_token_file=tmp_path / "none"))


async def test_bodies_are_bounded_in_size_and_time() -> None:
    async with serving(model_of(ToneEngine()), event_timeout=0.3) as server, asking(server) as client:
        answer = await client.post("/v1/audio/speech", content=b"x" * (MAX_JSON_BYTES + 1))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body-too-large")
        head = b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        block = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        assert b" 413 " in await raw(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + block * 17)
        began = time.monotonic()
        assert b" 408 " in await raw(server, head + b'Content-Length: 100\r\n\r\n{"input":')
        assert time.monotonic() - began < 3


async def test_a_request_with_two_lengths_ends_its_connection() -> None:
    async with serving(model_of(ToneEngine())) as server:
        head = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        answer = await raw(server, head + b"0\r\n\r\n" + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1


async def test_a_body_that_nobody_asked_for_does_not_hold_its_connection() -> None:
    async with serving(model_of(ToneEngine())) as server:
        began = time.monotonic()
        answer = await raw(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx")
        assert answer.startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 3 * UNREAD_BODY_SECONDS


async def test_json_of_many_values_is_refused_before_it_is_parsed() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        many = json.dumps({"input": "x", **{f"k{n}": 1 for n in range(3000)}})
        for content, words in ((many, "more than 2048 values"), ("[" * 17 + "]" * 17, "nested deeper than 16")):
            answer = await client.post(
                "/v1/audio/speech", content=content, headers={"content-type": "application/json"}
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid-request")
            assert words in answer.json()["error"]["message"]
            async with talking(server) as socket:
                await socket.send(content)
                assert words in json.loads(await socket.recv())["message"]


async def test_an_open_websocket_ends_when_its_token_is_revoked(token_file: Path) -> None:
    async with serving(model_of(ToneEngine()), http_token_file=token_file) as server:
        async with connect(socket_uri(server), additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            await socket.recv()
            token_file.write_text("another-long-token\n")
            failed = json.loads(await asyncio.wait_for(socket.recv(), 10))
            assert failed["code"] == "unauthorized"
            await socket.wait_closed()
            assert socket.close_code == 3000


async def test_a_token_is_in_no_line_of_the_log(token_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    logging.getLogger("websockets.client").setLevel("INFO")  # the test's own client
    async with serving(model_of(ToneEngine()), http_token_file=token_file) as server:
        with pytest.raises(InvalidStatus):
            async with connect(socket_uri(server)):
                pass
        async with connect(socket_uri(server), subprotocols=["chatterbox", f"bearer.{TOKEN}"]) as socket:  # type: ignore[list-item]
            await socket.recv()
    assert TOKEN not in caplog.text
    assert not [record for record in caplog.records if record.levelname == "ERROR"], "a refusal is no fault"


async def test_half_a_request_is_not_waited_for_for_ever() -> None:
    async with serving(model_of(ToneEngine()), event_timeout=0.3) as server:
        began = time.monotonic()
        assert await raw(server, b"") == b""
        assert await raw(server, b"GET / HTTP/1.1\r\nHost:") == b""
        whole = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert server.server.http is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.http.port)
        writer.write(whole)
        assert b"200 OK" in await reader.read(1000)
        writer.write(b"GET /health/li")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        assert time.monotonic() - began < 5


async def test_heads_are_bounded() -> None:
    async with serving(model_of(ToneEngine())) as server:
        answer = await raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 50_000)
        assert b"400 Bad Request" in answer


async def test_connections_without_work_give_way_to_newcomers() -> None:
    async with serving(model_of(ToneEngine()), max_connections=1) as server:
        assert server.server.http is not None
        port = server.server.http.port
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(17)]  # as many as may be open
        await asyncio.sleep(0.05)
        ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        assert b"200 OK" in await raw(server, ask)
        assert await asyncio.wait_for(idle[0][0].read(), 10) == b"", "the oldest one made room"
        idle[1][1].write(ask)
        assert b"200 OK" in await asyncio.wait_for(idle[1][0].read(), 10), "the others are still there"
        for _, writer in idle:
            writer.close()


async def test_the_page_comes_with_a_policy_that_forbids_what_it_does_not_need() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        answer = await client.get("/")
        assert answer.headers["content-type"].startswith("text/html")
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert answer.headers["x-content-type-options"] == "nosniff"
        for path in ("/../pyproject.toml", "/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd"):
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert answer.json()["error"]["code"] == "not-found"


async def test_a_method_that_a_path_does_not_take_is_not_taken_for_a_path_that_is_not_there() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for method, path, allowed in [
            ("GET", "/v1/audio/speech", "POST"),
            ("HEAD", "/v1/audio/speech", "POST"),
            ("POST", "/v1/models", "GET, HEAD"),
            ("PUT", "/v1/audio/voices", "GET, HEAD, POST"),
            ("POST", "/app.js", "GET, HEAD"),
            ("POST", "/", "GET, HEAD"),
            ("DELETE", "/openapi.json", "GET, HEAD"),
        ]:
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers["Allow"]) == (405, allowed), (method, path)
            assert method == "HEAD" or answer.json()["error"]["code"] == "method-not-allowed"
        for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
            for path in ("/v1/nothing", "/v2/audio/speech", "/nothing.js"):
                answer = await client.request(method, path, json={} if method == "POST" else None)
                assert answer.status_code == 404, (method, path)
                assert method == "HEAD" or answer.json()["error"]["code"] == "not-found"
        for path in ("/nothing", "/v1/models", "/app.js"):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(server.http.replace("http", "ws") + path):
                    pass
            assert refused.value.response.status_code == 404
            assert json.loads(refused.value.response.body)["error"]["code"] == "not-found"
        answer = await client.get("/ws/stream/audio")
        assert answer.status_code == 404 and "ws://" in answer.json()["error"]["message"]


async def test_head_works_wherever_get_does() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        paths = [
            path for path, methods in (await client.get("/openapi.json")).json()["paths"].items() if "get" in methods
        ]
        assert len(paths) > 6
        for path in (*(path.replace("{model}", "tts-1") for path in paths), "/", "/app.js", "/openapi.json"):
            whole, head = await client.get(path), await client.head(path)
            assert (head.status_code, head.content) == (whole.status_code, b"") == (200, b""), path
            assert head.headers["content-type"] == whole.headers["content-type"]


async def test_slashes_too_many_change_nothing() -> None:
    """What a base URL that ends with a slash makes of a path."""
    async with serving(model_of(ToneEngine())) as server:
        for path in ("//v1/models", "/v1//models", "/v1/models/", "///v1///models//"):
            answer = await raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 200") and b'"object":"list"' in answer, path
        for path in ("//v1/audio/voices", "/v1/audio//voices/"):  # a way around neither the guard …
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            assert b'"token-needed"' in await raw(server, head.encode()), path
        for path in ("/v1/models/%2F", "//etc/passwd", "/%2fv1/models"):  # … nor out of a name or the page's folder
            answer = await raw(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 404"), path


async def test_health_is_told_to_who_asks_for_the_head_only() -> None:
    async with serving(model_of(ToneEngine())) as server, asking(server) as client:
        for path in ("/health", "/health/live", "/health/ready"):
            answer = await client.head(path)
            assert (answer.status_code, answer.content) == (200, b""), path
