"""Boards that commands reach: honest ones measured, all others quarantined with a reason while the fleet goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError, SpecError
from hdapbench.fleet.base import DeviceLostError, Fleet, Variants, Workloads
from hdapbench.fleet.command import fleet as asking
from hdapbench.fleet.command.calls import call
from hdapbench.fleet.command.fleet import CommandFleet
from hdapbench.fleet.estimate.clustered import fingerprint_fleet
from hdapbench.fleet.open import open_fleet
from hdapbench.spec import ClusteringSpec, CommandFleetSpec, load_fleets
from hdapbench.testing.fleet_contract import FleetContract
from tests.fleet.boards import command_spec

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture(autouse=True)
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards of tests count their calls."""
    (tmp_path / "states").mkdir()
    monkeypatch.setenv("BOARDS_STATE", str(tmp_path / "states"))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exported models that the tests share."""
    return tmp_path_factory.mktemp("exports")


def built(widths: np.ndarray) -> nn.Module:
    """A small network; its file grows with its width."""
    return nn.Sequential(nn.Conv2d(3, 64 * int(widths[0]), 3, padding=1), nn.Flatten()).eval()


def workloads_that_run(kernels: KernelModel) -> Workloads:
    """Two models that can be run, the first larger."""
    widths = np.stack([kernels.sizes, np.maximum(kernels.sizes // 2, 1)])
    return Workloads(kernels, widths, ("whole", "half"), Variants(built, (3, 8, 8), "small"))


@pytest.fixture
def runnable(kernels: KernelModel) -> Workloads:
    return workloads_that_run(kernels)


class TestBoardsThatCommandsReach(FleetContract):
    @pytest.fixture
    def fleet(self, exports: Path) -> Fleet:
        return open_fleet(command_spec("honest-a", "slow-bb", "honest-ccc"), cache_dir=exports)

    @pytest.fixture
    def workloads(self, runnable: Workloads) -> Workloads:
        return runnable


LIES = {
    "nan": "it gave nan ms; latencies are finite and positive",
    "negative": "it gave -1 ms",
    "constant": "samples of a model are all alike, such as 1 ms",
    "impossible": r"samples add up to .* s, and the visit took",
    "magic": "for the reference network: no board is so fast",
    "short": r"'samples_ms' has the shape \(2, 3\), not 3 models x 3 runs",
    "chatty": r"the last line is no JSON .*; it said 'no JSON'",
    "failing": "failed with code 1: connection lost",
    "hanging": "no answer within 1.5 s",
}


@pytest.mark.parametrize(("kind", "reason"), LIES.items())
def test_a_board_that_lies_fails_or_hangs_is_quarantined_with_the_reason_and_not_asked_again(
    kind: str, reason: str, exports: Path, runnable: Workloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[float] = []
    monkeypatch.setattr(asking, "call", lambda words, timeout: called.append(timeout) or call(words, timeout=timeout))
    half = Workloads(runnable.kernels, runnable.widths[1:], ("half",), runnable.variants)
    fleet = CommandFleet(
        command_spec(f"{kind}-a", rounds=1, timeout_seconds=1.5 if kind == "hanging" else 300), cache_dir=exports
    )

    for _ in range(2):
        with pytest.raises(DeviceLostError, match=f"{kind}-a is quarantined: .*{reason}"):
            fleet.measure(half, np.array([0]), runs=3, seed=0)

    assert str(fleet.describe()["quarantined"]).startswith(f"{kind}-a: ")
    assert len(called) == 1


def test_clustering_goes_on_without_boards_that_are_lost_and_spares_take_over(
    exports: Path, runnable: Workloads
) -> None:
    names = ("honest-a", "nan-a", "slow-a", "slow-bb", "vanishing-a", "honest-bb")
    fleet = CommandFleet(command_spec(*names, rounds=1), cache_dir=exports)
    kernels, variants = runnable.kernels, runnable.variants

    clustered = fingerprint_fleet(
        fleet, kernels, clustering=ClusteringSpec(n_clusters=2), runs=3, seed=0, variants=variants
    )
    found = clustered.measure_clusters(runnable, runs=3, seed=1)

    assert tuple(clustered.fleet.device_ids) == ("honest-a", "slow-a", "slow-bb", "honest-bb")
    assert set(fleet.quarantined) == {"nan-a", "vanishing-a"}
    assert clustered.fleet.describe()["n_remaining"] == 4
    labels = dict(zip(clustered.fleet.device_ids, clustered.clustering.labels.tolist(), strict=True))
    assert labels["honest-a"] == labels["honest-bb"] != labels["slow-a"] == labels["slow-bb"]

    measured = clustered.fleet.device_ids[int(found.devices[0])]
    fleet.quarantined[measured] = "unplugged"
    again = clustered.measure_clusters(runnable, runs=3, seed=2)

    spare = clustered.fleet.device_ids[int(again.devices[0])]
    assert spare != measured
    assert labels[spare] == labels[measured]


def test_a_fleet_of_which_no_board_answers_says_why(exports: Path, runnable: Workloads) -> None:
    fleet = CommandFleet(command_spec("nan-a", "failing-a", rounds=1), cache_dir=exports)

    with pytest.raises(FleetError, match=r"no device that answers: .*nan-a is quarantined.*failing-a is quarantined"):
        fingerprint_fleet(
            fleet, runnable.kernels, clustering=ClusteringSpec(), runs=3, seed=0, variants=runnable.variants
        )


def test_a_throttled_board_is_quarantined_and_one_that_answers_or_has_cooled_the_second_time_is_not(
    exports: Path, runnable: Workloads
) -> None:
    fleet = CommandFleet(command_spec("throttled-a", "flaky-a", "hot-a", rounds=2, retries=1), cache_dir=exports)

    assert fleet.measure(runnable, np.array([1, 2]), runs=3, seed=0).shape == (2, 2, 3)
    with pytest.raises(DeviceLostError, match=r"throttled: the reference network takes 5.* times as long as at first"):
        fleet.measure(runnable, np.array([0]), runs=3, seed=0)


def test_models_and_the_runner_are_pushed_once_and_really_run(tmp_path: Path, runnable: Workloads) -> None:
    (tmp_path / "nx-1").mkdir()
    (tmp_path / "nx-2").mkdir()
    push = f'{sys.executable} -c \'import shutil, sys; open(sys.argv[3], "a").write("x"); shutil.copy(*sys.argv[1:3])\' {{file}} {tmp_path}/{{name}}{{remote}} {tmp_path}/log'
    (tmp_path / "nx-1" / "tmp").mkdir()
    (tmp_path / "nx-2" / "tmp").mkdir()
    fleet = CommandFleet(
        command_spec(  # noqa: S604
            "nx-1",
            "nx-2",
            push=push,
            run=f'cd {tmp_path}/{{name}}/tmp && cd .. && for f in {{models}}; do set -- "$@" .$f; done && {sys.executable} .{{runner}} --runs {{runs}} "$@"',
            shell=True,
            drift="keep",  # whether this host has become slower is not the question
        ),
        cache_dir=tmp_path / "exports",
    )

    samples = fleet.measure(runnable, np.array([0, 1]), runs=3, seed=0)

    assert samples.shape == (2, 2, 3)
    assert len((tmp_path / "log").read_text()) == 2 * 4  # boards x (two models, the reference, the runner)
    assert set(fleet.describe_devices()["boards"]) == {"nx-1", "nx-2"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("run: echo {model}", r"run: unknown field \{model\}; did you mean 'models'"),
        ("run: echo", r"run: the field \{models\} is missing"),
        ('run: "echo \'{models}"', "run: it cannot be taken apart: No closing quotation"),
        ("push: scp {remote}", r"push: the field \{file\} is missing"),
        ("devices: [{name: a}, {name: a}]", r"devices: \['a'\] are named twice"),
        ("inventory: x.yaml", "a command fleet lists its devices, or names an inventory"),
    ],
)
def test_templates_and_boards_are_checked_at_their_place(tmp_path: Path, change: str, complaint: str) -> None:
    key = change.partition(":")[0]
    lines = ["name: lab", "kind: command", "run: echo {models}", "devices: [{name: a}]"]
    text = "\n".join([line for line in lines if not line.startswith(f"{key}:")] + [change])
    (tmp_path / "lab.yaml").write_text(text)

    with pytest.raises(SpecError, match=complaint):
        load_fleets(tmp_path / "lab.yaml")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("- {name: a, at: 10.0.0.1}\n- {name: b}\n", None),
        ("{a: 1}", "is no list of boards"),
        ("- {name: a, host: b}", r"is no list of boards.*0\.host"),
        ("[", "is no YAML"),
        ("[]", "needs at least one board"),
        (None, "cannot be read: No such file"),
    ],
)
def test_an_inventory_is_a_list_of_boards(tmp_path: Path, content: str | None, complaint: str | None) -> None:
    if content is not None:
        (tmp_path / "boards.yaml").write_text(content)
    fields = {"name": "lab", "kind": "command", "run": "echo {models}", "inventory": "boards.yaml"}
    spec = CommandFleetSpec.model_validate(fields).located(tmp_path)

    if complaint is None:
        assert tuple(open_fleet(spec).device_ids) == ("a", "b")
    else:
        with pytest.raises(FleetError, match=complaint):
            open_fleet(spec)
