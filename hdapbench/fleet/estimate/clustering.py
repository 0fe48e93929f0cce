"""Devices that behave alike: clusters of fingerprints, their weights, representatives and spares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.condense import condense, systematic_sample
from hdapbench.fleet.estimate.partition import DENSITY_METHODS, partition
from hdapbench.fleet.fingerprint import checked_fingerprint
from hdapbench.fleet.weights import device_shares
from hdapbench.spec.clustering import ClusteringMethod

N_SPARES = 8
"""Devices kept per cluster beyond the first, nearest to its centre first: further representatives and spares."""
_FAR_QUANTILE = 0.99
_DEVICES_AT_A_TIME = 1 << 17
_SILHOUETTE_SAMPLE = 2000


@dataclass(frozen=True)
class Assignment:
    """Where devices belong that were not clustered.

    Attributes
    ----------
    labels
        Nearest cluster of each device, shape (n_devices,).
    distance
        Distance to its centre in log latency, relative to the cluster's radius; above 1 is far. Shape (n_devices,).
    """

    labels: Integers
    distance: Floats


@dataclass(frozen=True)
class Clustering:
    """A partition of a fleet.

    Attributes
    ----------
    labels
        Cluster of each device, shape (n_devices,); clusters are ordered from fast to slow.
    weights
        Share of the fleet in each cluster, shape (n_clusters,), summing to one.
    ranked
        Per cluster, devices from the nearest to its centre on: the representative first, then its spares.
    method
        How the clusters were found.
    centres
        Logarithm of each cluster's mean latencies, shape (n_clusters, n_probes).
    radii
        Distance in log latency within which 99 % of a cluster's devices lie, shape (n_clusters,).
    """

    labels: Integers
    weights: Floats
    ranked: tuple[tuple[int, ...], ...]
    method: str
    centres: Floats
    radii: Floats

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.ranked)

    @property
    def representatives(self) -> tuple[int, ...]:
        """Position of each cluster's representative: the device nearest to the cluster's mean latencies."""
        return tuple(devices[0] for devices in self.ranked)

    @property
    def reach(self) -> Floats:
        """Radii that new devices are compared with, shape (n_clusters,).

        A cluster of one or of equals has no radius of its own: it gets the typical one of the others, or 1 %.
        """
        typical = float(np.median(self.radii[self.radii > 0])) if (self.radii > 0).any() else 0.01
        return np.where(self.radii > 0, self.radii, typical)

    def assign(self, fingerprint_ms: Floats) -> Assignment:
        """Clusters of devices that were not there when the clusters were made; nothing is clustered again.

        Parameters
        ----------
        fingerprint_ms
            Their fingerprints, shape (n_devices, n_probes).

        Raises
        ------
        FleetError
            When a fingerprint is not finite and positive, or of other probes.
        """
        points = np.log(checked_fingerprint(fingerprint_ms))
        if points.shape[1] != self.centres.shape[1]:
            raise FleetError(f"the clusters know {self.centres.shape[1]} probes; the fingerprint has {points.shape[1]}")
        labels = np.empty(len(points), dtype=np.int64)
        distance = np.empty(len(points))
        for first in range(0, len(points), _DEVICES_AT_A_TIME):
            part = slice(first, first + _DEVICES_AT_A_TIME)
            apart = np.sqrt(((points[part, None] - self.centres[None]) ** 2).sum(axis=2))
            labels[part] = apart.argmin(axis=1)
            distance[part] = apart.min(axis=1)
        return Assignment(labels, distance / self.reach[labels])


def cluster_devices(
    fingerprint_ms: Floats,
    *,
    method: ClusteringMethod = "kmeans",
    n_clusters: int = 1,
    weights: Floats | None = None,
    seed: int = 0,
) -> Clustering:
    """Clusters of devices by the logarithms of their probe latencies.

    Parameters
    ----------
    fingerprint_ms
        Median latency of each probe on each device in ms, shape (n_devices, n_probes).
    method
        How; see `hdapbench.fleet.estimate.partition`. ``dbscan`` takes its radius from the distances to near
        neighbours; devices that it or ``hdbscan`` calls noise join the nearest cluster, so that weights add up to one.
    n_clusters
        Clusters wanted; more than there are distinct devices gives one per distinct device. ``dbscan`` and ``hdbscan``
        find their own number.
    weights
        Share of the fleet of each device, shape (n_devices,), taken in proportion; None: all alike.

    Raises
    ------
    FleetError
        When the fingerprint or a weight is missing, not finite or not positive, or there is no such method or number.
    """
    fingerprint = checked_fingerprint(fingerprint_ms)
    share = device_shares(len(fingerprint), weights)
    labels = partition(condense(np.log(fingerprint), share), method=method, n_clusters=n_clusters, seed=seed)
    return _described(fingerprint, share, labels, method)


def automatic_clusters(
    fingerprint_ms: Floats,
    half_width: Callable[[Clustering], float],
    *,
    wanted: float,
    n_most: int,
    method: ClusteringMethod = "kmeans",
    weights: Floats | None = None,
    seed: int = 0,
) -> Clustering:
    """The fewest clusters whose promised half-width is at most ``wanted``, or ``n_most`` clusters.

    At least three more than there are probes (as far as devices differ), so that the measured devices can contradict
    the fingerprint. Numbers are doubled until one suffices, then halved in between.

    Parameters
    ----------
    fingerprint_ms
        Shape (n_devices, n_probes).
    half_width
        Relative half-width of the 95 % interval that a clustering promises.
    """
    fingerprint = checked_fingerprint(fingerprint_ms)
    share = device_shares(len(fingerprint), weights)
    cells = condense(np.log(fingerprint), share)
    n_distinct = len(np.unique(cells.points, axis=0))

    def at(n: int) -> Clustering:
        return _described(fingerprint, share, partition(cells, method=method, n_clusters=n, seed=seed), method)

    if method in DENSITY_METHODS:
        return at(1)
    most = min(n_most, n_distinct)
    good = min(fingerprint.shape[1] + 3, most)
    too_few = good - 1
    found = at(good)
    while (missed := half_width(found) > wanted) and good < most:
        too_few, good = good, min(2 * good, most)
        found = at(good)
    if missed:
        return found
    while good - too_few > 1:
        middle = (good + too_few) // 2
        between = at(middle)
        if half_width(between) <= wanted:
            good, found = middle, between
        else:
            too_few = middle
    return found


def separated_clusters(
    fingerprint_ms: Floats,
    *,
    n_most: int,
    method: ClusteringMethod = "kmeans",
    weights: Floats | None = None,
    seed: int = 0,
) -> Clustering:
    """The number of clusters, from 2 to ``n_most``, of highest mean silhouette (Rousseeuw 1987); of equals the fewest.

    It finds kinds of devices where there are kinds; where devices differ continuously it says little, and nothing about
    the error of the average. Judged on a systematic sample of at most 2,000 devices. The fingerprint is of shape
    (n_devices, n_probes).
    """
    from sklearn.metrics import silhouette_score

    fingerprint = checked_fingerprint(fingerprint_ms)
    share = device_shares(len(fingerprint), weights)
    points = np.log(fingerprint)
    cells = condense(points, share)
    n_distinct = len(np.unique(cells.points, axis=0))
    judged = np.unique(systematic_sample(share, min(_SILHOUETTE_SAMPLE, len(points))))
    best = (-np.inf, np.zeros(len(points), dtype=np.int64))
    for n_clusters in range(2, min(n_most, n_distinct - 1) + 1):
        labels = partition(cells, method=method, n_clusters=n_clusters, seed=seed)
        n_found = len(np.unique(labels[judged]))
        if 1 < n_found < len(judged):
            score = float(silhouette_score(points[judged], labels[judged]))
            if score > best[0] + 1e-12:
                best = (score, labels)
    return _described(fingerprint, share, best[1], method)


def stability(
    fingerprint_ms: Floats, *, method: ClusteringMethod, n_clusters: int, n_resamples: int = 10, seed: int = 0
) -> float:
    """How alike clusterings of two random halves of a fleet are on all its devices: mean adjusted Rand index.

    1 is the same partition every time, 0 is chance (Hubert and Arabie, "Comparing partitions", 1985). Fleets of more
    than 4,000 devices are judged on a random 4,000 of them. The fingerprint is of shape (n_devices, n_probes).
    """
    from sklearn.metrics import adjusted_rand_score

    fingerprint = checked_fingerprint(fingerprint_ms)
    rng = np.random.default_rng(seed)
    if len(fingerprint) > 4000:
        fingerprint = fingerprint[rng.choice(len(fingerprint), 4000, replace=False)]
    if len(fingerprint) < 4:
        return 1.0
    scores = []
    for _ in range(n_resamples):
        halves = np.array_split(rng.permutation(len(fingerprint)), 2)
        made = [cluster_devices(fingerprint[half], method=method, n_clusters=n_clusters) for half in halves]
        one, other = (clustering.assign(fingerprint).labels for clustering in made)
        scores.append(float(adjusted_rand_score(one, other)))
    return float(np.mean(scores))


def _described(fingerprint: Floats, share: Floats, labels: Integers, method: str) -> Clustering:
    """Clustering of labels: clusters sorted from fast to slow, with centres, radii and ranked devices."""
    n_clusters = int(labels.max()) + 1
    total = np.bincount(labels, weights=share, minlength=n_clusters)
    sums = [np.bincount(labels, weights=share * column, minlength=n_clusters) for column in fingerprint.T]
    mean = np.stack(sums, axis=1) / total[:, None]
    order = np.argsort(mean.mean(axis=1), kind="stable")
    place = np.empty(n_clusters, dtype=np.int64)
    place[order] = np.arange(n_clusters)
    labels = place[labels]  # old number -> its place from fast to slow
    centres = np.log(mean[order])
    distance = np.empty(len(labels))
    for first in range(0, len(labels), _DEVICES_AT_A_TIME):
        part = slice(first, first + _DEVICES_AT_A_TIME)
        distance[part] = ((np.log(fingerprint[part]) - centres[labels[part]]) ** 2).sum(axis=1)
    ranked, radii = [], np.empty(n_clusters)
    by_cluster = np.argsort(labels, kind="stable")
    for cluster, members in enumerate(np.split(by_cluster, np.searchsorted(labels[by_cluster], range(1, n_clusters)))):
        apart = distance[members]
        nearest = np.arange(len(members))
        radii[cluster] = np.sqrt(np.quantile(apart, _FAR_QUANTILE))
        if (
            len(members) == 2
        ):  # both are as far from their mean; by logarithms the slower one would stand for every pair
            apart = np.zeros(2)
        if len(members) > N_SPARES + 1:
            nearest = np.argpartition(apart, N_SPARES + 1)[: N_SPARES + 1]
        nearest = nearest[np.lexsort((nearest, apart[nearest]))]
        ranked.append(tuple(int(device) for device in members[nearest][: N_SPARES + 1]))
    return Clustering(labels, np.asarray(total[order], dtype=float), tuple(ranked), method, centres, radii)
