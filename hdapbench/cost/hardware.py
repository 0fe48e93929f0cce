"""Bit-width costs by name, and what they are normalised by."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from hdapbench.cost.bits import BitLayers, Counts, bit_operations, size_bits
from hdapbench.cost.mpic import mpic_cycles
from hdapbench.cost.ne16 import ne16_cycles
from hdapbench.errors import PlanError

HardwareCost = Callable[[BitLayers, Counts], Tensor]

HARDWARE_COSTS: Mapping[str, HardwareCost] = {
    "size": size_bits,
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


def reference_cost(name: str, layers: BitLayers) -> float:
    """Cost of the dense model with 8-bit weights and activations: what costs are divided by."""
    return float(hardware_cost(name)(layers, layers.uniform_counts(8)))
