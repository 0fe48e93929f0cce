"""Fleets that were measured elsewhere: files read, checked, clustered and scored."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import cluster_fleet, fingerprint_fleet
from hdapbench.fleet.estimate.probes import choose_probes, take_fingerprint
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.recorded import reading
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.spec import ClusteringSpec, RecordedFleetSpec
from tests.fleet.making import RUNS, pruned, simulated

Rows = dict[str, list[object]]


def rows(n_devices: int = 3, n_samples: int = 3) -> Rows:
    """Devices a, b, c, ... with three samples of the plans dense and thin: 10, 20, ... ms, and half of it."""
    made: Rows = {"device": [], "plan": [], "sample": [], "latency_ms": []}
    for device in range(n_devices):
        for plan, factor in (("dense", 10.0), ("thin", 5.0)):
            for sample in range(n_samples):
                values = (chr(97 + device), plan, sample, factor * (device + 1) * (1 + 0.01 * (sample - 1)))
                for key, value in zip(made, values, strict=True):
                    made[key].append(value)
    return made


def written(folder: Path, content: Rows | pl.DataFrame, suffix: str = ".csv") -> Path:
    frame = pl.DataFrame(content, strict=False)
    path = folder / f"latency{suffix}"
    if suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path, separator="\t" if suffix == ".tsv" else ",")
    return path


def recorded(path: Path, **changes: object) -> RecordedFleet:
    fields = {"name": "lab", "kind": "recorded", "path": str(path)}
    fleet = open_fleet(RecordedFleetSpec.model_validate(fields | changes))
    assert isinstance(fleet, RecordedFleet)
    return fleet


def load(kernels: KernelModel, *ids: str) -> Workloads:
    return Workloads(kernels, np.tile(kernels.sizes, (len(ids), 1)), ids)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_file_of_any_kind_is_a_fleet(tmp_path: Path, suffix: str, kernels: KernelModel) -> None:
    fleet = recorded(written(tmp_path, rows(), suffix))

    assert fleet.source == "measured"
    assert fleet.device_ids == ("a", "b", "c")
    assert fleet.plans == fleet.complete_plans == ("dense", "thin")
    np.testing.assert_allclose(fleet.medians_ms("dense"), [10, 20, 30])
    samples = fleet.measure(load(kernels, "thin", "dense"), np.array([2, 0]), runs=3, seed=0)
    np.testing.assert_allclose(np.sort(samples[0, 1]), [29.7, 30.0, 30.3])
    np.testing.assert_allclose(np.median(samples, axis=2), [[15, 30], [5, 10]])
    assert fleet.describe() == {
        "kind": "recorded",
        "file": f"latency{suffix}",
        "n_devices": 3,
        "n_plans": 2,
        "n_samples": 18,
    }


def test_rows_may_stand_in_any_order(tmp_path: Path) -> None:
    shuffled = pl.DataFrame(rows()).sample(fraction=1, shuffle=True, seed=1)

    fingerprint = recorded(written(tmp_path, shuffled)).recorded_fingerprint()

    np.testing.assert_allclose(fingerprint.latency_ms, np.outer([1, 2, 3], [10, 5]))
    assert fingerprint.probes == ("dense", "thin")
    assert fingerprint.device_ids == ("a", "b", "c")
    assert fingerprint.runs == 3


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    frame = pl.DataFrame(rows()).rename({"device": "board", "plan": "model", "latency_ms": "time_ms"})

    fleet = recorded(written(tmp_path, frame), device_column="board", plan_column="model", latency_column="time_ms")

    np.testing.assert_allclose(fleet.medians_ms("thin"), [5, 10, 15])


def test_devices_named_by_numbers_are_names(tmp_path: Path) -> None:
    content = rows()
    content["device"] = [{"a": 7, "b": 10, "c": 9}[str(name)] for name in content["device"]]

    fleet = recorded(written(tmp_path, content))

    assert fleet.device_ids == ("10", "7", "9")
    np.testing.assert_allclose(fleet.medians_ms("dense"), [20, 10, 30])


def test_a_column_that_is_missing_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, pl.DataFrame(rows()).rename({"device": "devise"}))

    with pytest.raises(FleetError, match=r"latency\.csv: there is no column 'device'; did you mean 'devise'\?"):
        recorded(path)
    without = written(tmp_path, pl.DataFrame(rows()).drop("latency_ms"))
    with pytest.raises(FleetError, match=r"no column of latencies; .* Columns: device, plan, sample"):
        recorded(without)


BAD_ROWS = {
    "missing value": [("latency_ms", None), ("device", None), ("plan", None), ("sample", None)],
    "latency that is no number": [("latency_ms", "fast"), ("latency_ms", "12,5"), ("latency_ms", "3 ms")],
    "latency that is not finite": [("latency_ms", "inf"), ("latency_ms", "NaN"), ("latency_ms", "-inf")],
    "latency that is zero or negative": [("latency_ms", "0"), ("latency_ms", "-3.5")],
}


@pytest.mark.parametrize(
    ("problem", "column", "value"), [(name, *case) for name, cases in BAD_ROWS.items() for case in cases]
)
def test_bad_rows_are_counted_and_named_or_dropped(tmp_path: Path, problem: str, column: str, value: object) -> None:
    content = rows()
    content = {key: [None if item is None else str(item) for item in values] for key, values in content.items()}
    content[column][4] = value
    content[column][11] = value
    path = written(tmp_path, content)

    with pytest.raises(FleetError) as caught:
        recorded(path)
    fleet = recorded(path, invalid="drop")

    assert f"{problem}: 2 rows, first line 6" in str(caught.value)
    assert "(of 18)" in str(caught.value)
    assert "drop them with: invalid: drop" in str(caught.value)
    assert fleet.counts.wrong[problem] == 2
    assert fleet.describe()["n_samples"] == 16
    assert fleet.describe()["dropped"] == f"{problem}: 2 rows"
    np.testing.assert_allclose(fleet.medians_ms("dense"), [10, 20, 30], rtol=0.011)


def test_every_kind_of_bad_row_is_listed_at_once(tmp_path: Path) -> None:
    content = {key: [str(item) for item in values] for key, values in rows().items()}
    content["latency_ms"][0], content["latency_ms"][1], content["latency_ms"][2] = "", "nan", "0"
    content["sample"][4] = "0"

    with pytest.raises(FleetError) as caught:
        recorded(written(tmp_path, content))

    for problem in (*BAD_ROWS, "repeated (device, plan, sample)"):
        if problem != "latency that is no number":
            assert f"{problem}: 1 row, line " in str(caught.value)


def test_a_wrong_row_is_named_with_its_line_device_and_plan(tmp_path: Path) -> None:
    content = {key: [str(item) for item in values] for key, values in rows().items()}
    content["latency_ms"][4] = "fast"

    for suffix, place in ((".csv", "line 6"), (".tsv", "line 6"), (".parquet", "row 5")):
        with pytest.raises(FleetError) as caught:
            recorded(written(tmp_path, content, suffix))

        assert f"1 row, {place} (device 'a', plan 'thin', latency 'fast') (of 18)" in str(caught.value)


def test_names_stay_text_and_numbers_are_read_by_value_wherever_they_stand(tmp_path: Path) -> None:
    """Types guessed from the first rows made 001 and 1 one device, and refused a decimal point in row 11,001."""
    lines = [f"{name},{plan},{ms}" for name in ("001", "01", "1") for plan, ms in (("12e4", 10), ("0x1F", 5))] * 2000
    lines[11_000] = lines[11_000].rsplit(",", 1)[0] + ",9.5"
    path = tmp_path / "latency.csv"
    path.write_text("device,plan,latency_ms\n" + "\n".join(lines) + "\n\n")

    fleet = recorded(path)

    assert fleet.device_ids == ("001", "01", "1")
    assert fleet.plans == ("0x1F", "12e4")
    np.testing.assert_array_equal(fleet.medians_ms("12e4"), [10, 10, 10])
    assert fleet.describe()["n_samples"] == 12_000
    lines[11_000] = lines[11_000].rsplit(",", 1)[0] + ",quick"
    path.write_text("device,plan,latency_ms\n" + "\n".join(lines))
    with pytest.raises(FleetError, match=r"latency that is no number: 1 row, line 11,002 \(device '01', plan '12e4'"):
        recorded(path)
    assert recorded(path, invalid="drop").describe()["n_samples"] == 11_999


def test_files_of_spreadsheets_are_read_and_glued_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    path.write_text("device;plan;latency_ms\na;dense;10.5\n")
    assert recorded(path).medians_ms("dense") == [10.5]

    path.write_text("device,plan,latency_ms\na,dense,10\na,thin,0.02b,dense,11\n")
    with pytest.raises(FleetError, match=r"line 3 has 5 values for 3 columns: a, thin, 0\.02b, dense, 11"):
        recorded(path)


@pytest.mark.parametrize("content", [b"PAR1" + bytes(40) + b"PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"", b"PAR1"])
def test_damaged_parquet_files_are_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "latency.parquet"
    path.write_bytes(content)

    with pytest.raises(FleetError, match="cannot be read"):
        recorded(path)


def test_rows_that_are_packed_into_nothing_are_refused_before_they_take_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FREE_ROWS", 1000)
    honest = rows(n_devices=20, n_samples=50)
    equal = {name: [values[0]] * 100_000 for name, values in honest.items() if name != "sample"}

    with pytest.raises(FleetError, match=r"latency\.parquet' holds 100,000 rows in [\d,]+ bytes"):
        recorded(written(tmp_path, equal, ".parquet"))
    assert recorded(written(tmp_path, honest, ".parquet")).describe()["n_samples"] == 2000


def test_panics_of_the_reader_are_errors_that_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no Exceptions: `except Exception` lets them through."""
    path = written(tmp_path, rows(), ".parquet")

    def panics(*_: object, **__: object) -> None:
        raise pl.exceptions.PanicException("range end index 9 out of range")

    monkeypatch.setattr(pl.LazyFrame, "collect", panics)
    with pytest.raises(FleetError, match=r"latency\.parquet' cannot be read: range end index 9"):
        recorded(path)


