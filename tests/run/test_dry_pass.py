"""What stops a run before anything is spent."""

from __future__ import annotations

from importlib import metadata
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


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("fleets[0].sku=nanoo", "fleets[0].sku: unknown SKU 'nanoo'; did you mean 'nano'?"),
        ("fleets[0].precision=tc16", "fleets[0].sku: 'nano' does not compute in tc16"),
        ("fleets=[{name: r, kind: recorded, path: r.csv}]", "fleets[0].path: a recorded fleet times only the plans of"),
        ("fleets=[{name: r, kind: recorded, path: bad.csv}]", "bad.csv: latency that is no number: 1 row, line 2"),
        ("fleets=[{name: l, kind: local, devices: [{name: a, cpus: [9999]}]}]", "fleets[0]: device 'a': there are no"),
        (
            "fleets=[{name: r, kind: command, run: 'no-such-program {models}', devices: [{name: a}]}]",
            "fleets[0].run: there is no program 'no-such-program' here",
        ),
        ("device=cuda", "device: torch finds no GPU here; write device: cpu, or auto"),
        ("device=cuda:1", "device: torch finds no GPU here; write device: cpu, or auto"),
        ("device=gpu", "device: unknown value 'gpu'; did you mean 'cpu'? Known: cpu, cuda, cuda:1, auto"),
        ("data={name: imagefolder, path: '${HDAPBENCH_DATA:-x}/y'}", "set the environment variable HDAPBENCH_"),
        ("data={name: imagefolder, path: no}", "paths start from the spec's folder"),
        ("data={name: imagefolder, path: .}", "data.path: '"),
        ("data={name: imagefolder, path: no-test}", "data.path: '{}/no-test' holds no images under test/"),
        ("data={name: imagefolder, path: one-untested}", "train and test must hold the same classes; only in one of"),
        ("data={name: cifar10, path: .}", "data.path: no CIFAR-10 in '{}' (missing: data_batch_1, "),
        ("data.name=imagefolder", "data: the key 'path' is missing: imagefolder needs to know where the images are"),
        ("data.normalize={mean: [0.5], std: [0.5, 0, 1]}", "data.normalize.mean: has 1 entries and needs 3, one per"),
        ("data.normalize={mean: [0, 0, 0], std: [1, 0, 1]}", "data.normalize.std: must be above 0 (here: [1.0, 0.0,"),
        ("model.input_shape=[4,12,12]", "model.input_shape: images have 1 or 3 channels (here: [4, 12, 12])"),
        ("model.input_shape=[3,99999,99999]", "model.input_shape: [3, 99999, 99999] is more than 67,108,864 values"),
        ("base.batch_size=1", "base.batch_size: must be at least 2 (here: 1)"),
        ("base.max_train_images=1", "base.max_train_images: must be at least 2 (here: 1)"),
    ],
)
def test_check_and_run_refuse_what_is_missing_around_a_spec_at_its_place(override, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HDAPBENCH_DATA", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "r.csv").write_text("device,plan,latency_ms\na,p,1.0\nb,p,2.0\n")
    (tmp_path / "bad.csv").write_text("device,plan,latency_ms\na,p,fast\n")
    for image in ("no-test/train/a", "one-untested/train/a", "one-untested/train/b", "one-untested/test/a"):
        (tmp_path / image).mkdir(parents=True)
        (tmp_path / image / "1.png").write_bytes(b"never decoded")
    spec(tmp_path)
    lines = []
    for command in (["check"], ["run", "--quiet"]):
        assert main([*command, "dry.yaml", "--set", override]) == 2
        lines.append(capsys.readouterr().err.splitlines())

    assert lines[0] == lines[1]
    assert any(told.format(tmp_path) in line for line in lines[0])
    assert not Path(".hdapbench/cache/base").exists()


def test_a_network_without_whole_numbers_is_refused_at_the_target_that_needs_them(tmp_path):
    loaded = spec(tmp_path, "targets=[{flops: 0.5x}, {size: 0.5x}]")
    (tmp_path / "net.py").write_text(
        CODE.replace("nn.Linear(4, n_outputs))", "nn.Linear(4, n_outputs), nn.Softmax(1))")
    )

    with pytest.raises(
        SpecError, match=r"targets\[1\]: Sequential cannot be quantised: node '_6' \(module '6', Softmax"
    ):
        inspect_model(loaded, cache_dir=tmp_path / "cache")


def test_a_network_that_torch_cannot_export_is_refused_at_the_fleet_that_runs_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
    loaded = spec(tmp_path, "fleets=[{name: here, kind: local, devices: [{name: a}]}]")

    with pytest.raises(SpecError, match=r"fleets\[0\]: the model cannot be written as ONNX"):
        inspect_model(loaded, cache_dir=tmp_path / "cache")


def test_a_network_that_fails_under_autocast_is_refused_for_a_recipe_in_bf16(tmp_path):
    loaded = spec(tmp_path, "fine_tune={epochs: 1, precision: bf16}")
    (tmp_path / "net.py").write_text(
        CODE.replace("nn.Conv2d(6, 4, 3)", "Picky(6, 4, 3)")
        + "class Picky(nn.Conv2d):\n    def forward(self, x):\n        y = super().forward(x)\n"
        + "        assert y.dtype.itemsize >= 4, 'not in half'\n        return y\n"
    )

    with pytest.raises(SpecError, match=r"cannot be trained in bf16 on cpu and scored: AssertionError: not in half"):
        inspect_model(loaded, cache_dir=tmp_path / "cache")


def test_check_and_run_warn_of_more_threads_than_cpus_and_of_missing_extras(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    installed = metadata.version
    missing = {"stable-baselines3"}
    monkeypatch.setattr(metadata, "version", lambda name: installed("absent-package" if name in missing else name))
    spec(tmp_path)

    assert main(["check", "dry.yaml", "--set", "threads=1000", "--set", "methods=[uniform, amc]"]) == 0

    told = capsys.readouterr().err.splitlines()
    assert "threads: 1000 threads share" in told[0]
    assert "methods[1]: amc is skipped or fails: it needs stable-baselines3, not installed here; install" in told[1]


def test_a_board_that_cannot_be_written_is_told_by_check(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec(tmp_path)
    Path("leaderboards").write_text("no folder")

    assert main(["check", "dry.yaml"]) == 2

    assert "leaderboards/dry.md' cannot be written" in capsys.readouterr().err


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
    assert "fleets[0].path: a recorded fleet times only the plans of its file ('dense', 'thin')" in error
    assert "hdapbench fleet estimate lab.csv" in error


def test_a_damaged_recording_is_refused_at_its_place(tiny_spec: Path) -> None:
    (tiny_spec.parent / "lab.csv").write_text("device,plan,latency_ms\na,dense,-20\n")
    loaded = load(str(tiny_spec), ["fleets=[{name: lab, kind: recorded, path: lab.csv}]"])

    with pytest.raises(SpecError, match=r"fleets\[0\]\.path: .*zero or negative: 1 row, line 2"):
        inspect_model(loaded, cache_dir=tiny_spec.parent).refuse()
