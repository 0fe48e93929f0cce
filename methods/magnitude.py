"""Magnitude pruning (Li et al. 2017): the filters of least norm go first."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class Magnitude(Method):
    """Remove the filters of least norm, compared across groups or within each, until the target is met.

    Norms of tied layers are added. Across groups, norms are divided by their group's mean.

    Source: Li et al., Pruning filters for efficient convnets, ICLR 2017.
    Needs: weights.
    Never sees: latency, accuracy, training images.
    """

    name = "magnitude"
    scope: Literal["global", "local"] = Field(default="global", description="Compare across groups, or within each.")
    norm: Literal["l1", "l2"] = Field(default="l2", description="Norm of a filter's weights.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")

    def compress(self, problem: Problem) -> Plan:
        """Plan that removes the least filters; across groups norms are divided by the group's mean."""
        scores = problem.importance(self.norm)
        if self.scope == "global":
            scores = {name: score / max(float(score.mean()), 1e-30) for name, score in scores.items()}
        return problem.plan_by_scores(scores, scope=self.scope, round_to=self.round_to)
