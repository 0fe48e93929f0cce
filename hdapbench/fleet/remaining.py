"""Remaining: a fleet without the devices that were lost before it could be clustered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import DeviceLostError, Fleet, Workloads
from hdapbench.fleet.noise import Noise


class Remaining(Fleet):
    """Some devices of a fleet, at positions of their own.

    Parameters
    ----------
    whole
        The fleet.
    device_ids
        Names of those that remain, in the order of the fleet.
    """

    def __init__(self, whole: Fleet, device_ids: Sequence[str]) -> None:
        self.whole, self.name, self.source, self.tiling = whole, whole.name, whole.source, whole.tiling
        left = set(device_ids)
        self._kept = np.array([place for place, name in enumerate(whole.device_ids) if name in left], dtype=np.int64)
        self.device_ids = tuple(whole.device_ids[place] for place in self._kept.tolist())
        if whole.weights is not None:
            self.weights = whole.weights[self._kept] / whole.weights[self._kept].sum()

    def describe(self) -> dict[str, str | int | float]:
        """What the fleet says, and how many devices remain."""
        return self.whole.describe() | {"n_remaining": self.n_devices}

    def describe_devices(self) -> dict[str, Any]:
        """What the fleet knows of all its devices."""
        return self.whole.describe_devices()

    def close(self) -> None:
        """Close the fleet."""
        self.whole.close()

    @property
    def plans(self) -> tuple[str, ...] | None:
        """As the fleet's."""
        return self.whole.plans

    def bound_shares(self, kernels: KernelModel, widths: Integers) -> Floats | None:
        """As the fleet's."""
        return self.whole.bound_shares(kernels, widths)

    def true_latency_ms(self, workloads: Workloads, devices: Integers | None = None) -> Floats | None:
        """The fleet's, of the devices that remain."""
        return self.whole.true_latency_ms(workloads, self._kept if devices is None else self._kept[devices])

    def noise(self, workloads: Workloads, devices: Integers, *, runs: int) -> Noise | None:
        """As the fleet's."""
        return self.whole.noise(workloads, self._kept[devices], runs=runs)

    @property
    def typical_noise(self) -> float | None:
        """As the fleet's."""
        return self.whole.typical_noise

    def sample_nominal(self, workloads: Workloads, *, runs: int, seed: int) -> Floats | None:
        """As the fleet's."""
        return self.whole.sample_nominal(workloads, runs=runs, seed=seed)

    def sample(self, workloads: Workloads, devices: Integers, *, runs: int, seed: int) -> Floats:
        """The fleet's, of the devices at these positions."""
        try:
            return self.whole.sample(workloads, self._kept[devices], runs=runs, seed=seed)
        except DeviceLostError as error:
            raise DeviceLostError(int(np.searchsorted(self._kept, error.device)), str(error)) from error


def remaining(fleet: Fleet, device_ids: Sequence[str]) -> Fleet:
    """The fleet, or where some devices are missing from ``device_ids`` what is left of it."""
    missing = len(device_ids) < fleet.n_devices and set(device_ids) < set(fleet.device_ids)
    return Remaining(fleet, device_ids) if missing else fleet
