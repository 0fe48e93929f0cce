"""Cycles on NE16, the convolution accelerator of GreenWaves GAP9: 8-bit activations, weights of 2 to 8 bits.

The channels of each weight bit-width run as a layer of their own, in tiles of 3x3 output pixels, 16 input channels and
32 output channels (16 for depthwise layers). Summed over tiles, a 3x3 layer with k channels of p bits takes

    n_sp * (ceil(k / 32) * (45 * ceil(n_in / 16) + 22) + k * (p * ceil(n_in / 16) + 1))

cycles, where ``n_sp`` counts spatial tiles: 45 is loading, weight offset, start-up and index update of a tile
(31 + 6 + 6 + 2), 22 is normalisation and streaming out (9 + 13). Pointwise layers load less (33 instead of 45), and
their p is 1 whatever the weights' bits. Depthwise layers take ``67 * ceil(k / 16) + (2 + p) * k`` per spatial tile. The
terms come from arXiv 2407.01054's cost model.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hdapbench.cost.bits import BitLayers, ChannelBitCounts
from hdapbench.errors import UnknownLayerError

TILE_SIDE = 3
TILE_IN = 16
TILE_OUT = 32
TILE_DEPTHWISE = 16
LOAD_3X3, LOAD_1X1, FINISH = 45.0, 33.0, 22.0
DEPTHWISE_TILE = 67.0

Rounding = Callable[[Tensor, int], Tensor]


def ne16_cycles(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Cycles of all layers; exact, and with a useful gradient.

    The value is a staircase in the channel counts, whose true derivative is zero almost everywhere; the gradient is
    that of `smooth_ne16_cycles`.

    Raises
    ------
    UnknownLayerError
        When a layer is of a kind that NE16 has no mode for, or activations do not have 8 bits.
    """
    exact = _cycles(layers, counts, _ceil)
    if not exact.requires_grad:
        return exact
    smooth = _cycles(layers, counts, smooth_ceil)
    return smooth + (exact - smooth).detach()


def smooth_ne16_cycles(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Cycles with `smooth_ceil` in place of every rounding up: differentiable everywhere."""
    return _cycles(layers, counts, smooth_ceil)


def smooth_ceil(values: Tensor, tile: int) -> Tensor:
    """Tiles that ``values`` channels fill on average over all remainders: none for none, half a tile more for many.

    The first tile opens over the width of a tile. Were it much less, the first channels at 2 bits would cost more than
    they do among many at 8 bits, and no search would ever come to fewer bits.
    """
    return values / tile + 0.5 * (1.0 - torch.exp(-values / tile))


def _ceil(values: Tensor, tile: int) -> Tensor:
    return torch.ceil(values / tile)


def _cycles(layers: BitLayers, counts: ChannelBitCounts, rounding: Rounding) -> Tensor:
    """Cycles of all layers, with a rule for how many tiles a number of channels fills."""
    _refuse(layers, counts)
    n_spatial = torch.as_tensor(np.ceil(layers.extents / TILE_SIDE).prod(1))
    height, width = layers.kernels.T
    # Other kernels are composed of 3x3 and 1x1 passes over the same tile.
    n_3x3 = torch.as_tensor((height // 3) * (width // 3)).double()
    rest_high, rest_wide = height % 3, width % 3
    n_1x1 = torch.as_tensor(rest_high * width + rest_wide * height - rest_high * rest_wide).double()
    bits = torch.tensor(counts.weight_bits, dtype=torch.float64)
    tiles_in = rounding(counts.in_channels, TILE_IN)[:, None]  # (n_layers, 1)
    tiles_out = rounding(counts.out_channels, TILE_OUT)  # (n_layers, n_bits)
    of_3x3 = tiles_out * (LOAD_3X3 * tiles_in + FINISH) + counts.out_channels * (tiles_in * bits + 1.0)
    of_1x1 = tiles_out * (LOAD_1X1 * tiles_in + FINISH) + counts.out_channels * (tiles_in + 1.0)
    of_depthwise = DEPTHWISE_TILE * rounding(counts.out_channels, TILE_DEPTHWISE) + (2.0 + bits) * counts.out_channels
    full = n_3x3[:, None] * of_3x3 + n_1x1[:, None] * of_1x1
    per_tile = torch.where(torch.as_tensor(layers.depthwise)[:, None], of_depthwise, full)
    return (n_spatial * per_tile.sum(1)).sum()


def _refuse(layers: BitLayers, counts: ChannelBitCounts) -> None:
    if counts.activation_bits != (8,):
        raise UnknownLayerError(f"NE16 reads activations of 8 bits, not of {list(counts.activation_bits)}")
    for name, kernel, depthwise, groups in zip(
        layers.names, layers.kernels, layers.depthwise, layers.grouped, strict=True
    ):
        if depthwise and tuple(kernel) != (3, 3):
            raise UnknownLayerError(f"NE16 has depthwise layers of 3x3, '{name}' is {kernel[0]}x{kernel[1]}")
        if groups > 1:
            raise UnknownLayerError(f"NE16 has no grouped convolutions, '{name}' has {groups} groups")
