"""Conversation: one process of our own that is asked, and answers, in lines of JSON; each answer has its time limit."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import IO, Any

from hdapbench.errors import RuntimeRefusedError

LAST_LINES = 8


class ConversationLostError(Exception):
    """The process died, or does not answer.

    Attributes
    ----------
    what
        Which of these.
    exit_code
        Of the process; negative: the signal that ended it. None when it was closed before.
    last_lines
        What it last wrote to standard error.
    """

    def __init__(self, what: str, *, exit_code: int | None = None, last_lines: tuple[str, ...] = ()) -> None:
        self.what, self.exit_code, self.last_lines = what, exit_code, last_lines
        super().__init__(what)


class Conversation:
    """A module of this package, run as a process that ends with `close`, or with this process.

    Parameters
    ----------
    module
        What ``python -m`` runs. It reads requests from standard input, one line each, and ends when its input does.
    environment
        Its environment.

    Raises
    ------
    RuntimeRefusedError
        On Windows, where nobody can wait for a line from a process with a time limit.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        if os.name == "nt":
            raise RuntimeRefusedError("models are timed on Linux and macOS; on Windows use fleet ask and fleet tell")
        # A file, not a pipe: nobody reads it until something goes wrong, and a full pipe would stop the process.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
        )
        self._pending = b""

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any], *, timeout: float) -> dict[str, Any]:
        """Answer to a request.

        Raises
        ------
        ConversationLostError
            When the process died, or takes longer than ``timeout`` seconds; it is then ended.
        """
        if self._process.stdin is None or self._process.stdin.closed:
            raise ConversationLostError("was closed")
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost("died") from None
        answer: dict[str, Any] = json.loads(self._line(timeout))
        return answer

    def close(self) -> None:
        """End the process, and wait until it is gone. May be called again."""
        self._process.kill()  # a stopped process dies of nothing else
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _line(self, timeout: float) -> bytes:
        """Next line of answer; the process is ended when it takes too long."""
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._process.kill()
                    raise self._lost(f"gave no answer for {timeout:g} s and was ended")
                part = os.read(self._process.stdout.fileno(), 1 << 16)
                if not part:
                    raise self._lost("died")
                self._pending += part
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _lost(self, what: str) -> ConversationLostError:
        code = self._process.wait()
        self._errors.seek(max(0, os.fstat(self._errors.fileno()).st_size - 4000))
        text = self._errors.read(4000).decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
        return ConversationLostError(what, exit_code=code, last_lines=tuple(lines))
