"""Weights, biases, multipliers and shifts of layers as C arrays, and how many bytes they take in flash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from hdapbench.quant.deploy.c99.values import Value
from hdapbench.quant.deploy.integer import IntegerLayer, IntegerOperation
from hdapbench.quant.deploy.packed import pack_bits

MOST_IN_RUN = (1 << 12) - 1
"""Filters of one bit-width side by side that one entry of a layer's runs counts."""

LINE = 120


@dataclass(frozen=True)
class Constant:
    """One array."""

    name: str
    c_type: str
    values: Sequence[int]

    @property
    def n_bytes(self) -> int:
        """Bytes in flash."""
        return len(self.values) * WIDTHS[self.c_type]

    def __str__(self) -> str:
        lines, line = [], ""
        for value in self.values:
            text = f"{value}," if self.c_type != "int32_t" or value > -(1 << 31) else "-2147483647 - 1,"
            if len(line) + len(text) + 5 > LINE:
                lines.append(f"    {line.rstrip()}")
                line = ""
            line += f"{text} "
        lines.append(f"    {line.rstrip()}")
        body = "\n".join(lines)
        return f"static const {self.c_type} {self.name}[{len(self.values)}] = {{\n{body}\n}};\n"


WIDTHS = {"int8_t": 1, "uint8_t": 1, "uint16_t": 2, "int32_t": 4}


@dataclass(frozen=True)
class LayerConstants:
    """Arrays of one layer: packed weights, runs of filters of one bit-width, and three numbers per output channel."""

    weights: Constant
    runs: Constant
    bias: Constant
    multiplier: Constant
    shift: Constant

    def __iter__(self) -> Iterator[Constant]:
        yield from (self.weights, self.runs, self.bias, self.multiplier, self.shift)


def layer_constants(operation: IntegerOperation, source: Value, number: int) -> LayerConstants:
    """Arrays of a layer, filters in the order of outputs.

    Parameters
    ----------
    source
        What the layer reads: columns of a linear layer follow the order of a flattened map.
    number
        Of the layer, for names.
    """
    layer = operation.layer
    assert layer is not None  # noqa: S101 - the caller asks for layers alone
    weights, runs = bytearray(), []
    for bits, filters in _runs(layer, source):
        weights += packed_run(filters, bits, per_filter=layer.shape.stride is None)
        left = len(filters)
        while left:
            runs.append(min(left, MOST_IN_RUN) << 4 | bits)
            left -= min(left, MOST_IN_RUN)
    rescale = operation.rescale[0]
    n_out = len(layer.bias)
    return LayerConstants(
        Constant(f"weights_{number}", "uint8_t", weights),
        Constant(f"runs_{number}", "uint16_t", runs),
        Constant(f"bias_{number}", "int32_t", layer.bias.tolist()),
        Constant(f"multiplier_{number}", "int32_t", rescale.multiplier.expand(n_out).tolist()),
        Constant(f"shift_{number}", "uint8_t", rescale.shift.expand(n_out).tolist()),
    )


def packed_run(filters: Tensor, bits: int, *, per_filter: bool) -> bytes:
    """Filters of one bit-width without gaps, or each from a byte of its own on."""
    if per_filter:
        return b"".join(pack_bits(row, bits) for row in filters)
    return b"".join(
        pack_bits(filters[start : start + MOST_IN_RUN], bits) for start in range(0, len(filters), MOST_IN_RUN)
    )


def _runs(layer: IntegerLayer, source: Value) -> Iterator[tuple[int, Tensor]]:
    """Bit-width and filters, shape (n, weights per filter), channels innermost, of neighbours of one bit-width."""
    weight = torch.cat([part.weight for part in layer.parts])
    bits = torch.cat([torch.full((len(part.weight),), part.bits) for part in layer.parts])
    if layer.order is not None:
        weight, bits = weight[layer.order], bits[layer.order]
    if weight.dim() == 4:
        weight = weight.permute(0, 2, 3, 1)
    elif source.flattened is not None:
        weight = weight.view(len(weight), *source.flattened).permute(0, 2, 3, 1)
    flat = weight.flatten(1)
    start = 0
    for value, group in groupby(bits.tolist()):
        n = len(list(group))
        yield value, flat[start : start + n]
        start += n
