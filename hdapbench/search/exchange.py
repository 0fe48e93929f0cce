"""Local refinement: channels leave one group and enter another, as few as the limits ask for. Pure numpy.

Importance and FLOPs limits are tight at good plans, so a neighbour that changes one group is either no better or not
allowed. A move here changes one group at random and gives another the least width with which nothing is lacking.
"""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive, SearchSpace

BATCH = 32
"""Moves that are compared before the best of them is made."""
MOST_FAILURES = 12
"""Batches without improvement after which a plan counts as refined."""
KICKED_GROUPS = 3.0
"""Groups that are disturbed, on average, when refinement starts again."""
_TRIES = 4


def refine_until_spent(archive: Archive, plan: Integers, rng: np.random.Generator) -> None:
    """Spend all evaluations that are left: refine, then again and again from a disturbed best plan."""
    space = archive.space
    refine(archive, plan, rng)
    while not archive.exhausted:
        best = archive.best if archive.found else plan
        disturbed = rng.random(len(best)) < KICKED_GROUPS / len(best)
        factor = np.where(disturbed, np.exp(0.4 * rng.standard_normal(len(best))), 1.0)
        refine(archive, repaired(space, (best * factor)[None])[0], rng)


def refine(archive: Archive, plan: Integers, rng: np.random.Generator) -> None:
    """Make the best move of every batch, until nothing helps or evaluations end."""
    current = plan
    value, violation = (array[0] for array in archive.evaluate(current[None]))
    failures = 0
    while not archive.exhausted and failures < MOST_FAILURES:
        moves = _moves(archive.space, current, float(violation), rng)[: archive.left]
        failures += 1
        if not len(moves):
            continue
        values, violations = archive.evaluate(moves)
        best = np.lexsort((values, violations))[0]
        if (violations[best], values[best]) < (violation, value):
            current, value, violation = moves[best], values[best], violations[best]
            failures = 0


def _moves(space: SearchSpace, plan: Integers, violation: float, rng: np.random.Generator) -> Integers:
    """Distinct neighbours of a plan that violate no limit more than it does, at most `BATCH` of them."""
    n_groups, n_tries = len(plan), _TRIES * BATCH
    every = np.arange(n_tries)
    first, second = rng.integers(n_groups, size=(2, n_tries))
    moves = np.repeat(plan[None], n_tries, axis=0)
    largest = np.log2(np.maximum(plan[first] / space.round_to / 2, 1.0))
    step = np.rint(2.0 ** (rng.random(n_tries) * largest)).astype(np.int64) * space.round_to
    moves[every, first] += np.where(rng.random(n_tries) < 0.5, step, -step)
    moves = space.rounded(moves / space.cost.sizes)
    paired = first != second  # the others change one group alone
    moves[paired] = _least_wide(space, moves[paired], second[paired])
    moves = rng.permutation(np.unique(moves[(moves != plan).any(axis=1)], axis=0))
    return np.asarray(moves[space.violation(moves) <= violation][:BATCH], dtype=np.int64)


def _least_wide(space: SearchSpace, plans: Integers, groups: Integers) -> Integers:
    """Plans with one group each at the least width with which importance and FLOPs suffice; dense where none does."""
    every = np.arange(len(plans))
    sizes = space.cost.sizes[groups]

    def at(multiples: Integers) -> Integers:
        shares = plans / space.cost.sizes
        shares[every, groups] = np.minimum(multiples * space.round_to / sizes, 1.0)
        return space.rounded(shares)

    low, high = np.zeros(len(plans), dtype=np.int64), -(-sizes // space.round_to)
    while (high - low > 1).any():
        middle = (low + high) // 2
        lacking = space.lacks(at(middle))
        low, high = np.where(lacking, middle, low), np.where(lacking, high, middle)
    return at(high)
