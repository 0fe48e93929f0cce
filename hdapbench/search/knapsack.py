"""Multiple-choice knapsack, solved exactly by dynamic programming for all capacities at once. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hdapbench.arrays import Floats, Integers


def best_choices(values: Sequence[Floats], costs: Sequence[Floats], *, resolution: int = 4000) -> Integers:
    """Choices of greatest total value at every capacity, shape (resolution + 1, n_groups).

    Exactly one choice is taken per group. Row ``r`` is the best within ``r / resolution`` of the way from the least
    possible total cost to the greatest. Later rows are never worse.

    Parameters
    ----------
    values, costs
        Value and cost of each choice, per group an array of shape (n_choices,); costs may be of any sign and order.
    resolution
        Costs are rounded down to this many parts of their range: a total is off by at most one part per group.
    """
    above_least = [np.asarray(cost, dtype=float) - float(np.min(cost)) for cost in costs]
    unit = sum(float(cost.max()) for cost in above_least) / resolution or 1.0
    best = np.zeros(resolution + 1)
    chosen = np.zeros((len(values), resolution + 1), dtype=np.int32)
    units = [np.floor(cost / unit + 1e-9).astype(np.int64) for cost in above_least]
    for group, (value, cost) in enumerate(zip(values, units, strict=True)):
        table = np.full((len(value), resolution + 1), -np.inf)
        for choice, (gain, price) in enumerate(zip(value, cost, strict=True)):
            table[choice, price:] = best[: resolution + 1 - price] + gain
        chosen[group] = np.argmax(table, axis=0)
        best = np.max(table, axis=0)
    capacity = np.arange(resolution + 1)
    choices = np.empty((resolution + 1, len(values)), dtype=np.int64)
    for group in reversed(range(len(values))):
        choices[:, group] = chosen[group, capacity]
        capacity = capacity - units[group][choices[:, group]]
    return choices
