"""Shapes of all values of an IntegerModel, and the windows that lead from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from hdapbench.quant.deploy.execute import pooling_window
from hdapbench.quant.deploy.integer import IntegerModel, IntegerOperation

Shape = tuple[int, int, int]


def shapes_of(model: IntegerModel) -> dict[str, Shape]:
    """Shape of every value."""
    found: dict[str, Shape] = {}
    for operation in model.operations:
        inputs = [found[name] for name in operation.inputs]
        found[operation.name] = _shape(operation, inputs) if inputs else model.input_shape
    return found


def _shape(operation: IntegerOperation, inputs: Sequence[Shape]) -> Shape:
    first = inputs[0]
    layer = operation.layer
    if layer is not None:
        n_out = sum(len(part.weight) for part in layer.parts)
        if layer.shape.stride is None:
            return n_out, 1, 1
        window = layer_window(operation)
        return (n_out, *(_extent(first[1 + axis], window, axis) for axis in (0, 1)))  # type: ignore[return-value]
    if operation.op in {"max_pool", "avg_pool"}:
        kernel, stride, dilation, padding = pooling_window(operation)
        window = Window(kernel, stride, dilation, padding, padding)
        ceil = bool(operation.arguments.get("ceil_mode"))
        return (first[0], *(_extent(first[1 + axis], window, axis, ceil=ceil) for axis in (0, 1)))  # type: ignore[return-value]
    if operation.op == "flatten":
        return prod(first), 1, 1
    if operation.op in {"take", "concat"}:
        picked = operation.arguments.get("channels")
        return sum(shape[0] for shape in inputs) if picked is None else len(picked), first[1], first[2]
    return max(inputs, key=prod)


@dataclass(frozen=True)
class Window:
    """Kernel, stride, dilation, and padding before and after, each by rows and columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]


def layer_window(operation: IntegerOperation) -> Window:
    """Window of a convolution."""
    layer = operation.layer
    assert layer is not None  # noqa: S101 - a convolution
    assert layer.shape.stride is not None  # noqa: S101
    (height, width), dilation = layer.parts[0].weight.shape[2:], layer.shape.dilation
    before = after = layer.shape.padding
    if isinstance(before, str) or isinstance(after, str):
        total = [d * (k - 1) if before == "same" else 0 for d, k in zip(dilation, (height, width), strict=True)]
        before = (total[0] // 2, total[1] // 2)
        after = (total[0] - before[0], total[1] - before[1])
    return Window((height, width), layer.shape.stride, dilation, before, after)


def _extent(length: int, window: Window, axis: int, *, ceil: bool = False) -> int:
    """Rows or columns of an output."""
    before, stride = window.before[axis], window.stride[axis]
    rest = length + before + window.after[axis] - window.dilation[axis] * (window.kernel[axis] - 1) - 1
    if not ceil:
        return rest // stride + 1
    last = -(-rest // stride)
    return last if last * stride >= length + before else last + 1  # a window must not begin in the padding
