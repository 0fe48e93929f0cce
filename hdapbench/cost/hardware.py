"""Bit-width costs by name, and what they are normalised by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
}
"""Name -> cost of an assignment, a float64 scalar that gradients flow through."""


def hardware_cost(name: str) -> HardwareCost:
    """Cost of a name.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    if name not in HARDWARE_COSTS:
        raise PlanError(f"unknown hardware cost '{name}'. Known: {', '.join(HARDWARE_COSTS)}")
    return HARDWARE_COSTS[name]


def soft_cost(name: str) -> HardwareCost:
    """Cost of a name for soft choices: shares of a hundredth of a channel open no tile and fill up no byte.

    Raises
    ------
    PlanError
        When the name is unknown.
    """
    return _SOFT.get(name) or hardware_cost(name)


_SOFT: Mapping[str, HardwareCost] = {"ne16": smooth_ne16_cycles, "stored": smooth_stored_bits}


LIMITED_BY: Mapping[TargetKind, tuple[str, int]] = {
    "flops": ("macs", 1),
    "size": ("stored", 8),
    "mpic": ("mpic", 1),
    "ne16": ("ne16", 1),
}
"""Kind of target -> the cost that it limits, and how many of the cost's units (bits) make one of its own (bytes)."""


def reference_cost(name: str, layers: BitLayers, *, soft: bool = False) -> float:
    """Cost of the dense model with 8-bit weights and activations: what costs, or soft costs, are divided by."""
    return float((soft_cost if soft else hardware_cost)(name)(layers, layers.uniform_counts(8)))
