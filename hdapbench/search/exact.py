"""Exact search: the least sum of tables under FLOPs and importance limits, with a bound that certifies it.

Prices on the limits give a lower bound on every plan's objective (`dual`), by elimination over the layer graph
(`eliminate`). The plans met on the way are refined (`refine`), and the plans that could still be better are enumerated
(`enumerate`) as far as that is affordable: when it is, the plan found is the optimum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.search.branch import LEAST_IMPROVEMENT, branch
from hdapbench.search.dual import Limits, Prices, prices
from hdapbench.search.eliminate import Eliminator, elimination_order, step_sizes
from hdapbench.search.enumerate import plans_below
from hdapbench.search.graph import LayerGraph, Scopes
from hdapbench.search.levels import LevelSet
from hdapbench.search.objective import AdditiveImportance, TableObjective
from hdapbench.search.refine import Refiner
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive, SearchResult, SearchSpace

MOST_OPERATIONS = 1 << 23
"""Additions per minimisation over the graph: about 0.01 s on one core."""
MOST_PAIRS = 1 << 18
"""Entries of the largest table of a kernel."""
_THINNER = 4
"""Where not all levels are affordable, so many times fewer are considered: finer ones near the best plan follow."""
TOLERANCE = 5e-4
"""Relative gap at which branching stops."""
MOST_BRANCHED = 1 << 29
"""Additions that branching may cost in all: about a second on one core."""
_FEWEST_LEVELS = 6
_MOST_MINIMISED = 800
_REFINED = (4, 12)
_MOST_PARTIAL = (2000, 20_000)
_MOST_CHILDREN = 1 << 20
_PRUNING_PRICES = 4
_ZOOMS = 2


def why_not_exact(space: SearchSpace, *, most_operations: int = MOST_OPERATIONS) -> str | None:
    """Reason why a problem cannot be solved exactly, or None.

    Parameters
    ----------
    most_operations
        Additions that one minimisation may cost.
    """
    if not isinstance(space.objective, TableObjective):
        return "the objective is no sum of tables over kernels"
    if space.retained is not None and not isinstance(space.retained, AdditiveImportance):
        return "the importance is no sum of tables over groups"
    found = _level_steps(space, Scopes.of(space.objective, space.cost), most_operations)
    return found if isinstance(found, str) else None


def solve_exact(
    space: SearchSpace,
    *,
    start: Integers | None = None,
    tolerance: float = TOLERANCE,
    most_operations: int = MOST_OPERATIONS,
) -> SearchResult:
    """Best plan, and a bound below which there is none.

    Where all widths are too many, levels are thinned out until a minimisation is affordable; near the best plan they
    stay as fine as the problem allows. ``SearchResult.levels`` says which widths the bound speaks of.

    Parameters
    ----------
    space
        Its objective must be a `TableObjective`, its importance an `AdditiveImportance` or None.
    start
        Plans to begin with, shape (n_plans, n_groups).
    tolerance
        Relative gap between plan and bound at which the search may stop.
    most_operations
        Additions per minimisation over the layer graph.

    Raises
    ------
    TypeError
        When `why_not_exact` has a reason.
    TargetUnreachableError
        When no plan satisfies the constraints.
    """
    reason = why_not_exact(space, most_operations=most_operations)
    if reason is not None or not isinstance(space.objective, TableObjective):
        raise TypeError(f"the exact search cannot take this problem: {reason}; use another algorithm")
    scopes = Scopes.of(space.objective, space.cost)
    steps = _level_steps(space, scopes, most_operations)
    if isinstance(steps, str):
        raise TypeError(f"the exact search cannot take this problem: {steps}; use another algorithm")
    archive = Archive(space, limit=np.iinfo(np.int64).max)
    if start is not None:
        archive.evaluate(repaired(space, start))
    levels = LevelSet.multiples(space.cost.sizes, steps, round_to=space.round_to, least=space.least_widths)
    solver = _Solver(space, archive, scopes, tolerance)
    thinned = max(steps) > space.round_to
    bound = solver.solve(levels, thorough=not thinned)
    for zoom in range(_ZOOMS if thinned and archive.found else 0):
        levels = levels.near(archive.best, steps, round_to=space.round_to, least=space.least_widths)
        bound = solver.solve(levels, thorough=zoom == _ZOOMS - 1)
    return archive.result(bound=min(bound, archive.best_value), levels=levels.description)


class _Solver:
    """Solves a problem over one level set after another, each with what the last one taught."""

    def __init__(self, space: SearchSpace, archive: Archive, scopes: Scopes, tolerance: float) -> None:
        self._space, self._archive, self._scopes, self._tolerance = space, archive, scopes, tolerance
        self._limits = Limits(space.target_flops, space.least_flops, space.least_retained if space.retained else 0.0)
        self._last: list[Prices] = []

    def solve(self, levels: LevelSet, *, thorough: bool) -> float:
        """Lower bound over the levels; plans go to the archive."""
        space = self._space
        objective, importance = _tables(space)
        graph = LayerGraph.of(objective, space.cost, importance, levels, scopes=self._scopes)
        eliminator = Eliminator(graph)
        points = list(prices(eliminator, self._limits, scale=self._scale(graph), first=self._last[:3]))
        points.sort(key=lambda point: -point.bound)
        self._last = points
        bound = points[0].bound
        for n_refined, most_partial in zip(_REFINED, _MOST_PARTIAL, strict=True):
            self._refine(graph, points, n_refined)
            bound = self._enumerate(eliminator, points, min(most_partial, _MOST_CHILDREN // max(levels.shape)))
            if not thorough or self._archive.gap_to(bound) <= self._tolerance:
                return bound
        affordable = MOST_BRANCHED // sum(step_sizes(eliminator.steps, levels.shape))
        return branch(
            self._archive,
            self._limits,
            (eliminator, points),
            enough=self._tolerance,
            most_minimised=min(affordable, _MOST_MINIMISED),
        )

    def _refine(self, graph: LayerGraph, points: Sequence[Prices], n_refined: int) -> None:
        """Refine the plans of the best bounds, and the best known plan."""
        refiner = Refiner(graph, self._limits)
        starts = {tuple(point.at.tolist()): None for point in points}
        distinct = [np.array(at) for at in list(starts)[:n_refined]]
        if self._archive.found:
            distinct.append(graph.levels.nearest(self._archive.best[None])[0])
        refined = np.stack([refiner.refine(at, points[0]) for at in distinct])
        self._archive.evaluate(graph.levels.plans(np.unique(np.concatenate([refined, distinct]), axis=0)))

    def _enumerate(self, eliminator: Eliminator, points: Sequence[Prices], most_partial: int) -> float:
        """Bound after enumerating what could be better than the best known plan."""
        bound = points[0].bound
        while self._archive.found:
            best = self._archive.best_value
            target = best - LEAST_IMPROVEMENT * abs(best)
            if bound >= target:
                break
            found = plans_below(eliminator, self._limits, points[:_PRUNING_PRICES], target, most=most_partial)
            if len(found.at):
                self._archive.evaluate(eliminator.graph.levels.plans(found.at))
            if self._archive.best_value >= best:
                return target if found.complete else bound
        return bound

    def _scale(self, graph: LayerGraph) -> float:
        if self._archive.found:
            return self._archive.best_value
        middle = np.array([[n // 2 for n in graph.levels.shape]])
        return float(graph.values(middle)[0][0])


def _tables(space: SearchSpace) -> tuple[TableObjective, AdditiveImportance | None]:
    """Objective and importance of a problem that `why_not_exact` has nothing against."""
    if not isinstance(space.objective, TableObjective):
        raise TypeError("the objective is no sum of tables over kernels")
    if space.retained is not None and not isinstance(space.retained, AdditiveImportance):
        raise TypeError("the importance is no sum of tables over groups")
    return space.objective, space.retained


def _level_steps(space: SearchSpace, scopes: Scopes, most_operations: int) -> list[int] | str:
    """Step between levels per group for which the graph is affordable, or why there is none."""
    sizes = space.cost.sizes
    steps = [space.round_to] * len(sizes)
    counts = [-(-int(size) // space.round_to) for size in sizes]
    order = elimination_order(scopes.sets, counts)
    most_pairs = MOST_PAIRS
    while True:
        operations = step_sizes(order, counts)
        widest = int(np.argmax(operations))
        members: tuple[int, ...] = (order[widest].group, *order[widest].neighbours)
        if sum(operations) <= most_operations:
            entries = {groups: math.prod(counts[group] for group in groups) for groups in scopes.sets}
            members = max(entries, key=lambda groups: (entries[groups], groups))
            if entries[members] <= most_pairs:
                return steps
        if max(steps) == space.round_to:
            most_operations, most_pairs = most_operations // _THINNER, most_pairs // _THINNER
        group = max(members, key=lambda g: counts[g])
        if counts[group] <= _FEWEST_LEVELS:
            name = space.cost.groups[order[widest].group]
            return (
                f"the layer graph is too wide: '{name}' meets {len(order[widest].neighbours)} other groups at once, "
                f"which takes {max(operations):.1e} additions even with {_FEWEST_LEVELS} levels per group"
            )
        steps[group] *= 2
        counts[group] = -(-int(sizes[group]) // steps[group])
