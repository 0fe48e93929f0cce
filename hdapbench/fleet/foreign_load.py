"""How much of this host other processes use while something is measured. Linux; nothing elsewhere."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

_IDLE = (3, 4)  # idle and iowait of /proc/stat
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01


class ForeignLoad:
    """Cores used by processes other than some, since it was made.

    Parameters
    ----------
    own
        Processes that are not foreign; this one never is.
    """

    def __init__(self, own: Iterable[int]) -> None:
        self._own = (*own, os.getpid())
        self._started, self._busy, self._used = time.monotonic(), _busy_seconds(), self._own_seconds()

    def cores(self) -> float | None:
        """Cores on average, at least 0; None where the host does not say, or too little time has passed to say."""
        busy, seconds = _busy_seconds(), time.monotonic() - self._started
        if busy is None or self._busy is None or seconds < 2 * _TICK_SECONDS:
            return None
        return max(busy - self._busy - (self._own_seconds() - self._used), 0.0) / seconds

    def _own_seconds(self) -> float:
        return sum(_process_seconds(pid) for pid in self._own)


def _busy_seconds() -> float | None:
    """CPU time of all processes since the host started."""
    with contextlib.suppress(OSError, ValueError):
        ticks = [int(value) for value in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
        return sum(value for place, value in enumerate(ticks) if place not in _IDLE) * _TICK_SECONDS
    return None


def _process_seconds(pid: int) -> float:
    """CPU time of a process; 0 when it is gone."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) * _TICK_SECONDS
    return 0.0
