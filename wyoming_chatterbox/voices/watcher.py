"""Notices changes to files in the folders of voices, and rescans them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from ..blocking import DaemonThreads
from ..timeouts import wait_for
from .library import VoiceLibrary

_LOGGER = logging.getLogger(__name__)

RESCAN_SECONDS = 30.0
"""Between two scans without a notification: a network share does not report what other machines change."""

_POLL_SECONDS = 1.0
"""The same where the system cannot report changes at all; scanning 500 files takes some milliseconds."""

_DEBOUNCE_MS, _STEP_MS = 100, 50
"""How long watchfiles collects changes before it reports them; its default of 1.6 s suits programs that restart."""

_STOP_MS = 1000
"""How often watchfiles checks whether it should stop."""


async def watch_folders(library: VoiceLibrary) -> None:
    """Scans the library whenever something changes in its folders. Ends only by being cancelled."""
    changed = asyncio.Event()
    threads = DaemonThreads("voices")  # separate, so that a share that hangs blocks nothing else
    watching = asyncio.create_task(_watch(library, changed))
    watching.add_done_callback(lambda _: changed.set())  # from then on the folders are polled
    rescan_after: float | None = None
    try:
        while True:
            interval = _POLL_SECONDS if watching.done() else RESCAN_SECONDS
            with contextlib.suppress(asyncio.TimeoutError):
                await wait_for(interval if rescan_after is None else rescan_after, changed.wait())
            changed.clear()
            try:
                rescan_after = (await threads.run(library.scan, timeout=None)).rescan_after
            except Exception:  # whatever went wrong, the voices known so far stay
                _LOGGER.exception("Scanning the folders of voices failed")
                rescan_after = RESCAN_SECONDS
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(library: VoiceLibrary, changed: asyncio.Event) -> None:
    """Sets the event whenever the system reports a change. Returns if the system cannot report changes."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(changed.set)

    try:
        # On a thread: starting to watch walks the folders, and a share may hang in that.
        await DaemonThreads("watch").run(_watch_blocking, library, notify, stop, timeout=None)
    finally:
        stop.set()


def _watch_blocking(library: VoiceLibrary, notify: Callable[[], None], stop: threading.Event) -> None:
    folders = [folder for folder in library.folders if folder.is_dir()]
    if not folders:
        _LOGGER.warning("No folder of voices exists yet; checking for one every second")
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
            notify()
    except (OSError, RuntimeError, ImportError) as error:  # no inotify watch is left, the folder is gone, …
        _LOGGER.warning("The system cannot report changes to voices (%s); checking every second", error)
