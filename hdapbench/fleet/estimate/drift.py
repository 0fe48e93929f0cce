"""Drift: whether a fleet still is what its fingerprint says, from a few devices measured again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, Variants, Workloads
from hdapbench.fleet.estimate.clustering import Clustering
from hdapbench.fleet.estimate.estimators import unexplained_variance
from hdapbench.fleet.fingerprint import Fingerprint

FAR_BASELINE = 0.01
"""Share of devices beyond their cluster's radius when nothing has changed: the radius is a 99 % quantile."""
FAR_SHARE = 0.05
"""More devices than this beyond their cluster, with 99 % confidence, and the clusters no longer hold."""
CHANGED_SHARE = 0.02
"""More devices than this that changed beyond noise, with 99 % confidence, and the fingerprint no longer holds."""
MEAN_CHANGE = 0.01
"""A probe's fleet mean that changed by more, and by more than three standard errors, no longer calibrates."""
_CONFIDENCE = 0.99
_TOO_FEW = "drift needs at least 2 devices measured again, better 30; got {}"
_CHANGED_QUANTILE = 0.999  # of the change that noise alone brings to a device


@dataclass(frozen=True)
class DriftReport:
    """What devices measured again say about a fingerprint.

    Attributes
    ----------
    n_devices
        Devices measured again.
    far_share, far_low
        Share of them beyond the radius of the nearest cluster and noise, and its lower 99 % confidence limit.
    moved_share
        Share of them nearest to another cluster than before; neighbours exchange devices by noise alone.
    change, change_error
        Mean relative change of each probe, and its standard error, shape (n_probes,).
    reasons
        Why to take the fingerprint again; empty when it still holds.
    changed_share
        Share of them that changed by more than noise explains; 0 for a single probe, which does not tell the noise.
    """

    n_devices: int
    far_share: float
    far_low: float
    moved_share: float
    change: Floats
    change_error: Floats
    reasons: tuple[str, ...]
    changed_share: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the fingerprint may be used further."""
        return not self.reasons


def detect_drift(
    fingerprint: Fingerprint, clustering: Clustering, devices: Integers, latency_ms: Floats
) -> DriftReport:
    """Report on devices measured again.

    Parameters
    ----------
    devices
        Their positions, shape (n_again,).
    latency_ms
        Their new medians on the same probes, shape (n_again, n_probes).

    Raises
    ------
    FleetError
        When there are fewer than two devices, or the probes differ.
    """
    if len(devices) < 2:
        raise FleetError(_TOO_FEW.format(len(devices)))
    before = fingerprint.latency_ms[devices]
    if latency_ms.shape != before.shape:
        raise FleetError(f"expected latencies of shape {before.shape} (devices, probes), got {latency_ms.shape}")
    assigned = clustering.assign(latency_ms)
    logs = np.log(latency_ms / before)
    noise = unexplained_variance(fingerprint.latency_ms) if logs.shape[1] > 1 else 0.0
    # Many small clusters have radii below the noise: new noise alone would put devices outside.
    reach = np.sqrt(clustering.reach[assigned.labels] ** 2 + noise * _chi_squared(logs.shape[1], 1 - FAR_BASELINE))
    far = int((assigned.distance * clustering.reach[assigned.labels] > reach).sum())
    low = _lower_limit(far, len(devices))
    beyond_noise = (logs**2).sum(axis=1) > 2 * noise * _chi_squared(logs.shape[1], _CHANGED_QUANTILE)
    changed = int(beyond_noise.sum()) if noise > 0 else 0
    change, error = np.expm1(logs.mean(axis=0)), logs.std(axis=0, ddof=1) / np.sqrt(len(devices))
    reasons = []
    if low > FAR_SHARE:
        reasons.append(f"{far} of {len(devices)} devices are far from every cluster (expected {FAR_BASELINE:.0%})")
    if _lower_limit(changed, len(devices)) > CHANGED_SHARE:
        reasons.append(f"{changed} of {len(devices)} devices changed by more than noise explains")
    for name, value, spread in zip(fingerprint.probes, change, error, strict=True):
        if abs(value) > max(MEAN_CHANGE, 3 * spread):
            reasons.append(f"{name} changed by {value:+.1%} (standard error {spread:.1%})")
    moved = float((assigned.labels != clustering.labels[devices]).mean())
    share = changed / len(devices)
    return DriftReport(len(devices), far / len(devices), low, moved, change, error, tuple(reasons), share)


def measure_again(
    fleet: Fleet,
    kernels: KernelModel,
    fingerprint: Fingerprint,
    *,
    n_devices: int,
    seed: int,
    variants: Variants | None = None,
) -> tuple[Integers, Floats]:
    """Positions of random devices, shape (n_again,), and their new medians in ms, shape (n_again, n_probes).

    Parameters
    ----------
    kernels
        Fused kernels of the model that the fingerprint's probes are widths of.
    n_devices
        Devices asked again; all where the fleet has fewer.
    seed
        Of the choice; and session of the first probe, each of the others in the next one.
    variants
        How the probes are built, for fleets that run models.

    Raises
    ------
    FleetError
        When fewer than two devices are asked for, or the fingerprint does not say which widths its probes have.
    """
    if n_devices < 2:
        raise FleetError(_TOO_FEW.format(n_devices))
    widths = fingerprint.conditions.get("widths")
    if widths is None:
        raise FleetError("this fingerprint does not say which models its probes are; measure it again in full")
    rng = np.random.default_rng([seed, 0x6472696674])
    devices = np.sort(rng.choice(fleet.n_devices, size=min(n_devices, fleet.n_devices), replace=False))
    columns = []
    for number, row in enumerate(widths):
        workload = Workloads(kernels, np.array([row], dtype=np.int64), (fingerprint.probes[number],), variants)
        samples = fleet.measure(workload, devices, runs=fingerprint.runs, seed=seed + number)
        columns.append(np.median(samples[:, 0], axis=1))
    return devices, np.stack(columns, axis=1)


def _lower_limit(n_found: int, n_devices: int) -> float:
    """Lower 99 % confidence limit of a share (Clopper and Pearson): a quantile of the beta distribution."""
    return float(special.betaincinv(n_found, n_devices - n_found + 1, 1 - _CONFIDENCE)) if n_found else 0.0


def _chi_squared(freedom: int, probability: float) -> float:
    """Quantile of the chi-squared distribution."""
    return 2 * float(special.gammaincinv(freedom / 2, probability))
