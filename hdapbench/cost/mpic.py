"""Cycles on MPIC, a RISC-V core with mixed-precision SIMD instructions (Ottavi et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from hdapbench.cost.bits import BitLayers, ChannelBitCounts
from hdapbench.errors import UnknownLayerError

MACS_PER_CYCLE = {
    (2, 2): 6.5,
    (2, 4): 4.0,
    (2, 8): 2.2,
    (4, 2): 3.9,
    (4, 4): 3.5,
    (4, 8): 2.1,
    (8, 2): 2.5,
    (8, 4): 2.3,
    (8, 8): 2.1,
}
"""Multiply-accumulates per cycle by activation bits and weight bits, as used in arXiv 2407.01054."""


def mpic_cycles(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Cycles of all layers, each at the rate of its input's activation bits and its channels' weight bits.

    Raises
    ------
    UnknownLayerError
        When a bit-width is not one that MPIC computes with.
    """
    unknown = sorted({*counts.weight_bits, *counts.activation_bits} - {2, 4, 8})
    if unknown:
        raise UnknownLayerError(f"MPIC computes with 2, 4 and 8 bits, not with {unknown}")
    cycles = torch.tensor(
        [[1.0 / MACS_PER_CYCLE[a, w] for w in counts.weight_bits] for a in counts.activation_bits],
        dtype=torch.float64,
    )  # (n_activation_bits, n_weight_bits) cycles per multiply-accumulate
    per_channel = counts.in_channels * layers.kernel_area * layers.output_area
    return (per_channel * ((counts.activation @ cycles) * counts.out_channels).sum(1)).sum()
