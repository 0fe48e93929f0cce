"""Latency surrogates by name, and the one function that fits them."""

from __future__ import annotations

from typing import Literal

from hdapbench.errors import SurrogateError
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.boosted import KeptShareTrees, ResidualTrees
from hdapbench.surrogate.gaussian_process import GaussianProcess
from hdapbench.surrogate.linear import NonNegativeSurrogate, RidgeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans

SurrogateName = Literal["nnls", "ridge", "gp", "nnls+gbrt", "gbrt-on-ratios"]

SURROGATES: dict[str, type[Surrogate]] = {
    each.name: each for each in (NonNegativeSurrogate, RidgeSurrogate, GaussianProcess, ResidualTrees, KeptShareTrees)
}
LEAST_PLANS = 5
"""Fewer measured plans say nothing that could be cross-validated."""


def fit_surrogate(name: SurrogateName, measured: MeasuredPlans, *, seed: int = 0) -> Surrogate:
    """Surrogate of a name, fitted to measured plans.

    Parameters
    ----------
    name
        ``nnls``, ``ridge``, ``gp``: features of kernels with non-negative least squares, ridge regression or a Gaussian
        process; sums over kernels, all of them. ``nnls+gbrt``: boosted trees on what ``nnls`` leaves.
        ``gbrt-on-ratios``: the public recipe.
    seed
        Seed of boosted trees; the others draw nothing.

    Raises
    ------
    SurrogateError
        When there are fewer than five plans, or the name is unknown.
    """
    if name not in SURROGATES:
        raise SurrogateError(f"unknown surrogate '{name}'; known: {', '.join(SURROGATES)}")
    if len(measured) < LEAST_PLANS:
        raise SurrogateError(f"a surrogate needs at least {LEAST_PLANS} measured plans, got {len(measured)}")
    return SURROGATES[name].fit(measured, seed=seed)
