"""Uniform pruning: the same share of every group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class Uniform(Method):
    """Remove the same share of every group, by least importance, until the target is met.

    Needs nothing but weights (with ``taylor``, gradients of 512 training images); sees no latency and no accuracy. With
    ``round_to`` 8 or 16 it is the alignment rival: hardware likes such widths, and no latency is needed to know that.
    """

    name = "uniform"
    criterion: Literal["l1", "l2", "taylor"] = "l1"
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")
    steps: int = Field(default=20, ge=1, description="Bisection steps.")

    def compress(self, problem: Problem) -> Plan:
        """Plan of the largest common share under the target."""
        share = problem.solve_ratio(steps=self.steps, round_to=self.round_to)
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), self.criterion, round_to=self.round_to)
