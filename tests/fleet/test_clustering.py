from __future__ import annotations

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.clustering import Clustering, automatic_clusters, cluster_devices, stability
from hdapbench.spec.clustering import ClusteringMethod


def three_kinds(seed: int = 0, n_devices: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of shuffled devices of three kinds, 3 : 2 : 1, and their kinds from fast to slow."""
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(np.repeat([0, 1, 2], n_devices // 6 * np.array([3, 2, 1])))
    centres = np.array([[5.0, 1.0], [8.0, 1.2], [20.0, 4.0]])
    return centres[kinds] * np.exp(0.01 * rng.standard_normal((n_devices, 2))), kinds


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


def test_more_clusters_than_devices_gives_every_device_its_own() -> None:
    found = cluster_devices(np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0]]), n_clusters=10)

    np.testing.assert_array_equal(found.labels, [2, 0, 1])
    assert found.representatives == (1, 2, 0)


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


def test_spares_follow_the_representative_in_the_order_of_their_distance() -> None:
    fingerprint, _ = three_kinds()

    found = cluster_devices(fingerprint, n_clusters=3)

    for cluster, ranked in enumerate(found.ranked):
        apart = ((np.log(fingerprint[list(ranked)]) - found.centres[cluster]) ** 2).sum(axis=1)
        assert len(ranked) == len(set(ranked)) == 9
        assert np.all(found.labels[list(ranked)] == cluster)
        assert np.all(np.diff(apart) >= 0)
        assert ranked[0] == found.representatives[cluster]


def test_a_small_cluster_ranks_all_of_its_devices() -> None:
    found = cluster_devices(np.array([[1.0], [1.1], [1.5], [9.0]]), n_clusters=2)

    assert found.ranked == ((1, 0, 2), (3,))


def test_devices_at_the_same_distance_are_ranked_by_position() -> None:
    assert cluster_devices(np.full((30, 2), 3.0)).ranked == (tuple(range(9)),)


def test_new_devices_join_the_cluster_of_their_kind_and_nothing_is_clustered_again() -> None:
    fingerprint, _ = three_kinds()
    fresh, kinds = three_kinds(seed=1)
    found = cluster_devices(fingerprint, n_clusters=3)

    assigned = found.assign(fresh)

    np.testing.assert_array_equal(assigned.labels, kinds)
    assert assigned.distance.shape == (60,)
    assert np.median(assigned.distance) < 1


def test_a_new_device_that_is_like_none_is_far_from_every_cluster() -> None:
    found = cluster_devices(three_kinds()[0], n_clusters=3)

    assigned = found.assign(np.array([[5.0, 1.0], [6.3, 1.1], [500.0, 100.0]]))

    np.testing.assert_array_equal(assigned.labels[[0, 2]], [0, 2])
    assert assigned.distance[0] < 0.5
    assert assigned.distance[1] > 3
    assert assigned.distance[2] > 50


def test_about_one_in_a_hundred_devices_is_called_far_from_its_own_cluster() -> None:
    fingerprint = 5 * np.exp(0.1 * np.random.default_rng(0).standard_normal((5000, 3)))
    fresh = 5 * np.exp(0.1 * np.random.default_rng(1).standard_normal((5000, 3)))
    found = cluster_devices(fingerprint, n_clusters=1)

    assert (found.assign(fingerprint).distance > 1).mean() == pytest.approx(0.01, abs=0.001)
    assert (found.assign(fresh).distance > 1).mean() == pytest.approx(0.01, abs=0.005)


def test_clusters_of_one_or_of_equals_take_the_radius_of_the_others() -> None:
    alone = cluster_devices(np.array([[1.0], [10.0]]), n_clusters=2)
    mixed = cluster_devices(np.array([[1.0], [10.0], [11.0], [12.0]]), n_clusters=2)

    assert alone.assign(np.array([[1.02]])).distance[0] == pytest.approx(np.log(1.02) / 0.01)
    assert mixed.assign(np.array([[1.02]])).distance[0] == pytest.approx(np.log(1.02) / mixed.radii[1])


def test_a_fingerprint_of_other_probes_is_not_assigned() -> None:
    found = cluster_devices(three_kinds()[0], n_clusters=3)

    with pytest.raises(FleetError, match="the clusters know 2 probes; the fingerprint has 3"):
        found.assign(np.ones((4, 3)))
    with pytest.raises(FleetError, match="device 1 has a fingerprint that is not finite and positive"):
        found.assign(np.array([[1.0, 1.0], [1.0, np.nan]]))


def test_many_devices_are_assigned_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cluster_devices(three_kinds()[0], n_clusters=3)
    fresh = three_kinds(seed=2)[0]
    whole = found.assign(fresh)

    monkeypatch.setattr("hdapbench.fleet.estimate.clustering._DEVICES_AT_A_TIME", 7)
    parts = found.assign(fresh)

    np.testing.assert_array_equal(whole.labels, parts.labels)
    np.testing.assert_array_equal(whole.distance, parts.distance)


@pytest.mark.parametrize("method", ["kmeans", "gmm", "agglomerative", "dbscan"])
def test_clusterings_of_kinds_that_lie_apart_are_stable(method: ClusteringMethod) -> None:
    assert stability(three_kinds(n_devices=300)[0], method=method, n_clusters=3) > 0.98


def test_clusterings_of_a_continuum_are_less_stable_than_of_kinds_and_the_same_seed_says_the_same() -> None:
    fingerprint = np.exp(np.random.default_rng(0).uniform(0, 1, size=(400, 2)))

    found = stability(fingerprint, method="kmeans", n_clusters=7, seed=4)

    assert 0.2 < found < 0.9
    assert found == stability(fingerprint, method="kmeans", n_clusters=7, seed=4)


def test_too_many_clusters_for_the_kinds_there_are_is_unstable() -> None:
    """Splitting a kind in two is arbitrary: halves of the fleet split it differently."""
    fingerprint = three_kinds()[0]

    right, one_too_many = (stability(fingerprint, method="kmeans", n_clusters=n) for n in (3, 4))

    assert one_too_many < right - 0.05


def test_stability_of_a_large_fleet_is_judged_on_some_of_it() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.integers(3, size=30_000)
    fingerprint = np.array([1.0, 2.0, 4.0])[kinds][:, None] * np.exp(0.01 * rng.standard_normal((30_000, 2)))

    assert stability(fingerprint, method="kmeans", n_clusters=3, n_resamples=2) > 0.99


def test_fewer_than_four_devices_are_stable_for_want_of_halves() -> None:
    assert stability(np.array([[1.0], [2.0], [3.0]]), method="kmeans", n_clusters=2) == 1.0


def test_auto_asks_density_methods_once_for_they_know_their_number() -> None:
    fingerprint, kinds = three_kinds()
    asked = []

    found = automatic_clusters(
        fingerprint, lambda made: asked.append(made) or 1.0, wanted=0.01, n_most=50, method="dbscan"
    )

    np.testing.assert_array_equal(found.labels, kinds)
    assert len(asked) == 0


def test_auto_takes_no_fewer_clusters_than_let_measurements_contradict_the_fingerprint() -> None:
    rng = np.random.default_rng(0)

    numbers = [
        automatic_clusters(np.exp(rng.normal(size=(50, n_probes))), lambda _: 0.0, wanted=0.5, n_most=40).n_clusters
        for n_probes in (1, 2, 3, 5)
    ]

    assert numbers == [4, 5, 6, 8]


@pytest.mark.parametrize("needed", range(6, 24))
def test_auto_finds_the_least_sufficient_number_wherever_it_lies(needed: int) -> None:
    fingerprint = np.exp(np.random.default_rng(0).normal(size=(60, 3)))

    found = automatic_clusters(fingerprint, lambda made: 1 / made.n_clusters, wanted=1 / needed, n_most=60)

    assert found.n_clusters == needed
