"""What a recorded fleet's average is estimated from: all its samples, its own noise, and the devices that have a plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import ClusteredFleet, cluster_fleet
from hdapbench.fleet.estimate.clustering import cluster_devices
from hdapbench.fleet.estimate.estimators import (
    ESTIMATORS,
    Estimator,
    Reference,
    draw_design,
    estimate,
    fit_ratio_model,
)
from hdapbench.fleet.estimate.planner import plan_measurements
from hdapbench.fleet.noise import Noise
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.spec import ClusteringSpec, RecordedFleetSpec

PLANS = ("slow", "middle", "fast", "mine")


def true_latency(n_devices: int, rng: np.random.Generator, *, stray: float = 0.03) -> np.ndarray:
    """Latencies of the plans on devices that differ in speed and, by ``stray``, in what each plan makes of it."""
    speed = np.exp(0.3 * rng.standard_normal((n_devices, 1)))
    return np.asarray(speed * [30.0, 20.0, 10.0, 16.0] * np.exp(stray * rng.standard_normal((n_devices, 4))))


def recording(folder: Path, latency: np.ndarray, numbers: np.ndarray, *, noise: float = 0.02) -> RecordedFleet:
    """Recorded fleet of normal noise about latencies of shape (n_devices, n_plans), so many samples per cell."""
    rng = np.random.default_rng(5)
    rows = [
        {"device": f"unit-{device:02}", "plan": plan, "sample": sample, "latency_ms": value, "weight": 1 + device % 3}
        for device, of_device in enumerate(latency)
        for plan, true, n in zip(PLANS, of_device, numbers[device], strict=True)
        for sample, value in enumerate(true * (1 + noise * rng.standard_normal(n)))
    ]
    path = folder / "lab.csv"
    frame = pl.DataFrame(rows)
    weight = pl.col("weight") / frame.unique("device")["weight"].mean()
    frame.with_columns(weight).write_csv(path)
    spec = {"name": "lab", "kind": "recorded", "path": str(path), "weight_column": "weight", "probes": PLANS[:3]}
    fleet = open_fleet(RecordedFleetSpec.model_validate(spec))
    assert isinstance(fleet, RecordedFleet)
    return fleet


def clustered(fleet: RecordedFleet, n_clusters: int, estimator: Estimator) -> ClusteredFleet:
    spec = ClusteringSpec(n_clusters=n_clusters, estimator=estimator)
    return cluster_fleet(fleet, fleet.recorded_fingerprint().latency_ms, spec, seed=0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("samples", ["five", "uneven", "one"])
def test_with_all_devices_measured_the_estimate_is_their_mean_and_only_noise_is_left(
    tmp_path: Path, estimator: Estimator, samples: str
) -> None:
    numbers = np.full((10, 4), 5 if samples == "five" else 1)
    if samples == "uneven":
        numbers = np.random.default_rng(0).integers(1, 12, (10, 4))
    fleet = recording(tmp_path, true_latency(10, np.random.default_rng(1)), numbers)
    whole, mine = clustered(fleet, 10, estimator), Workloads.named(("mine",))

    measured = whole.measure_clusters(mine, runs=13, seed=0)
    found = whole.average(measured.device_latency_ms, measured.devices, measured.noise)

    assert whole.n_measured == 10
    np.testing.assert_allclose(found.mean_ms, np.average(fleet.medians_ms("mine"), weights=fleet.weights), rtol=1e-12)
    width = (found.high_ms / found.low_ms - 1)[0] / 2
    assert measured.noise is not None
    if samples == "one":
        assert width < 1e-12
        assert not measured.noise.known[0]
    else:
        assert 0.002 < width < 0.03  # 2 % of ten devices, and no share of the 30 % by which devices differ


def test_plans_of_few_devices_are_estimated_from_all_these(tmp_path: Path) -> None:
    fleet = recording(tmp_path, true_latency(12, np.random.default_rng(2)), np.full((12, 4), 4))
    path = tmp_path / "lab.csv"
    kept = ["unit-03", "unit-07", "unit-08", "unit-11"]
    pl.read_csv(path).filter((pl.col("plan") != "mine") | pl.col("device").is_in(kept)).write_csv(path)
    few = open_fleet(fleet.spec)
    assert isinstance(few, RecordedFleet)

    given = few.devices_of("mine")

    assert given == (3, 7, 8, 11)
    assert few.devices_of("slow") is None
    one = ClusteredFleet(
        few, clustered(few, 6, "medoid").clustering, few.recorded_fingerprint().latency_ms, given=given
    )
    measured = one.measure_clusters(Workloads.named(("mine",)), runs=4, seed=0)
    found = one.average(measured.device_latency_ms, measured.devices, measured.noise)
    assert sorted(measured.devices.tolist()) == [3, 7, 8, 11]
    whole = np.average(fleet.medians_ms("mine"), weights=fleet.weights)
    assert found.low_ms[0] < whole < found.high_ms[0]


def test_default_probes_are_few_and_leave_plans_that_are_none(tmp_path: Path) -> None:
    fleet = recording(tmp_path, true_latency(8, np.random.default_rng(3)), np.full((8, 4), 2))
    chosen = open_fleet(fleet.spec.model_copy(update={"probes": None})).recorded_fingerprint()

    assert chosen is not None
    assert chosen.probes == ("slow", "middle", "fast")
    assert chosen.without("middle").probes == ("slow", "fast")
    np.testing.assert_array_equal(chosen.without("slow").latency_ms, chosen.latency_ms[:, 1:])


@pytest.mark.parametrize("n_samples", [2, 3, 4, 5, 10, 20, 60])
def test_the_noise_of_medians_is_estimated_without_bias(n_samples: int) -> None:
    rng = np.random.default_rng(n_samples)
    samples = 7 * (1 + 0.02 * rng.standard_normal((4000, n_samples)))

    noise = Noise.of([list(samples)], runs=n_samples)

    assert noise.variance.mean() == pytest.approx((np.median(samples, axis=1) / 7).var(), rel=0.1)


def test_single_samples_borrow_the_noise_of_others_and_fewer_runs_have_more() -> None:
    rng = np.random.default_rng(0)
    samples = [1 + 0.02 * rng.standard_normal(n) for n in (1, 9, 9, 9, 9, 9)]

    all_runs, three = (Noise.of([samples], runs=runs).variance[0] for runs in (9, 3))

    assert all_runs[0] == pytest.approx(0.02**2, rel=0.8)
    assert np.all(three[1:] > 2 * all_runs[1:])


def test_one_spike_among_five_samples_is_no_noise_of_their_median() -> None:
    samples = 5 * (1 + 0.02 * np.random.default_rng(0).standard_normal((500, 5)))
    spiked = samples.copy()
    spiked[:, 0] *= 3

    plain, with_spikes = (Noise.of([list(values)], runs=5).variance.mean() for values in (samples, spiked))

    assert with_spikes < 3 * plain


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_no_interval_goes_below_zero_however_little_the_fingerprint_explains(estimator: Estimator) -> None:
    rng = np.random.default_rng(0)
    latency = true_latency(40, rng, stray=1.0)
    reference = Reference.of(latency[:, :3])
    clustering = cluster_devices(latency[:, :3], n_clusters=2)
    design = draw_design(reference, clustering, estimator, n=2 if estimator in ("greg", "random") else 1, seed=0)

    found = estimate(reference, clustering, design, latency[design.devices, 3][None])

    assert 0 < found.low_ms[0] < found.mean_ms[0] < found.high_ms[0]


def test_shapes_that_are_noise_are_not_fitted() -> None:
    """Devices differ in speed alone, by which 20 % of noise hides: the prior weighs shapes against the fleet's stray."""
    weights = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        speed = np.exp(0.3 * rng.standard_normal((60, 1)))
        latency = speed * np.exp(0.2 * rng.standard_normal((60, 4)))
        model = fit_ratio_model(Reference.of(latency[:, :3]), np.arange(8), latency[:8, 3][None])
        weights.append(model.coefficients[0, 1:-1] / model.coefficients[0, 0])

    assert np.std(weights) < 0.2


