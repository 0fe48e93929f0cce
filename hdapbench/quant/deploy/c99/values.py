"""Shapes, ranges and C types of all values of an IntegerModel, and where they lie in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from hdapbench.cost.arena import ALIGNMENT, Block, Buffers, Step, moves_nothing, place
from hdapbench.cost.memory import SCRATCH_MARGIN
from hdapbench.errors import UnknownLayerError
from hdapbench.quant.deploy.c99.shapes import shapes_of
from hdapbench.quant.deploy.execute import pooling_window
from hdapbench.quant.deploy.integer import IntegerModel, IntegerOperation, Rescale

MOST_SIDE = (1 << 16) - 1
"""Sides of maps and kernels are 16 bits wide in generated code."""

LEAST_SUM, MOST_SUM = -(1 << 31), (1 << 31) - 1
MOST_WIDE = (1 << 63) - 1


@dataclass(frozen=True)
class Value:
    """What one operation yields.

    Attributes
    ----------
    shape
        Channels, height and width; a vector is one of height and width 1.
    low, high
        Least and greatest whole number that it may hold.
    flattened
        Shape before flattening where values still lie in the order of the map: channels innermost.
    outside
        Whether the caller sees it, as int8_t.
    """

    shape: tuple[int, int, int]
    low: int
    high: int
    flattened: tuple[int, int, int] | None = None
    outside: bool = False

    @property
    def wide(self) -> bool:
        """Whether 64 bits are needed."""
        return self.high - self.low > 255

    @property
    def c_type(self) -> str:
        """Type of its elements."""
        if self.wide:
            return "int64_t"
        return "uint8_t" if self.low >= 0 and 127 < self.high < 256 and not self.outside else "int8_t"

    @property
    def zero(self) -> int:
        """What is added to a value that does not fit its type as it is."""
        fits = self.wide or self.c_type == "uint8_t" or (self.low >= -128 and self.high <= 127)
        return 0 if fits else -128 - self.low

    @property
    def n(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def area(self) -> int:
        """Height times width."""
        return self.shape[1] * self.shape[2]

    @property
    def width(self) -> int:
        """Bytes of an element."""
        return 8 if self.wide else 1


class Values:
    """Values and memory of a model; the generated code is written from this.

    Raises
    ------
    UnknownLayerError
        Naming an operation that generated code cannot carry out.
    """

    def __init__(self, model: IntegerModel) -> None:
        self.model = model
        self.by_name: dict[str, Value] = {}
        shapes = shapes_of(model)
        for operation in model.operations:
            inputs = [self.by_name[name] for name in operation.inputs]
            low, high = _range(operation, inputs)
            self.by_name[operation.name] = Value(shapes[operation.name], low, high)
            _check(operation, inputs, self.by_name[operation.name])
        self._mark_flattened()
        self._mark_outside()

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The model's operations, as far as memory goes."""
        return tuple(
            Step(
                name=operation.name,
                op=operation.op,
                inputs=operation.inputs,
                area=self.by_name[operation.name].area,
                takes_rows=operation.layer is not None and operation.layer.shape.stride is None,
                width=self.by_name[operation.name].width,
            )
            for operation in self.model.operations
        )

    @cached_property
    def buffers(self) -> Buffers:
        """Which values share memory."""
        return Buffers.of(self.steps)

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Step]]:
        """Operation -> operations that read it."""
        return {step.name: [other for other in self.steps if step.name in other.inputs] for step in self.steps}

    def stays(self, name: str) -> bool:
        """Whether an operation has nothing to do."""
        known = {step.name: step for step in self.steps}
        return moves_nothing(known[name], known, self.readers)

    @cached_property
    def placed(self) -> tuple[dict[str, int], int]:
        """Offset of each buffer of the arena, scratch of layers under ``name/scratch``, and the arena's bytes."""
        n_bytes: dict[str, int] = {}
        for name, buffer in self.buffers.of_value.items():
            n_bytes[buffer] = max(n_bytes.get(buffer, 0), self.by_name[name].n * self.by_name[name].width)
        blocks = [
            Block(name, n_bytes[name], self.buffers.first[name], self.buffers.last[name])
            for name in self.buffers.in_arena
        ]
        for number, operation in enumerate(self.model.operations):
            if scratch := scratch_bytes(operation):
                blocks.append(Block(f"{operation.name}/scratch", scratch, number, number))
        return place(blocks, ALIGNMENT if self.arena_is_wide else 1)

    @property
    def arena_is_wide(self) -> bool:
        """Whether 64-bit values lie in the arena."""
        inside = set(self.buffers.in_arena)
        return any(value.wide and self.buffers.of_value[name] in inside for name, value in self.by_name.items())

    def _mark_flattened(self) -> None:
        for operation in self.model.operations:
            value = self.by_name[operation.name]
            if not operation.inputs:
                continue
            source = self.by_name[operation.inputs[0]]
            before = None
            if operation.op == "flatten" and self.stays(operation.name):
                before = source.flattened or source.shape
            elif operation.op in {"relu", "function"}:
                before = source.flattened
            if before is not None and before[1] * before[2] > 1:
                self.by_name[operation.name] = replace(value, flattened=before)

    def _mark_outside(self) -> None:
        """The input and the output, through operations that leave them where they are."""
        outside = {self.model.operations[0].name, self.model.operations[-1].name}
        for operation in reversed(self.model.operations):
            if operation.name in outside and operation.inputs and self.stays(operation.name):
                outside.add(operation.inputs[0])
        for operation in self.model.operations:
            if operation.inputs and self.stays(operation.name) and operation.inputs[0] in outside:
                outside.add(operation.name)
        for name in outside:
            self.by_name[name] = replace(self.by_name[name], outside=True)


