"""The exact mean over a simulated fleet, without touching every device for every model.

A kernel takes ``max(beta * compute, gamma * memory)`` on a device, so devices split at ``gamma / beta = compute /
memory``. With devices sorted by ``gamma / beta`` once and the sums of ``beta`` below and of ``gamma`` above every place
kept, the sum over all devices costs one binary search per kernel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.fleet.simulated.engine import KernelTimes, compute_to_memory


@dataclass(frozen=True)
class SortedDevices:
    """Devices sorted by ``gamma / beta``, with the sums that fleet means are looked up in.

    Attributes
    ----------
    ratio
        ``gamma / beta``, ascending, shape (n_devices,).
    beta_below
        Weighted sum of beta over the devices before each place, shape (n_devices + 1,).
    gamma_above
        Weighted sum of gamma over the devices from each place on, shape (n_devices + 1,).
    alpha
        Weighted sum of alpha.
    """

    ratio: Floats
    beta_below: Floats
    gamma_above: Floats
    alpha: float

    @classmethod
    def of(cls, alpha: Floats, beta: Floats, gamma: Floats, weights: Floats) -> SortedDevices:
        """Devices of these multipliers; ``weights`` are their shares of the fleet, shape (n_devices,)."""
        ratio = gamma / beta
        order = np.argsort(ratio)
        beta_below = np.zeros(len(ratio) + 1)
        np.cumsum((weights * beta)[order], out=beta_below[1:])
        gamma_above = np.zeros(len(ratio) + 1)
        np.cumsum((weights * gamma)[order[::-1]], out=gamma_above[1:])
        return cls(ratio[order], beta_below, gamma_above[::-1], float(weights @ alpha))

    def kernel_mean_ms(self, compute_ms: Floats, memory_ms: Floats) -> Floats:
        """Weighted sum over the devices of ``max(beta * compute, gamma * memory)``, elementwise, of any shape."""
        border = compute_to_memory(compute_ms, memory_ms)
        place = np.searchsorted(self.ratio, border.ravel(), side="right").reshape(border.shape)
        return np.asarray(compute_ms * self.beta_below[place] + memory_ms * self.gamma_above[place])

    def mean_ms(self, times: KernelTimes, launch_ms: float) -> Floats:
        """Weighted sum over the devices of the latency of plans, shape (n_plans,)."""
        n_kernels = times.compute_ms.shape[1]
        bound = self.kernel_mean_ms(times.compute_ms, times.memory_ms).sum(axis=1)
        return np.asarray(bound + n_kernels * launch_ms * self.alpha)


def weighted_percentile(latency_ms: Floats, percent: float, weights: Floats | None = None) -> Floats:
    """Percentile over devices of each column, shape (n_plans,), of latencies of shape (n_devices, n_plans).

    With weights it is the least latency that at least ``percent`` of the weight does not exceed.
    """
    if weights is None:
        return np.asarray(np.percentile(latency_ms, percent, axis=0))
    order = np.argsort(latency_ms, axis=0)
    reached = np.cumsum(weights[order], axis=0)
    place = np.argmax(reached >= percent / 100 * reached[-1] * (1 - 1e-12), axis=0)
    return np.asarray(np.take_along_axis(np.take_along_axis(latency_ms, order, 0), place[None], 0)[0])


def conditional_value_at_risk(latency_ms: Floats, level: float, weights: Floats | None = None) -> Floats:
    """Mean latency of the slowest ``1 - level`` of the fleet, shape (n_plans,), of latencies (n_devices, n_plans).

    A device on the border counts with the part that lies beyond it (Rockafellar and Uryasev, "Conditional value-at-risk
    for general loss distributions", 2002).

    Raises
    ------
    ValueError
        When the level is not in [0, 1).
    """
    if not 0 <= level < 1:
        raise ValueError(f"level must be in [0, 1), not {level}")
    n_devices = len(latency_ms)
    share = np.full(n_devices, 1 / n_devices) if weights is None else weights / weights.sum()
    order = np.argsort(-latency_ms, axis=0)
    sorted_share = share[order]
    before = np.cumsum(sorted_share, axis=0) - sorted_share
    counted = np.clip(1 - level - before, 0.0, sorted_share)
    return np.asarray((np.take_along_axis(latency_ms, order, 0) * counted).sum(axis=0) / (1 - level))
