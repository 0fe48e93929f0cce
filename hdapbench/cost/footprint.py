"""Flash and RAM of generated C code as costs of bit-widths, exact for whole channels and smooth for soft choices."""

from __future__ import annotations

import torch
from torch import Tensor

from hdapbench.cost.bits import CHANNEL_BYTES, BitLayers, ChannelBitCounts, size_bits
from hdapbench.cost.memory import LAYER_BYTES, RUN_BYTES, SCRATCH_MARGIN, Memory
from hdapbench.errors import UnknownLayerError

SHARPNESS = 24.0
"""Power of the norm over steps that stands for their maximum in soft costs."""


def ram_bytes(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Peak RAM in bytes: the arena as generated code lays it out, the input and output, and a bound of the stack.

    Raises
    ------
    UnknownLayerError
        When it is not known which values the network has.
    """
    with torch.no_grad():
        return torch.tensor(float(_memory(layers).ram(counts.kept, _scratch(layers, counts))), dtype=torch.float64)


def smooth_ram_bytes(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """The maximum over steps of what is in use, as a norm that the largest steps dominate: differentiable."""
    live = _memory(layers).live_bytes(counts.kept, _scratch(layers, counts))
    peak = live.detach().max()
    return peak * ((live / peak) ** SHARPNESS).sum() ** (1.0 / SHARPNESS)


def flash_bytes(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Flash in bytes: constants, and code by an estimate. An upper bound of what generated code takes.

    Channels that are not sorted by bits, such as the network's outputs, are counted as runs of one. The gradient is
    that of `smooth_flash_bytes`.

    Raises
    ------
    UnknownLayerError
        When it is not known which values the network has.
    """
    memory, smooth = _memory(layers), smooth_flash_bytes(layers, counts)
    with torch.no_grad():
        bits = torch.tensor(counts.weight_bits, dtype=torch.float64)
        per_filter = (counts.in_channels * layers.kernel_area)[:, None] * bits / 8.0  # (n_layers, n_weight_bits)
        of_rows = _up(per_filter) * counts.out_channels
        of_runs = _up(per_filter * counts.out_channels)
        weights = torch.where(memory.packed_by_filter[:, None], of_rows, of_runs)
        used = (counts.out_channels > 0).double().sum(1)
        frozen = torch.tensor([not selector.prunable for selector in layers.selectors])
        keeps_places = (layers.out_channels[:, frozen] > 0).any(1) & (used > 1)
        runs = torch.where(keeps_places, counts.out_channels.sum(1), used)
        rounding = torch.where(keeps_places & ~memory.packed_by_filter, runs, torch.zeros_like(runs))
        exact = weights.sum() + rounding.sum() + RUN_BYTES * runs.sum()
        return_gap = exact - size_bits(layers, counts) / 8.0
    return smooth + return_gap


def smooth_flash_bytes(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Flash before weights are filled up to whole bytes: differentiable everywhere."""
    channels = counts.out_channels.sum()
    fixed = _memory(layers).fixed_bytes + LAYER_BYTES * len(layers.names)
    return size_bits(layers, counts) / 8.0 + CHANNEL_BYTES * channels + fixed


def _scratch(layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """Bytes that a filter of each layer is unpacked in; none where all are of 8 bits, or packed by filter."""
    packed = torch.tensor([bits < 8 for bits in counts.weight_bits])
    share = counts.out_channels[:, packed].sum(1).clamp(max=1.0)
    share = torch.where(_memory(layers).packed_by_filter, torch.zeros_like(share), share)
    return share * (counts.in_channels * layers.kernel_area + SCRATCH_MARGIN)


def _memory(layers: BitLayers) -> Memory:
    if layers.memory is None:
        raise UnknownLayerError("flash and RAM are known of networks that can be quantised as a whole")
    return layers.memory


def _up(values: Tensor) -> Tensor:
    return torch.ceil(values - 1e-9)
