"""The bearer tokens that clients must show."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from pathlib import Path

from ..blocking import DaemonThreads
from ..errors import SettingsError
from ..limits import MAX_TOKEN_FILE_BYTES, MIN_TOKEN_CHARS, TOKEN_FILE_SECONDS

_LOGGER = logging.getLogger(__name__)

_ALLOWED = re.compile(rb"[A-Za-z0-9._~+-]+")
"""What a browser may put into a WebSocket's subprotocol, which is how the page shows its token there."""


class BearerTokens:
    """The tokens in a file, one a line. What is in the file now counts, and nothing else: a token that was taken out,
    with its line or with the whole file, is refused from then on."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError where the file cannot be read, or has a line that cannot be used."""
        self._path = path
        self._disk = DaemonThreads("tokens")
        self._reading: asyncio.Task[None] | None = None
        self._complaint: str | None = None
        try:
            self._tokens, complaint = _parse(_read(path))
        except (OSError, ValueError) as error:
            complaint = str(error)
        if complaint is not None:
            raise SettingsError(f"http_token_file: {str(path)!r}: {complaint}")

    async def accept(self, token: str) -> bool:
        """Returns True if the file has this token. Each of them is compared in a time that does not depend on it."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._refresh())
        await asyncio.shield(self._reading)  # clients that come together share one reading
        shown = token.encode("utf-8", "surrogatepass")
        return any([hmac.compare_digest(shown, valid) for valid in self._tokens])

    async def _refresh(self) -> None:
        tokens: tuple[bytes, ...] = ()
        try:
            tokens, complaint = _parse(await self._disk.run(_read, self._path, timeout=TOKEN_FILE_SECONDS))
        except asyncio.TimeoutError:
            complaint = f"could not be read within {TOKEN_FILE_SECONDS:g} s"
        except (OSError, ValueError, RuntimeError) as error:
            complaint = str(error)
        self._tokens = tokens
        if complaint is not None and complaint != self._complaint:
            effect = "its other tokens are accepted" if tokens else "nobody is let in until it has a token"
            _LOGGER.error("The token file %s %s; %s", self._path, complaint, effect)
        self._complaint = complaint


def _read(path: Path) -> bytes:
    """Returns a file's content. Raises OSError, or ValueError where it is too long."""
    with path.open("rb") as file:
        content = file.read(MAX_TOKEN_FILE_BYTES + 1)
    if len(content) > MAX_TOKEN_FILE_BYTES:
        raise ValueError(f"is longer than {MAX_TOKEN_FILE_BYTES} bytes")
    return content


def _parse(content: bytes) -> tuple[tuple[bytes, ...], str | None]:
    """Returns the lines that can be used, and what is wrong with the first that cannot."""
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines:
        return (), "has no token; write one into it"
    complaint = None
    if min(map(len, lines)) < MIN_TOKEN_CHARS:
        complaint = f"has a token of less than {MIN_TOKEN_CHARS} characters; make one with: openssl rand -hex 24"
    elif not all(map(_ALLOWED.fullmatch, lines)):
        complaint = (
            "has a token with other characters than letters, digits and . _ ~ + -, which browsers cannot send; "
            "make one with: openssl rand -hex 24"
        )
    return tuple(line for line in lines if len(line) >= MIN_TOKEN_CHARS and _ALLOWED.fullmatch(line)), complaint
