"""Where two runs of the same code part: the first line after which a variable of it differs."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from hdapbench.testing.source_line import LastLine, OwnCode, SourceLine, forgiving, traced

MOST_EVENTS = 20_000
"""Lines that are compared; a difference after more is not looked for."""

MOST_ITEMS, MOST_DEPTH = 500, 4


def line_that_differs(own: OwnCode, run: Callable[[], object]) -> SourceLine | None:
    """First line of own code whose results differ between two runs, or None when none was found."""
    first = _Recorder(own)
    with traced(own, first.on_event), forgiving():
        run()
    second = _Recorder(own, reference=first.events)
    with traced(own, second.on_event), forgiving():
        run()
    return second.parted_at


class _Recorder:
    """Lines and digests of local variables; with a reference, the line before the first event that differs from it."""

    def __init__(self, own: OwnCode, reference: list[str] | None = None) -> None:
        self._last = LastLine(own)
        self._reference = reference
        self.events: list[str] = []
        self.parted_at: SourceLine | None = None

    def on_event(self, frame: FrameType, event: str) -> None:
        if self.parted_at is not None or len(self.events) >= MOST_EVENTS:
            return
        here = f"{frame.f_code.co_filename}:{frame.f_lineno}:{event}:{_digest(frame.f_locals)}"
        if self._reference is not None:
            number = len(self.events)
            if number >= len(self._reference) or self._reference[number] != here:
                self.parted_at = self._last.place
        self.events.append(here)
        self._last.follow(frame, event)


def _digest(variables: Mapping[str, object]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for name, value in variables.items():
        digest.update(name.encode())
        digest.update(_bytes(value, MOST_DEPTH))
    return digest.hexdigest()


def _bytes(value: object, depth: int) -> bytes:
    """Content of a value; of what is not understood, or lies too deep, the type alone."""
    for kinds, digest in _SIMPLE:
        if isinstance(value, kinds):
            return digest(value)
    if depth > 0:
        for kinds, items in _CONTAINERS:
            if isinstance(value, kinds):
                return b"".join(_bytes(item, depth - 1) for item in items(value)[:MOST_ITEMS])
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return b"".join(_bytes(getattr(value, name, None), depth - 1) for name in names)
    return type(value).__qualname__.encode()


def _array(value: Any) -> bytes:
    return repr(value.shape).encode() + (b"" if value.dtype == object else value.tobytes())


def _pairs(mapping: Any) -> list[object]:
    return [part for pair in mapping.items() for part in pair]


_SIMPLE: tuple[tuple[Any, Callable[[Any], bytes]], ...] = (
    ((type(None), bool, int, float, complex, str, bytes), lambda value: repr(value).encode()),
    ((np.ndarray, np.generic), _array),
    (torch.Tensor, lambda value: _array(value.detach().cpu().double().numpy())),
    (np.random.Generator, lambda value: repr(value.bit_generator.state).encode()),
    (random.Random, lambda value: repr(value.getstate()).encode()),
)
_CONTAINERS: tuple[tuple[Any, Callable[[Any], list[object]]], ...] = (
    (torch.nn.Module, lambda value: list(value.state_dict().values())),
    (BaseModel, lambda value: _pairs(dict(value))),
    (dict, _pairs),
    ((list, tuple), list),
    ((set, frozenset), lambda value: sorted(value, key=repr)),
)
