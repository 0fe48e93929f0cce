"""Estimators of a fleet's average from few measured devices, each with a 95 % interval.

Every device has a fingerprint; few devices run a new model. All estimators share one model of the ratio between a new
model's latency and a device's speed (docs/fleets.md, "Estimators"); they differ in which devices they measure, and in
how much they lean on that model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import special  # scipy.stats takes two seconds to import

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.clustering import Clustering
from hdapbench.fleet.weights import device_shares

Estimator = Literal["medoid", "calibrated", "stratified", "greg", "random"]
ESTIMATORS: tuple[Estimator, ...] = ("medoid", "calibrated", "stratified", "greg", "random")
ON_MEDOIDS = ("medoid", "calibrated")
"""Estimators that measure the clusters' representatives; the others draw devices at random."""

_CONFIDENCE = 0.95
_PRIOR_FREEDOM = 8.0
"""Weight of what the fingerprint says about stray, in measured devices. With 8, intervals covered 94 to 97 % at 8 to 64
devices of three scenarios; fewer widened those of 2 and 3 devices to 98 %, more let `harsh` fall below 93 %."""
_SHAPE_SD = 0.3
"""Prior standard deviation of how a model weighs the probes, relative: one probe alone is about two of them away."""
_SPEED_SD = 0.05
"""Prior standard deviation of how a model's ratio bends with a device's speed, per unit of log speed."""
_PRIOR_STRAY = 0.02
_REPLAYS = 2000


@dataclass(frozen=True)
class Estimates:
    """Average latency over the fleet in ms and its 95 % interval, arrays of shape (n_workloads,)."""

    mean_ms: Floats
    low_ms: Floats
    high_ms: Floats


@dataclass(frozen=True)
class Design:
    """Which devices an estimator measures, and what each stands for.

    Attributes
    ----------
    estimator
        Its name.
    devices
        Positions of the devices, shape (n_measured,).
    weights
        Share of the fleet that each stands for, shape (n_measured,), summing to one.
    """

    estimator: Estimator
    devices: Integers
    weights: Floats

    @property
    def n_measured(self) -> int:
        """Number of measured devices."""
        return len(self.devices)


@dataclass(frozen=True)
class Reference:
    """What the fingerprint says about every device: its speed, and the shape of its slowness.

    Attributes
    ----------
    fingerprint_ms
        Median latency of each probe on each device, shape (n_devices, n_probes).
    weights
        Share of the fleet of each device, shape (n_devices,), summing to one.
    """

    fingerprint_ms: Floats
    weights: Floats

    @classmethod
    def of(cls, fingerprint_ms: Floats, weights: Floats | None = None) -> Reference:
        """Reference of a fingerprint, shape (n_devices, n_probes); without weights all devices count alike."""
        return cls(np.asarray(fingerprint_ms, dtype=float), device_shares(len(fingerprint_ms), weights))

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
    leverage
        Variance of the fleet mean in units of ``variance``.
    quantile
        Of Student's t for the interval.
    """

    coefficients: Floats
    variance: Floats
    leverage: float
    quantile: float


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
    precision = np.array([0.0, *[(_PRIOR_STRAY / _SHAPE_SD) ** 2] * (n_columns - 2), (_PRIOR_STRAY / _SPEED_SD) ** 2])
    inverse = np.linalg.inv(columns.T @ columns + np.diag(precision))
    coefficients = (ratio / scale) @ columns @ inverse  # (n_workloads, n_columns)
    residual = ratio / scale - coefficients @ columns.T
    freedom = n_measured - float(np.trace(inverse @ columns.T @ columns))
    prior = _PRIOR_FREEDOM if reference.stray > 0 else 0.0
    total = prior + freedom
    variance = (prior * reference.stray + (residual**2).sum(axis=1)) / max(total, 1e-9)
    quantile = float(special.stdtrit(max(total, 1.0), 0.5 + _CONFIDENCE / 2))
    return RatioModel(coefficients * scale, variance, float(inverse[0, 0]), quantile)


def draw_design(reference: Reference, clustering: Clustering, estimator: Estimator, *, n: int, seed: int) -> Design:
    """Devices that an estimator measures.

    Parameters
    ----------
    n
        Devices per cluster for estimators on clusters (``medoid``, ``calibrated``, ``stratified``), which take fewer
        where a cluster is smaller; devices in all for ``greg`` and ``random``.
    """
    rng = np.random.default_rng([seed, 0x64657369676E])
    n_devices = len(reference.weights)
    if estimator in ("greg", "random"):
        devices = np.sort(rng.choice(n_devices, size=min(n, n_devices), replace=False))
        share = reference.weights[devices]
        return Design(estimator, devices, share / share.sum())
    picked, weights = [], []
    for cluster, ranked in enumerate(clustering.ranked):
        if estimator == "stratified":
            members = np.flatnonzero(clustering.labels == cluster)
            devices = rng.choice(members, size=min(n, len(members)), replace=False)
        else:
            devices = np.array(ranked[:n], dtype=np.int64)
        picked.append(devices)
        weights.append(np.full(len(devices), clustering.weights[cluster] / len(devices)))
    return Design(estimator, np.concatenate(picked), np.concatenate(weights))


def estimate(reference: Reference, clustering: Clustering, design: Design, latency_ms: Floats) -> Estimates:
    """Average over the fleet of measured workloads, with 95 % intervals.

    Parameters
    ----------
    latency_ms
        Latencies on the design's devices, shape (n_workloads, n_measured).

    Raises
    ------
    FleetError
        When the latencies are not those of the design's devices, or not finite and positive.
    """
    latency = np.atleast_2d(np.asarray(latency_ms, dtype=float))
    if latency.shape[1] != design.n_measured:
        raise FleetError(f"the design measures {design.n_measured} devices; got latencies of {latency.shape[1]}")
    model = fit_ratio_model(reference, design.devices, latency)
    if design.estimator in ("calibrated", "greg"):
        return _around(model.coefficients[:, 0], model.quantile * np.sqrt(model.variance * model.leverage))
    mean = latency @ design.weights
    if design.estimator == "random":
        low, high = _replayed(reference, design.n_measured)
        return Estimates(mean, mean / high, mean / low)
    concentration = ((latency * design.weights / mean[:, None]) ** 2).sum(axis=1)  # 1 / effective number of devices
    variance = model.variance * concentration
    if design.estimator == "medoid":
        variance = variance + _miss(reference, design)
    else:
        variance = variance + _within(reference, clustering, design)
    return _around(mean, model.quantile * np.sqrt(variance))


def relative_half_width(reference: Reference, clustering: Clustering, design: Design) -> float:
    """Half-width that an estimate is expected to have, relative: the planner's measure. Needs no measurement.

    A model that behaves as the mean of the probes stands for what will be measured.
    """
    latency = (reference.fingerprint_ms[design.devices] / reference.mean_ms).mean(axis=1)[None]
    model = fit_ratio_model(reference, design.devices, latency)
    # Of one probe alone there is nothing to compare: the model's own residuals must do.
    expected = reference.stray if reference.stray > 0 else float(model.variance[0])
    if design.estimator in ("calibrated", "greg"):
        return float(model.quantile * np.sqrt(expected * model.leverage))
    if design.estimator == "random":
        low, high = _replayed(reference, design.n_measured)
        return float((1 / low - 1 / high) / 2)
    concentration = float(((design.weights * latency[0] / (latency[0] @ design.weights)) ** 2).sum())
    other = _miss(reference, design) if design.estimator == "medoid" else _within(reference, clustering, design)
    return float(model.quantile * np.sqrt(expected * concentration + other))


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
        of one device, zero.
    """
    logs = np.log(fingerprint_ms)
    logs = logs - logs.mean(axis=0)
    n_devices, n_probes = logs.shape
    if n_devices < n_probes + 3:
        freedom = (n_devices - 1) * (n_probes - 1)
        residual = logs - logs.mean(axis=1, keepdims=True)
        return float((residual**2).sum() / freedom) if freedom else 0.0
    product = logs.T @ logs
    variances = []
    for probe in range(n_probes):
        others = np.delete(np.arange(n_probes), probe)
        slopes, _, rank, _ = np.linalg.lstsq(product[np.ix_(others, others)], product[others, probe], rcond=1e-12)
        residual = product[probe, probe] - slopes @ product[others, probe]
        variances.append(max(float(residual), 0.0) / (n_devices - 1 - int(rank)))
    return float(min(variances))


