"""Uniform pruning: the same share of every group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class Uniform(Method):
    """Remove the same share of every group, by least importance, until the target is met.

    What everybody tries first. With ``round_to`` 8 or 16 it is the alignment rival: hardware likes such widths, and no
    latency is needed to know that.

    Source: our reference; norms as in Li et al., Pruning filters for efficient convnets, ICLR 2017.
    Needs: weights; with ``criterion: taylor`` gradients of 512 training images, with ``osscar``, ``thinet``, ``hrank``
    and ``reconstruct`` looks at some, all charged. OSSCAR as published is ``criterion: osscar`` with ``reconstruct``.
    Never sees: latency, accuracy.
    """

    name = "uniform"
    criterion: Literal["l1", "l2", "taylor", "consumers", "osscar", "thinet", "hrank"] = Field(
        default="l1", description="Which channels of a group stay."
    )
    round_to: int = Field(default=1, ge=1, description="Widths are multiples of this.")
    steps: int = Field(default=20, ge=1, description="Bisection steps.")
    reconstruct: bool = Field(
        default=False,
        exclude_if=lambda value: value is False,  # it came later: ids of older trials stay what they were
        description="Let the weights left make up for removed channels, by least squares.",
    )

    def skip(self, problem: Problem) -> str | None:
        """Reason when the criterion does not apply to the model."""
        return problem.training.lack_of(self.criterion)

    def compress(self, problem: Problem) -> Plan:
        """Plan of the largest common share under the target."""
        share = problem.solve_ratio(steps=self.steps, round_to=self.round_to)
        shares = dict.fromkeys(problem.groups, share)
        plan = problem.plan_by_importance(shares, self.criterion, round_to=self.round_to)
        return problem.training.reconstructed(plan) if self.reconstruct else plan
