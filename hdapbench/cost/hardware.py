"""Bit-width costs by name, and what they are normalised by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
from hdapbench.cost.mpic import mpic_cycles
from hdapbench.cost.ne16 import ne16_cycles, smooth_ne16_cycles
from hdapbench.errors import PlanError
from hdapbench.spec import TargetKind

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


@dataclass(frozen=True)
class Together:
    """Several costs that are limited at once: each as a share of what is allowed, of which the greatest counts.

    Attributes
    ----------
    allowed
        Name of each cost, and what it must not exceed in its own unit.
    """

    allowed: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"share of {', '.join(name for name, _ in self.allowed)}"

    def exact(self, layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
        """The greatest share."""
        return torch.stack([hardware_cost(name)(layers, counts) / most for name, most in self.allowed]).max()

    def smooth(self, layers: BitLayers, counts: ChannelBitCounts) -> Tensor:
        """The same of soft costs, as a norm that the greatest share dominates."""
        shares = torch.stack([soft_cost(name)(layers, counts) / most for name, most in self.allowed])
        return (shares**SHARPNESS).sum() ** (1.0 / SHARPNESS)


CostName = str | Together


def hardware_cost(name: CostName) -> HardwareCost:
    """Cost of a name.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    if isinstance(name, Together):
        return name.exact
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
        return name.smooth
    return _SOFT.get(name) or hardware_cost(name)


_SOFT: Mapping[str, HardwareCost] = {
    "ne16": smooth_ne16_cycles,
    "stored": smooth_stored_bits,
    "ram": smooth_ram_bytes,
    "flash": smooth_flash_bytes,
}


LIMITED_BY: Mapping[TargetKind, tuple[str, int]] = {
    "flops": ("macs", 1),
    "size": ("stored", 8),
    "mpic": ("mpic", 1),
    "ne16": ("ne16", 1),
    "ram": ("ram", 1),
    "flash": ("flash", 1),
}
"""Kind of target -> the cost that it limits, and how many of the cost's units (bits) make one of its own (bytes)."""


def reference_cost(name: CostName, layers: BitLayers, *, soft: bool = False) -> float:
    """Cost of the dense model with 8-bit weights and activations: what costs, or soft costs, are divided by."""
    return float((soft_cost if soft else hardware_cost)(name)(layers, layers.uniform_counts(8)))
