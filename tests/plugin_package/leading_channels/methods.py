"""Two methods that keep the first channels of every group."""

from __future__ import annotations

import importlib.util
from typing import ClassVar

import numpy as np
from pydantic import Field

from hdapbench.method import Method, Plan, Problem


class Leading(Method):
    """Keep the first channels of every group.

    Source: nobody would publish this.
    Needs: nothing.
    Never sees: latency, accuracy, training images.
    """

    name = "leading"
    round_to: int = Field(default=2, ge=1, le=64, description="Widths are multiples of this.")

    def compress(self, problem: Problem) -> Plan:
        """Plan of the largest common share."""
        share = problem.solve_ratio(round_to=self.round_to)
        order = {name: -np.arange(group.n_channels, dtype=float) for name, group in problem.groups.items()}
        return problem.plan_by_importance(dict.fromkeys(problem.groups, share), order, round_to=self.round_to)


class LeadingFast(Leading):
    """Keep the first channels, with a package that is not there."""

    name = "leading-fast"
    extra: ClassVar[str | None] = "fast"

    def skip(self, problem: Problem) -> str | None:
        """Reason when the package is not installed."""
        if importlib.util.find_spec("no_such_package_of_leading_channels") is None:
            return "it needs pip install 'leading-channels[fast]'"
        return None
