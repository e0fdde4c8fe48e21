"""Noticing that files among the voices change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from ..blocking import DaemonThreads
from ..waiting import within
from .library import VoiceLibrary

_LOGGER = logging.getLogger(__name__)

RESCAN_SECONDS = 30.0
"""Between two looks without a reason: a network share says nothing of what another machine does to it."""

_BLIND_SECONDS = 1.0
"""The same where the system tells nothing at all; a look at 500 files takes some milliseconds."""

_DEBOUNCE_MS, _STEP_MS = 100, 50
"""How long watchfiles gathers what happens before it tells; its own 1.6 s are for programs that restart."""

_STOP_MS = 1000
"""How often watchfiles looks whether it is to stop."""


async def watch_folders(library: VoiceLibrary) -> None:
    """Scan whenever something happens in the library's folders. Ends only by being cancelled."""
    happened = asyncio.Event()
    threads = DaemonThreads("voices")  # a share that hangs holds up nothing else
    watching = asyncio.create_task(_watch(library, happened))
    watching.add_done_callback(lambda _: happened.set())  # from then on the pauses are short
    look_again: float | None = None
    try:
        while True:
            quiet = _BLIND_SECONDS if watching.done() else RESCAN_SECONDS
            with contextlib.suppress(asyncio.TimeoutError):
                await within(quiet if look_again is None else look_again, happened.wait())
            happened.clear()
            try:
                look_again = (await threads.run(library.scan, timeout=None)).look_again
            except Exception:  # whatever it is, the voices that are there stay
                _LOGGER.exception("The voices could not be looked through")
                look_again = RESCAN_SECONDS
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(library: VoiceLibrary, happened: asyncio.Event) -> None:
    """Set the event whenever the system says that something happened; ends where it cannot say."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(happened.set)

    try:
        # On a thread, since to begin to watch means to walk the folders, and a share may hang in that.
        await DaemonThreads("watch").run(_watch_blocking, library, tell, stop, timeout=None)
    finally:
        stop.set()


def _watch_blocking(library: VoiceLibrary, tell: Callable[[], None], stop: threading.Event) -> None:
    folders = [folder for folder in library.folders if folder.is_dir()]
    if not folders:
        _LOGGER.warning("There is no folder of voices to watch; looking for one every second")
        return
    try:
        from watchfiles import watch

        for _ in watch(
            *folders,
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=_STOP_MS,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            tell()
    except (OSError, RuntimeError, ImportError) as error:  # no inotify watch is left, the folder is gone, …
        _LOGGER.warning("The system does not tell what changes among the voices (%s): looking every second", error)
