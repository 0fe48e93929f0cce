"""Plans made from other plans, scores and knobs, for methods that need more than `Problem`'s three ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hdapbench.cost.ranking import top_channels
from hdapbench.cost.target import fill
from hdapbench.errors import TargetUnreachableError
from hdapbench.plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hdapbench.method.problem import Problem


def flops_of(problem: Problem, plan: Plan) -> int:
    """Multiply-accumulates of a plan, exact."""
    return int(problem.cost.flops(np.array(plan.widths(list(problem.groups))))[0])


def filled(problem: Problem, plan: Plan, scores: Mapping[str, NDArray[np.floating[Any]]], *, round_to: int = 1) -> Plan:
    """Plan with its best removed channels added back, ``round_to`` at a time, while the target allows.

    Parameters
    ----------
    scores
        Group -> score of each channel, shape (n_channels,); higher comes back first.
    round_to
        Widths grow to multiples of this.
    """
    names = list(problem.groups)
    widths = fill(problem.cost, plan.widths(names), problem.target_flops, round_to=round_to)
    kept = {}
    for name, width in zip(names, widths, strict=True):
        ranked = np.array(scores[name], dtype=float)
        ranked[list(plan.kept[name])] = np.inf  # what the plan keeps stays
        kept[name] = top_channels(ranked, int(width))
    return plan.model_copy(update={"kept": kept})


def weakest_that_meets(problem: Problem, plan_at: Callable[[float], Plan], *, steps: int = 12) -> Plan:
    """Plan of a one-knob family that meets the target with the knob as low as possible, by bisection.

    Parameters
    ----------
    plan_at
        Knob in [0, 1] -> plan; 0 is (nearly) dense and FLOPs fall as the knob rises.
    steps
        Bisection steps.

    Raises
    ------
    TargetUnreachableError
        When the target is exceeded at knob 1.
    """
    low, high = 0.0, 1.0
    best: Plan | None = None
    for _ in range(steps):
        middle = (low + high) / 2
        plan = plan_at(middle)
        if flops_of(problem, plan) <= problem.target_flops:
            best, high = plan, middle
        else:
            low = middle
    if best is None:
        best = plan_at(1.0)
        flops = flops_of(problem, best)
        if flops > problem.target_flops:
            raise TargetUnreachableError(f"{flops:,} FLOPs at the strongest setting, target {problem.target_flops:,}")
    return best
