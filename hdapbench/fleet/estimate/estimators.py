"""Estimators of a fleet's average from few measured devices, each with a 95 % interval.

Every device has a fingerprint; few devices run a new model. All estimators share one model of the ratio between a new
model's latency and a device's speed (docs/fleets.md, "Estimators"); they differ in which devices they measure, and in
how much they lean on that model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special  # scipy.stats takes two seconds to import

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.clustering import Clustering
from hdapbench.fleet.estimate.ratio import CONFIDENCE, RatioModel, Reference, fit_ratio_model, unexplained_variance
from hdapbench.fleet.noise import Noise

__all__ = [
    "ESTIMATORS",
    "ON_MEDOIDS",
    "Design",
    "Estimates",
    "Estimator",
    "RatioModel",
    "Reference",
    "draw_design",
    "estimate",
    "fit_ratio_model",
    "relative_half_width",
    "unexplained_variance",
]

Estimator = Literal["medoid", "calibrated", "stratified", "greg", "random"]
ESTIMATORS: tuple[Estimator, ...] = ("medoid", "calibrated", "stratified", "greg", "random")
ON_MEDOIDS = ("medoid", "calibrated")
"""Estimators that measure the clusters' representatives; the others draw devices at random."""

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
        share = reference.weights[devices]
        weights.append(clustering.weights[cluster] * share / share.sum())
    return Design(estimator, np.concatenate(picked), np.concatenate(weights))


def estimate(
    reference: Reference, clustering: Clustering, design: Design, latency_ms: Floats, noise: Noise | None = None
) -> Estimates:
    """Average over the fleet of measured workloads, with 95 % intervals.

    A measured device counts as measured. Of all devices the estimate is their mean, and what is left is noise.

    Parameters
    ----------
    latency_ms
        Latencies on the design's devices, shape (n_workloads, n_measured).
    noise
        Of these latencies, where repeats tell all of it; None: the reference's, or it is not told apart from stray.

    Raises
    ------
    FleetError
        When the latencies are not those of the design's devices, or not finite and positive.
    """
    latency = np.atleast_2d(np.asarray(latency_ms, dtype=float))
    if latency.shape[1] != design.n_measured:
        raise FleetError(f"the design measures {design.n_measured} devices; got latencies of {latency.shape[1]}")
    model = fit_ratio_model(reference, design.devices, latency)
    mean = latency @ design.weights
    if design.estimator in ("calibrated", "greg"):
        predicted = (model.coefficients @ reference.columns(design.devices).T) * reference.speed[design.devices]
        mean = model.coefficients[:, 0] + (latency - predicted) @ reference.weights[design.devices]
    known = _typical(reference, latency) if noise is None else noise
    low, high = _relative_widths(reference, clustering, design, model, latency / mean[:, None], known)
    return Estimates(mean, mean * np.exp(-low), mean * np.exp(high))


def relative_half_width(reference: Reference, clustering: Clustering, design: Design) -> float:
    """Half-width that an estimate is expected to have, relative: the planner's measure. Needs no measurement.

    A model that behaves as the mean of the probes stands for what will be measured.
    """
    latency = (reference.fingerprint_ms[design.devices] / reference.mean_ms).mean(axis=1)[None]
    model = fit_ratio_model(reference, design.devices, latency)
    if reference.stray > 0:  # of one probe alone there is nothing to compare: the model's own residuals must do
        model = replace(model, variance=np.array([reference.stray]))
    low, high = _relative_widths(reference, clustering, design, model, latency, _typical(reference, latency))
    return float((np.exp(high[0]) - np.exp(-low[0])) / 2)


def _typical(reference: Reference, latency: Floats) -> Noise | None:
    """The reference's noise as that of latencies, shape (n_workloads, n_measured)."""
    if reference.noise is None:
        return None
    variance = np.full_like(latency, reference.noise)
    return Noise(variance, np.full_like(latency, np.inf), np.full(len(latency), reference.noise > 0))


