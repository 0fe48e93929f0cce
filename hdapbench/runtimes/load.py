"""Foreign load: processors that others keep busy while models are timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

STAT = Path("/proc/stat")
BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of /proc/stat that count: user, nice, system, interrupts, and what a hypervisor took away."""


class ForeignLoad:
    """Cores that other processes keep busy, from /proc/stat less one's own.

    Parameters
    ----------
    pids
        Processes that are one's own besides this one: the workers.
    read
        Returns seconds that all processors were busy, and that one's own processes were, or None where neither can
        be had; for tests.
    clock
        Returns seconds.
    """

    def __init__(
        self,
        pids: Sequence[int] = (),
        *,
        read: Callable[[], tuple[float, float] | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read or (lambda: read_busy_seconds(pids))
        self._clock = clock
        self._last, self._since = self._read(), clock()

    def cores(self) -> float | None:
        """Foreign load since the last call, in cores; None where the system does not tell, or no time has passed.

        The system counts in steps of a hundredth of a second: ask for a quarter of a second or more.
        """
        last, since = self._last, self._since
        self._last, self._since = self._read(), self._clock()
        seconds = self._since - since
        if last is None or self._last is None or seconds <= 0:
            return None
        return max(0.0, (self._last[0] - last[0]) - (self._last[1] - last[1])) / seconds


def read_busy_seconds(pids: Sequence[int]) -> tuple[float, float] | None:
    """Seconds that all processors were busy since the start, and that this process and ``pids`` were."""
    try:
        columns = STAT.read_text().split("\n", 1)[0].split()[1:]
        ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        own = time.process_time() + sum(_process_ticks(pid) for pid in pids) / ticks
    except OSError:
        return None
    return sum(int(columns[place]) for place in BUSY) / ticks, own


def _process_ticks(pid: int) -> int:
    """Processor time of a process in ticks."""
    # The second field is the program's name in parentheses, which may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
