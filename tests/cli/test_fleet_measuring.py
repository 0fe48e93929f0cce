"""``hdapbench fleet make --local``, ``measure`` and ``calibrate`` as a user types them."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
import yaml

from hdapbench.cli.main import main
from hdapbench.fleet.base import DeviceLostError
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import LocalFleetSpec, load_fleets
from tests.cli.fleet_commands import answer, refusal

MODEL = ["--model", "resnet20", "--input-shape", "1,16,16", "--classes", "10"]
SHARES = ["--share", "1", "0.8", "0.6", "0.5", "0.4", "0.3"]


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    path = tmp_path / "nano.yaml"
    assert main(["fleet", "make", "--sku", "nano", "--devices", "6", "-o", str(path)]) == 0
    return path


def test_a_local_fleet_is_fitted_to_the_host_and_can_be_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    path = tmp_path / "local.yaml"

    assert main(["fleet", "make", "--local", "12", "-o", str(path)]) == 0

    (spec,) = load_fleets(path)
    assert isinstance(spec, LocalFleetSpec)
    assert spec.devices is not None
    assert len({device.name for device in spec.devices}) == 12
    assert {device.runtime.threads for device in spec.devices} == {1, 2}
    assert any(device.runtime.graph_optimization == "none" for device in spec.devices)
    assert any(device.cpu_share < 1 for device in spec.devices)
    assert answer(capsys, "show", str(path))["n_devices"] == 12


def test_on_one_cpu_no_device_has_two_threads(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})

    assert main(["fleet", "make", "--local", "9"]) == 0

    devices = yaml.safe_load(capsys.readouterr().out)["devices"]
    assert all(device.get("runtime", {}).get("threads", 1) == 1 for device in devices)


def test_numbers_of_local_devices_have_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert "from 1 to 64" in refusal(capsys, "make", "--local", "0")


def test_a_filled_matrix_is_a_recorded_fleet_and_is_filled_once(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "latencies.csv"
    fill = ["measure", str(simulated), *MODEL, "--runs", "3", "-o", str(table)]

    first = answer(capsys, *fill, "--share", "1", "0.5")
    written = table.read_bytes()
    second = answer(capsys, *fill, "--share", "1", "0.5")
    third = answer(capsys, *fill, "--share", "1", "0.5", "0.25")
    clusters = answer(capsys, "cluster", str(table), "--clusters", "2")

    assert (first["measured"], second["measured"], third["measured"]) == (12, 0, 6)
    assert table.read_bytes().startswith(written)
    frame = pl.read_csv(table)
    assert len(frame) == 6 * 3 * 3
    assert frame.unique(["device", "plan", "sample"]).height == len(frame)
    assert clusters["n_devices"] == 6
    assert clusters["probes"] == ["resnet20@1x16x16/0.25", "resnet20@1x16x16/0.5", "resnet20@1x16x16/1"]


def test_an_interrupted_matrix_goes_on_where_it_was(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "latencies.csv"
    fill = ["measure", str(simulated), *MODEL, *SHARES, "--runs", "2", "-o", str(table)]
    honest, calls = SimulatedFleet.sample, []

    def interrupted(self, workloads, devices, **how):
        calls.append(len(workloads))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(self, workloads, devices, **how)

    monkeypatch.setattr(SimulatedFleet, "sample", interrupted)
    assert main(["fleet", *fill]) == 130
    done = len(pl.read_csv(table))

    rest = answer(capsys, *fill)

    assert done == 6 * calls[0] * 2
    assert rest["known"] == 6 * calls[0]
    assert rest["known"] + rest["measured"] == rest["cells"] == 36


def test_a_lost_device_is_left_out_and_tried_again_later(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "latencies.csv"
    fill = ["measure", str(simulated), *MODEL, "--share", "1", "--runs", "2", "-o", str(table)]
    honest = SimulatedFleet.sample

    def lossy(self, workloads, devices, **how):
        if 4 in devices:
            raise DeviceLostError(4, "device 4 is gone")
        return honest(self, workloads, devices, **how)

    with monkeypatch.context() as patched:
        patched.setattr(SimulatedFleet, "sample", lossy)
        lossily = answer(capsys, *fill, code=1)
    later = answer(capsys, *fill)

    assert (lossily["measured"], later["measured"]) == (5, 1)
    assert list(lossily["lost"].values()) == ["device 4 is gone"]
    assert len(pl.read_csv(table)) == 12


def test_probes_are_measured_where_no_shares_are_named(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "probes.csv"

    measured = answer(capsys, "measure", str(simulated), *MODEL, "--probes", "2", "--runs", "2", "-o", str(table))

    assert measured["plans"] == ["resnet20@1x16x16/probe0", "resnet20@1x16x16/probe1"]


def test_a_matrix_of_two_real_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet, table = tmp_path / "local.yaml", tmp_path / "latencies.csv"
    devices = [{"name": "plain"}, {"name": "half", "cpu_share": 0.5}]
    fleet.write_text(yaml.safe_dump({"name": "two", "kind": "local", "rounds": 1, "retries": 0, "devices": devices}))

    measured = answer(capsys, "measure", str(fleet), *MODEL, "--share", "0.25", "--runs", "3", "-o", str(table))
    shown = answer(capsys, "show", str(table))

    assert measured["source"] == "measured"
    assert measured["measured"] == 2
    assert "onnxruntime" in measured["runtimes"]
    assert shown["n_samples"] == 6


def test_a_calibrated_profile_is_a_board_that_says_how_far_to_trust_it(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, board = tmp_path / "latencies.csv", tmp_path / "mine.yaml"
    answer(capsys, "measure", str(simulated), *MODEL, *SHARES, "-o", str(table))

    report = answer(capsys, "calibrate", str(table), "--sku", "xavier_nx", "-o", str(board))
    made = answer(capsys, "make", "--sku", str(board), "--scenario", "same_config", "--devices", "4")
    (tmp_path / "made.yaml").write_text(yaml.safe_dump(made))
    shown = answer(capsys, "show", str(tmp_path / "made.yaml"))

    assert report["mape"] < 0.1 < report["mape_before"]
    assert report["n_plans"] == 6
    assert "held-out error" in shown["calibration"]
    assert "exists; overwrite it with --force" in refusal(capsys, "calibrate", str(table), "-o", str(board))


def test_plans_in_multiples_belong_to_the_model_that_they_are_plans_of(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, board = tmp_path / "latencies.csv", tmp_path / "mine.yaml"
    answer(capsys, "measure", str(simulated), *MODEL, *SHARES, "-o", str(table))
    answer(capsys, "measure", str(simulated), *MODEL, "--share", "0.7", "0.3", "--round-to", "8", "-o", str(table))

    report = answer(capsys, "calibrate", str(table), "--sku", "xavier_nx", "-o", str(board))

    assert report["models"] == ["resnet20@1x16x16"]
    assert report["n_plans"] == 8


def test_what_cannot_be_measured_or_calibrated_is_refused(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.csv"
    foreign.write_text("device,plan,latency_ms\na,p,3.0\nb,p,4.0\n")
    board = ["-o", str(tmp_path / "b.yaml")]

    assert "name a .csv file" in refusal(capsys, "measure", str(simulated), "-o", "x.parquet")
    assert "recording already" in refusal(capsys, "measure", str(foreign), *MODEL, "-o", str(tmp_path / "y.csv"))
    assert "has other columns" in refusal(capsys, "measure", str(simulated), *MODEL, "-o", str(foreign))
    assert "recording made elsewhere" in refusal(capsys, "calibrate", str(foreign), *board)
    assert "no device 'c'" in refusal(capsys, "calibrate", str(foreign), "--device", "c", *board)
    assert "name a .yaml file" in refusal(capsys, "calibrate", str(foreign), "-o", "b.json")
