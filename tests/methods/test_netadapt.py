from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.fleet.base import Workloads
from hdapbench.fleet.simulated import SimulatedFleet
from hdapbench.method import Budget, Plan, Problem
from hdapbench.models import build_model
from hdapbench.network import trace
from hdapbench.spec import BudgetSpec, ModelSpec
from hdapbench.testing import SIDE, tiny_problem, tiny_workbench
from hdapbench.workbench import Workbench
from methods.netadapt import Netadapt

FINGERPRINT_QUERIES = 36
QUICK = Netadapt(n_plans=30, short_epochs=0.0, proposals=1)


@cache
def bench() -> Workbench:
    torch.manual_seed(0)
    shape = (3, SIDE, SIDE)
    model = build_model(ModelSpec(name="mobilenetv1", input_shape=shape), n_classes=4, base_dir=Path()).eval()
    return replace(tiny_workbench("plain"), network=trace(model, shape))


def make_problem(budget: BudgetSpec | None = None) -> Problem:
    flops = bench().network.cost.dense.flops // 2
    return Problem(bench(), target_flops=flops, seed=0, budget=Budget(budget or BudgetSpec()))


def widths_of(plan: Plan, problem: Problem) -> np.ndarray:
    return np.array(plan.widths(list(problem.groups)))


def test_it_uses_the_target_and_multiples_of_eight() -> None:
    problem = make_problem()

    widths = widths_of(QUICK.compress(problem), problem)

    assert (widths % 8 == 0).all()
    assert 0.97 * problem.target_flops <= problem.cost.flops(widths)[0] <= problem.target_flops


def test_it_is_truly_faster_than_uniform_at_equal_flops() -> None:
    problem = make_problem()

    plan = QUICK.compress(problem)

    fleet = bench().fleet
    assert isinstance(fleet, SimulatedFleet)
    uniform = problem.plan_by_importance(dict.fromkeys(problem.groups, problem.solve_ratio()), "l1")
    widths = np.stack([widths_of(plan, problem), widths_of(uniform, problem)])
    fast, rival = fleet.true_latency_ms(Workloads(problem.kernels, widths, ("netadapt", "uniform"))).mean(axis=0)
    assert fast < 0.97 * rival


def test_each_iteration_narrows_one_group_and_takes_the_most_accurate_proposal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make_problem()
    judged: list[np.ndarray] = []

    def accuracy(plan: Plan, fine_tune_epochs: float = 0.0) -> float:
        judged.append(widths_of(plan, problem))
        return float(judged[-1][-1])  # whoever leaves the last group alone is best

    monkeypatch.setattr(problem, "accuracy", accuracy)
    method = Netadapt(n_plans=30, short_epochs=0.0, proposals=3)

    widths = widths_of(method.compress(problem), problem)

    first = judged[:3]
    assert all(int((plan != problem.sizes).sum()) == 1 for plan in first)
    assert len({tuple(plan) for plan in first}) == 3
    assert widths[-1] == problem.sizes[-1]
    assert len(judged) >= 6


def test_a_proposal_starts_from_the_weights_of_the_last_winner() -> None:
    problem = tiny_problem("residual", target=0.4)

    plan = Netadapt(n_plans=12, short_epochs=0.5, proposals=2, round_to=2).compress(problem)

    assert plan.weights is not None
    dense = tiny_problem("residual").model().state_dict()
    trained = problem._bench.dense_model(plan.weights).state_dict()
    assert any(not torch.equal(dense[name], trained[name]) for name in dense)


def test_an_ended_budget_is_kept_and_still_gives_a_plan_under_the_target() -> None:
    problem = make_problem(BudgetSpec(device_queries=FINGERPRINT_QUERIES + 30, accuracy_evals=5, train_epochs=0.0))

    plan = Netadapt(n_plans=30, short_epochs=0.0, proposals=3).compress(problem)

    assert problem.budget.spent.accuracy_evals <= 5
    assert problem.costs([plan]).flops[0] <= problem.target_flops


def test_training_is_charged_for_every_proposal_and_every_winner() -> None:
    problem = tiny_problem("residual", target=0.4)

    Netadapt(n_plans=12, short_epochs=0.5, proposals=2, round_to=2).compress(problem)

    spent = problem.budget.spent
    assert spent.accuracy_evals > 0
    assert spent.train_epochs > 0.5 * spent.accuracy_evals
    assert spent.device_queries == FINGERPRINT_QUERIES + 12
