"""How many devices to measure for a wanted error, and which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.clustering import Clustering, automatic_clusters, cluster_devices
from hdapbench.fleet.estimate.estimators import Design, Estimator, Reference, draw_design, relative_half_width
from hdapbench.fleet.fingerprint import Fingerprint
from hdapbench.spec.clustering import ClusteringMethod

MOST_CLUSTERS = 512
_NORMAL_97_5 = 1.959964


@dataclass(frozen=True)
class MeasurementPlan:
    """Devices to measure per model.

    Attributes
    ----------
    clustering
        The clusters they stand for.
    design
        The devices and their weights.
    half_width
        Expected relative half-width of the 95 % interval.
    n_random
        Random devices whose plain mean would need as many as this for the same half-width.
    reached
        Whether the wanted error is met.
    """

    clustering: Clustering
    design: Design
    half_width: float
    n_random: int
    reached: bool


def plan_measurements(
    fingerprint: Fingerprint,
    *,
    error: float,
    estimator: Estimator = "calibrated",
    method: ClusteringMethod = "kmeans",
    representatives: int = 1,
    seed: int = 0,
) -> MeasurementPlan:
    """The fewest devices whose 95 % interval is expected to be at most ``error`` wide each side, relative.

    Raises
    ------
    FleetError
        When ``error`` is not between 0 and 1.
    """
    if not 0 < error < 1:
        raise FleetError(f"the wanted error is {error:g}; give a share between 0 and 1, such as 0.01, or 1%")
    reference = Reference.of(fingerprint.latency_ms, fingerprint.weights, fingerprint.noise)

    def design(clustering: Clustering) -> Design:
        return draw_design(reference, clustering, estimator, n=representatives, seed=seed)

    if estimator in ("greg", "random"):
        return _unclustered(fingerprint, reference, estimator, error=error, seed=seed)
    found = automatic_clusters(
        fingerprint.latency_ms,
        lambda clustering: relative_half_width(reference, clustering, design(clustering)),
        wanted=error,
        n_most=min(MOST_CLUSTERS, fingerprint.n_devices),
        method=method,
        weights=fingerprint.weights,
        seed=seed,
    )
    half_width = relative_half_width(reference, found, design(found))
    return MeasurementPlan(found, design(found), half_width, random_devices(reference, error), half_width <= error)


def random_devices(reference: Reference, error: float) -> int:
    """Random devices whose plain mean has a 95 % half-width of ``error``, relative.

    ``n0 = (1.96 * sd / error)**2`` with the relative standard deviation of the probes over the fleet, corrected for the
    finite fleet: ``n0 / (1 + n0 / n_devices)`` (Cochran, "Sampling Techniques", section 4.4).
    """
    relative = reference.fingerprint_ms / reference.mean_ms - 1
    variance = float((reference.weights @ relative**2).mean())
    unlimited = _NORMAL_97_5**2 * variance / error**2
    return max(1, int(np.ceil(unlimited / (1 + unlimited / len(reference.weights)))))


def _unclustered(
    fingerprint: Fingerprint, reference: Reference, estimator: Estimator, *, error: float, seed: int
) -> MeasurementPlan:
    """Plan of an estimator that draws devices from the whole fleet."""
    whole = cluster_devices(fingerprint.latency_ms, n_clusters=1, weights=fingerprint.weights)

    def width(n: int) -> float:
        return relative_half_width(reference, whole, draw_design(reference, whole, estimator, n=n, seed=seed))

    n = _least(width, error, most=fingerprint.n_devices)
    drawn = draw_design(reference, whole, estimator, n=n, seed=seed)
    half_width = width(n)
    return MeasurementPlan(whole, drawn, half_width, random_devices(reference, error), half_width <= error)


def _least(width: Callable[[int], float], wanted: float, *, most: int) -> int:
    """Least n whose width is at most ``wanted``, found by doubling and halving; ``most`` when none is."""
    low, high = 0, min(2, most)
    while high < most and width(high) > wanted:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if width(middle) <= wanted else (middle, high)
    return high
