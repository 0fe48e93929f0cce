"""Latency of any plan between the dense model and a target, predicted from measured ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.target import repair, widths_at_share
from hdapbench.cost.tiling import GPU_TILES, Tiling
from hdapbench.surrogate.fit import SurrogateName, fit_surrogate
from hdapbench.surrogate.measured import MeasuredPlans


def spread_plans(cost: CostModel, target_flops: int, n_plans: int, rng: np.random.Generator) -> Integers:
    """Widths spread widely around a target, shape (n_plans, n_groups): Latin hypercube shares, scaled to 0.7x to 1.5x.

    The last one is the dense model.
    """
    n_random, n_groups = n_plans - 1, len(cost.sizes)
    strata = np.argsort(rng.random((n_random, n_groups)), axis=0)
    shares = 0.1 + 0.9 * (strata + rng.random((n_random, n_groups))) / max(n_random, 1)
    plans = []
    for row, scale in zip(shares, rng.uniform(0.7, 1.5, n_random), strict=True):
        limit = max(int(scale * target_flops), cost.minimum_flops)
        plans.append(repair(cost, widths_at_share(cost, row), limit)[0])
    return np.stack([*plans, cost.sizes])


def fitted_latency(
    kernels: KernelModel,
    widths: Integers,
    latency_ms: Floats,
    *,
    weights: Floats,
    name: SurrogateName = "nnls",
    tiling: Tiling = GPU_TILES,
) -> Callable[[Integers], Floats]:
    """Widths of shape (n_plans, n_groups) -> predicted weighted latency in ms, shape (n_plans,).

    Parameters
    ----------
    widths
        Widths of measured plans, shape (n_plans, n_groups).
    latency_ms
        Latency in ms on each device, shape (n_plans, n_devices).
    weights
        Weight of each device, shape (n_devices,).
    name
        Which surrogate is fitted.
    tiling
        What the fleet's runtimes pad channels to.

    Raises
    ------
    SurrogateError
        When there are too few plans, or shapes do not agree.
    """
    return fit_surrogate(name, MeasuredPlans(kernels, widths, latency_ms, weights, tiling)).predict_average
