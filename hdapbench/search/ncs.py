"""Negatively correlated search (Tang, Yang, Yao 2016) over kept shares.

Several hill-climbers run side by side; each prefers moves that are good and unlike what the others search, measured by
the Bhattacharyya distance between their Gaussian search distributions. Ours differs from the publication in two things
that matter under tight limits: a move changes few groups, and a climber stands on the repaired plan.
"""

from __future__ import annotations

import numpy as np

from hdapbench.search.space import Archive, Floats, Integers

N_CLIMBERS = 10
EPOCH = 10
SHRINK = 0.9
LOWEST_SHARE = 0.02
LARGEST_SIGMA = 0.3
MOVED_GROUPS = 3.0
"""Groups that a move changes on average; all of them at once is the publication's."""
PENALTY = 10.0
"""Weight of constraint violations, relative to the best start's value."""


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations on negatively correlated climbers."""
    space = archive.space
    sizes = space.cost.sizes
    n_climbers = max(min(N_CLIMBERS, archive.left), 1)
    plans = start[:n_climbers]
    if len(plans) < n_climbers:
        extra = rng.uniform(LOWEST_SHARE, 1.0, size=(n_climbers - len(plans), len(sizes)))
        plans = np.concatenate([plans, space.repaired(extra * sizes)])
    shares = plans / sizes
    sigma = np.full(n_climbers, (1.0 - LOWEST_SHARE) / n_climbers)
    values, violation = archive.evaluate(plans)
    scale = abs(float(values.min())) or 1.0
    fitness = values + PENALTY * scale * violation
    best = float(fitness.min())
    successes = np.zeros(n_climbers)
    generation = 0
    while not archive.exhausted:
        progress = archive.n_evaluations / archive.limit
        threshold = rng.normal(1.0, 0.1 - 0.1 * progress)
        plans = space.repaired(_moved(shares, sigma, rng) * sizes)
        moved = plans / sizes
        values, violation = archive.evaluate(plans)
        moved_fitness = values + PENALTY * scale * violation
        best = min(best, float(moved_fitness.min()))  # before the comparison, so that differences stay non-negative
        with np.errstate(invalid="ignore"):  # plans beyond the last evaluation are infinitely bad
            quality = (moved_fitness - best) / np.maximum((fitness - best) + (moved_fitness - best), 1e-300)
        old, new = _least_distance(shares, shares, sigma), _least_distance(moved, shares, sigma)
        difference = new / np.maximum(old + new, 1e-300)
        accepted = quality < threshold * difference
        shares[accepted], fitness[accepted] = moved[accepted], moved_fitness[accepted]
        successes += accepted
        generation += 1
        if generation % EPOCH == 0:
            rate = successes / EPOCH
            sigma = np.where(rate > 0.2, sigma / SHRINK, np.where(rate < 0.2, sigma * SHRINK, sigma))
            sigma = np.clip(sigma, 1e-3, LARGEST_SIGMA)
            successes[:] = 0


def _moved(shares: Floats, sigma: Floats, rng: np.random.Generator) -> Floats:
    """Shares of which few are moved, at least one per climber, reflected into the bounds."""
    n_climbers, n_groups = shares.shape
    picked = rng.random(shares.shape) < MOVED_GROUPS / n_groups
    picked[np.arange(n_climbers), rng.integers(n_groups, size=n_climbers)] = True
    return _reflected(shares + np.where(picked, sigma[:, None] * rng.standard_normal(shares.shape), 0.0))


def _reflected(shares: Floats) -> Floats:
    """Shares outside the bounds reflected into them."""
    shares = np.where(shares < LOWEST_SHARE, 2 * LOWEST_SHARE - shares, shares)
    shares = np.where(shares > 1.0, 2.0 - shares, shares)
    return np.clip(shares, LOWEST_SHARE, 1.0)


def _least_distance(points: Floats, others: Floats, sigma: Floats) -> Floats:
    """Bhattacharyya distance of each point's Gaussian to the nearest other climber's, shape (n_climbers,)."""
    squared = ((points[:, None] - others[None]) ** 2).sum(axis=2)
    mean_variance = (sigma[:, None] ** 2 + sigma[None] ** 2) / 2
    spread = np.log(mean_variance / (sigma[:, None] * sigma[None]))
    distance = squared / (8 * mean_variance) + points.shape[1] / 2 * spread
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.min(axis=1))
