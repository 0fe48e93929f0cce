"""Covariance matrix adaptation (Hansen 2016, "The CMA evolution strategy: a tutorial"), by the library pycma.

The variables are logarithms of kept shares, where a repair, one factor on all widths, is a shift.
"""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import MissingExtraError
from hdapbench.search.repair import repaired
from hdapbench.search.space import Archive

SIGMA = 0.3
LOWEST_SHARE = 0.02
PENALTY = 10.0
"""Weight of constraint violations, relative to the start's value."""


def search(archive: Archive, start: Integers, rng: np.random.Generator) -> None:
    """Spend an archive's evaluations; a strategy that has converged starts again from the best plan, wider.

    Plans are compared by value plus penalised violation.

    Raises
    ------
    MissingExtraError
        When cma is not installed.
    """
    try:
        import cma
    except ImportError as error:
        raise MissingExtraError("cma", "cma", "the searcher cma-es") from error

    space = archive.space
    sizes = space.cost.sizes
    values, _ = archive.evaluate(start)
    scale = abs(float(values.min())) or 1.0
    origin, sigma = np.log(start[int(np.argmin(values))] / sizes), SIGMA

    def standard_normal(*shape: int) -> Floats:
        return rng.standard_normal(shape)

    options = {"verbose": -9, "seed": np.nan, "randn": standard_normal, "bounds": [np.log(LOWEST_SHARE), 0.0]}
    while not archive.exhausted:
        strategy = cma.CMAEvolutionStrategy(np.clip(origin, np.log(LOWEST_SHARE), 0.0), sigma, options)
        while not archive.exhausted and not strategy.stop():
            asked = strategy.ask()
            plans = repaired(space, np.exp(np.stack(asked)) * sizes)
            values, violation = archive.evaluate(plans)
            strategy.tell(asked, np.minimum(values + PENALTY * scale * violation, 1e300).tolist())
        origin = np.log(archive.best / sizes) if archive.found else np.asarray(strategy.result.xfavorite)
        sigma = 2 * SIGMA
