"""A runtime of another package: onnxruntime, each run done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hdapbench.runtimes import on_onnxruntime
from hdapbench.runtimes.base import Runtime

TWICE = Runtime(".onnx", "leading-channels", "leading_channels.runtimes:prepare")


def prepare(settings: dict[str, Any]) -> Callable[[str], Callable[[], object]]:
    """Function from a file to what one run of it does."""
    load = on_onnxruntime.prepare(settings)

    def load_twice(path: str) -> Callable[[], object]:
        run = load(path)
        return lambda: (run(), run())

    return load_twice
