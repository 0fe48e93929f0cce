"""All plans that could still be better than the best known one: what closes the gap that prices leave. Pure numpy.

Groups get their levels in the reverse order of elimination. How far each choice is above the best one adds up to how
far the finished plan is above the bound; a partial plan that is already as far above as the best known plan is
dropped. Several prices are asked at once: a plan that is to be better must stay below the known one at all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.search.dual import Limits, Prices
from hdapbench.search.eliminate import Eliminator, Minimum, across, summed

_MOST_CHILDREN = 1 << 21


@dataclass(frozen=True)
class Enumeration:
    """Plans that are below a value at all prices.

    Attributes
    ----------
    at
        Level positions of those that meet the limits, shape (n_plans, n_groups).
    complete
        Whether none was left out: then no other plan is below the value.
    """

    at: Integers
    complete: bool


def plans_below(
    eliminator: Eliminator, limits: Limits, points: Sequence[Prices], value: float, *, most: int
) -> Enumeration:
    """Plans that meet the limits and whose objective may be below ``value``.

    Parameters
    ----------
    points
        Prices to prune by, the best bound first.
    most
        Partial plans that are followed; beyond it those nearest to the bound.
    """
    minima = [eliminator.minimise(point.per_flop, point.per_importance) for point in points]
    slack = np.array([value - point.bound for point in points])
    partial = np.zeros((1, len(eliminator.steps)), dtype=np.int64)
    above = np.zeros((1, len(points)))
    complete = True
    for number in range(len(eliminator.steps) - 1, -1, -1):
        partial, above, all_followed = _extended(eliminator, minima, number, partial, above, slack, most)
        complete &= all_followed
        if not len(partial):
            break
    _, flops, kept = eliminator.graph.values(partial)
    return Enumeration(partial[limits.met(flops, kept)], complete)


def _extended(
    eliminator: Eliminator,
    minima: list[Minimum],
    number: int,
    partial: Integers,
    above: Floats,
    slack: Floats,
    most: int,
) -> tuple[Integers, Floats, bool]:
    """Partial plans with one more group, those within the slack; whether all of them are there."""
    step = eliminator.steps[number]
    at_once = max(1, _MOST_CHILDREN // eliminator.graph.levels.shape[step.group])
    rows, levels, distances = [], [], []
    for start in range(0, len(partial), at_once):
        part = partial[start : start + at_once]
        total = across(step.group, minima[0].tables[number], part)
        nearest = above[start : start + at_once, 0, None] + (total - total.min(axis=1, keepdims=True))
        row, level = np.nonzero(nearest <= slack[0])
        children = part[row]
        children[:, step.group] = level
        distance = above[row + start]
        for column, minimum in enumerate(minima):
            least = minimum.messages[number][tuple(children[:, group] for group in step.neighbours)]
            distance[:, column] += summed(minimum.tables[number], children) - least
        near = (distance <= slack).all(axis=1)
        rows.append(row[near] + start)
        levels.append(level[near])
        distances.append(distance[near])
    row, level, distance = np.concatenate(rows), np.concatenate(levels), np.concatenate(distances)
    complete = len(row) <= most
    if not complete:
        nearest = np.sort(np.argpartition(distance[:, 0], most)[:most])
        row, level, distance = row[nearest], level[nearest], distance[nearest]
    extended = partial[row]
    extended[:, step.group] = level
    return extended, distance, complete
