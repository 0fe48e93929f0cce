"""Labels followed through a forward pass, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from hdapbench.axes import along, contractions  # noqa: F401 - their rules register themselves
from hdapbench.axes.labels import AxisLabels, tensors_in
from hdapbench.axes.rules import RULES, Call, is_pointwise, pointwise


def note(labels: AxisLabels, func: Any, args: Sequence[Any], named: Mapping[str, Any] | None, output: Any) -> None:
    """Pass labels through one operation, as a dispatch mode sees it; what has no rule freezes them."""
    named = dict(named or {})
    inputs = tensors_in((args, named))
    if not tensors_in(output) or not any(axis is not None for tensor in inputs for axis in labels.of(tensor)):
        return
    name = func.overloadpacket.__name__
    call = Call(labels, name, args, named, output)
    known = RULES.get(name) or RULES.get(name.removesuffix("_"))
    if known is not None:
        known(call)
    elif is_pointwise(name):
        pointwise(call)
    else:
        for tensor in inputs:
            for axis in labels.of(tensor):
                labels.freeze(axis, f"no rule for {call.where}")


class LabelMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Passes labels on while a model runs."""

    def __init__(self, labels: AxisLabels) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._labels = labels

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        note(self._labels, func, args, kwargs, output)
        return output