def test_planning_on_a_recording_ends_at_the_noise_of_all_devices(tmp_path: Path) -> None:
    fleet = recording(tmp_path, true_latency(9, np.random.default_rng(4), stray=0.3), np.full((9, 4), 6))

    plan = plan_measurements(fleet.recorded_fingerprint(), error=0.012)

    assert plan.reached
    assert plan.design.n_measured == 9
    assert plan.half_width == pytest.approx(1.96 * 0.02 * 1.14 / np.sqrt(6) / 3, rel=0.5)


@pytest.mark.parametrize(("n_devices", "n_measured"), [(5, 3), (20, 20), (20, 10), (40, 5)])
def test_intervals_of_recordings_hold_the_truth_95_times_in_a_hundred(n_devices: int, n_measured: int) -> None:
    """A small version of ``python -m studies.recordings``."""
    held: dict[Estimator, list[float]] = {name: [] for name in ESTIMATORS}
    errors: dict[Estimator, list[float]] = {name: [] for name in ESTIMATORS}
    for seed in range(400):
        rng = np.random.default_rng([seed, n_devices, n_measured])
        true = true_latency(n_devices, rng)
        samples = true[:, :, None] * (1 + 0.02 * rng.standard_normal((*true.shape, 3)))
        medians = np.median(samples, axis=2)
        every = Noise.of([list(samples[:, plan]) for plan in range(4)], runs=3)
        reference = Reference.of(medians[:, :3], noise=float(every.variance[:3].mean()))
        clustering = cluster_devices(medians[:, :3], method="agglomerative", n_clusters=n_measured, seed=seed)
        for name in ESTIMATORS:
            per_cluster = n_measured if name in ("greg", "random") else 1
            design = draw_design(reference, clustering, name, n=per_cluster, seed=seed)
            noise = Noise(every.variance[3:, design.devices], every.freedom[3:, design.devices], every.known[3:])
            found = estimate(reference, clustering, design, medians[design.devices, 3][None], noise)
            held[name].append(found.low_ms[0] <= true[:, 3].mean() <= found.high_ms[0])
            errors[name].append(found.mean_ms[0] / true[:, 3].mean() - 1)

    for name in ESTIMATORS:
        assert 0.92 <= np.mean(held[name]) <= 0.985, name
        assert abs(np.mean(errors[name])) < 3.5 * np.std(errors[name]) / np.sqrt(400), name
