"""Fingerprints: how probes are chosen, what taking one costs, and that a file gives back what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.probes import choose_probes, take_fingerprint
from hdapbench.fleet.fingerprint import Fingerprint, load_fingerprint, save_fingerprint
from hdapbench.fleet.ids import NumberedIds
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.fleet.simulated.profile import load_profile
from tests.fleet.making import ToyFleet, imagenet_kernels, simulated

NX = load_profile("xavier_nx")


def spread(shares: np.ndarray) -> float:
    """Area or length that rows of bound shares span from the origin: 0 when one is a combination of the others."""
    return float(np.sqrt(max(np.linalg.det(shares @ shares.T), 0.0)))


@pytest.mark.parametrize("name", ["torchvision:resnet50", "mobilenetv1"])
@pytest.mark.parametrize("precision", ["fp32", "tc16"])
def test_chosen_probes_differ_more_in_what_bounds_them_than_nearly_all_others(name: str, precision: str) -> None:
    kernels, fleet = imagenet_kernels(name), simulated(precision=precision)
    every = choose_probes(kernels, n_probes=9)

    chosen = choose_probes(kernels, fleet, n_probes=2)

    found = spread(fleet.bound_shares(kernels, chosen))
    with_dense = [
        spread(fleet.bound_shares(kernels, every[[0, other]])) for other in range(1, 9)
    ]  # the dense model is always the first
    assert found == pytest.approx(max(with_dense), rel=1e-6)
    np.testing.assert_array_equal(chosen[0], kernels.sizes)


def test_three_chosen_probes_tell_launch_compute_and_memory_apart(kernels: KernelModel) -> None:
    every, fleet = choose_probes(kernels, n_probes=9), simulated()

    chosen = fleet.bound_shares(kernels, choose_probes(kernels, fleet))

    of_any_three = [spread(fleet.bound_shares(kernels, every[list(three)])) for three in combinations(range(9), 3)]
    assert spread(chosen) >= np.quantile(of_any_three, 0.9)
    np.testing.assert_allclose(chosen.sum(axis=1), 1.0)


def test_bound_shares_are_the_derivatives_of_the_log_latency_in_the_multipliers(kernels: KernelModel) -> None:
    widths = choose_probes(kernels)[:2]
    nominal = np.ones(3)

    shares = simulated().bound_shares(kernels, widths)

    for part in range(3):
        multipliers = nominal + 1e-6 * np.eye(3)[part]
        slope = (np.log(latency_at(kernels, widths, multipliers)) - np.log(latency_at(kernels, widths, nominal))) / 1e-6
        np.testing.assert_allclose(slope, shares[:, part], atol=1e-4)


def latency_at(kernels: KernelModel, widths: np.ndarray, multipliers: np.ndarray) -> np.ndarray:
    from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times

    times = kernel_times(kernels, widths, NX, "fp32")
    return device_latency_ms(times, NX.launch_us / 1000, *multipliers[:, None])[0]


@pytest.mark.parametrize("fleet", [None, simulated()])
def test_probes_are_distinct_and_as_many_as_wanted(fleet: SimulatedFleet | None, kernels: KernelModel) -> None:
    for n_probes in range(1, 10):
        probes = choose_probes(kernels, fleet, n_probes=n_probes)

        assert len(np.unique(probes, axis=0)) == n_probes
        assert np.all((probes >= 1) & (probes <= kernels.sizes))
        np.testing.assert_array_equal(probes[0], kernels.sizes)


def test_more_probes_than_candidates_are_refused(kernels: KernelModel) -> None:
    with pytest.raises(FleetError, match="there are 9 candidates for probes; 10 were asked for"):
        choose_probes(kernels, simulated(), n_probes=10)


def test_a_fingerprint_costs_one_query_per_device_and_probe_and_says_when_and_how_it_was_taken(
    kernels: KernelModel,
) -> None:
    fleet = simulated(n_devices=20)

    taken = take_fingerprint(fleet, kernels, runs=3, seed=5, model="mine")

    assert (taken.n_devices, taken.latency_ms.size, taken.runs) == (20, 60, 3)
    assert taken.probes == ("probe0", "probe1", "probe2")
    assert datetime.fromisoformat(taken.taken_at).utcoffset() is not None
    assert taken.conditions["fleet"] == fleet.describe()
    assert (taken.conditions["model"], taken.conditions["seed"]) == ("mine", 5)
    assert (taken.conditions["name"], taken.conditions["source"]) == ("f", "simulated")
    np.testing.assert_array_equal(taken.conditions["widths"], choose_probes(kernels))


def test_every_probe_is_measured_in_a_session_of_its_own(kernels: KernelModel) -> None:
    fleet = simulated(n_devices=20)
    widths = choose_probes(kernels)

    taken = take_fingerprint(fleet, kernels, runs=3, seed=5)

    for number, row in enumerate(widths):
        alone = fleet.measure(Workloads(kernels, row[None], ("p",)), np.arange(20), runs=3, seed=5 + number)
        np.testing.assert_array_equal(taken.latency_ms[:, number], np.median(alone[:, 0], axis=1))


def test_a_fingerprint_taken_in_parts_is_the_same_and_tells_its_progress(
    kernels: KernelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = take_fingerprint(simulated(n_devices=20), kernels, runs=3, seed=5)
    told: list[tuple[int, int]] = []

    monkeypatch.setattr("hdapbench.fleet.estimate.probes._DEVICES_AT_A_TIME", 7)
    parts = take_fingerprint(
        simulated(n_devices=20), kernels, runs=3, seed=5, on_progress=lambda *progress: told.append(progress)
    )

    np.testing.assert_array_equal(parts.latency_ms, whole.latency_ms)
    assert told == [(done, 60) for done in (7, 14, 20, 27, 34, 40, 47, 54, 60)]


def test_own_widths_are_measured_as_probes(kernels: KernelModel) -> None:
    fleet, widths = simulated(n_devices=8), choose_probes(kernels, n_probes=5)[[4, 2]]

    taken = take_fingerprint(fleet, kernels, runs=301, seed=0, widths=widths)

    truth = fleet.true_latency_ms(Workloads(kernels, widths, ("a", "b")))
    np.testing.assert_allclose(taken.latency_ms, truth, rtol=0.05)


def example(**changes: object) -> Fingerprint:
    latency = np.exp(np.random.default_rng(0).normal(size=(6, 2)))
    made = Fingerprint(
        latency,
        ("dense", "thin"),
        tuple(f"unit-{number}" for number in range(6)),
        runs=5,
        taken_at="2026-01-02T03:04:05+00:00",
        conditions={"name": "lab", "widths": [[3, 4], [1, 2]], "note": "räum 3"},
        weights=np.arange(1.0, 7.0) / 21,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def assert_equal(found: Fingerprint, expected: Fingerprint) -> None:
    np.testing.assert_array_equal(found.latency_ms, expected.latency_ms)
    assert found.probes == expected.probes
    assert tuple(found.device_ids) == tuple(expected.device_ids)
    assert (found.runs, found.taken_at, found.conditions) == (expected.runs, expected.taken_at, expected.conditions)
    if expected.weights is None:
        assert found.weights is None
    else:
        np.testing.assert_array_equal(found.weights, expected.weights)


@pytest.mark.parametrize("weights", [None, np.arange(1.0, 7.0) / 21])
def test_a_file_gives_back_the_fingerprint_that_was_written(tmp_path: Path, weights: np.ndarray | None) -> None:
    path = tmp_path / "new" / "folder" / "fp.parquet"

    save_fingerprint(example(weights=weights), path)

    assert_equal(load_fingerprint(path), example(weights=weights))
    assert [entry.name for entry in path.parent.iterdir()] == ["fp.parquet"]


def test_numbered_devices_are_numbered_again_and_take_no_room(tmp_path: Path, kernels: KernelModel) -> None:
    taken = take_fingerprint(simulated(n_devices=30), kernels, runs=1, seed=0)
    path = tmp_path / "fp.parquet"

    save_fingerprint(taken, path)
    found = load_fingerprint(path)

    assert_equal(found, taken)
    assert isinstance(found.device_ids, NumberedIds)
    assert pl.read_parquet(path).columns == ["probe0_ms", "probe1_ms", "probe2_ms"]


def test_writing_over_a_fingerprint_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "fp.parquet"
    save_fingerprint(example(), path)

    save_fingerprint(example(runs=9), path)

    assert load_fingerprint(path).runs == 9


def test_a_fingerprint_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"there is no fingerprint '.*fp\.parquet'; make one with: hdapbench fleet"):
        load_fingerprint(tmp_path / "fp.parquet")


def test_files_that_are_no_fingerprints_are_refused(tmp_path: Path) -> None:
    text, foreign = tmp_path / "text.parquet", tmp_path / "foreign.parquet"
    text.write_text("device,latency_ms\na,1\n")
    pl.DataFrame({"device": ["a"], "latency_ms": [1.0]}).write_parquet(foreign)

    for path in (text, foreign):
        with pytest.raises(FleetError, match=rf"'.*{path.name}' is not a fingerprint that hdapbench wrote; .*recorded"):
            load_fingerprint(path)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        *((about, "is not a fingerprint that hdapbench wrote") for about in ("{}", "[]", '{"format": 1}', "{not json")),
        ('{"format": "new", "numbered": null}', "is not a fingerprint that hdapbench wrote"),
        ('{"format": 99}', r"written by a newer hdapbench \(format 99\)"),
    ],
)
def test_a_file_that_does_not_say_what_fingerprints_say_about_themselves_is_refused(
    tmp_path: Path, about: str, message: str
) -> None:
    path = tmp_path / "fp.parquet"
    pl.DataFrame({"dense_ms": [1.0]}).write_parquet(path, metadata={"hdapbench": about})

    with pytest.raises(FleetError, match=message):
        load_fingerprint(path)


def test_weights_of_a_fleet_are_kept_with_its_fingerprint(kernels: KernelModel) -> None:
    fleet = ToyFleet({f"probe{number}": np.arange(1.0, 5.0) for number in range(3)})
    fleet.weights = np.array([0.1, 0.2, 0.3, 0.4])

    taken = take_fingerprint(fleet, kernels, runs=1, seed=0)

    np.testing.assert_array_equal(taken.weights, fleet.weights)
