"""A fleet's average from few devices: fingerprint all once, cluster, measure some, estimate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import DeviceLostError, Fleet, SparesGoneError, Variants, Workloads
from hdapbench.fleet.estimate.choice import choose_estimator
from hdapbench.fleet.estimate.clustering import Clustering, automatic_clusters, cluster_devices, separated_clusters
from hdapbench.fleet.estimate.estimators import (
    Design,
    Estimates,
    Estimator,
    Reference,
    draw_design,
    estimate,
    fit_ratio_model,
    relative_half_width,
)
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.noise import Noise
from hdapbench.fleet.remaining import remaining
from hdapbench.fleet.statistics import weighted_percentile
from hdapbench.spec import ClusteringSpec

AUTO_HALF_WIDTH = 0.015
"""``n_clusters: auto`` takes the fewest clusters whose 95 % interval is expected to be at most this wide each side."""
AUTO_MAX_CLUSTERS = 64
SILHOUETTE_MAX_CLUSTERS = 16


@dataclass(frozen=True)
class ClusterMeasurement:
    """Latencies of workloads on the measured devices.

    Attributes
    ----------
    samples_ms
        Raw repeats, shape (n_measured, n_workloads, runs).
    devices
        Positions of the devices, shape (n_measured,), with spares where a representative was lost.
    clusters
        Cluster of each, shape (n_measured,), ascending.
    noise
        Of the medians over the repeats, where these tell all of it.
    """

    samples_ms: Floats
    devices: Integers
    clusters: Integers
    noise: Noise | None = None

    @cached_property
    def device_latency_ms(self) -> Floats:
        """Medians over the repeats, shape (n_workloads, n_measured)."""
        return np.asarray(np.median(self.samples_ms, axis=2).T)

    @cached_property
    def latency_ms(self) -> Floats:
        """Mean latency on each cluster's measured devices, shape (n_workloads, n_clusters)."""
        starts = np.flatnonzero(np.diff(self.clusters, prepend=-1))
        sums = np.add.reduceat(self.device_latency_ms, starts, axis=1)
        return np.asarray(sums / np.diff([*starts, len(self.clusters)]))


@dataclass(frozen=True)
class ClusteredFleet:
    """A fleet with its fingerprint and clusters: what turns few measurements into an average over all devices.

    Attributes
    ----------
    fleet
        The devices.
    clustering
        Their clusters.
    fingerprint_ms
        Median latency of each probe on each device, shape (n_devices, n_probes).
    estimator
        How the average follows from the measured devices.
    n_representatives
        Devices measured per cluster (fewer in smaller clusters).
    given
        Positions of the devices that are measured, where the fleet has no others of a workload; None: those that the
        estimator wants. Estimators that rely on their own choice within clusters are then replaced by ``calibrated``.
    """

    fleet: Fleet
    clustering: Clustering
    fingerprint_ms: Floats
    estimator: Estimator = "calibrated"
    n_representatives: int = 1
    given: tuple[int, ...] | None = None

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.clustering.n_clusters

    @property
    def n_measured(self) -> int:
        """Number of devices measured per workload."""
        return self.design.n_measured

    @property
    def n_fingerprint_queries(self) -> int:
        """Device queries that the fingerprint took: one per device and probe."""
        return int(self.fingerprint_ms.size)

    @cached_property
    def reference(self) -> Reference:
        """What the fingerprint says about every device."""
        return Reference.of(self.fingerprint_ms, self.fleet.weights, self.fleet.typical_noise)

    @cached_property
    def design(self) -> Design:
        """The devices that are measured, in the order of their clusters."""
        if self.given is not None:
            devices = np.array(self.given, dtype=np.int64)
            share = self.reference.weights[devices]
            estimator = self.estimator if self.estimator in ("greg", "random") else "calibrated"
            return self._in_order(Design(estimator, devices, share / share.sum()))
        n = self.n_representatives
        if self.estimator in ("greg", "random"):
            n *= self.n_clusters
        drawn = draw_design(self.reference, self.clustering, self.estimator, n=n, seed=0)
        return self._in_order(drawn)

    def _in_order(self, drawn: Design) -> Design:
        """A design with its devices in the order of their clusters."""
        order = np.argsort(self.clustering.labels[drawn.devices], kind="stable")
        return Design(drawn.estimator, drawn.devices[order], drawn.weights[order])

    def measure_clusters(
        self, workloads: Workloads, *, runs: int, seed: int, cluster: int | None = None
    ) -> ClusterMeasurement:
        """Latencies of workloads on the measured devices: ``n_workloads * n_measured`` device queries.

        A device that does not answer any more is replaced by the next spare of its cluster.

        Parameters
        ----------
        cluster
            Measure on this cluster's first representative alone: ``n_workloads`` device queries.

        Raises
        ------
        SparesGoneError
            When a cluster has no spare left.
        """
        devices = self.design.devices.copy()
        if cluster is not None:
            devices = np.array(self.clustering.ranked[cluster][:1], dtype=np.int64)
        lost: set[int] = set()
        while True:
            try:
                samples = self.fleet.measure(workloads, devices, runs=runs, seed=seed)
            except DeviceLostError as error:
                lost.add(error.device)
                devices = self._without(devices, lost, why=str(error))
                continue
            noise = self.fleet.noise(workloads, devices, runs=runs)
            return ClusterMeasurement(samples, devices, self.clustering.labels[devices], noise)

    def average(self, latency_ms: Floats, devices: Integers | None = None, noise: Noise | None = None) -> Estimates:
        """Average latency over the fleet and its 95 % interval; see `hdapbench.fleet.estimate.estimators`.

        A fleet of one device has nothing to compare: its interval is noise alone, as far as that is known.

        Parameters
        ----------
        latency_ms
            Latencies on the measured devices, shape (n_workloads, n_measured).
        devices
            The devices, where spares took part.
        noise
            Of the latencies, as `ClusterMeasurement` has it; None: that which is typical of the fleet, where known.
        """
        design = self.design if devices is None else replace(self.design, devices=devices)
        return estimate(self.reference, self.clustering, design, latency_ms, noise)

    def device_latency(self, latency_ms: Floats, devices: Integers | None = None) -> Floats:
        """What the measured devices say about every device's latency in ms, shape (n_workloads, n_devices).

        A measured device has the latency that was measured.
        """
        measured = self.design.devices if devices is None else devices
        latency = np.atleast_2d(latency_ms)
        model = fit_ratio_model(self.reference, measured, latency)
        ratio = model.coefficients @ self.reference.columns(slice(None)).T
        every = np.asarray(ratio * self.reference.speed)
        every[:, measured] = latency
        return every

    def percentile(self, latency_ms: Floats, percent: float, devices: Integers | None = None) -> Floats:
        """Percentile of the latency over all devices in ms, shape (n_workloads,)."""
        return weighted_percentile(self.device_latency(latency_ms, devices).T, percent, self.fleet.weights)

    def _without(self, devices: Integers, lost: set[int], *, why: str) -> Integers:
        """The devices with every lost one replaced by the next spare of its cluster."""
        devices = devices.copy()
        for place, device in enumerate(devices):
            if int(device) not in lost:
                continue
            cluster = int(self.clustering.labels[device])
            taken = lost | {int(other) for other in devices}
            spare = next((spare for spare in self.clustering.ranked[cluster] if spare not in taken), None)
            if spare is None:
                raise SparesGoneError(
                    f"fleet '{self.fleet.name}': device {self.fleet.device_ids[int(device)]} is lost and cluster "
                    f"{cluster} has no spare left; fingerprint the fleet again ({why})"
                )
            devices[place] = spare
        return devices


