from __future__ import annotations

import numpy as np
import pytest
import torch
from hdapbench_methods.joint import Joint

from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.groups import GroupSet
from hdapbench.method.plans import flops_of
from hdapbench.plan import Plan
from hdapbench.prune.sparsity import ChannelWeights
from hdapbench.prune.surgery import mask_model
from hdapbench.spec import BudgetSpec
from hdapbench.testing import KINDS, ModelKind, tiny_problem


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_a_channel_are_those_that_its_removal_zeroes(kind: ModelKind) -> None:
    problem = tiny_problem(kind)
    model, groups = problem.model(), GroupSet(tuple(problem.groups.values()))
    whole = sum(float(parameter.detach().double().square().sum()) for parameter in model.parameters())

    norms = ChannelWeights(model, groups).norms()

    for group in groups:
        if group.n_channels < 2:
            continue
        rest = Plan(kept={g.name: tuple(range(g is group, g.n_channels)) for g in groups})
        left = sum(float(p.detach().double().square().sum()) for p in mask_model(model, groups, rest).parameters())
        assert float(norms[group.name][0] ** 2) == pytest.approx(whole - left, rel=1e-4)


def test_the_pull_of_norms_is_the_gradient_of_their_sum() -> None:
    problem = tiny_problem("residual")
    model, groups = problem.model(), GroupSet(tuple(problem.groups.values()))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    weights = ChannelWeights(model, groups)

    weights.pull({name: 1 / norms for name, norms in weights.norms().items()})

    probe = model.body[1].inner[0].weight
    step = 1e-3
    direction = torch.randn(probe.shape, generator=torch.Generator().manual_seed(0))
    found = float((probe.grad * direction).sum())
    sums = []
    for sign in (1, -1):
        with torch.no_grad():
            probe += sign * step * direction
            sums.append(sum(float(norms.sum()) for norms in weights.norms().values()))
            probe -= sign * step * direction
    assert found == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-3)


def test_channels_that_the_plan_cuts_have_vanished_by_then_and_the_others_have_not() -> None:
    problem = tiny_problem("residual")

    plan = Joint(epochs=60.0).compress(problem)

    norms = ChannelWeights(problem.model(plan.weights), GroupSet(tuple(problem.groups.values()))).norms()
    for name, found in norms.items():
        kept = np.isin(np.arange(len(found)), plan.kept[name])
        if not kept.all():
            assert float(found[~kept].max()) < 0.5 * float(found[kept].min())
    assert 0.9 * problem.target_flops <= flops_of(problem, plan) <= problem.target_flops
    assert problem.decisions["agreements"][-1] >= 0.999


@pytest.mark.parametrize("penalty", ["growing-l2", "group-lasso"])
def test_it_trains_as_long_as_the_fine_tuning_of_every_method_and_is_charged(penalty: str) -> None:
    problem = tiny_problem("residual")

    Joint.model_validate({"penalty": penalty}).compress(problem)

    assert problem.budget.spent.train_epochs == problem.training.fine_tune_epochs
    assert problem.budget.spent.accuracy_evals == problem.budget.spent.device_queries == 0


def test_a_training_that_cannot_be_paid_and_a_target_out_of_reach_are_refused() -> None:
    with pytest.raises(BudgetExceededError):
        Joint(epochs=2.0).compress(tiny_problem("residual", budget=BudgetSpec(train_epochs=1.0)))
    with pytest.raises(TargetUnreachableError):
        Joint(epochs=0.0).compress(tiny_problem("residual", target=1e-6))
