from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hdapbench.errors import SpecError
from hdapbench.run.inspection import inspect_model
from hdapbench.spec import load

NET = """
from torch import nn

def net(num_classes, width=8):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, num_classes))
"""
SPEC = """
schema_version: 1
name: start
model: {name: ./net.py:net, input_shape: [1, 8, 8], weights: w.pt}
data: {name: digits}
base: {from: weights, epochs: 1}
fine_tune: {epochs: 1}
fleets: [{name: a, kind: simulated, sku: nano, scenario: mixed, n_devices: 4, seed: 0}]
targets: [{flops: 0.5x}]
methods: [uniform]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "spec.yaml").write_text(SPEC)
    return tmp_path


def inspected(folder: Path, *overrides: str) -> int:
    return inspect_model(load(str(folder / "spec.yaml"), list(overrides)), cache_dir=folder / "cache").n_groups


def weights(folder: Path, width: int, n_classes: int) -> None:
    state = nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, n_classes)
    ).state_dict()
    torch.save(state, folder / "w.pt")


def test_weights_for_other_classes_pass_the_check_where_the_base_starts_from_them(folder) -> None:
    weights(folder, width=8, n_classes=100)

    assert inspected(folder) == 1
    with pytest.raises(
        SpecError, match=r"model.weights: .*; if it is the classes that differ: base: \{from: weights\}"
    ):
        inspected(folder, "base.from=null")


def test_weights_of_another_network_are_refused_at_their_place_before_anything_is_trained(folder) -> None:
    weights(folder, width=6, n_classes=100)

    with pytest.raises(SpecError, match=r"model.weights: weights 'w.pt' do not fit .* replaces only what follows"):
        inspected(folder)


def test_a_start_from_weights_needs_some(folder) -> None:
    with pytest.raises(SpecError, match=r"base.from: needs model.weights to begin with"):
        load(str(folder / "spec.yaml"), ["model.weights=null"])
