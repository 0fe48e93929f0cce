"""Networks that nobody tuned this for: from spec to board, or refused by the name of a layer before any training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hdapbench.cli.main import main
from hdapbench.run.inspection import inspect_model
from hdapbench.spec import load

SPEC = """\
schema_version: 1
name: stranger
model: {name: "torchvision:MODEL", input_shape: [3, 32, 32]}
data: {name: digits, search_share: 0.02, test_share: 0.02}
base: {epochs: EPOCHS}
fine_tune: {epochs: 0}
fleets:
  - {name: two, kind: simulated, sku: xavier_nx, scenario: same_config, n_devices: 2, clustering: {n_clusters: 1}}
targets: [{flops: 0.5x}]
methods:
  - uniform
  - name: hdap
    parameters: {n_plans: 8, searcher: random, evaluations: 10, active_plans: 0, choice: guard, criterion: l1, reconstruct: false}
"""


def write_spec(folder: Path, model: str, epochs: float = 0.0) -> Path:
    path = folder / "stranger.yaml"
    path.write_text(SPEC.replace("MODEL", model).replace("EPOCHS", str(epochs)))
    return path


@pytest.mark.parametrize(
    "model",
    [
        "mnasnet0_5",
        "googlenet",
        "regnet_y_400mf",
        pytest.param("efficientnet_b0", marks=pytest.mark.slow),
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_x1_0", marks=pytest.mark.slow),
    ],
)
def test_a_network_is_pruned_by_uniform_and_hdap(model, tmp_path, monkeypatch, capsys):
    """What the board shows was checked: FLOPs by the closed form, the compact model against the masked one."""
    monkeypatch.chdir(tmp_path)
    spec = write_spec(tmp_path, model)

    assert main(["run", str(spec), "--quiet", "--json"]) == 0

    results = {result["trial"]["method"]: result for result in json.loads(capsys.readouterr().out)}
    dense = inspect_model(load(str(spec), []), cache_dir=tmp_path / ".hdapbench/cache")
    assert [results[name]["status"] for name in ("dense", "uniform", "hdap")] == ["complete"] * 3
    assert results["dense"]["metrics"]["flops"] == dense.flops
    for name in ("uniform", "hdap"):
        metrics = results[name]["metrics"]
        assert dense.minimum_flops < metrics["flops"] <= dense.flops / 2
        assert 0 <= metrics["mask_difference"] < 1e-3
        assert np.isfinite(metrics["latency_ms"])
        assert metrics["latency_ms"] < results["dense"]["metrics"]["latency_ms"]


TRANSFORMED = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.LazyLinear(num_classes)

    def forward(self, x):
        return self.last(torch.fft.fft2(self.first(x)).real.flatten(1))
"""


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_network_without_rules_is_refused_by_operation_before_its_base_is_trained(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(TRANSFORMED)
    spec = write_spec(tmp_path, "MODEL", epochs=1000.0)
    spec.write_text(spec.read_text().replace("torchvision:MODEL", "./net.py:Net"))

    assert main([command, str(spec)]) == 2

    assert "fft" in capsys.readouterr().err
    assert not list(tmp_path.glob(".hdapbench/cache/base/*"))
