"""``measure`` and ``export`` from trials and files to tables."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hdapbench.cli.main import main

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

SPEC = """\
schema_version: 1
name: floats
model: {name: resnet6, input_shape: [1, 8, 8]}
data: {name: digits}
base: {epochs: 0}
fine_tune: {epochs: 0}
fleets:
  - {name: six, kind: simulated, sku: nano, scenario: mixed, n_devices: 6, clustering: {n_clusters: 2}}
targets: [{flops: 0.5x}, {flops: 0.0001x}]
methods: [uniform]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Folder with a workspace ``ws``: a dense and a pruned trial, and one out of reach."""
    folder = tmp_path_factory.mktemp("floats")
    (folder / "floats.yaml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "floats.yaml", "--workspace", "ws", "--quiet"]) == 0
    return folder


def trial_ids(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str | None], str]:
    capsys.readouterr()
    assert main(["show", "floats", "--json", "--workspace", str(folder / "ws")]) == 0
    from hdapbench.trial import Trial

    found = [Trial(**result["trial"]) for result in json.loads(capsys.readouterr().out)]
    return {(trial.method, trial.target): trial.id for trial in found}


def test_a_pruned_trial_is_exported_checked_and_smaller_than_the_dense_model(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    trial = trial_ids(folder, capsys)["uniform", "0.5x"]

    assert main(["export", trial, "-o", "out/pruned.onnx", "--workspace", "ws"]) == 0

    told = capsys.readouterr().out
    size = Path("out/pruned.onnx").stat().st_size
    assert f"out/pruned.onnx: {size:,} bytes" in told
    assert re.search(r"0\.\d+ of the dense model's", told)
    assert "onnxruntime differs from torch by" in told
    onnx.checker.check_model(onnx.load("out/pruned.onnx"), full_check=True)


def test_trials_and_models_are_timed_side_by_side(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    ids = trial_ids(folder, capsys)
    names = [ids["dense", None], ids["uniform", "0.5x"], ids["uniform", "0.5x"]]

    assert main(["measure", *names, "--rounds", "6", "--workspace", "ws", "--json"]) == 0

    told = json.loads(capsys.readouterr().out)
    assert [model["key"] for model in told["session"]["models"]] == [*names[:2], f"{names[1]} #2"]
    assert told["session"]["models"][0]["ratio"]["median"] == 1.0
    assert told["runtime"]["boundary"] == "engine"
    assert told["host"]["packages"]["onnxruntime"] == onnxruntime.__version__
    assert told["files"][names[1]]["n_bytes"] < told["files"][names[0]]["n_bytes"]
    assert 6 <= len(told["session"]["rounds"]) <= 12


def test_a_table_of_files_names_what_was_measured(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    trial = trial_ids(folder, capsys)["uniform", "0.5x"]
    assert main(["export", trial, "-o", "one.onnx", "--workspace", "ws"]) == 0

    assert main(["measure", "one.onnx", "one.onnx", "--rounds", "6", "--boundary", "copies"]) == 0

    told = capsys.readouterr().out
    assert "onnxruntime, 1 thread, batch 1, fp32, copies" in told
    assert "one.onnx #2" in told
    assert "rounds count" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.onnx"], "there is no such file"),
        (["resnet6", "--precision", "bf16"], "take runtime: eager"),
        (["resnet6", "--input-shape", "8,8"], "write channels, height and width"),
        (["resnet6", "--threads", "0"], "threads:"),
        (["resnet99"], "unknown model 'resnet99'"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert main(["measure", *arguments]) == 2

    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_trial_without_a_model_cannot_be_exported(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    trial = trial_ids(folder, capsys)["uniform", "0.0001x"]

    assert main(["export", trial, "--workspace", "ws"]) == 2

    assert "(infeasible) left no model to export" in capsys.readouterr().err


def test_ctrl_c_ends_the_worker_too(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    trial = trial_ids(folder, capsys)["uniform", "0.5x"]
    assert main(["export", trial, "-o", "long.onnx", "--workspace", "ws"]) == 0
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also in the background
    code += "from hdapbench.cli.main import main; sys.exit(main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "measure", "long.onnx", "--rounds", "10000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not (line := process.stderr.readline()).startswith("round"):
        assert line
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    watches = [os.pidfd_open(int(child)) for child in children]

    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=300)

    assert process.returncode == 130
    assert "interrupted" in errors
    assert len(watches) == 1
    for watch in watches:
        assert select.select([watch], [], [], 300)[0]
        os.close(watch)
