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
