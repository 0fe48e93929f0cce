"""Greedy knapsack: from the dense model down, always the channels that save most latency per importance.

The idea of HALP (Shen et al. 2022, "Structural pruning via latency-saliency knapsack"), for limits instead of a latency
budget: removal stops where importance is used up, and the FLOPs target is met by repair. Local refinement follows.
"""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers
from hdapbench.search.exchange import refine_until_spent
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive, SearchSpace

REMOVAL_SHARE = 0.5
"""Share of the evaluations for the removal; the rest refines."""
_TINY = 1e-12


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations: remove, repair, refine."""
    space = archive.space
    archive.evaluate(start)
    plan = _removed(archive)
    feasible = repaired(space, plan[None])
    archive.evaluate(feasible)
    refine_until_spent(archive, archive.best if archive.found else feasible[0], rng)


def _removed(archive: Archive) -> Integers:
    """Plan from which nothing more can be removed, or for which no evaluations are left, shape (n_groups,)."""
    space = archive.space
    sizes = space.cost.sizes
    n_groups = len(sizes)
    rounds = max(int(REMOVAL_SHARE * archive.left) // n_groups, 1)
    # About half of all channels go, one group per round, so a group must go in this many portions.
    portions = max(rounds // n_groups, 2)
    step = np.maximum(sizes // portions, 1)
    step = np.maximum(step // space.round_to * space.round_to, space.round_to)
    plan = sizes.copy()
    value = float(archive.evaluate(plan[None])[0][0])
    spare = int((1 - REMOVAL_SHARE) * archive.limit)
    while archive.left > spare:
        candidates = space.rounded(np.maximum(plan - np.diag(step), 1) / sizes)
        candidates = candidates[_allowed(space, candidates) & (candidates != plan).any(axis=1)]
        if not len(candidates):
            break
        values, _ = archive.evaluate(candidates)
        saved = value - values
        lost = _importance_lost(space, plan, candidates)
        best = int(np.argmax(saved / np.maximum(lost, _TINY)))
        plan, value = candidates[best], float(values[best])
    return plan


def _allowed(space: SearchSpace, plans: Integers) -> Booleans:
    """Which plans keep the importance and the FLOPs asked for."""
    allowed = space.cost.flops(plans) >= max(space.least_flops, 1)
    if space.retained is None or space.least_retained <= 0:
        return np.asarray(allowed & (space.cost.flops(plans) >= space.target_flops // 2))
    return np.asarray(allowed & (space.retained(plans) >= space.least_retained))


def _importance_lost(space: SearchSpace, plan: Integers, candidates: Integers) -> Floats:
    if space.retained is None:  # every channel matters as much as the next
        return np.asarray((1.0 - candidates / plan).sum(axis=1))
    return np.asarray(space.retained(plan[None])[0] - space.retained(candidates))
