"""A worker process: carries out trials that it is told on its standard input, until that ends.

Standard output is taken away from whoever prints: it carries the answers. When the run that started the worker is
gone, however it ended, so is the worker, with the processes that it or a method started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from hdapbench.errors import HdapbenchError, MethodError
from hdapbench.executor.message import Order, Task, ended_message, error_message, read_object
from hdapbench.method.base import Method
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.environment import current_environment
from hdapbench.run.runner import Run, failure_reason
from hdapbench.run.whole import import_what_makes_numbers, let_threads_sleep
from hdapbench.run.workspace import Workspace
from hdapbench.trial import Result, Trial

STEP_SECONDS = 0.1
"""Between two steps that are told: a method may tell any number."""

OOM_SCORE = "500"
"""Where memory runs out, the system ends a worker before the run that started it."""


class Answers:
    """Lines of JSON to whoever started this process; several threads may write."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def say(self, kind: str, **content: Any) -> None:
        """Write one line."""
        self.write({"is": kind, **content})

    def write(self, message: dict[str, Any]) -> None:
        """Write one line."""
        with self._lock:
            self._stream.write(json.dumps(message).encode() + b"\n")
            self._stream.flush()


class Telling:
    """Listener that tells whoever started this process."""

    def __init__(self, answers: Answers) -> None:
        self._answers, self._last = answers, 0.0

    def phase(self, text: str) -> None:
        """Tell a phase."""
        self._answers.say("phase", text=text)

    def started(self, trial: Trial) -> None:
        """Tell a start."""
        self._answers.say("started", trial=trial.id)

    def progress(self, text: str) -> None:
        """Tell a step, if the last one is a moment ago."""
        if time.monotonic() - self._last >= STEP_SECONDS:
            self._last = time.monotonic()
            self._answers.say("step", text=text)

    def finished(self, result: Result) -> None:
        """Tell nothing: the result is an answer of its own."""


def main() -> None:
    """Carry out what comes."""
    orders, answers = _own_streams()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    try:
        _carry_out(orders, answers)
    except HdapbenchError as error:
        answers.write(error_message(error))
    except BaseException as error:  # noqa: BLE001 - whoever started this process shows it
        answers.write(error_message(HdapbenchError(failure_reason(error))))


def _own_streams() -> tuple[IO[bytes], Answers]:
    """Streams to and from whoever started this process; whoever else reads or prints has nothing and stderr."""
    orders, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    return orders, Answers(answers)


def _end_all() -> None:
    """End this process and those that it started."""
    if os.name == "posix":
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _carry_out(orders: IO[bytes], answers: Answers) -> None:
    order: Order = read_object(orders)
    sys.path[:] = order.path
    let_threads_sleep()
    registry = MethodRegistry(import_what_makes_numbers)
    for added in order.added:
        if isinstance(added, Path):
            registry.try_file(added)
        else:
            registry.add_class(_imported(added))
    answers.say("here", environment=_environment(order).model_dump_json())
    tasks: SimpleQueue[Task | None] = SimpleQueue()
    threading.Thread(target=_receive, args=(orders, tasks), name="orders", daemon=True).start()
    earlier: dict[str, Result | None] = {}

    def trials() -> Iterator[Trial]:
        while (task := tasks.get()) is not None:
            earlier[task.trial.id] = task.earlier
            _refuse_edited(task.trial, registry)
            yield task.trial

    run = Run(
        order.loaded,
        registry,
        workspace=Workspace(order.workspace),
        listener=Telling(answers),
        bases=order.bases,
        earlier=lambda trial: earlier[trial.id],
    )
    for one in run.results(trials()):
        answers.write(ended_message(one))


def _environment(order: Order) -> Any:
    """Environment of results, as trials set it."""
    import torch

    torch.set_num_threads(order.loaded.spec.threads)
    return current_environment()


def _receive(orders: IO[bytes], tasks: SimpleQueue[Task | None]) -> None:
    """Take in tasks while one is carried out; end all when whoever gave them is gone."""
    try:
        while True:
            task = read_object(orders)
            tasks.put(task)
            if task is None:
                orders.read(1)  # nothing comes: wait until whoever started this process lets go of it
                return
    except (EOFError, OSError, ValueError):
        _end_all()


def _imported(name: str) -> type[Method]:
    module, _, qualified = name.partition(":")
    found: Any = import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    method: type[Method] = found
    return method


def _refuse_edited(trial: Trial, registry: MethodRegistry) -> None:
    """Refuse to store numbers of one code under the id of another."""
    if trial.method != "dense" and registry.code(trial.method) != trial.code:
        raise MethodError(f"the code of method '{trial.method}' was edited while the run went on; run it again")


if __name__ == "__main__":
    main()
