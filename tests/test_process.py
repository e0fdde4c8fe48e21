"""The program as a user starts it: its URIs, its signals, its exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from wyoming.client import AsyncClient, AsyncTcpClient, AsyncUnixClient
from wyoming.event import Event, read_event, write_event

from wyoming_chatterbox.cli import from_command_line
from wyoming_chatterbox.errors import SettingsError
from wyoming_chatterbox.settings import Settings
from wyoming_chatterbox.testing.serving import environment, read_answer, spawned, stream, synthesize

LONG = "The first sentence of a long text is not that short. " * 100


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A start that fails or ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "wyoming_chatterbox", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**(env or {})),
        check=False,
    )


async def say(client: AsyncClient) -> None:
    """One streamed and one plain request, both answered whole."""
    async with client:
        streamed = await stream(client, ["Hello there. ", "How are you?"])
        plain = await synthesize(client, "Hello there. How are you?")
    assert streamed.types == ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
    assert plain.types == ["audio-start", "audio-chunk", "audio-stop"]
    assert plain.pcm == streamed.pcm
    assert streamed.start["model"] == "embedded"
    assert 1 < len(plain.pcm) / 48000 < 5


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
async def test_tcp(tmp_path: Path, host: str) -> None:
    if host == "[::1]" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with spawned(tmp_path, uri=f"tcp://{host}:0") as server:
        await say(AsyncTcpClient(host.strip("[]"), server.port))
        assert server.stop() == 0


async def test_every_address_means_both_families(tmp_path: Path) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with spawned(tmp_path, uri="tcp://0.0.0.0:0") as server:
        await say(AsyncTcpClient("127.0.0.1", server.port))
        await say(AsyncTcpClient("::1", server.port))


async def test_unix_socket_is_made_used_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "speech.sock"
    with spawned(tmp_path, uri=f"unix://{path}") as server:
        server.wait_for("listens on unix://")
        await say(AsyncUnixClient(str(path)))
        assert server.stop() == 0
    assert not path.exists()


async def test_a_unix_socket_left_behind_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = tmp_path / "speech.sock"
    with spawned(tmp_path, uri=f"unix://{path}") as server:
        server.wait_for("listens on")
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    assert path.exists()
    with spawned(tmp_path, uri=f"unix://{path}") as server:
        server.wait_for("listens on")
        refused = run("--uri", f"unix://{path}", "--no-zeroconf")
        assert (refused.returncode, "another server is listening" in refused.stderr) == (2, True)
        await say(AsyncUnixClient(str(path)))


def test_stdio_answers_on_standard_output_and_ends_with_its_input(tmp_path: Path) -> None:
    with spawned(tmp_path, uri="stdio://", stdin=subprocess.PIPE) as server:
        process = server.process
        assert process.stdin is not None and process.stdout is not None
        for event in (
            Event("describe"),
            Event("synthesize-start"),
            Event("synthesize-chunk", {"text": "Hello the"}),
            Event("synthesize-chunk", {"text": "re. Bye."}),
            Event("synthesize-stop"),
        ):
            write_event(event, process.stdin.buffer)
        process.stdin.close()
        types = []
        while (answer := read_event(process.stdout.buffer)) is not None:
            if types[-1:] != [answer.type]:
                types.append(answer.type)
        assert types == ["info", "audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
        assert process.wait(10) == 0
        process.stdin = None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_idle_ends_the_program_at_once(tmp_path: Path, number: int) -> None:
    with spawned(tmp_path) as server:
        server.wait_for("is ready")
        async with AsyncTcpClient("127.0.0.1", server.port):
            await asyncio.sleep(0.05)
            started = time.monotonic()
            assert server.stop(number) == 0
            assert time.monotonic() - started < 2
        assert "Stopped" in server.log


async def test_a_signal_during_a_short_stream_lets_it_finish(tmp_path: Path) -> None:
    with spawned(tmp_path) as server:
        server.wait_for("is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Event("synthesize-start"))
            await client.write_event(Event("synthesize-chunk", {"text": "This is the first. This is "}))
            first = await read_answer(client, "audio-chunk")
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", server.port)
            await client.write_event(Event("synthesize-chunk", {"text": "the second."}))
            await client.write_event(Event("synthesize-stop"))
            rest = await read_answer(client, "synthesize-stopped")
        assert (first.types + rest.types)[-1] == "synthesize-stopped"
        assert "error" not in rest.types
        assert len(rest.pcm) > 24000
        assert server.process.wait(10) == 0


async def test_a_signal_during_a_stream_that_does_not_end_ends_it_at_the_deadline_with_an_error(tmp_path: Path) -> None:
    with spawned(tmp_path, "--shutdown-timeout", "0.5") as server:
        server.wait_for("is ready")
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await client.write_event(Event("synthesize-start"))
            await client.write_event(Event("synthesize-chunk", {"text": "This is the first. This is "}))
            await read_answer(client, "audio-chunk")
            started = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            answer = await read_answer(client, "never")
        assert answer.types[-2:] == ["error", "audio-stop"], "and then the socket is closed"
        assert answer.error["code"] == "shutting-down"
        assert server.process.wait(10) == 0
        assert 0.4 < time.monotonic() - started < 3


def test_a_port_in_use_is_one_clear_line_and_status_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run("--uri", f"tcp://127.0.0.1:{port}", "--no-zeroconf", "--model", "embedded")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        f"wyoming-chatterbox: Cannot listen on tcp://127.0.0.1:{port}: "
        "the port is in use; stop the other server or choose another port"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temprature", "1"], "--temprature: unknown flag; did you mean --temperature? See "),
        (["--speed", "2"], "--speed: refused, it does not exist in chatterbox-streaming"),
        (["--temperature", "9"], "--temperature: 9.0 is out of range (allowed: 0.05 to 5)"),
        (["--uri", "http://127.0.0.1:80"], "--uri: 'http://127.0.0.1:80' is not valid"),
        (["--model-dir", "/nowhere"], "--model-dir: '/nowhere' is not a directory"),
        (["--reference-clip", "/nowhere.wav"], "--reference-clip: '/nowhere.wav' is not a file"),
        (["--model", "embedded", "--voice", "embeded"], "voice: There is no voice 'embeded'; similar names: embedded"),
        (["--uri", "unix:///dev/null", "--model", "embedded"], "/dev/null exists and is not a socket"),
        (["--uri", "tcp://192.0.2.1:5000", "--model", "embedded"], "this machine does not have that address"),
        (["--uri", "tcp://a..b:1", "--model", "embedded"], "'a..b' is not a host name"),
        (["speak"], "'speak': unexpected argument"),
    ],
)
def test_a_bad_start_is_one_clear_line_and_status_2(arguments: list[str], message: str) -> None:
    refused = run("--no-zeroconf", *arguments)
    assert refused.returncode == 2
    lines = [text for text in refused.stderr.splitlines() if " INFO " not in text]
    assert len(lines) == 1
    assert message in lines[0]


def test_a_bad_start_with_a_cache_ends_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    keeps = {"WYOMING_CHATTERBOX_CACHE_SIZE": "1", "WYOMING_CHATTERBOX_DATA_DIR": str(tmp_path)}
    refused = run("--no-zeroconf", "--uri", "tcp://127.0.0.1:0", "--model", "embedded", "--voice", "nobody", env=keeps)
    assert refused.returncode == 2 and "There is no voice 'nobody'" in refused.stderr
    assert time.monotonic() - started < 8, "the cache's thread was waited for, ten seconds"


def test_a_misspelt_environment_variable_is_refused() -> None:
    refused = run(env={"WYOMING_CHATTERBOX_VOIC": "x"})
    assert refused.returncode == 2
    assert (
        "WYOMING_CHATTERBOX_VOIC: unknown environment variable; did you mean WYOMING_CHATTERBOX_VOICE?"
        in refused.stderr
    )


async def test_settings_come_from_the_environment_too(tmp_path: Path) -> None:
    with spawned(tmp_path, env={"WYOMING_CHATTERBOX_SAMPLE_RATE": "16000"}) as server:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            assert (await synthesize(client, "Hello.")).start["rate"] == 16000


async def test_the_log_has_one_line_of_plain_numbers_per_utterance(tmp_path: Path) -> None:
    with spawned(tmp_path) as server:
        async with AsyncTcpClient("127.0.0.1", server.port) as client:
            await synthesize(client, "Hello there. How are you?")
        line = server.wait_for(r"Utterance 1: .*").group(0)
    fields = dict(part.split("=") for part in line.split() if "=" in part)
    assert " finished " in line
    assert (fields["model"], fields["voice"], fields["fallback"]) == ("embedded", "embedded", "no")
    assert (fields["sentences"], fields["chunks"]) == ("2", "2")
    assert 1 < float(fields["audio"].rstrip("s")) < 5
    assert 0 < float(fields["first_chunk"].rstrip("s")) <= float(fields["first_audio"].rstrip("s")) < 2
    assert 0 < float(fields["rtf"]) < 1


async def test_memory_does_not_grow_with_hostile_payloads(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil", reason="needs the dev extra (script/setup --dev)")
    with spawned(tmp_path) as server:
        server.wait_for("is ready")
        before = psutil.Process(server.process.pid).memory_info().rss
        writers = []
        for _ in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b'{"type": "synthesize", "payload_length": 16000000}\n' + bytes(15_000_000))
            await writer.drain()
            writers.append(writer)
        await asyncio.sleep(0.3)
        grown = psutil.Process(server.process.pid).memory_info().rss - before
        for writer in writers:
            writer.close()
    assert grown < 20_000_000, f"120 MB were sent, {grown / 1e6:.0f} MB are kept"


def test_help_and_version_answer_in_under_half_a_second() -> None:
    for flag in ("--help", "--version"):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            answer = run(flag)
            times.append(time.perf_counter() - started)
            assert answer.returncode == 0
        assert min(times) < 0.5, flag
    assert answer.stdout == "0.1.0\n"


def test_threads_do_not_keep_the_program_alive(tmp_path: Path) -> None:
    with spawned(tmp_path) as server:
        server.port  # noqa: B018  it listens, and loads the voice
        watchdog = threading.Timer(10, os.kill, (server.process.pid, signal.SIGKILL))
        watchdog.start()
        assert server.stop() == 0
        watchdog.cancel()


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_at_the_deadline_every_client_is_told(tmp_path: Path) -> None:
    with spawned(tmp_path, "--shutdown-timeout", "0.3") as server:
        server.wait_for("is ready")
        clients = [AsyncTcpClient("127.0.0.1", server.port) for _ in range(3)]
        for client in clients:
            await client.connect()
            await client.write_event(Event("synthesize", {"text": LONG}))
        reading = [asyncio.create_task(read_answer(client, "audio-stop")) for client in clients]
        await asyncio.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*reading)
        assert server.process.wait(10) == 0
    assert [answer.error["code"] for answer in answers] == ["shutting-down"] * 3
    assert "Traceback" not in server.log and "exception" not in server.log


@pytest.mark.parametrize("source", ["file", "/dev/null"])
def test_stdio_may_be_files(tmp_path: Path, source: str) -> None:
    requests, answers = tmp_path / "requests", tmp_path / "answers"
    requests.write_bytes(b'{"type": "synthesize", "data": {"text": "Hello there, how are you today?"}}\n')
    with (requests if source == "file" else Path(source)).open("rb") as stdin, answers.open("wb") as stdout:
        command = [sys.executable, "-m", "wyoming_chatterbox", "--uri", "stdio://", "--model", "embedded"]
        done = subprocess.run(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=30, env=environment(), check=False
        )
    assert done.returncode == 0, done.stderr.decode()
    types = []
    with answers.open("rb") as stream_:
        while (event := read_event(stream_)) is not None:
            types.append(event.type)
    assert types[:1] + types[-1:] == (["audio-start", "audio-stop"] if source == "file" else [])


def test_closed_standard_streams_are_one_clear_line() -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m wyoming_chatterbox --uri stdio:// --model embedded <&- >&-"],
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        env=environment(),
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("standard input or output is closed")


def test_variables_of_an_orchestrator_and_empty_ones_are_no_settings() -> None:
    links = {
        "WYOMING_CHATTERBOX_SERVICE_HOST": "10.0.0.1",
        "WYOMING_CHATTERBOX_PORT": "tcp://10.0.0.1:10200",
        "WYOMING_CHATTERBOX_PORT_10200_TCP_ADDR": "10.0.0.1",
        "WYOMING_CHATTERBOX_VOICE": "",
    }
    assert from_command_line([], links) == Settings()
    with pytest.raises(SettingsError, match="WYOMING_CHATTERBOX_PORT: unknown environment variable"):
        from_command_line([], {"WYOMING_CHATTERBOX_PORT": "10300"})


def test_stdio_with_junk_ends_with_an_error_and_not_with_half_a_text(tmp_path: Path) -> None:
    with spawned(tmp_path, uri="stdio://", stdin=subprocess.PIPE) as server:
        process = server.process
        assert process.stdin is not None and process.stdout is not None
        write_event(Event("synthesize-start"), process.stdin.buffer)
        write_event(Event("synthesize-chunk", {"text": "Hello my "}), process.stdin.buffer)
        process.stdin.write("not an event\n")
        process.stdin.flush()
        answer = read_event(process.stdout.buffer)
        assert answer is not None and answer.type == "error"
        assert read_event(process.stdout.buffer) is None
        assert process.wait(10) == 0
