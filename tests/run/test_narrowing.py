from __future__ import annotations

from pathlib import Path

import pytest

from hdapbench.errors import SpecError
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.grid import plan_trials
from hdapbench.run.narrowing import narrowed
from hdapbench.spec import LoadedSpec, Spec, canonical_json, load


@pytest.fixture
def loaded(tiny_spec: Path) -> LoadedSpec:
    text = tiny_spec.read_text().replace("[uniform, random]", "[uniform, {name: random, targets: [{flops: 0.3x}]}]")
    tiny_spec.write_text(text.replace("seeds: [0]", "seeds: [3, 5, 4]"))
    return load(str(tiny_spec))


def test_trials_of_a_narrowed_spec_are_those_of_the_whole_in_their_order(loaded: LoadedSpec) -> None:
    whole = plan_trials(loaded, MethodRegistry())
    part = narrowed(loaded, methods=["random", "uniform"], targets=["0.30x"], seeds=[4, 3])

    found = plan_trials(part, MethodRegistry())

    assert found == tuple(trial for trial in whole if trial.seed in (3, 4) and trial.target in (None, "0.3x"))
    assert Spec.model_validate_json(canonical_json(part.spec)) == part.spec
    assert narrowed(loaded) is loaded


def test_a_method_that_is_run_at_none_of_the_targets_is_left_out_and_refused_alone(loaded: LoadedSpec) -> None:
    part = narrowed(loaded, targets=["0.5x"])

    assert [method.name for method in part.spec.methods] == ["uniform"]
    assert Spec.model_validate_json(canonical_json(part.spec)) == part.spec
    with pytest.raises(SpecError, match="random is run at none of these targets"):
        narrowed(loaded, methods=["random"], targets=["0.5x"])


def test_a_method_has_trials_with_its_own_seeds_alone(tiny_spec: Path) -> None:
    text = tiny_spec.read_text().replace("[uniform, random]", "[uniform, {name: random, seeds: [5]}]")
    tiny_spec.write_text(text.replace("seeds: [0]", "seeds: [3, 5]"))
    loaded = load(str(tiny_spec))

    trials = plan_trials(loaded, MethodRegistry())

    seeds = {
        method: sorted({t.seed for t in trials if t.method == method}) for method in ("dense", "uniform", "random")
    }
    assert seeds == {"dense": [3, 5], "uniform": [3, 5], "random": [5]}
    assert [method.name for method in narrowed(loaded, seeds=[3]).spec.methods] == ["uniform"]
    with pytest.raises(SpecError, match="random is run at none of these seeds"):
        narrowed(loaded, methods=["random"], seeds=[3])


@pytest.mark.parametrize(
    ("methods", "problem"),
    [
        ("[uniform, {name: random, seeds: [4]}]", "4 is not in seeds; known: 3, 5"),
        ("[uniform, {name: uniform, seeds: [5]}]", "uniform repeats trials"),
        ("[uniform, {name: random, seeds: []}]", "seeds"),
    ],
)
def test_seeds_of_a_method_are_some_of_the_specs_and_make_no_trial_twice(
    tiny_spec: Path, methods: str, problem: str
) -> None:
    text = tiny_spec.read_text().replace("[uniform, random]", methods)
    tiny_spec.write_text(text.replace("seeds: [0]", "seeds: [3, 5]"))

    with pytest.raises(SpecError, match=problem):
        load(str(tiny_spec))
