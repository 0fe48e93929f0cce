"""The actions of ``hdapbench fleet`` as a user types them, one after another, on a small model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hdapbench.cli.main import main
from tests.cli.fleet_commands import PROBES, answer, recording, refusal

MODEL = ["--model", "resnet20", "--input-shape", "1,16,16", "--classes", "10"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fleet of 120 boards and its fingerprint."""
    folder = tmp_path_factory.mktemp("fleet")
    assert (
        main(["fleet", "make", "--sku", "nano", "--devices", "120", "--seed", "3", "-o", str(folder / "fleet.yaml")])
        == 0
    )
    fingerprint = ["fleet", "fingerprint", str(folder / "fleet.yaml"), *MODEL, "-o", str(folder / "fp.parquet")]
    assert main(fingerprint) == 0
    return folder


def test_without_an_action_it_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet"]) == 0

    out = capsys.readouterr().out
    assert "hdapbench fleet make -o fleet.yaml" in out
    assert all(action in out for action in ("fingerprint", "cluster", "plan", "estimate", "drift", "show"))


def test_a_made_fleet_is_a_spec_that_can_be_shown_and_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "show", str(folder / "fleet.yaml"))
    changed = answer(
        capsys, "show", str(folder / "fleet.yaml"), "--set", "n_devices=7", "--set", "scenario.busy_share=0.0"
    )

    assert shown["n_devices"] == 120
    assert sum(shown["modes"].values()) == 120
    assert shown["multipliers"]["compute"]["p0"] <= shown["multipliers"]["compute"]["mean"]
    assert shown["multipliers"]["compute"]["mean"] <= shown["multipliers"]["compute"]["cvar95"]
    assert changed["n_devices"] == 7
    assert changed["scenario"] == "mixed with its own busy_share"


def test_make_prints_yaml_keeps_files_and_takes_any_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["fleet", "make", "--set", "scenario.memory_load=[0.5, 0.7]", "--set", "uptime_seconds=60.0"]) == 0
    out = capsys.readouterr().out

    assert "memory_load" in out
    assert "uptime_seconds: 60.0" in out
    assert "exists; overwrite it with --force" in refusal(capsys, "make", "-o", str(folder / "fleet.yaml"))


def test_a_dry_run_says_what_a_fingerprint_costs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = answer(capsys, "fingerprint", str(folder / "fleet.yaml"), "--probes", "4", "--dry-run")

    assert cost == {"device_queries": 480, "runs": 7, "taken": False}


