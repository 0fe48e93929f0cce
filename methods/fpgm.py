"""FPGM (He et al. 2019): filters near the geometric median go first, for others can stand in for them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class Fpgm(Method):
    """Remove the filters that are closest to all others of their layer, the same share of every group.

    A filter's score is the sum of its distances to the others; scores of tied layers are added. ``scope: global``
    compares scores, divided by their group's mean, across groups.

    Source: He et al., Filter pruning via geometric median, CVPR 2019.
    Needs: weights.
    Never sees: latency, accuracy, training images.
    """

    name = "fpgm"
    scope: Literal["global", "local"] = Field(default="local", description="Compare across groups, or within each.")
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")

    def compress(self, problem: Problem) -> Plan:
        """Plan that removes the most replaceable filters."""
        scores = problem.importance("fpgm")
        if self.scope == "global":
            scores = {name: score / max(float(score.mean()), 1e-12) for name, score in scores.items()}
        return problem.plan_by_scores(scores, scope=self.scope, round_to=self.round_to)
