"""Limit: what a target allows, in the numbers of one model on one fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hdapbench.cost.limits import LIMITED_BY, CostName, Together
from hdapbench.spec import TargetKind


@dataclass(frozen=True)
class Limit:
    """What a plan must not exceed. Methods, runner and stages share this one value.

    Attributes
    ----------
    kind
        What is limited.
    amount
        How much: multiply-accumulates, bytes that a device stores or of memory, cycles, or a share of the dense model's
        average clustered latency.
    flops
        Multiply-accumulates that a plan must not exceed: the dense model's where something else is limited.
    dense_ms
        The dense model's average clustered latency in ms, measured as a plan's is; None for limits of other kinds.
    others
        Further limits that hold at the same time.
    """

    kind: TargetKind
    amount: float
    flops: int
    dense_ms: float | None = None
    others: tuple[Limit, ...] = ()

    @property
    def parts(self) -> tuple[Limit, ...]:
        """Every limit, each alone."""
        return (replace(self, others=()), *self.others)

    @property
    def kinds(self) -> frozenset[TargetKind]:
        """What is limited."""
        return frozenset(part.kind for part in self.parts)

    @classmethod
    def joint(cls, parts: Sequence[Limit]) -> Limit:
        """Limits that hold at once, as one."""
        return replace(parts[0], others=tuple(parts[1:]), flops=min(part.flops for part in parts))

    @property
    def cost(self) -> tuple[CostName, float]:
        """The cost of bit-widths that is limited, and what it must not exceed in its unit; latency is no such cost."""
        if not self.others:
            name, factor = LIMITED_BY[self.kind]
            return name, self.amount * factor
        return Together(tuple((str(name), most) for name, most in (part.cost for part in self.parts))), 1.0

    @classmethod
    def on_flops(cls, flops: int) -> Limit:
        """Limit on multiply-accumulates."""
        return cls("flops", flops, flops)
