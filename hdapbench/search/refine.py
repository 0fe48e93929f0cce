"""Local refinement on tables: the best change of one group, or of two at once, until none helps. Pure numpy."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.search.dual import Limits, Prices
from hdapbench.search.eliminate import along
from hdapbench.search.graph import LayerGraph

MOST_MOVES = 250
"""Single changes that are combined in pairs: those of least priced cost."""


class Refiner:
    """Improves plans by exchanging width between two groups, exactly under the limits.

    Parameters
    ----------
    graph
        The tables.
    limits
        What plans must satisfy.
    """

    def __init__(self, graph: LayerGraph, limits: Limits) -> None:
        self._graph, self._limits = graph, limits
        self._held: list[list[int]] = [[] for _ in range(graph.n_groups)]
        shared: dict[tuple[int, int], list[int]] = {}
        for number, factor in enumerate(graph.factors):
            for group in factor.groups:
                self._held[group].append(number)
            for pair in combinations(factor.groups, 2):
                shared.setdefault(pair, []).append(number)
        self._shared = shared
        self._owner = np.repeat(np.arange(graph.n_groups), graph.levels.shape)
        self._level = np.concatenate([np.arange(n) for n in graph.levels.shape])

    def refine(self, at: Integers, prices: Prices, *, most: int = 60) -> Integers:
        """Plan after at most ``most`` exchanges, level positions of shape (n_groups,).

        A plan that violates a limit moves towards the limits first.
        """
        current = at.copy()
        score = self._score(*(values[0] for values in self._graph.values(current[None])))
        for _ in range(most):
            moved = self._best_exchange(current, prices)
            reached = self._score(*(values[0] for values in self._graph.values(moved[None])))
            if reached >= score:
                break
            current, score = moved, reached
        return current

    def _score(self, cost: Floats, flops: Floats, kept: Floats) -> tuple[float, float]:
        violation = float(np.maximum(self._limits.excess(np.atleast_1d(flops), np.atleast_1d(kept)), 0.0).sum())
        if self._limits.met(flops, kept):
            violation = 0.0
        return violation, float(cost)

    def _best_exchange(self, at: Integers, prices: Prices) -> Integers:
        """Plan after the best change of at most two groups."""
        cost, flops, kept = self._single_changes(at)
        priced = cost + prices.per_flop * flops - prices.per_importance * kept
        chosen = np.argsort(priced, kind="stable")[:MOST_MOVES]
        stay = np.flatnonzero((self._level == at[self._owner])[chosen])
        if not len(stay):  # staying is a change too, so that one group may change alone
            own = np.flatnonzero(self._level == at[self._owner])[:1]
            chosen = np.concatenate([chosen, own])
        owner, level = self._owner[chosen], self._level[chosen]
        sums = [values[chosen][:, None] + values[chosen][None] for values in (cost, flops, kept)]
        self._add_interactions(at, owner, level, sums)
        base = [values[0] for values in self._graph.values(at[None])]
        total_cost, total_flops, total_kept = (total + start for total, start in zip(sums, base, strict=True))
        limits = self._limits
        excess = np.maximum(total_flops / limits.most_flops - 1.0, 0.0)
        if limits.least_flops:
            excess += np.maximum(1.0 - total_flops / limits.least_flops, 0.0)
        if limits.least_kept > 0:
            excess += np.maximum(1.0 - total_kept / limits.least_kept, 0.0)
        excess[owner[:, None] == owner[None]] = np.inf
        least = excess.min()
        total_cost = np.where(excess <= least, total_cost, np.inf)
        first, second = np.unravel_index(int(np.argmin(total_cost)), total_cost.shape)
        moved = at.copy()
        moved[owner[first]], moved[owner[second]] = level[first], level[second]
        return moved

    def _single_changes(self, at: Integers) -> tuple[Floats, Floats, Floats]:
        """Change of objective, FLOPs and importance for every level of every group, shape (n_levels in all,)."""
        graph = self._graph
        columns: tuple[list[Floats], list[Floats], list[Floats]] = ([], [], [])
        for group in range(graph.n_groups):
            factors = [graph.factors[number] for number in self._held[group]]
            cost = along(group, ((f.groups, f.cost) for f in factors), at)
            flops = along(group, ((f.groups, f.flops) for f in factors), at)
            for column, values in zip(columns, (cost, flops, graph.kept[group]), strict=True):
                column.append(values - values[at[group]])
        return tuple(np.concatenate(column) for column in columns)  # type: ignore[return-value]

    def _add_interactions(self, at: Integers, owner: Integers, level: Integers, sums: list[Floats]) -> None:
        """What two changes do together beyond their sum, where the groups share a table."""
        where = {int(group): np.flatnonzero(owner == group) for group in np.unique(owner)}
        for (first, second), numbers in self._shared.items():
            if first not in where or second not in where:
                continue
            rows, columns = where[first], where[second]
            for number in numbers:
                factor = self._graph.factors[number]
                for table, total in zip((factor.cost, factor.flops), sums, strict=False):
                    fixed = tuple(
                        slice(None) if group in (first, second) else int(at[group]) for group in factor.groups
                    )
                    plane = table[fixed]  # axes in the order of groups: first, second
                    here, there = int(at[first]), int(at[second])
                    picked = plane[np.ix_(level[rows], level[columns])]
                    beyond = picked - plane[level[rows], there][:, None] - plane[here, level[columns]][None]
                    beyond = beyond + plane[here, there]
                    total[np.ix_(rows, columns)] += beyond
                    total[np.ix_(columns, rows)] += beyond.T
