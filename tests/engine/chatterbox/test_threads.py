"""How many CPU threads the model gets."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import torch

from wyoming_chatterbox.engine.chatterbox.compute import threads


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """/proc and /sys of a machine with eight CPUs and no limit."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    write(tmp_path, "proc/self/cgroup", "0::/")
    return tmp_path


def test_without_a_limit_every_cpu_that_the_process_may_run_on(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads.usable_cpus(machine) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5})
    assert threads.usable_cpus(machine) == 2


def test_where_neither_is_known_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.usable_cpus(tmp_path) == 6


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("120000 100000", 1),
        ("50000 100000", 1),
        ("10000 100000", 1),
        ("1600000 100000", 8),
        ("what", 8),
        ("", 8),
        ("100000 0", 8),
    ],
)
def test_a_container_gets_what_it_is_granted(machine: Path, limit: str, expected: int) -> None:
    write(machine, "sys/fs/cgroup/cpu.max", limit)
    assert threads.usable_cpus(machine) == expected


def test_the_tightest_of_the_groups_around_it_counts(machine: Path) -> None:
    write(machine, "proc/self/cgroup", "0::/system.slice/chatterbox.service")
    write(machine, "sys/fs/cgroup/system.slice/chatterbox.service/cpu.max", "600000 100000")
    assert threads.usable_cpus(machine) == 6
    write(machine, "sys/fs/cgroup/system.slice/cpu.max", "300000 100000")
    assert threads.usable_cpus(machine) == 3


def test_control_groups_of_version_one_count_too(machine: Path) -> None:
    # As in a container: the path is the host's, and only the container's own group is mounted, at the top.
    write(machine, "proc/self/cgroup", "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/")
    write(machine, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "400000")
    write(machine, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert threads.usable_cpus(machine) == 4
    write(machine, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    assert threads.usable_cpus(machine) == 8


def test_this_machine_is_understood() -> None:
    assert 1 <= threads.usable_cpus() <= (os.cpu_count() or 1)


def threads_after(wanted: int) -> tuple[int, int]:
    """(what `use_threads` says, what torch says), on a thread of its own as an engine's is."""
    answers = []

    def work() -> None:
        answers.extend((threads.use_threads(wanted), torch.get_num_threads()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers[0], answers[1]


def test_the_calling_thread_computes_with_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        assert threads_after(5) == (5, 5)
        torch.set_num_threads(4)  # a machine of four cores; new threads begin with it
        monkeypatch.setattr(threads, "usable_cpus", lambda: 3)
        assert threads_after(0) == (3, 3), "no more than the process may use"
        torch.set_num_threads(4)
        monkeypatch.setattr(threads, "usable_cpus", lambda: 8)
        assert threads_after(0) == (4, 4), "two threads of one core are one"
    finally:
        torch.set_num_threads(before)
