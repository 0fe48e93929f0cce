"""Weights of devices: the share of the fleet that each stands for."""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.errors import FleetError


def device_shares(n_devices: int, weights: Floats | None = None) -> Floats:
    """Share of the fleet of each device, shape (n_devices,), summing to one; without weights all alike.

    Weights of any sum are taken in proportion.

    Raises
    ------
    FleetError
        When there are no devices, or the weights are not one finite positive number for each.
    """
    if n_devices == 0:
        raise FleetError("an empty fleet has no average and cannot be clustered")
    if weights is None:
        return np.full(n_devices, 1 / n_devices)
    weights = np.asarray(weights, dtype=float)
    if weights.shape != (n_devices,):
        raise FleetError(f"expected one weight for each of {n_devices} devices, got shape {weights.shape}")
    usable = np.isfinite(weights) & (weights > 0)
    if not usable.all():
        device = int(np.argmin(usable))
        raise FleetError(f"weights must be finite and positive; that of device {device} is {weights[device]:g}")
    return np.asarray(weights / weights.sum())
