"""Latency of widths as a method learns it: predicted from plans measured at first, or measured at every question."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import numpy as np

from hdapbench.surrogate.fit import SurrogateName
from hdapbench.surrogate.fitted import fitted_latency, spread_plans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hdapbench.method.problem import Problem

TableSource = Literal["surrogate", "measured"]


def learned_latency(
    problem: Problem, *, fleet: bool, source: TableSource, n_plans: int, surrogate: SurrogateName
) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    """Widths of shape (n_plans, n_groups) -> latency in ms, shape (n_plans,).

    Parameters
    ----------
    fleet
        Average over all clusters; otherwise one nominal device.
    source
        Measure every question, or ``n_plans`` spread around the target, which a surrogate of that kind learns from.

    Raises
    ------
    BudgetExceededError
        When the budget does not allow so many device queries.
    """
    weights = problem.devices.cluster_weights if fleet else np.ones(1)

    def measure(widths: NDArray[np.int64]) -> NDArray[np.float64]:
        return problem.latency(widths) if fleet else problem.devices.nominal_latency(widths)[:, None]

    if source == "measured":
        return lambda widths: np.asarray(measure(widths) @ weights)
    plans = spread_plans(problem.cost, problem.target_flops, n_plans, problem.rng)
    problem.progress(f"measuring {len(plans)} plans on {len(weights)} devices")
    return fitted_latency(
        problem.devices.kernels, plans, measure(plans), weights=weights, name=surrogate, tiling=problem.devices.tiling
    )
