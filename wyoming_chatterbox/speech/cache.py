"""Sentences that were spoken before, on disk: whoever asks for one again hears it without any work of a model.

A file holds one sentence as 16-bit WAV at its engine's rate. Its name is the hash of everything that makes its sound:
text, voice with the content of its clip, settings with the seed, the model's weights and how they are computed. So
nothing in a file has to be believed but its samples, and nothing ever becomes stale: what is no longer asked for is the
first to go when the room is needed. `cachetools` keeps that account; all of the disk's work is on one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import os
import wave
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from .. import __version__
from ..audio import CHANNELS, SAMPLE_WIDTH, pcm16
from ..settings import GenerationSettings
from ..voices.voice import Voice

_T = TypeVar("_T")
_LOGGER = logging.getLogger(__name__)

SUFFIX = ".wav"

_MAX_WRITES = 64
"""Sentences that may wait to be written, 20 MB of speech; where the disk is slower than that, some are not kept."""

_PIECE_SECONDS = 1.0
"""In what pieces a sentence is given out again."""

_RATES = range(8000, 48001)
"""What engines make; a file of another rate is not ours."""


@dataclass(frozen=True)
class Kept:
    """A sentence's audio."""

    samples: NDArray[np.float32]
    """Shape (n,), in [-1, 1]."""

    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """The samples in pieces of one second."""
        size = round(_PIECE_SECONDS * self.sample_rate)
        for start in range(0, len(self.samples), size):
            yield self.samples[start : start + size]


class Recording:
    """A sentence while it is spoken, to be kept once it is complete."""

    def __init__(self, cache: SpeechCache, key: str) -> None:
        self._cache = cache
        self._key = key
        self._pieces: list[bytes] = []
        self._rate = 0

    def add(self, samples: NDArray[np.float32], sample_rate: int) -> None:
        """One more chunk."""
        self._pieces.append(pcm16(samples))
        self._rate = sample_rate

    def keep(self) -> None:
        """It is complete. Returns at once; the file is written when the disk has time."""
        if self._pieces:
            self._cache.put(self._key, b"".join(self._pieces), self._rate)


class SpeechCache:
    """Keeps up to `max_bytes` of sentences in a directory. Its methods are for the event loop, and never raise."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """`max_bytes`: of 0 nothing is kept, and nothing touched."""
        self._directory = directory
        self._files = _Index(max_bytes)
        self._thread = ThreadPoolExecutor(1, "cache")
        self._writing = 0
        self.enabled = max_bytes > 0
        self.hits = 0
        self.misses = 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return int(self._files.currsize)

    def __len__(self) -> int:
        return len(self._files)

    async def open(self) -> None:
        """Look what is there from before. A directory that cannot be used turns the cache off."""
        if not self.enabled:
            return
        try:
            found = await self._on_thread(self._scan)
        except OSError as error:
            _LOGGER.warning("Nothing is cached: %s (see --data-dir, or --cache-size 0)", error)
            self.enabled = False
            return
        for key, size in found:
            self._remember(key, size)
        _LOGGER.info("Cache: %d sentences, %.1f MB in %s", len(self), self.size / 1e6, self._directory)

    async def close(self) -> None:
        """Finish what is being written."""
        await asyncio.to_thread(self._thread.shutdown)

    def key(self, text: str, voice: Voice, settings: GenerationSettings, model_fingerprint: str) -> str | None:
        """What a sentence is kept under; None where it cannot be: its sound is drawn anew each time, or it is not
        known what makes it."""
        if not self.enabled or settings.seed < 0 or not model_fingerprint:
            return None
        if voice.clips and not voice.fingerprint:
            return None
        spoken_by = [voice.model, voice.name, voice.speaker, voice.languages, voice.fingerprint]
        named = [__version__, text, spoken_by, asdict(settings), model_fingerprint]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    async def get(self, key: str) -> Kept | None:
        """The sentence, if it is kept."""
        kept = None
        if key in self._files:
            self._files[key]  # of all, it was asked for last
            try:
                kept = await self._on_thread(self._read, key)
            except (OSError, wave.Error, EOFError, ValueError) as error:
                _LOGGER.warning("A cached sentence is lost: %s", error)
                self._files.pop(key, None)
        if kept is None:
            self.misses += 1
        else:
            self.hits += 1
        return kept

    def put(self, key: str, pcm: bytes, sample_rate: int) -> None:
        """Keep a sentence; returns at once."""
        if self._writing >= _MAX_WRITES:
            _LOGGER.debug("The disk is behind: a sentence is not kept")
            return
        self._writing += 1
        asyncio.get_running_loop().run_in_executor(self._thread, self._write, key, pcm, sample_rate).add_done_callback(
            lambda done: self._written(key, done)
        )

    def _written(self, key: str, done: asyncio.Future[int]) -> None:
        self._writing -= 1
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            _LOGGER.warning("A sentence cannot be kept: %s", error)
            return
        self._remember(key, done.result())

    def _remember(self, key: str, size: int) -> None:
        """Count a file that is there, and delete those that were not asked for for longest if that is too much."""
        try:
            self._files[key] = size
        except ValueError:  # larger than all the room there is
            self._files.evicted.append(key)
        evicted, self._files.evicted = self._files.evicted, []
        if evicted:
            with contextlib.suppress(RuntimeError):  # closed: the next start counts again
                self._thread.submit(self._delete, evicted)

    # On the thread

    async def _on_thread(self, function: Callable[..., _T], *arguments: str) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{SUFFIX}"

    def _scan(self) -> list[tuple[str, int]]:
        """(key, size) of what is there, what was used last at the end. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = []
        for entry in os.scandir(self._directory):
            name, suffix = os.path.splitext(entry.name)
            if suffix == ".part":
                os.unlink(entry)  # of a process that was killed
            elif suffix == SUFFIX and len(name) == 64 and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime_ns, name, status.st_size))
        probe = self._directory / f"{os.getpid()}.part"
        probe.touch()
        probe.unlink()
        return [(name, size) for _, name, size in sorted(found)]

    def _read(self, key: str) -> Kept:
        path = self._path(key)
        with wave.open(io.BytesIO(path.read_bytes())) as reader:
            if (reader.getnchannels(), reader.getsampwidth()) != (CHANNELS, SAMPLE_WIDTH):
                raise ValueError(f"{path} is not 16-bit mono")
            if reader.getframerate() not in _RATES:
                raise ValueError(f"{path} has a rate of {reader.getframerate()} Hz")
            count = reader.getnframes()
            pcm = reader.readframes(count)
            rate = reader.getframerate()
        if not count or len(pcm) != count * SAMPLE_WIDTH * CHANNELS:
            raise ValueError(f"{path} is cut short")
        os.utime(path)  # the order survives a restart
        return Kept(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32767.0), rate)

    def _write(self, key: str, pcm: bytes, sample_rate: int) -> int:
        """The size of the file. It is whole or not there."""
        content = io.BytesIO()
        with wave.open(content, "wb") as writer:
            writer.setparams((CHANNELS, SAMPLE_WIDTH, sample_rate, 0, "NONE", ""))
            writer.writeframes(pcm)
        path = self._path(key)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(content.getbuffer())
        os.replace(part, path)
        return len(content.getbuffer())

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError as error:
                _LOGGER.warning("A cached sentence cannot be deleted: %s", error)


class _Index(LRUCache[str, int]):
    """Keys and the sizes of their files; remembers which had to go."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max(max_bytes, 0), getsizeof=lambda size: size)
        self.evicted: list[str] = []

    def popitem(self) -> tuple[str, int]:
        key, size = super().popitem()
        self.evicted.append(key)
        return key, size
