"""Which devices of a clustered fleet are measured, and what happens when some do not answer."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import DeviceLostError, Workloads
from hdapbench.fleet.estimate.clustered import ClusteredFleet, cluster_fleet
from hdapbench.spec import ClusteringSpec
from tests.fleet.making import ToyFleet

N_DEVICES = 30


class Losing(ToyFleet):
    """Devices some of which have vanished; counts how often it was asked."""

    def __init__(self, table: dict[str, np.ndarray], lost: set[int]) -> None:
        super().__init__(table)
        self.lost = lost
        self.n_asked = 0

    def sample(self, workloads: Workloads, devices: np.ndarray, *, runs: int, seed: int) -> np.ndarray:
        self.n_asked += 1
        for device in devices:
            if int(device) in self.lost:
                raise DeviceLostError(int(device), f"board-{device} does not answer")
        return super().sample(workloads, devices, runs=runs, seed=seed)


def table() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Latencies of a model on devices of three kinds, and their fingerprint; all differ in speed alone."""
    rng = np.random.default_rng(0)
    speed = np.repeat([1.0, 2.0, 5.0], N_DEVICES // 3) * np.exp(0.01 * rng.standard_normal(N_DEVICES))
    return {"mine": 4 * speed, "other": 9 * speed}, np.outer(speed, [1.0, 3.0])


def clustered(lost: set[int] = frozenset(), **changes: object) -> ClusteredFleet:  # type: ignore[assignment]
    latency, fingerprint = table()
    spec = ClusteringSpec.model_validate({"n_clusters": 3, "estimator": "calibrated"} | changes)
    return cluster_fleet(Losing(latency, set(lost)), fingerprint, spec, seed=0)


def load(kernels: KernelModel, *ids: str) -> Workloads:
    return Workloads(kernels, np.tile(kernels.sizes, (len(ids), 1)), ids)


def test_a_lost_representative_is_replaced_by_the_first_spare_of_its_cluster(kernels: KernelModel) -> None:
    whole = clustered()
    gone = whole.clustering.representatives[1]
    found = clustered({gone})

    measured = found.measure_clusters(load(kernels, "mine", "other"), runs=3, seed=0)

    ranked = found.clustering.ranked
    assert measured.devices.tolist() == [ranked[0][0], ranked[1][1], ranked[2][0]]
    assert measured.clusters.tolist() == [0, 1, 2]
    assert measured.samples_ms.shape == (3, 2, 3)
    np.testing.assert_allclose(measured.device_latency_ms[0], table()[0]["mine"][measured.devices])


def test_spares_that_are_lost_too_are_passed_over(kernels: KernelModel) -> None:
    ranked = clustered().clustering.ranked
    gone = {*ranked[0][:4], ranked[2][0], ranked[2][1]}

    measured = clustered(gone).measure_clusters(load(kernels, "mine"), runs=1, seed=0)

    assert measured.devices.tolist() == [ranked[0][4], ranked[1][0], ranked[2][2]]


def test_the_average_over_spares_is_that_of_the_fleet(kernels: KernelModel) -> None:
    gone = set(clustered().clustering.representatives)
    found = clustered(gone)

    measured = found.measure_clusters(load(kernels, "mine", "other"), runs=1, seed=0)
    estimates = found.average(measured.device_latency_ms, measured.devices)

    assert not gone & set(measured.devices)
    truth = [table()[0][name].mean() for name in ("mine", "other")]
    np.testing.assert_allclose(estimates.mean_ms, truth, rtol=1e-9)
    every = found.device_latency(measured.device_latency_ms, measured.devices)
    np.testing.assert_allclose(every, [table()[0]["mine"], table()[0]["other"]], rtol=1e-9)


def test_a_cluster_without_a_device_left_is_an_error_that_names_it(kernels: KernelModel) -> None:
    ranked = clustered().clustering.ranked[2]

    with pytest.raises(FleetError, match=r"fleet 'toy': device board-\d+ is lost and cluster 2 has no spare left"):
        clustered(set(ranked)).measure_clusters(load(kernels, "mine"), runs=1, seed=0)


def test_several_representatives_are_measured_per_cluster_and_their_spares_are_others(kernels: KernelModel) -> None:
    ranked = clustered().clustering.ranked
    found = clustered({ranked[1][1]}, representatives=3)

    measured = found.measure_clusters(load(kernels, "mine", "other"), runs=2, seed=0)

    assert found.n_measured == 9
    expected = [*ranked[0][:3], ranked[1][0], ranked[1][3], ranked[1][2], *ranked[2][:3]]
    assert measured.devices.tolist() == expected
    assert measured.clusters.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    of_mine = table()[0]["mine"][measured.devices].reshape(3, 3).mean(axis=1)
    np.testing.assert_allclose(measured.latency_ms[0], of_mine)
    assert measured.latency_ms.shape == (2, 3)


def test_clusters_smaller_than_their_representatives_give_what_they_have(kernels: KernelModel) -> None:
    latency, fingerprint = table()
    small = ToyFleet({name: values[8:12] for name, values in latency.items()})
    spec = ClusteringSpec(n_clusters=2, representatives=3)

    found = cluster_fleet(small, fingerprint[8:12], spec, seed=0)
    measured = found.measure_clusters(load(kernels, "mine"), runs=1, seed=0)

    assert measured.clusters.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(found.average(measured.device_latency_ms).mean_ms, small.table["mine"].mean())


def test_no_more_representatives_can_be_asked_for_than_clusters_rank() -> None:
    assert ClusteringSpec(representatives=8).representatives == 8
    with pytest.raises(ValidationError, match="less than or equal to 8"):
        ClusteringSpec(representatives=9)


@pytest.mark.parametrize("estimator", ["greg", "random"])
def test_estimators_on_random_devices_measure_as_many_as_there_are_representatives(
    kernels: KernelModel, estimator: str
) -> None:
    found = clustered(estimator=estimator, representatives=2)

    measured = found.measure_clusters(load(kernels, "mine"), runs=1, seed=0)

    assert found.n_measured == len(set(measured.devices)) == 6
    assert np.all(np.diff(measured.clusters) >= 0)
    np.testing.assert_allclose(measured.device_latency_ms[0], table()[0]["mine"][measured.devices])


def test_a_lost_device_of_a_random_design_is_replaced_from_its_cluster(kernels: KernelModel) -> None:
    whole = clustered(estimator="greg", representatives=2)
    gone = int(whole.design.devices[3])
    found = clustered({gone}, estimator="greg", representatives=2)

    measured = found.measure_clusters(load(kernels, "mine"), runs=1, seed=0)

    assert gone not in measured.devices
    assert len(set(measured.devices)) == 6
    assert measured.clusters.tolist() == whole.clustering.labels[whole.design.devices].tolist()
    average = found.average(measured.device_latency_ms, measured.devices)
    np.testing.assert_allclose(average.mean_ms, table()[0]["mine"].mean(), rtol=1e-9)


def test_weights_of_the_fleet_reach_clusters_average_and_percentiles(kernels: KernelModel) -> None:
    latency, fingerprint = table()
    fleet = ToyFleet(latency)
    fleet.weights = np.repeat([0.08, 0.01, 0.01], N_DEVICES // 3)

    found = cluster_fleet(fleet, fingerprint, ClusteringSpec(n_clusters=3), seed=0)
    measured = found.measure_clusters(load(kernels, "mine"), runs=1, seed=0)

    np.testing.assert_allclose(found.clustering.weights, [0.8, 0.1, 0.1])
    average = found.average(measured.device_latency_ms).mean_ms[0]
    assert average == pytest.approx(fleet.weights @ latency["mine"], rel=1e-9)
    assert found.percentile(measured.device_latency_ms, 75)[0] < 1.1 * latency["mine"][0]
    assert found.percentile(measured.device_latency_ms, 95)[0] > 4.5 * latency["mine"][0]


def test_auto_takes_the_estimator_of_the_study(kernels: KernelModel) -> None:
    from hdapbench.fleet.estimate.choice import choose_estimator

    found = clustered(estimator="auto", representatives=2)

    assert found.estimator == choose_estimator(6).estimator
