"""The weights of a model: which files, from which revision, and whether they are what they should be.

Nothing is used before its size and SHA-256 are those written here: a mirror, a proxy or a failing disk is
noticed, and no change of the repository upstream changes what runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from pathlib import Path

from ...private_files import write_file
from ..base import CancelToken
from .hub import HubDownloader
from .progress import OnProgress
from .repository import RemoteFile, Repository, WeightsError

_LOGGER = logging.getLogger(__name__)

_HASH_BLOCK = 1 << 20
"""Bytes; at 1 GB/s a cancellation waits a millisecond."""


def download(
    repository: Repository,
    *,
    cache_dir: Path | None,
    local_files_only: bool,
    on_progress: OnProgress | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """Bring a repository's files into the Hugging Face cache, verified, and return the directory they are in.

    What is there already is not fetched again, and what was fetched partly is continued, also after the process
    was killed. A damaged file is deleted and fetched once more.

    Args:
        repository: what to get.
        cache_dir: a Hugging Face cache; None is the user's own (HF_HUB_CACHE, HF_HOME).
        local_files_only: whether to fail rather than use the network.
        on_progress: told how far the whole repository is.
        cancel: stops the download; what came so far is kept.

    Raises:
        Cancelled: `cancel` was set.
        WeightsError: the files cannot be had; `retryable` says whether to try again.
        EngineUnavailable: huggingface_hub is not installed.
    """
    cancel = cancel or CancelToken()
    fetcher = HubDownloader(repository, cache_dir, cancel)
    verified = _Verified(fetcher.storage / f".verified-{repository.revision[:12]}.json")
    paths = {file.name: fetcher.cached(file) for file in repository.files}
    missing = [file for file in repository.files if paths[file.name] is None]
    if missing:
        if local_files_only:
            raise WeightsError(
                f"{', '.join(file.name for file in missing)} of {repository.id} at revision {repository.revision[:12]} "
                f"not found in {fetcher.cache}; run once without --local-files-only, or give --model-dir"
            )
        fetcher.check_space(missing)
    with fetcher.progress(missing, on_progress):
        for file in repository.files:
            path = paths[file.name] or fetcher.fetch(file)
            damage = _damage(path, file, verified, cancel)
            if damage is not None:
                if local_files_only:
                    raise WeightsError(f"{path} is damaged ({damage}); run once without --local-files-only")
                _LOGGER.warning("%s of %s is damaged (%s); fetching it again", file.name, repository.id, damage)
                fetcher.discard(file, path)
                path = fetcher.fetch(file)
                damage = _damage(path, file, verified, cancel)
            if damage is not None:
                fetcher.discard(file, path)
                raise WeightsError(
                    f"{file.name} of {repository.id} arrived damaged twice ({damage}); check the disk of "
                    f"{fetcher.cache}, the network, and the mirror if HF_ENDPOINT names one"
                )
            directory = path.parent
    return directory


class _Verified:
    """Remembers which files had the right hash, so that 3 GB are not read at every start.

    A file counts as the same while its size and modification time are. A cache that cannot be written to is
    no error: its files are hashed at every start then, a few seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[object]] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(path.read_text("utf-8"))
            if isinstance(known, dict):
                self._known = known

    def has(self, path: Path, file: RemoteFile) -> bool:
        return self._known.get(file.name) == self._facts(path, file)

    def add(self, path: Path, file: RemoteFile) -> None:
        self._known[file.name] = self._facts(path, file)
        try:
            write_file(self._path, json.dumps(self._known).encode())
        except OSError as error:
            _LOGGER.debug("Cannot remember that %s was verified: %s", path, error)

    @staticmethod
    def _facts(path: Path, file: RemoteFile) -> list[object]:
        status = path.stat()
        return [file.sha256, status.st_size, status.st_mtime_ns]


def _damage(path: Path, file: RemoteFile, verified: _Verified, cancel: CancelToken) -> str | None:
    """Returns what is wrong with a file, in words; None when it is the pinned one."""
    try:
        size = path.stat().st_size
        if size != file.size:
            return f"{size} bytes instead of {file.size}"
        if verified.has(path, file):
            return None
        found = sha256_of(path, cancel)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if found != file.sha256:
        return f"SHA-256 {found[:12]}… instead of {file.sha256[:12]}…"
    verified.add(path, file)
    return None


def sha256_of(path: Path, cancel: CancelToken) -> str:
    """Returns a file's hash, 64 hexadecimal digits. Raises Cancelled, OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            cancel.raise_if_set()
            digest.update(block)
    return digest.hexdigest()
