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
        bound = self.kernel_mean_ms(times.compute_ms, times.memory_ms).sum(axis=1)
        return np.asarray(bound + times.n_run * launch_ms * self.alpha)
