"""All methods on more devices than are clustered one by one, with weights, and again."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from hdapbench.fleet.estimate.clustering import Clustering, cluster_devices
from hdapbench.fleet.estimate.condense import CONDENSE_ABOVE
from hdapbench.spec.clustering import ClusteringMethod

METHODS: tuple[ClusteringMethod, ...] = get_args(ClusteringMethod)
CENTRES = np.array([[5.0, 1.0, 2.0], [8.0, 1.2, 2.0], [20.0, 4.0, 9.0]])
MANY = CONDENSE_ABOVE + 4000


def kinds_of(n_devices: int, seed: int = 0, spread: float = 0.01) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of devices of three kinds that lie apart, 5 : 3 : 2, and their kinds from fast to slow."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(3, size=n_devices, p=[0.5, 0.3, 0.2])
    return CENTRES[kinds] * np.exp(spread * rng.standard_normal((n_devices, 3))), kinds


def continuum(n_devices: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 5 * np.exp(0.3 * rng.standard_normal((n_devices, 1)) + 0.1 * rng.standard_normal((n_devices, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_kinds_of_a_fleet_too_large_to_be_clustered_device_by_device(
    method: ClusteringMethod,
) -> None:
    fingerprint, kinds = kinds_of(MANY)

    found = cluster_devices(fingerprint, method=method, n_clusters=3)

    assert found.method == method
    np.testing.assert_array_equal(found.labels, kinds)
    np.testing.assert_allclose(found.weights, np.bincount(kinds) / MANY)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_devices", [300, MANY])
def test_every_device_of_a_continuum_is_in_a_cluster_and_the_same_seed_finds_the_same(
    method: ClusteringMethod, n_devices: int
) -> None:
    fingerprint = continuum(n_devices)

    found, again = (cluster_devices(fingerprint, method=method, n_clusters=7, seed=3) for _ in range(2))

    assert found.labels.shape == (n_devices,)
    assert found.labels.min() == 0
    np.testing.assert_allclose(found.weights, np.bincount(found.labels) / n_devices)
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.n_clusters == 7 or method in ("dbscan", "hdbscan")
    check_description(fingerprint, found)
    np.testing.assert_array_equal(found.labels, again.labels)
    assert found.ranked == again.ranked


def check_description(fingerprint: np.ndarray, found: Clustering) -> None:
    """Order, centres, radii and ranks of a clustering without weights follow from its labels."""
    means = np.stack([fingerprint[found.labels == cluster].mean(axis=0) for cluster in range(found.n_clusters)])
    np.testing.assert_allclose(np.exp(found.centres), means)
    assert np.all(np.diff(means.mean(axis=1)) >= 0)
    apart = np.sqrt(((np.log(fingerprint) - found.centres[found.labels]) ** 2).sum(axis=1))
    for cluster, ranked in enumerate(found.ranked):
        members = np.flatnonzero(found.labels == cluster)
        assert ranked == tuple(members[np.argsort(apart[members], kind="stable")][:9])
        assert found.radii[cluster] ** 2 == pytest.approx(np.quantile(apart[members] ** 2, 0.99))


@pytest.mark.parametrize("method", METHODS)
def test_a_cell_of_many_devices_draws_a_cluster_as_its_devices_do(method: ClusteringMethod) -> None:
    """Clusters of the condensed fleet are near those of the devices themselves, for they follow the weights."""
    if method in ("dbscan", "hdbscan"):
        pytest.skip("finds one cluster in a continuum")
    fingerprint = continuum(MANY)

    condensed = cluster_devices(fingerprint, method=method, n_clusters=4)
    sample = cluster_devices(fingerprint[:4000], method=method, n_clusters=4)

    np.testing.assert_allclose(condensed.weights.max(), sample.weights.max(), atol=0.2)
    assert spread_within(fingerprint, condensed) < 1.25 * spread_within(fingerprint[:4000], sample)


def spread_within(fingerprint: np.ndarray, found: Clustering) -> float:
    return float((np.log(fingerprint) - found.centres[found.labels]).std())


@pytest.mark.parametrize("method", METHODS)
def test_a_device_of_weight_w_counts_like_w_devices(method: ClusteringMethod) -> None:
    fingerprint, kinds = kinds_of(120, spread=0.03)
    weights = np.random.default_rng(1).integers(1, 6, size=120)

    order = np.lexsort(fingerprint.T[::-1])  # copies are gathered in this order; where k-means starts depends on it
    fingerprint, kinds = fingerprint[order], kinds[order]
    weighted = cluster_devices(fingerprint, method=method, n_clusters=5, weights=weights.astype(float))
    copied = cluster_devices(np.repeat(fingerprint, weights, axis=0), method=method, n_clusters=5)

    assert len(set(zip(weighted.labels, kinds, strict=True))) == weighted.n_clusters  # no cluster is of two kinds
    np.testing.assert_array_equal(np.repeat(weighted.labels, weights), copied.labels)
    np.testing.assert_allclose(weighted.weights, copied.weights)
    np.testing.assert_allclose(weighted.centres, copied.centres)


@pytest.mark.parametrize(("weight", "n_clusters"), [(1, 3), (5, 4)])
def test_dbscan_takes_one_heavy_device_for_as_many_as_it_stands_for(weight: int, n_clusters: int) -> None:
    fingerprint = np.vstack([kinds_of(200)[0], [60.0, 12.0, 30.0]])
    weights = np.array([1.0] * 200 + [weight])

    weighted = cluster_devices(fingerprint, method="dbscan", weights=weights)
    copied = cluster_devices(np.vstack([fingerprint, *[fingerprint[200:]] * (weight - 1)]), method="dbscan")

    assert weighted.n_clusters == copied.n_clusters == n_clusters
    np.testing.assert_array_equal(weighted.labels, copied.labels[:201])


def test_kmeans_moves_its_clusters_to_where_the_weight_is() -> None:
    """Two clusters for three kinds: the two light ones share one."""
    fingerprint = np.repeat([[1.0], [2.0], [4.0]], 10, axis=0)

    slow = cluster_devices(fingerprint, n_clusters=2, weights=np.repeat([1.0, 1.0, 100.0], 10))
    fast = cluster_devices(fingerprint, n_clusters=2, weights=np.repeat([100.0, 1.0, 1.0], 10))

    np.testing.assert_array_equal(slow.labels, np.repeat([0, 0, 1], 10))
    np.testing.assert_array_equal(fast.labels, np.repeat([0, 1, 1], 10))
    np.testing.assert_allclose(slow.weights, [20 / 1020, 1000 / 1020])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_honours_the_weights_of_its_devices(method: ClusteringMethod) -> None:
    fingerprint, kinds = kinds_of(MANY)
    weights = np.array([1.0, 10.0, 3.0])[kinds]

    found = cluster_devices(fingerprint, method=method, n_clusters=3, weights=weights)

    np.testing.assert_array_equal(found.labels, kinds)
    np.testing.assert_allclose(found.weights, np.bincount(kinds, weights=weights) / weights.sum())
