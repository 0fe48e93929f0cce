"""Networks of users: what `check` accepts `run` runs, and both refuse the others alike, in one line, before training."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.bench.network import trace
from hdapbench.cli.main import main
from hdapbench.models import build_model
from hdapbench.prune.surgery import apply_plan
from hdapbench.spec import ModelSpec
from tests.cli import user_networks
from tests.cost.live_counts import counted
from tests.zoo import random_plan

FILE = Path(user_networks.__file__)
HELPERS = {"conv", "body", "head", "pooled", "weight_norm", "spectral_norm", "checkpoint", "namedtuple", "dataclass"}
NAMES = [name for name, value in vars(user_networks).items() if inspect.isfunction(value) and name not in HELPERS]
RUNNING = [name for name in NAMES if name not in user_networks.REFUSED]

SPEC = """\
schema_version: 1
name: NETWORK
model: {name: "FILE:NETWORK", input_shape: [3, 16, 16]}
data: {name: digits, search_share: 0.02, test_share: 0.02}
base: {epochs: 1, batch_size: 16, max_train_images: 32}
fine_tune: {epochs: 1, batch_size: 16, max_train_images: 32}
fleets:
  - {name: two, kind: simulated, sku: nano, scenario: same_config, n_devices: 2, clustering: {n_clusters: 1}}
targets: [{flops: 0.9x}]
methods: [uniform]
"""

MOST_SECONDS = 60.0
"""Of processor time, which a network may take: some once took minutes to be traced."""

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """Processor time of a test alone: fixtures of the module come first."""
    began = time.process_time()
    yield
    assert time.process_time() - began < MOST_SECONDS


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by all; whatever is imported once is imported here, before the time of any network counts."""
    folder = tmp_path_factory.mktemp("networks")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", str(write_spec(folder, "residual")), "--quiet", "--workspace", str(folder / "first")]) == 0
    return folder


def write_spec(folder: Path, network: str) -> Path:
    path = folder / f"{network}.yaml"
    path.write_text(
        SPEC.replace("NETWORK", network.replace("_", "-"), 1).replace("NETWORK", network).replace("FILE", str(FILE))
    )
    return path


@pytest.mark.parametrize("network", RUNNING)
def test_a_network_that_check_accepts_runs_to_a_board(network, workspace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec, options = write_spec(tmp_path, network), ["--workspace", str(workspace)]

    codes = [main(["check", str(spec), *options]), main(["run", str(spec), "--quiet", *options])]

    assert codes == [0, 0], capsys.readouterr()


@pytest.mark.parametrize("network", user_networks.REFUSED)
def test_check_and_run_refuse_a_network_by_one_line_with_its_place(network, workspace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    spec, options = write_spec(tmp_path, network), ["--workspace", str(workspace)]
    told = []
    for command in (["check"], ["run", "--quiet"]):
        assert main([*command, str(spec), *options]) == 2
        told.append(capsys.readouterr().err)

    assert told[0] == told[1]
    assert told[0].count("\n") == 1
    assert told[0].startswith(f"hdapbench: {spec}:3:9 model.name: ")
    assert user_networks.REFUSED[network] in told[0]


@pytest.mark.parametrize(
    ("network", "code", "told"),
    [
        ("mean_of_maps", 0, ""),
        ("concatenated", 0, ""),
        ("linear_on_maps", 2, "targets[0]: Net cannot be quantised: node 'f1' reads values that were moved about"),
        ("one_layer_called_twice", 2, "targets[0]: Net cannot be quantised: node 'b_1' calls the layer 'b' a second"),
    ],
)
def test_check_and_run_agree_on_a_network_under_a_limit_on_bits(
    network, code, told, workspace, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    spec, options = write_spec(tmp_path, network), ["--workspace", str(workspace)]
    options += ["--set", "targets=[{size: 0.4x}]", "--set", "methods=[joint-mpq]"]

    codes = [main(["check", str(spec), *options]), main(["run", str(spec), "--quiet", *options])]

    assert codes == [code, code]
    assert capsys.readouterr().err.count(told) >= 2


@pytest.mark.parametrize("network", RUNNING)
def test_costs_of_a_network_are_those_of_torchs_counter_dense_and_cut(network):
    shape = (3, 16, 16)
    torch.manual_seed(0)
    spec = ModelSpec(name=f"{FILE}:{network}", input_shape=shape)
    net = trace(build_model(spec, n_classes=10, base_dir=Path()).eval(), shape)
    plans = [random_plan(net.group_set, seed) for seed in range(5)]

    found = net.cost.evaluate(np.array([net.cost.sizes, *(plan.widths(net.cost.groups) for plan in plans)]))

    models = [net.model, *(apply_plan(net.model, net.group_set, plan) for plan in plans)]
    real = [counted(model, shape)[:2] for model in models]
    assert list(zip(found.flops.tolist(), found.params.tolist(), strict=True)) == real
