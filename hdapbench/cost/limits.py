"""What targets limit, as costs of bit-widths by name. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hdapbench.spec import TargetKind


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


CostName = str | Together

LIMITED_BY: Mapping[TargetKind, tuple[str, int]] = {
    "flops": ("macs", 1),
    "size": ("stored", 8),
    "mpic": ("mpic", 1),
    "ne16": ("ne16", 1),
    "ram": ("ram", 1),
    "flash": ("flash", 1),
}
"""Kind of target -> the cost that it limits, and how many of the cost's units (bits) make one of its own (bytes)."""
