"""The kinds of latency surrogates, by name."""

from __future__ import annotations

from typing import Literal

from hdapbench.errors import SurrogateError
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.boosted import RatioTrees, ResidualTrees
from hdapbench.surrogate.gaussian_process import GaussianProcess
from hdapbench.surrogate.linear import NonNegativeSurrogate, RidgeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans

Kind = Literal["nnls", "ridge", "gp", "nnls+gbrt", "gbrt-on-ratios"]

KINDS: dict[str, type[Surrogate]] = {
    kind.kind: kind for kind in (NonNegativeSurrogate, RidgeSurrogate, GaussianProcess, ResidualTrees, RatioTrees)
}
LEAST_PLANS = 5
"""Fewer measured plans say nothing that could be cross-validated."""


def fit_surrogate(kind: Kind, measured: MeasuredPlans, *, seed: int = 0) -> Surrogate:
    """Surrogate of a kind, fitted to measured plans.

    Parameters
    ----------
    kind
        ``nnls``, ``ridge``, ``gp``: features of kernels with non-negative least squares, ridge regression or a Gaussian
        process; sums over kernels, all of them. ``nnls+gbrt``: boosted trees on what ``nnls`` leaves.
        ``gbrt-on-ratios``: the public recipe.
    seed
        Of boosted trees.

    Raises
    ------
    SurrogateError
        When there are fewer than five plans, or the kind is unknown.
    """
    if kind not in KINDS:
        raise SurrogateError(f"unknown surrogate '{kind}'; known: {', '.join(KINDS)}")
    if len(measured) < LEAST_PLANS:
        raise SurrogateError(f"a surrogate needs at least {LEAST_PLANS} measured plans, got {len(measured)}")
    return KINDS[kind].fit(measured, seed=seed)
