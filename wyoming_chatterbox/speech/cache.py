"""The sentence cache, on disk: a sentence that was spoken before is heard again without any work of a model.

A file holds one sentence as 16-bit WAV at its engine's rate, with a checksum at its end. Its name is the hash of
everything that makes its sound: text, voice with the content of its clip, settings with the seed, the model's weights
and how they are computed. So nothing ever becomes stale: what is no longer asked for is the first to go when the room
is needed. `cachetools` keeps that account; all of the disk's work is on one thread of its own. A disk that hangs
suspends the cache until it answers again.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import os
import stat
import wave
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from .. import __version__
from ..audio import CHANNELS, SAMPLE_WIDTH, pcm16
from ..blocking import DaemonThreads
from ..errors import WyomingChatterboxError
from ..hosting.base import AudioChunk
from ..private_files import make_private_folder, remove_stale, write_file
from ..speech_settings import GenerationSettings
from ..voices.voice import Voice

_LOGGER = logging.getLogger(__name__)

SUFFIX = ".wav"

READ_SECONDS = 1.0
"""Longest wait for a cached sentence. An SD card takes 20 ms, one that is being written to some 100; a model that
speaks instead begins within a second or two, so a longer wait would not pay."""

OPEN_SECONDS = 5.0
"""Longest the start waits for the directory: the 2,000 files of 200 MB are listed in 0.1 s, on a cold SD card in 2."""

CLOSE_SECONDS = 1.0
"""Longest the end waits for what is being written: a sentence takes milliseconds, and one that is lost is spoken
again."""

_MAX_WRITES = 64
"""Sentences that may wait to be written, 20 MB of speech; where the disk is slower than that, some are not kept."""

_PIECE_SECONDS = 1.0
"""Length of the pieces in which a cached sentence is played back."""

_RATES = range(8000, 48001)
"""What engines make; a file of another rate is not ours."""

_MAX_FILE_BYTES = 64 * 2**20
"""Ten minutes at 48 kHz; no sentence is that long, and a larger file was not written here."""

_CHECKSUM = b"csum"
"""The RIFF chunk behind the samples. Players skip what they do not know."""

_CHECKSUM_BYTES = 16


@dataclass(frozen=True)
class CachedSentence:
    """A sentence's audio, from the cache."""

    samples: NDArray[np.float32]
    """Shape (n,), in [-1, 1]."""

    sample_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sample_rate

    def pieces(self) -> Iterator[NDArray[np.float32]]:
        """Yields the samples in pieces of one second."""
        size = round(_PIECE_SECONDS * self.sample_rate)
        for start in range(0, len(self.samples), size):
            yield self.samples[start : start + size]


class SentenceRecorder:
    """Collects a sentence while it is spoken, to cache it once it is complete."""

    def __init__(self, cache: SpeechCache, key: str) -> None:
        self._cache = cache
        self._key = key
        self._pieces: list[bytes] = []
        self._rate = 0

    def add(self, chunk: AudioChunk) -> None:
        """Add an engine's chunk."""
        self._pieces.append(pcm16(chunk.samples))
        self._rate = chunk.sample_rate

    def commit(self) -> None:
        """Cache the sentence: it is complete. Returns at once; the file is written when the disk has time."""
        if self._pieces:
            self._cache.put(self._key, b"".join(self._pieces), self._rate)


class NoChecksum(WyomingChatterboxError, ValueError):
    """A file without a checksum: version 0.1.0 wrote none."""


