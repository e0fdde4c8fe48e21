"""The command line: flags and environment → Settings → run."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence

from . import __version__, logs
from .blocking import OUTPUT_THREAD, UnjoinedExecutor
from .cli import as_typed, from_command_line
from .errors import SettingsError
from .openmp import limit_spinning
from .settings import Settings

EXIT_USAGE = 2
"""Exit status where the user has to change something: a flag, a path, a port."""


EXIT_INTERRUPTED = 130

EXIT_FORCED = 1
"""Exit status where something hung beyond every limit that the shutdown has."""

FORCED_EXIT_SECONDS = 8.0
"""After the shutdown's deadline. The parts of a shutdown have limits of their own, which together are shorter; with the
default deadline of 5 s a service manager's 15 s have not passed."""

LAST_OUTPUT_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    limit_spinning()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and arguments[0] == "voices":
            return _voices(arguments[1:])
        if arguments and arguments[0] == "models":
            return _models(arguments[1:])
        settings = from_command_line(arguments, version=__version__)
    except SettingsError as error:
        return _complain(error)
    _set_up_logging(settings.log_level)
    try:
        return _serve(settings)
    except SettingsError as error:
        return _complain(as_typed(error, arguments))


def run() -> None:
    """The console script: as `main`, and the process is gone afterwards even if an engine is still busy."""
    try:
        status = main()
    except KeyboardInterrupt:  # before the server was there to be told
        status = EXIT_INTERRUPTED
    deadline = time.monotonic() + LAST_OUTPUT_SECONDS
    for thread in threading.enumerate():
        if thread.name == OUTPUT_THREAD:
            thread.join(max(0.0, deadline - time.monotonic()))
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed when the program was started
            stream.flush()
    # An engine's thread may be inside a native call that nothing interrupts; the interpreter's own exit would
    # wait for some libraries' threads, or crash in them.
    os._exit(status)


def _serve(settings: Settings) -> int:
    # Here, so that --help and --version need none of it.
    from .server import Server
    from .sockets import ListenError

    last_resort = threading.Timer(settings.shutdown_timeout + FORCED_EXIT_SECONDS, _force_exit)
    last_resort.daemon = True

    async def start_last_resort(server: Server) -> None:
        await server.stopped()
        last_resort.start()

    async def serve() -> int:
        asyncio.get_running_loop().set_default_executor(UnjoinedExecutor())
        server = Server(settings)
        watching = asyncio.create_task(start_last_resort(server))
        try:
            await server.run()
        finally:
            watching.cancel()
        return server.exit_status

    try:
        return asyncio.run(serve())
    except ListenError as error:
        return _complain(error)
    finally:
        last_resort.cancel()


def _force_exit() -> None:
    logging.getLogger(__name__).error("The server did not stop in time; ending the process")
    os._exit(EXIT_FORCED)


def _voices(arguments: Sequence[str]) -> int:
    from .commands import voices

    _set_up_logging("CRITICAL")  # what they find they print themselves
    return voices.run(arguments)


def _models(arguments: Sequence[str]) -> int:
    from .commands import models

    _set_up_logging("INFO")  # how far a download is, where no terminal shows a bar
    return models.run(arguments)


def _complain(error: Exception) -> int:
    print(f"wyoming-chatterbox: {error}", file=sys.stderr)
    return EXIT_USAGE


def _set_up_logging(level: str) -> None:
    logs.set_up(level)
    if level != "DEBUG":
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        # Their INFO is about their own insides.
        for noisy in (
            "httpx",
            "httpx2",
            "httpcore",
            "httpcore2",
            "zeroconf",
            "urllib3",
            "filelock",
            "numba",
            "uvicorn",
            "watchfiles",
        ):
            logging.getLogger(noisy).setLevel(logging.WARNING)


if __name__ == "__main__":
    run()
