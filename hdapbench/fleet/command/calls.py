"""One command: run without a shell, with limits on its time and on what it may say."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

MOST_BYTES = 16 << 20
"""Of standard output; of standard error the end is kept."""
LAST_BYTES = 2000


class CallError(Exception):
    """A command failed, took too long or said too much; the text says which."""


@dataclass(frozen=True)
class Said:
    """What a command wrote to standard output, and the seconds that it took."""

    output: str
    seconds: float


def call(words: Sequence[str], *, timeout: float) -> Said:
    """Output of a command that ended well.

    Raises
    ------
    CallError
        When it cannot be started, fails, takes longer than ``timeout`` seconds or says too much; it is then ended, with
        what it started.
    """
    started = time.monotonic()
    try:
        process = subprocess.Popen(  # noqa: S603 - the user's own command
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CallError(f"'{words[0]}' cannot be run: {error}") from None
    try:
        output, errors = _read(process, started + timeout, timeout)
        code = process.wait(max(0.1, started + timeout - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise CallError(_too_long(timeout)) from None
    finally:
        _end(process)
    if code:
        lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
        raise CallError(f"'{words[0]}' failed with code {code}" + (f": {lines[-1][:200]}" if lines else ""))
    return Said(output.decode(errors="replace"), time.monotonic() - started)


def _read(process: subprocess.Popen[bytes], deadline: float, timeout: float) -> tuple[bytes, bytes]:
    """All of standard output, and the end of standard error."""
    out, err = (stream.fileno() for stream in (process.stdout, process.stderr) if stream is not None)
    kept = {out: b"", err: b""}
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            over = process.poll() is not None  # what it left in the background may hold its output open
            ready = selector.select(0.0 if over else min(0.1, max(0.0, deadline - time.monotonic())))
            if not ready and over:
                break
            if time.monotonic() >= deadline:
                raise CallError(_too_long(timeout))
            for key, _ in ready:
                part = os.read(key.fd, 1 << 16)
                if not part:
                    selector.unregister(key.fd)
                kept[key.fd] += part
            kept[err] = kept[err][-LAST_BYTES:]
            if len(kept[out]) > MOST_BYTES:
                raise CallError(f"it said more than {MOST_BYTES >> 20} MiB")
    return kept[out], kept[err]


def _too_long(timeout: float) -> str:
    return f"no answer within {timeout:g} s"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command with what it started, and wait until it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
