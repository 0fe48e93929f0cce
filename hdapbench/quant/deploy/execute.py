"""Run an IntegerModel in torch with whole numbers alone: the reference for every other way of running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hdapbench.quant.deploy.integer import IntegerLayer, IntegerModel, IntegerOperation
from hdapbench.quant.graph.graph import Op
from hdapbench.quant.graph.walk import LayerShape

LEAST = torch.iinfo(torch.int32).min


def run_integer(model: IntegerModel, images: Tensor) -> Tensor:
    """Scores of images as whole numbers, shape (n, n_classes), int64; times the last operation's scale they are real.

    Only the quantisation of the images themselves computes with real numbers. Sums of layers are 32-bit, products with
    multipliers 64-bit.

    Parameters
    ----------
    images : Tensor, shape (n, channels, height, width)
        Normalised float images.
    """
    values: dict[str, Tensor] = {}
    for operation in model.operations:
        inputs = [values[name] for name in operation.inputs]
        values[operation.name] = _input(operation, images) if operation.op == "input" else _apply(operation, inputs)
    return values[model.operations[-1].name].long()


def _input(operation: IntegerOperation, images: Tensor) -> Tensor:
    # The same float32 arithmetic as fake quantisation: an image must not fall on another side here than there.
    inverse = torch.tensor(1.0) / torch.tensor(operation.scale, dtype=torch.float32)
    return torch.round(images * inverse).clamp(operation.low, operation.high).to(torch.int32)


def _apply(operation: IntegerOperation, inputs: Sequence[Tensor]) -> Tensor:
    return _RULES[operation.op](operation, inputs)


def _layer(operation: IntegerOperation, inputs: Sequence[Tensor]) -> Tensor:
    assert operation.layer is not None  # noqa: S101 - every layer operation has one
    return _cut(operation, operation.rescale[0](layer_sums(operation.layer, inputs[0])))


def _add(operation: IntegerOperation, inputs: Sequence[Tensor]) -> Tensor:
    first, second = operation.rescale
    products = inputs[0].long() * first.multiplier + inputs[1].long() * second.multiplier
    return _cut(operation, (products + (1 << (first.shift - 1))) >> first.shift)


def _relu(operation: IntegerOperation, inputs: Sequence[Tensor]) -> Tensor:
    return _cut(operation, operation.rescale[0](inputs[0]) if operation.rescale else inputs[0])


def _function(operation: IntegerOperation, inputs: Sequence[Tensor]) -> Tensor:
    assert operation.table is not None  # noqa: S101 - every function operation has one
    return operation.table[(inputs[0] - operation.table_start).long()].to(torch.int32)


def _cut(operation: IntegerOperation, values: Tensor) -> Tensor:
    """Values within the output's grid; the network's output is cut at zero at most, and keeps 64 bits."""
    if operation.low is None and operation.high is None:
        return values
    cut = values.clamp(operation.low, operation.high)
    return cut if operation.high is None else cut.to(torch.int32)


def layer_sums(layer: IntegerLayer, x: Tensor) -> Tensor:
    """Sums of a layer with its bias, int32, channels in the order of the output.

    Parameters
    ----------
    x : Tensor of int32, shape (n, channels, ...)
        Whole-number input.
    """
    sums, start = [], 0
    for part in layer.parts:
        stop = start + len(part.weight)
        depthwise = layer.shape.stride is not None and layer.shape.groups > 1
        mine = slice(start, stop) if layer.order is None else None
        sums.append(_grouped(x, part.weight, layer, mine) if depthwise else _dense(x, part.weight, layer.shape))
        start = stop
    joined = torch.cat(sums, 1) if len(sums) > 1 else sums[0]
    if layer.order is not None:
        joined = joined[:, layer.order]
    return joined + layer.bias.view(1, -1, *[1] * (joined.dim() - 2))


def _dense(x: Tensor, weight: Tensor, shape: LayerShape) -> Tensor:
    flat = weight.flatten(1).to(torch.int32).T
    if shape.stride is None:
        return x @ flat
    windows = _sliding(x, weight.shape[2:], shape)  # (n, channels, height, width, kernel height, kernel width)
    n, _, height, width = windows.shape[:4]
    rows = windows.permute(0, 2, 3, 1, 4, 5).reshape(n * height * width, -1)
    return (rows @ flat).view(n, height, width, -1).permute(0, 3, 1, 2)


def _grouped(x: Tensor, weight: Tensor, layer: IntegerLayer, mine: slice | None) -> Tensor:
    """Sums of a grouped convolution; a depthwise one reads the channels that its filters stand for.

    Filters of an out-of-order layer are looked up by ``order``, and so are the inputs that they read.
    """
    n_filters = sum(len(part.weight) for part in layer.parts)
    per_group = n_filters // layer.shape.groups
    in_channels = weight.shape[1]
    if mine is not None:
        filters = torch.arange(mine.start, mine.stop)
    else:
        assert layer.order is not None  # noqa: S101 - or the filters would be in order
        first = next(
            sum(len(p.weight) for p in layer.parts[:k]) for k, p in enumerate(layer.parts) if p.weight is weight
        )
        filters = layer.order.argsort()[first : first + len(weight)]
    channels = (filters // per_group)[:, None] * in_channels + torch.arange(in_channels)  # (n_filters, in_channels)
    windows = _sliding(x, weight.shape[2:], layer.shape)
    total = torch.zeros(len(x), len(weight), *windows.shape[2:4], dtype=torch.int32)
    for place in range(in_channels):
        chosen = windows[:, channels[:, place]]
        total += (chosen * weight[:, place, None, None].to(torch.int32)).sum((4, 5), dtype=torch.int32)
    return total


def _sliding(x: Tensor, kernel: Sequence[int], shape: LayerShape) -> Tensor:
    assert shape.stride is not None  # noqa: S101 - a convolution
    return _unfold(_padded(x, shape, kernel), kernel, shape.stride, shape.dilation)


def _padded(x: Tensor, shape: LayerShape, kernel: Sequence[int]) -> Tensor:
    if isinstance(shape.padding, str):
        if shape.padding == "valid":
            return x
        total = [d * (k - 1) for d, k in zip(shape.dilation, kernel, strict=True)]
        top, left = (n // 2 for n in total)
        return functional.pad(x, (left, total[1] - left, top, total[0] - top))
    return functional.pad(x, (shape.padding[1], shape.padding[1], shape.padding[0], shape.padding[0]))


def _unfold(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Windows of shape (n, channels, height, width, kernel height, kernel width); a view."""
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    windows = x.unfold(2, reach[0], stride[0]).unfold(3, reach[1], stride[1])
    return windows[..., :: dilation[0], :: dilation[1]]


