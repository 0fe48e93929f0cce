"""LayerRecord: what is noted of each executed operation. Plain values, no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hdapbench.groups import ResidualBlock

OperationKind = Literal[
    "conv",
    "depthwise",
    "transposed",
    "linear",
    "matmul",
    "norm",
    "layer_norm",
    "pool",
    "global_pool",
    "add",
    "elementwise",
    "concat",
    "parameter",
]
WEIGHTED = frozenset({"conv", "depthwise", "transposed", "linear"})
"""Kinds that multiply what they read by weights."""


@dataclass(frozen=True)
class ChannelCount:
    """Number of channels as an affine function of the groups' widths.

    ``constant + sum(multiplicity[g] * width[g])``. A multiplicity above one comes from flattening or repeated concat.
    """

    constant: int
    multiplicity: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: ChannelCount) -> ChannelCount:
        names = {**self.multiplicity, **other.multiplicity}
        both = {name: self.multiplicity.get(name, 0) + other.multiplicity.get(name, 0) for name in names}
        return ChannelCount(self.constant + other.constant, both)

    def scaled(self, factor: int) -> ChannelCount:
        """The same count ``factor`` times."""
        return ChannelCount(self.constant * factor, {name: n * factor for name, n in self.multiplicity.items()})

    @property
    def varies(self) -> bool:
        """Whether it depends on a width."""
        return any(self.multiplicity.values())


def product(counts: Iterable[ChannelCount]) -> tuple[int, tuple[ChannelCount, ...]]:
    """Product of channel counts: its constant factor, and the counts that vary."""
    factors = tuple(counts)
    constant = math.prod(count.constant for count in factors if not count.varies)
    return constant, tuple(count for count in factors if count.varies)


@dataclass(frozen=True)
class LayerRecord:
    """One executed operation, at batch 1.

    Attributes
    ----------
    name
        Dotted name of the layer, or of the operation.
    kind
        What it does. ``norm`` is folded into a convolution before it, ``layer_norm`` takes its statistics from the
        image; both count parameters only. ``matmul`` is a product between activations. ``parameter`` is one that no
        layer's record counts.
    inputs
        Positions of the records whose outputs it reads; -1 is the model's input.
    channels_in, channels_out
        Channels it consumes and produces.
    area_in, area_out
        Height times width of input and output (tokens for a linear layer).
    height_in, width_in, height_out, width_out
        Height and width of input and output.
    kernel_area
        Height times width of the kernel or window.
    stride
        Stride of the rows.
    n_conv_groups
        Groups of a convolution in the dense model.
    dimensions
        Of a ``parameter`` its shape; of a ``matmul`` its batch, rows, depth and columns; of a grouped convolution the
        channels along the first two dimensions of its weight; of a ``linear`` whose number of positions depends on a
        width (tokens are mixed) its rows, depth and columns.
    bias
        Whether it adds a bias.
    parameters_per_channel
        Parameters of a ``norm`` per channel: 2 with affine weights.
    first
        Whether it counts the layer's parameters: they count once, arithmetic at every call.
    executed
        False for a layer with parameters that the forward pass does not reach.
    block
        Removable residual block that it is part of: with no channel of any of the block's groups, it is not there.
    """

    name: str
    kind: OperationKind
    inputs: tuple[int, ...]
    channels_in: ChannelCount
    channels_out: ChannelCount
    height_in: int = 1
    width_in: int = 1
    height_out: int = 1
    width_out: int = 1
    kernel_area: int = 1
    stride: int = 1
    n_conv_groups: int = 1
    dimensions: tuple[ChannelCount, ...] = ()
    bias: bool = False
    parameters_per_channel: int = 0
    first: bool = True
    executed: bool = True
    block: ResidualBlock | None = None

    @property
    def area_in(self) -> int:
        """Positions of the input."""
        return self.height_in * self.width_in

    @property
    def area_out(self) -> int:
        """Positions of the output."""
        return self.height_out * self.width_out
