"""The one function that searches: an algorithm by name, within a number of evaluations."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import numpy as np

from hdapbench.arrays import Integers
from hdapbench.errors import SearchError
from hdapbench.search import cma_es, genetic, greedy, ncs, random
from hdapbench.search.exact import solve_exact, why_not_exact
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive, SearchResult, SearchSpace

Algorithm = Literal["exact", "genetic", "cma-es", "ncs", "ncs-refined", "greedy", "random"]
FALLBACK: Algorithm = "genetic"
"""What searches where the exact search cannot: the best heuristic of the study in docs/hdap.md."""

_HEURISTICS = {
    "genetic": genetic.search,
    "cma-es": cma_es.search,
    "ncs": ncs.search,
    "ncs-refined": ncs.search_refined,
    "greedy": greedy.search,
    "random": random.search,
}


def minimise(
    space: SearchSpace,
    *,
    start: Integers,
    n_evaluations: int,
    rng: np.random.Generator,
    algorithm: Algorithm = "genetic",
) -> SearchResult:
    """Best plan found; of all plans where a heuristic may value as many as there are.

    Parameters
    ----------
    start
        Plans to begin with, shape (n_plans, n_groups).
    n_evaluations
        Objective values that a heuristic may compute; the exact search is not counted by them.
    algorithm
        ``exact``: Lagrangian relaxation and elimination over the layer graph, with a bound; where objective or
        importance are no sums of tables, or the graph is too wide, ``genetic`` searches and the result's ``reason``
        says why. ``genetic``: integer genetic algorithm with local refinement. ``cma-es``: covariance matrix
        adaptation. ``ncs``: negatively correlated search (Tang, Yang, Yao 2016). ``ncs-refined``: with sparse moves
        between repaired plans, and local refinement. ``greedy``: latency knapsack with local refinement. ``random``:
        the baseline.

    Raises
    ------
    SearchError
        When there is no such algorithm, nothing to begin with, or nothing may be evaluated.
    MissingExtraError
        When the algorithm's package is not installed.
    TargetUnreachableError
        When no plan satisfied the constraints.
    """
    if algorithm not in get_args(Algorithm):
        raise SearchError(f"unknown search algorithm '{algorithm}'; known: {', '.join(get_args(Algorithm))}")
    if n_evaluations < 1:
        raise SearchError(f"a search needs at least one evaluation, {n_evaluations} were given")
    start = np.atleast_2d(start)
    n_groups = len(space.cost.sizes)
    if start.ndim != 2 or start.shape[1] != n_groups or not len(start):
        raise SearchError(f"start has the shape {start.shape}; it must hold plans of {n_groups} widths each")
    reason = ""
    if algorithm == "exact":
        obstacle = why_not_exact(space)
        if obstacle is None:
            return solve_exact(space, start=start)
        reason = f"{obstacle}; searched by '{FALLBACK}' instead"
        algorithm = FALLBACK
    archive, begin = Archive(space, limit=n_evaluations), repaired(space, start)
    every = space.every_plan(n_evaluations)
    if every is None:
        _HEURISTICS[algorithm](archive, begin, rng)
    else:  # a heuristic would value the same few plans again and again
        archive.evaluate(every)
    return replace(archive.result(), reason=reason)
