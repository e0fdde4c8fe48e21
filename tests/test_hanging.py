"""The process ends when it is told to, and speaks meanwhile, whatever disk, share or name service hangs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import sys
import time
from pathlib import Path

import pytest
from wyoming.client import AsyncTcpClient

from wyoming_chatterbox.engine.base import EngineError
from wyoming_chatterbox.engine.load_errors import may_pass
from wyoming_chatterbox.speech.model import ModelState
from wyoming_chatterbox.testing.engines import ToneEngine, hosted_model
from wyoming_chatterbox.testing.serving import describe, spawned, synthesize

HANG = """
import os, pathlib, socket, sys, threading
from wyoming_chatterbox.__main__ import run

def hang(*arguments, **named):
    print("it hangs", file=sys.stderr, flush=True)
    threading.Event().wait()

def dead(module, name, part):
    work = getattr(module, name)
    def call(path=".", *arguments, **named):
        return (hang if part in str(path) else work)(path, *arguments, **named)
    setattr(module, name, call)

{patch}
run()
"""

SHARE = """
for name in ("scandir", "stat", "open", "mkdir", "listdir", "lstat", "readlink"):
    dead(os, name, "the-share")
import builtins
dead(builtins, "open", "the-share")
"""
"""Every call with the path of the share hangs, as on a network mount whose server is gone."""

CACHE = """
import wyoming_chatterbox.speech.cache as cache
cache.SpeechCache._scan = hang
"""

NAMES = """
socket.getaddrinfo = hang
"""

EXECUTOR = """
import asyncio
from wyoming_chatterbox.server import Server
start = Server.start
async def start_with_a_library_that_hangs(self):
    await start(self)
    asyncio.get_running_loop().run_in_executor(None, hang)
Server.start = start_with_a_library_that_hangs
"""


def program(patch: str) -> tuple[str, ...]:
    return sys.executable, "-c", HANG.replace("{patch}", patch)


def ends(server: object, within: float = 8.0) -> None:
    started = time.monotonic()
    assert server.stop() == 0  # type: ignore[attr-defined]
    assert time.monotonic() - started < within


@pytest.mark.parametrize(("flag", "calls"), [("--voices-dir", 2), ("--data-dir", 1)])
def test_a_dead_share_of_voices_keeps_neither_the_start_nor_the_end(tmp_path: Path, flag: str, calls: int) -> None:
    """The settings' check of --voices-dir is the first call, the search for voices the next."""
    (tmp_path / "the-share").mkdir()
    with spawned(tmp_path, flag, "the-share", "--model", "original", program=program(SHARE)) as server:
        server.wait_for("(?s)" + ".*".join(["it hangs"] * calls))
        ends(server)


async def test_the_embedded_voice_speaks_without_a_share_that_hangs(tmp_path: Path) -> None:
    (tmp_path / "the-share").mkdir()
    arguments = ("--voices-dir", "the-share", "--model", "embedded")
    with spawned(tmp_path, *arguments, program=program(SHARE)) as server:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            assert (await synthesize(client, "Hello there.")).types[-1] == "audio-stop"
        ends(server)


async def test_a_cache_that_hangs_keeps_neither_the_start_nor_the_end(tmp_path: Path) -> None:
    env = {"WYOMING_CHATTERBOX_CACHE_SIZE": "5"}
    with spawned(tmp_path, "--data-dir", str(tmp_path), program=program(CACHE), env=env) as server:
        server.wait_for("it hangs")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            assert (await synthesize(client, "Hello there.")).types[-1] == "audio-stop"
        ends(server)


def test_a_name_look_up_that_hangs_does_not_keep_the_end(tmp_path: Path) -> None:
    with spawned(tmp_path, program=program(NAMES), uri="tcp://somewhere.test:0") as server:
        server.wait_for("it hangs")
        ends(server)


def test_a_call_that_hangs_in_the_default_executor_does_not_keep_the_end(tmp_path: Path) -> None:
    with spawned(tmp_path, program=program(EXECUTOR)) as server:
        server.wait_for("it hangs")
        ends(server)


UPLOAD = """
from wyoming_chatterbox.voices.library import VoiceLibrary
VoiceLibrary.add = hang
"""


async def test_an_upload_that_hangs_does_not_keep_the_end(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    httpx = pytest.importorskip("httpx2")
    token = "0123456789abcdef"
    (tmp_path / "tokens").write_text(token)
    arguments = ["--http-uri", "http://127.0.0.1:0", "--http-token-file", "tokens", "--data-dir", "data"]
    arguments += ["--model", "original", "--local-files-only", "--shutdown-timeout", "0.5"]
    with spawned(tmp_path, *arguments, program=program(UPLOAD)) as server:
        uri = server.wait_for(r"(http://127\.0\.0\.1:\d+)").group(1)
        async with httpx.AsyncClient(base_url=uri, headers={"Authorization": f"Bearer {token}"}) as client:
            files = {"file": ("anna.wav", b"RIFF")}
            asking = asyncio.create_task(client.post("/v1/audio/voices", data={"name": "anna"}, files=files))
            await asyncio.to_thread(server.wait_for, "it hangs")
            await asyncio.to_thread(ends, server)
            asking.cancel()


FEW_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
"""


async def test_without_descriptors_the_log_stays_short_and_the_service_returns(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 200:
        pytest.skip("this test needs more descriptors than the server")
    arguments = ("--max-connections", "100", "--model", "embedded")
    with spawned(tmp_path, *arguments, program=program(FEW_DESCRIPTORS)) as server:
        port = server.port
        with contextlib.ExitStack() as clients:
            for _ in range(60):
                clients.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            server.wait_for("New clients wait: Too many open files", 10)
            await asyncio.sleep(2.5)
        assert len(server.log) < 10_000, server.log[-2000:]
        assert server.log.count("New clients wait") == 1
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await asyncio.wait_for(describe(client), 10)
        ends(server)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (MemoryError(), True),
        (OSError(errno.EMFILE, "Too many open files"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (OSError(errno.EACCES, "Permission denied"), False),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"), True),
        (RuntimeError("shape '[2]' is invalid"), False),
        (EngineError("s3gen.safetensors is damaged"), False),
    ],
)
async def test_a_first_load_is_tried_again_where_its_failure_may_pass(error: Exception, passes: bool) -> None:
    wrapped = EngineError("the weights cannot be loaded")
    wrapped.__cause__ = error
    assert may_pass(error) is may_pass(wrapped) is passes
    engine, failures = ToneEngine(), [wrapped, error]

    def make(spec: object, report: object, cancel: object) -> ToneEngine:
        if failures:
            raise failures.pop()
        return engine

    model = hosted_model("tone", engine.voices, make, retry_seconds=(0.01,))
    await asyncio.wait_for(model.load(), 10)
    assert model.status.state is (ModelState.READY if passes else ModelState.FAILED)
    await model.close()
