"""Whether a fingerprint still holds, after some devices were measured again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.clustered import cluster_fleet
from hdapbench.fleet.estimate.clustering import Clustering, cluster_devices
from hdapbench.fleet.estimate.drift import DriftReport, detect_drift, measure_again
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.fingerprint import Fingerprint
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import ClusteringSpec
from tests.fleet.making import simulated


def known(
    kernels: KernelModel, scenario: object, n_clusters: int | str = "auto"
) -> tuple[SimulatedFleet, Fingerprint, Clustering]:
    """A fleet, and what was found out about it in the past."""
    fleet = simulated(scenario, 400, seed=1)
    taken = take_fingerprint(fleet, kernels, runs=7, seed=0)
    spec = ClusteringSpec.model_validate({"n_clusters": n_clusters})
    return fleet, taken, cluster_fleet(fleet, taken.latency_ms, spec, seed=0).clustering


def report(
    fleet: SimulatedFleet,
    kernels: KernelModel,
    taken: Fingerprint,
    clustering: Clustering,
    seed: int,
    *,
    n_devices: int = 50,
) -> DriftReport:
    devices, latency = measure_again(fleet, kernels, taken, n_devices=n_devices, seed=1000 + 10 * seed)
    return detect_drift(taken, clustering, devices, latency)


@pytest.mark.parametrize("scenario", ["same_config", "mixed", "harsh"])
@pytest.mark.parametrize("n_clusters", ["auto", 48])
def test_a_fleet_that_has_not_changed_keeps_its_fingerprint_in_95_of_100_sessions(
    kernels: KernelModel, scenario: str, n_clusters: int | str
) -> None:
    fleet, taken, clustering = known(kernels, scenario, n_clusters)

    holds = [report(fleet, kernels, taken, clustering, seed).holds for seed in range(100)]

    assert sum(holds) >= 95


@pytest.mark.parametrize(
    "changed",
    [
        {"scenario": "harsh"},
        {"scenario": {"base": "mixed", "memory_load": [0.3, 0.5]}},
        {"scenario": {"base": "mixed", "stacks": [{"share": 0.5, "narrow_tile_factor": 1.5}]}},
        {"scenario": {"base": "mixed", "places": {"kiln": {"share": 1.0, "mean_celsius": 55.0}}}},
    ],
)
def test_a_fleet_that_has_changed_is_found_out_in_nearly_every_session(
    kernels: KernelModel, changed: dict[str, object]
) -> None:
    _, taken, clustering = known(kernels, "mixed")
    now = simulated(n_devices=400, seed=1, **changed)  # type: ignore[arg-type]

    found = [report(now, kernels, taken, clustering, seed) for seed in range(20)]

    assert sum(not one.holds for one in found) >= 19


def test_devices_that_have_not_warmed_up_yet_are_found_out_where_heat_matters(kernels: KernelModel) -> None:
    """A sixth of a harsh fleet throttles: the others have not changed."""
    _, taken, clustering = known(kernels, "harsh")
    cold = simulated("harsh", 400, seed=1, uptime_seconds=0.0)

    found = [report(cold, kernels, taken, clustering, seed, n_devices=100) for seed in range(20)]

    assert sum(not one.holds for one in found) >= 19
    assert 0.05 < np.mean([one.changed_share for one in found]) < 0.25


def by_hand() -> tuple[Fingerprint, Clustering]:
    """Forty equal devices, measured with a noise of 1 %, in a cluster of radius 5 %; and one far from them."""
    noise = np.exp(0.01 * np.random.default_rng(9).standard_normal((40, 2)))
    latency = np.vstack([4.0 * noise, [[40.0, 40.0]]])
    labels = np.repeat([0, 1], [40, 1])
    clustering = Clustering(
        labels, np.array([40, 1]) / 41, ((0, 1), (40,)), "kmeans", np.log([[4.0, 4.0], [40.0, 40.0]]), np.full(2, 0.05)
    )
    return Fingerprint(latency, ("dense", "thin"), tuple(f"d{n}" for n in range(41)), runs=1), clustering


def test_devices_measured_the_same_change_nothing() -> None:
    taken, clustering = by_hand()

    found = detect_drift(taken, clustering, np.arange(10), taken.latency_ms[:10])

    assert found.holds
    assert (found.n_devices, found.far_share, found.far_low, found.moved_share) == (10, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(found.change, [0.0, 0.0])


def test_a_probe_whose_mean_changed_is_named_with_its_change() -> None:
    taken, clustering = by_hand()
    wobble = np.exp(0.005 * np.random.default_rng(0).standard_normal((20, 2)))

    found = detect_drift(taken, clustering, np.arange(20), taken.latency_ms[:20] * wobble * [1.03, 1.0])

    assert found.change[0] == pytest.approx(0.03, abs=0.005)
    assert found.change_error[0] == pytest.approx(0.005 / np.sqrt(20), rel=0.5)
    (reason,) = found.reasons
    assert reason.startswith("dense changed by +")
    assert found.far_share == 0.0


def test_devices_that_change_places_are_found_out_though_means_and_clusters_stay() -> None:
    rng = np.random.default_rng(0)
    before = np.outer(np.repeat([1.0, 1.3, 1.7], 20), [4.0, 7.0]) * np.exp(0.01 * rng.standard_normal((60, 2)))
    clustering = cluster_devices(before, n_clusters=3)
    taken = Fingerprint(before, ("dense", "thin"), tuple(f"d{n}" for n in range(60)), runs=1)
    now = before * np.exp(0.01 * rng.standard_normal((60, 2)))
    now[:6], now[20:26] = now[20:26].copy(), now[:6].copy()

    found = detect_drift(taken, clustering, np.arange(60), now)

    assert found.reasons == ("12 of 60 devices changed by more than noise explains",)
    assert found.changed_share == found.moved_share == 0.2
    assert detect_drift(taken, clustering, np.arange(26, 60), now[26:]).changed_share == 0.0


def test_a_single_probe_does_not_tell_noise_from_change() -> None:
    before = np.exp(0.3 * np.random.default_rng(0).standard_normal((60, 1)))
    taken = Fingerprint(before, ("dense",), tuple(f"d{n}" for n in range(60)), runs=1)
    wobble = np.exp(0.02 * np.random.default_rng(1).standard_normal((60, 1)))

    found = detect_drift(taken, cluster_devices(before, n_clusters=4), np.arange(60), before * wobble)

    assert found.holds
    assert found.changed_share == 0.0


@pytest.mark.parametrize(("n_far", "holds"), [(0, True), (1, True), (3, True), (6, False), (20, False)])
def test_one_device_far_from_its_cluster_is_no_drift_and_many_are(n_far: int, holds: bool) -> None:
    taken, clustering = by_hand()
    now = taken.latency_ms[:30].copy()
    now[:n_far:2] *= 1.2
    now[1:n_far:2] /= 1.2  # the means stay about where they are

    found = detect_drift(taken, clustering, np.arange(30), now)

    assert found.far_share == pytest.approx(n_far / 30)
    assert (found.far_low > 0.05) is not holds
    assert any("far from every cluster" in reason for reason in found.reasons) is not holds


def test_the_lower_limit_of_the_far_share_is_that_of_clopper_and_pearson() -> None:
    """At the limit, so many far devices or more have a probability of 1 %."""
    from scipy import stats

    taken, clustering = by_hand()
    now = taken.latency_ms[:30].copy()
    now[:8] *= 1.2

    found = detect_drift(taken, clustering, np.arange(30), now)

    assert stats.binom.sf(7, 30, found.far_low) == pytest.approx(0.01)


def test_devices_that_changed_to_another_cluster_are_counted() -> None:
    taken, clustering = by_hand()
    now = taken.latency_ms[[0, 1, 2, 40]].copy()
    now[0] = 40.0

    found = detect_drift(taken, clustering, np.array([0, 1, 2, 40]), now)

    assert found.moved_share == 0.25
    assert found.far_share == 0.0


def test_devices_are_measured_again_at_random_and_once_each(kernels: KernelModel) -> None:
    fleet, taken, _ = known(kernels, "mixed", 4)

    devices, latency = measure_again(fleet, kernels, taken, n_devices=50, seed=3)
    others, _ = measure_again(fleet, kernels, taken, n_devices=50, seed=4)
    every, _ = measure_again(fleet, kernels, taken, n_devices=4000, seed=3)

    assert latency.shape == (50, 3)
    assert len(set(devices)) == 50
    assert set(devices) != set(others)
    np.testing.assert_array_equal(every, np.arange(400))
    np.testing.assert_allclose(latency, taken.latency_ms[devices], rtol=0.12)


def test_too_few_devices_or_other_probes_are_refused() -> None:
    taken, clustering = by_hand()

    with pytest.raises(FleetError, match="drift needs at least 2 devices measured again, better 30; got 1"):
        detect_drift(taken, clustering, np.array([3]), taken.latency_ms[[3]])
    with pytest.raises(FleetError, match=r"expected latencies of shape \(5, 2\) \(devices, probes\), got \(5, 3\)"):
        detect_drift(taken, clustering, np.arange(5), np.ones((5, 3)))


def test_a_fingerprint_that_does_not_say_what_its_probes_are_cannot_be_taken_again(kernels: KernelModel) -> None:
    fleet, taken, _ = known(kernels, "mixed", 4)

    with pytest.raises(FleetError, match="does not say which models its probes are; measure it again in full"):
        measure_again(fleet, kernels, replace(taken, conditions={}), n_devices=5, seed=0)
