"""Kinds of fleet and runtimes that installed packages offer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hdapbench.cli.main import main
from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import PluginError, SpecError
from hdapbench.fleet.base import Fleet, Workloads
from hdapbench.fleet.open import open_fleet
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.grid import plan_trials
from hdapbench.spec import FleetKind, Opening, RuntimeSpec, Spec, canonical_json, load, load_fleets, load_spec
from hdapbench.testing.fleet_contract import FleetContract
from hdapbench.testing.runtime_contract import RuntimeContract
from tests.fleet.making import pruned

ROOT = Path(__file__).parents[2]
FARM = "{name: farm, kind: leading-farm, n_boards: 6, clustering: {n_clusters: 2}}"


@pytest.fixture
def farm(installed: Path) -> Path:
    """File of a fleet of an installed package."""
    path = Path("farm.yaml")
    path.write_text(FARM)
    return path


@pytest.fixture
def farm_spec(installed: Path, tiny_spec: Path) -> Spec:
    """Spec with that fleet."""
    return load_spec(tiny_spec, [f"fleets=[{FARM}]"])


class TestAKindOfFleetThatPipInstalled(FleetContract):
    @pytest.fixture
    def fleet(self, farm: Path) -> Fleet:
        return open_fleet(load_fleets(farm)[0])

    @pytest.fixture
    def workloads(self, kernels: KernelModel) -> Workloads:
        return pruned(kernels, 2, seed=0)

    def test_runs(self, farm: Path, tiny_spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
        changes = ("methods=[uniform]", "targets=[{flops: 0.5x}]", f"fleets=[{FARM}]")

        options = ["--json", "--output", "board.md"]
        assert main(["run", str(tiny_spec), *options, *(part for text in changes for part in ("--set", text))]) == 0

        dense, uniform = json.loads(capsys.readouterr().out)
        assert uniform["metrics"]["latency_source"] == "measured"
        assert uniform["metrics"]["latency_ms"] < dense["metrics"]["latency_ms"]
        assert "leading-farm" in Path("board.md").read_text()

    def test_is_shown_fingerprinted_clustered_and_estimated(
        self, farm: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = ["--model", "resnet6", "--input-shape", "1,8,8", "--classes", "10"]

        assert main(["fleet", "show", str(farm)]) == 0
        assert main(["fleet", "fingerprint", str(farm), *model, "-o", "farm.parquet"]) == 0
        assert main(["fleet", "measure", str(farm), *model, "-o", "farm.csv"]) == 0
        assert main(["fleet", "cluster", "farm.parquet"]) == 0
        capsys.readouterr()
        assert main(["fleet", "estimate", "farm.parquet", "--set", "n_boards=6", "--json"]) == 0

        assert [row["true_ms"] for row in json.loads(capsys.readouterr().out)["estimates"]] == [None] * 3

    def test_is_told_with_the_others_and_its_keys_are_checked(self, farm: Path) -> None:
        farm.write_text("{name: farm, kind: leading-fram, n_boards: 6}")
        with pytest.raises(
            SpecError, match=r"did you mean 'leading-farm'\? Known: simulated, recorded, local, command, ray, lead"
        ):
            load_fleets(farm)
        farm.write_text("name: farm\nkind: leading-farm\nn_board: 6")
        with pytest.raises(SpecError, match=r"farm\.yaml:3:1 n_board: unknown key 'n_board'; did you mean 'n_boards'"):
            load_fleets(farm)

    def test_is_opened_by_check_asked_for_trust_and_named_by_its_code_in_trials(
        self, farm: Path, tiny_spec: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HDAPBENCH_TRUST", "")
        monkeypatch.setenv("XDG_STATE_HOME", str(tiny_spec.parent / "state"))
        lines = tiny_spec.read_text().splitlines()

        def checked(fleet: str, *options: str) -> tuple[int, str]:
            tiny_spec.write_text("\n".join(f"  - {fleet}" if "kind: simulated" in line else line for line in lines))
            return main(["check", str(tiny_spec), *options]), capsys.readouterr().err

        assert checked(FARM)[0] == 0
        assert "the farm has 100 boards, not 600; ask for fewer" in checked(FARM.replace("6,", "600,"))[1]
        gated = FARM.replace("n_boards", "gate: sesame, n_boards")
        code, error = checked(gated)
        assert code == 2
        assert "fleets[0].kind: 'sesame' is code that would be run; if you trust it, add --trust" in error
        assert checked(gated, "--trust")[0] == 0
        assert checked(gated)[0] == 0  # remembered
        assert checked(gated.replace("sesame", "barley"))[0] == 2

        loaded = load(tiny_spec, [f"fleets=[{FARM}]"])
        by_another_door = load(tiny_spec, [f"fleets=[{FARM.replace('n_boards', 'door: 2, n_boards')}]"])
        trials = plan_trials(loaded, MethodRegistry())
        assert [trial.id for trial in trials] == [trial.id for trial in plan_trials(by_another_door, MethodRegistry())]
        assert all(trial.sources["fleet's kind"] for trial in trials)

    def test_a_stored_spec_is_read_without_its_package(
        self, farm_spec: Spec, installed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stored = canonical_json(farm_spec)
        monkeypatch.undo()

        found = Spec.model_validate_json(stored)

        assert canonical_json(found) == stored
        with pytest.raises(PluginError, match=r"no installed package offers 'leading-farm' in hdapbench\.fleets"):
            open_fleet(found.fleets[0])


class TestARuntimeThatPipInstalled(RuntimeContract):
    @pytest.fixture
    def runtime(self, installed: Path, monkeypatch: pytest.MonkeyPatch) -> RuntimeSpec:
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        monkeypatch.setenv("PYTHONPATH", str(installed))  # workers are processes of their own
        return RuntimeSpec(runtime="leading-twice")

    def test_is_measured_and_named(self, runtime: RuntimeSpec, capsys: pytest.CaptureFixture[str]) -> None:
        shape = ["--input-shape", "1,8,8", "--classes", "10"]

        assert main(["measure", "resnet6", *shape, "--runtime", "leading-twice", "--rounds", "1", "--json"]) == 0

        assert json.loads(capsys.readouterr().out)["runtime"]["runtime"] == "leading-twice"

    def test_is_told_with_the_others(self, runtime: RuntimeSpec) -> None:
        with pytest.raises(ValueError, match="'onnxruntime', 'eager', 'compile' or 'leading-twice'"):
            RuntimeSpec(runtime="twice")

    def test_runs_a_local_fleet_that_tells_its_version(
        self, runtime: RuntimeSpec, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("local.yaml").write_text(
            "{name: here, kind: local, devices: [{name: a, runtime: {runtime: leading-twice}}]}"
        )

        assert main(["fleet", "show", "local.yaml"]) == 0
        assert "leading-channels 1.2" in capsys.readouterr().out


def test_the_kind_of_fleet_in_the_documentation_measures(kernels: KernelModel) -> None:
    text = (ROOT / "docs" / "own-fleet.md").read_text()
    names: dict[str, object] = {"__name__": "my_package"}
    code = text.split("```python\n")[1].split("```")[0]
    exec(compile(code, "own-fleet.md", "exec", dont_inherit=True), names)  # noqa: S102
    kind = names["FARM"]
    assert isinstance(kind, FleetKind)
    fleet = kind.open(kind.spec.model_validate({"name": "farm", "kind": "farm", "boards": 3}), Opening())

    assert fleet.measure(pruned(kernels, 2, seed=0), np.array([0, 2]), runs=2, seed=0).shape == (2, 2, 2)
