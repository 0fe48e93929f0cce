from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import ClusteredFleet, fingerprint_fleet
from hdapbench.fleet.estimate.clustering import Clustering
from hdapbench.fleet.estimate.estimators import Estimator, unexplained_variance
from hdapbench.fleet.estimate.probes import choose_probes
from hdapbench.fleet.simulated.engine import kernel_times
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.fleet.simulated.profile import load_profile
from hdapbench.spec import ClusteringSpec
from tests.fleet.making import RUNS, pruned, simulated


def clustered(fleet: SimulatedFleet, kernels: KernelModel, n_clusters: int) -> ClusteredFleet:
    return fingerprint_fleet(fleet, kernels, clustering=ClusteringSpec(n_clusters=n_clusters), runs=RUNS, seed=10)


def by_hand(
    fingerprint_ms: object, labels: list[int], ranked: tuple[tuple[int, ...], ...], estimator: Estimator = "medoid"
) -> ClusteredFleet:
    """A clustered fleet without devices behind it."""
    fingerprint = np.asarray(fingerprint_ms, dtype=float)
    weights = np.bincount(labels) / len(labels)
    centres = np.stack([np.log(fingerprint[np.array(labels) == label].mean(0)) for label in range(len(ranked))])
    clustering = Clustering(np.array(labels), weights, ranked, "kmeans", centres, np.ones(len(ranked)))
    return ClusteredFleet(simulated("mixed", len(labels)), clustering, fingerprint, estimator)


def test_probes_differ_in_how_much_of_them_compute_bounds(kernels: KernelModel) -> None:
    profile = load_profile("xavier_nx")
    times = kernel_times(kernels, choose_probes(kernels), profile, "fp32")

    bound = np.maximum(times.compute_ms, times.memory_ms)
    by_compute = np.where(times.compute_ms >= times.memory_ms, bound, 0.0).sum(axis=1)
    launch_share = 0.008 * len(kernels) / (bound.sum(axis=1) + 0.008 * len(kernels))

    assert launch_share[1] > 1.2 * launch_share[0]
    assert np.ptp(by_compute / bound.sum(axis=1)) > 0.01
    assert len(np.unique(launch_share.round(3))) == 3


def test_groups_of_one_channel_keep_it_in_every_probe(kernels: KernelModel) -> None:
    tiny = KernelModel(kernels.groups, np.ones_like(kernels.sizes), kernels.kernels)

    assert np.all(choose_probes(tiny) == 1)


def test_a_fingerprint_costs_one_query_per_device_and_probe(kernels: KernelModel) -> None:
    found = clustered(simulated("mixed", 20), kernels, 4)

    assert found.fingerprint_ms.shape == (20, 3)
    assert found.n_fingerprint_queries == 60
    assert found.n_clusters == 4


def test_fingerprints_are_medians_that_single_spikes_do_not_move(kernels: KernelModel) -> None:
    fleet = simulated("mixed", 150)
    probes = Workloads(kernels, choose_probes(kernels), ("a", "b", "c"))

    found = clustered(fleet, kernels, 4)

    assert np.abs(found.fingerprint_ms / fleet.true_latency_ms(probes) - 1).max() < 0.08  # a spike alone is 50 %


def test_measuring_clusters_asks_the_representatives_alone(kernels: KernelModel) -> None:
    fleet = simulated("mixed", 30)
    found, load = clustered(fleet, kernels, 4), pruned(kernels, 5, seed=0)

    measured = found.measure_clusters(load, runs=RUNS, seed=3)

    devices = np.array(found.clustering.representatives)
    assert measured.samples_ms.shape == (4, 5, RUNS)
    assert measured.latency_ms.shape == (5, 4)
    np.testing.assert_array_equal(measured.samples_ms, fleet.measure(load, devices, runs=RUNS, seed=3))
    np.testing.assert_array_equal(measured.latency_ms, np.median(measured.samples_ms, axis=2).T)


def test_an_interval_widens_when_the_representatives_miss_the_fleets_mean_on_the_probes() -> None:
    rng = np.random.default_rng(0)
    fingerprint = 4 * np.exp(0.3 * rng.standard_normal((40, 1)) + 0.01 * rng.standard_normal((40, 3)))
    order = np.argsort(fingerprint[:, 0])
    middle = int(np.argmin(abs(fingerprint.mean(1) - fingerprint.mean())))
    typical, extreme = (by_hand(fingerprint, [0] * 40, ((device,),)) for device in (middle, int(order[-1])))

    widths = [
        float((estimate.high_ms - estimate.low_ms)[0])
        for estimate in (found.average(np.array([[5.0]])) for found in (typical, extreme))
    ]

    assert widths[1] > 5 * widths[0]


