"""Noise-free latencies of simulated boards and fleets as objectives that an exact search can take apart."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.fleet.simulated.profile import SkuProfile
from hdapbench.search.objective import TableObjective, kernel_alone, kernel_shape


class FleetMean(TableObjective):
    """Noise-free mean latency in ms over all devices of a simulated fleet, for any plan.

    Parameters
    ----------
    fleet
        The fleet; however many devices it has, a kernel costs a binary search.
    kernels
        Fused kernels of the model.
    """

    def __init__(self, fleet: SimulatedFleet, kernels: KernelModel) -> None:
        self.kernels, self._fleet = kernels, fleet
        self.constant = len(kernels) * fleet.profile.launch_us / 1000 * float(np.mean(fleet.states.alpha))
        self._stacks = np.flatnonzero(np.bincount(fleet.states.stack_index, minlength=1)).tolist()

    def kernel_cost(self, number: int, in_channels: Integers, out_channels: Integers) -> Floats:
        """Mean time in ms of one kernel, without its launch."""
        alone, pairs = kernel_alone(self.kernels, number), np.stack([in_channels, out_channels], axis=1)
        times = {}
        for stack in self._stacks:
            found = kernel_times(
                alone, pairs, self._fleet.profile, self._fleet.spec.precision, stack=self._fleet.states.stacks[stack]
            )
            times[stack] = (found.compute_ms[:, 0], found.memory_ms[:, 0])
        return self._fleet.kernel_mean_ms(times)

    def table_key(self, number: int) -> Hashable:
        """Shape of the kernel."""
        return kernel_shape(self.kernels, number)


class NominalBoard(TableObjective):
    """Latency in ms on one board as its profile describes it.

    Parameters
    ----------
    kernels
        Fused kernels of the model.
    profile
        The board.
    precision
        ``fp32``, ``fp16`` or ``tc16``.
    """

    def __init__(self, kernels: KernelModel, profile: SkuProfile, precision: str) -> None:
        self.kernels, self._profile, self._precision = kernels, profile, precision
        self.constant = len(kernels) * profile.launch_us / 1000

    def kernel_cost(self, number: int, in_channels: Integers, out_channels: Integers) -> Floats:
        """Roofline time in ms of one kernel."""
        alone = kernel_alone(self.kernels, number)
        times = kernel_times(alone, np.stack([in_channels, out_channels], axis=1), self._profile, self._precision)
        return np.maximum(times.compute_ms, times.memory_ms)[:, 0]

    def table_key(self, number: int) -> Hashable:
        """Shape of the kernel."""
        return kernel_shape(self.kernels, number)