def _around(mean: Floats, relative: Floats) -> Estimates:
    return Estimates(mean, mean * (1 - relative), mean * (1 + relative))


def _miss(reference: Reference, design: Design) -> float:
    """Mean squared relative miss of the probes' known fleet means by the medoids, beyond what noise explains."""
    n_probes = len(reference.mean_ms)
    miss = design.weights @ reference.fingerprint_ms[design.devices] / reference.mean_ms - 1  # (n_probes,)
    noise = reference.stray / (1 + 1 / n_probes) * float((design.weights**2).sum())
    return max(float((miss**2).mean()) - noise, 0.0)


def _within(reference: Reference, clustering: Clustering, design: Design) -> float:
    """Relative variance that devices drawn at random in their clusters bring, from the devices' speeds."""
    n = clustering.n_clusters
    share = np.bincount(clustering.labels, weights=reference.weights, minlength=n)
    size = np.bincount(clustering.labels, minlength=n)
    mean = np.bincount(clustering.labels, weights=reference.weights * reference.speed, minlength=n) / share
    square = np.bincount(clustering.labels, weights=reference.weights * reference.speed**2, minlength=n) / share
    drawn = np.bincount(clustering.labels[design.devices], minlength=n)
    variance = np.maximum(square - mean**2, 0.0) * (1 - drawn / size) / np.maximum(drawn, 1)
    return float((share**2 * variance).sum())


def _replayed(reference: Reference, n: int) -> tuple[float, float]:
    """Quantiles of (mean of n random devices / fleet mean), replayed on the probes, whose fleet means are known."""
    rng = np.random.default_rng(n)
    n_devices, n_probes = reference.fingerprint_ms.shape
    if n >= n_devices:
        return 1.0, 1.0
    probe = rng.integers(n_probes, size=_REPLAYS)
    devices = rng.integers(n_devices, size=(_REPLAYS, n))
    relative = reference.fingerprint_ms[devices, probe[:, None]] / reference.mean_ms[probe][:, None]
    share = reference.weights[devices]
    means = (relative * share).sum(axis=1) / share.sum(axis=1)
    means = 1 + (means - 1) * np.sqrt(1 - n / n_devices)  # drawn without replacement
    low, high = np.quantile(means, [0.5 - _CONFIDENCE / 2, 0.5 + _CONFIDENCE / 2])
    return float(low), float(high)
