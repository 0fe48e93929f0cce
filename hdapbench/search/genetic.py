"""Integer genetic algorithm over widths, with local refinement of the best plan."""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.search.exchange import refine_until_spent
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive

POPULATION = 24
OFFSPRING = 48
REFINEMENT_SHARE = 0.6
"""Share of the evaluations kept for local refinement, which closes most of the gap that crossover leaves."""


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations: evolve, then refine the best plan by exchanging channels between groups.

    Plans are compared by feasibility first (Deb 2000): satisfied constraints beat violated ones, less violation beats
    more, and among satisfied the lower value wins.
    """
    space = archive.space
    sizes = space.cost.sizes
    population = start
    if len(population) < POPULATION:
        shares = rng.uniform(0.1, 1.0, size=(POPULATION - len(population), len(sizes)))
        population = np.concatenate([population, repaired(space, shares * sizes)])
    value, violation = archive.evaluate(population)
    spared = int(archive.limit * REFINEMENT_SHARE)
    while archive.left > spared:
        children = repaired(space, _offspring(population, sizes, rng))[: archive.left - spared]
        child_value, child_violation = archive.evaluate(children)
        population = np.concatenate([population, children])
        value, violation = np.concatenate([value, child_value]), np.concatenate([violation, child_violation])
        population, unique = np.unique(population, axis=0, return_index=True)
        value, violation = value[unique], violation[unique]
        kept = np.lexsort((value, violation))[:POPULATION]
        population, value, violation = population[kept], value[kept], violation[kept]
    refine_until_spent(archive, population[0], rng)


def _offspring(population: Integers, sizes: Integers, rng: np.random.Generator) -> Floats:
    """Children by tournament, uniform crossover and sparse mutation, shape (OFFSPRING, n_groups)."""
    n_plans, n_groups = population.shape
    # Plans are sorted from good to bad, so the lower of two positions wins a tournament.
    mothers = rng.integers(n_plans, size=(OFFSPRING, 2)).min(axis=1)
    fathers = rng.integers(n_plans, size=(OFFSPRING, 2)).min(axis=1)
    inherit = rng.random((OFFSPRING, n_groups)) < 0.5
    children = np.where(inherit, population[mothers], population[fathers]).astype(float)
    mutate = rng.random((OFFSPRING, n_groups)) < max(2.0 / n_groups, 0.05)
    mutate[np.arange(OFFSPRING), rng.integers(n_groups, size=OFFSPRING)] = True
    factor = np.exp(0.3 * rng.standard_normal((OFFSPRING, n_groups)))
    nudge = rng.integers(-2, 3, size=(OFFSPRING, n_groups))
    return np.asarray(np.clip(np.where(mutate, children * factor + nudge, children), 1, sizes), dtype=np.float64)