def _relative_widths(
    reference: Reference,
    clustering: Clustering,
    design: Design,
    model: RatioModel,
    latency: Floats,
    noise: Noise | None,
) -> tuple[Floats, Floats]:
    """Logarithms of estimate / low and high / estimate, each of shape (n_workloads,).

    What a device strays from the model is noise, which is in every measurement, and the device's own, which is in the
    average of all devices: once it was measured it is no error any more.

    Parameters
    ----------
    latency
        Relative to the estimate, shape (n_workloads, n_measured).
    """
    shares = latency * (
        reference.weights[design.devices] if design.estimator in ("calibrated", "greg") else design.weights
    )
    in_noise, freedom_of_noise, in_drawing = np.zeros(len(latency)), np.full(len(latency), np.inf), 0.0
    if noise is None:
        one, own = model.variance, np.zeros(len(latency))
    else:
        in_noise, freedom_of_noise = noise.of_sum(shares)
        one = np.minimum(noise.variance.mean(axis=1), model.variance)
        own = model.variance - one
    if design.estimator == "random":
        return _replayed_widths(reference, design, in_noise, freedom_of_noise)
    left = reference.weights * reference.speed
    of_others = float((left**2).sum() - (left[design.devices] ** 2).sum())
    if design.estimator in ("calibrated", "greg"):
        columns = reference.columns(design.devices)
        counted = (reference.weights * reference.speed)[design.devices] @ columns
        predicted = np.eye(len(counted))[0] - counted
        in_model = model.variance * (predicted @ model.inverse @ predicted)
        in_model = in_model + 2 * one * (predicted @ model.inverse @ counted) + own * of_others
    else:
        beyond = latency * (design.weights - reference.weights[design.devices])
        in_model = own * ((beyond**2).sum(axis=1) + of_others)
        if design.estimator == "medoid":
            in_model = in_model + _miss(reference, design)
        else:
            in_drawing = _within(reference, clustering, design)
    if noise is None:
        in_model = in_model + one * (shares**2).sum(axis=1)
    in_model = np.maximum(in_model, 0.0)
    total = in_noise + in_model + in_drawing
    with np.errstate(divide="ignore", invalid="ignore"):
        # Noise is known from all devices: the fewer degrees of freedom are those of what devices stray by themselves.
        known = np.minimum(model.freedom * (model.variance / own) ** 2, np.subtract(*reference.fingerprint_ms.shape))
        freedom_of_model = np.fmax(model.freedom, known if noise is not None else model.freedom)
        freedom = total**2 / (in_noise**2 / freedom_of_noise + in_model**2 / freedom_of_model)
    width = _quantile(np.where(np.isfinite(freedom), freedom, 1e9)) * np.sqrt(total)
    return width, width


def _quantile(freedom: Floats) -> Floats:
    return np.asarray(special.stdtrit(np.maximum(freedom, 1.0), 0.5 + CONFIDENCE / 2))


def _miss(reference: Reference, design: Design) -> float:
    """Mean squared relative miss of the probes' known fleet means by the medoids, beyond what noise explains."""
    miss = design.weights @ reference.fingerprint_ms[design.devices] / reference.mean_ms - 1  # (n_probes,)
    return max(float((miss**2).mean()) - _of_one(reference) * float((design.weights**2).sum()), 0.0)


def _within(reference: Reference, clustering: Clustering, design: Design) -> float:
    """Relative variance that devices drawn at random in their clusters bring, from the probes beyond their noise."""
    n = clustering.n_clusters
    size = np.bincount(clustering.labels, minlength=n)
    drawn = np.bincount(clustering.labels[design.devices], minlength=n)
    share = np.bincount(clustering.labels, weights=reference.weights, minlength=n)
    variance = np.zeros(n)
    for values in (reference.fingerprint_ms / reference.mean_ms).T:
        mean = np.bincount(clustering.labels, weights=reference.weights * values, minlength=n) / share
        off = reference.weights * (values - mean[clustering.labels]) ** 2
        variance += np.bincount(clustering.labels, weights=off, minlength=n) / share / len(reference.mean_ms)
    variance = np.maximum(variance * size / np.maximum(size - 1, 1) - _of_one(reference) * (size > 1), 0.0)
    return float((share**2 * variance * (1 - drawn / size) / np.maximum(drawn, 1)).sum())


def _of_one(reference: Reference) -> float:
    """Relative variance that noise gives to one median of a probe, as far as it is known."""
    n_probes = len(reference.mean_ms)
    return reference.stray / (1 + 1 / n_probes) if reference.noise is None else reference.noise


def _replayed_widths(reference: Reference, design: Design, in_noise: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Widths of the mean of random devices: sampling replayed on the probes, and noise of the sampled share of them."""
    low, high = _replayed(reference, design.n_measured)
    drawn = design.n_measured / len(reference.weights)
    noise = drawn * in_noise * _quantile(np.minimum(freedom, 1e9)) ** 2
    return np.sqrt(np.log(high) ** 2 + noise), np.sqrt(np.log(low) ** 2 + noise)


def _replayed(reference: Reference, n: int) -> tuple[float, float]:
    """Quantiles of (mean of n random devices / fleet mean), replayed on the probes, whose fleet means are known."""
    rng = np.random.default_rng(n)
    n_devices, n_probes = reference.fingerprint_ms.shape
    if n >= n_devices:
        return 1.0, 1.0
    probe = rng.integers(n_probes, size=_REPLAYS)
    devices = rng.integers(n_devices, size=(_REPLAYS, n))
    once = n_devices <= _REPLAYS
    if once:
        devices = np.argsort(rng.random((_REPLAYS, n_devices)), axis=1)[:, :n]
    relative = reference.fingerprint_ms[devices, probe[:, None]] / reference.mean_ms[probe][:, None]
    share = reference.weights[devices]
    means = (relative * share).sum(axis=1) / share.sum(axis=1)
    if not once:
        means = 1 + (means - 1) * np.sqrt(1 - n / n_devices)
    low, high = np.quantile(means, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(low), float(high)
