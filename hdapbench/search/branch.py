"""Branch and bound: the level range of one group after another is halved, and every half gets prices of its own.

One set of prices for all plans leaves a gap: at the best prices several plans are equally good, one above a limit and
one below it, and none exactly on it. Splitting the group in which they differ most takes that mixture apart.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.search.dual import Effort, Limits, Prices, prices
from hdapbench.search.eliminate import Eliminator
from hdapbench.search.graph import LayerGraph
from hdapbench.search.space import Archive

_RIVALS = 6
"""Plans of the best bounds, whose difference decides where to split."""
_MOST_MINIMISATIONS = 12
_MOST_KNOWN = 30
LEAST_IMPROVEMENT = 1e-9
"""Plans that are better by less, relative to the objective, are not looked for: plateaus are wide."""


@dataclass(order=True, frozen=True)
class Node:
    """Part of a problem: some groups have fewer levels.

    Attributes
    ----------
    bound
        No plan in it has a lower objective.
    number
        Order of creation, which settles ties.
    graph
        Tables of the part.
    points
        Its prices, the best bound first.
    """

    bound: float
    number: int
    graph: LayerGraph = field(compare=False)
    points: tuple[Prices, ...] = field(compare=False)


def branch(
    archive: Archive, limits: Limits, root: tuple[Eliminator, list[Prices]], *, enough: float, most_minimised: int
) -> float:
    """Lower bound over all levels, after splitting the part of the lowest bound again and again.

    Plans that satisfy the constraints go to the archive.

    Parameters
    ----------
    root
        The problem and its prices, the best bound first.
    enough
        Relative gap at which to stop.
    most_minimised
        Minimisations after which to stop.
    """
    eliminator, points = root
    numbers = count()
    spent = 0
    queue = [Node(points[0].bound, next(numbers), eliminator.graph, tuple(points))]
    while queue and spent < most_minimised:
        worst = heapq.heappop(queue)
        target = _target(archive, enough)
        if worst.bound >= target:
            heapq.heappush(queue, worst)
            break
        if max(worst.graph.levels.shape) == 1:  # a single plan, and the archive has seen it
            continue
        for half, known in _halves(worst):
            part = Eliminator(half, eliminator.steps)
            scale = archive.best_value if archive.found else points[0].cost
            effort = Effort(_MOST_MINIMISATIONS, target)
            asked = prices(part, limits, scale=scale, first=worst.points[:1], known=known, effort=effort)
            found = sorted(asked, key=lambda point: -point.bound)
            spent += len(found)
            _note(archive, limits, half, found)
            bound = max(found[0].bound, worst.bound)
            if bound < _target(archive, 0.0):
                heapq.heappush(queue, Node(bound, next(numbers), half, (*found, *known)[:_MOST_KNOWN]))
    return min([_target(archive, 0.0), *(node.bound for node in queue[:1])])


def _target(archive: Archive, enough: float) -> float:
    best = archive.best_value
    return best - max(enough, LEAST_IMPROVEMENT) * abs(best) if archive.found else np.inf


def _note(archive: Archive, limits: Limits, graph: LayerGraph, found: list[Prices]) -> None:
    """Tell the archive of plans that are better than all it knows."""
    for point in found:
        better = not archive.found or point.cost < archive.best_value
        if better and limits.met(np.array(point.flops), np.array(point.kept)):
            archive.evaluate(graph.levels.plans(point.at[None]))


def _halves(node: Node) -> list[tuple[LayerGraph, list[Prices]]]:
    """The two halves of a part, each with the parent's points whose plans lie in it."""
    group, cut = _split(node)
    n_levels = node.graph.levels.shape[group]
    halves = []
    for first, last in ((0, cut), (cut, n_levels)):
        inside = [point for point in node.points if first <= point.at[group] < last]
        moved = [replace(point, at=_shifted(point.at, group, first)) for point in inside]
        halves.append((node.graph.within(group, first, last), moved))
    return halves


def _shifted(at: Integers, group: int, first: int) -> Integers:
    shifted = at.copy()
    shifted[group] -= first
    return shifted


def _split(node: Node) -> tuple[int, int]:
    """Group to split, and the first level of its upper half."""
    rivals = np.stack([point.at for point in node.points[:_RIVALS]])
    widths = node.graph.levels.plans(rivals)
    largest = np.array([levels[-1] for levels in node.graph.levels.widths])
    spread = np.ptp(widths, axis=0) / largest
    group = int(np.argmax(spread))
    if spread[group] == 0:  # rivals agree: split what has most levels
        group = int(np.argmax(node.graph.levels.shape))
        return group, node.graph.levels.shape[group] // 2
    low, high = int(rivals[:, group].min()), int(rivals[:, group].max())
    return group, min(max(int(rivals[:, group].mean()) + 1, low + 1), high)
