"""What of a repository's files is on the disk, whether it is what it should be, and how it is deleted.

Nothing here uses the network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..base import CancelToken
from .download import sha256_of
from .hub import HubDownloader
from .repository import RemoteFile, Repository


class RepositoryCache:
    """The files of one repository in a Hugging Face cache, which other programs may share.

    Raises:
        EngineUnavailable: huggingface_hub is not installed.
    """

    def __init__(self, repository: Repository, cache_dir: Path | None) -> None:
        """`cache_dir`: None is the user's own (HF_HUB_CACHE, HF_HOME)."""
        self.repository = repository
        self._hub = HubDownloader(repository, cache_dir, CancelToken())
        self.folder = self._hub.cache

    def present(self) -> dict[str, Path]:
        """Returns the files that are there, whatever they hold, by name."""
        found = {file.name: self._hub.cached(file) for file in self.repository.files}
        return {name: path for name, path in found.items() if path is not None}

    def check(self) -> Iterator[tuple[RemoteFile, str]]:
        """Yields every file with what is wrong with it, in words; empty for one that is as it was published. It reads
        all of them, a second for each GB."""
        present = self.present()
        for file in self.repository.files:
            path = present.get(file.name)
            if path is None:
                yield file, "it is not there"
                continue
            try:
                size = path.stat().st_size
                found = sha256_of(path, CancelToken())
            except OSError as error:
                yield file, f"it cannot be read: {error.strerror}"
                continue
            if (size, found) == (file.size, file.sha256):
                yield file, ""
            else:
                yield file, f"{size} bytes with SHA-256 {found} instead of {file.size} with {file.sha256}"

    def remove(self, shared: frozenset[str] = frozenset()) -> int:
        """Delete the files; returns how many bytes that gave back. What other revisions of the repository have in
        common with this one stays.

        Args:
            shared: names of files that stay, since another model reads them from the same revision.

        Raises:
            OSError: a file cannot be deleted.
        """
        freed = 0
        for name, path in self.present().items():
            if name in shared:
                continue
            blob = path.resolve()
            size = blob.stat().st_size
            path.unlink()
            if blob == path or not self._is_used(blob):
                if blob != path:
                    blob.unlink(missing_ok=True)
                freed += size
        return freed

    def _is_used(self, blob: Path) -> bool:
        """Whether a file of any revision is this blob."""
        with contextlib.suppress(OSError):
            for link in (self._hub.storage / "snapshots").rglob("*"):
                if link.is_symlink() and link.resolve() == blob:
                    return True
        return False