def test_a_fingerprint_is_clustered_drawn_and_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, picture = folder / "labels.csv", folder / "clusters.png"
    found = answer(
        capsys, "cluster", str(folder / "fp.parquet"), "--clusters", "5", "-o", str(labels), "--plot", str(picture)
    )

    assert found["n_clusters"] == 5
    assert sum(cluster["share"] for cluster in found["clusters"]) == pytest.approx(1)
    assert [cluster["mean_ms"][0] for cluster in found["clusters"]] == sorted(
        c["mean_ms"][0] for c in found["clusters"]
    )
    kept = pl.read_csv(labels)
    assert kept.shape == (120, 2)
    assert kept["cluster"].n_unique() == 5
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("action", ["cluster", "show", "estimate"])
def test_pictures_are_also_pages_that_load_nothing(
    folder: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = folder / f"{action}.html"
    answer(capsys, action, str(folder / "fp.parquet"), "--plot", str(page))

    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "data:image/png;base64," in text
    assert "http" not in text


def test_a_plan_needs_fewer_devices_for_a_larger_error_and_far_fewer_than_chance(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strict, loose = (answer(capsys, "plan", str(folder / "fp.parquet"), "--error", error) for error in ("1%", "0.03"))

    assert loose["n_measured"] <= strict["n_measured"] < strict["n_random"]
    assert strict["half_width"] <= 0.01
    assert len(strict["devices"]) == strict["n_measured"]
    assert sum(row["weight"] for row in strict["devices"]) == pytest.approx(1)
    assert "study" in strict["reason"]


def test_where_all_devices_are_too_few_for_an_error_noise_is_what_is_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["fleet", "plan", str(folder / "fp.parquet"), "--error", "0.01%"]) == 1

    out = capsys.readouterr().out
    assert "measure all 120 devices per model: no more can be measured; up to ±0." in out
    assert "NOT REACHED" not in out


def test_estimates_stand_beside_the_truth_of_a_simulated_fleet(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "estimate", str(folder / "fp.parquet"), "--clusters", "16", "--share", "0.6", "0.3")

    assert found["n_measured"] == 16
    assert found["device_queries"] == 32
    for row in found["estimates"]:
        assert row["low_ms"] < row["mean_ms"] < row["high_ms"] < row["cvar95_ms"]
        assert row["mean_ms"] == pytest.approx(row["true_ms"], rel=0.03)


def test_drift_is_told_from_its_absence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = answer(capsys, "drift", str(folder / "fp.parquet"))
    loaded = answer(capsys, "drift", str(folder / "fp.parquet"), "--set", "scenario.gpu_load=[0.4, 0.6]", code=1)

    assert same["holds"]
    assert not loaded["holds"]
    assert any("probe0 changed by +" in reason for reason in loaded["reasons"])


def test_a_recording_goes_through_the_same_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recording(tmp_path, np.random.default_rng(0).uniform(0.8, 2.0, 40))

    shown = answer(capsys, "show", path)
    clusters = answer(capsys, "cluster", path, *PROBES, "--clusters", "4")
    found = answer(capsys, "estimate", path, *PROBES, "--clusters", "8")

    assert (shown["n_devices"], shown["n_plans"], shown["n_samples"]) == (40, 3, 360)
    assert clusters["n_clusters"] == 4
    assert [row["workload"] for row in found["estimates"]] == ["half"]
    assert found["source"] == "measured"
    assert found["estimates"][0]["mean_ms"] == pytest.approx(found["estimates"][0]["true_ms"], rel=0.02)


def test_a_recorded_plan_is_no_probe_of_its_own_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing tells how one plan behaves on a device; as its own probe, representatives would seem to tell it all."""
    path = recording(tmp_path, np.random.default_rng(0).uniform(0.8, 2.0, 30))
    frame = pl.read_csv(path)
    strange = np.exp(0.5 * np.random.default_rng(1).standard_normal(30))
    factor = pl.col("device").replace_strict(dict(zip(frame["device"].unique().sort(), strange, strict=True)))
    odd = pl.when(pl.col("plan") == "thin").then(pl.col("latency_ms") * factor).otherwise(pl.col("latency_ms"))
    frame.with_columns(latency_ms=odd).write_csv(path)

    found = answer(capsys, "estimate", path, "--clusters", "8", "--estimator", "medoid")

    rows = {row["workload"]: row for row in found["estimates"]}
    assert list(rows) == ["dense", "half", "thin"]
    assert not any(row["own_probe"] for row in rows.values())
    assert rows["thin"]["high_ms"] / rows["thin"]["low_ms"] > 1.15
    assert all(row["low_ms"] < row["true_ms"] < row["high_ms"] for row in rows.values())


def test_estimates_use_all_samples_and_say_what_their_intervals_leave_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, np.random.default_rng(0).uniform(0.8, 2.0, 9))
    every = answer(capsys, "estimate", path, "--clusters", "9", "--set", "runs=1")["estimates"]
    pl.read_csv(path).filter(sample=0).write_csv(path)
    capsys.readouterr()
    assert main(["fleet", "estimate", path, "--clusters", "9"]) == 0
    single = capsys.readouterr().out

    for row in every:
        assert row["n_measured"] == 9
        assert row["mean_ms"] == pytest.approx(row["true_ms"], rel=1e-12)
        assert row["low_ms"] < row["mean_ms"]
    assert "one sample per device, so that intervals leave out measurement noise: dense, half, thin" in single


def test_a_plan_that_few_devices_have_is_estimated_from_these(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recording(tmp_path, np.random.default_rng(0).uniform(0.8, 2.0, 30))
    frame = pl.read_csv(path)
    truth = frame.filter(plan="half").group_by("device").agg(pl.col("latency_ms").median())["latency_ms"].mean()
    kept = [f"unit-{number:03}" for number in (2, 9, 11, 26)]
    frame.filter((pl.col("plan") != "half") | pl.col("device").is_in(kept)).write_csv(path)

    found = answer(capsys, "estimate", path, "--plan", "half", "--estimator", "medoid")

    assert found["n_measured"] == 4
    assert found["estimator"] == "calibrated"
    row = found["estimates"][0]
    assert row["true_ms"] is None
    assert row["low_ms"] < truth < row["high_ms"] < 1.2 * row["low_ms"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nowhere.yaml"], "there is no file 'nowhere.yaml'; make a fleet with: hdapbench fleet make"),
        (["cluster", "{folder}/fleet.yaml"], "is a fleet without a fingerprint; take one with"),
        (["cluster", "{folder}/fp.parquet", "--clusters", "many"], "--clusters many"),
        (["cluster", "{folder}/fp.parquet", "--plot", "x.gif"], "name a .png or .html file"),
        (["plan", "{folder}/fp.parquet", "--error", "tiny"], "write a share, such as 1% or 0.01"),
        (["plan", "{folder}/fp.parquet", "--error", "2"], "give a share between 0 and 1"),
        (["estimate", "{folder}/fp.parquet", "--share", "1.5"], "shares are above 0 and at most 1"),
        (["fingerprint", "{folder}/fleet.yaml", "--input-shape", "3,x"], "write channels, height and width"),
        (
            ["fingerprint", "{folder}/fleet.yaml", "--probes", "40", "--model", "resnet20", "--input-shape", "1,16,16"],
            "there are 9 candidates for probes",
        ),
    ],
)
def test_bad_input_is_one_line_with_the_fix(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, *(argument.replace("{folder}", str(folder)) for argument in arguments))


def test_a_spec_is_fingerprinted_with_its_own_model(tiny_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = answer(capsys, "fingerprint", str(tiny_spec))
    other = answer(capsys, "fingerprint", str(tiny_spec), "--model", "resnet8", "--input-shape", "3,8,8")
    spec = tiny_spec.read_text().replace("name: resnet20", 'name: "./net.py:build"')
    tiny_spec.write_text(spec)

    assert (taken["model"], other["model"]) == ("resnet20", "resnet8")
    assert "name it yourself, with --model ./net.py:build and --input-shape 1,8,8" in refusal(
        capsys, "fingerprint", str(tiny_spec)
    )


def test_devices_of_another_recording_are_assigned_to_clusters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    path = recording(tmp_path, np.repeat([1.0, 2.0], 10) * np.linspace(0.99, 1.01, 20))
    new = recording(tmp_path / "new", np.array([2.0, 1.0]))

    found = answer(capsys, "cluster", path, "--clusters", "2", "--assign", new)

    assert [row["cluster"] for row in found["assigned"]] == [1, 0]
