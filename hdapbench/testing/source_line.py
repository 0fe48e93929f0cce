"""Which line of a method's own code did it: from exceptions, from call stacks, and by running again under a trace."""

from __future__ import annotations

import ast
import linecache
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

from hdapbench.method import Method

Event = Callable[[FrameType, str], None]
"""Called with a frame of own code and ``line`` (about to run) or ``return``."""


@dataclass(frozen=True)
class SourceLine:
    """A line of a file."""

    file: str
    line: int

    def __str__(self) -> str:
        text = linecache.getline(self.file, self.line).strip()
        return f"{Path(self.file).name}:{self.line}: {text}" if text else f"{Path(self.file).name}:{self.line}"


class OwnCode:
    """The files that a method is written in: its module's, those of its bases, and the rest of their packages."""

    def __init__(self, files: Iterable[str], folders: Iterable[str] = ()) -> None:
        self.files, self.folders = frozenset(files), tuple(folders)

    @classmethod
    def of(cls, method: type[Method]) -> OwnCode:
        """The code of a method that is imported."""
        files: set[str] = set()
        folders: list[str] = []
        for base in method.__mro__:
            if base is Method or not issubclass(base, Method):
                continue
            file = getattr(sys.modules.get(base.__module__), "__file__", None)
            if file is None:
                continue
            files.add(_real(file))
            top = base.__module__.partition(".")[0]
            package = getattr(sys.modules.get(top), "__file__", None)
            if top not in {base.__module__, "hdapbench"} and package is not None:
                folders.append(str(Path(_real(package)).parent) + os.sep)
        return cls(files, folders)

    def has(self, file: str) -> bool:
        """Whether a file belongs to the method."""
        path = _real(file)
        return path in self.files or path.startswith(self.folders)

    def innermost(self, frame: FrameType | None) -> SourceLine | None:
        """Line of the method that is being carried out in a call stack, or None."""
        while frame is not None:
            if self.has(frame.f_code.co_filename):
                return SourceLine(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return None

    def of_error(self, error: BaseException) -> SourceLine | None:
        """Last line of the method that an exception passed through, or None."""
        found = None
        trace = error.__traceback__
        while trace is not None:
            if self.has(trace.tb_frame.f_code.co_filename):
                found = SourceLine(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
            trace = trace.tb_next
        return found


def torch_import(method: type[Method]) -> SourceLine | None:
    """Line by which a method's module imports torch as soon as methods are listed, or None."""
    file = getattr(sys.modules.get(method.__module__), "__file__", None)
    if file is None:
        return None
    for node in ast.parse(Path(file).read_bytes()).body:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        if any(name.partition(".")[0] == "torch" for name in names):
            return SourceLine(file, node.lineno)
    return None


@contextmanager
def forgiving() -> Iterator[None]:
    """Let pass whatever a method raises, panics of extension modules too, but for an interrupt."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - what it raises is judged elsewhere
        pass


@contextmanager
def traced(own: OwnCode, on_event: Event) -> Iterator[None]:
    """Call ``on_event`` before every line of own code, and at every return, in this thread."""

    def within(frame: FrameType, event: str, _argument: Any) -> Any:
        if event in {"line", "return"}:
            on_event(frame, event)
        return within

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        return within if own.has(frame.f_code.co_filename) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(before)


class LastLine:
    """The line of own code that ran last, seen from the next event."""

    def __init__(self, own: OwnCode) -> None:
        self._own = own
        self.place: SourceLine | None = None

    def follow(self, frame: FrameType, event: str) -> None:
        """Note an event; after a return the caller's line goes on."""
        if event == "line":
            self.place = SourceLine(frame.f_code.co_filename, frame.f_lineno)
        else:
            self.place = self._own.innermost(frame.f_back) or self.place


def line_that_changes(own: OwnCode, run: Callable[[], object], changed: Callable[[], bool]) -> SourceLine | None:
    """First line of own code after which ``changed()`` holds while ``run`` is carried out, or None."""
    last = LastLine(own)
    found: SourceLine | None = None

    def on_event(frame: FrameType, event: str) -> None:
        nonlocal found
        if found is None and changed():
            found = last.place
        last.follow(frame, event)

    with traced(own, on_event), forgiving():
        run()
    return found or (last.place if changed() else None)


def line_that_returns(own: OwnCode, run: Callable[[], object]) -> SourceLine | None:
    """Line of own code that returned from ``compress`` last, or None."""
    found: SourceLine | None = None

    def on_event(frame: FrameType, event: str) -> None:
        nonlocal found
        if event == "return" and frame.f_code.co_name == "compress":
            found = SourceLine(frame.f_code.co_filename, frame.f_lineno)

    with traced(own, on_event), forgiving():
        run()
    return found


@lru_cache(maxsize=4096)
def _real(file: str) -> str:
    return os.path.realpath(file)
