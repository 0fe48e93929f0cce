"""Surrogates with boosted trees: the public recipe on kept shares, and trees on what a linear model leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hdapbench.arrays import Floats
from hdapbench.cost.kernels import KernelModel
from hdapbench.surrogate.base import Arrays, Surrogate
from hdapbench.surrogate.features import aggregates, kept_shares
from hdapbench.surrogate.linear import NonNegativeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.trees import Forests

N_FOLDS = 5
_FOREST = ("inputs", "thresholds", "leaves", "base")


@dataclass(frozen=True)
class RatioTrees(Surrogate):
    """100 boosted trees of depth 3 on the kept share of every group: the recipe of the public HDAP descriptions.

    Trees cannot extrapolate to where an optimiser goes; see docs/hdap.md.

    Attributes
    ----------
    forests
        One ensemble per cluster.
    """

    kind = "gbrt-on-ratios"

    forests: Forests

    @classmethod
    def fit(cls, measured: MeasuredPlans, *, seed: int = 0) -> Self:
        """Surrogate of measured plans."""
        forests = Forests.fit(kept_shares(measured.kernels, measured.widths), measured.latency_ms, seed=seed)
        return cls(measured.kernels, measured.weights, len(measured), forests)

    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters)."""
        return self.forests.predict(kept_shares(self.kernels, widths))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The trees."""
        return {name: getattr(self.forests, name) for name in _FOREST}

    @classmethod
    def from_arrays(cls, kernels: KernelModel, weights: Floats, n_plans: int, arrays: Arrays) -> Self:
        """Inverse of `arrays`."""
        return cls(kernels, weights, n_plans, Forests(**{name: arrays[name] for name in _FOREST}))


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

    kind = "nnls+gbrt"

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
        return cls(measured.kernels, measured.weights, len(measured), linear, forests)

    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters)."""
        correction = self.forests.predict(aggregates(self.kernels, widths, self.linear.tiling))
        return np.asarray(self.linear.predict(widths) * (1.0 + correction))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The linear part and the trees."""
        return self.linear.arrays() | {name: getattr(self.forests, name) for name in _FOREST}

    @classmethod
    def from_arrays(cls, kernels: KernelModel, weights: Floats, n_plans: int, arrays: Arrays) -> Self:
        """Inverse of `arrays`."""
        linear = NonNegativeSurrogate.from_arrays(kernels, weights, n_plans, arrays)
        return cls(kernels, weights, n_plans, linear, Forests(**{name: arrays[name] for name in _FOREST}))
