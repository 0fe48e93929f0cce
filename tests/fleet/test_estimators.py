"""Estimators on cases that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.estimate.choice import choose_estimator, study
from hdapbench.fleet.estimate.clustering import Clustering, cluster_devices
from hdapbench.fleet.estimate.estimators import (
    ESTIMATORS,
    Design,
    Estimator,
    Reference,
    draw_design,
    estimate,
    fit_ratio_model,
    relative_half_width,
)

NOISE = 0.02


def proportional(n_devices: int = 40, seed: int = 0, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Fingerprints of devices that differ in speed alone, and the speeds."""
    rng = np.random.default_rng(seed)
    speed = np.exp(0.4 * rng.standard_normal(n_devices))
    return np.outer(speed, [3.0, 1.0, 7.0]) * np.exp(noise * rng.standard_normal((n_devices, 3))), speed


def of(
    fingerprint: np.ndarray, estimator: Estimator, n: int, n_clusters: int = 4, weights: np.ndarray | None = None
) -> tuple[Reference, Clustering, Design]:
    """Reference, clustering and design of a fleet; ``n`` is per cluster for the estimators on clusters."""
    reference = Reference.of(fingerprint, weights)
    clustering = cluster_devices(fingerprint, n_clusters=n_clusters, weights=weights)
    return reference, clustering, draw_design(reference, clustering, estimator, n=n, seed=1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n_devices", [1, 2, 9])
def test_identical_devices_are_estimated_exactly_and_without_width(estimator: Estimator, n_devices: int) -> None:
    reference, clustering, design = of(np.tile([4.0, 2.0, 9.0], (n_devices, 1)), estimator, n=3)

    found = estimate(reference, clustering, design, np.full((2, design.n_measured), [[5.0], [0.1]]))

    for values in (found.mean_ms, found.low_ms, found.high_ms):
        np.testing.assert_allclose(values, [5.0, 0.1], rtol=1e-9)


@pytest.mark.parametrize("estimator", ["calibrated", "greg"])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_device_tells_the_exact_average_of_a_fleet_that_differs_in_speed_alone(
    estimator: Estimator, weighted: bool
) -> None:
    fingerprint, speed = proportional()
    weights = np.random.default_rng(5).exponential(size=40) if weighted else None
    reference, clustering, design = of(fingerprint, estimator, n=1, n_clusters=1, weights=weights)

    found = estimate(reference, clustering, design, 2.5 * speed[None, design.devices])

    assert design.n_measured == 1
    share = np.ones(40) if weights is None else weights
    assert found.mean_ms[0] == pytest.approx(2.5 * (speed * share).sum() / share.sum(), rel=1e-9)
    np.testing.assert_allclose([found.low_ms[0], found.high_ms[0]], found.mean_ms[0], rtol=1e-6)


@pytest.mark.parametrize("n", [2, 5, 40])
def test_a_model_that_mixes_the_probes_is_calibrated_whichever_devices_are_measured(n: int) -> None:
    """Latencies that are linear combinations of the probes', with weights that differ: the ratio model holds exactly.

    The prior that all probes count alike pulls towards less; with many exact measurements it is outvoted.
    """
    rng = np.random.default_rng(n)
    fingerprint = np.exp(0.3 * rng.standard_normal((60, 3)))
    latency = fingerprint @ [0.5, 1.0, 2.0]
    reference = Reference.of(fingerprint)
    devices = rng.choice(60, n, replace=False)
    plain = latency[devices].mean()

    model = fit_ratio_model(reference, devices, latency[None, devices])

    error = abs(model.coefficients[0, 0] / latency.mean() - 1)
    assert error < max(0.01, 0.2 * abs(plain / latency.mean() - 1))


def test_the_first_coefficient_is_the_average_of_the_models_own_predictions() -> None:
    """Columns of the ratio model other than the first have mean zero over the fleet, weighted by latency."""
    fingerprint, _ = proportional(noise=0.1)
    weights = np.random.default_rng(0).exponential(size=40)
    reference = Reference.of(fingerprint, weights)

    columns = reference.columns(slice(None))

    means = (reference.weights * reference.speed) @ columns
    np.testing.assert_allclose(means, [1, 0, 0, 0, 0], atol=1e-12)


def test_speeds_average_to_one_over_the_weights_of_the_fleet() -> None:
    fingerprint, speed = proportional()
    weights = np.random.default_rng(0).exponential(size=40)

    reference = Reference.of(fingerprint, weights)

    assert reference.weights.sum() == pytest.approx(1.0)
    assert reference.weights @ reference.speed == pytest.approx(1.0)
    np.testing.assert_allclose(reference.speed / reference.speed[0], speed / speed[0])
    np.testing.assert_allclose(reference.mean_ms, weights @ fingerprint / weights.sum())


def test_medoids_weigh_the_representatives_by_their_clusters() -> None:
    reference, clustering, design = of(proportional()[0], "medoid", n=1)
    latency = np.array([[1.0, 2.0, 4.0, 8.0], [3.0, 3.0, 3.0, 3.0]])

    found = estimate(reference, clustering, design, latency)

    np.testing.assert_array_equal(design.devices, clustering.representatives)
    np.testing.assert_allclose(found.mean_ms, latency @ clustering.weights)


def test_several_medoids_of_a_cluster_share_its_weight() -> None:
    _, clustering, design = of(proportional(100)[0], "medoid", n=3)

    assert design.devices.tolist() == [device for ranked in clustering.ranked for device in ranked[:3]]
    of_cluster = clustering.labels[design.devices]
    np.testing.assert_allclose(np.bincount(of_cluster, weights=design.weights), clustering.weights)
    for cluster in range(4):
        assert len(set(design.weights[of_cluster == cluster])) == 1


def test_a_cluster_of_one_device_is_measured_on_that_device_alone() -> None:
    fingerprint = np.vstack([proportional()[0], [300.0, 100.0, 700.0]])

    for estimator in ("medoid", "calibrated", "stratified"):
        _, clustering, design = of(fingerprint, estimator, n=3)

        assert clustering.labels[40] == 3
        assert (clustering.labels[design.devices] == 3).sum() == 1
        assert design.weights.sum() == pytest.approx(1.0)


def test_stratified_draws_devices_at_random_within_every_cluster() -> None:
    fingerprint, _ = proportional(100)
    reference = Reference.of(fingerprint)
    clustering = cluster_devices(fingerprint, n_clusters=4)

    drawn = [draw_design(reference, clustering, "stratified", n=2, seed=seed) for seed in range(60)]

    for design in drawn:
        np.testing.assert_array_equal(np.bincount(clustering.labels[design.devices]), [2, 2, 2, 2])
        np.testing.assert_allclose(
            np.bincount(clustering.labels[design.devices], weights=design.weights), clustering.weights
        )
        assert len(set(design.devices)) == 8
    assert len(set(np.concatenate([design.devices for design in drawn]))) > 90  # not the representatives alone


def test_the_stratified_mean_weighs_the_means_of_the_clusters() -> None:
    reference, clustering, design = of(proportional(100)[0], "stratified", n=2)
    latency = np.arange(1.0, 9.0)[None]

    found = estimate(reference, clustering, design, latency)

    of_cluster = clustering.labels[design.devices]
    means = [latency[0, of_cluster == cluster].mean() for cluster in range(4)]
    assert found.mean_ms[0] == pytest.approx(means @ clustering.weights)


@pytest.mark.parametrize("estimator", ["greg", "random"])
def test_random_devices_are_drawn_once_each_from_the_whole_fleet(estimator: Estimator) -> None:
    fingerprint, _ = proportional()
    reference = Reference.of(fingerprint)
    clustering = cluster_devices(fingerprint, n_clusters=1)

    drawn = [draw_design(reference, clustering, estimator, n=5, seed=seed) for seed in range(80)]

    assert all(len(set(design.devices)) == 5 for design in drawn)
    assert set(np.concatenate([design.devices for design in drawn])) == set(range(40))
    whole = draw_design(reference, clustering, estimator, n=99, seed=0)
    np.testing.assert_array_equal(whole.devices, np.arange(40))


def test_the_random_mean_weighs_devices_by_what_they_stand_for() -> None:
    fingerprint, _ = proportional()
    weights = np.random.default_rng(0).exponential(size=40)
    reference, clustering, design = of(fingerprint, "random", n=6, weights=weights)
    latency = np.arange(1.0, 7.0)[None]

    found = estimate(reference, clustering, design, latency)

    picked = weights[design.devices]
    assert found.mean_ms[0] == pytest.approx((latency[0] * picked).sum() / picked.sum())
    assert found.low_ms[0] < found.mean_ms[0] < found.high_ms[0]


def test_measuring_the_whole_fleet_at_random_leaves_no_width() -> None:
    reference, clustering, design = of(proportional(noise=NOISE)[0], "random", n=40)

    found = estimate(reference, clustering, design, np.arange(1.0, 41.0)[None])

    assert found.low_ms[0] == found.mean_ms[0] == found.high_ms[0] == pytest.approx(20.5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_more_measured_devices_give_a_narrower_interval(estimator: Estimator) -> None:
    fingerprint, speed = proportional(400, noise=NOISE)
    noise = np.exp(NOISE * np.random.default_rng(7).standard_normal(400))
    widths = []
    for n_clusters, n in ((4, 1), (8, 2), (16, 4)):
        devices = n if estimator not in ("greg", "random") else n * n_clusters
        reference, clustering, design = of(fingerprint, estimator, n=devices, n_clusters=n_clusters)
        found = estimate(reference, clustering, design, (speed * noise)[None, design.devices])
        widths.append((found.high_ms - found.low_ms)[0])

    assert widths[0] > 1.3 * widths[1]
    assert widths[1] > 1.3 * widths[2]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_width_that_is_expected_is_about_the_width_that_comes(estimator: Estimator) -> None:
    fingerprint, speed = proportional(400, noise=NOISE)
    reference, clustering, design = of(fingerprint, estimator, n=4, n_clusters=8)
    noise = np.exp(NOISE * np.random.default_rng(1).standard_normal((50, design.n_measured)))

    expected = relative_half_width(reference, clustering, design)
    found = estimate(reference, clustering, design, speed[design.devices] * noise)

    assert np.mean((found.high_ms - found.low_ms) / 2 / found.mean_ms) == pytest.approx(expected, rel=0.2)


def test_latencies_of_other_devices_than_the_designs_are_refused() -> None:
    reference, clustering, design = of(proportional()[0], "medoid", n=1)

    with pytest.raises(FleetError, match="the design measures 4 devices; got latencies of 3"):
        estimate(reference, clustering, design, np.ones((2, 3)))


def test_workloads_are_estimated_independently_of_each_other() -> None:
    fingerprint, _ = proportional(noise=0.05)
    reference, clustering, design = of(fingerprint, "calibrated", n=2)
    latency = np.exp(np.random.default_rng(0).normal(size=(5, design.n_measured)))

    together = estimate(reference, clustering, design, latency)
    alone = [estimate(reference, clustering, design, row[None]) for row in latency]

    for name in ("mean_ms", "low_ms", "high_ms"):
        np.testing.assert_allclose(getattr(together, name), [getattr(one, name)[0] for one in alone], rtol=1e-12)


def test_estimates_scale_with_the_unit_of_the_latencies() -> None:
    fingerprint, _ = proportional(noise=0.05)
    reference, clustering, design = of(fingerprint, "calibrated", n=2)
    latency = np.exp(np.random.default_rng(0).normal(size=(3, design.n_measured)))

    one, thousand = (estimate(reference, clustering, design, unit * latency) for unit in (1.0, 1000.0))

    np.testing.assert_allclose(thousand.mean_ms, 1000 * one.mean_ms, rtol=1e-9)
    np.testing.assert_allclose(thousand.high_ms, 1000 * one.high_ms, rtol=1e-9)


@pytest.mark.parametrize("n", [1, 4, 9, 16, 40, 10_000])
def test_the_default_estimator_is_the_one_that_erred_least_in_the_study_and_says_so(n: int) -> None:
    known = min((4, 8, 16, 32), key=lambda value: abs(np.log(value / n)))
    rows = [row for row in study()["rows"] if row["n"] == known]
    typical = {
        name: np.exp(np.mean(np.log([row["error_95"] for row in rows if row["estimator"] == name])))
        for name in ESTIMATORS
    }

    choice = choose_estimator(n)

    assert choice.estimator == min(typical, key=lambda name: typical[name])
    assert f"at {known} devices: {typical[choice.estimator]:.1%}" in choice.reason
    assert all(name in choice.reason for name in ESTIMATORS if name != choice.estimator)
