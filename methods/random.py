"""Random pruning: what any method must beat."""

from __future__ import annotations

from pydantic import Field

from hdapbench.method import Method, Plan, Problem
from hdapbench.method.plans import filled, weakest_that_meets


class Random(Method):
    """Keep a random share of each group, and random channels of it, scaled to meet the target.

    What any method must beat. One draw per seed; no draw is compared with another.

    Source: our reference.
    Needs: nothing, not even weights.
    Never sees: latency, accuracy, training images.
    """

    name = "random"
    least_share: float = Field(default=0.2, gt=0.0, le=1.0, description="Least share drawn for a group before scaling.")

    def compress(self, problem: Problem) -> Plan:
        """Plan of one random draw."""
        shares = dict(zip(problem.groups, problem.rng.uniform(self.least_share, 1.0, len(problem.groups)), strict=True))
        scores = problem.importance("random")

        def plan_at(knob: float) -> Plan:
            scale = (1 - knob) / self.least_share  # dense at 0: a draw below the target is widened, not filled up
            widths = {
                name: max(1, round(min(share * scale, 1.0) * problem.groups[name].n_channels))
                for name, share in shares.items()
            }
            return problem.plan_by_widths(widths, scores)

        return filled(problem, weakest_that_meets(problem, plan_at, steps=24), scores)
