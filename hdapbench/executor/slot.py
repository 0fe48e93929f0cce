"""Slot: a place for one worker process, which is started when it is first needed and replaced when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import hdapbench
from hdapbench.errors import ExecutorError, HdapbenchError, printable
from hdapbench.executor.guard import Guard
from hdapbench.executor.message import Order, Task, read_ended, read_error, write_object
from hdapbench.files import process_mark, sweep_leftovers
from hdapbench.run.waiting import Waits
from hdapbench.run.workspace import Workspace
from hdapbench.trial import Environment, Result, Spent, Status, Trial

NEW_GROUP = 0
if sys.platform == "win32":
    NEW_GROUP = subprocess.CREATE_NEW_PROCESS_GROUP

PRINTED_LINES = 100
"""Lines of what is printed during a trial that are shown."""
LINE_BYTES = 400
END_SECONDS = 10.0
"""After which a worker that was told to end is ended."""
OVERDUE_SECONDS = 15.0
"""After a method's time limit, when a worker is ended whose alarm did not stop the method."""


@dataclass(frozen=True)
class Said:
    """A phase of a worker, or a line that is printed in it."""

    text: str
    is_phase: bool = False


@dataclass(frozen=True)
class Began:
    """A trial has begun."""

    trial: Trial


@dataclass(frozen=True)
class Step:
    """A step of a trial, or of what is prepared for it."""

    trial: Trial
    text: str


@dataclass(frozen=True)
class NotBegun:
    """A worker that had carried out others ended before this one began: it can be given again."""

    task: Task


Event = Said | Began | Step | NotBegun | Result | Waits | HdapbenchError
"""What a slot tells; of an error that concerns all trials, the error."""


class Slot:
    """A place for one worker process.

    Parameters
    ----------
    order
        What workers begin with.
    tell
        Called with every event, from threads of the slot.
    environment
        Variables that workers have beside those of this process.
    """

    def __init__(
        self, order: Order, tell: Callable[[Event], object], environment: Mapping[str, str] | None = None
    ) -> None:
        self._order, self._tell, self._variables = order, tell, dict(environment or {})
        self._workers: list[_Worker] = []
        self._guard: Guard | None = None

    @property
    def is_idle(self) -> bool:
        """Whether a trial can be given to it."""
        return not self._workers or self._workers[-1].task is None

    def give(self, task: Task) -> None:
        """Let the worker carry out a trial; what comes of it is told."""
        if self._workers and self._workers[-1].give(task):
            return
        if self._guard is None:
            self._guard = Guard()
        self._workers = [worker for worker in self._workers if not worker.is_gone]
        self._workers.append(_Worker(self._order, self._tell, self._variables, self._guard))
        self._workers[-1].give(task)

    def end_overdue(self) -> None:
        """End the worker when its method goes on long after its time is up."""
        for worker in self._workers:
            worker.end_overdue()

    def close(self, *, at_once: bool) -> None:
        """End the worker; a trial that it carries out is lost. Again is harmless."""
        for worker in self._workers:
            worker.leave()
        for worker in self._workers:
            worker.close(at_once=at_once)
        if self._guard is not None:
            self._guard.close()


