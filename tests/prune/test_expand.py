from __future__ import annotations

import pytest
import torch

from hdapbench.groups import GroupSet
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.surgery import apply_plan
from hdapbench.testing import KINDS, ModelKind, tiny_problem


@pytest.mark.parametrize("kind", KINDS)
def test_weights_put_back_give_the_trained_compact_model_when_cut_again(kind: ModelKind) -> None:
    problem = tiny_problem(kind)
    plan = problem.plan_by_scores(problem.importance("l2"))
    groups = GroupSet(tuple(problem.groups.values()))
    dense = problem.model()
    compact = apply_plan(dense, groups, plan)
    problem.train(compact, 1.0)

    expanded = expand_weights(dense, compact, groups, plan)

    again = apply_plan(expanded, groups, plan).state_dict()
    for name, tensor in compact.state_dict().items():
        assert torch.equal(again[name], tensor)
    untrained = apply_plan(dense, groups, plan).state_dict()
    assert any(not torch.equal(untrained[name], tensor) for name, tensor in again.items())


def test_what_the_plan_removes_keeps_the_weights_it_had() -> None:
    problem = tiny_problem("residual")
    plan = problem.plan_by_scores(problem.importance("l2"), scope="local")
    groups = GroupSet(tuple(problem.groups.values()))
    dense = problem.model()
    compact = apply_plan(dense, groups, plan)
    with torch.no_grad():
        for parameter in compact.parameters():
            parameter.fill_(7.0)

    expanded = expand_weights(dense, compact, groups, plan)

    group = next(iter(problem.groups.values()))
    layer = group.producers[0]
    kept = list(plan.kept[group.name])
    gone = sorted(set(range(group.n_channels)) - set(kept))
    before, after = (
        dense.get_submodule(layer).get_parameter("weight"),
        expanded.get_submodule(layer).get_parameter("weight"),
    )
    assert gone
    assert torch.equal(after[gone], before[gone])
    assert (after[kept] == 7.0).all()
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), problem.model().parameters(), strict=True))
