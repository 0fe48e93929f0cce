"""What stops a run before anything is spent."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hdapbench.cli.main import main
from hdapbench.cli.progress import Silence
from hdapbench.errors import SpecError
from hdapbench.run.inspection import inspect_model
from hdapbench.run.prepare import Preparation
from hdapbench.run.workspace import Workspace
from hdapbench.spec import LoadedSpec, load

CODE = """\
from torch import nn

def build(n_outputs):
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_outputs))
"""
SPEC = """\
schema_version: 1
name: dry
model:
  name: "./net.py:build"
  input_shape: [3, 12, 12]
  arguments: {n_outputs: 10}
data: {name: digits, search_share: 0.02, test_share: 0.02}
base: {epochs: 1000}
fine_tune: {epochs: 0}
fleets:
  - {name: two, kind: simulated, sku: nano, scenario: same_config, n_devices: 2, clustering: {n_clusters: 1}}
targets: [{flops: 0.5x}]
methods: [uniform]
"""


def spec(folder: Path, *overrides: str) -> LoadedSpec:
    (folder / "net.py").write_text(CODE)
    (folder / "dry.yaml").write_text(SPEC)
    return load(str(folder / "dry.yaml"), overrides)


def network(n_outputs: int = 10) -> nn.Module:
    found: dict = {}
    exec(CODE, found)  # noqa: S102 - the lines above
    return found["build"](n_outputs)


def test_a_run_refuses_outputs_of_other_classes_by_its_data_before_training(tmp_path):
    loaded = spec(tmp_path, "model.arguments.n_outputs=7")

    with pytest.raises(SpecError, match=r"model\.name: the model gives 7 outputs, the data have 10 classes"):
        _ = Preparation(loaded, Workspace(tmp_path / "ws"), Silence()).base
    assert not list(tmp_path.glob("ws/cache/base/*"))


def test_classes_that_could_not_be_counted_refuse_no_network(tmp_path):
    loaded = spec(tmp_path, "data.name=cifar10", "data.path=nowhere", "model.arguments.n_outputs=7")

    assert inspect_model(loaded, cache_dir=tmp_path / "cache").n_groups == 2


def test_check_says_at_their_place_that_weights_are_not_finite(tmp_path, capsys):
    state = network().state_dict()
    state["5.bias"][0] = torch.nan
    torch.save(state, tmp_path / "w.pt")
    spec(tmp_path)

    assert main(["check", str(tmp_path / "dry.yaml"), "--set", "model.weights=w.pt", "--workspace", str(tmp_path)]) == 2

    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--set model.weights=w.pt model.weights: weights '" in told
    assert "not finite (NaN or infinite) in 5.bias" in told


def test_check_reads_weights_again_when_their_file_changes(tmp_path):
    loaded = spec(tmp_path, "model.name=resnet20", "model.arguments={}", "model.weights=w.pt")
    torch.save(network().state_dict(), tmp_path / "w.pt")

    with pytest.raises(SpecError, match=r"model\.weights: weights '.*' do not fit the model"):
        inspect_model(loaded, cache_dir=tmp_path / "cache")


def test_check_knows_published_weights_by_name_without_a_download(tmp_path):
    published = ["model.name=torchvision:resnet18", "model.arguments={}", "model.input_shape=[3,32,32]"]

    with pytest.raises(SpecError, match=r"model\.weights: .* tells 1000 classes apart, the data has 10"):
        inspect_model(spec(tmp_path, *published, "model.weights=torchvision:DEFAULT"), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_recording_that_has_no_plan_of_the_run_is_refused_with_what_it_is_for(
    tiny_spec: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny_spec.parent / "lab.csv").write_text("device,plan,latency_ms\na,dense,20\na,thin,9\n")
    fleet = ["--set", "fleets=[{name: lab, kind: recorded, path: lab.csv}]"]

    code = main([command, str(tiny_spec), "--workspace", str(tiny_spec.parent / "work"), *fleet])

    error = capsys.readouterr().err
    assert code == 2
    assert [line.startswith("hdapbench: ") for line in error.splitlines()][-2:].count(True) == 1
    assert "fleets[0].path: a recorded fleet has latencies of its plans alone ('dense', 'thin')" in error
    assert "hdapbench fleet estimate lab.csv" in error


def test_a_damaged_recording_is_refused_at_its_place(tiny_spec: Path) -> None:
    (tiny_spec.parent / "lab.csv").write_text("device,plan,latency_ms\na,dense,-20\n")
    loaded = load(str(tiny_spec), ["fleets=[{name: lab, kind: recorded, path: lab.csv}]"])

    with pytest.raises(SpecError, match=r"fleets\[0\]\.path: .*zero or negative: 1 row, line 2"):
        inspect_model(loaded, cache_dir=tiny_spec.parent)
