"""Noticing that files among the voices change."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from ..waiting import within
from .library import VoiceLibrary

_LOGGER = logging.getLogger(__name__)

RESCAN_SECONDS = 30.0
"""Between two looks without a reason: a network share says nothing of what another machine does to it."""

_BLIND_SECONDS = 1.0
"""The same where the system tells nothing at all; a look at 500 files takes some milliseconds."""

_DEBOUNCE_MS, _STEP_MS = 100, 50
"""How long watchfiles gathers what happens before it tells; its own 1.6 s are for programs that restart."""


async def keep_current(library: VoiceLibrary) -> None:
    """Scan whenever something happens in the library's folders. Ends only by being cancelled."""
    happened = asyncio.Event()
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
                look_again = (await asyncio.to_thread(library.scan)).look_again
            except Exception:  # whatever it is, the voices that are there stay
                _LOGGER.exception("The voices could not be looked through")
                look_again = RESCAN_SECONDS
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(library: VoiceLibrary, happened: asyncio.Event) -> None:
    """Set the event whenever the system says that something happened; ends where it cannot say."""
    folders = [folder for folder in library.folders if folder.is_dir()]
    if not folders:
        _LOGGER.warning("There is no folder of voices to watch; looking for one every second")
        return
    try:
        from watchfiles import awatch

        async for _ in awatch(
            *folders, watch_filter=None, debounce=_DEBOUNCE_MS, step=_STEP_MS, ignore_permission_denied=True
        ):
            happened.set()
    except (OSError, RuntimeError, ImportError) as error:  # no inotify watch is left, the folder is gone, …
        _LOGGER.warning("The system does not tell what changes among the voices (%s): looking every second", error)
