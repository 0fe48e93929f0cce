"""Limiting how much of a CPU a process gets: by cgroup quota where one may be written, else by stopping and continuing.

Periods are short: under a quota of a long period, short runs are either not throttled at all or by a whole period.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Protocol

PERIOD_SECONDS = 0.01
"""A quota of 25 % with the usual 100 ms made latencies bimodal, their p90 seven times their p10; 10 ms does not."""
LEAST_QUOTA_US = 1000
"""What the kernel accepts; smaller shares take longer periods."""
CGROUP_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "hdapbench"


class CpuLimit(Protocol):
    """A limit in force."""

    def release(self) -> None:
        """Lift it; again is harmless."""


class Quota:
    """A cgroup of its own with a quota: version 1 or 2.

    Parameters
    ----------
    parent
        Folder of the cgroup that gets a child.
    share
        Share of the time in which each of ``threads`` threads may run.
    """

    def __init__(self, pid: int, *, share: float, threads: int, parent: Path, version: int) -> None:
        period = max(round(PERIOD_SECONDS * 1e6), round(LEAST_QUOTA_US / (share * threads)))
        quota = max(round(period * share * threads), LEAST_QUOTA_US)
        self._parent = parent
        self._group = parent / f"{_PREFIX}-{os.getpid()}-{pid}"
        self._group.mkdir()
        try:
            if version == 1:
                (self._group / "cpu.cfs_period_us").write_text(str(period))
                (self._group / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (self._group / "cpu.max").write_text(f"{quota} {period}")
            (self._group / "cgroup.procs").write_text(str(pid))
        except OSError:
            self._group.rmdir()
            raise

    def release(self) -> None:
        """Move what is left back to the parent and remove the cgroup."""
        with contextlib.suppress(OSError):
            for pid in (self._group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (self._parent / "cgroup.procs").write_text(pid)
        _remove_group(self._group)


class StopAndGo:
    """A process that stops and continues another: needs no rights, and is as even as a quota.

    When this process ends, however that is, it ends the other too: a stopped process would notice nothing.

    Parameters
    ----------
    share
        Share of each period in which the process may run.
    """

    def __init__(self, pid: int, *, share: float) -> None:
        self._pid = pid
        self._guard = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-S", "-c", _ALTERNATE, str(pid), str(os.getpid()), str(share), str(PERIOD_SECONDS)],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # an interrupt on the terminal is for the parent
        )

    def release(self) -> None:
        """End it and let the process run."""
        self._guard.kill()
        self._guard.wait()
        with contextlib.suppress(ProcessLookupError):
            if hasattr(signal, "SIGCONT"):  # elsewhere fleets with shares are refused
                os.kill(self._pid, signal.SIGCONT)


_ALTERNATE = """
import os, signal, sys, time
pid, parent, share, period = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
try:
    while os.getppid() == parent:
        time.sleep(period * share)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(period * (1 - share))
        os.kill(pid, signal.SIGCONT)
    os.kill(pid, signal.SIGKILL)
except ProcessLookupError:
    pass
"""


def limit_cpu(pid: int, *, share: float, threads: int) -> CpuLimit | None:
    """CpuLimit on a process's CPU time, by the best means that this host allows; None for a share of one."""
    if share >= 1.0:
        return None
    found = _quota_parent()
    if found is not None:
        parent, version = found
        with contextlib.suppress(OSError):
            return Quota(pid, share=share, threads=threads, parent=parent, version=version)
    return StopAndGo(pid, share=share)


def means_of_limiting() -> str:
    """How shares of a CPU are enforced on this host, for descriptions."""
    found = _quota_parent()
    return "SIGSTOP and SIGCONT" if found is None else f"cgroup v{found[1]} quota"


@cache
def _quota_parent() -> tuple[Path, int] | None:
    """Folder in which a cgroup with a quota can be made, and its version; tried with this process's child-to-be."""
    for parent, version in _candidates():
        trial = parent / f"{_PREFIX}-{os.getpid()}-trial"
        try:
            _sweep(parent)
            trial.mkdir()
        except OSError:
            continue
        try:
            if version == 1:
                (trial / "cpu.cfs_period_us").write_text(str(round(PERIOD_SECONDS * 1e6)))
                (trial / "cpu.cfs_quota_us").write_text(str(LEAST_QUOTA_US))
            else:
                (trial / "cpu.max").write_text(f"{LEAST_QUOTA_US} {round(PERIOD_SECONDS * 1e6)}")
            if os.access(trial / "cgroup.procs", os.W_OK):
                return parent, version
        except OSError:
            continue
        finally:
            _remove_group(trial)
    return None


def _candidates() -> list[tuple[Path, int]]:
    """Folders of this process's cgroups that may hold quotas."""
    found = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            inside = path.lstrip("/")
            if "cpu" in controllers.split(","):
                found += [(CGROUP_ROOT / "cpu" / inside, 1), (CGROUP_ROOT / "cpu", 1)]
            elif not controllers:
                found.append((CGROUP_ROOT / inside, 2))
    return [(folder, version) for folder, version in found if (folder / "cgroup.procs").exists()]


def _sweep(parent: Path) -> None:
    """Remove cgroups of runs that were killed."""
    for group in parent.glob(f"{_PREFIX}-*"):
        owner = group.name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            _remove_group(group)


def _remove_group(group: Path) -> None:
    """Remove a cgroup, which is possible a moment after its last process ended."""
    for _ in range(100):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.002)
        else:
            return
