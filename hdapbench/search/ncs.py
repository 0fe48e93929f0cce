"""Negatively correlated search (Tang, Yang, Yao 2016), as published and in a form for tight limits.

Several hill-climbers run side by side; each prefers moves that are good and unlike what the others search, measured by
the Bhattacharyya distance between their Gaussian search distributions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.search.exchange import refine_until_spent
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive, SearchSpace

N_CLIMBERS = 10
EPOCH = 10
SHRINK = 0.9
LOWEST_SHARE = 0.02
SMALLEST_SIGMA, LARGEST_SIGMA = 1e-3, 0.3
PENALTY = 10.0
"""Weight of constraint violations, relative to the best start's value."""


@dataclass(frozen=True)
class Form:
    """How the climbers climb.

    Attributes
    ----------
    moved_groups
        Groups that a move changes on average, at least one; None for all.
    stands_on_repaired
        Whether a climber goes on from the repaired plan, or from where it stepped before the repair.
    refinement_share
        Share of the evaluations kept for local refinement of the best plan.
    """

    moved_groups: float | None = None
    stands_on_repaired: bool = False
    refinement_share: float = 0.0


PUBLISHED = Form()
REFINED = Form(moved_groups=3.0, stands_on_repaired=True, refinement_share=0.4)


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations on climbers that move in all kept shares at once, as published."""
    _climb(archive, start, rng, PUBLISHED)


def search_refined(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend them on climbers that stand on repaired plans and move in few groups; then refine the best plan."""
    _climb(archive, start, rng, REFINED)
    refine_until_spent(archive, archive.best if archive.found else start[0], rng)


def _climb(archive: Archive, start: Integers, rng: np.random.Generator, form: Form) -> None:
    """Evaluate generation after generation, until what is left is the refinement's."""
    space = archive.space
    sizes = space.cost.sizes
    spared = int(archive.limit * form.refinement_share)
    n_climbers = max(min(N_CLIMBERS, archive.left - spared), 1)
    plans = _starts(space, start[:n_climbers], n_climbers, rng)
    at = plans / sizes
    sigma = np.full(n_climbers, (1.0 - LOWEST_SHARE) / n_climbers)
    fitness, scale = _penalised(archive, plans, None)
    best = float(fitness.min())
    successes = np.zeros(n_climbers)
    generation = 0
    while archive.left > spared:
        progress = archive.n_evaluations / archive.limit
        threshold = rng.normal(1.0, 0.1 - 0.1 * progress)
        moved = _reflected(at + sigma[:, None] * _step(at.shape, form, rng))
        plans = repaired(space, moved * sizes)[: archive.left - spared]
        if form.stands_on_repaired:
            moved[: len(plans)] = plans / sizes
        moved_fitness = np.full(n_climbers, np.inf)
        moved_fitness[: len(plans)], _ = _penalised(archive, plans, scale)
        best = min(best, float(moved_fitness.min()))  # before the comparison, so that differences stay non-negative
        with np.errstate(invalid="ignore"):  # plans beyond the last evaluation are infinitely bad
            quality = (moved_fitness - best) / np.maximum((fitness - best) + (moved_fitness - best), 1e-300)
        old, new = _least_distance(at, at, sigma), _least_distance(moved, at, sigma)
        difference = new / np.maximum(old + new, 1e-300)
        accepted = quality < threshold * difference
        at[accepted], fitness[accepted] = moved[accepted], moved_fitness[accepted]
        successes += accepted
        generation += 1
        if generation % EPOCH == 0:
            rate = successes / EPOCH
            sigma = np.where(rate > 0.2, sigma / SHRINK, np.where(rate < 0.2, sigma * SHRINK, sigma))
            sigma = np.clip(sigma, SMALLEST_SIGMA, LARGEST_SIGMA)
            successes[:] = 0


def _starts(space: SearchSpace, start: Integers, n_climbers: int, rng: np.random.Generator) -> Integers:
    """Plans of the climbers, shape (n_climbers, n_groups): the given ones, then random ones."""
    n_missing = n_climbers - len(start)
    if n_missing <= 0:
        return start
    shares = rng.uniform(LOWEST_SHARE, 1.0, size=(n_missing, len(space.cost.sizes)))
    return np.concatenate([start, repaired(space, shares * space.cost.sizes)])


def _penalised(archive: Archive, plans: Integers, scale: float | None) -> tuple[Floats, float]:
    """Values of plans plus penalised violation, shape (n_plans,), and the penalty's scale."""
    values, violation = archive.evaluate(plans)
    scale = (abs(float(values.min())) or 1.0) if scale is None else scale
    return values + PENALTY * scale * violation, scale


def _step(shape: tuple[int, ...], form: Form, rng: np.random.Generator) -> Floats:
    """Standard normal steps, shape (n_climbers, n_groups), zero in groups that are not moved."""
    step = rng.standard_normal(shape)
    if form.moved_groups is None:
        return step
    picked = rng.random(shape) < form.moved_groups / shape[1]
    picked[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = True
    return np.where(picked, step, 0.0)


def _reflected(shares: Floats) -> Floats:
    """Shares outside the bounds reflected into them."""
    shares = np.where(shares < LOWEST_SHARE, 2 * LOWEST_SHARE - shares, shares)
    shares = np.where(shares > 1.0, 2.0 - shares, shares)
    return np.clip(shares, LOWEST_SHARE, 1.0)


def _least_distance(points: Floats, climbers: Floats, sigma: Floats) -> Floats:
    """Least Bhattacharyya distance of each point's distribution to those of the other climbers, shape (n_climbers,).

    For isotropic Gaussians with mean variance s: |difference|^2 / (8 s) + (dimensions / 2) ln(s / (sigma_i sigma_j)).
    """
    if len(points) < 2:
        return np.ones(len(points))
    variance = (sigma[:, None] ** 2 + sigma[None, :] ** 2) / 2
    squared = ((points[:, None, :] - climbers[None, :, :]) ** 2).sum(axis=2)
    spread = points.shape[1] / 2 * np.log(variance / (sigma[:, None] * sigma[None, :]))
    distance = squared / (8 * variance) + spread
    np.fill_diagonal(distance, np.inf)
    return np.asarray(distance.min(axis=1))
