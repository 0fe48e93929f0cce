"""Messages between a run and its worker processes.

A worker is told objects, pickled: it trusts who started it. It answers in lines of JSON, which run no code whatever a
method may have written into them.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hdapbench import errors
from hdapbench.errors import HdapbenchError, MethodError
from hdapbench.method.base import Method
from hdapbench.run.job import Job
from hdapbench.run.waiting import Waits
from hdapbench.spec import LoadedSpec
from hdapbench.trial import Result, Trial

_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True)
class Order:
    """What a worker begins with: a `Job` as far as another process can have it.

    Attributes
    ----------
    added
        Files of methods, and classes as ``module:name``, in the order in which the registry got them.
    workspace
        Folder of caches and artifacts.
    path
        Where modules are searched for.
    """

    loaded: LoadedSpec
    added: tuple[Path | str, ...]
    bases: Mapping[str, str]
    workspace: Path
    path: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A trial, and the result that it had on an earlier recording of its fleet."""

    trial: Trial
    earlier: Result | None


def order_of(job: Job, path: list[str]) -> Order:
    """What workers begin with to carry out a job.

    Raises
    ------
    MethodError
        When a method is a class that another process cannot import.
    """
    added = tuple(found.resolve() if isinstance(found, Path) else _name_of(found) for found in job.registry.added)
    return Order(job.loaded, added, dict(job.bases), job.workspace.root.resolve(), tuple(path))


def _name_of(method: type[Method]) -> str:
    if method.__module__ == "__main__" or "<" in method.__qualname__:
        raise MethodError(
            f"other processes cannot import {method.__qualname__} of {method.__module__}; "
            "name a file that holds it, or run with executor inline"
        )
    return f"{method.__module__}:{method.__qualname__}"


def write_object(stream: IO[bytes], what: object) -> None:
    """Send an order, a task, or None for the end."""
    content = pickle.dumps(what)
    stream.write(_LENGTH.pack(len(content)) + content)
    stream.flush()


def read_object(stream: IO[bytes]) -> Any:
    """What was sent next.

    Raises
    ------
    EOFError
        When the other side has gone.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return pickle.loads(content)  # noqa: S301 - of the process that started this one


def ended_message(one: Result | Waits) -> dict[str, Any]:
    """What came of a trial, as plain values."""
    if isinstance(one, Waits):
        return {"is": "waits", "trial": one.trial.model_dump_json(), "lacking": one.lacking}
    return {"is": "result", "result": one.model_dump_json()}


def read_ended(message: Mapping[str, Any]) -> Result | Waits:
    """What came of a trial, from plain values."""
    if message["is"] == "result":
        return Result.model_validate_json(message["result"])
    lacking = {
        fleet: {plan: tuple(widths) for plan, widths in plans.items()} for fleet, plans in message["lacking"].items()
    }
    return Waits(Trial.model_validate_json(message["trial"]), lacking)


def error_message(error: HdapbenchError) -> dict[str, Any]:
    """An error that concerns all trials, as plain values."""
    return {"is": "error", "class": type(error).__name__, "text": str(error)}


def read_error(message: Mapping[str, Any]) -> HdapbenchError:
    """An error from plain values, of its class where that takes a text alone."""
    found = vars(errors).get(str(message["class"]))
    if isinstance(found, type) and issubclass(found, HdapbenchError) and found.__init__ is Exception.__init__:
        return found(message["text"])
    return HdapbenchError(message["text"])
