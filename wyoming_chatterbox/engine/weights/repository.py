"""What is known about a model's repository before anything is fetched from it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EngineUnavailable


class WeightsError(EngineUnavailable):
    """Weights are missing, damaged or out of reach; the message names file, repository, cause and remedy."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable
        """Whether the same call may succeed later by itself: the network was at fault, not the request."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, pinned."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Repository:
    """A model repository on the Hugging Face hub, pinned to one commit."""

    id: str
    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def folder(self) -> str:
        """Name of its folder in a Hugging Face cache."""
        return "--".join(["models", *self.id.split("/")])
