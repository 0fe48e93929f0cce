"""A Gaussian process over kernels: a non-negative linear trend, and a smooth relative deviation of every kernel shape.

``latency = trend + sum over kernels of deviation(channels)``. Deviations of kernels of one shape are one function; its
prior standard deviation is a share of what the trend says the kernel costs, and it varies smoothly with the logarithms
of consumed and produced channels and of how much the tiles pad. The posterior mean is again a sum over kernels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers, parts_of
from hdapbench.cost.kernels import MATRIX_KINDS
from hdapbench.surrogate.base import AdditiveSurrogate
from hdapbench.surrogate.linear import NonNegativeSurrogate
from hdapbench.surrogate.measured import MeasuredPlans

CHANNEL_SCALE = 0.8
"""Deviations at channel counts whose logarithms differ by this are correlated by ``exp(-1/2)``."""
PADDING_SCALE = 0.3
"""The same for the logarithm of padded over real channels."""
FLOOR_SHARE = 0.3
"""A kernel's deviation also scales with this share of the constant, spread over all kernels: the trend may give a shape
nothing at all."""
DEVIATIONS = (0.03, 0.06, 0.12, 0.25)
NOISES = (0.003, 0.006, 0.012, 0.025)
"""Relative standard deviations tried; the pair of largest marginal likelihood is chosen."""
_PLANS_AT_A_TIME = 256


class _Points(NamedTuple):
    """Kernels of one shape in plans: where they are, and what they may deviate."""

    inputs: Floats  # (n_plans, n_kernels, n_inputs)
    amplitude: Floats  # (n_plans, n_kernels), ms


@dataclass(frozen=True)
class GaussianProcess(AdditiveSurrogate):
    """Posterior mean of the process described above, per cluster; one covariance for all clusters.

    Attributes
    ----------
    trend
        The linear part.
    widths
        Plans it was fitted to, shape (n_plans, n_groups).
    pull
        Weight of each of them in a prediction, shape (n_plans, n_clusters).
    """

    name = "gp"

    trend: NonNegativeSurrogate
    widths: Integers
    pull: Floats

    @classmethod
    def fit(cls, measured: MeasuredPlans, *, seed: int = 0) -> Self:  # noqa: ARG003 - nothing here is random
        """Surrogate of measured plans."""
        trend = NonNegativeSurrogate.fit(measured)
        points = _points(trend, measured.widths)
        unit_covariance = _covariance(points, points)
        average = measured.average_ms
        residual = measured.latency_ms - trend.predict(measured.widths)
        best, chosen = -np.inf, (DEVIATIONS[0], NOISES[-1])
        for deviation in DEVIATIONS:
            for noise in NOISES:
                likelihood = _log_likelihood(
                    deviation**2 * unit_covariance + np.diag((noise * average) ** 2), residual @ measured.weights
                )
                if likelihood > best:
                    best, chosen = likelihood, (deviation, noise)
        deviation, noise = chosen
        covariance = deviation**2 * unit_covariance + np.diag((noise * average) ** 2)
        return cls(
            kernels=measured.kernels,
            weights=measured.weights,
            trend=trend,
            widths=measured.widths,
            pull=np.asarray(deviation**2 * np.linalg.solve(covariance, residual), dtype=np.float64),
        )

    @property
    def constant_ms(self) -> float:
        """The trend's constant."""
        return self.trend.constant_ms

    def predict(self, widths: ArrayLike) -> Floats:
        """Latency in ms on every cluster, shape (n_plans, n_clusters)."""
        return self.trend.predict(widths) + self._deviations(widths, self.pull)

    def predict_average(self, widths: ArrayLike) -> Floats:
        """Average clustered latency in ms, shape (n_plans,)."""
        return self.trend.predict_average(widths) + self._deviations(widths, self.pull @ self.weights)

    def kernel_cost_ms(self, number: int, pairs: ArrayLike) -> Floats:
        """Cost in ms of one kernel, averaged over the clusters, shape (n_pairs,)."""
        channels = np.asarray(pairs, dtype=float).reshape(-1, 2)
        cost = self.trend.kernel_cost_ms(number, channels)
        shape = int(self.trend.features.shape_of[number])
        if shape not in self._points:
            return cost
        inputs = _inputs(self.trend, np.full(len(channels), number), channels[:, 0], channels[:, 1])
        points = _Points(inputs[:, None], (cost + _floor(self.trend))[:, None])
        pull = self.pull @ self.weights
        parts = zip(*(parts_of(values, _PLANS_AT_A_TIME) for values in points), strict=True)
        deviations = [_shape_covariance(_Points(*part), self._points[shape]) @ pull for part in parts]
        return np.asarray(cost + np.concatenate(deviations))

    def _deviations(self, widths: ArrayLike, pull: Floats) -> Floats:
        parts = parts_of(np.atleast_2d(np.asarray(widths, dtype=np.int64)), _PLANS_AT_A_TIME)
        return np.concatenate([_covariance(_points(self.trend, plans), self._points) @ pull for plans in parts])

    @cached_property
    def _points(self) -> dict[int, _Points]:
        return _points(self.trend, self.widths)


