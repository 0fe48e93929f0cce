"""A fleet's average from few devices: fingerprint all once, cluster, measure representatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdapbench.fleet.base import Fleet, Workloads
from hdapbench.fleet.clustering import Clustering, cluster_devices
from hdapbench.latency.kernels import KernelModel
from hdapbench.spec import ClusteringSpec

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_NORMAL_97_5 = 1.959964


@dataclass(frozen=True)
class ClusterMeasurement:
    """Latencies of workloads on the representatives.

    Attributes
    ----------
    latency_ms
        Medians over the repeats, shape (n_workloads, n_clusters).
    samples_ms
        Raw repeats, shape (n_clusters, n_workloads, runs).
    """

    latency_ms: Floats
    samples_ms: Floats


@dataclass(frozen=True)
class Estimates:
    """Average clustered latency in ms and its 95 % interval, arrays of shape (n_workloads,)."""

    mean_ms: Floats
    low_ms: Floats
    high_ms: Floats


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
    """

    fleet: Fleet
    clustering: Clustering
    fingerprint_ms: Floats

    @property
    def n_clusters(self) -> int:
        """Number of clusters, and of devices measured per workload."""
        return self.clustering.n_clusters

    @property
    def n_fingerprint_queries(self) -> int:
        """Device queries that the fingerprint took: one per device and probe."""
        return int(self.fingerprint_ms.size)

    def measure_clusters(self, workloads: Workloads, *, runs: int, seed: int) -> ClusterMeasurement:
        """Latencies of workloads on the representatives: ``n_workloads * n_clusters`` device queries."""
        devices = np.array(self.clustering.representatives, dtype=np.int64)
        samples = self.fleet.measure(workloads, devices, runs=runs, seed=seed)
        return ClusterMeasurement(np.median(samples, axis=2).T, samples)

    def average(self, latency_ms: Floats) -> Estimates:
        """Average clustered latency: representatives weighted by the share of the fleet they stand for.

        The 95 % interval adds two parts: how far one measurement strays from what the device's fingerprint says (see
        `unexplained_variance`), for every representative; and how far the representatives miss the fleet's known mean
        on the probes. On simulated fleets it covers the true mean at least as often as it says; a fleet of one device
        has nothing to compare and gets an interval of no width.

        Parameters
        ----------
        latency_ms
            Latencies on the representatives, shape (n_workloads, n_clusters).
        """
        weighted = np.atleast_2d(latency_ms) * self.clustering.weights
        mean = weighted.sum(axis=1)
        stray = unexplained_variance(self.fingerprint_ms)
        concentration = ((weighted / mean[:, None]) ** 2).sum(axis=1)  # 1 / effective number of devices
        representatives = self.fingerprint_ms[list(self.clustering.representatives)]
        miss = self.clustering.weights @ representatives / self.fingerprint_ms.mean(axis=0) - 1  # (n_probes,)
        half_width = _NORMAL_97_5 * mean * np.sqrt(stray * concentration + (miss**2).mean())
        return Estimates(mean, mean - half_width, mean + half_width)

    def percentile(self, latency_ms: Floats, percent: float) -> Floats:
        """Percentile of the latency over all devices in ms, shape (n_workloads,).

        A device's latency is its representative's times the mean ratio of their fingerprints (geometric mean).
        """
        rows = np.array(self.clustering.representatives)[self.clustering.labels]
        scale = np.exp(np.log(self.fingerprint_ms / self.fingerprint_ms[rows]).mean(axis=1))  # (n_devices,)
        devices = np.atleast_2d(latency_ms)[:, self.clustering.labels] * scale
        return np.asarray(np.percentile(devices, percent, axis=1))


def unexplained_variance(fingerprint_ms: Floats) -> float:
    """Relative variance of a device's latency on one model, measured once, given its latencies on other models.

    Every probe in turn plays the unseen model: its log latencies are regressed over the fleet on those of the other
    probes, and the residual variances are averaged. Probes are measured in sessions of their own, so that drift
    between sessions is in it, beside noise and what models say differently about devices.

    Residuals within clusters would be too small: k-means groups noisy fingerprints by their noise too, and with many
    clusters such intervals covered 70 % instead of 95 %.

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
    variances = []
    for probe in range(n_probes):
        others = np.delete(logs, probe, axis=1)
        slopes, _, rank, _ = np.linalg.lstsq(others, logs[:, probe])
        residual = logs[:, probe] - others @ slopes
        variances.append((residual**2).sum() / (n_devices - 1 - rank))
    return float(np.mean(variances))


def choose_probes(kernels: KernelModel) -> Integers:
    """Widths of the probe models, shape (n_probes, n_groups), that differ in what bounds them.

    The dense model is bound by compute, a thin one by launches and memory, and one that is narrow where maps are large
    and wide where they are small lies between.
    """
    sizes = kernels.sizes
    thin = np.maximum(sizes // 4, 1)
    late = np.maximum(np.rint(sizes * np.linspace(0.3, 1.0, len(sizes))), 1).astype(np.int64)
    return np.stack([sizes, thin, late])


def fingerprint_fleet(
    fleet: Fleet, kernels: KernelModel, *, clustering: ClusteringSpec, runs: int, seed: int
) -> ClusteredFleet:
    """Fleet with every device fingerprinted by the probes, each in a session of its own, and clustered.

    Raises
    ------
    FleetError
        When a device gives no usable latency.
    """
    columns = []
    for number, widths in enumerate(choose_probes(kernels)):
        workload = Workloads(kernels, widths[None], (f"probe{number}",))
        samples = fleet.measure(workload, np.arange(fleet.n_devices), runs=runs, seed=seed + number)
        columns.append(np.median(samples[:, 0], axis=1))
    fingerprint = np.stack(columns, axis=1)  # (n_devices, n_probes)
    found = cluster_devices(fingerprint, method=clustering.method, n_clusters=clustering.n_clusters, seed=seed)
    return ClusteredFleet(fleet, found, fingerprint)