def test_a_plan_that_a_device_lacks_is_said(tmp_path: Path) -> None:
    frame = pl.DataFrame(rows()).filter(~((pl.col("device") == "b") & (pl.col("plan") == "thin")))

    assert recorded(written(tmp_path, frame)).describe()["not on every device"] == "thin lacks b"


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 4, 5])
def test_fewer_samples_than_runs_keep_their_median(
    tmp_path: Path, kernels: KernelModel, n_samples: int, runs: int
) -> None:
    """Samples that were given again in turn, the fastest first, made every latency about one percent too short."""
    fleet = recorded(written(tmp_path, rows(3, n_samples)))

    samples = fleet.measure(load(kernels, "dense"), np.arange(3), runs=max(runs, n_samples), seed=0)

    np.testing.assert_array_equal(np.median(samples[:, 0], axis=1), fleet.medians_ms("dense"))


def test_a_sample_that_stands_twice_counts_once(tmp_path: Path) -> None:
    content = rows()
    for key, values in content.items():
        values.append(99.0 if key == "latency_ms" else values[0])
    path = written(tmp_path, content)

    with pytest.raises(FleetError, match=r"repeated \(device, plan, sample\): 1 row, line 20 .* \(of 19\)"):
        recorded(path)
    fleet = recorded(path, invalid="drop")

    assert fleet.counts.wrong["repeated (device, plan, sample)"] == 1
    assert fleet.describe()["n_samples"] == 18
    assert fleet.medians_ms("dense")[0] == pytest.approx(10)


