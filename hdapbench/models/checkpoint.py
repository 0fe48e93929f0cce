"""Weights out of ultralytics' .pt files, which hold whole pickled networks, without running any of their code."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

PACKAGE = "ultralytics."
ZIP_MAGIC = b"PK\x03\x04"
NETWORKS = ("ema", "model")
"""Entries that hold a network: the average of its weights comes first, as ultralytics loads it."""

_REBUILDERS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,  # as pickles of protocol 2 name it
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
"""The callables that tensors in plain containers need; everything else becomes `_Inert`."""


def ultralytics_state(path: Path) -> dict[str, Tensor] | None:
    """State dict in single precision of the network in a file of ultralytics, or None when it holds none.

    The file's pickle is read with stand-ins for every class and function but those that rebuild tensors: a stand-in
    keeps what it is given and does nothing, so no code that the file names can run.
    """
    content = _inert_content(path)
    if not isinstance(content, dict):
        return None
    network = next((content[name] for name in NETWORKS if isinstance(content.get(name), _Inert)), None)
    if network is None or not network.origin.startswith(PACKAGE):
        return None
    return {name: value.float() if value.is_floating_point() else value for name, value in _tensors(network, "")}


def tensors_beside_objects(path: Path) -> dict[Any, Any] | None:
    """Mapping in a file of torch that holds objects beside tensors, such as arguments of a program; None without one.

    Read as `ultralytics_state` reads: no code that the file names can run.
    """
    content = _inert_content(path)
    return content if isinstance(content, dict) else None


def _inert_content(path: Path) -> Any:
    """What a zip of torch holds, with stand-ins for objects; None when it cannot be read."""
    with path.open("rb") as stream:  # torch would read other files as archives of old, with pipes and devices in them
        if stream.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            return None
    reader = SimpleNamespace(Unpickler=_InertUnpickler, __name__="inert")
    try:
        return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except Exception:  # noqa: BLE001 - unpickling raises whatever the bytes make it raise; the caller says what is wrong
        return None


class _Inert:
    """Stands for an object of some class: keeps its state, does nothing."""

    origin = ""

    def __new__(cls, *_arguments: object, **_options: object) -> _Inert:
        return object.__new__(cls)

    def __init__(self, *_arguments: object, **_options: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: object, value: object) -> None:
        """Entries of containers of unknown kinds are dropped, and so are items."""

    def append(self, item: object) -> None:
        """Drop it."""

    def extend(self, items: object) -> None:
        """Drop them."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Rebuilder of tensors, type of numbers, or a stand-in."""
        if (module, name) in _REBUILDERS:
            return _REBUILDERS[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return type(name, (_Inert,), {"origin": f"{module}.{name}"})


def _tensors(module: _Inert, prefix: str) -> list[tuple[str, Tensor]]:
    """Parameters and kept buffers of a module and those below it, named as in a state dict."""
    state = getattr(module, "state", {})
    left_out = state.get("_non_persistent_buffers_set") or ()
    found = [
        (f"{prefix}{name}", value.detach())
        for table in ("_parameters", "_buffers")
        for name, value in (state.get(table) or {}).items()
        if isinstance(value, Tensor) and name not in left_out
    ]
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, _Inert):
            found += _tensors(child, f"{prefix}{name}.")
    return found
