"""Statistics over the devices of a fleet, weighted by the share of the fleet that each stands for."""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Floats

PERCENTS = (0, 5, 50, 95, 100)


def weighted_percentile(latency_ms: Floats, percent: float, weights: Floats | None = None) -> Floats:
    """Percentile over devices of each column, shape (n_plans,), of latencies of shape (n_devices, n_plans).

    With weights it is the least latency that at least ``percent`` of the weight does not exceed.
    """
    if weights is None:
        return np.asarray(np.percentile(latency_ms, percent, axis=0))
    order = np.argsort(latency_ms, axis=0)
    reached = np.cumsum(weights[order], axis=0)
    place = np.argmax(reached >= percent / 100 * reached[-1] * (1 - 1e-12), axis=0)
    return np.asarray(np.take_along_axis(np.take_along_axis(latency_ms, order, 0), place[None], 0)[0])


def conditional_value_at_risk(latency_ms: Floats, level: float, weights: Floats | None = None) -> Floats:
    """Mean latency of the slowest ``1 - level`` of the fleet, shape (n_plans,), of latencies (n_devices, n_plans).

    A device on the border counts with the part that lies beyond it (Rockafellar and Uryasev, "Conditional value-at-risk
    for general loss distributions", 2002).

    Raises
    ------
    ValueError
        When the level is not in [0, 1).
    """
    if not 0 <= level < 1:
        raise ValueError(f"level must be in [0, 1), not {level}")
    n_devices = len(latency_ms)
    share = np.full(n_devices, 1 / n_devices) if weights is None else weights / weights.sum()
    order = np.argsort(-latency_ms, axis=0)
    sorted_share = share[order]
    before = np.cumsum(sorted_share, axis=0) - sorted_share
    counted = np.clip(1 - level - before, 0.0, sorted_share)
    return np.asarray((np.take_along_axis(latency_ms, order, 0) * counted).sum(axis=0) / (1 - level))


def spread(values: Floats, weights: Floats | None = None) -> dict[str, float]:
    """Weighted mean, percentiles and conditional value at risk of one value per device, shape (n_devices,)."""
    column = values[:, None]
    found = {"mean": float(np.average(values, weights=weights))}
    found |= {f"p{percent}": float(weighted_percentile(column, percent, weights)[0]) for percent in PERCENTS}
    return found | {"cvar95": float(conditional_value_at_risk(column, 0.95, weights)[0])}
