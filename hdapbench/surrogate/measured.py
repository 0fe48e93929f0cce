"""Measured plans: what surrogates are fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.tiling import GPU_TILES, Tiling
from hdapbench.errors import SurrogateError


@dataclass(frozen=True)
class MeasuredPlans:
    """Plans and their latencies on the devices that stand for clusters.

    Attributes
    ----------
    kernels
        Fused kernels of the model that the plans are of.
    widths
        Kept channels per group, shape (n_plans, n_groups).
    latency_ms
        Shape (n_plans, n_clusters).
    weights
        Share of the fleet in each cluster, shape (n_clusters,); they are normalised to sum to one.
    tiling
        What the fleet's runtimes pad channels to: which features surrogates look at.

    Raises
    ------
    SurrogateError
        When shapes do not agree, or a latency is not finite and positive.
    """

    kernels: KernelModel
    widths: Integers
    latency_ms: Floats
    weights: Floats
    tiling: Tiling = GPU_TILES

    def __post_init__(self) -> None:
        widths = np.atleast_2d(np.asarray(self.widths, dtype=np.int64))
        latency = np.asarray(self.latency_ms, dtype=np.float64)
        weights = np.asarray(self.weights, dtype=np.float64)
        wanted = (len(widths), len(weights))
        if latency.shape != wanted or widths.shape[1] != len(self.kernels.groups):
            raise SurrogateError(
                f"{len(widths)} plans of {widths.shape[1]} widths on {len(weights)} clusters need latencies of shape "
                f"{wanted} and a model of as many groups; got {latency.shape} and {len(self.kernels.groups)} groups"
            )
        if not (np.isfinite(latency) & (latency > 0)).all():
            raise SurrogateError("measured latencies must be finite and positive")
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
            raise SurrogateError("weights of clusters must be finite, not negative and not all zero")
        if abs(weights.sum() - 1.0) > 1e-12:  # dividing again and again would change the last digit
            weights = weights / weights.sum()
        for name, value in (("widths", widths), ("latency_ms", latency), ("weights", weights)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.widths)

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.weights)

    @property
    def average_ms(self) -> Floats:
        """Average clustered latency of each plan, shape (n_plans,)."""
        return np.asarray(self.latency_ms @ self.weights)

    def subset(self, rows: ArrayLike) -> MeasuredPlans:
        """The plans at some positions, or where a mask is true; positions may repeat."""
        picked = np.asarray(rows)
        return replace(self, widths=self.widths[picked], latency_ms=self.latency_ms[picked])

    def joined(self, widths: ArrayLike, latency_ms: ArrayLike) -> MeasuredPlans:
        """These plans and others of the same clusters."""
        more = np.atleast_2d(np.asarray(widths, dtype=np.int64))
        latency = np.asarray(latency_ms, dtype=np.float64).reshape(len(more), self.n_clusters)
        return replace(
            self,
            widths=np.concatenate([self.widths, more]),
            latency_ms=np.concatenate([self.latency_ms, latency]),
        )

    def averaged(self) -> MeasuredPlans:
        """The same plans on one cluster that stands for the fleet: cheap to fit when clusters do not matter."""
        return replace(self, latency_ms=self.average_ms[:, None], weights=np.ones(1))
