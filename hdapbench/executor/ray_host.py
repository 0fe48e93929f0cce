"""What runs on a node of a Ray cluster: an actor with a worker process, whose events it hands on."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

from hdapbench import __version__
from hdapbench.errors import HdapbenchError
from hdapbench.executor.luggage import Files, Luggage, read_files, write_files
from hdapbench.executor.message import Task
from hdapbench.executor.slot import Event, NotBegun, Slot
from hdapbench.files import is_left_over, locked, process_mark
from hdapbench.run.supply import POLL_SECONDS
from hdapbench.run.waiting import Waits
from hdapbench.run.workspace import Workspace
from hdapbench.trial import NUMBERS, Result

PREFIX = "hdapbench-ray-"


class Host:
    """An actor that carries out one trial at a time in a worker process of its node.

    Hosts of one run on one node share a folder, so that data and base model are there once. It goes with the last.

    Parameters
    ----------
    run
        What names the run.
    luggage
        Order and files of the workers.
    base
        Files of the base model, where it is made already.
    """

    def __init__(self, run: str, luggage: Luggage, base: Files) -> None:
        _sweep()
        self._root = Path(tempfile.gettempdir()) / f"{PREFIX}{run}"
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._mark = self._root / f"{process_mark()}host"
        self._mark.touch()
        with locked(self._root / "lock"):
            order = luggage.unpacked(self._root, sys.path)
            write_files(order.workspace, base)
        order.workspace.mkdir(exist_ok=True)
        self._workspace = Workspace(order.workspace)
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._slot = Slot(order, self._events.put)

    def here(self) -> tuple[str, str, int]:
        """Name of the node, its hdapbench, and the version of its numbers."""
        return platform.node(), __version__, NUMBERS

    def carry_out(self, task: Task) -> Iterator[tuple[Event, Files]]:
        """Events of a trial, the last of which is what came of it, with the files of its artifact."""
        self._slot.give(task)
        while True:
            try:
                event = self._events.get(timeout=POLL_SECONDS)
            except Empty:
                self._slot.end_overdue()
                continue
            if isinstance(event, NotBegun):
                self._slot.give(event.task)
            elif isinstance(event, Result):
                yield event, read_files(self._workspace.root, f"artifacts/{event.trial.id}")
                self._workspace.forget(event.trial.id)  # a lost host takes its checkpoints along
                return
            else:
                yield event, {}
                if isinstance(event, Waits | HdapbenchError):
                    return

    def base(self) -> Files:
        """Files of the base model."""
        return read_files(self._workspace.root, "cache/base")

    def end(self) -> None:
        """End the worker process, and remove what the run left on this node if this is the last of its hosts."""
        self._slot.close(at_once=True)
        self._mark.unlink(missing_ok=True)
        if all(map(is_left_over, self._root.glob(".*-host"))):
            shutil.rmtree(self._root, ignore_errors=True)


def _sweep() -> None:
    """Remove folders of runs on this node whose hosts are all dead."""
    for root in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            marks = list(root.glob(".*-host"))
            if marks and all(map(is_left_over, marks)):
                shutil.rmtree(root)
