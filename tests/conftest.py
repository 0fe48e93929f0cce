"""Fixtures that several folders share, and the environment that every test runs in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# One thread each: measured faster for tiny models, and the machine may be shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def tiny_spec(tmp_path: Path) -> Path:
    """Spec whose run takes seconds: digits at 16x16, one epoch, six devices."""
    path = tmp_path / "tiny.yaml"
    path.write_text(
        """\
schema_version: 1
name: tiny
model: {name: resnet20, input_shape: [1, 8, 8]}
data: {name: digits}
base: {epochs: 1, schedule: onecycle}
fine_tune: {epochs: 0.2}
fleets:
  - {name: six, kind: simulated, sku: nano, scenario: mixed, n_devices: 6, clustering: {n_clusters: 2}}
targets: [{flops: 0.5x}, {flops: 0.3x}]
methods: [uniform, random]
seeds: [0]
"""
    )
    return path


@pytest.fixture
def data_root() -> Path:
    """Folder of the real data sets: $HDAPBENCH_DATA, or shared/data beside the checkout."""
    root = Path(os.environ.get("HDAPBENCH_DATA") or ROOT.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip("real data is absent; set HDAPBENCH_DATA to the folder that holds cifar10/")
    return root
