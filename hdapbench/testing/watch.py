"""What a method does beside proposing a plan: prints, files, connections, and the private parts of its problem."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

from hdapbench.method import Problem
from hdapbench.testing.source_line import OwnCode, SourceLine

NETWORK_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"})
TEMPORARY_EVENTS = frozenset({"tempfile.mkstemp", "tempfile.mkdtemp"})
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


class NetworkRefusedError(PermissionError):
    """A connection was tried where none is allowed."""


@dataclass
class Findings:
    """What a run of a method was seen to do: (what, the line of the method that did it)."""

    printed: list[tuple[str, SourceLine | None]] = field(default_factory=list)
    written: list[tuple[str, SourceLine | None]] = field(default_factory=list)
    connected: list[tuple[str, SourceLine | None]] = field(default_factory=list)
    private: list[tuple[str, SourceLine | None]] = field(default_factory=list)
    images: list[tuple[str, SourceLine | None]] = field(default_factory=list)


class WatchedProblem(Problem):
    """A problem that notes when a method reads its private parts, changes it, or looks at training images."""

    def watch(self, findings: Findings, own: OwnCode) -> None:
        """Begin to note, in this problem and its parts."""
        for part in (self, self.devices, self.training, self.quantization):
            object.__setattr__(part, "__class__", _watched_class(type(part), findings, own))


def _watched_class(watched_class: type, findings: Findings, own: OwnCode) -> type:
    """Subclass whose instances note what frames outside of hdapbench do with them."""
    name = "problem" if issubclass(watched_class, Problem) else f"problem.{watched_class.__name__.lower()}"

    def note(what: str, noted: list[tuple[str, SourceLine | None]]) -> None:
        frame = sys._getframe(2)
        if str(frame.f_globals.get("__name__")).partition(".")[0] != "hdapbench":
            noted.append((what, own.innermost(frame)))

    def read(part: object, attribute: str) -> Any:
        if attribute.startswith("_") and not attribute.startswith("__"):
            note(f"{name}.{attribute} is read", findings.private)
        elif attribute == "batches":
            note(f"{name}.batches", findings.images)
        return object.__getattribute__(part, attribute)

    def set_(part: object, attribute: str, value: object) -> None:
        note(f"{name}.{attribute} is set", findings.private)
        object.__setattr__(part, attribute, value)

    return type(watched_class.__name__, (watched_class,), {"__getattribute__": read, "__setattr__": set_})


@contextmanager
def watched(findings: Findings, own: OwnCode) -> Iterator[None]:
    """Note what is printed, written and connected to; connections are refused. Warnings are no prints."""
    listener = _Listener(findings, own)
    out, err = _Ear("stdout", findings, own), _Ear("stderr", findings, own)
    with (
        warnings.catch_warnings(),
        redirect_stdout(out),
        redirect_stderr(err),
        _hearing(listener),
        _torch_save(listener),
    ):
        warnings.simplefilter("ignore")
        yield


class _Ear(io.StringIO):
    """A stream that keeps nothing but what was first written to it."""

    def __init__(self, stream: str, findings: Findings, own: OwnCode) -> None:
        super().__init__()
        self._stream, self._findings, self._own = stream, findings, own

    def write(self, text: str) -> int:
        if text.strip():
            shown = f"{text.strip()[:80]!r} to {self._stream}"
            self._findings.printed.append((shown, self._own.innermost(sys._getframe(1))))
        return len(text)


class _Listener:
    """Hears the interpreter's audit events."""

    def __init__(self, findings: Findings, own: OwnCode) -> None:
        self._findings, self._own = findings, own
        self._temporary: list[str] = [os.devnull]

    def hear(self, event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> None:
        """Note a connection or an opened file."""
        if event in NETWORK_EVENTS:
            self._refuse(event, arguments, frame)
        elif event in TEMPORARY_EVENTS:
            self._temporary.append(str(arguments[0]))
        elif event == "open":
            path, mode, flags = arguments
            if any(letter in mode for letter in "wax+") if mode else int(flags or 0) & WRITING_FLAGS:
                self.wrote(path, frame)

    def wrote(self, path: object, frame: FrameType | None) -> None:
        """Note a file, unless it is temporary, bytecode, or written by hdapbench itself."""
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.fsdecode(path)
        if Path(text).is_dir():
            return  # a temporary file without a name, gone when it is closed: tempfile opens its folder for it
        if text.endswith(".pyc") or "__pycache__" in text or text.startswith(tuple(self._temporary)):
            return
        place = self._blamed(frame)
        if place is not None:
            self._findings.written.append((text, place))

    def _refuse(self, event: str, arguments: tuple[Any, ...], frame: FrameType | None) -> None:
        host = arguments[0]
        if event in {"socket.connect", "socket.sendto"}:
            host = arguments[1]
            if not isinstance(host, tuple):  # a socket of this machine alone
                return
        self._findings.connected.append((str(host), self._own.innermost(frame)))
        raise NetworkRefusedError(f"a method connects to nothing, and this one wants {host}")

    def _blamed(self, frame: FrameType | None) -> SourceLine | None:
        """Line of the method, when it and not hdapbench is nearest to the event."""
        while frame is not None:
            if self._own.has(frame.f_code.co_filename):
                return SourceLine(frame.f_code.co_filename, frame.f_lineno)
            if str(frame.f_globals.get("__name__")).partition(".")[0] == "hdapbench":
                return None
            frame = frame.f_back
        return None


_listeners: list[_Listener] = []


@contextmanager
def _hearing(listener: _Listener) -> Iterator[None]:
    _install()
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@cache
def _install() -> None:
    """Add one audit hook for good: hooks cannot be removed, and this one does nothing without a listener."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if _listeners and (event == "open" or event in NETWORK_EVENTS or event in TEMPORARY_EVENTS):
            for listener in _listeners:
                listener.hear(event, arguments, sys._getframe(1))

    sys.addaudithook(hook)


@contextmanager
def _torch_save(listener: _Listener) -> Iterator[None]:
    """Note what ``torch.save`` writes, which opens files where no audit event tells of it."""
    import torch

    save: Callable[..., None] = torch.save

    def noted(thing: object, f: Any, *arguments: Any, **options: Any) -> None:
        if isinstance(f, str | Path):
            listener.wrote(f, sys._getframe(1))
        save(thing, f, *arguments, **options)

    with mock.patch.object(torch, "save", noted):
        yield
