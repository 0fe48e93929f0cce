"""Runtimes: what each loads and how a worker process starts it; found by entry point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from hdapbench.errors import PluginError
from hdapbench.spec.plugins import load_plugin
from hdapbench.spec.runtime import GROUP


@dataclass(frozen=True)
class Runtime:
    """What an entry point of the group ``hdapbench.runtimes`` names; its name is what specs call the runtime.

    Attributes
    ----------
    suffix
        Of the files that it loads: ``.onnx``, or ``.pt2`` for programs of torch.export.
    package
        Distribution whose version fleets tell.
    prepare
        ``module:function``, imported in the worker process alone. The function takes the fields of `RuntimeSpec` as
        plain values, and returns a function that loads a file and returns what is timed. Either may refuse by raising.
    """

    suffix: Literal[".onnx", ".pt2"]
    package: str
    prepare: str


ONNXRUNTIME = Runtime(".onnx", "onnxruntime", "hdapbench.runtimes.on_onnxruntime:prepare")
TORCH = Runtime(".pt2", "torch", "hdapbench.runtimes.on_torch:prepare")


@cache
def find_runtime(name: str) -> Runtime:
    """Runtime of a name.

    Raises
    ------
    PluginError
        When no installed package offers it, or what it offers is no `Runtime`.
    """
    found = load_plugin(GROUP, name)
    if not isinstance(found, Runtime):
        raise PluginError(f"'{name}' in {GROUP} is {found!r}; offer a hdapbench.runtimes.base.Runtime")
    return found
