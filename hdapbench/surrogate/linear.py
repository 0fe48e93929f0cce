"""Surrogates that are linear in the features of kernels: ridge and non-negative least squares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, parts_of
from hdapbench.cost.tiling import Tiling
from hdapbench.surrogate.base import AdditiveSurrogate
from hdapbench.surrogate.features import KernelFeatures
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.regression import LinearFit, fit_non_negative, fit_ridge

_PLANS_AT_A_TIME = 2048


@dataclass(frozen=True)
class LinearSurrogate(AdditiveSurrogate):
    """Linear in the features of kernels.

    Attributes
    ----------
    tiling
        What the features pad channels to.
    coefficients
        Weight of each column in ms, shape (n_columns, n_clusters).
    constants
        Shape (n_clusters,), in ms.
    strength
        The penalty that cross-validation chose.
    """

    tiling: Tiling
    coefficients: Floats
    constants: Floats
    strength: float

    @classmethod
    def fit(cls, measured: MeasuredPlans, *, seed: int = 0) -> Self:  # noqa: ARG003 - nothing here is random
        """Surrogate of measured plans."""
        features = KernelFeatures(measured.kernels, measured.tiling)
        solved = cls._regress(features, measured)
        return cls._of(measured, features, solved)

    @classmethod
    def _of(cls, measured: MeasuredPlans, features: KernelFeatures, solved: LinearFit) -> Self:
        return cls(
            kernels=measured.kernels,
            weights=measured.weights,
            tiling=features.tiling,
            coefficients=solved.coefficients,
            constants=solved.constants,
            strength=solved.strength,
        )

    @classmethod
    def _regress(cls, features: KernelFeatures, measured: MeasuredPlans) -> LinearFit:
        raise NotImplementedError

    @cached_property
    def features(self) -> KernelFeatures:
        """What it is linear in."""
        return KernelFeatures(self.kernels, self.tiling)

    @property
    def constant_ms(self) -> float:
        """Weighted mean of the constants."""
        return float(self.constants @ self.weights)

    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters)."""
        return self._sum(widths, self._per_kernel) + self.constants

    def predict_average(self, widths: ArrayLike) -> Floats:
        """Average clustered latency in ms, shape (n_plans,)."""
        return self._sum(widths, self._average_per_kernel) + self.constant_ms

    def kernel_cost_ms(self, number: int, pairs: ArrayLike) -> Floats:
        """Cost in ms of one kernel, averaged over the clusters, shape (n_pairs,)."""
        return np.asarray(self._average_per_kernel[:, number] @ self.features.pair_terms(number, pairs))

    def average_kernel_costs_ms(self, widths: ArrayLike) -> Floats:
        """Cost in ms of every kernel in plans, averaged over the clusters, shape (n_plans, n_kernels)."""
        return np.asarray((self.features.terms(widths) * self._average_per_kernel[:, None]).sum(axis=0))

    def _sum(self, widths: ArrayLike, per_kernel: Floats) -> Floats:
        parts = parts_of(np.atleast_2d(np.asarray(widths)), _PLANS_AT_A_TIME)
        return np.concatenate([np.tensordot(self.features.terms(p), per_kernel, ([0, 2], [0, 1])) for p in parts])

    @cached_property
    def _per_kernel(self) -> Floats:
        """Weights of terms, shape (n_terms, n_kernels, n_clusters)."""
        return self.features.per_kernel(self.coefficients)

    @cached_property
    def _average_per_kernel(self) -> Floats:
        """Weights of terms averaged over the clusters, shape (n_terms, n_kernels)."""
        return np.asarray(self._per_kernel @ self.weights)


class RidgeSurrogate(LinearSurrogate):
    """Ridge regression on features of kernels."""

    name = "ridge"

    @classmethod
    def _regress(cls, features: KernelFeatures, measured: MeasuredPlans) -> LinearFit:
        columns = features.columns(measured.widths)
        return fit_ridge(columns, measured.latency_ms, measured.weights, family=features.column_family)


class NonNegativeSurrogate(LinearSurrogate):
    """Non-negative least squares on features of kernels: no kernel becomes faster by more work."""

    name = "nnls"

    @classmethod
    def fit_at(cls, measured: MeasuredPlans, strength: float) -> Self:
        """Surrogate with a given strength of the penalty: a refit that need not choose it again."""
        features = KernelFeatures(measured.kernels, measured.tiling)
        return cls._of(measured, features, cls._regress(features, measured, strength))

    @classmethod
    def _regress(cls, features: KernelFeatures, measured: MeasuredPlans, strength: float | None = None) -> LinearFit:
        columns = features.columns(measured.widths)
        family = features.column_family
        return fit_non_negative(columns, measured.latency_ms, measured.weights, family=family, strength=strength)