def _points(trend: NonNegativeSurrogate, widths: ArrayLike) -> dict[int, _Points]:
    """Shape of kernels -> those kernels in plans, for shapes that may deviate."""
    in_channels, out_channels = (counts.astype(float) for counts in trend.kernels.channels(widths))
    cost = trend.average_kernel_costs_ms(widths) + _floor(trend)
    shape_of = trend.features.shape_of
    found = {}
    for shape in range(int(shape_of.max()) + 1):
        members = np.flatnonzero(shape_of == shape)
        if trend.kernels.kernels[members[0]].kind in MATRIX_KINDS:
            inputs = _inputs(trend, members, in_channels[:, members], out_channels[:, members])
            found[shape] = _Points(inputs, cost[:, members])
    return found


def _inputs(trend: NonNegativeSurrogate, kernels: Integers, in_channels: Floats, out_channels: Floats) -> Floats:
    """Scaled inputs of the covariance for channel counts of any shape, shape (..., n_inputs)."""
    depthwise = trend.kernels.table["kind"][kernels] == "dw"
    columns = [np.log(np.where(depthwise, 1.0, in_channels)) / CHANNEL_SCALE, np.log(out_channels) / CHANNEL_SCALE]
    tiles = (*trend.tiling.tiles, *((trend.tiling.block,) if trend.tiling.block else ()))
    columns += [np.log(np.ceil(out_channels / tile) * tile / out_channels) / PADDING_SCALE for tile in tiles]
    return np.stack(columns, axis=-1)


def _floor(trend: NonNegativeSurrogate) -> float:
    return FLOOR_SHARE * trend.constant_ms / len(trend.kernels)


def _covariance(first: dict[int, _Points], second: dict[int, _Points]) -> Floats:
    """Covariance of two sets of plans for a relative deviation of one, shape (n_first, n_second)."""
    sizes = (len(next(iter(points.values())).amplitude) if points else 0 for points in (first, second))
    total = np.zeros(tuple(sizes))
    for shape, points in first.items():
        total += _shape_covariance(points, second[shape])
    return total


def _shape_covariance(first: _Points, second: _Points) -> Floats:
    """What kernels of one shape add to the covariance, shape (n_first, n_second)."""
    n_inputs = first.inputs.shape[-1]
    left, right = first.inputs.reshape(-1, n_inputs), second.inputs.reshape(-1, n_inputs)
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    similar = np.exp(-0.5 * np.maximum(squared, 0.0))
    similar *= first.amplitude.reshape(-1)[:, None]
    similar *= second.amplitude.reshape(-1)[None]
    return np.asarray(similar.reshape(*first.amplitude.shape, *second.amplitude.shape).sum(axis=(1, 3)))


def _log_likelihood(covariance: Floats, residual: Floats) -> float:
    """Log marginal likelihood of a residual, up to a constant."""
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, residual)
    return float(-0.5 * white @ white - np.log(np.diag(factor)).sum())
