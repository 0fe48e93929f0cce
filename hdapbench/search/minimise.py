"""The one function that searches: an algorithm by name, within a number of evaluations."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hdapbench.search import genetic, ncs
from hdapbench.search.random import search_randomly
from hdapbench.search.space import Archive, Integers, SearchResult, SearchSpace

Algorithm = Literal["genetic", "ncs", "random"]


def minimise(
    space: SearchSpace,
    *,
    start: Integers,
    n_evaluations: int,
    rng: np.random.Generator,
    algorithm: Algorithm = "genetic",
) -> SearchResult:
    """Best plan found within a number of objective values.

    Parameters
    ----------
    start
        Plans to begin with, shape (n_plans, n_groups).
    algorithm
        ``genetic``: integer genetic algorithm with local refinement. ``ncs``: negatively correlated search (Tang, Yang,
        Yao 2016). ``random``: the baseline.

    Raises
    ------
    TargetUnreachableError
        When no plan satisfied the constraints.
    """
    archive = Archive(space, limit=n_evaluations)
    first = space.repaired(np.atleast_2d(start))
    if algorithm == "genetic":
        genetic.search(archive, first, rng)
    elif algorithm == "ncs":
        ncs.search(archive, first, rng)
    else:
        search_randomly(archive, first, rng)
    return archive.result()
