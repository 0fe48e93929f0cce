"""IntegerModel: a quantised network as whole numbers alone. Plain values; execution, packing and export read them.

A value is ``q * scale`` with a whole number q; zero is always 0. A layer's sums carry the scale of its input times that
of its filter; `Rescale` brings them to the scale of the output by a multiplication and a shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hdapbench.quant.graph.graph import Op
from hdapbench.quant.graph.walk import LayerShape

MULTIPLIER_BITS = 31
"""Multipliers are below ``2**31``, so that their product with 32-bit sums fits 64 bits."""

MOST_SHIFT = 62

MOST_SUM = 2**31 - 1
"""Sums of layers are 32-bit; a layer that could exceed this is refused."""


@dataclass(frozen=True)
class Rescale:
    """``(q * multiplier + 2**(shift - 1)) >> shift`` with one pair per channel, or one pair for all.

    Attributes
    ----------
    multiplier : Tensor of int64, shape (n,)
        Below ``2**31``.
    shift : Tensor of int64, shape (n,)
        From 1 to 62.
    """

    multiplier: Tensor
    shift: Tensor

    @classmethod
    def by(cls, factors: Tensor) -> Rescale:
        """Nearest multiplications by positive real factors, float64, shape (n,): relative error below ``2**-30``.

        Factors of ``2**30`` and more, which carry any sum past any grid, become the largest one.
        """
        factors = factors.double().clamp_max(2.0 ** (MULTIPLIER_BITS - 1) - 1)
        mantissa, exponent = torch.frexp(factors)  # factor = mantissa * 2**exponent, mantissa in [0.5, 1)
        shift = MULTIPLIER_BITS - exponent.long()
        too_small = (shift - MOST_SHIFT).clamp_min(0)
        multiplier = (mantissa * 2.0 ** (MULTIPLIER_BITS - too_small)).round().long()
        full = multiplier == 1 << MULTIPLIER_BITS
        multiplier, shift = torch.where(full, multiplier >> 1, multiplier), torch.where(full, shift - 1, shift)
        return cls(multiplier, shift.clamp_max(MOST_SHIFT))

    def __call__(self, values: Tensor) -> Tensor:
        """Rescaled int64 values of shape (batch, channels, ...), rounded to nearest."""
        shape = (1, -1, *[1] * (values.dim() - 2))
        multiplier, shift = self.multiplier.view(shape), self.shift.view(shape)
        return (values.long() * multiplier + (1 << (shift - 1))) >> shift


@dataclass(frozen=True)
class SubLayer:
    """Filters of one bit-width, side by side.

    Attributes
    ----------
    bits
        2, 4 or 8.
    weight : Tensor of int8, shape (n_filters, ...)
        Whole numbers in the range of ``bits``.
    """

    bits: int
    weight: Tensor


@dataclass(frozen=True)
class IntegerLayer:
    """A convolution or linear layer, split by bit-width.

    Attributes
    ----------
    shape
        How it is applied.
    parts
        At most one sub-layer per bit-width, fewest bits first.
    bias : Tensor of int32, shape (n_out,)
        In the scale of the sums, see `IntegerOperation.sum_scale`.
    order : Tensor of int64, shape (n_out,), or None
        Filter, counted over ``parts``, that makes each output channel; None where they are in order.
    """

    shape: LayerShape
    parts: tuple[SubLayer, ...]
    bias: Tensor
    order: Tensor | None = None

    @property
    def filters(self) -> Tensor:
        """Whole-number weights of all output channels in their order, int8, shape (n_out, ...)."""
        joined = torch.cat([part.weight for part in self.parts])
        return joined if self.order is None else joined[self.order]


@dataclass(frozen=True)
class IntegerOperation:
    """One operation on whole numbers.

    Attributes
    ----------
    name, op, inputs
        As in `hdapbench.quant.graph.graph.Operation`.
    scale
        What one unit of the output is worth; for the network's output too.
    low, high
        Least and greatest value of the output; None for the network's output, which is not cut.
    rescale
        One per input for sums, one otherwise; empty where values only move.
    layer
        The convolution or linear layer of a ``layer`` operation.
    table : Tensor of int16, or None
        Output of a ``function`` for each input value, the least first.
    table_start
        Input value of the table's first entry.
    arguments
        Keyword arguments of poolings; ``channels`` of ``take``.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    scale: float
    low: int | None = None
    high: int | None = None
    rescale: tuple[Rescale, ...] = ()
    layer: IntegerLayer | None = None
    table: Tensor | None = None
    table_start: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sum_scale(self) -> Tensor:
        """What one unit of a layer's sums is worth, float64, shape (n_out,): its rescale says so."""
        rescale = self.rescale[0]
        return rescale.multiplier.double() * 2.0 ** -rescale.shift.double() * self.scale


@dataclass(frozen=True)
class IntegerModel:
    """Operations in order of execution; the first is the input, the last the output.

    Attributes
    ----------
    operations
        What is computed.
    input_shape
        Channels, height and width of one input.
    """

    operations: tuple[IntegerOperation, ...]
    input_shape: tuple[int, int, int]

    @property
    def n_weight_bits(self) -> int:
        """Bits of all weights: what the size cost counts."""
        return sum(part.bits * part.weight.numel() for layer in self.layers.values() for part in layer.parts)

    @property
    def layers(self) -> dict[str, IntegerLayer]:
        """Layers by name."""
        return {o.name: o.layer for o in self.operations if o.layer is not None}