class _Worker:
    """One worker process: what it answers becomes events, its end too."""

    def __init__(
        self, order: Order, tell: Callable[[Event], object], variables: Mapping[str, str], guard: Guard
    ) -> None:
        self._order, self._tell, self._guard = order, tell, guard
        self._workspace = Workspace(order.workspace)
        self._is_live = any(fleet.is_live for fleet in order.loaded.spec.fleets)
        self.task: Task | None = None
        self._lock = threading.Lock()
        self._takes_more = True
        self._n_began, self._began = 0, 0.0
        self._environment: Environment | None = None
        self._is_told, self._reason = False, ""
        self._printed: list[str] = []
        self._n_printed = 0
        self._asked_since: float | None = None
        self._temporary = TemporaryDirectory(prefix=f"{process_mark()}tmp-", dir=order.workspace)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "hdapbench.executor.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**_environment(), "TMPDIR": self._temporary.name, **variables},
            start_new_session=True,  # an interrupt on the terminal is for the run
            creationflags=NEW_GROUP,
        )
        self._guard.watch(self._process.pid)
        readers = [
            threading.Thread(target=target, args=(stream,), name="worker", daemon=True)
            for target, stream in ((self._read, self._process.stdout), (self._read_printed, self._process.stderr))
        ]
        for reader in readers:
            reader.start()
        self._watcher = threading.Thread(target=self._watch, args=(readers,), name="worker", daemon=True)
        self._watcher.start()
        self._write(order)

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of the process."""
        return not self._watcher.is_alive()

    def give(self, task: Task) -> bool:
        """Whether the process takes a trial, which it was given then."""
        with self._lock:
            if not self._takes_more:
                return False
            self.task, self._began, self._asked_since = task, 0.0, None
        self._printed, self._n_printed = [], 0
        self._write(task)
        return True

    def leave(self) -> None:
        """Let the process end when it has nothing to do."""
        with self._lock:
            is_asked = self._takes_more and self.task is None
            self._takes_more = False
        if is_asked:
            self._write(None)

    def end_overdue(self) -> None:
        """End the process when a method goes on long after its limit: the alarm in the process did nothing."""
        limit, task = self._order.loaded.spec.budget.wall_seconds, self.task
        if limit is None or task is None:
            return
        if not (self._workspace.deaths / task.trial.id).exists():
            self._asked_since = None
            return
        if self._asked_since is None:
            self._asked_since = time.monotonic()
        if time.monotonic() - self._asked_since > 2 * limit + OVERDUE_SECONDS:
            self._reason = f"the time limit of {limit:g} s is up, and the method could only be stopped with its process"
            self._kill()

    def close(self, *, at_once: bool) -> None:
        """End the process, and wait until it is gone."""
        self.leave()
        if not at_once:
            self._watcher.join(END_SECONDS)
        self._kill()
        self._watcher.join()

    def _write(self, what: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        with contextlib.suppress(OSError):  # it has ended, which its watcher tells
            write_object(self._process.stdin, what)

    def _kill(self) -> None:
        """End the process and what it started."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def _read(self, stream: IO[bytes]) -> None:
        """Tell what the process answers."""
        for line in stream:
            with contextlib.suppress(ValueError, KeyError):  # a line that a method wrote, or half of one
                self._take(json.loads(line))

    def _take(self, message: Mapping[str, Any]) -> None:
        kind, task = message["is"], self.task
        if kind == "phase":
            self._tell(Said(str(message["text"]), is_phase=True))
        elif kind == "step" and task is not None:
            self._tell(Step(task.trial, str(message["text"])))
        elif kind == "here":
            self._environment = Environment.model_validate_json(message["environment"])
        elif kind == "started" and task is not None:
            self._began, self._n_began = time.monotonic(), self._n_began + 1
            self._tell(Began(task.trial))
        elif kind == "error":
            self._is_told = True
            self._tell(read_error(message))
        elif task is not None:
            ended = read_ended(message)
            self.task = None
            if isinstance(ended, Result) and ended.notes.get("put_back") and not self._is_live:
                self.leave()  # it may have changed more than is put back: the next trial has a new process
            self._tell(ended)

    def _read_printed(self, stream: IO[bytes]) -> None:
        """Tell the first lines of what is printed, and keep the last."""
        while line := stream.readline(LINE_BYTES):
            text = printable(line.decode(errors="replace").rstrip("\r\n"))
            if not text.strip():
                continue
            self._n_printed += 1
            self._printed = [*self._printed[-2:], text]
            if self._n_printed <= PRINTED_LINES:
                self._tell(Said(text))
            if self._n_printed == PRINTED_LINES:
                self._tell(Said("it prints more, which is not shown"))

    def _watch(self, readers: list[threading.Thread]) -> None:
        """Wait for the end of the process, and tell a trial that ended with it."""
        code = self._process.wait()
        self._kill()  # processes that it left behind
        self._guard.forget(self._process.pid)
        for reader in readers:
            reader.join(END_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError, ValueError):
                    stream.close()
        self._temporary.cleanup()
        sweep_leftovers(self._order.workspace)
        with self._lock:
            was_left, self._takes_more = not self._takes_more, False
            task, self.task = self.task, None
        if task is not None and not self._is_told and (self._reason or not was_left):
            self._tell(self._came_of(task, self._reason or f"the process of this trial {ended_by(code)}"))

    def _came_of(self, task: Task, reason: str) -> Event:
        """What came of a trial with which the process ended."""
        if not self._began and self._n_began:
            return NotBegun(task)
        if not self._began or self._environment is None:
            said = f"; it last said: {self._printed[-1]}" if self._printed else ""
            return ExecutorError(f"a worker process ended before its first trial began: {reason}{said}")
        (self._workspace.deaths / task.trial.id).unlink(missing_ok=True)
        return Result(
            trial=task.trial,
            status=Status.TIMEOUT if self._reason else Status.FAILED,
            reason=reason,
            spent=Spent(),
            seconds=round(time.monotonic() - self._began, 3),
            environment=self._environment,
        )


def ended_by(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"left with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was ended by {name}" + (", for want of memory perhaps" if name == "SIGKILL" else "")


def _environment() -> dict[str, str]:
    """Environment of a worker: that of this process, and this very package."""
    package = str(Path(hdapbench.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    return dict(os.environ) | {"PYTHONPATH": path}
