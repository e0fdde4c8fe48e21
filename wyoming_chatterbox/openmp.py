"""How torch's CPU threads wait for each other.

torch spreads the work of a CPU with OpenMP. A thread that is done with its part waits for the others in a loop, for
milliseconds, before it sleeps. While nothing else wants the cores that saves a little; beside another busy program it
is a cliff, because the loop holds the core that the last thread is waiting for: speech takes 12 to 20 times as long,
where twice as long would be a fair share (docs/performance.md). So threads sleep sooner here.

GNU's libgomp, which torch has on Linux, reads its environment once, when it is loaded. `os.environ` reaches it, as
Python hands changes to the C library (putenv), but only before torch or anything else that brings libgomp is imported.
"""

from __future__ import annotations

import os

SPIN_COUNT = 10_000
"""Turns of the loop before a thread sleeps; libgomp's default is 300,000. With fewer, threads also sleep between two
layers on a quiet machine, where waking them takes longer than the layer: measured in docs/performance.md."""

_SETTINGS = {"GOMP_SPINCOUNT": str(SPIN_COUNT)}
_USERS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Variables by which a user decides; then nothing is changed."""


def limit_spinning() -> None:
    """Let OpenMP's threads sleep soon when they wait. Without effect once libgomp is loaded."""
    if not any(name in os.environ for name in _USERS):
        os.environ.update(_SETTINGS)
