"""What a fingerprint says about every device, and how a new model's latency follows from it: the ratio model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.weights import device_shares

CONFIDENCE = 0.95
_PRIOR_FREEDOM = 8.0
"""Weight of what the fingerprint says about stray, in measured devices. With 8, intervals covered 94 to 97 % at 8 to 64
devices of three scenarios; fewer widened those of 2 and 3 devices to 98 %, more let `harsh` fall below 93 %."""
_SHAPE_SD = 0.3
"""Prior standard deviation of how a model weighs the probes, relative: one probe alone is about two of them away."""
_SPEED_SD = 0.05
"""Prior standard deviation of how a model's ratio bends with a device's speed, per unit of log speed."""
_STRAY_SD = (1e-3, 0.02)
"""Least stray weighed against those priors, as a standard deviation; and that of one probe, which tells none."""


@dataclass(frozen=True)
class Reference:
    """What the fingerprint says about every device: its speed, and the shape of its slowness.

    Attributes
    ----------
    fingerprint_ms
        Median latency of each probe on each device, shape (n_devices, n_probes).
    weights
        Share of the fleet of each device, shape (n_devices,), summing to one.
    noise
        Relative variance of one such median as its repeats tell it; None where they do not tell all of it, as drift
        between sessions.
    """

    fingerprint_ms: Floats
    weights: Floats
    noise: float | None = None

    @classmethod
    def of(cls, fingerprint_ms: Floats, weights: Floats | None = None, noise: float | None = None) -> Reference:
        """Reference of a fingerprint, shape (n_devices, n_probes); without weights all devices count alike."""
        return cls(np.asarray(fingerprint_ms, dtype=float), device_shares(len(fingerprint_ms), weights), noise)

    @cached_property
    def mean_ms(self) -> Floats:
        """Fleet mean of each probe in ms, shape (n_probes,)."""
        return self.weights @ self.fingerprint_ms

    @cached_property
    def speed(self) -> Floats:
        """Latency of each device relative to the fleet, averaged over the probes, shape (n_devices,); mean one."""
        return np.asarray(self.fingerprint_ms @ (1 / self.mean_ms) / len(self.mean_ms))

    @cached_property
    def stray(self) -> float:
        """Relative variance of one new measurement, given the device's fingerprint: noise, drift and odd models.

        From `unexplained_variance` of the probe that the others explain best: an unseen model lies among the probes as
        that one does. One probe is explained by ``n - 1`` noisy others, a new model by ``n``; hence the factor.
        """
        n_probes = self.fingerprint_ms.shape[1]
        if n_probes == 1:
            return 0.0
        return float(unexplained_variance(self.fingerprint_ms) * (1 + 1 / n_probes) / (1 + 1 / (n_probes - 1)))

    @cached_property
    def prior_freedom(self) -> float:
        """How many measured devices `stray` counts as: at most its own degrees of freedom."""
        n_devices, n_probes = self.fingerprint_ms.shape
        if self.stray == 0:
            return 0.0
        regressed = n_devices - n_probes
        return float(min(_PRIOR_FREEDOM, regressed if regressed >= 2 else (n_devices - 1) * (n_probes - 1)))

    def columns(self, devices: Integers | slice) -> Floats:
        """Regressors of the ratio model, shape (n_picked, 2 + n_probes): one, shape by probe, log speed.

        Their means over the fleet, weighted by latency, are 1, 0, ..., 0: the first coefficient is the fleet mean.
        """
        speed = self.speed[devices]
        shape = self.fingerprint_ms[devices] / self.mean_ms / speed[:, None] - 1
        bend = np.log(speed) - self._mean_log_speed
        return np.concatenate([np.ones((len(speed), 1)), shape, bend[:, None]], axis=1)

    @cached_property
    def _mean_log_speed(self) -> float:
        return float((self.weights * self.speed) @ np.log(self.speed))


@dataclass(frozen=True)
class RatioModel:
    """Latencies of workloads as a device's speed times a ratio that is linear in the device's fingerprint.

    Attributes
    ----------
    coefficients
        Of `Reference.columns`, in ms, shape (n_workloads, 2 + n_probes); the first is the fleet mean.
    variance
        Relative variance of one measurement about the model, shape (n_workloads,).
    inverse
        Variance of the coefficients in units of ``variance``, shape (2 + n_probes, 2 + n_probes).
    freedom
        Degrees of freedom of ``variance``.
    """

    coefficients: Floats
    variance: Floats
    inverse: Floats
    freedom: float


def fit_ratio_model(reference: Reference, devices: Integers, latency_ms: Floats) -> RatioModel:
    """Ratio model of measured devices: ridge regression whose prior is that all probes count alike.

    Parameters
    ----------
    devices
        Positions of the measured devices, shape (n_measured,).
    latency_ms
        Their latencies, shape (n_workloads, n_measured).

    Raises
    ------
    FleetError
        When a latency is not finite and positive.
    """
    if not (np.isfinite(latency_ms) & (latency_ms > 0)).all():
        workload, place = np.argwhere(~(np.isfinite(latency_ms) & (latency_ms > 0)))[0]
        raise FleetError(
            f"device {int(devices[place])} has a latency that is not finite and positive: {latency_ms[workload, place]}"
        )
    columns = reference.columns(devices)
    n_measured, n_columns = columns.shape
    ratio = latency_ms / reference.speed[devices]
    scale = ratio.mean(axis=1, keepdims=True)
    least, untold = _STRAY_SD
    stray_sd = max(np.sqrt(reference.stray), least) if n_columns > 3 else untold
    precision = np.array([0.0, *[(stray_sd / _SHAPE_SD) ** 2] * (n_columns - 2), (stray_sd / _SPEED_SD) ** 2])
    inverse = np.asarray(np.linalg.inv(columns.T @ columns + np.diag(precision)), dtype=np.float64)
    coefficients = (ratio / scale) @ columns @ inverse  # (n_workloads, n_columns)
    residual = ratio / scale - coefficients @ columns.T
    freedom = n_measured - float(np.trace(inverse @ columns.T @ columns))
    prior, stray = reference.prior_freedom, reference.stray
    if n_columns == 3 and freedom < 1:  # neither probes nor residuals tell: models may differ as much as devices do
        prior, stray = 1.0, float(reference.weights @ (reference.speed - 1) ** 2)
    variance = (prior * stray + (residual**2).sum(axis=1)) / max(prior + freedom, 1e-9)
    return RatioModel(coefficients * scale, variance, inverse, prior + freedom)


def unexplained_variance(fingerprint_ms: Floats) -> float:
    """Least relative variance of a probe's latency on a device given its latencies on the other probes.

    Every probe in turn plays the unseen model: its log latencies are regressed over the fleet on those of the other
    probes. Probes are measured in sessions of their own, so that drift between sessions is in the residual, beside
    noise. Residuals within clusters would be too small: k-means groups noisy fingerprints by their noise too, and with
    many clusters such intervals covered 70 % instead of 95 %.

    Parameters
    ----------
    fingerprint_ms
        Shape (n_devices, n_probes). Of too few devices for a regression, the interaction of device and probe is taken;
        of one device, zero. Of few devices the probes' geometric mean is taken: the least of unsure ones is too small.
    """
    n_devices, n_probes = fingerprint_ms.shape
    variances = _unexplained(fingerprint_ms)
    if n_devices - n_probes >= _PRIOR_FREEDOM:
        return float(variances.min())
    return float(np.prod(variances ** (1 / len(variances))))


def _unexplained(fingerprint_ms: Floats) -> Floats:
    """Relative variance of each probe's latency given those of the others, shape (n_probes,), or one for all."""
    logs = np.log(fingerprint_ms)
    logs = logs - logs.mean(axis=0)
    n_devices, n_probes = logs.shape
    if n_devices < n_probes + 2:
        freedom = (n_devices - 1) * (n_probes - 1)
        residual = logs - logs.mean(axis=1, keepdims=True)
        return np.array([(residual**2).sum() / max(freedom, 1)])
    product = logs.T @ logs
    variances = []
    for probe in range(n_probes):
        others = np.delete(np.arange(n_probes), probe)
        slopes, _, rank, _ = np.linalg.lstsq(product[np.ix_(others, others)], product[others, probe], rcond=1e-12)
        residual = product[probe, probe] - slopes @ product[others, probe]
        variances.append(max(float(residual), 0.0) / (n_devices - 1 - int(rank)))
    return np.array(variances)