def scratch_bytes(operation: IntegerOperation) -> int:
    """Bytes in which one filter of a convolution is unpacked; 0 where nothing is."""
    layer = operation.layer
    if layer is None or layer.shape.stride is None or all(part.bits == 8 for part in layer.parts):
        return 0
    return layer.parts[0].weight[0].numel() + SCRATCH_MARGIN


def _range(operation: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    """Least and greatest value that an operation can yield."""
    if operation.low is not None and operation.high is not None:
        return operation.low, operation.high
    low, high = _RANGES.get(operation.op, _hull)(operation, inputs)
    return (max(low, 0), max(high, 0)) if operation.low == 0 else (low, high)


def _hull(_: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    return min(value.low for value in inputs), max(value.high for value in inputs)


def sums_range(operation: IntegerOperation, source: Value) -> tuple[Tensor, Tensor]:
    """Least and greatest sum of each output channel of a layer, int64, shape (n_out,) each; padding adds zeros."""
    layer = operation.layer
    assert layer is not None  # noqa: S101 - the caller asks for layers alone
    weight = torch.cat([part.weight.flatten(1) for part in layer.parts]).long()
    weight = weight if layer.order is None else weight[layer.order]
    low, high = min(source.low, 0), max(source.high, 0)
    above, below = weight.clamp_min(0).sum(1), weight.clamp_max(0).sum(1)
    bias = layer.bias.long()
    return above * low + below * high + bias.clamp_max(0), above * high + below * low + bias.clamp_min(0)


def _layer_range(operation: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    low, high = sums_range(operation, inputs[0])
    rescale = operation.rescale[0]
    ends = [
        [int(q) * int(m) >> int(s) for q, m, s in zip(side, rescale.multiplier, rescale.shift, strict=True)]
        for side in (low, high)
    ]
    return min(ends[0]), max(ends[1]) + 1


def _sum_range(operation: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    products = [_times(value.low, value.high, r) for value, r in zip(inputs, operation.rescale, strict=True)]
    shift = int(operation.rescale[0].shift)
    return sum(low for low, _ in products) >> shift, (sum(high for _, high in products) >> shift) + 1


def _product_range(operation: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    low, high = product_ends(inputs)
    return _rescaled(low, high, operation.rescale[0])


def product_ends(inputs: Sequence[Value]) -> tuple[int, int]:
    """Least and greatest product of two values."""
    ends = [a * b for a in (inputs[0].low, inputs[0].high) for b in (inputs[1].low, inputs[1].high)]
    return min(ends), max(ends)


def window_ends(operation: IntegerOperation, source: Value) -> tuple[int, int]:
    """Least and greatest sum over a window."""
    n = prod(pooling_window(operation)[0])
    return min(source.low, 0) * n, max(source.high, 0) * n


def _average_range(operation: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    return _rescaled(*window_ends(operation, inputs[0]), operation.rescale[0])


def _relu_range(operation: IntegerOperation, inputs: Sequence[Value]) -> tuple[int, int]:
    ends = inputs[0].low, inputs[0].high
    return _rescaled(*ends, operation.rescale[0]) if operation.rescale else ends


def _times(low: int, high: int, rescale: Rescale) -> tuple[int, int]:
    return low * int(rescale.multiplier), high * int(rescale.multiplier)


def _rescaled(low: int, high: int, rescale: Rescale) -> tuple[int, int]:
    ends, shift = _times(low, high, rescale), int(rescale.shift)
    return ends[0] >> shift, (ends[1] >> shift) + 1


_RANGES: Mapping[str, Callable[[IntegerOperation, Sequence[Value]], tuple[int, int]]] = {
    "layer": _layer_range,
    "add": _sum_range,
    "mul": _product_range,
    "avg_pool": _average_range,
    "relu": _relu_range,
}


def _check(operation: IntegerOperation, inputs: Sequence[Value], value: Value) -> None:
    """Refuse what the generated code would compute otherwise than the executor, or not at all."""
    name = operation.name
    if max(value.shape[1:]) > MOST_SIDE:
        raise UnknownLayerError(f"'{name}': maps of more than {MOST_SIDE:,} rows or columns have no C code")
    if operation.layer is not None:
        low, high = sums_range(operation, inputs[0])
        if int(low.min()) < LEAST_SUM or int(high.max()) > MOST_SUM:
            raise UnknownLayerError(f"'{name}': its sums may exceed 32 bits, so it has no C code")
        if inputs[0].wide:
            raise UnknownLayerError(f"'{name}' reads values of more than 8 bits, so it has no C code")
    if operation.op == "mul":
        largest = max(inputs, key=lambda source: source.n)
        if any(source.shape not in (largest.shape, (largest.shape[0], 1, 1)) for source in inputs):
            raise UnknownLayerError(
                f"'{name}': a product of maps {inputs[0].shape} and {inputs[1].shape} has no C code"
            )
    if operation.op == "function" and (inputs[0].wide or value.wide):
        raise UnknownLayerError(f"'{name}': a function of values of more than 8 bits has no C code")
    factor = max((int(r.multiplier.max()) for r in operation.rescale), default=1)
    if operation.layer is None and _reach(operation, inputs) * factor > MOST_WIDE >> 1:
        raise UnknownLayerError(f"'{name}': its products may exceed 64 bits, so it has no C code")


def _reach(operation: IntegerOperation, inputs: Sequence[Value]) -> int:
    """Greatest absolute value that an operation multiplies."""
    if operation.op == "mul":
        pairs = [product_ends(inputs)]
    elif operation.op == "avg_pool":
        pairs = [window_ends(operation, inputs[0])]
    else:
        pairs = [(source.low, source.high) for source in inputs]
    return len(pairs) * max((abs(end) for pair in pairs for end in pair), default=0)
