from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.errors import SpecError
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.grid import plan_trials, register_plugins
from hdapbench.spec import LoadedSpec, load


def planned(loaded: LoadedSpec) -> dict[str, dict[str, object]]:
    """Method -> parameters of its last trial."""
    registry = MethodRegistry()
    register_plugins(loaded, registry)
    return {trial.method: trial.parameters for trial in plan_trials(loaded, registry)}


def test_a_broken_plug_in_has_trials_with_the_parameters_as_written(tiny_spec: Path) -> None:
    (tiny_spec.parent / "torn.py").write_text("def torn(:\n")

    found = planned(
        load(str(tiny_spec), ["plugins=[torn.py]", "methods=[uniform, {name: mine, parameters: {share: 1}}]"])
    )

    assert found["mine"] == {"share": 1}
    assert "round_to" in found["uniform"]


def test_an_absent_plug_in_is_a_problem_of_the_spec(tiny_spec: Path) -> None:
    with pytest.raises(SpecError, match=r"plugins\[0\].*there is no method file"):
        planned(load(str(tiny_spec), ["plugins=[absent.py]"]))


def test_a_plug_in_that_takes_a_shipped_name_is_a_problem_of_the_spec_that_names_both(tiny_spec: Path) -> None:
    (tiny_spec.parent / "mine.py").write_text(
        "from hdapbench.method import Method\n\n\nclass Mine(Method):\n    name = 'uniform'\n\n"
        "    def compress(self, problem):\n        return None\n"
    )

    with pytest.raises(
        SpecError, match=r"called 'uniform': hdapbench .*methods.uniform:Uniform.* and .*mine.py; rename"
    ):
        planned(load(str(tiny_spec), ["plugins=[mine.py]"]))


def test_a_misspelt_method_stays_a_problem_of_the_spec(tiny_spec: Path) -> None:
    with pytest.raises(SpecError, match="unknown method 'unifrom'; did you mean 'uniform'"):
        planned(load(str(tiny_spec), ["methods=[unifrom]"]))


def test_an_entry_runs_at_its_own_targets_alone(tiny_spec: Path) -> None:
    loaded = load(
        str(tiny_spec),
        ["targets=[flops: 0.5x, flops: 0.4x]", "methods=[random, {name: uniform, targets: [flops: 0.4x]}]"],
    )

    trials = plan_trials(loaded, MethodRegistry())

    assert {(t.method, t.target) for t in trials} == {
        ("dense", None),
        ("random", "0.5x"),
        ("random", "0.4x"),
        ("uniform", "0.4x"),
    }


def test_an_entry_cannot_name_a_target_that_the_spec_has_not(tiny_spec: Path) -> None:
    with pytest.raises(SpecError, match=r"methods\[0\]\.targets\[0\]: 0\.3x is not in targets; known: 0\.5x"):
        load(str(tiny_spec), ["targets=[flops: 0.5x]", "methods=[{name: uniform, targets: [flops: 0.3x]}]"])
