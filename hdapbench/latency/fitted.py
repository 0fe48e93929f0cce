"""Latency of any plan, predicted from measured ones: plans to measure, and one surrogate per measured device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdapbench.cost.model import CostModel
from hdapbench.cost.target import repair, widths_at_share
from hdapbench.latency.kernels import KernelModel
from hdapbench.latency.surrogate import Kind, Surrogate, make_surrogate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def spread_plans(cost: CostModel, target_flops: int, n_plans: int, rng: np.random.Generator) -> Integers:
    """Widths spread widely around a target, shape (n_plans, n_groups): Latin hypercube shares, scaled to 0.7x to 1.5x.

    The last one is the dense model.
    """
    n_random, n_groups = n_plans - 1, len(cost.sizes)
    strata = np.argsort(rng.random((n_random, n_groups)), axis=0)
    shares = 0.1 + 0.9 * (strata + rng.random((n_random, n_groups))) / max(n_random, 1)
    plans = []
    for row, scale in zip(shares, rng.uniform(0.7, 1.5, n_random), strict=True):
        limit = max(int(scale * target_flops), cost.minimum_flops)
        plans.append(repair(cost, widths_at_share(cost, row), limit)[0])
    return np.stack([*plans, cost.sizes])


@dataclass(frozen=True)
class FittedLatency:
    """Surrogates of measured devices, averaged with weights.

    Attributes
    ----------
    kernels
        Where features come from.
    surrogates, weights
        One per device that was measured; weights sum to one.
    """

    kernels: KernelModel
    surrogates: tuple[Surrogate, ...]
    weights: Floats

    @classmethod
    def fit(
        cls, kernels: KernelModel, widths: Integers, latency_ms: Floats, *, weights: Floats, kind: Kind = "ridge"
    ) -> FittedLatency:
        """Surrogates fitted to measured plans.

        Parameters
        ----------
        widths
            Shape (n_plans, n_groups).
        latency_ms
            Latency in ms on each device, shape (n_plans, n_devices).
        weights
            Weight of each device, shape (n_devices,), summing to one.
        """
        features = kernels.features(widths)
        surrogates = []
        for column in latency_ms.T:
            surrogate = make_surrogate(kind)
            surrogate.fit(features, column)
            surrogates.append(surrogate)
        return cls(kernels, tuple(surrogates), np.asarray(weights, dtype=np.float64))

    def predict(self, widths: Integers) -> Floats:
        """Predicted weighted latency in ms of plans, shape (n_plans,); widths of shape (n_plans, n_groups)."""
        features = self.kernels.features(widths)
        return np.stack([surrogate.predict(features) for surrogate in self.surrogates], axis=1) @ self.weights
