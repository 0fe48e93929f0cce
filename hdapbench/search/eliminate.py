"""Min-sum variable elimination: the exact minimum of a sum of tables, and all plans near it. Pure numpy.

Groups are eliminated one by one: the tables that hold a group are added, and the least over its levels is a new table,
a message, over the groups that it met (Bertele and Brioschi, Nonserial Dynamic Programming, 1972). Time and memory are
those of the largest table, which the order decides; the group whose table is smallest goes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.search.graph import LayerGraph

Table = tuple[tuple[int, ...], Floats]
"""Groups, and numbers over their levels: one axis per group."""
Held = tuple[Table, ...]

_AT_ONCE = 1 << 18
"""Numbers that a temporary array may hold; larger eliminations go level by level, which also stays in the cache."""


@dataclass(frozen=True)
class Step:
    """Elimination of one group.

    Attributes
    ----------
    group
        The group.
    neighbours
        Groups that its message depends on, ascending.
    """

    group: int
    neighbours: tuple[int, ...]


def elimination_order(sets: Iterable[tuple[int, ...]], n_levels: Sequence[int]) -> tuple[Step, ...]:
    """Order in which every elimination's table is the smallest possible at that point.

    Parameters
    ----------
    sets
        Groups that meet in a table.
    n_levels
        Levels of each group.
    """
    met: list[set[int]] = [set() for _ in n_levels]
    for groups in sets:
        for group in groups:
            met[group] |= set(groups) - {group}
    left = set(range(len(n_levels)))
    steps = []
    while left:
        group = min(left, key=lambda g: (_table_size({g, *met[g]}, n_levels), g))
        neighbours = met[group]
        steps.append(Step(group, tuple(sorted(neighbours))))
        for other in neighbours:
            met[other] |= neighbours - {other}
            met[other].discard(group)
        left.remove(group)
    return tuple(steps)


def step_sizes(steps: Sequence[Step], n_levels: Sequence[int]) -> list[int]:
    """Entries of each elimination's table: what one minimisation costs."""
    return [_table_size({step.group, *step.neighbours}, n_levels) for step in steps]


def _table_size(groups: Iterable[int], n_levels: Sequence[int]) -> int:
    size = 1
    for group in groups:
        size *= n_levels[group]
    return size


@dataclass(frozen=True)
class Minimum:
    """Minimum of the weighted sum of tables.

    Attributes
    ----------
    value
        The least sum.
    at
        Where it is reached, level positions, shape (n_groups,).
    tables
        Per elimination step the tables that were added, each with its groups.
    messages
        Per elimination step what came of it.
    """

    value: float
    at: Integers
    tables: tuple[Held, ...]
    messages: tuple[Floats, ...]


class Eliminator:
    """Minimises ``cost + price * flops - worth * importance`` over the levels of a layer graph.

    Parameters
    ----------
    graph
        The tables.
    steps
        Order of elimination, when it is known already.
    """

    def __init__(self, graph: LayerGraph, steps: tuple[Step, ...] = ()) -> None:
        self.graph = graph
        self._shape = graph.levels.shape
        self.steps = steps or elimination_order([factor.groups for factor in graph.factors], graph.levels.shape)
        turn = {step.group: number for number, step in enumerate(self.steps)}
        self._home = [min(turn[group] for group in factor.groups) for factor in graph.factors]
        self._parent = [min((turn[group] for group in step.neighbours), default=-1) for step in self.steps]

    def minimise(self, price: float, worth: float) -> Minimum:
        """Minimum at a price per FLOP and a worth of importance."""
        graph = self.graph
        waiting: list[list[Table]] = [[] for _ in self.steps]
        for factor, home in zip(graph.factors, self._home, strict=True):
            table = factor.cost + price * factor.flops if price else factor.cost
            if len(factor.groups) == 1:
                table = table - worth * graph.kept[factor.groups[0]]
            waiting[home].append((factor.groups, table))
        value = graph.constant + price * graph.constant_flops
        tables, messages = [], []
        for step, parent, arrived in zip(self.steps, self._parent, waiting, strict=True):
            held = _gathered(arrived)
            message = _least(step, held, self._shape)
            tables.append(tuple(held))
            messages.append(message)
            if parent < 0:
                value += float(message)
            else:
                waiting[parent].append((step.neighbours, message))
        return Minimum(value, self._minimiser(tables), tuple(tables), tuple(messages))

    def _minimiser(self, tables: list[Held]) -> Integers:
        at = np.zeros(len(self.steps), dtype=np.int64)
        for step, held in zip(reversed(self.steps), reversed(tables), strict=True):
            at[step.group] = int(np.argmin(along(step.group, held, at)))
        return at


def along(group: int, held: Iterable[Table], at: Integers) -> Floats:
    """Sum of tables over the levels of ``group``, shape (n_levels,); other groups as in a plan, shape (n_groups,)."""
    total: Floats | float = 0.0
    for groups, table in held:
        total = total + table[tuple([slice(None) if other == group else at[other] for other in groups])]
    return np.asarray(total)


def across(group: int, held: Iterable[Table], at: Integers) -> Floats:
    """The same for many plans of shape (n_plans, n_groups), shape (n_plans, n_levels)."""
    total: Floats | float = 0.0
    for groups, table in held:
        last = np.moveaxis(table, groups.index(group), -1)
        where = tuple(at[:, other] for other in groups if other != group)
        total = total + (last[where] if where else last[None])
    return np.broadcast_to(np.asarray(total), (len(at), np.shape(total)[1]))


def summed(held: Iterable[Table], at: Integers) -> Floats:
    """Sum of tables for plans of shape (n_plans, n_groups), shape (n_plans,)."""
    total = np.zeros(len(at))
    for groups, table in held:
        total += table[tuple(at[:, other] for other in groups)]
    return total


def _gathered(held: list[Table]) -> list[Table]:
    """Tables with those added into others that depend on the same groups and more."""
    kept: list[Table] = []
    for groups, table in sorted(held, key=lambda item: -len(item[0])):
        for number, (wider, other) in enumerate(kept):
            if set(groups) <= set(wider):
                kept[number] = (wider, other + _spread(table, groups, wider))
                break
        else:
            kept.append((groups, table))
    return kept


def _spread(table: Floats, groups: tuple[int, ...], onto: Sequence[int]) -> Floats:
    """Table with one axis per group of ``onto``, of length 1 where it does not depend on it."""
    wanted = [group for group in onto if group in groups]
    moved = np.transpose(table, [groups.index(group) for group in wanted])
    lengths = iter(moved.shape)
    return moved.reshape([next(lengths) if group in groups else 1 for group in onto])


def _least(step: Step, held: list[Table], n_levels: Sequence[int]) -> Floats:
    """Least sum of tables over the levels of a group, one axis per neighbour."""
    onto = (step.group, *step.neighbours)
    tables = [_spread(table, groups, onto) for groups, table in held]
    shape = tuple(n_levels[group] for group in onto)
    if _table_size(range(len(shape)), shape) <= _AT_ONCE:
        total = tables[0]
        for table in tables[1:]:
            total = total + table
        return np.asarray(np.broadcast_to(total, shape).min(axis=0))
    least = np.full(shape[1:], np.inf)
    level_sum = np.empty(shape[1:])
    for level in range(shape[0]):
        parts = [table[level] if len(table) > 1 else table[0] for table in tables]
        np.copyto(level_sum, parts[0])
        for part in parts[1:]:
            np.add(level_sum, part, out=level_sum)
        np.minimum(least, level_sum, out=least)
    return least
