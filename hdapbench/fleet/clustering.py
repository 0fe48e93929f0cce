"""Devices that behave alike: clusters of fingerprints, their weights and representatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hdapbench.errors import FleetError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

AUTO_HALF_WIDTH = 0.02
"""``n_clusters: auto`` takes the fewest clusters whose 95 % interval on the probes is at most this wide each side."""
AUTO_MAX_CLUSTERS = 64
_DBSCAN_MIN_SAMPLES = 5


@dataclass(frozen=True)
class Clustering:
    """A partition of a fleet.

    Attributes
    ----------
    labels
        Cluster of each device, shape (n_devices,); clusters are ordered from fast to slow.
    weights
        Share of the fleet in each cluster, shape (n_clusters,), summing to one.
    representatives
        Position of each cluster's representative device: the one nearest to the cluster's mean latencies.
    method
        How the clusters were found.
    """

    labels: Integers
    weights: Floats
    representatives: tuple[int, ...]
    method: str

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.representatives)


def cluster_devices(
    fingerprint_ms: Floats,
    *,
    method: Literal["kmeans", "dbscan"] = "kmeans",
    n_clusters: int | Literal["auto"] = "auto",
    seed: int = 0,
) -> Clustering:
    """Clusters of devices by the logarithms of their probe latencies.

    Parameters
    ----------
    fingerprint_ms
        Median latency of each probe on each device in ms, shape (n_devices, n_probes).
    method
        ``kmeans``, or ``dbscan`` with its radius from the distances to the fifth neighbour; devices that DBSCAN calls
        noise join the nearest cluster, so that weights add up to one.
    n_clusters
        For ``kmeans``; more than there are distinct devices gives one cluster per distinct device.

    Raises
    ------
    FleetError
        When the fingerprint is empty, not finite or not positive.
    """
    fingerprint = np.atleast_2d(np.asarray(fingerprint_ms, dtype=float))
    if fingerprint.size == 0:
        raise FleetError("an empty fleet cannot be clustered")
    if not (np.isfinite(fingerprint) & (fingerprint > 0)).all():
        device = int(np.argwhere(~(np.isfinite(fingerprint) & (fingerprint > 0)))[0, 0])
        raise FleetError(f"device {device} has a fingerprint that is not finite and positive: {fingerprint[device]}")
    points = np.log(fingerprint)
    if method == "dbscan":
        labels = _dbscan(points)
    elif n_clusters == "auto":
        labels = _automatic(fingerprint, points, seed)
    else:
        labels = _kmeans(points, n_clusters, seed)
    return _finish(fingerprint, labels, method)


def relative_variance(fingerprint_ms: Floats, clustering: Clustering) -> Floats:
    """Mean squared relative residual of devices against their representative, shape (n_clusters,).

    Residuals of all probes are pooled. A cluster of one device gets the pooled value of all others, or zero.
    """
    rows = np.array(clustering.representatives)[clustering.labels]
    residual = fingerprint_ms / fingerprint_ms[rows] - 1.0  # (n_devices, n_probes)
    others = np.arange(len(fingerprint_ms)) != rows
    squared = (residual**2).mean(axis=1)
    pooled = float(squared[others].mean()) if others.any() else 0.0
    variance = np.full(clustering.n_clusters, pooled)
    for cluster in range(clustering.n_clusters):
        members = others & (clustering.labels == cluster)
        if members.any():
            variance[cluster] = squared[members].mean()
    return variance


def _finish(fingerprint: Floats, labels: Integers, method: str) -> Clustering:
    names, labels = np.unique(labels, return_inverse=True)
    centres = np.array([fingerprint[labels == number].mean(axis=0) for number in range(len(names))])
    order = np.argsort(centres.mean(axis=1), kind="stable")
    final = np.argsort(order)[labels]  # old number -> its place from fast to slow
    centres = centres[order]
    representatives = []
    for cluster, centre in enumerate(centres):
        members = np.flatnonzero(final == cluster)
        distance = ((np.log(fingerprint[members]) - np.log(centre)) ** 2).sum(axis=1)
        representatives.append(int(members[np.argmin(distance)]))
    weights = np.bincount(final, minlength=len(centres)) / len(final)
    return Clustering(final, weights, tuple(representatives), method)


def _kmeans(points: Floats, n_clusters: int, seed: int) -> Integers:
    from sklearn.cluster import KMeans

    n_distinct = len(np.unique(points, axis=0))
    model = KMeans(n_clusters=min(n_clusters, n_distinct), n_init=10, random_state=seed % (1 << 32))
    return np.asarray(model.fit_predict(points), dtype=np.int64)


def _automatic(fingerprint: Floats, points: Floats, seed: int) -> Integers:
    n_most = min(AUTO_MAX_CLUSTERS, len(np.unique(points, axis=0)))
    labels = np.zeros(len(points), dtype=np.int64)
    for n_clusters in range(1, n_most + 1):
        labels = _kmeans(points, n_clusters, seed)
        found = _finish(fingerprint, labels, "kmeans")
        spread = np.sqrt((found.weights**2 * relative_variance(fingerprint, found)).sum())
        if 1.96 * spread <= AUTO_HALF_WIDTH:
            break
    return labels


def _dbscan(points: Floats) -> Integers:
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import NearestNeighbors

    n_neighbours = min(_DBSCAN_MIN_SAMPLES, len(points))
    distances = NearestNeighbors(n_neighbors=n_neighbours).fit(points).kneighbors(points)[0][:, -1]
    radius = max(float(np.quantile(distances, 0.9)), 1e-9)
    labels = np.asarray(DBSCAN(eps=radius, min_samples=n_neighbours).fit_predict(points), dtype=np.int64)
    if (labels < 0).all():
        return np.zeros(len(points), dtype=np.int64)
    inside = np.flatnonzero(labels >= 0)
    for device in np.flatnonzero(labels < 0):
        labels[device] = labels[inside[np.argmin(((points[inside] - points[device]) ** 2).sum(axis=1))]]
    return labels