def test_without_sample_numbers_equal_rows_are_repeats(tmp_path: Path) -> None:
    content = rows()
    del content["sample"]
    for values in content.values():
        values.append(values[0])

    fleet = recorded(written(tmp_path, content))

    assert fleet.describe()["n_samples"] == 19


@pytest.mark.parametrize(
    ("column", "factor", "unit"),
    [("latency", 1e-3, "s"), ("latency", 1e6, "ns"), ("latency_ms", 1e-3, "s"), ("latency_s", 1e3, "us")],
)
def test_an_implausible_unit_is_guessed_and_asked_for(tmp_path: Path, column: str, factor: float, unit: str) -> None:
    frame = pl.DataFrame(rows()).with_columns(pl.col("latency_ms") * factor).rename({"latency_ms": column})

    with pytest.raises(FleetError) as caught:
        recorded(written(tmp_path, frame))

    assert f"the median is {12.5 * factor:g}" in str(caught.value)
    assert f"they look like {unit}. State it in the fleet's spec, such as unit: {unit}" in str(caught.value)
    assert f"--set unit={unit}" in str(caught.value)
    answered = recorded(written(tmp_path, frame), unit=unit)
    np.testing.assert_allclose(answered.medians_ms("dense"), [10, 20, 30])


def test_a_unit_that_nothing_tells_is_asked_for_even_when_it_looks_right(tmp_path: Path) -> None:
    path = written(tmp_path, pl.DataFrame(rows()).rename({"latency_ms": "latency"}))

    with pytest.raises(
        FleetError, match=r"column 'latency' does not say its unit; the median is 12\.5; they look like"
    ):
        recorded(path)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1e-3), ("ms", 1.0), ("us", 1e3), ("ns", 1e6)])
