"""Bit-width costs by name, and what they are normalised by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from hdapbench.cost.bits import (
    BitLayers,
    ChannelBitCounts,
    bit_operations,
    multiply_accumulates,
    size_bits,
    smooth_stored_bits,
    stored_bits,
)
from hdapbench.cost.footprint import SHARPNESS, flash_bytes, ram_bytes, smooth_flash_bytes, smooth_ram_bytes
from hdapbench.cost.limits import CostName, Together
from hdapbench.cost.mpic import mpic_cycles
from hdapbench.cost.ne16 import ne16_cycles, smooth_ne16_cycles
from hdapbench.errors import PlanError

HardwareCost = Callable[[BitLayers, ChannelBitCounts], Tensor]

HARDWARE_COSTS: Mapping[str, HardwareCost] = {
    "macs": multiply_accumulates,
    "weights": size_bits,
    "stored": stored_bits,
    "bitops": bit_operations,
    "mpic": mpic_cycles,
    "ne16": ne16_cycles,
    "ram": ram_bytes,
    "flash": flash_bytes,
}
"""Name -> cost of an assignment, a float64 scalar that gradients flow through."""


def hardware_cost(name: CostName) -> HardwareCost:
    """Cost of a name.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    if isinstance(name, Together):
        return partial(_greatest_share, name)
    if name not in HARDWARE_COSTS:
        raise PlanError(f"unknown hardware cost '{name}'. Known: {', '.join(HARDWARE_COSTS)}")
    return HARDWARE_COSTS[name]


def soft_cost(name: CostName) -> HardwareCost:
    """Cost of a name for soft choices: hundredths of a channel open no tile and fill no byte, and peaks are smooth.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    if isinstance(name, Together):
        return partial(_smooth_share, name)
    return _SOFT.get(name) or hardware_cost(name)


def _greatest_share(several: Together, layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    return torch.stack([hardware_cost(name)(layers, counts) / most for name, most in several.allowed]).max()


def _smooth_share(several: Together, layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
    """A norm of the shares of soft costs, which the greatest dominates."""
    shares = torch.stack([soft_cost(name)(layers, counts) / most for name, most in several.allowed])
    return (shares**SHARPNESS).sum() ** (1.0 / SHARPNESS)


_SOFT: Mapping[str, HardwareCost] = {
    "ne16": smooth_ne16_cycles,
    "stored": smooth_stored_bits,
    "ram": smooth_ram_bytes,
    "flash": smooth_flash_bytes,
}


def reference_cost(name: CostName, layers: BitLayers, *, soft: bool = False) -> float:
    """Cost of the dense model with 8-bit weights and activations: what costs, or soft costs, are divided by."""
    return float((soft_cost if soft else hardware_cost)(name)(layers, layers.uniform_counts(8)))
