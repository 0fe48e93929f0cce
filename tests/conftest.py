"""Fixtures that several folders share, and the environment that every test runs in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hdapbench.store.place import Place, place_of
from tests.postgres import FAST, empty_schema, server

ROOT = Path(__file__).parents[1]

# One thread each: measured faster for tiny models, and the machine may be shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Specs of tests name their own code; tests/cli/test_trust.py takes this away again.
os.environ.setdefault("HDAPBENCH_TRUST", "/")

# Most runs of tests take less than a worker process takes to start; tests of executors name theirs.
os.environ.setdefault("HDAPBENCH_EXECUTOR", "inline")

# How long an example takes, or drawing one, depends on what else runs.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

SLOW = (ROOT / "tests" / "slow.txt").read_text().split()
"""Tests that `make test-fast` leaves out, because they take long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow.txt, with all their parameters unless it names one, or a whole class."""
    for item in items:
        name = item.nodeid.removeprefix("tests/")
        if name in SLOW or name.startswith(tuple(f"{slow}{end}" for slow in SLOW for end in ("[", "::"))):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a server that all tests of a process share."""
    with server(*FAST) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where there is no database yet, of both kinds."""
    if request.param == "sqlite":
        return tmp_path / "results.db"
    return place_of(empty_schema(request.getfixturevalue("postgres")))


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


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which pip has installed tests/plugin_package from elsewhere, without a network."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "package"
    shutil.copytree(ROOT / "tests" / "plugin_package", elsewhere)
    folder = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*install, "--disable-pip-version-check", "--target", str(folder), str(elsewhere)],
        capture_output=True,
        text=True,
    )
    if "No module named pip" in done.stderr:
        pytest.skip("pip is not installed")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The same folder, on the path; the working directory is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(site)
    return site