def _windows(x: Tensor, operation: IntegerOperation, filler: int) -> Tensor:
    """Windows of a pooling."""
    given = operation.arguments
    kernel, stride, dilation, padding = pooling_window(operation)
    extra = [0, 0]
    if given.get("ceil_mode"):
        for axis in (0, 1):
            length = x.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1
            last = -(-length // stride[axis])
            if last * stride[axis] >= x.shape[2 + axis] + padding[axis]:
                last -= 1  # a window must not begin in the padding
            extra[axis] = max(0, last * stride[axis] - length)
    sides = (padding[1], padding[1] + extra[1], padding[0], padding[0] + extra[0])
    return _unfold(functional.pad(x, sides, value=filler), kernel, stride, dilation)


def pooling_window(operation: IntegerOperation) -> tuple[tuple[int, int], ...]:
    """Kernel, stride, dilation and padding of a pooling, each by rows and columns."""
    given = operation.arguments
    kernel = _pair(given["kernel_size"])
    stride = _pair(given.get("stride") or kernel)
    return kernel, stride, _pair(given.get("dilation") or 1), _pair(given.get("padding") or 0)


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


_RULES: Mapping[Op, Callable[[IntegerOperation, Sequence[Tensor]], Tensor]] = {
    "layer": _layer,
    "add": _add,
    "mul": lambda operation, inputs: _cut(operation, operation.rescale[0](inputs[0].long() * inputs[1].long())),
    "avg_pool": lambda operation, inputs: _cut(
        operation, operation.rescale[0](_windows(inputs[0], operation, 0).sum((4, 5)))
    ),
    "max_pool": lambda operation, inputs: _windows(inputs[0], operation, LEAST).amax((4, 5)),
    "relu": _relu,
    "function": _function,
    "concat": lambda _, inputs: torch.cat(list(inputs), 1),
    "take": lambda operation, inputs: inputs[0][:, list(operation.arguments["channels"])],
    "flatten": lambda _, inputs: inputs[0].flatten(1),
}
