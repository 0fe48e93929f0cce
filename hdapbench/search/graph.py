"""The layer graph: an additive objective, FLOPs and importance as tables over the levels of channel groups. Pure numpy.

Groups are the nodes. A factor is all kernels and FLOPs terms that depend on the same groups, mostly the group that a
layer reads and the one that it produces; a layer after a concatenation depends on more.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.model import CostModel
from hdapbench.search.levels import LevelSet
from hdapbench.search.objective import AdditiveImportance, TableObjective


@dataclass(frozen=True)
class Factor:
    """What depends on the widths of some groups together.

    Attributes
    ----------
    groups
        Positions of the groups, ascending.
    cost, flops
        Objective and multiply-accumulates, arrays with one axis per group.
    """

    groups: tuple[int, ...]
    cost: Floats
    flops: Floats


@dataclass(frozen=True)
class ChannelTerm:
    """A channel count as an affine function of widths."""

    constant: int
    groups: tuple[int, ...]
    multiplicity: tuple[int, ...]

    @classmethod
    def of(cls, constant: int, row: Integers) -> ChannelTerm:
        """Term of a row of coefficients, shape (n_groups,)."""
        groups = np.flatnonzero(row)
        return cls(int(constant), tuple(groups.tolist()), tuple(row[groups].tolist()))

    def values(self, groups: tuple[int, ...], levels: LevelSet) -> Integers:
        """Channels at every combination of levels, one axis per group of ``groups``.

        An axis has the length n_levels of its group, or 1 where the count does not depend on the group.
        """
        total = np.full((1,) * len(groups), self.constant, dtype=np.int64)
        for group, times in zip(self.groups, self.multiplicity, strict=True):
            shape = [1] * len(groups)
            shape[groups.index(group)] = -1
            total = total + times * levels.widths[group].reshape(shape)
        return total


@dataclass(frozen=True)
class Scopes:
    """Which groups meet in which term of objective and FLOPs; known before any table is filled.

    Attributes
    ----------
    kernels
        Per kernel its input and output channels.
    pairs
        FLOPs terms: the two channel counts that are multiplied, and the multiply-accumulates per product.
    n_groups
        Number of groups.
    """

    kernels: tuple[tuple[ChannelTerm, ChannelTerm], ...]
    pairs: tuple[tuple[ChannelTerm, ChannelTerm, int], ...]
    n_groups: int

    @classmethod
    def of(cls, objective: TableObjective, cost: CostModel) -> Scopes:
        """Terms of an objective and of the FLOPs of the same model."""
        # Channel counts are affine: their values at no channels and at single ones are all there is to know.
        probe = np.concatenate(
            [np.zeros((1, len(cost.sizes)), dtype=np.int64), np.eye(len(cost.sizes), dtype=np.int64)]
        )
        sides = [
            [ChannelTerm.of(column[0], column[1:] - column[0]) for column in counts.T]
            for counts in objective.kernels.channels(probe)
        ]
        kernels = tuple(zip(*sides, strict=True))
        counts = [ChannelTerm.of(*row) for row in zip(cost.counts_constant, cost.counts_coefficients, strict=True)]
        one = ChannelTerm(1, (), ())
        pairs = [
            (counts[first], counts[second], int(flops))
            for first, second, flops in zip(cost.pair_first, cost.pair_second, cost.pair_flops, strict=True)
        ]
        pairs += [(count, one, int(flops)) for count, flops in zip(counts, cost.single_flops, strict=True) if flops]
        return cls(kernels, tuple(pairs), len(cost.sizes))

    @property
    def sets(self) -> set[tuple[int, ...]]:
        """Distinct sets of groups that meet in a term."""
        terms = [scope(first, second) for first, second in self.kernels]
        terms += [scope(first, second) for first, second, _ in self.pairs]
        return {groups for groups in terms if groups}


@dataclass(frozen=True)
class LayerGraph:
    """Tables of a problem over a set of levels.

    Attributes
    ----------
    levels
        The widths that groups may take.
    factors
        Objective and FLOPs, by the groups that they depend on; no two over the same groups.
    kept
        Importance that each level keeps, per group, shape (n_levels,).
    constant, constant_flops
        What depends on no group.
    """

    levels: LevelSet
    factors: tuple[Factor, ...]
    kept: tuple[Floats, ...]
    constant: float
    constant_flops: float

    @classmethod
    def of(
        cls,
        objective: TableObjective,
        cost: CostModel,
        importance: AdditiveImportance | None,
        levels: LevelSet,
        *,
        scopes: Scopes | None = None,
    ) -> LayerGraph:
        """Graph with all tables filled."""
        terms = Scopes.of(objective, cost) if scopes is None else scopes
        groups_of = sorted(terms.sets | {(group,) for group in range(terms.n_groups)})
        tables = {
            groups: Factor(groups, np.zeros(shape), np.zeros(shape))
            for groups in groups_of
            for shape in [tuple(levels.shape[group] for group in groups)]
        }
        tables[()] = Factor((), np.full((), objective.constant), np.zeros(()))
        known: dict[Hashable, Floats] = {}
        for number, (in_channels, out_channels) in enumerate(terms.kernels):
            factor = tables[scope(in_channels, out_channels)]
            counts = in_channels.values(factor.groups, levels), out_channels.values(factor.groups, levels)
            factor.cost[...] += _kernel_table(objective, number, counts, known)
        for first, second, flops in terms.pairs:
            factor = tables[scope(first, second)]
            # Products below 2**53 are exact in float64, and so are their sums; the cost model checks the same.
            factor.flops[...] += flops * (first.values(factor.groups, levels) * second.values(factor.groups, levels))
        alone = tables.pop(())
        if importance is None:
            kept = tuple(np.zeros(n) for n in levels.shape)
        else:
            kept = tuple(table[widths] for table, widths in zip(importance.kept, levels.widths, strict=True))
        return cls(levels, tuple(tables.values()), kept, float(alone.cost), float(alone.flops))

    @property
    def n_groups(self) -> int:
        """Number of channel groups."""
        return len(self.kept)

    def within(self, group: int, first: int, last: int) -> LayerGraph:
        """Graph in which a group may take its levels ``first`` to ``last - 1`` only; tables are shared."""
        factors = []
        for factor in self.factors:
            if group in factor.groups:
                part = tuple(slice(first, last) if other == group else slice(None) for other in factor.groups)
                factors.append(Factor(factor.groups, factor.cost[part], factor.flops[part]))
            else:
                factors.append(factor)
        widths = (*self.levels.widths[:group], self.levels.widths[group][first:last], *self.levels.widths[group + 1 :])
        kept = (*self.kept[:group], self.kept[group][first:last], *self.kept[group + 1 :])
        levels = LevelSet(widths, self.levels.description)
        return LayerGraph(levels, tuple(factors), kept, self.constant, self.constant_flops)

    def value(self, at: Integers) -> tuple[float, float, float]:
        """Objective, FLOPs and importance of one plan as level positions, shape (n_groups,)."""
        where = at.tolist()
        cost, flops, kept = self.constant, self.constant_flops, 0.0
        for factor in self.factors:
            entry = tuple([where[group] for group in factor.groups])
            cost += float(factor.cost[entry])
            flops += float(factor.flops[entry])
        for table, level in zip(self.kept, where, strict=True):
            kept += float(table[level])
        return cost, flops, kept

    def values(self, at: Integers) -> tuple[Floats, Floats, Floats]:
        """Objective, FLOPs and importance of plans as level positions (n_plans, n_groups), shape (n_plans,) each."""
        cost = np.full(len(at), self.constant)
        flops = np.full(len(at), self.constant_flops)
        kept = np.zeros(len(at))
        for factor in self.factors:
            where = tuple(at[:, group] for group in factor.groups)
            cost += factor.cost[where]
            flops += factor.flops[where]
        for group, table in enumerate(self.kept):
            kept += table[at[:, group]]
        return cost, flops, kept


def scope(first: ChannelTerm, second: ChannelTerm) -> tuple[int, ...]:
    """Groups that two channel counts depend on, ascending."""
    return tuple(sorted({*first.groups, *second.groups}))


def _kernel_table(
    objective: TableObjective, number: int, counts: tuple[Integers, Integers], known: dict[Hashable, Floats]
) -> Floats:
    """Costs of a kernel over broadcast channel counts; each distinct pair is valued once, equal kernels share."""
    in_channels, out_channels = counts
    if any(a > 1 and b > 1 for a, b in zip(in_channels.shape, out_channels.shape, strict=True)):
        # Both depend on one group: a depthwise kernel, or one within a residual stage.
        shape = np.broadcast_shapes(in_channels.shape, out_channels.shape)
        codes, back = np.unique(np.broadcast_to(in_channels << 32 | out_channels, shape), return_inverse=True)
        rows, columns = codes >> 32, codes & 0xFFFFFFFF
        return objective.kernel_cost(number, rows, columns)[back.reshape(shape)]
    rows, row = np.unique(in_channels, return_inverse=True)
    columns, column = np.unique(out_channels, return_inverse=True)
    key = (objective.table_key(number), rows.tobytes(), columns.tobytes())
    if key not in known:
        pairs = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
        known[key] = objective.kernel_cost(number, *pairs).reshape(len(rows), len(columns))
    return known[key][row.reshape(in_channels.shape), column.reshape(out_channels.shape)]
