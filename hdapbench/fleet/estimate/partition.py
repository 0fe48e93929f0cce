"""Partitions of weighted points: scikit-learn's clusterings behind one small interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from threadpoolctl import threadpool_limits

from hdapbench.arrays import Floats, Integers
from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.condense import Cells, systematic_sample
from hdapbench.spec import did_you_mean
from hdapbench.spec.clustering import ClusteringMethod

Partitioner = Callable[[Floats, Floats, int, int], Integers]
"""(points, weights, n_clusters, seed) -> labels, of shapes (n_points, n_dimensions), (n_points,) and (n_points,)."""

DENSITY_METHODS = ("dbscan", "hdbscan")
"""Methods that find their own number of clusters."""
_MIN_SAMPLES = 5
_SAMPLES = {"gmm": 20_000, "birch": 5_000, "hdbscan": 5_000, "agglomerative": 4_000}
"""Points at most for methods that know no weights; a systematic sample stands for the rest."""


def partition(cells: Cells, *, method: ClusteringMethod, n_clusters: int = 1, seed: int = 0) -> Integers:
    """Cluster of each point, shape (n_points,); numbers without gaps, in no particular order.

    Parameters
    ----------
    cells
        The points, gathered in weighted cells when there are many (see `condense`); a cell's points share one label.
    n_clusters
        At most this many; ``dbscan`` and ``hdbscan`` find their own number.

    Raises
    ------
    FleetError
        When there is no such method, or the number is not at least one.
    """
    if method not in _PARTITIONERS:
        raise FleetError(f"unknown clustering '{method}'{did_you_mean(method, list(_PARTITIONERS))}")
    if n_clusters < 1:
        raise FleetError(f"{n_clusters} clusters were asked for; at least 1 is needed")
    cells = _distinct(cells)
    n_distinct = len(cells.points)
    if n_distinct == 1 or (n_clusters >= n_distinct and method not in DENSITY_METHODS):
        return np.asarray(cells.cell_of, dtype=np.int64)
    # One thread: on few points threads gain nothing, and beside other work their waiting costs up to a hundredfold.
    with threadpool_limits(limits=1):
        labels = _PARTITIONERS[method](cells.points, cells.weights, min(n_clusters, n_distinct), seed % (1 << 32))
    labels = np.unique(labels, return_inverse=True)[1]
    return np.asarray(labels[cells.cell_of], dtype=np.int64)


def _distinct(cells: Cells) -> Cells:
    """The cells with those at the same place made one: rounded latencies repeat, which would hide how points lie."""
    points, place = np.unique(cells.points, axis=0, return_inverse=True)
    if len(points) == len(cells.points):
        return cells
    weights = np.asarray(np.bincount(place, weights=cells.weights), dtype=np.float64)
    return Cells(points, weights, np.asarray(place[cells.cell_of], dtype=np.int64), cells.width)


def _kmeans(points: Floats, weights: Floats, n_clusters: int, seed: int) -> Integers:
    from sklearn.cluster import KMeans

    n_starts = 10 if len(points) <= 2000 else 3
    model = KMeans(n_clusters=n_clusters, n_init=n_starts, random_state=seed)
    return _labels(model.fit(points, sample_weight=weights / weights.mean()).labels_)


def _minibatch_kmeans(points: Floats, weights: Floats, n_clusters: int, seed: int) -> Integers:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(n_clusters=n_clusters, n_init=3, random_state=seed)
    return _labels(model.fit(points, sample_weight=weights / weights.mean()).labels_)


def _gaussian_mixture(points: Floats, weights: Floats, n_clusters: int, seed: int) -> Integers:
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(n_components=n_clusters, random_state=seed, reg_covar=1e-8)
    return _labels(model.fit(_sample(points, weights, "gmm")).predict(points))


def _birch(points: Floats, weights: Floats, n_clusters: int, _seed: int) -> Integers:
    from sklearn.cluster import Birch

    # Subclusters far smaller than clusters: their number, not the threshold, decides the partition.
    threshold = max(float(np.sqrt(np.cov(points.T, aweights=weights).trace())) / 50, 1e-9)
    model = Birch(threshold=threshold, n_clusters=None).fit(_sample(points, weights, "birch"))
    centres = model.subcluster_centers_
    if len(centres) <= n_clusters:
        return _nearest(points, centres)
    from sklearn.cluster import AgglomerativeClustering

    merged = AgglomerativeClustering(n_clusters=n_clusters).fit_predict(centres)
    return _labels(merged)[_nearest(points, centres)]


def _dbscan(points: Floats, weights: Floats, _n_clusters: int, _seed: int) -> Integers:
    from sklearn.cluster import DBSCAN

    # More neighbours in larger fleets: with five, the fringe of 20,000 devices falls into dozens of tiny clusters.
    n_neighbours = min(max(_MIN_SAMPLES, len(points) // 500), len(points))
    radius = max(float(np.quantile(_neighbour_distances(points, n_neighbours), 0.9)), 1e-9)
    counts = weights / weights.min()  # of devices, when all weigh the same
    found = DBSCAN(eps=radius, min_samples=n_neighbours).fit_predict(points, sample_weight=counts)
    return _adopt_noise(points, _labels(found))


def _hdbscan(points: Floats, weights: Floats, _n_clusters: int, _seed: int) -> Integers:
    from sklearn.cluster import HDBSCAN

    sample = _sample(points, weights, "hdbscan")
    smallest = max(_MIN_SAMPLES, len(sample) // 50)
    if len(sample) <= smallest:
        return np.zeros(len(points), dtype=np.int64)
    found = _adopt_noise(sample, _labels(HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(sample)))
    return found[_nearest(points, sample)]


def _agglomerative(points: Floats, weights: Floats, n_clusters: int, _seed: int) -> Integers:
    from sklearn.cluster import AgglomerativeClustering

    sample = _sample(points, weights, "agglomerative")
    if len(sample) < 2:
        return np.zeros(len(points), dtype=np.int64)
    found = AgglomerativeClustering(n_clusters=n_clusters).fit_predict(sample)  # Ward's linkage
    return _labels(found)[_nearest(points, sample)]


def _sample(points: Floats, weights: Floats, method: str) -> Floats:
    """The points themselves when they are few and weigh the same, or a systematic sample of them."""
    few = len(points) <= _SAMPLES[method]
    if few and np.ptp(weights) <= 1e-9 * weights.max():
        return points
    return points[systematic_sample(weights, _SAMPLES[method])]


def _adopt_noise(points: Floats, labels: Integers) -> Integers:
    """Labels with every point called noise (-1) given to the cluster of the nearest one that is not."""
    inside = np.flatnonzero(labels >= 0)
    if not len(inside):
        return np.zeros(len(points), dtype=np.int64)
    outside = np.flatnonzero(labels < 0)
    if len(outside):
        labels = labels.copy()
        labels[outside] = labels[inside[_nearest(points[outside], points[inside])]]
    return labels


def _neighbour_distances(points: Floats, n_neighbours: int) -> Floats:
    from sklearn.neighbors import NearestNeighbors

    return np.asarray(NearestNeighbors(n_neighbors=n_neighbours).fit(points).kneighbors(points)[0][:, -1])


def _nearest(points: Floats, candidates: Floats) -> Integers:
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=1).fit(candidates).kneighbors(points, return_distance=False)
    return _labels(found[:, 0])


def _labels(values: object) -> Integers:
    return cast(Integers, np.asarray(values, dtype=np.int64))


_PARTITIONERS: dict[str, Partitioner] = {
    "kmeans": _kmeans,
    "minibatch-kmeans": _minibatch_kmeans,
    "gmm": _gaussian_mixture,
    "birch": _birch,
    "dbscan": _dbscan,
    "hdbscan": _hdbscan,
    "agglomerative": _agglomerative,
}
