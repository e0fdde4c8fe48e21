"""`python -m wyoming_chatterbox.healthcheck`: does the server answer? For a container's HEALTHCHECK, and for people.

It takes the server's own flags and variables, so that it asks where the server listens, and sends what Home Assistant
sends every 30 seconds: `describe`. It uses plain sockets: importing a Wyoming client would take longer than the check.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from . import __version__
from .cli import from_command_line
from .errors import SettingsError, WyomingChatterboxError
from .limits import MAX_HEADER_BYTES, MAX_JSON_BYTES

HEALTHY, UNHEALTHY, EXIT_USAGE = 0, 1, 2


class Unhealthy(WyomingChatterboxError):
    """The server does not answer as it should; the message says how."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every address of the server; the exit status is 0 when all answer, 1 when one does not, 2 for misuse."""
    parser = argparse.ArgumentParser(
        prog="python -m wyoming_chatterbox.healthcheck",
        description="Ask a running server to describe itself. Exit status: 0 it did, 1 it did not, 2 wrong use.",
        epilog="The server's own flags and variables say where it listens: --uri, --options-file and so on.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="for one address (default: 5)")
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    try:
        if not 0 < options.timeout <= 3600:
            raise SettingsError(f"timeout: {options.timeout} is out of range (allowed: above 0 to 3600 seconds)")
        uris = from_command_line(rest).uri
        if "stdio://" in uris:
            raise SettingsError("uri: 'stdio://' has one client only, which is not this check")
    except SettingsError as error:
        print(f"health: {error}", file=sys.stderr)
        return EXIT_USAGE
    for uri in uris:
        started = time.perf_counter()
        try:
            info = check(uri, options.timeout)
        except (OSError, ValueError, Unhealthy) as error:
            print(f"unhealthy: {uri}: {error}", file=sys.stderr)
            return UNHEALTHY
        print(f"healthy: {uri} after {1000 * (time.perf_counter() - started):.0f} ms: {info}")
    return HEALTHY


def check(uri: str, timeout: float = 5.0) -> str:
    """One describe round trip.

    Args:
        uri: tcp://HOST:PORT or unix://PATH, as the server listens.
        timeout: seconds for all of it.

    Returns:
        What the server says about itself: its version, how many voices, which model speaks.

    Raises:
        OSError, ValueError, Unhealthy: there is no answer, or it is not a speech server's.
    """
    deadline = time.monotonic() + timeout
    with _connect(uri, timeout) as client:
        client.sendall(b'{"type":"describe"}\n')
        received = bytearray()
        while b"\n" not in received:
            if len(received) > MAX_HEADER_BYTES:
                raise Unhealthy("the answer's header does not end")
            received += _receive(client, deadline)
        line, _, rest = received.partition(b"\n")
        header = json.loads(line)
        if not isinstance(header, dict) or header.get("type") != "info":
            raise Unhealthy(f"the answer is no info: {line[:100].decode(errors='replace')}")
        length = header.get("data_length") or 0
        if not isinstance(length, int) or not 0 <= length <= MAX_JSON_BYTES:
            raise Unhealthy(f"the info has {length} bytes")
        data = bytearray(rest)
        while len(data) < length:
            data += _receive(client, deadline)
    return _summary({**(header.get("data") or {}), **(json.loads(data[:length]) if length else {})})


def _connect(uri: str, timeout: float) -> socket.socket:
    parts = urlsplit(uri)
    if parts.scheme == "unix":
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(timeout)
            client.connect(parts.netloc + parts.path)
        except BaseException:
            client.close()
            raise
        return client
    # A connection to 0.0.0.0 or :: is one to this machine itself.
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout)


def _receive(client: socket.socket, deadline: float) -> bytes:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("no whole answer in time")
    client.settimeout(remaining)
    received = client.recv(65536)
    if not received:
        raise Unhealthy("it closed the connection without an answer")
    return received


def _summary(info: dict[str, Any]) -> str:
    programs = info.get("tts")
    program = programs[0] if isinstance(programs, list) and programs else None
    if not isinstance(program, dict) or not program.get("installed") or not program.get("voices"):
        raise Unhealthy("it offers no speech")
    voices = len(program["voices"])
    name, version = program.get("name"), program.get("version")
    return f"{name} {version}, {voices} voice{'' if voices == 1 else 's'}; {program.get('description')}"


if __name__ == "__main__":
    sys.exit(main())
