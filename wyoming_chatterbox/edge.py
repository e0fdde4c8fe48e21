"""What the server asks of an edge: the part that speaks one protocol with clients."""

from __future__ import annotations

from typing import Protocol


class Edge(Protocol):
    """One protocol that clients are served with. Its methods are called in this order, each once, but for `end`."""

    @property
    def uris(self) -> list[str]:
        """The addresses it serves clients at, with the port that was chosen where port 0 was asked for."""

    async def bind(self) -> None:
        """Reserve the addresses; clients are refused until `serve` is called.

        Raises:
            ListenError: an address is in use, not of this machine, or not allowed.
            SettingsError: a setting of this edge cannot be used.
        """

    async def serve(self) -> None:
        """Accept clients.

        Raises:
            ListenError: another server began to listen at an address since it was bound.
        """

    def close(self) -> None:
        """Accept no further clients; connected ones stay. Also called when the start fails, bound or not."""

    async def drain(self, timeout: float, forced_close_timeout: float) -> None:
        """Let connected clients finish, then disconnect the rest.

        Args:
            timeout: seconds in which utterances may finish.
            forced_close_timeout: further seconds in which clients may be told that theirs ends early.
        """

    def end(self) -> None:
        """Cancel all utterances at once. May be called at any time."""
