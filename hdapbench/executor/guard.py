"""Guard: a small process that ends worker processes, with all that they started, when the run is gone.

A worker sees by itself that the run is gone, but not while C code of a method keeps its interpreter.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

_WATCH = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""


class Guard:
    """A process that watches this one and ends groups of processes after it; does nothing on Windows."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        if os.name == "posix":
            self._process = subprocess.Popen(  # noqa: S603 - our own text
                [sys.executable, "-S", "-E", "-c", _WATCH], stdin=subprocess.PIPE, text=True, start_new_session=True
            )

    def watch(self, group: int) -> None:
        """End a group of processes if this process ends."""
        self._say(f"+{group}\n")

    def forget(self, group: int) -> None:
        """Let a group alone: it has ended, and another may get its number."""
        self._say(f"-{group}\n")

    def close(self) -> None:
        """End the guard, and the groups that it still watches. Again is harmless."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):  # it was closed
                self._process.stdin.write(line)
                self._process.stdin.flush()
