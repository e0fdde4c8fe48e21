"""Time limits and processes that are stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from pathlib import Path

import pytest

from wyoming_chatterbox.testing.serving import spawned
from wyoming_chatterbox.timeouts import wait_for


async def test_what_takes_too_long_is_cancelled() -> None:
    started = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await wait_for(0.2, asyncio.sleep(30))
    assert 0.15 < time.monotonic() - started < 5


async def test_time_in_which_the_loop_did_not_run_does_not_count() -> None:
    async def work() -> str:
        for _ in range(20):
            await asyncio.sleep(0.001)
        return "done"

    task = asyncio.ensure_future(wait_for(0.8, work()))
    await asyncio.sleep(0)
    time.sleep(1.5)
    assert await task == "done"


def test_what_came_while_the_process_was_stopped_is_not_late(tmp_path: Path) -> None:
    with spawned(tmp_path, "--model", "embedded", "--event-timeout", "1") as server:
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(b'{"type": "desc')
            time.sleep(0.3)
            server.process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            client.sendall(b'ribe"}\n')
            server.process.send_signal(signal.SIGCONT)
            assert b'"info"' in client.recv(4096)