def test_a_unit_that_is_stated_or_named_by_the_column_is_taken(tmp_path: Path, unit: str, factor: float) -> None:
    scaled = pl.DataFrame(rows()).with_columns(pl.col("latency_ms") * factor)

    stated = recorded(written(tmp_path, scaled.rename({"latency_ms": "latency"})), unit=unit)
    np.testing.assert_allclose(stated.medians_ms("dense"), [10, 20, 30])
    named = recorded(written(tmp_path, scaled.rename({"latency_ms": f"latency_{unit}"})))
    np.testing.assert_allclose(named.medians_ms("dense"), [10, 20, 30])


def test_a_stated_unit_is_taken_however_implausible(tmp_path: Path) -> None:
    frame = pl.DataFrame(rows()).rename({"latency_ms": "latency"})

    np.testing.assert_allclose(recorded(written(tmp_path, frame), unit="s").medians_ms("thin"), [5e3, 10e3, 15e3])
    np.testing.assert_allclose(recorded(written(tmp_path, frame), unit="ns").medians_ms("thin")[0], 5e-6)


def test_a_stated_unit_that_the_column_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="the column 'latency_ms' says ms, the spec says unit: s; make them agree"):
        recorded(written(tmp_path, rows()), unit="s")


def with_weights(weights: dict[str, object]) -> pl.DataFrame:
    frame = pl.DataFrame(rows())
    return frame.with_columns(share=pl.Series([weights[name] for name in frame["device"]], strict=False))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_weights_are_shares_or_average_one(tmp_path: Path, scale: float) -> None:
    shares = {"a": 0.5 * scale, "b": 0.3 * scale, "c": 0.2 * scale}

    fleet = recorded(written(tmp_path, with_weights(shares)), weight_column="share")

    np.testing.assert_allclose(fleet.weights, [0.5, 0.3, 0.2])
    np.testing.assert_allclose(fleet.recorded_fingerprint().weights, [0.5, 0.3, 0.2])


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"a": 0.5, "b": 0.3, "c": 0.1}, "the devices' weights sum to 0.9; write shares that sum to 1"),
        ({"a": 0.5, "b": 0.5, "c": 0.0}, "weights must be finite and positive; the least is 0"),
        ({"a": 0.5, "b": 1.0, "c": -0.5}, "weights must be finite and positive; the least is -0.5"),
        ({"a": 0.5, "b": 0.5, "c": None}, "weights must be finite and positive"),
        ({"a": 0.5, "b": 0.5, "c": "many"}, "the weight of device c is no number: 'many'"),
    ],
)
def test_impossible_weights_are_refused(tmp_path: Path, weights: dict[str, object], complaint: str) -> None:
    if "many" in weights.values():
        weights = {name: str(value) for name, value in weights.items()}

    with pytest.raises(FleetError) as caught:
        recorded(written(tmp_path, with_weights(weights)), weight_column="share")

    assert complaint in str(caught.value)


