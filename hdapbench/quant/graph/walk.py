"""Run a QuantGraph on tensors: the one walk behind training, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.quant.graph.graph import Op, Operation, QuantGraph


@dataclass(frozen=True)
class LayerShape:
    """How a convolution or linear layer is applied; a linear layer has no stride.

    Attributes
    ----------
    stride, padding, dilation
        Rows and columns; None for a linear layer.
    groups
        Groups of a convolution.
    """

    stride: tuple[int, int] | None = None
    padding: tuple[int, int] | str = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @classmethod
    def of(cls, module: nn.Module) -> LayerShape:
        """Shape of a module that is Conv2d or Linear."""
        if not isinstance(module, nn.Conv2d):
            return cls()
        pair: Any = tuple
        padding = module.padding if isinstance(module.padding, str) else pair(module.padding)
        return cls(pair(module.stride), padding, pair(module.dilation), module.groups)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Output of the layer."""
        if self.stride is None:
            return functional.linear(x, weight, bias)
        return functional.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def run_graph(
    graph: QuantGraph,
    x: Tensor,
    *,
    layer: Callable[[str, Tensor], Tensor],
    quantize: Callable[[Operation, Tensor], Tensor],
    training: bool = False,
) -> Tensor:
    """Output of the network.

    Parameters
    ----------
    layer
        Name and input of a layer -> its output, before ReLU.
    quantize
        Operation with a quantiser, and its output before ReLU -> the quantised output, after ReLU.
    training
        Whether dropout drops.
    """
    values: dict[str, Tensor] = {}
    for operation in graph.operations:
        inputs = [values[name] for name in operation.inputs]
        if operation.op == "layer":
            value = layer(operation.name, inputs[0])
        elif operation.op == "input":
            value = x
        elif operation.op == "dropout":
            value = functional.dropout(inputs[0], operation.arguments["p"], training)
        else:
            value = _RULES[operation.op](operation, inputs)
        if operation.cap is not None:
            value = value.clamp(max=operation.cap)
        if operation.quantizer is not None:
            value = quantize(operation, value)
        elif operation.relu:
            value = value.relu()
        values[operation.name] = value
        for name in graph.last_use.get(operation.name, ()):
            del values[name]
    return value


def float_rectify(operation: Operation, value: Tensor) -> Tensor:
    """Output of an operation with its ReLU, without quantisation: ``quantize`` of the float network."""
    return value.relu() if operation.relu else value


def _function(operation: Operation, inputs: list[Tensor]) -> Tensor:
    assert operation.function is not None  # noqa: S101 - every function operation has one
    return operation.function(inputs[0])


_RULES: Mapping[Op, Callable[[Operation, list[Tensor]], Tensor]] = {
    "add": lambda _, inputs: inputs[0] + inputs[1],
    "mul": lambda _, inputs: inputs[0] * inputs[1],
    "concat": lambda _, inputs: torch.cat(inputs, 1),
    "take": lambda operation, inputs: inputs[0][:, list(operation.arguments["channels"])],
    "function": _function,
    "relu": lambda _, inputs: inputs[0].relu(),
    "max_pool": lambda operation, inputs: functional.max_pool2d(inputs[0], **operation.arguments),
    "avg_pool": lambda operation, inputs: functional.avg_pool2d(inputs[0], **operation.arguments),
    "flatten": lambda _, inputs: inputs[0].flatten(1),
}
