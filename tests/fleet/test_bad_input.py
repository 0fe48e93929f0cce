"""What nobody should ask of a fleet, and what comes back: a clear error, or the behaviour that is promised.

Each case stands twice where both ways exist: through the Python API, and through the command line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from hdapbench.cli.main import main
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import ClusteredFleet, cluster_fleet, fingerprint_fleet
from hdapbench.fleet.estimate.clustering import cluster_devices, separated_clusters, stability
from hdapbench.fleet.estimate.drift import measure_again
from hdapbench.fleet.estimate.estimators import ESTIMATORS, Estimator, Reference, draw_design, estimate
from hdapbench.fleet.estimate.planner import plan_measurements
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.fingerprint import Fingerprint, load_fingerprint, save_fingerprint
from hdapbench.fleet.weights import device_shares
from hdapbench.spec import ClusteringSpec
from hdapbench.spec.clustering import ClusteringMethod
from tests.cli.fleet_commands import PLANS, PROBES, answer, recording, refusal
from tests.fleet.making import RUNS, ToyFleet, pruned, simulated

METHODS: tuple[ClusteringMethod, ...] = get_args(ClusteringMethod)
LOG_SPREAD = 0.3


def speeds(n_devices: int, seed: int = 0) -> np.ndarray:
    return np.exp(LOG_SPREAD * np.random.default_rng(seed).standard_normal(n_devices))


def toy(speed: np.ndarray) -> ToyFleet:
    return ToyFleet({name: base * speed for name, base in PLANS.items()})


def clustered(speed: np.ndarray, **clustering: object) -> ClusteredFleet:
    fleet = toy(speed)
    fingerprint = np.stack([fleet.table["dense"], fleet.table["thin"]], axis=1)
    return cluster_fleet(fleet, fingerprint, ClusteringSpec.model_validate(clustering), seed=0)


# An empty fleet


@pytest.mark.parametrize("fingerprint", [np.empty((0, 3)), np.empty((5, 0)), []])
def test_an_empty_fleet_cannot_be_clustered_estimated_or_planned(fingerprint: np.ndarray) -> None:
    for ask in (
        lambda: cluster_devices(fingerprint),
        lambda: separated_clusters(fingerprint, n_most=3),
        lambda: stability(fingerprint, method="kmeans", n_clusters=2),
        lambda: cluster_fleet(toy(np.empty(0)), fingerprint, ClusteringSpec(), seed=0),
        lambda: plan_measurements(Fingerprint(np.asarray(fingerprint), (), (), 1), error=0.01),
    ):
        with pytest.raises(FleetError, match=r"empty fleet|fingerprint is of 5 devices"):
            ask()


def test_an_empty_fleet_cannot_be_fingerprinted(kernels: KernelModel) -> None:
    with pytest.raises(FleetError, match="fleet 'toy' has no devices; nothing can be fingerprinted"):
        take_fingerprint(toy(np.empty(0)), kernels, runs=3, seed=0)


def test_no_devices_have_no_average_and_nothing_is_measured_on_them(kernels: KernelModel) -> None:
    fleet, nobody = simulated(n_devices=3), np.array([], dtype=np.int64)

    with pytest.raises(FleetError, match="empty fleet has no average"):
        device_shares(0)
    assert fleet.measure(pruned(kernels, 2, seed=0), nobody, runs=3, seed=0).shape == (0, 2, 3)


def test_files_without_devices_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing.csv").touch()
    (tmp_path / "odd.parquet").write_text("not parquet")

    assert "no usable rows" in refusal(capsys, "show", recording(tmp_path, np.empty(0)))
    assert "cannot be read: empty CSV" in refusal(capsys, "cluster", str(tmp_path / "nothing.csv"))
    assert "cannot be read" in refusal(capsys, "estimate", str(tmp_path / "odd.parquet"))
    assert "there is no file" in refusal(capsys, "plan", str(tmp_path / "absent.csv"))
    assert "n_devices: must be at least 1 (here: 0)" in refusal(capsys, "make", "--devices", "0")


# One device


def test_one_device_is_its_own_cluster_and_estimate(kernels: KernelModel) -> None:
    fleet = simulated(n_devices=1, noise={"log_sd": 0, "spike_probability": 0, "session_drift_log_sd": 0})
    one = fingerprint_fleet(fleet, kernels, clustering=ClusteringSpec(), runs=RUNS, seed=0)
    models = pruned(kernels, 2, seed=0)

    found = one.average(one.measure_clusters(models, runs=1, seed=1).device_latency_ms)

    assert one.clustering.ranked == ((0,),)
    for values in (found.mean_ms, found.low_ms, found.high_ms):
        np.testing.assert_allclose(values, fleet.true_latency_ms(models)[0])


def test_every_action_takes_a_recording_of_one_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, np.ones(1))

    assert answer(capsys, "show", path, "--plot", str(tmp_path / "show.png"))["n_devices"] == 1
    assert answer(capsys, "cluster", path, "--stability", "--plot", str(tmp_path / "cluster.png"))["n_clusters"] == 1
    assert answer(capsys, "plan", path)["n_measured"] == 1
    found = answer(capsys, "estimate", path, *PROBES, "--plot", str(tmp_path / "estimate.png"))["estimates"][0]
    assert found["low_ms"] < found["mean_ms"] == pytest.approx(found["true_ms"], rel=1e-9)
    assert found["high_ms"] / found["mean_ms"] < 1.03  # noise of three samples with 1 %
    assert all((tmp_path / f"{name}.png").exists() for name in ("show", "cluster", "estimate"))


def test_drift_needs_devices_to_ask(kernels: KernelModel) -> None:
    fingerprint = take_fingerprint(simulated(n_devices=5), kernels, runs=3, seed=0)

    for n_devices in (-3, 0, 1):
        with pytest.raises(FleetError, match=f"drift needs at least 2 devices measured again, .* got {n_devices}"):
            measure_again(simulated(n_devices=5), kernels, fingerprint, n_devices=n_devices, seed=0)


# All identical


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_devices", [1, 2, 30])
def test_devices_all_alike_are_one_cluster_by_every_method(method: ClusteringMethod, n_devices: int) -> None:
    alike = np.tile([30.0, 9.0], (n_devices, 1))

    for found in (
        cluster_devices(alike, method=method, n_clusters=7),
        separated_clusters(alike, n_most=5, method=method),
    ):
        assert found.n_clusters == 1
        assert found.representatives == (0,)
    assert stability(alike, method=method, n_clusters=3) == 1


def test_a_recording_of_equals_needs_one_device_and_no_interval(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, np.ones(20), latency_ms=pl.lit(10.0))

    assert answer(capsys, "show", path, "--plot", str(tmp_path / "show.png"))["latency_ms"]["dense"]["cvar95"] == 10
    assert answer(capsys, "cluster", path, "--method", "gmm", "--clusters", "4")["n_clusters"] == 1
    assert answer(capsys, "plan", path)["n_measured"] == 1
    found = answer(capsys, "estimate", path, "--plot", str(tmp_path / "estimate.png"))["estimates"][0]
    assert found["low_ms"] == found["mean_ms"] == found["high_ms"] == 10


# One outlier of 100x


def with_outlier(n_devices: int = 60) -> np.ndarray:
    speed = speeds(n_devices)
    speed[n_devices // 2] = 100.0
    return speed


def test_a_device_a_hundred_times_slower_is_a_cluster_of_its_own_and_counts_by_its_weight() -> None:
    speed = with_outlier()
    fleet = clustered(speed, n_clusters=8)

    measured = fleet.measure_clusters(Workloads.named(("half",)), runs=1, seed=0)
    found = fleet.average(measured.device_latency_ms)

    assert fleet.clustering.ranked[-1] == (30,)
    assert fleet.clustering.weights[-1] == pytest.approx(1 / 60)
    truth = float(np.mean(17.0 * speed))
    assert truth > 2 * np.median(17.0 * speed)
    assert found.mean_ms[0] == pytest.approx(truth, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_outlier_does_not_keep_any_method_from_partitioning_the_fleet(method: ClusteringMethod) -> None:
    fingerprint = np.outer(with_outlier(200), [30.0, 9.0]) * np.exp(
        0.01 * np.random.default_rng(2).standard_normal((200, 2))
    )

    found = cluster_devices(fingerprint, method=method, n_clusters=6)

    assert sorted(np.unique(found.labels)) == list(range(found.n_clusters))
    assert found.weights.sum() == pytest.approx(1)
    assert np.isfinite(found.centres).all()


def test_an_outlier_in_a_recording_is_part_of_the_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, with_outlier())

    clusters = answer(capsys, "cluster", path, *PROBES, "--plot", str(tmp_path / "clusters.png"))["clusters"]
    row = answer(capsys, "estimate", path, *PROBES, "--plot", str(tmp_path / "estimate.png"))["estimates"][0]

    assert (clusters[-1]["n_devices"], clusters[-1]["representative"]) == (1, "unit-030")
    assert row["mean_ms"] == pytest.approx(row["true_ms"], rel=0.02)
    assert row["low_ms"] < row["true_ms"] < row["high_ms"]


# NaN, zero or negative latencies

IMPOSSIBLE = [float("nan"), float("inf"), 0.0, -1.0]


@pytest.mark.parametrize("bad", IMPOSSIBLE)
def test_an_impossible_fingerprint_is_refused_by_everything_that_reads_one(tmp_path: Path, bad: float) -> None:
    latency = np.outer(speeds(10), [30.0, 9.0])
    latency[3, 1] = bad
    fingerprint = Fingerprint(latency, ("a", "b"), tuple("abcdefghij"), 3)
    save_fingerprint(fingerprint, tmp_path / "fp.parquet")

    for ask in (
        lambda: cluster_devices(latency),
        lambda: cluster_fleet(toy(speeds(10)), latency, ClusteringSpec(), seed=0),
        lambda: plan_measurements(fingerprint, error=0.01),
        lambda: plan_measurements(fingerprint, error=0.01, estimator="greg"),
        lambda: load_fingerprint(tmp_path / "fp.parquet"),
    ):
        with pytest.raises(FleetError, match="device 3 has a fingerprint that is not finite and positive"):
            ask()


@pytest.mark.parametrize("bad", IMPOSSIBLE)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_impossible_measurement_is_not_averaged(estimator: Estimator, bad: float) -> None:
    reference = Reference.of(np.outer(speeds(20), [30.0, 9.0]))
    clustering = cluster_devices(reference.fingerprint_ms, n_clusters=4)
    design = draw_design(reference, clustering, estimator, n=4 if estimator in ("greg", "random") else 1, seed=0)
    latency = reference.speed[design.devices] * np.array([[17.0], [11.0]])
    latency[1, 2] = bad

    with pytest.raises(FleetError, match=f"device {design.devices[2]} has a latency that is not finite and positive"):
        estimate(reference, clustering, design, latency)


@pytest.mark.parametrize("bad", IMPOSSIBLE)
def test_an_impossible_row_of_a_recording_stops_every_action_or_is_dropped(
    tmp_path: Path, bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    value = pl.when(pl.int_range(pl.len()) == 7).then(bad).otherwise(pl.col("latency_ms"))
    path = recording(tmp_path, speeds(12), latency_ms=value)

    for action in ("show", "cluster", "plan", "estimate"):
        error = refusal(capsys, action, path)
        assert ("not finite" if not np.isfinite(bad) else "zero or negative") in error
        assert "1 row, line 9 (device 'unit-000', plan 'half'" in error
        assert "(of 108)" in error
        assert "--set invalid=drop" in error
    assert answer(capsys, "show", path, "--set", "invalid=drop")["n_samples"] == 107


# Fewer devices than clusters


@pytest.mark.parametrize("method", METHODS)
def test_fewer_devices_than_clusters_give_at_most_one_cluster_each(method: ClusteringMethod) -> None:
    found = cluster_devices(np.outer([1.0, 2.0, 4.0], [30.0, 9.0]), method=method, n_clusters=50)

    assert found.n_clusters <= 3
    assert sorted({device for ranked in found.ranked for device in ranked}) == [0, 1, 2]


def test_fewer_devices_than_clusters_are_all_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, np.array([1.0, 2.0, 4.0]))

    assert answer(capsys, "cluster", path, "--clusters", "50", "--representatives", "3")["n_measured"] == 3
    row = answer(capsys, "estimate", path, "--estimator", "medoid", "--clusters", "50", *PROBES)["estimates"][0]
    assert row["mean_ms"] == pytest.approx(row["true_ms"])


@pytest.mark.parametrize("n_clusters", [0, -3])
def test_no_clusters_at_all_are_refused(tmp_path: Path, n_clusters: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FleetError, match=f"{n_clusters} clusters were asked for; at least 1 is needed"):
        cluster_devices(np.outer([1.0, 2.0], [30.0, 9.0]), n_clusters=n_clusters)
    path = recording(tmp_path, np.ones(3))
    assert "a number of at least 1, auto or silhouette" in refusal(
        capsys, "cluster", path, "--clusters", str(n_clusters)
    )


# Unknown SKU, mode, scenario, precision, method


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--sku", "xavier_nxx", "unknown SKU 'xavier_nxx'; did you mean 'xavier_nx'?"),
        (
            "--sku",
            "boards/none.yaml",
            "there is no SKU profile 'boards/none.yaml'; name a file, or one of: nano, xavier_nx",
        ),
        ("--set", "scenario.modes={15W_6CORES: 1.0}", "has no power mode '15W_6CORES'; did you mean '15W_6CORE'?"),
        ("--scenario", "mixxed", "unknown value 'mixxed'; did you mean 'mixed'? Known: same_config, mixed, harsh"),
        ("--precision", "fp31", "unknown value 'fp31'; did you mean 'fp32'? Known: fp32, fp16, tc16"),
    ],
)
def test_what_no_board_has_is_refused_with_what_there_is(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, "make", option, value)


def test_unknown_boards_and_modes_are_refused_in_python() -> None:
    with pytest.raises(FleetError, match="unknown SKU 'xavier_nxx'; did you mean 'xavier_nx'"):
        simulated(sku="xavier_nxx")
    with pytest.raises(FleetError, match="has no power mode '15W_6CORES'; did you mean '15W_6CORE'"):
        simulated({"base": "mixed", "modes": {"15W_6CORES": 1.0}})


def test_an_unknown_method_is_refused_with_a_suggestion(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FleetError, match="unknown clustering 'kmean'; did you mean 'kmeans'"):
        cluster_devices(np.ones((3, 2)), method="kmean")  # type: ignore[arg-type]
    path = recording(tmp_path, speeds(8))
    assert "unknown clustering 'kmean'; did you mean 'kmeans'" in refusal(capsys, "plan", path, "--method", "kmean")
    assert "--method kmean: 'kmeans'," in refusal(capsys, "cluster", path, "--method", "kmean")
    assert "--estimator best: 'auto'," in refusal(capsys, "estimate", path, "--estimator", "best")


# Weights and shares that do not sum


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modes": {"15W_6CORE": 0.5, "20W_6CORE": 0.4}}, "modes: shares sum to 0.9, not 1"),
        ({"places": {"hall": {"share": 0.5, "mean_celsius": 20}}}, "places: shares sum to 0.5, not 1"),
        ({"stacks": [{"share": 0.7}, {"share": 0.7}]}, "stacks: shares sum to 1.4, more than 1"),
    ],
)
def test_shares_of_a_scenario_that_do_not_sum_to_one_are_refused(
    changes: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValidationError, match=message):
        simulated({"base": "mixed"} | changes)
    key, value = next(iter(changes.items()))
    assert message in refusal(capsys, "make", "--set", f"scenario.{key}={json.dumps(value)}")


def test_shares_of_recorded_devices_that_do_not_sum_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, speeds(40), share=pl.lit(0.02))

    for action in ("show", "cluster", "plan", "estimate"):
        error = refusal(capsys, action, path, "--set", "weight_column=share")
        assert "the devices' weights sum to 0.8; write shares that sum to 1" in error


def test_weights_are_taken_in_proportion_in_python() -> None:
    fingerprint, weights = np.outer(speeds(30), [30.0, 9.0]), np.random.default_rng(3).uniform(0.5, 2, 30)

    one, many = (cluster_devices(fingerprint, n_clusters=4, weights=scale * weights) for scale in (1.0, 250.0))

    np.testing.assert_allclose(one.weights, many.weights)
    np.testing.assert_array_equal(one.labels, many.labels)
    np.testing.assert_allclose(
        Reference.of(fingerprint, weights).mean_ms, Reference.of(fingerprint, 250.0 * weights).mean_ms
    )


@pytest.mark.parametrize("bad", IMPOSSIBLE)
def test_impossible_weights_are_refused_naming_the_device(bad: float) -> None:
    fingerprint, weights = np.outer(speeds(5), [30.0, 9.0]), np.ones(5)
    weights[2] = bad

    for ask in (
        lambda: cluster_devices(fingerprint, weights=weights),
        lambda: Reference.of(fingerprint, weights),
    ):
        with pytest.raises(FleetError, match="weights must be finite and positive; that of device 2 is"):
            ask()


def test_weights_of_other_devices_are_refused() -> None:
    with pytest.raises(FleetError, match=r"expected one weight for each of 5 devices, got shape \(4,\)"):
        cluster_devices(np.outer(speeds(5), [30.0, 9.0]), weights=np.ones(4))


# A file with a wrong unit


@pytest.mark.parametrize(("factor", "unit"), [(1e-3, "s"), (1e6, "ns")])
def test_a_recording_in_a_wrong_unit_is_guessed_asked_for_and_then_taken(
    tmp_path: Path, factor: float, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, speeds(30), latency_ms=pl.col("latency_ms") * factor)

    for action in ("show", "cluster", "plan", "estimate", "fingerprint"):
        error = refusal(capsys, action, path)
        assert "the column 'latency_ms' says ms, but the median is" in error
        assert f"they look like {unit}." in error
        assert f"--set unit={unit}" in error
    answered = answer(capsys, "show", path, "--set", f"unit={unit}")
    assert answered["latency_ms"]["dense"]["p50"] == pytest.approx(30 * np.median(speeds(30)), rel=0.02)


def test_a_unit_that_is_stated_against_all_evidence_is_taken_for_it_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, speeds(30), latency_ms=pl.col("latency_ms") * 1e-3)

    assert answer(capsys, "show", path, "--set", "unit=ms")["latency_ms"]["dense"]["p50"] < 0.1
    assert "unit: unknown value 'hours'; did you mean 'us'? Known: s, ms, us, ns" in refusal(
        capsys, "show", path, "--set", "unit=hours"
    )


# Requests that fit no fleet


@pytest.mark.parametrize(("runs", "seed"), [(0, 0), (-1, 0), (3, -1)])
def test_measurements_without_a_run_or_of_no_session_are_refused(kernels: KernelModel, runs: int, seed: int) -> None:
    with pytest.raises(FleetError, match="at least 1 run and a session of at least 0"):
        simulated().measure(pruned(kernels, 1, seed=0), np.array([0]), runs=runs, seed=seed)


def test_the_command_line_refuses_them_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, speeds(8))

    for option, value, least in (("--runs", "0", 1), ("--runs", "-1", 1), ("--session", "-1", 0)):
        with pytest.raises(SystemExit, match="2"):
            main(["fleet", "estimate", path, option, value])
        assert f"'{value}' is not a whole number of at least {least}" in capsys.readouterr().err


def test_a_fingerprint_of_another_fleet_is_refused(
    tmp_path: Path, kernels: KernelModel, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet = simulated(n_devices=6)
    fingerprint = take_fingerprint(fleet, kernels, runs=3, seed=0)
    fingerprint.conditions["fleet_spec"] = fleet.spec.model_dump(mode="json")
    save_fingerprint(fingerprint, tmp_path / "fp.parquet")

    with pytest.raises(
        FleetError, match="the fingerprint is of 6 devices, fleet 'f' has 4; take the fingerprint again"
    ):
        cluster_fleet(simulated(n_devices=4), fingerprint.latency_ms, ClusteringSpec(), seed=0)
    error = refusal(capsys, "cluster", str(tmp_path / "fp.parquet"), "--set", "n_devices=4")
    assert "the fingerprint is of 6 devices" in error


def test_new_devices_of_other_probes_are_not_assigned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, speeds(8))
    for probes in ("dense, thin", "dense, half"):
        output = str(tmp_path / f"{probes.replace(', ', '-')}.parquet")
        answer(capsys, "fingerprint", path, "--set", f"probes=[{probes}]", "-o", output)

    error = refusal(
        capsys, "cluster", str(tmp_path / "dense-thin.parquet"), "--assign", str(tmp_path / "dense-half.parquet")
    )

    assert "has the probes dense, half; the clusters are of dense, thin" in error