def test_a_device_with_two_weights_is_refused_by_name(tmp_path: Path) -> None:
    frame = with_weights({"a": 0.5, "b": 0.3, "c": 0.2}).with_row_index()
    frame = frame.with_columns(share=pl.when(pl.col("index") == 7).then(0.9).otherwise(pl.col("share"))).drop("index")

    with pytest.raises(FleetError, match="1 devices have more than one weight, such as b"):
        recorded(written(tmp_path, frame), weight_column="share")


def test_a_device_that_is_dropped_leaves_its_weight_to_the_others(tmp_path: Path) -> None:
    frame = with_weights({"a": 0.5, "b": 0.3, "c": 0.2})
    frame = frame.with_columns(latency_ms=pl.when(pl.col("device") == "b").then(-1.0).otherwise(pl.col("latency_ms")))

    fleet = recorded(written(tmp_path, frame), weight_column="share", invalid="drop")

    assert fleet.device_ids == ("a", "c")
    np.testing.assert_allclose(fleet.weights, [5 / 7, 2 / 7])


def test_a_probe_that_some_devices_lack_is_refused_by_name_and_left_out_by_default(tmp_path: Path) -> None:
    frame = pl.DataFrame(rows()).filter(~((pl.col("device") == "b") & (pl.col("plan") == "thin")))
    path = written(tmp_path, frame)

    fleet = recorded(path)

    assert fleet.complete_plans == fleet.recorded_fingerprint().probes == ("dense",)
    assert np.isnan(fleet.medians_ms("thin")).tolist() == [False, True, False]
    with pytest.raises(FleetError, match="probe 'thin' is missing on 1 of 3 devices, such as b"):
        recorded(path, probes=["dense", "thin"]).recorded_fingerprint()


def test_files_without_a_plan_that_all_devices_have_cannot_be_clustered(tmp_path: Path) -> None:
    kept = pl.struct("device", "plan").is_in([{"device": d, "plan": p} for d, p in (("a", "dense"), ("b", "thin"))])
    fleet = recorded(written(tmp_path, pl.DataFrame(rows()).filter(kept)))

    with pytest.raises(FleetError, match=r"no plan was measured on every device; .* comes nearest with 1 of 2 devices"):
        fleet.recorded_fingerprint()


def test_probes_are_the_plans_that_the_spec_names_in_its_order(tmp_path: Path) -> None:
    fingerprint = recorded(written(tmp_path, rows()), probes=["thin", "dense"]).recorded_fingerprint()

    assert fingerprint.probes == ("thin", "dense")
    np.testing.assert_allclose(fingerprint.latency_ms[:, 0], [5, 10, 15])


def test_an_unknown_plan_is_refused_with_a_suggestion(tmp_path: Path, kernels: KernelModel) -> None:
    fleet = recorded(written(tmp_path, rows()))

    for ask in (
        lambda: fleet.medians_ms("dens"),
        lambda: fleet.measure(load(kernels, "dens"), np.array([0]), runs=1, seed=0),
        lambda: recorded(fleet.path, probes=["dens"]).recorded_fingerprint(),
    ):
        with pytest.raises(FleetError, match=r"plan 'dens' was not recorded; .* did you mean 'dense'\?"):
            ask()


def test_a_plan_that_a_device_lacks_cannot_be_measured_there(tmp_path: Path, kernels: KernelModel) -> None:
    frame = pl.DataFrame(rows()).filter(~((pl.col("device") == "b") & (pl.col("plan") == "thin")))
    fleet = recorded(written(tmp_path, frame))

    with pytest.raises(FleetError, match="plan 'thin' was not measured on device b"):
        fleet.measure(load(kernels, "thin"), np.array([0, 1]), runs=1, seed=0)


