"""Surrogates with boosted trees: the public recipe on kept shares, and trees on what a linear model leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.features import aggregates, kept_shares
from hdapbench.surrogate.linear import NonNegativeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.trees import Forests

N_FOLDS = 5


@dataclass(frozen=True)
class KeptShareTrees(Surrogate):
    """100 boosted trees of depth 3 on the kept share of every group: the recipe of the public HDAP descriptions.

    Trees cannot extrapolate to where an optimiser goes; see docs/hdap.md.

    Attributes
    ----------
    forests
        One ensemble per cluster.
    """

    name = "gbrt-on-ratios"

    forests: Forests

    @classmethod
    def fit(cls, measured: MeasuredPlans, *, seed: int = 0) -> Self:
        """Surrogate of measured plans."""
        forests = Forests.fit(kept_shares(measured.kernels, measured.widths), measured.latency_ms, seed=seed)
        return cls(measured.kernels, measured.weights, forests)

    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters)."""
        return self.forests.predict(kept_shares(self.kernels, widths))


@dataclass(frozen=True)
class ResidualTrees(Surrogate):
    """A non-negative linear surrogate times one plus what boosted trees make of its relative residuals.

    Attributes
    ----------
    linear
        The linear part: what a search over kernel costs can use.
    forests
        Relative residuals from kept shares and totals; one ensemble per cluster.
    """

    name = "nnls+gbrt"

    linear: NonNegativeSurrogate
    forests: Forests

    @classmethod
    def fit(cls, measured: MeasuredPlans, *, seed: int = 0) -> Self:
        """Surrogate of measured plans; the trees learn residuals of plans that the linear part has not seen."""
        linear = NonNegativeSurrogate.fit(measured)
        fold = np.arange(len(measured)) % N_FOLDS
        residual = np.empty_like(measured.latency_ms)
        for number in range(N_FOLDS):
            seen, unseen = measured.subset(fold != number), measured.subset(fold == number)
            if len(unseen):
                predicted = NonNegativeSurrogate.fit_at(seen, linear.strength).predict(unseen.widths)
                residual[fold == number] = unseen.latency_ms / predicted - 1.0
        forests = Forests.fit(aggregates(measured.kernels, measured.widths, measured.tiling), residual, seed=seed)
        return cls(measured.kernels, measured.weights, linear, forests)

    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters)."""
        correction = self.forests.predict(aggregates(self.kernels, widths, self.linear.tiling))
        return np.asarray(self.linear.predict(widths) * (1.0 + correction))
