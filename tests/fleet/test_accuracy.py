"""What a fleet's average from few measured devices promises, on fleets of real networks: error and coverage."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import ClusteredFleet, cluster_fleet, fingerprint_fleet
from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import ClusteringSpec
from tests.fleet.making import RUNS, Replication, imagenet_kernels, pruned, replications, simulated

N_FLEETS, N_MODELS = 250, 4  # 1,000 replications; models of one fleet are measured in sessions of their own
SCENARIOS = ("same_config", "mixed", "harsh")


@cache
def worlds(scenario: str) -> tuple[Replication, ...]:
    """Fleets of 200 Xavier NX, each with a fingerprint and models pruned from ResNet50, noise 2 % and drift 1 %."""
    kernels = imagenet_kernels("torchvision:resnet50")
    return tuple(replications(kernels, scenario, n_fleets=N_FLEETS, n_models=N_MODELS))


def judged(scenario: str, clustering: ClusteringSpec) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors, and whether the interval held the truth, of 1,000 estimates."""
    errors, covered = [], []
    for world in worlds(scenario):
        clustered = cluster_fleet(world.fleet, world.fingerprint_ms, clustering, seed=world.seed)
        found = clustered.average(world.measured_ms[clustered.design.devices].T)
        errors.append(np.abs(found.mean_ms / world.truth_ms - 1))
        covered.append((found.low_ms <= world.truth_ms) & (world.truth_ms <= found.high_ms))
    return np.concatenate(errors), np.concatenate(covered)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("n_clusters", ["auto", 8, 16])
def test_intervals_of_95_percent_hold_the_true_mean_93_to_97_times_in_a_hundred(
    scenario: str, n_clusters: int | str, record_property: Callable[[str, object], None]
) -> None:
    clustering = ClusteringSpec.model_validate({"n_clusters": n_clusters} if n_clusters != "auto" else {})

    _, covered = judged(scenario, clustering)

    record_property("coverage", float(covered.mean()))
    assert covered.size == 1000
    assert 0.93 <= covered.mean() <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("n", "most"), [(4, 0.025), (8, 0.017), (16, 0.012), (32, 0.009)])
def test_the_mean_of_a_mixed_fleet_is_estimated_within_the_error_promised_for_n_devices(
    n: int, most: float, record_property: Callable[[str, object], None]
) -> None:
    errors, _ = judged("mixed", ClusteringSpec(n_clusters=n))

    rng = np.random.default_rng(0)
    random = [
        np.abs(world.measured_ms[rng.choice(200, n, replace=False)].mean(axis=0) / world.truth_ms - 1)
        for world in worlds("mixed")
    ]
    ours, chance = np.quantile(errors, 0.95), np.quantile(random, 0.95)
    record_property("error_95", float(ours))
    record_property("error_95_random", float(chance))
    assert ours <= most
    assert chance > 8 * ours


@pytest.fixture(scope="module")
def generations() -> SimulatedFleet:
    """Half of the boards run an engine whose depthwise kernels take three times as long; all else is one kind."""
    stacks = [{"share": 0.5, "depthwise_slowdown": 3.0}]
    return simulated({"base": "same_config", "stacks": stacks}, 200, seed=3)


def clustered_generations(fleet: SimulatedFleet, n_clusters: int) -> ClusteredFleet:
    kernels = imagenet_kernels("mobilenetv1")
    return fingerprint_fleet(fleet, kernels, clustering=ClusteringSpec(n_clusters=n_clusters), runs=RUNS, seed=1)


@pytest.mark.parametrize("n_clusters", [2, 8, 12, 16])
def test_clusters_keep_two_generations_of_software_apart(generations: SimulatedFleet, n_clusters: int) -> None:
    newer = generations.states.stack_index == 0

    found = clustered_generations(generations, n_clusters).clustering

    share = np.bincount(found.labels, weights=newer) / np.bincount(found.labels)
    assert found.n_clusters == n_clusters
    assert np.all(np.maximum(share, 1 - share) >= 0.95)
    assert 0.4 < newer.mean() < 0.6


@pytest.mark.parametrize("sku", ["xavier_nx", "nano"])
@pytest.mark.parametrize("clustering", [{"n_clusters": "silhouette"}, {"method": "hdbscan"}])
def test_two_generations_are_found_by_clusterings_that_are_not_told_their_number(
    sku: str, clustering: dict[str, object]
) -> None:
    stacks = [{"share": 0.5, "depthwise_slowdown": 3.0}]
    fleet = simulated({"base": "same_config", "stacks": stacks}, 200, seed=4, sku=sku)

    how = ClusteringSpec.model_validate(clustering)
    found = fingerprint_fleet(fleet, imagenet_kernels("mobilenetv1"), clustering=how, runs=RUNS, seed=1).clustering

    older = fleet.states.stack_index == 1
    np.testing.assert_array_equal(found.labels, older.astype(np.int64))  # the slow generation is the second cluster
    assert found.n_clusters == 2
    assert found.weights[1] == pytest.approx(older.mean())


def test_two_generations_of_software_are_averaged_where_one_nominal_board_errs_by_more_than_a_tenth(
    generations: SimulatedFleet,
) -> None:
    kernels = imagenet_kernels("mobilenetv1")
    models = pruned(kernels, 30, seed=0)
    clustered = clustered_generations(generations, 16)
    profile = generations.profile
    truth = generations.mean_latency_ms(models)

    times, one = kernel_times(kernels, models.widths, profile, "fp32"), np.ones(1)
    nominal = device_latency_ms(times, profile.launch_us / 1000, one, one, one)[0]
    ours = []
    for number in range(len(models)):
        model = Workloads(kernels, models.widths[number : number + 1], ("model",))
        measured = clustered.measure_clusters(model, runs=RUNS, seed=100 + number)
        ours.append(clustered.average(measured.device_latency_ms).mean_ms[0])

    assert np.abs(nominal / truth - 1).min() > 0.10
    assert np.abs(np.array(ours) / truth - 1).max() < 0.015
