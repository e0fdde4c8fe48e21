"""Files of one hub repository into a Hugging Face cache, continued wherever they were cut off.

`hf_hub_download` alone does not do that: huggingface_hub 2.x downloads into a file of a random name and deletes
it on any failure, so a 2 GB file whose process is killed at 99 % would start again at zero. Here the bytes go to
`blobs/<sha256>.incomplete`; `hf_hub_download` then finds the finished blob and only links it. Requests go
through huggingface_hub's own session, so that HF_TOKEN, HF_ENDPOINT, proxies and HF_HUB_OFFLINE hold.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ...errors import WyomingChatterboxError
from ..base import CancelToken, EngineError, EngineUnavailable
from ..requirements import INSTALL_HINT
from .progress import OnProgress, Progress, size_text
from .repository import RemoteFile, Repository, WeightsError

_LOGGER = logging.getLogger(__name__)

_MAX_FAILURES = 5
"""Requests in a row that bring no byte before giving up."""

_PAUSE = 1.0
"""Seconds before the second request, twice as many before the third, and so on: 10 seconds in all."""

_LOCK_POLL = 0.2
"""Seconds between two looks at a lock that another process holds."""

_ETAG = re.compile(r"[\w.-]{1,128}")
"""The hub's are SHA-1 or SHA-256 in hex. It becomes a file's name, so no separator and no more than a name holds."""


class HubDownloader:
    """Fetches the files of one repository. Not thread-safe; several processes may share the cache.

    Args:
        repository: where the files are.
        cache_dir: a Hugging Face cache; None is the user's own.
        cancel: stops whatever is under way.

    Raises:
        EngineUnavailable: huggingface_hub is not installed.
    """

    def __init__(self, repository: Repository, cache_dir: Path | None, cancel: CancelToken) -> None:
        try:
            import huggingface_hub
            import huggingface_hub.constants
            import huggingface_hub.errors
            import huggingface_hub.utils
        except ImportError as error:
            raise EngineUnavailable(f"downloading weights needs huggingface_hub: {INSTALL_HINT}") from error
        self._hub: Any = huggingface_hub
        self._constants: Any = huggingface_hub.constants
        self._repository = repository
        self._cancel = cancel
        self._progress = Progress(repository.id, 0, 0, None)
        self.cache = Path(cache_dir or self._constants.HF_HUB_CACHE).expanduser().absolute()
        self.storage = self.cache / repository.folder
        """The repository's folder in the cache."""

    def cached(self, file: RemoteFile) -> Path | None:
        """Returns the file in the cache, whatever it holds; None when it is not there."""
        found = self._hub.try_to_load_from_cache(
            self._repository.id, file.name, cache_dir=self.cache, revision=self._repository.revision
        )
        return Path(found) if isinstance(found, str) else None

    def check_space(self, files: Sequence[RemoteFile]) -> None:
        """Raise WeightsError when what is still to come of these files does not fit on the disk."""
        needed = sum(file.size - self._arrived(file) for file in files)
        place = next(path for path in (self.storage, *self.storage.parents) if path.is_dir())
        free = shutil.disk_usage(place).free
        if free < needed:
            raise self._disk_full(", ".join(file.name for file in files), needed, free)

    @contextlib.contextmanager
    def progress(self, missing: Sequence[RemoteFile], on_progress: OnProgress | None) -> Iterator[None]:
        """Report what is fetched inside as progress of the whole repository, of which only `missing` is missing."""
        total = sum(file.size for file in self._repository.files)
        done = total - sum(file.size - self._arrived(file) for file in missing)
        self._progress = Progress(self._repository.id, done, total, on_progress)
        try:
            yield
        finally:
            self._progress.close()

    def fetch(self, file: RemoteFile) -> Path:
        """Bring a file into the cache and return where it is. Its size is right then, its content unknown.

        Raises:
            Cancelled: what came so far stays.
            WeightsError: it cannot be had.
        """
        self._cancel.raise_if_set()
        url = self._hub.hf_hub_url(self._repository.id, file.name, revision=self._repository.revision)
        blob = self.storage / "blobs" / self._etag(file, url)
        try:
            blob.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(file):
                if not blob.exists():
                    self._receive(file, url)
                    self._partial(file).replace(blob)
        except OSError as error:
            raise self._unwritable(file, error) from error
        try:
            path = self._hub.hf_hub_download(
                self._repository.id, file.name, revision=self._repository.revision, cache_dir=self.cache
            )
        except Exception as error:
            raise self._to_weights_error(file, error) from error
        if not Path(path).is_symlink():
            blob.unlink(missing_ok=True)  # without symbolic links it was copied: 3 GB are enough
        return Path(path)

    def discard(self, file: RemoteFile, path: Path) -> None:
        """Delete a damaged file: its name in the snapshot and the blob behind it."""
        try:
            size = path.stat().st_size
            blob = path.resolve()
            path.unlink()
            blob.unlink(missing_ok=True)
        except OSError as error:
            cause = f"{path} is damaged and cannot be deleted ({error.strerror})"
            raise self._error(file, cause, "delete it") from error
        self._progress.add(-size)

    def _etag(self, file: RemoteFile, url: str) -> str:
        """Ask the server about the file: its etag, which is the name of its blob in the cache."""
        try:
            metadata = self._hub.get_hf_file_metadata(url, timeout=self._constants.HF_HUB_ETAG_TIMEOUT)
        except Exception as error:  # huggingface_hub's own, and those of the HTTP library it uses
            raise self._to_weights_error(file, error) from error
        if metadata.commit_hash != self._repository.revision or not _ETAG.fullmatch(metadata.etag or ""):
            cause = f"{self._constants.ENDPOINT} does not answer like a Hugging Face hub"
            raise self._error(file, cause, "check HF_ENDPOINT and the proxy")
        if metadata.size not in (None, file.size):
            cause = f"the server has {metadata.size} bytes of it instead of {file.size}"
            raise self._error(file, cause, "check the mirror that HF_ENDPOINT names")
        return str(metadata.etag)

    def _receive(self, file: RemoteFile, url: str) -> None:
        """Bring the partial file to its full size, asking again from where it stands when it is cut off."""
        failures = 0
        while (before := self._arrived(file)) < file.size:
            reason = "the connection was closed early"
            try:
                self._request(file, url, before)
            except (EngineError, OSError):  # an OSError here is the disk's
                raise
            except Exception as error:  # the HTTP library's; huggingface_hub has changed it twice
                reason = f"{type(error).__name__}: {error}"
            arrived = self._arrived(file)
            if arrived == file.size:
                break
            failures = failures + 1 if arrived <= before else 1
            if failures >= _MAX_FAILURES:
                raise self._unreachable(file, reason)
            _LOGGER.warning("%s of %s was cut off (%s); asking for the rest", file.name, self._repository.id, reason)
            self._wait(failures * _PAUSE)

    def _request(self, file: RemoteFile, url: str, offset: int) -> None:
        """One request for what the partial file lacks. OSError is the disk's, other exceptions the network's."""
        headers = self._hub.utils.build_hf_headers()
        headers["Accept-Encoding"] = "identity"  # compressed, it would have no byte positions to continue at
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = self._constants.HF_HUB_DOWNLOAD_TIMEOUT
        session = self._hub.utils.get_session()
        with session.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as response:
            status = response.status_code
            if status == 206:
                if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                    raise _Retry("the server continues it at another place")
            elif status == 200:
                self._progress.add(-offset)  # it sends all of it again
                offset = 0
            elif _is_passing(status):
                raise _Retry(f"the server answers {status}")
            else:
                raise self._refused(file, status)
            self._write(file, response.iter_bytes(), offset)

    def _write(self, file: RemoteFile, blocks: Iterable[bytes], offset: int) -> None:
        """Write what comes at the end of the partial file, never more than belongs there."""
        with self._partial(file).open("ab" if offset else "wb") as partial:
            for block in blocks:
                self._cancel.raise_if_set()
                block = block[: file.size - offset]
                partial.write(block)
                offset += len(block)
                self._progress.add(len(block))
                if offset == file.size:
                    return

    def _partial(self, file: RemoteFile) -> Path:
        return self.storage / "blobs" / f"{file.sha256}.incomplete"

    def _arrived(self, file: RemoteFile) -> int:
        """Returns how many bytes of the file an earlier request brought."""
        partial = self._partial(file)
        try:
            size = partial.stat().st_size
        except OSError:
            return 0
        # Not ours if it is longer than the file: the next request starts it anew.
        return size if size <= file.size else 0

    @contextlib.contextmanager
    def _locked(self, file: RemoteFile) -> Iterator[None]:
        """Hold the lock that huggingface_hub itself takes for a large file, whose etag is its SHA-256."""
        path = self.cache / ".locks" / self._repository.folder / f"{file.sha256}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        waits = False
        with contextlib.ExitStack() as held:
            while True:
                self._cancel.raise_if_set()
                try:
                    held.enter_context(self._hub.utils.WeakFileLock(path, timeout=_LOCK_POLL))
                    break
                except TimeoutError:
                    if not waits:
                        _LOGGER.info("Waiting for another process that downloads %s", file.name)
                    waits = True
            yield

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._cancel.raise_if_set()
            time.sleep(min(0.1, seconds))

    def _to_weights_error(self, file: RemoteFile, error: Exception) -> WeightsError:
        """Returns the error for what huggingface_hub raised: the status that the server sent, or the lack of any."""
        if isinstance(error, self._hub.errors.OfflineModeIsEnabled):
            cause = f"it is not in {self.cache} and HF_HUB_OFFLINE is set"
            return self._error(file, cause, "unset it once, or give --model-dir")
        if isinstance(error, OSError) and error.errno is not None:
            return self._unwritable(file, error)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is not None and not _is_passing(status):
            return self._refused(file, status)
        return self._unreachable(file, f"the server answers {status}" if status else f"{type(error).__name__}: {error}")

    def _refused(self, file: RemoteFile, status: int) -> WeightsError:
        if status in (401, 403):
            return self._error(
                file,
                f"the server refuses access (HTTP {status})",
                "set HF_TOKEN to a token that may read the repository, or give --model-dir",
            )
        if status == 404:
            revision = self._repository.revision[:12]
            cause = f"{self._constants.ENDPOINT} has no such file at revision {revision} (HTTP 404)"
            return self._error(file, cause, "check HF_ENDPOINT, or give --model-dir")
        cause = f"{self._constants.ENDPOINT} answers HTTP {status}"
        return self._error(file, cause, "check HF_ENDPOINT and the proxy, or give --model-dir")

    def _unreachable(self, file: RemoteFile, reason: str) -> WeightsError:
        cause = f"no answer from {self._constants.ENDPOINT} ({' '.join(reason.split())})"
        return self._error(file, cause, "check the network, the proxy and HF_ENDPOINT", retryable=True)

    def _unwritable(self, file: RemoteFile, error: OSError) -> WeightsError:
        if error.errno == errno.ENOSPC:
            return self._disk_full(file.name, file.size - self._arrived(file), shutil.disk_usage(self.storage).free)
        cause = f"{self.cache} cannot be written to ({error.strerror or error})"
        return self._error(file, cause, "make it writable or give another --download-dir")

    def _disk_full(self, names: str, needed: int, free: int) -> WeightsError:
        return WeightsError(
            f"{names} of {self._repository.id} cannot be downloaded: {size_text(needed)} ({needed} bytes) are needed, "
            f"{size_text(free)} ({free} bytes) are free at {self.cache}; free some or give another --download-dir",
            retryable=True,  # what is deleted meanwhile makes room, and what came so far stays
        )

    def _error(self, file: RemoteFile, cause: str, remedy: str, *, retryable: bool = False) -> WeightsError:
        message = f"{file.name} of {self._repository.id} cannot be downloaded: {cause}; {remedy}"
        return WeightsError(message, retryable=retryable)


class _Retry(WyomingChatterboxError):
    """A request that failed as a broken connection does."""


def _is_passing(status: int) -> bool:
    """Returns True if an HTTP status is likely to be another one soon: overload, and faults of the server's own."""
    return status in (408, 429) or status >= 500
