"""hdapbench: which compressed model is fastest on average over a fleet of edge devices.

``run``, ``board``, ``results`` and `Board` of `hdapbench.api` are offered here, and imported when they are asked for;
their types are in ``__init__.pyi``.
"""

from importlib import import_module

__version__ = "0.1.0"

OFFERED = ("Board", "board", "results", "run")
"""Names of `hdapbench.api` that this package offers as its own."""


def __getattr__(name: str) -> object:
    if name in OFFERED:
        return getattr(import_module("hdapbench.api"), name)
    raise AttributeError(f"module 'hdapbench' has no attribute '{name}'")
