from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import numpy as np
import pytest
import torch
from hdapbench_methods.fastnas import Fastnas

from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.method.plans import flops_of
from hdapbench.spec import BudgetSpec
from hdapbench.testing import tiny_problem, tiny_workbench
from tests.methods.worlds import bench_on, limited, problem_on, share_used, widths_of


def test_every_group_takes_its_narrowest_width_that_loses_no_more_than_one_threshold() -> None:
    problem = tiny_problem("residual")

    plan = Fastnas(choices=6, round_to=1, params_share=1.0).compress(problem)  # params_share: nothing is filled up

    told, threshold = problem.decisions["sensitivities"], problem.decisions["threshold"]
    for name, width in zip(problem.groups, widths_of(plan, problem), strict=True):
        lost, size = told["lost"][name], problem.groups[name].n_channels
        assert all(wider <= narrower for narrower, wider in pairwise(lost))
        narrowest = next(share for share, loss in zip(told["shares"], lost, strict=True) if loss <= threshold + 1e-6)
        assert width == max(round(narrowest * size), 1)
    lower = [loss for lost in told["lost"].values() for loss in lost if loss < threshold - 1e-6]
    if lower:  # the next lower threshold breaks the limit
        wider = [
            max(round(told["shares"][[loss <= max(lower) + 1e-6 for loss in told["lost"][name]].index(True)] * size), 1)
            for name, size in zip(problem.groups, problem.cost.sizes, strict=True)
        ]
        assert problem.cost.flops(np.array(wider))[0] > problem.target_flops


def test_widths_of_every_group_are_evaluated_from_the_narrowest_until_nothing_is_lost_and_charged() -> None:
    n_widths = 0
    for kind in ("residual", "depthwise", "concat"):
        problem = tiny_problem(kind)

        Fastnas(choices=5, round_to=1, score="loss").compress(problem)

        lost = problem.decisions["sensitivities"]["lost"].values()
        n_evaluated = sum(min(sum(loss > 0 for loss in losses) + 1, 4) for losses in lost)
        spent = problem.budget.spent
        assert spent.accuracy_evals == 1 + n_evaluated  # 1: the dense model
        assert spent.train_epochs == pytest.approx(spent.accuracy_evals / 3, abs=1e-5)  # all 64 images, looked at
        n_widths += n_evaluated
    assert n_widths > 2 + 2 + 4  # the narrowest width of every group, and some others


@pytest.mark.parametrize("evaluations", [9, 5, 3, 2])
def test_a_short_budget_is_spread_over_the_groups(evaluations: int) -> None:
    problem = tiny_problem("residual", budget=BudgetSpec(accuracy_evals=evaluations, train_epochs=3.01))

    plan = Fastnas(round_to=1).compress(problem)

    assert 2 <= problem.budget.spent.accuracy_evals <= evaluations
    assert 0.9 * problem.target_flops <= flops_of(problem, plan) <= problem.target_flops


def test_a_budget_without_two_evaluations_is_refused_before_anything_is_spent() -> None:
    for budget in (BudgetSpec(accuracy_evals=1), BudgetSpec(train_epochs=0.5)):
        problem = tiny_problem("residual", budget=budget)
        with pytest.raises(BudgetExceededError):
            Fastnas().compress(problem)
        assert problem.budget.spent.accuracy_evals == 0


def test_a_group_that_nothing_depends_on_is_narrowed_first() -> None:
    model = deepcopy(tiny_workbench("residual").network.model)
    with torch.no_grad():
        model.body[1].outer[0].weight.zero_()  # whatever the inner channels hold, nothing reads it
    problem = problem_on(bench_on(model, "residual"), 0.8)

    plan = Fastnas(round_to=1, choices=12, score="loss", params_share=1.0).compress(problem)

    _, inner = widths_of(plan, problem)
    assert inner == 1


def test_a_target_on_the_fleets_latency_holds_when_it_is_measured_again() -> None:
    problem = limited("0.97x latency", "residual")

    plan = Fastnas(round_to=1, choices=6).compress(problem)

    assert share_used(plan, problem) <= 1.0
    assert problem.budget.spent.device_queries > 36


def test_limits_that_the_narrowest_choices_exceed_are_named_before_anything_is_evaluated() -> None:
    for parameters, said in (({"params_share": 0.01}, "parameters"), ({"latency_share": 0.1}, "latency")):
        problem = tiny_problem("residual", target=0.9)
        with pytest.raises(TargetUnreachableError, match=said):
            Fastnas.model_validate(parameters).compress(problem)
        assert problem.budget.spent.accuracy_evals == 0
