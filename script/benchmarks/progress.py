"""What is going on, on stderr: standard output is for the figures."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """One benchmark's. Its processes share the time it began at."""

    began: float = field(default_factory=time.time)
    """By time.time(), which is the same in all processes."""

    name: str = "bench"
    """In front of every line."""

    @property
    def seconds(self) -> float:
        """Since the benchmark began."""
        return time.time() - self.began

    def say(self, text: str) -> None:
        print(f"{self.name}: {self.seconds:6.1f} s  {text}", file=sys.stderr, flush=True)
