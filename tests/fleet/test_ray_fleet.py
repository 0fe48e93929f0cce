"""Boards of a Ray cluster: three nodes of this machine, one of which lies, one hangs or is killed midway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdapbench.cli.main import main
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import DeviceLostError, Fleet, Workloads
from hdapbench.fleet.estimate.clustered import fingerprint_fleet
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.ray.fleet import RayFleet
from hdapbench.run.grid import fleet_hash
from hdapbench.spec import ClusteringSpec, RayFleetSpec, load_fleets
from hdapbench.testing.fleet_contract import FleetContract
from tests.fleet.boards import BOARD
from tests.fleet.test_command_fleet import workloads_that_run
from tests.ray_cluster import ray_cluster

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("ray", reason="the extra ray is not installed")

STAND_IN = f"{{python}} {BOARD} {{name}} {{runs}} {{models}}"
BOARDS = ("honest-a", "slow-bb", "nan-ccc")


class Boards:
    """A cluster of this machine, its boards as nodes that offer no CPUs."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.nodes: dict[str, Any] = {}
        self.address = self.cluster.address

    def join(self, *names: str) -> None:
        for name in names:
            self.nodes[name] = self.cluster.add_node(
                num_cpus=0, resources={f"board:{name}": 1}, object_store_memory=80 << 20
            )

    def kill(self, name: str) -> None:
        self.cluster.remove_node(self.nodes.pop(name), allow_graceful=False)


@pytest.fixture(scope="module")
def boards() -> Iterator[Boards]:
    with ray_cluster(object_store_memory=80 << 20) as cluster:
        made = Boards(cluster)
        made.join(*BOARDS)
        yield made


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture
def runnable(kernels: KernelModel) -> Workloads:
    return workloads_that_run(kernels)


def spec(boards: Boards, *names: str, **changes: Any) -> RayFleetSpec:
    fields = {"name": "lab", "kind": "ray", "address": boards.address, "devices": [{"name": name} for name in names]}
    return RayFleetSpec.model_validate(fields | {"retries": 0, "runs": 3, "rounds": 1, "run": STAND_IN} | changes)


@pytest.mark.slow
class TestBoardsOfARayCluster(FleetContract):
    @pytest.fixture
    def fleet(self, boards: Boards, exports: Path) -> Iterator[Fleet]:
        with open_fleet(spec(boards, *BOARDS[:2]), cache_dir=exports) as fleet:
            yield fleet

    @pytest.fixture
    def workloads(self, runnable: Workloads) -> Workloads:
        return runnable


@pytest.mark.slow
def test_a_board_that_lies_is_quarantined_and_the_runner_that_ships_runs_without_hdapbench(
    boards: Boards, exports: Path, runnable: Workloads
) -> None:
    fleet = RayFleet(spec(boards, "nan-ccc"), cache_dir=exports)
    with fleet, pytest.raises(DeviceLostError, match="nan-ccc is quarantined: it gave nan ms"):
        fleet.measure(runnable, np.array([0]), runs=3, seed=0)
    shipped = RayFleetSpec.model_fields["run"].default
    isolated = shipped.replace("{python}", "{python} -I")
    with RayFleet(spec(boards, "honest-a", run=isolated, drift="keep"), cache_dir=exports) as fleet:
        assert fleet.measure(runnable, np.array([0]), runs=3, seed=0).shape == (1, 2, 3)
        assert fleet.describe_devices()["boards"]["honest-a"]["machine"]


@pytest.mark.slow
def test_a_board_that_hangs_with_all_its_processes_is_quarantined_and_its_task_cancelled_by_force(
    boards: Boards,
    exports: Path,
    runnable: Workloads,
) -> None:
    stop = "import os, signal; os.kill(os.getppid(), signal.SIGSTOP)"
    hanging = f'{{python}} -c "{stop}" {{models}}'
    hung = RayFleet(spec(boards, "slow-bb", run=hanging, timeout_seconds=10.0), cache_dir=exports)
    with hung, pytest.raises(DeviceLostError, match=r"slow-bb is quarantined: no answer within .* s: hung"):
        hung.measure(runnable, np.array([0]), runs=3, seed=0)
    with RayFleet(spec(boards, "slow-bb"), cache_dir=exports) as fleet:  # nothing holds the board any more
        assert fleet.measure(runnable, np.array([0]), runs=3, seed=0).shape == (1, 2, 3)


@pytest.mark.slow
def test_a_board_that_is_killed_midway_is_quarantined_and_a_spare_of_its_cluster_takes_over(
    boards: Boards, exports: Path, runnable: Workloads
) -> None:
    boards.join("honest-dd", "honest-ee")
    with RayFleet(spec(boards, "honest-a", "honest-dd", "honest-ee", "slow-bb", "nan-ccc"), cache_dir=exports) as fleet:
        clustered = fingerprint_fleet(
            fleet,
            runnable.kernels,
            clustering=ClusteringSpec(n_clusters=2),
            runs=3,
            seed=0,
            variants=runnable.variants,
        )
        first = clustered.measure_clusters(runnable, runs=3, seed=1)
        measured = clustered.fleet.device_ids[int(first.devices[0])]
        boards.kill(measured)

        again = clustered.measure_clusters(runnable, runs=3, seed=2)

        assert set(fleet.quarantined) == {"nan-ccc", measured}
        assert clustered.fleet.device_ids[int(again.devices[0])] not in ("slow-bb", measured)
        assert "died" in fleet.quarantined[measured] or "not in the cluster" in fleet.quarantined[measured]


@pytest.mark.slow
def test_boards_are_found_by_their_prefix_and_a_cluster_without_them_or_that_is_not_there_is_said(
    boards: Boards, exports: Path, tmp_path: Path
) -> None:
    file = tmp_path / "lab.yaml"

    assert main(["fleet", "make", "--ray", boards.address, "-o", str(file)]) == 0

    assert {"slow-bb", "nan-ccc"} <= {board.name for board in load_fleets(file)[0].boards()}
    with pytest.raises(
        FleetError, match=r"none of the boards of fleet 'lab' is in the Ray cluster.*there are: .*slow-bb"
    ):
        RayFleet(spec(boards, "elsewhere"), cache_dir=exports)


def test_a_cluster_that_is_not_there_is_said_and_an_address_changes_no_trial() -> None:
    fields = {"name": "lab", "kind": "ray", "devices": [{"name": "a"}]}
    here = RayFleetSpec.model_validate(fields | {"address": "127.0.0.1:1"})

    with pytest.raises(FleetError, match=r"no Ray cluster answers at 127\.0\.0\.1:1 .*ray start --head --port 1"):
        open_fleet(here)
    assert fleet_hash(here) == fleet_hash(RayFleetSpec.model_validate(fields))
    assert fleet_hash(here) != fleet_hash(RayFleetSpec.model_validate(fields | {"devices": [{"name": "b"}]}))


def test_a_spec_with_a_cluster_asks_for_trust(
    tiny_spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDAPBENCH_TRUST", "")
    lab = "{name: lab, kind: ray, devices: [{name: a}]}"
    lines = [f"  - {lab}" if "kind: simulated" in line else line for line in tiny_spec.read_text().splitlines()]
    tiny_spec.write_text("\n".join(lines))

    assert main(["check", str(tiny_spec)]) == 2

    assert "fleets[0].run: 'ray at 127.0.0.1:6379' is code that would be run; if you trust it, add --trust" in (
        capsys.readouterr().err
    )