def test_unexplained_variance_is_that_of_independent_noise() -> None:
    """A probe predicted from two others of the same noise: its own variance, and half of theirs."""
    rng = np.random.default_rng(0)
    speed = rng.normal(0, 0.3, size=(2000, 1))

    variance = unexplained_variance(np.exp(speed + 0.02 * rng.standard_normal((2000, 3))))

    assert variance == pytest.approx(0.02**2 * 1.5, rel=0.06)


def test_unexplained_variance_does_not_shrink_with_the_number_of_clusters(kernels: KernelModel) -> None:
    """Residuals within clusters do, and their intervals were too narrow."""
    fleet, load = simulated("same_config", 60), pruned(kernels, 1, seed=0)

    relative = []
    for n_clusters in (5, 20):
        found = clustered(fleet, kernels, n_clusters)
        estimate = found.average(found.measure_clusters(load, runs=RUNS, seed=1).device_latency_ms)
        relative.append(((estimate.high_ms - estimate.low_ms) / estimate.mean_ms)[0])

    assert relative[0] / relative[1] == pytest.approx(2.0, rel=0.15)  # the root of four times the measurements


@pytest.mark.parametrize("n_devices", [1, 2, 3, 4, 5, 6, 7])
def test_unexplained_variance_of_few_devices_is_finite(n_devices: int) -> None:
    fingerprint = np.exp(np.random.default_rng(n_devices).normal(0, 0.1, size=(n_devices, 3)))

    variance = unexplained_variance(fingerprint)

    assert variance == 0.0 if n_devices == 1 else 0.0 < variance < 0.5


def replicate(
    scenario: str, kernels: KernelModel, *, n_clusters: int, replications: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Relative errors of the mean of unseen models, and whether the interval held the true mean."""
    errors, covered = [], []
    for seed in range(replications):
        fleet, load = simulated(scenario, 60, seed), pruned(kernels, 3, seed)
        found = clustered(fleet, kernels, n_clusters)
        estimates = found.average(found.measure_clusters(load, runs=RUNS, seed=20).device_latency_ms)
        true = fleet.true_latency_ms(load).mean(axis=0)
        errors.append(np.abs(estimates.mean_ms / true - 1))
        covered.append((estimates.low_ms <= true) & (true <= estimates.high_ms))
    return np.concatenate(errors), np.concatenate(covered)


@pytest.mark.parametrize(("scenario", "most_error"), [("same_config", 0.018), ("mixed", 0.021), ("harsh", 0.035)])
def test_intervals_of_unseen_models_hold_the_true_mean(
    kernels: KernelModel, scenario: str, most_error: float, record_property: Callable[[str, object], None]
) -> None:
    errors, covered = replicate(scenario, kernels, n_clusters=8, replications=67)  # 201 intervals

    record_property("coverage", float(covered.mean()))
    record_property("error_95", float(np.quantile(errors, 0.95)))
    assert covered.mean() >= 0.88
    assert np.quantile(errors, 0.95) < most_error


def test_a_few_representatives_estimate_a_mixed_fleet_far_better_than_as_many_random_devices(
    kernels: KernelModel,
) -> None:
    ours, _ = replicate("mixed", kernels, n_clusters=4, replications=20)
    random = []
    for seed in range(20):
        fleet, load = simulated("mixed", 60, seed), pruned(kernels, 3, seed)
        true = fleet.true_latency_ms(load)
        picked = np.random.default_rng(seed).choice(60, 4, replace=False)
        random.append(np.abs(true[picked].mean(axis=0) / true.mean(axis=0) - 1))

    assert np.mean(ours) < 0.25 * np.mean(random)


def test_percentiles_are_refined_by_each_devices_own_fingerprint() -> None:
    """One cluster of devices of one to five times the speed: the worst is five times its representative."""
    found = by_hand(np.array([1.0, 2.0, 3.0, 4.0, 5.0])[:, None] * [[1.0, 2.0]], [0] * 5, ((1,),))

    percentiles = [found.percentile(np.array([[20.0]]), percent)[0] for percent in (0, 50, 100)]

    np.testing.assert_allclose(percentiles, [10.0, 30.0, 50.0])


def test_percentiles_come_closer_to_the_truth_than_representatives_alone(kernels: KernelModel) -> None:
    refined, plain = [], []
    for seed in range(20):
        fleet, load = simulated("mixed", 60, seed), pruned(kernels, 3, seed)
        found = clustered(fleet, kernels, 8)
        latency = found.measure_clusters(load, runs=RUNS, seed=20).device_latency_ms
        true = np.percentile(fleet.true_latency_ms(load), 95, axis=0)
        refined.append(np.abs(found.percentile(latency, 95) / true - 1))
        plain.append(np.abs(np.percentile(latency[:, found.clustering.labels], 95, axis=1) / true - 1))

    assert np.mean(refined) < 0.02
    assert np.mean(refined) < 0.7 * np.mean(plain)
