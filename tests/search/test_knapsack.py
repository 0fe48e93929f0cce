from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hdapbench.search.knapsack import best_choices


def by_trial(values: list[np.ndarray], costs: list[np.ndarray], capacity: float) -> float:
    """Greatest value within a capacity, by trying everything."""
    return max(
        sum(float(value[choice]) for value, choice in zip(values, choices, strict=True))
        for choices in product(*(range(len(value)) for value in values))
        if sum(float(cost[choice]) for cost, choice in zip(costs, choices, strict=True)) <= capacity + 1e-9
    )


@pytest.mark.parametrize("seed", range(8))
def test_every_capacity_gets_the_best_of_all_combinations(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.random(n) for n in (3, 4, 2, 5)]
    costs = [rng.integers(-5, 20, n).astype(float) for n in (3, 4, 2, 5)]  # some choices cost less than nothing
    least = sum(cost.min() for cost in costs)
    span = int(sum(cost.max() - cost.min() for cost in costs))

    choices = best_choices(values, costs, resolution=span)  # one part is exactly one unit of cost

    for capacity, row in enumerate(choices):
        value = sum(float(v[choice]) for v, choice in zip(values, row, strict=True))
        cost = sum(float(c[choice]) for c, choice in zip(costs, row, strict=True))
        assert cost <= least + capacity + 1e-9
        assert value == pytest.approx(by_trial(values, costs, least + capacity))


def test_choices_that_all_cost_the_same_are_taken_by_value() -> None:
    choices = best_choices([np.array([1.0, 2.0, 0.5])], [np.zeros(3)], resolution=10)

    assert (choices == 1).all()
