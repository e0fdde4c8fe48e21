"""How many CPU threads a model computes with."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

_LOGGER = logging.getLogger(__name__)


def use_threads(wanted: int) -> int:
    """Let torch compute with so many CPU threads, for what the calling thread asks it; returns how many they are.

    Args:
        wanted: 0 is one for each core this process may use.
    """
    # Torch counts cores, not the two threads that one of them may run, and honours OMP_NUM_THREADS; a container's
    # share of the machine it does not know.
    count = wanted or min(torch.get_num_threads(), usable_cpus())
    # OpenMP keeps the number per thread: it must be said on the thread that computes.
    torch.set_num_threads(count)
    _LOGGER.info("Computing with %d CPU thread%s", count, "" if count == 1 else "s")
    return count


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may keep busy: those it may run on, and no more than its control groups grant.

    Args:
        root: the directory with /proc and /sys.
    """
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not every system says it
        count = os.cpu_count() or 1
    # Half a CPU more than whole ones is worth a thread; less than that would mostly wait for its share.
    granted = min(_cgroup_quotas(root), default=float(count))
    return max(1, min(count, int(granted + 0.5)))


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """CPUs that each control group around this process grants it; those without a limit are left out."""
    groups = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        # In a container the path may be the host's, of which only the container's own group is to be seen, at the top.
        if not controllers:
            for group in _with_parents(groups, path):
                yield from _quota(_read(group / "cpu.max").split())
        elif "cpu" in controllers.split(","):  # control groups of version 1
            for group in _with_parents(groups / "cpu", path):
                files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
                yield from _quota([_read(group / name).strip() for name in files])


def _with_parents(top: Path, path: str) -> Iterator[Path]:
    parts = PurePosixPath(path).parts[1:]
    for length in range(len(parts) + 1):
        yield top.joinpath(*parts[:length])


def _quota(limit: list[str]) -> Iterator[float]:
    """CPUs from (microseconds of work, in a period of so many); "max" or -1 is no limit."""
    if len(limit) == 2 and limit[0].isdigit() and limit[1].isdigit() and int(limit[1]):
        yield int(limit[0]) / int(limit[1])


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
