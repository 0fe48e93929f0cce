"""Integer genetic algorithm over widths, with local refinement of the best plan."""

from __future__ import annotations

import numpy as np

from hdapbench.search.space import Archive, Floats, Integers, SearchSpace

POPULATION = 24
OFFSPRING = 48
REFINEMENT_SHARE = 0.4
"""Share of the evaluations kept for local refinement, which closes most of the gap that crossover leaves."""
KICKED_GROUPS = 3.0
"""Groups that are disturbed, on average, when refinement starts again."""
_STEPS = (1, 2, 4, 8, 16, 32)


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
        population = np.concatenate([population, space.repaired(shares * sizes)])
    value, violation = archive.evaluate(population)
    spared = int(archive.limit * REFINEMENT_SHARE)
    while archive.left > spared:
        children = space.repaired(_offspring(population, sizes, rng))[: archive.left - spared]
        child_value, child_violation = archive.evaluate(children)
        population = np.concatenate([population, children])
        value, violation = np.concatenate([value, child_value]), np.concatenate([violation, child_violation])
        population, unique = np.unique(population, axis=0, return_index=True)
        value, violation = value[unique], violation[unique]
        kept = np.lexsort((value, violation))[:POPULATION]
        population, value, violation = population[kept], value[kept], violation[kept]
    refine_until_spent(archive, population[0], rng)


def refine_until_spent(archive: Archive, plan: Integers, rng: np.random.Generator) -> None:
    """Spend all evaluations that are left: refine, then again and again from a disturbed best plan."""
    space = archive.space
    refine(archive, plan, rng)
    while not archive.exhausted:
        best = archive.best if archive.found else plan
        disturbed = rng.random(len(best)) < KICKED_GROUPS / len(best)
        factor = np.where(disturbed, np.exp(0.4 * rng.standard_normal(len(best))), 1.0)
        kicked = space.repaired((best * factor)[None])[0]
        refine(archive, kicked, rng, steps=_STEPS[:4])


def refine(archive: Archive, plan: Integers, rng: np.random.Generator, *, steps: tuple[int, ...] = _STEPS) -> None:
    """Improve a plan by moving channels into one group and out of another, until nothing helps or evaluations end."""
    current = plan
    value, violation = (array[0] for array in archive.evaluate(current[None]))
    step_limit = len(steps)
    while not archive.exhausted and step_limit > 0:
        moves = _exchanges(archive.space, current, steps[:step_limit], rng)
        values, violations = archive.evaluate(moves[: archive.left])
        best = np.lexsort((values, violations))[0]
        if (violations[best], values[best]) < (violation, value):
            current, value, violation = moves[best], values[best], violations[best]
        else:
            step_limit -= 1


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


def _exchanges(space: SearchSpace, plan: Integers, steps: tuple[int, ...], rng: np.random.Generator) -> Integers:
    """Neighbours of a plan: one group changed, or one raised and another lowered; shuffled."""
    n_groups = len(plan)
    steps = tuple(step * space.round_to for step in steps)
    rows = [plan + sign * step * np.eye(n_groups, dtype=np.int64) for step in steps for sign in (1, -1)]
    pairs = rng.integers(n_groups, size=(6 * n_groups, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    exchanged = np.repeat(plan[None], len(pairs), axis=0)
    every = np.arange(len(pairs))
    exchanged[every, pairs[:, 0]] += rng.choice(steps, size=len(pairs))
    exchanged[every, pairs[:, 1]] -= rng.choice(steps, size=len(pairs))
    neighbours = space.rounded(np.concatenate([*rows, exchanged]) / space.cost.sizes)
    return np.asarray(rng.permutation(np.unique(neighbours, axis=0)), dtype=np.int64)
