"""Products: rules for what multiplies, be it by the weights of a layer, by other weights, or by an activation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from hdapbench.axes.layers import TRANSPOSED
from hdapbench.cost.layers import (
    LAYERS,
    NORMS,
    PLAIN,
    Counts,
    convolution_fields,
    dense_channels,
    extents,
    layer_record,
    map_extents,
    own_parameters,
    weight_shape,
)
from hdapbench.cost.notes import Notes
from hdapbench.cost.records import ChannelCount, LayerRecord, product
from hdapbench.cost.tracker import Tracker
from hdapbench.errors import UnknownLayerError


@dataclass(frozen=True)
class Call:
    """A module that is running."""

    name: str
    module: nn.Module
    inputs: list[Tensor]


class Products:
    """Notes products, and which parameters their records count.

    A product belongs to the layer whose weight is a factor, whoever calls it. It is one between activations when both
    factors come from the image.
    """

    def __init__(self, model: nn.Module, *, tensors: Tracker, notes: Notes, running: list[Call]) -> None:
        self._model = model
        self._modules = dict(model.named_modules())
        self._tensors = tensors
        self._notes = notes
        self._running = running  # the innermost last
        self._called: set[str] = set()
        self._stored: set[int] = set()  # parameters that a record counts

    def add_norm(self, name: str, module: nn.Module, x: Tensor, y: Tensor) -> None:
        """Note a call of a norm."""
        axis = self._tensors.axis(x) if isinstance(module, nn.LayerNorm | nn.RMSNorm) else 1
        own = own_parameters(module).get("weight")
        self._add_layer(name, (x, y), () if own is None else self._tensors.counts(own), axis=axis)

    def _add_layer(self, name: str, ends: tuple[Tensor, Tensor], weight: Counts, *, axis: int) -> None:
        """Note a call of a layer that reads the first of its ends and writes the other, with channels at an axis."""
        x, y = ends
        channels = (self._tensors.channels(x, axis), self._tensors.channels(y, axis))
        fields = extents(self._modules[name], x, y) | {"inputs": (self._tensors.record(x),)}
        record = self._layer_record(name, weight, channels, fields)
        record = replace(record, dimensions=record.dimensions or self._over_widths(record, y, axis))
        self._notes.append(record, ends, axis)

    def _over_widths(self, record: LayerRecord, y: Tensor, axis: int) -> Counts:
        """Rows, depth and columns of a linear layer whose number of rows depends on a width; none elsewhere.

        Raises
        ------
        UnknownLayerError
            When a convolution's positions do, or those of a product of rows that do in two dimensions.
        """
        others = [count for number, count in enumerate(self._tensors.counts(y)) if number != axis]
        constant, varying = product(others)
        if record.kind in {"norm", "layer_norm"} or not varying:
            return ()
        if record.kind != "linear" or len(varying) > 1:
            raise UnknownLayerError(f"no cost rule for '{record.name}': its positions are channels of other layers")
        return varying[0].scaled(constant), record.channels_in, record.channels_out

    def _layer_record(
        self, name: str, weight: Counts, ends: tuple[ChannelCount, ChannelCount], fields: dict[str, Any]
    ) -> LayerRecord:
        """Record that counts the layer's parameters, unless they are computed, or were counted before."""
        module = self._modules[name]
        own = own_parameters(module)
        computed = not isinstance(module, NORMS) and "weight" not in own
        first = name not in self._called and not computed and not any(id(p) in self._stored for p in own.values())
        if first:
            self._stored.update(id(parameter) for parameter in own.values())
        self._called.add(name)
        return layer_record(module, weight, ends, {"name": name, "first": first, **fields})

    def add_product(self, operation: str, a: Tensor, b: Tensor, y: Tensor) -> None:
        """Note a matrix product (..., rows, depth) x (..., depth, columns)."""
        of_a, of_b = self._tensors.counts(a), self._tensors.counts(b)
        if self._tensors.knows(a) and self._tensors.knows(b):
            self._add_matmul(operation, (a, b), (*of_a, of_b[-1]), y)
            return
        x, weight, axis = (b, a, y.dim() - 2) if self._tensors.knows(b) else (a, b, y.dim() - 1)
        channels = of_a[-2:] if weight is a else (of_b[-1], of_b[-2])  # produced and consumed
        name = self._layer_of(weight, (nn.Linear,), (x.shape[axis], y.shape[axis]))
        if name is not None:
            self._add_layer(name, (x, y), channels, axis=axis)
            return
        positions = y.numel() // max(y.shape[axis], 1)
        fields = {"kind": "linear", "channels_in": channels[1], "channels_out": channels[0]}
        fields |= {"height_in": positions, "height_out": positions}
        self._add_bare(operation, (x, weight, y), fields, axis=axis)

    def add_convolution(self, args: tuple[Any, ...], y: Tensor) -> None:
        """Note a convolution by its operation's arguments."""
        x, weight, stride, transposed, n_conv_groups = args[0], args[1], args[3], args[6], args[8]
        counts = self._tensors.counts(weight)
        if self._tensors.knows(weight):  # filters that come from the image
            positions = (x if transposed else y).numel() // (x if transposed else y).shape[1]
            rows, depth = ChannelCount(positions), counts[1].scaled(math.prod(weight.shape[2:]))
            self._add_matmul("convolution", (x, weight), (rows, depth, counts[0]), y, axis=1)
            return
        name = self._layer_of(weight, TRANSPOSED if transposed else PLAIN, (x.shape[1], y.shape[1]))
        if name is not None:
            inputs = self._running[-1].inputs if self._running and self._running[-1].name == name else [x]
            self._add_layer(name, (inputs[0] if inputs[0].dim() == x.dim() else x, y), counts, axis=1)
            return
        ends = (self._tensors.channels(x, 1), self._tensors.channels(y, 1))
        fields = convolution_fields(weight.shape, counts, ends, stride, n_conv_groups, transposed=transposed)
        self._add_bare("convolution", (x, weight, y), fields | map_extents(x, y), axis=1)

    def _add_bare(
        self, operation: str, factors: tuple[Tensor, Tensor, Tensor], fields: dict[str, Any], *, axis: int
    ) -> None:
        """Note a product with weights of no layer: named after their parameter, which has a record of its own."""
        x, weight, y = factors
        name = self._tensors.parameter(weight) or self.place(operation)
        record = LayerRecord(name=name, inputs=(self._tensors.record(x),), first=False, **fields)
        record = replace(record, dimensions=record.dimensions or self._over_widths(record, y, axis))
        self._tensors.derive((x, weight), (y,))
        self._notes.append(record, (x, y), axis)

    def add_attention(self, queries: Tensor, keys: Tensor, values: Tensor, y: Tensor) -> None:
        """Note the two products of a fused attention."""
        *batch, rows, depth = self._tensors.counts(queries)
        columns, width = self._tensors.counts(keys)[-2], self._tensors.counts(values)[-1]
        self._add_matmul("attention", (queries, keys), (*batch, rows, depth, columns), y)
        self._add_matmul("attention", (y, values), (*batch, rows, columns, width), y)

    def _add_matmul(
        self,
        operation: str,
        factors: tuple[Tensor, Tensor],
        counts: tuple[ChannelCount, ...],
        y: Tensor,
        axis: int = -1,
    ) -> None:
        """Note products between activations; ``counts`` are their batch, rows, depth and columns."""
        inputs = tuple(map(self._tensors.record, factors))
        record = LayerRecord(self.place(operation), "matmul", inputs, counts[-2], counts[-1], dimensions=counts)
        self._notes.append(record, (*factors, y), axis % y.dim())

    def _layer_of(self, weight: Tensor, kinds: tuple[type[nn.Module], ...], channels: tuple[int, int]) -> str | None:
        """Name of the layer of some kinds and channels whose weight this is: that which runs, or that which owns it."""
        candidates = [self._running[-1].name] if self._running else []
        owner, _, key = (self._tensors.parameter(weight) or "").rpartition(".")
        candidates += [owner] if key == "weight" else []
        for name in candidates:
            module = self._modules[name]
            fits = isinstance(module, kinds) and dense_channels(module) == channels
            if fits and weight.numel() % math.prod(weight_shape(module)) == 0:
                return name
        return None

    def add_recurrent(self, module: nn.RNNBase, x: Tensor, y: Tensor) -> int:
        """Note every layer and direction of a recurrent network, whose weights are used once per position.

        Returns
        -------
        int
            Multiply-accumulates.
        """
        positions = x.numel() // max(module.input_size, 1)
        flops = 0
        for key, parameter in module.named_parameters(recurse=False):
            if key.startswith("weight"):
                columns, depth = self._tensors.counts(parameter)
                flops += positions * parameter.numel()
                fields = {"kind": "linear", "channels_in": depth, "channels_out": columns}
                fields |= {"height_in": positions, "height_out": positions}
                self._add_bare(key, (x, parameter, y), fields, axis=y.dim() - 1)
        return flops

    def place(self, operation: str) -> str:
        """The operation, and the module that runs."""
        name = self._running[-1].name if self._running else ""
        return f"{name}.{operation}" if name else operation

    def rest(self) -> list[LayerRecord]:
        """Records of layers that the forward pass did not reach, and of parameters that no record counts."""
        records = [
            self._unreached(name, module)
            for name, module in self._modules.items()
            if isinstance(module, LAYERS) and name not in self._called
        ]
        for name, parameter in self._model.named_parameters():
            if id(parameter) not in self._stored:
                none, dimensions = ChannelCount(0), self._tensors.counts(parameter)
                records.append(
                    LayerRecord(name, "parameter", (), none, none, dimensions=dimensions, first=True, executed=False)
                )
        return records

    def _unreached(self, name: str, module: nn.Module) -> LayerRecord:
        own = own_parameters(module).get("weight")
        weight = tuple(map(ChannelCount, weight_shape(module))) if own is None else self._tensors.counts(own)
        ends = (ChannelCount(dense_channels(module)[0]), ChannelCount(dense_channels(module)[1]))
        return self._layer_record(name, weight, ends, {"inputs": (), "executed": False})