def test_more_samples_than_asked_for_are_chosen_at_random(tmp_path: Path, kernels: KernelModel) -> None:
    fleet = recorded(written(tmp_path, rows(2, n_samples=9)))

    three = [fleet.measure(load(kernels, "dense"), np.array([0]), runs=3, seed=seed)[0, 0] for seed in range(20)]
    again = fleet.measure(load(kernels, "dense"), np.array([0]), runs=3, seed=0)[0, 0]

    assert all(len(set(samples)) == 3 for samples in three)
    assert len({tuple(samples) for samples in three}) > 10
    np.testing.assert_array_equal(three[0], again)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_recorded_fleet_gives_the_estimates_of_the_fleet_that_it_was_recorded_from(
    tmp_path: Path, kernels: KernelModel, suffix: str
) -> None:
    fleet = simulated("mixed", 60, seed=3)
    models = pruned(kernels, 4, seed=0)
    every, spec = np.arange(60), ClusteringSpec(n_clusters=8)
    parts = []
    sessions = [(f"probe{n}", row, n) for n, row in enumerate(choose_probes(kernels))]
    sessions += [(f"p{n}", row, 50) for n, row in enumerate(models.widths)]
    measured = fleet.measure(models, every, runs=RUNS, seed=50)
    for name, row, session in sessions:
        if name.startswith("probe"):
            samples = fleet.measure(Workloads(kernels, row[None], (name,)), every, runs=RUNS, seed=session)[:, 0]
        else:
            samples = measured[:, int(name[1:])]
        table = pl.DataFrame({"device": np.repeat(list(fleet.device_ids), RUNS), "latency_ms": samples.ravel()})
        parts.append(table.with_columns(plan=pl.lit(name), sample=pl.Series(np.tile(np.arange(RUNS), 60))))
    path = written(tmp_path, pl.concat(parts).sample(fraction=1, shuffle=True, seed=0), suffix)

    original = cluster_fleet(fleet, take_fingerprint(fleet, kernels, runs=RUNS, seed=0).latency_ms, spec, seed=0)
    replayed = fingerprint_fleet(
        recorded(path, probes=["probe0", "probe1", "probe2"]), kernels, clustering=spec, runs=RUNS, seed=0
    )

    np.testing.assert_array_equal(replayed.fingerprint_ms, original.fingerprint_ms)
    answers = [one.measure_clusters(models, runs=RUNS, seed=50) for one in (original, replayed)]
    np.testing.assert_array_equal(answers[0].devices, answers[1].devices)
    estimates = [
        one.average(answer.device_latency_ms) for one, answer in zip((original, replayed), answers, strict=True)
    ]
    np.testing.assert_allclose(estimates[1].mean_ms, estimates[0].mean_ms, rtol=1e-12)
    for name in ("low_ms", "high_ms"):  # a recording tells noise apart from what devices stray
        np.testing.assert_allclose(getattr(estimates[1], name), getattr(estimates[0], name), rtol=2e-3)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_only_the_columns_that_are_needed_are_read(tmp_path: Path) -> None:
    """A column of 240 MB of text beside 200,000 short rows: opening the fleet takes a fraction of it."""
    n = 200_000
    numbers = np.arange(n)
    frame = pl.DataFrame(
        {
            "device": (numbers // 20).astype(str),
            "plan": np.where(numbers % 2, "dense", "thin"),
            "latency_ms": 5.0 + numbers % 7,
        }
    ).with_columns(log=pl.format("{} {}", pl.int_range(n), pl.lit("x" * 1200)))
    path = tmp_path / "long.parquet"
    frame.write_parquet(path, row_group_size=20_000)
    program = (
        "def peak_kib():\n"
        "    return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM'))\n"
        "from hdapbench.fleet.open import open_fleet\n"
        "from hdapbench.spec import RecordedFleetSpec\n"
        "import polars, hdapbench.fleet.recorded.fleet\n"
        "before = peak_kib()\n"
        f"spec = RecordedFleetSpec(name='f', kind='recorded', path={str(path)!r})\n"
        "fleet = open_fleet(spec)\n"
        "assert fleet.n_devices == 10_000\n"
        "print(peak_kib() - before)\n"
    )

    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert int(found.stdout) / 1024 < 120  # MiB
