"""FixedNetwork -> IntegerModel: weights, biases and scales become whole numbers, channels are sorted by bit-width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hdapbench.errors import UnknownLayerError
from hdapbench.groups import GroupSet
from hdapbench.quant.deploy.integer import MOST_SUM, IntegerLayer, IntegerModel, IntegerOperation, Rescale, SubLayer
from hdapbench.quant.deploy.reorder import LayerOrder, sort_channels
from hdapbench.quant.graph.graph import Operation
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.quant.training.quantizers import ActivationGrid
from hdapbench.quant.training.ranges import integer_range

MOVES = frozenset({"max_pool", "flatten", "dropout", "concat", "take", "relu"})
"""Operations that pass whole numbers on as they are; a ReLU only cuts them."""

OUTPUT_BITS = 24
"""Precision at which output channels of different scales are made comparable."""


@torch.no_grad()
def lower(network: FixedNetwork, groups: GroupSet, input_shape: tuple[int, int, int]) -> IntegerModel:
    """Whole-number model of a fake-quantised network.

    Parameters
    ----------
    network
        In eval mode, or its weight steps may be out of date.
    groups
        Channel groups of its float model, for sorting.
    input_shape
        Channels, height and width of one input.

    Raises
    ------
    UnknownLayerError
        When an operation has no integer counterpart, or a layer's sums may exceed 32 bits.
    """
    return _Lowering(network, groups).model(input_shape)


@dataclass(frozen=True)
class _Value:
    """Grid of an operation's output."""

    scale: float
    low: int
    high: int


