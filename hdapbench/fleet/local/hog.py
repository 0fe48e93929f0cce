"""Background load while a device is timed: processes that stream through memory, or walk through the caches."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import Literal

import numpy as np

from hdapbench.errors import RuntimeLostError

HogKind = Literal["memory", "cache"]

MEMORY_BYTES = 64 << 20
"""Each of two arrays that are copied: more than caches hold, and bounded."""
CACHE_BYTES = 16 << 20
"""What is walked through at random: about a share of a last-level cache."""
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class Hog:
    """Background load: a process that takes up memory bandwidth or cache until paused. It dies with its parent.

    Parameters
    ----------
    kind
        What it takes up.
    name
        How errors call it.
    """

    def __init__(self, kind: HogKind, *, name: str) -> None:
        self.name = f"{kind} hog of {name}"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "hdapbench.fleet.local.hog", kind, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # an interrupt on the terminal is for the parent, which ends its hogs
        )
        self._ready = False

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def resume(self) -> None:
        """Run; the first time, wait until its memory is ready.

        Raises
        ------
        RuntimeLostError
            When the process is not there any more: a device is not timed without its load.
        """
        if not self._ready and self._process.stdout is not None:
            self._ready = bool(self._process.stdout.readline())
        self._signal("SIGCONT")
        self.check()

    def pause(self) -> None:
        """Stop until it is asked to run again; nothing where the process is not there."""
        self._signal("SIGSTOP")

    def check(self) -> None:
        """Raise `RuntimeLostError` when the process is not there any more."""
        code = self._process.poll()
        if code is not None or not self._ready:
            raise RuntimeLostError(
                self.name, "died: without it the device is not the one that was asked for", exit_code=code
            )

    def close(self) -> None:
        """End the process; again is harmless."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _signal(self, name: str) -> None:
        if self._process.poll() is None and hasattr(signal, name):  # elsewhere fleets with hogs are refused
            self._process.send_signal(getattr(signal, name))


def main(kind: str, parent: int) -> None:
    """Load the host until the parent ends."""
    if sys.platform == "linux":  # elsewhere the loop below sees it a moment later
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL))
    rng = np.random.default_rng(0)
    size = MEMORY_BYTES if kind == "memory" else CACHE_BYTES
    values = np.ones(size // 8)
    other = np.ones_like(values) if kind == "memory" else values
    places = rng.integers(0, len(values), 1 << 16)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while os.getppid() == parent:  # prctl was too late where the parent had ended before
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            if kind == "memory":
                np.copyto(other, values)
            else:
                values[places].sum()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