class SpeechCache:
    """Keeps up to `max_bytes` of sentences in a directory. Its methods are for the event loop, and never raise."""

    def __init__(
        self,
        directory: Path,
        max_bytes: int,
        *,
        read_seconds: float = READ_SECONDS,
        open_seconds: float = OPEN_SECONDS,
    ) -> None:
        """
        Args:
            max_bytes: 0 disables the cache; the directory is not touched.
            read_seconds: see READ_SECONDS.
            open_seconds: see OPEN_SECONDS.
        """
        self._directory = directory
        self._files = _Index(max_bytes)
        self._disk = DaemonThreads("cache")
        self._read_seconds, self._open_seconds = read_seconds, open_seconds
        self._opening: asyncio.Task[None] | None = None
        self._suspended = False
        self._write_failed = False
        self._writes: set[asyncio.Task[None]] = set()
        self.enabled = max_bytes > 0
        """False too while the directory has not been listed, and where it cannot be used."""

        self.hits = 0
        self.misses = 0

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return int(self._files.currsize)

    @property
    def suspended(self) -> bool:
        """Whether the disk hangs: nothing is read or written until it answers."""
        return self._suspended

    def __len__(self) -> int:
        return len(self._files)

    async def open(self) -> None:
        """List what is there from before. A directory that cannot be used turns the cache off; one that does not
        answer in time does until it answers."""
        if not self.enabled:
            return
        self.enabled = False
        self._opening = asyncio.create_task(self._open())
        done, _ = await asyncio.wait((self._opening,), timeout=self._open_seconds)
        if not done:
            _LOGGER.warning(
                "Nothing is cached until %s answers; it has not for %g s (see --data-dir)",
                self._directory,
                self._open_seconds,
            )

    async def _open(self) -> None:
        try:
            found = await self._disk.run(self._scan, timeout=None)
        except (OSError, RuntimeError) as error:  # RuntimeError: the system has no further thread
            _LOGGER.warning("Nothing is cached: %s (see --data-dir, or --cache-size 0)", error)
            return
        self.enabled = True
        for key, size in found:
            self._remember(key, size)
        _LOGGER.info("Cache: %d sentences, %.1f MB in %s", len(self), self.size / 1e6, self._directory)

    async def close(self) -> None:
        """Finish what is being written and deleted, if the disk can within CLOSE_SECONDS each."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        self.enabled = False
        if self._writes and not self._suspended:
            await asyncio.wait(self._writes, timeout=CLOSE_SECONDS)
        for task in self._writes:
            task.cancel()
        if self._disk.unfinished and not self._suspended:
            with contextlib.suppress(asyncio.TimeoutError, RuntimeError):
                await self._disk.run(int, timeout=CLOSE_SECONDS)  # behind all the rest

    def key(self, text: str, voice: Voice, settings: GenerationSettings, model_fingerprint: str) -> str | None:
        """Returns a sentence's key; None if it cannot be cached: its seed is random, the engine or the clip has no
        fingerprint, or the cache is not available."""
        if not self.enabled or self._suspended or settings.seed < 0 or not model_fingerprint:
            return None
        if voice.clips and not voice.fingerprint:
            return None
        spoken_by = [voice.model, voice.name, voice.speaker, voice.languages, voice.fingerprint]
        named = [__version__, text, spoken_by, asdict(settings), model_fingerprint]
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()

    async def get(self, key: str) -> CachedSentence | None:
        """Returns the sentence if it is cached; None also if the disk does not answer within `read_seconds`."""
        cached = None
        if key in self._files and not self._suspended:
            self._files[key]  # of all, it was asked for last
            try:
                cached = await self._disk.run(self._read, key, timeout=self._read_seconds)
            except asyncio.TimeoutError:
                self._suspend()
            except NoChecksum:
                self._forget(key)
            except (OSError, wave.Error, EOFError, ValueError, RuntimeError) as error:
                _LOGGER.warning("A cached sentence is lost: %s", error)
                self._forget(key)
        if cached is None:
            self.misses += 1
        else:
            self.hits += 1
        return cached

    def put(self, key: str, pcm: bytes, sample_rate: int) -> None:
        """Cache a sentence; returns at once."""
        if self._suspended or len(self._writes) >= _MAX_WRITES:
            _LOGGER.debug("The disk is behind: a sentence is not kept")
            return
        task = asyncio.create_task(self._put(key, pcm, sample_rate))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _put(self, key: str, pcm: bytes, sample_rate: int) -> None:
        try:
            size = await self._disk.run(self._write, key, pcm, sample_rate, timeout=None)
        except (OSError, RuntimeError) as error:
            if not self._write_failed:  # a full disk stays full for a while
                _LOGGER.warning("Sentences cannot be kept: %s", error)
            self._write_failed = True
            return
        if self._write_failed:
            _LOGGER.info("Sentences can be kept again")
        self._write_failed = False
        self._remember(key, size)

    def _suspend(self) -> None:
        """Ask the disk for nothing until it has come back from what it hangs in."""
        if self._suspended:
            return
        self._suspended = True
        _LOGGER.error(
            "The cache hangs: %s did not answer within %g s; the model speaks until it does",
            self._directory,
            self._read_seconds,
        )
        loop = asyncio.get_running_loop()

        def answers() -> None:  # runs behind the call that hangs
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._resume)

        self._disk.submit(answers)

    def _resume(self) -> None:
        self._suspended = False
        _LOGGER.info("The cache answers again")

    def _remember(self, key: str, size: int) -> None:
        """Count a file that is there, and delete those that were not asked for for longest if that is too much."""
        try:
            self._files[key] = size
        except ValueError:  # larger than all the room there is
            self._files.evicted.append(key)
        evicted, self._files.evicted = self._files.evicted, []
        self._delete_later(evicted)

    def _forget(self, key: str) -> None:
        self._files.pop(key, None)
        self._delete_later([key])

    def _delete_later(self, keys: list[str]) -> None:
        if keys:
            with contextlib.suppress(RuntimeError):  # no further thread: the next start counts again
                self._disk.submit(self._delete, keys)

    # On the thread

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{SUFFIX}"

    def _scan(self) -> list[tuple[str, int]]:
        """(key, size) of what is there, what was used last at the end. Raises OSError."""
        make_private_folder(self._directory)
        remove_stale(self._directory)
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                name, suffix = os.path.splitext(entry.name)
                if suffix == SUFFIX and len(name) == 64 and entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, name, status.st_size))
        probe = self._directory / f".{os.getpid()}.probe"
        write_file(probe, b"")
        probe.unlink()
        return [(name, size) for _, name, size in sorted(found)]

    def _read(self, key: str) -> CachedSentence:
        path = self._path(key)
        content = _without_checksum(key, _content(path), path)
        with wave.open(io.BytesIO(content)) as reader:
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
        return CachedSentence(np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32767.0), rate)

    def _write(self, key: str, pcm: bytes, sample_rate: int) -> int:
        """Returns the size of the file. It is whole or not there."""
        content = io.BytesIO()
        with wave.open(content, "wb") as writer:
            writer.setparams((CHANNELS, SAMPLE_WIDTH, sample_rate, 0, "NONE", ""))
            writer.writeframes(pcm)
        content_with_checksum = _with_checksum(key, content.getvalue())
        write_file(self._path(key), content_with_checksum)
        return len(content_with_checksum)

    def _delete(self, keys: list[str]) -> None:
        for key in keys:
            try:
                self._path(key).unlink(missing_ok=True)
            except OSError as error:
                _LOGGER.warning("A cached sentence cannot be deleted: %s", error)


def _content(path: Path) -> bytes:
    """Returns what is in a regular file. Raises OSError, and ValueError for a pipe, a link and what is too long."""
    # O_NONBLOCK: opening a pipe must not wait for somebody to write into it.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path} is no regular file")
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"{path} is longer than {_MAX_FILE_BYTES} bytes")
    return content


def _digest(key: str, content: bytes) -> bytes:
    """Of a file and its name: one that was renamed is another sentence."""
    return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES, key=key.encode()[:64]).digest()


def _with_checksum(key: str, riff: bytes) -> bytes:
    """Returns a RIFF file with one more chunk at its end, which holds the checksum of all before it."""
    size = len(riff) + len(_CHECKSUM) + 4 + _CHECKSUM_BYTES
    content_with_checksum = riff[:4] + (size - 8).to_bytes(4, "little") + riff[8:]
    return (
        content_with_checksum + _CHECKSUM + _CHECKSUM_BYTES.to_bytes(4, "little") + _digest(key, content_with_checksum)
    )


def _without_checksum(key: str, content: bytes, path: Path) -> bytes:
    """Returns the file before its checksum. Raises ValueError where that is another one, NoChecksum where there is
    none."""
    at = len(content) - _CHECKSUM_BYTES
    head = _CHECKSUM + _CHECKSUM_BYTES.to_bytes(4, "little")
    body = content[: max(at - len(head), 0)]
    if at < len(head) or content[at - len(head) : at] != head:
        raise NoChecksum(f"{path} has no checksum")
    if content[at:] != _digest(key, body):
        raise ValueError(f"{path} is damaged: its checksum is another one")
    return body


class _Index(LRUCache[str, int]):
    """Keys and the sizes of their files; remembers which had to go."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max(max_bytes, 0), getsizeof=lambda size: size)
        self.evicted: list[str] = []

    def popitem(self) -> tuple[str, int]:
        key, size = super().popitem()
        self.evicted.append(key)
        return key, size
