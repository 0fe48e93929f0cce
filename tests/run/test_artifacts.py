from __future__ import annotations

import json
import pickle

import pytest
import torch

from hdapbench.errors import PlanError
from hdapbench.models import state_hash
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.prune.trace import find_groups
from hdapbench.run.artifact import STATE_HASH, load_artifact, load_plan, save_artifact
from tests.prune.small_networks import SHAPE, Depthwise, Plain, seeded


@pytest.fixture
def saved(tmp_path):
    """Folder of an artifact, the compact model in it, and its plan."""
    model = seeded(Depthwise)
    plan = Plan(kept={"first": (1, 2, 6), "last": (0, 5)})
    compact = apply_plan(model, find_groups(model, SHAPE), plan)
    with torch.no_grad():
        compact.first.weight.add_(1.0)  # as fine-tuning would
    save_artifact(tmp_path / "deep" / "artifact", plan=plan, model=compact, description={"accuracy": 0.5})
    return tmp_path / "deep" / "artifact", compact, plan


def test_a_loaded_model_computes_exactly_what_was_saved(saved):
    directory, compact, _ = saved
    fresh = Depthwise()
    probe = torch.randn(2, *SHAPE)

    loaded = load_artifact(directory, fresh, find_groups(fresh, SHAPE))

    assert torch.equal(loaded.eval()(probe), compact(probe))
    assert loaded.depthwise.groups == 3


def test_plan_and_description_are_readable_json(saved):
    directory, _, plan = saved

    assert json.loads((directory / "plan.json").read_text())["kept"] == {"first": [1, 2, 6], "last": [0, 5]}
    assert json.loads((directory / "description.json").read_text()) == {"accuracy": 0.5}
    assert load_plan(directory) == plan


def test_saving_again_replaces_the_artifact_and_leaves_no_partial_files(saved):
    directory, compact, plan = saved

    save_artifact(directory, plan=plan, model=compact, description={"accuracy": 0.75})

    assert sorted(path.name for path in directory.iterdir()) == ["description.json", "plan.json", "state.pt"]
    assert json.loads((directory / "description.json").read_text()) == {"accuracy": 0.75}


class Harmful:
    """What a forged state file may hold: an object that acts when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise AssertionError('code ran')",))


def test_a_state_file_cannot_execute_code(saved):
    directory, _, _ = saved
    (directory / "state.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))

    with pytest.raises(PlanError, match="does not hold the weights of this plan"):
        load_artifact(directory, (model := Depthwise()), find_groups(model, SHAPE))


@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_a_broken_state_file_is_one_clear_error(saved, content):
    directory, _, _ = saved
    (directory / "state.pt").write_bytes(content)

    with pytest.raises(PlanError, match="does not hold the weights"):
        load_artifact(directory, (model := Depthwise()), find_groups(model, SHAPE))


def test_weights_that_are_not_those_that_were_saved_are_refused(saved):
    directory, compact, plan = saved
    save_artifact(directory, plan=plan, model=compact, description={STATE_HASH: state_hash(compact)})
    model = Depthwise()
    load_artifact(directory, model, find_groups(model, SHAPE))
    content = (directory / "state.pt").read_bytes()
    place = content.index(compact.first.weight.detach().numpy().tobytes())
    (directory / "state.pt").write_bytes(content[:place] + bytes(8) + content[place + 8 :])

    with pytest.raises(PlanError, match="does not hold the weights of this plan: it is damaged"):
        load_artifact(directory, model, find_groups(model, SHAPE))


def test_weights_of_another_plan_are_refused(saved):
    directory, _, _ = saved
    (directory / "plan.json").write_text(Plan(kept={"first": (1, 2), "last": (0, 5)}).canonical_json())

    with pytest.raises(PlanError, match="size mismatch"):
        load_artifact(directory, (model := Depthwise()), find_groups(model, SHAPE))


def test_a_plan_of_another_architecture_is_refused(saved):
    directory, _, _ = saved

    with pytest.raises(PlanError, match="does not exist in the model"):
        load_artifact(directory, (model := Plain()), find_groups(model, SHAPE))


def test_missing_files_are_named(saved, tmp_path):
    directory, _, _ = saved
    (directory / "state.pt").unlink()

    with pytest.raises(PlanError, match=r"holds no plan\.json"):
        load_plan(tmp_path)
    with pytest.raises(PlanError, match=r"holds no state\.pt"):
        load_artifact(directory, (model := Depthwise()), find_groups(model, SHAPE))


def test_a_plan_file_that_is_no_plan_is_refused(saved):
    directory, _, _ = saved
    (directory / "plan.json").write_text('{"kept": 3}')

    with pytest.raises(PlanError, match="is not a plan: 1 problems"):
        load_plan(directory)


def test_bytes_that_are_no_text_are_refused(saved):
    directory, _, _ = saved
    (directory / "plan.json").write_bytes(b'{"kept": {"\xb2": [0]}}')

    with pytest.raises(PlanError, match="is not a plan"):
        load_plan(directory)
