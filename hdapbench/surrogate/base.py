"""What every latency surrogate answers: measured plans -> predictions for any plan, on all clusters at once.

Surrogates differ in what they see and how they learn; `hdapbench.surrogate.fit.fit_surrogate` fits them all. Those that
are sums over kernels give each kernel's cost for any channels, which is what an exact search needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats
from hdapbench.cost.kernels import KernelModel
from hdapbench.surrogate.measured import MeasuredPlans


@dataclass(frozen=True)
class Surrogate(ABC):
    """A fitted model of latency: one regression per cluster behind one call.

    Attributes
    ----------
    kernels
        Fused kernels of the model that plans are of.
    weights
        Share of the fleet in each cluster, shape (n_clusters,), summing to one.
    """

    name: ClassVar[str]
    """What specs and reports call it."""

    kernels: KernelModel
    weights: Floats

    @classmethod
    @abstractmethod
    def fit(cls, measured: MeasuredPlans, *, seed: int = 0) -> Self:
        """Surrogate fitted to measured plans.

        Raises
        ------
        SurrogateError
            When there are fewer plans than it needs.
        """

    @abstractmethod
    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters), of widths of shape (n_plans, n_groups)."""

    def predict_average(self, widths: ArrayLike) -> Floats:
        """Average clustered latency in ms, shape (n_plans,)."""
        return np.asarray(self.predict(widths) @ self.weights)


@dataclass(frozen=True)
class AdditiveSurrogate(Surrogate):
    """A surrogate whose average is a constant plus one cost per kernel, a function of that kernel's channels alone."""

    @property
    @abstractmethod
    def constant_ms(self) -> float:
        """What the average clustered latency does not owe to any kernel's channels, in ms."""

    @abstractmethod
    def kernel_cost_ms(self, number: int, pairs: ArrayLike) -> Floats:
        """Cost in ms of one kernel, averaged over the clusters, shape (n_pairs,).

        Summed over all kernels, with ``constant_ms``, it is ``predict_average``.

        Parameters
        ----------
        number
            Position in ``kernels``.
        pairs
            Consumed and produced channels, shape (n_pairs, 2).
        """