def cluster_fleet(fleet: Fleet, fingerprint_ms: Floats, clustering: ClusteringSpec, *, seed: int) -> ClusteredFleet:
    """Fleet clustered by its fingerprint, shape (n_devices, n_probes) in ms, as a spec says.

    Raises
    ------
    FleetError
        When the fingerprint is empty, not finite, not positive or of another number of devices than the fleet.
    """
    if len(fingerprint_ms) not in (0, fleet.n_devices):
        raise FleetError(
            f"the fingerprint is of {len(fingerprint_ms):,} devices, fleet '{fleet.name}' has {fleet.n_devices:,}; "
            f"take the fingerprint again"
        )
    estimator: Estimator = clustering.estimator if clustering.estimator != "auto" else "calibrated"
    n = clustering.representatives

    def half_width(found: Clustering) -> float:
        clustered = ClusteredFleet(fleet, found, fingerprint_ms, estimator, n)
        return relative_half_width(reference, found, clustered.design)

    reference = Reference.of(fingerprint_ms, fleet.weights, fleet.typical_noise)
    common = {"method": clustering.method, "weights": fleet.weights, "seed": seed}
    if clustering.n_clusters == "auto":
        found = automatic_clusters(
            fingerprint_ms,
            half_width,
            wanted=AUTO_HALF_WIDTH,
            n_most=AUTO_MAX_CLUSTERS,
            **common,  # type: ignore[arg-type]
        )
    elif clustering.n_clusters == "silhouette":
        found = separated_clusters(fingerprint_ms, n_most=SILHOUETTE_MAX_CLUSTERS, **common)  # type: ignore[arg-type]
    else:
        found = cluster_devices(fingerprint_ms, n_clusters=clustering.n_clusters, **common)  # type: ignore[arg-type]
    if clustering.estimator == "auto":
        estimator = choose_estimator(found.n_clusters * n).estimator
    return ClusteredFleet(fleet, found, fingerprint_ms, estimator, n)


def fingerprint_fleet(
    fleet: Fleet,
    kernels: KernelModel,
    *,
    clustering: ClusteringSpec,
    runs: int,
    seed: int,
    variants: Variants | None = None,
) -> ClusteredFleet:
    """Fleet clustered by the fingerprint that it brings along, or by one taken now; lost devices are left out of it.

    Parameters
    ----------
    fleet
        The devices.
    kernels
        Fused kernels of the model that the probes are widths of; not looked at where the fleet brings a fingerprint.
    clustering
        How devices are clustered, and how their average is estimated.
    runs
        Repeats per device and probe; the median counts.
    seed
        Session of the first probe, each of the others in the next one; and seed of the clustering.
    variants
        How the probes are built, for fleets that run models.

    Raises
    ------
    FleetError
        When a device gives no usable latency.
    """
    taken = fleet.recorded_fingerprint()
    if taken is None:
        taken = take_fingerprint(fleet, kernels, runs=runs, seed=seed, variants=variants)
    return cluster_fleet(remaining(fleet, taken.device_ids), taken.latency_ms, clustering, seed=seed)
