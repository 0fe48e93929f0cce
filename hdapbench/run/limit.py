"""Limit: what a target allows on a trial's fleet, and what a plan uses of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hdapbench.bench.workbench import scoring_session
from hdapbench.run.evaluate import PlanLatency, measure_plan

if TYPE_CHECKING:
    from hdapbench.bench.workbench import Workbench
    from hdapbench.plan import Plan
    from hdapbench.spec import CostTarget, TargetKind


@dataclass(frozen=True)
class Use:
    """What a plan uses of a limit on something else than FLOPs.

    Attributes
    ----------
    share
        Of what is allowed.
    excess
        What is above the limit, by how much; None where it holds.
    latency
        The plan's, where that was measured.
    """

    share: float
    excess: str | None
    latency: PlanLatency | None = None


@dataclass(frozen=True)
class Limit:
    """A target in the numbers of one model on one fleet.

    Attributes
    ----------
    amount
        Multiply-accumulates, bytes, cycles, or the share of the dense model's average clustered latency.
    target_flops
        Multiply-accumulates that a plan must not exceed: the dense model's where they are not what is limited.
    dense_ms
        That latency in ms, measured as a plan's is; None for targets of other kinds.
    """

    kind: TargetKind
    amount: float
    target_flops: int
    dense_ms: float | None = None

    @classmethod
    def of(cls, bench: Workbench, target: CostTarget, *, seed: int) -> Limit:
        """Limit of a target for plans of a seed."""
        cost = bench.network.cost
        if target.kind == "flops":
            amount = target.resolve(cost.dense.flops)
            return cls(target.kind, amount, amount)
        if target.kind == "latency":
            dense_ms = bench.average_latency(cost.sizes, session=scoring_session(seed))
            return cls(target.kind, target.share(dense_ms), cost.dense.flops, dense_ms)
        return cls(target.kind, bench.bit_limit(target), cost.dense.flops)

    def use(self, bench: Workbench, plan: Plan, *, seed: int) -> Use | None:
        """What a plan uses of the limit; None where FLOPs are limited, which are known from its widths.

        Raises
        ------
        PlanError
            When the plan has no bit-widths that the limit asks for, or does not fit the model.
        """
        if self.kind == "flops":
            return None
        if self.dense_ms is not None:
            latency = measure_plan(bench, plan, seed=seed)
            allowed_ms = self.amount * self.dense_ms
            excess = f"the fleet takes {latency.mean_ms:.4g} ms on average, above the target of {allowed_ms:.4g} ms"
            return Use(latency.mean_ms / allowed_ms, excess if latency.mean_ms > allowed_ms else None, latency)
        used = bench.bit_cost(plan, self.kind)
        excess = f"the plan needs {used:,.0f} ({self.kind}), above the target of {self.amount:,.0f}"
        return Use(used / self.amount, excess if used > self.amount else None)
