"""What one client sends stops nobody else, and uvicorn still has the parts that this needs."""

from __future__ import annotations

import asyncio
import json

import pytest
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from tests.http.clients import raw, serving
from wyoming_chatterbox.testing.engines import ToneEngine, model_of


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (H11Protocol, ("handle_websocket_upgrade", "send_400_response", "on_response_complete")),
        (H11Protocol, ("timeout_keep_alive_handler",)),
        (WebSocketsSansIOProtocol, ("handle_cont", "handle_ping", "handle_parser_exception", "resume_writing")),
        (WebSocketsSansIOProtocol, ("keepalive_timeout", "send")),
    ],
)
def test_uvicorn_has_the_parts_that_are_used(protocol: type, names: tuple[str, ...]) -> None:
    assert [name for name in names if not hasattr(protocol, name)] == []


async def test_a_health_check_does_not_wait_for_chunks_of_one_byte() -> None:
    async with serving(model_of(ToneEngine())) as server:
        assert server.server.http is not None
        body = b" " * 50_000 + json.dumps({"input": "Hello.", "response_format": "pcm"}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.server.http.port)
        writer.write(
            b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
            + b"".join(b"1\r\n%c\r\n" % byte for byte in body)
            + b"0\r\n\r\n"
        )
        flood = asyncio.create_task(reader.read())
        for _ in range(3):
            check = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert b"200 OK" in await raw(server, check)
        assert not flood.done(), "the checks were answered while the chunks were still being parsed"
        assert b"200 OK" in await asyncio.wait_for(flood, 30)
        writer.close()