class _Lowering:
    """Walks the operations of one network."""

    def __init__(self, network: FixedNetwork, groups: GroupSet) -> None:
        self._graph, self._network = network.graph, network
        self._grids: list[ActivationGrid] = [grid[0] for grid in network.grids()]
        names = network.graph.layers
        self._weights = {name: weight.detach().cpu() for name, weight in zip(names, network.weights, strict=True)}
        self._biases = {name: bias.detach().cpu() for name, bias in zip(names, network.biases, strict=True)}
        steps = torch.split(network.eval().current_steps().cpu(), [len(weight) for weight in network.weights])
        self._steps = dict(zip(names, steps, strict=True))
        # Channels that are picked by number stay where they are: their layers keep the order of outputs in the file.
        picked = any(operation.op == "take" for operation in network.graph)
        self._orders = sort_channels(GroupSet(()) if picked else groups, self._weights, network.weight_bits)
        self._values: dict[str, _Value] = {}

    def model(self, input_shape: tuple[int, int, int]) -> IntegerModel:
        """All operations, dropout left out."""
        operations: list[IntegerOperation] = []
        alias: dict[str, str] = {}
        for operation in self._graph:
            inputs = tuple(alias.get(name, name) for name in operation.inputs)
            if operation.op == "dropout" and operation.quantizer is None:
                alias[operation.name] = inputs[0]
                continue
            operations.append(replace(self._lower(operation, inputs), inputs=inputs))
        return IntegerModel(tuple(operations), input_shape)

    def _lower(self, operation: Operation, inputs: tuple[str, ...]) -> IntegerOperation:
        sources = [self._values[name] for name in inputs]
        value = self._output(operation, sources)
        common: dict[str, Any] = {"name": operation.name, "op": operation.op, "inputs": inputs}
        if value is not None:
            self._values[operation.name] = value
            common |= {"scale": value.scale, "low": value.low, "high": value.high}
        if operation.op == "input" or (operation.op in MOVES and value is not None and value.scale == sources[0].scale):
            return IntegerOperation(**common, arguments=_arguments(operation))
        if operation.op == "layer":
            return self._layer(operation, sources[0], value, common)
        if operation.op == "function":
            return self._table(operation, sources[0], value, common)
        return self._arithmetic(operation, sources, value, common)

    def _output(self, operation: Operation, sources: Sequence[_Value]) -> _Value | None:
        """Grid of an operation's output; None for an output that is not quantised but computed."""
        if operation.quantizer is not None:
            grid = self._grids[operation.quantizer]
            high = grid.high if operation.cap is None else min(grid.high, round(operation.cap / grid.scale))
            low = 0 if operation.relu or operation.op == "relu" else grid.low
            return _Value(grid.scale, low, high)
        if operation.op in MOVES and sources:
            low = min(value.low for value in sources)
            high = max(value.high for value in sources)
            return _Value(sources[0].scale, max(low, 0) if operation.op == "relu" else low, high)
        return None

    def _layer(
        self, operation: Operation, source: _Value, value: _Value | None, common: dict[str, Any]
    ) -> IntegerOperation:
        name = operation.name
        order = self._orders[name]
        scale = self._steps[name][order.rows].double() * source.scale
        layer = self._integer_layer(name, order, scale)
        _check_sums(name, layer, source)
        if value is not None:
            rescale = Rescale.by(scale / value.scale)
            return IntegerOperation(**common, rescale=(rescale,), layer=layer)
        # Output channels have scales of their own: all are brought to the finest, so that they can be compared.
        unit = float(scale.max()) / 2**OUTPUT_BITS
        multiplier = (scale / unit).round().long()
        rescale = Rescale(multiplier << 1, torch.ones_like(multiplier))
        low = 0 if operation.relu else None
        return IntegerOperation(**common, scale=unit, low=low, rescale=(rescale,), layer=layer)

    def _integer_layer(self, name: str, order: LayerOrder, scale: Tensor) -> IntegerLayer:
        bits = torch.tensor(self._network.weight_bits[name])[order.rows]
        weight = self._weights[name][order.rows]
        if weight.shape[1] > 1 or len(order.columns) > 1:
            weight = weight[:, order.columns]
        steps = self._steps[name][order.rows]
        whole = (weight.flatten(1) * steps.reciprocal()[:, None]).round()
        ranges = [integer_range(int(value)) for value in bits]
        low, high = (torch.tensor([float(r[side]) for r in ranges])[:, None] for side in (0, 1))
        whole = whole.clamp(low, high).view_as(weight).to(torch.int8)
        by_bits = bits.argsort(stable=True)
        parts = tuple(SubLayer(p, whole[by_bits][bits[by_bits] == p]) for p in sorted(set(bits.tolist())))
        bias = (self._biases[name][order.rows].double() / scale).round().clamp(-MOST_SUM, MOST_SUM).to(torch.int32)
        in_order = bool((by_bits == torch.arange(len(by_bits))).all())
        shape = self._network.shapes[name]
        return IntegerLayer(shape, parts, bias, None if in_order else by_bits.argsort())

    def _table(
        self, operation: Operation, source: _Value, value: _Value | None, common: dict[str, Any]
    ) -> IntegerOperation:
        if value is None or operation.function is None:
            raise UnknownLayerError(f"'{operation.name}' ends the network with a function that needs real numbers")
        whole = torch.arange(source.low, source.high + 1)
        results = operation.function((whole * source.scale).float()).double() / value.scale
        table = results.round().clamp(value.low, value.high).to(torch.int16)
        return IntegerOperation(**common, table=table, table_start=source.low)

    def _arithmetic(
        self, operation: Operation, sources: Sequence[_Value], value: _Value | None, common: dict[str, Any]
    ) -> IntegerOperation:
        """Sums, products, averages, and ReLUs that cut on a grid of their own."""
        if operation.op == "mul":
            factors = [sources[0].scale * sources[1].scale]
        elif operation.op == "avg_pool":
            kernel = operation.arguments["kernel_size"]
            size = kernel * kernel if isinstance(kernel, int) else kernel[0] * kernel[1]
            factors = [sources[0].scale / size]
        else:
            factors = [entry.scale for entry in sources]
        scale = max(factors) / 2**OUTPUT_BITS if value is None else value.scale
        if value is None:
            common |= {"scale": scale, "low": 0 if operation.relu else None}
        if operation.op == "add":  # one shift for both, so that the sum is rounded once
            ratio = torch.tensor([factor / scale for factor in factors], dtype=torch.float64)
            shift = int(Rescale.by(ratio.max()[None]).shift)
            rescale = tuple(
                Rescale((entry * 2.0**shift).round().long()[None], torch.tensor([shift])) for entry in ratio
            )
        else:
            rescale = tuple(Rescale.by(torch.tensor([factor / scale], dtype=torch.float64)) for factor in factors)
        return IntegerOperation(**common, rescale=rescale, arguments=_arguments(operation))


def _check_sums(name: str, layer: IntegerLayer, source: _Value) -> None:
    """Refuse a layer whose sums could exceed 32 bits with some input."""
    weights = torch.cat([part.weight.long().abs().flatten(1).sum(1) for part in layer.parts])
    bias = layer.bias.long().abs() if layer.order is None else layer.bias.long().abs()[layer.order.argsort()]
    most = int((weights * max(-source.low, source.high) + bias).max())
    if most > MOST_SUM:
        raise UnknownLayerError(f"'{name}': its sums may reach {most:,}, above the 32 bits that devices add in")


def _arguments(operation: Operation) -> dict[str, Any]:
    """Arguments of poolings, as plain lists and numbers."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in operation.arguments.items()
        if key != "p" and value is not None
    }
