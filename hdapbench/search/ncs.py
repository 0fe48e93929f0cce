"""Negatively correlated search (Tang, Yang, Yao 2016) over kept shares.

Several hill-climbers run side by side; each prefers moves that are good and unlike what the others search, measured by
the Bhattacharyya distance between their Gaussian search distributions.
"""

from __future__ import annotations

import numpy as np

from hdapbench.search.space import Archive, Floats, Integers

N_CLIMBERS = 10
EPOCH = 10
SHRINK = 0.9
LOWEST_SHARE = 0.02
PENALTY = 10.0
"""Weight of constraint violations, relative to the best start's value."""


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations on negatively correlated climbers."""
    space = archive.space
    sizes = space.cost.sizes
    shares = start[:N_CLIMBERS] / sizes
    if len(shares) < N_CLIMBERS:
        extra = rng.uniform(LOWEST_SHARE, 1.0, size=(N_CLIMBERS - len(shares), len(sizes)))
        shares = np.concatenate([shares, extra])
    sigma = np.full(N_CLIMBERS, (1.0 - LOWEST_SHARE) / N_CLIMBERS)
    values, violation = archive.evaluate(space.repaired(shares * sizes))
    scale = abs(float(values.min())) or 1.0
    fitness = values + PENALTY * scale * violation
    best = float(fitness.min())
    successes = np.zeros(N_CLIMBERS)
    generation = 0
    while not archive.exhausted:
        progress = archive.n_evaluations / archive.limit
        threshold = rng.normal(1.0, 0.1 - 0.1 * progress)
        moved = _reflected(shares + sigma[:, None] * rng.standard_normal(shares.shape))
        values, violation = archive.evaluate(space.repaired(moved * sizes))
        moved_fitness = values + PENALTY * scale * violation
        best = min(best, float(moved_fitness.min()))  # before the comparison, so that differences stay non-negative
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
            sigma = np.clip(sigma, 1e-4, 0.5)
            successes[:] = 0


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
