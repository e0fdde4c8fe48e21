"""The bearer tokens that clients must show."""

from __future__ import annotations

import hmac
import logging
import os
import re
from pathlib import Path

from ..settings import SettingsError

_LOGGER = logging.getLogger(__name__)

MIN_CHARS = 16
"""Of a token: 96 bits if it is random base64, which nobody guesses over a network."""

MAX_FILE_BYTES = 64 * 1024
"""Of the file: a thousand long tokens."""


_ALLOWED = re.compile(rb"[A-Za-z0-9._~+-]+")
"""What a browser may put into a WebSocket's subprotocol, which is how the page shows its token there."""


class Tokens:
    """The tokens in a file, one a line; read again when it changes, so that one can be replaced without a restart."""

    def __init__(self, path: Path) -> None:
        """Raises SettingsError where the file cannot be read, or has no token that can be used."""
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._tokens: tuple[bytes, ...] = ()
        try:
            self._read()
        except (OSError, ValueError) as error:
            raise SettingsError(f"http_token_file: {str(path)!r}: {error}") from None

    def accept(self, token: str) -> bool:
        """Whether it is one of them. Every one of them is compared, each in a time that does not depend on it."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            _LOGGER.warning("The tokens stay as they were: %s: %s", self._path, error)
        given = token.encode("utf-8", "surrogatepass")
        return any([hmac.compare_digest(given, one) for one in self._tokens])

    def _read(self) -> None:
        status = os.stat(self._path)
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp == self._stamp:
            return
        if status.st_size > MAX_FILE_BYTES:
            raise ValueError(f"is longer than {MAX_FILE_BYTES} bytes")
        lines = [line.strip() for line in self._path.read_bytes().splitlines()]
        tokens = tuple(line for line in lines if line)
        if not tokens:
            raise ValueError("has no token; write one into it")
        if min(map(len, tokens)) < MIN_CHARS:
            raise ValueError(f"has a token of less than {MIN_CHARS} characters; make one with: openssl rand -hex 24")
        if not all(_ALLOWED.fullmatch(token) for token in tokens):
            raise ValueError(
                "has a token with other characters than letters, digits and . _ ~ + -, which browsers cannot send; "
                "make one with: openssl rand -hex 24"
            )
        self._tokens, self._stamp = tokens, stamp
