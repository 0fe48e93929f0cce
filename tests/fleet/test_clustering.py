from __future__ import annotations

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.clustering import Clustering, automatic_clusters, cluster_devices


def three_kinds(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of 60 shuffled devices of three kinds, and their kinds from fast to slow."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat([0, 1, 2], [30, 20, 10]))
    centres = np.array([[5.0, 1.0], [8.0, 1.2], [20.0, 4.0]])
    return centres[kinds] * np.exp(0.01 * rng.standard_normal((60, 2))), kinds


@pytest.mark.parametrize("method", ["kmeans", "dbscan"])
def test_kinds_that_lie_apart_are_found_and_ordered_from_fast_to_slow(method: str) -> None:
    fingerprint, kinds = three_kinds()

    found = cluster_devices(fingerprint, method=method, n_clusters=3)  # type: ignore[arg-type]

    np.testing.assert_array_equal(found.labels, kinds)
    np.testing.assert_allclose(found.weights, [0.5, 1 / 3, 1 / 6])
    assert found.method == method


@pytest.mark.parametrize("method", ["kmeans", "dbscan"])
@pytest.mark.parametrize("n_devices", [1, 2, 3, 4, 5, 9, 200])
def test_every_device_is_in_one_cluster_whose_representative_is_one_of_its_own(method: str, n_devices: int) -> None:
    fingerprint = np.exp(np.random.default_rng(n_devices).normal(0, 0.3, size=(n_devices, 3)))

    found = cluster_devices(fingerprint, method=method, n_clusters=4)  # type: ignore[arg-type]

    assert found.labels.shape == (n_devices,)
    assert found.weights.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(found.weights, np.bincount(found.labels) / n_devices)
    np.testing.assert_array_equal(found.labels[list(found.representatives)], np.arange(found.n_clusters))


def test_the_representative_is_the_member_nearest_to_the_clusters_mean() -> None:
    fingerprint = np.array([[1.0], [1.1], [1.5], [9.0], [10.0], [11.0]])

    found = cluster_devices(fingerprint, n_clusters=2)

    assert found.representatives == (1, 4)


def test_devices_that_are_proportional_are_told_apart_by_their_ratio_not_their_difference() -> None:
    """1 against 2 ms is a bigger difference than 50 against 60: logarithms see that."""
    fingerprint = np.array([[1.0], [2.0], [50.0], [60.0]])

    found = cluster_devices(fingerprint, n_clusters=3)

    np.testing.assert_array_equal(found.labels, [0, 1, 2, 2])


def test_identical_devices_are_one_cluster_whatever_is_asked_for() -> None:
    for method in ("kmeans", "dbscan"):
        found = cluster_devices(np.full((9, 3), 4.0), method=method, n_clusters=5)  # type: ignore[arg-type]

        assert found.n_clusters == 1
        np.testing.assert_allclose(found.weights, [1.0], rtol=1e-15)


def test_more_clusters_than_devices_gives_every_device_its_own() -> None:
    found = cluster_devices(np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), n_clusters=10)

    np.testing.assert_array_equal(found.labels, [2, 0, 1])
    assert found.representatives == (1, 2, 0)


def test_the_same_seed_gives_the_same_clusters() -> None:
    fingerprint = np.exp(np.random.default_rng(3).normal(0, 0.3, size=(80, 3)))

    first, again = (cluster_devices(fingerprint, n_clusters=7, seed=5) for _ in range(2))

    np.testing.assert_array_equal(first.labels, again.labels)
    assert first.representatives == again.representatives


def test_clusters_do_not_depend_on_the_order_of_devices() -> None:
    fingerprint, _ = three_kinds()
    order = np.random.default_rng(1).permutation(len(fingerprint))

    straight, shuffled = cluster_devices(fingerprint, n_clusters=3), cluster_devices(fingerprint[order], n_clusters=3)

    np.testing.assert_array_equal(straight.labels[order], shuffled.labels)


def test_an_outlier_joins_the_nearest_dbscan_cluster() -> None:
    fingerprint, kinds = three_kinds()
    with_outlier = np.vstack([fingerprint, [200.0, 40.0]])

    found = cluster_devices(with_outlier, method="dbscan")

    np.testing.assert_array_equal(found.labels, [*kinds, 2])
    assert found.representatives[2] != 60


def test_kmeans_gives_a_device_a_hundred_times_slower_a_cluster_of_its_own() -> None:
    fingerprint = np.vstack([three_kinds()[0], [500.0, 100.0]])

    found = cluster_devices(fingerprint, n_clusters=4)

    assert found.representatives[-1] == 60
    assert found.weights[-1] == pytest.approx(1 / 61)


def widest(fingerprint: np.ndarray, found: Clustering) -> float:
    """Standard deviation of log latency within the clusters, over the root of their number: falls with more."""
    inside = np.log(fingerprint) - found.centres[found.labels]
    return float(inside.std() / np.sqrt(found.n_clusters))


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.3])
def test_auto_takes_the_fewest_clusters_that_promise_the_wanted_error(spread: float) -> None:
    fingerprint = 5 * np.exp(spread * np.random.default_rng(0).standard_normal((60, 3)))

    found = automatic_clusters(fingerprint, lambda made: widest(fingerprint, made), wanted=0.015, n_most=60)

    assert widest(fingerprint, found) <= 0.015
    if found.n_clusters > 6:  # the least number that lets measurements contradict three probes
        fewer = cluster_devices(fingerprint, n_clusters=found.n_clusters - 1)
        assert widest(fingerprint, fewer) > 0.015


def test_auto_takes_more_clusters_the_wider_the_fleet() -> None:
    noise = np.random.default_rng(0).standard_normal((60, 3))
    fleets = [5 * np.exp(spread * noise) for spread in (0.0, 0.03, 0.1, 0.3)]

    numbers = [
        automatic_clusters(one, lambda made, one=one: widest(one, made), wanted=0.01, n_most=60).n_clusters
        for one in fleets
    ]

    assert numbers[0] == 1
    assert np.all(np.diff(numbers) > 0)


def test_auto_stops_at_the_most_clusters_allowed() -> None:
    fingerprint = 5 * np.exp(0.3 * np.random.default_rng(0).standard_normal((60, 3)))

    found = automatic_clusters(fingerprint, lambda made: widest(fingerprint, made), wanted=1e-9, n_most=11)

    assert found.n_clusters == 11


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_an_impossible_fingerprint_is_refused_naming_the_device(bad: float) -> None:
    fingerprint = three_kinds()[0]
    fingerprint[17, 1] = bad

    with pytest.raises(FleetError, match="device 17 has a fingerprint that is not finite and positive"):
        cluster_devices(fingerprint, n_clusters=2)


def test_an_empty_fleet_is_refused() -> None:
    with pytest.raises(FleetError, match="empty fleet"):
        cluster_devices(np.empty((0, 3)))
