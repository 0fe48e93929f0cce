from __future__ import annotations

import numpy as np
import pytest
import torch
from hdapbench_methods.netadapt import Netadapt, _meeting, _State

from hdapbench.method import Plan, Problem
from hdapbench.method.plans import flops_of
from hdapbench.spec import BudgetSpec
from hdapbench.surrogate.table import GroupTable
from hdapbench.testing import tiny_problem
from tests.methods.worlds import bench_of, problem_on, share_of_uniform, widths_of

QUICK = Netadapt(n_plans=30, short_epochs=0.0, proposals=1)


def make_problem(**budget: float) -> Problem:
    return problem_on(bench_of("mobilenetv1"), budget=BudgetSpec(**budget))


def test_it_uses_the_target_and_multiples_of_eight() -> None:
    problem = make_problem()

    widths = widths_of(QUICK.compress(problem), problem)

    assert (widths % 8 == 0).all()
    assert 0.97 * problem.target_flops <= problem.cost.flops(widths)[0] <= problem.target_flops


def test_it_is_truly_faster_than_uniform_at_equal_flops() -> None:
    problem = make_problem()

    plan = QUICK.compress(problem)

    assert share_of_uniform(plan, problem, bench_of("mobilenetv1")) < 0.97


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
    assert all(int((plan != problem.cost.sizes).sum()) == 1 for plan in first)
    assert len({tuple(plan) for plan in first}) == 3
    assert widths[-1] == problem.cost.sizes[-1]
    assert len(judged) >= 6


def test_a_proposal_starts_from_the_weights_of_the_last_winner() -> None:
    problem = tiny_problem("residual", target=0.4)

    plan = Netadapt(n_plans=12, short_epochs=0.5, proposals=2, round_to=2).compress(problem)

    assert plan.weights is not None
    dense = tiny_problem("residual").model().state_dict()
    trained = problem.model(plan.weights).state_dict()
    assert any(not torch.equal(dense[name], trained[name]) for name in dense)


def test_an_ended_budget_is_kept_and_still_gives_a_plan_under_the_target() -> None:
    problem = make_problem(device_queries=30, accuracy_evals=5, train_epochs=0.0)

    plan = Netadapt(n_plans=30, short_epochs=0.0, proposals=3).compress(problem)

    assert problem.budget.spent.accuracy_evals <= 5
    assert flops_of(problem, plan) <= problem.target_flops


def test_training_is_charged_for_every_proposal_and_every_winner() -> None:
    problem = tiny_problem("residual", target=0.4)

    Netadapt(n_plans=12, short_epochs=0.5, proposals=2, round_to=2).compress(problem)

    spent = problem.budget.spent
    assert spent.accuracy_evals > 0
    assert spent.train_epochs > 0.5 * spent.accuracy_evals
    assert spent.device_queries == 12  # a nominal device needs no fingerprint of the fleet


@pytest.mark.parametrize("epochs", [0.0, 0.5, 1.0, 1.7])
def test_a_budget_of_training_that_is_spent_to_the_last_ends_no_search(epochs: float) -> None:
    problem = make_problem(train_epochs=epochs)

    plan = Netadapt(n_plans=30, short_epochs=0.5).compress(problem)

    assert problem.budget.spent.train_epochs <= epochs
    assert flops_of(problem, plan) <= problem.target_flops


def test_of_the_channels_that_went_the_best_come_back() -> None:
    problem = tiny_problem("residual", target=0.4)
    state = _State(problem.cost.sizes.copy(), None, problem.importance("l2"))
    norms, method = state.scores, Netadapt(short_epochs=0.0)

    state = method._move(problem, state, np.array([8, 6]))
    state = method._move(problem, state, np.array([4, 6]))
    plan = state.plan(problem, np.array([7, 8]))

    for name, kept in plan.kept.items():
        assert set(kept) == set(np.argsort(-norms[name])[: len(kept)].tolist())


def test_no_device_is_asked_for_a_message() -> None:
    problem, asked = make_problem(), []
    latency = problem.devices.nominal_latency
    problem.devices.nominal_latency = lambda widths: (asked.append(len(widths)), latency(widths))[1]  # type: ignore[method-assign]

    Netadapt(table="measured", short_epochs=0.0, proposals=1, initial_reduction=0.2).compress(problem)

    assert min(asked[1:]) > 1  # the dense model, then one table per iteration


def test_each_limit_lies_below_the_latency_that_the_last_proposal_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem()
    falls_at: dict[tuple[int, ...], float] = {}

    def meeting(problem: Problem, state: _State, table: GroupTable, limit: float) -> list[np.ndarray]:
        falls_at.setdefault(tuple(state.widths.tolist()), table.current_ms - limit)
        dense.append(table.current_ms)
        return _meeting(problem, state, table, limit)

    dense: list[float] = []
    monkeypatch.setattr("hdapbench_methods.netadapt._meeting", meeting)

    Netadapt(n_plans=30, short_epochs=0.0, proposals=1, initial_reduction=0.04, decay=0.9).compress(problem)

    falls = np.array(list(falls_at.values()))
    assert len(falls) > 2
    assert falls == pytest.approx(0.04 * dense[0] * 0.9 ** np.arange(len(falls)))


@pytest.mark.parametrize("evaluations", [12, 30])
def test_falls_are_as_small_as_the_evaluations_last_for(evaluations: int) -> None:
    problem = make_problem(accuracy_evals=evaluations)

    Netadapt(n_plans=30, short_epochs=0.0, proposals=3).compress(problem)

    assert 0.5 * evaluations < problem.budget.spent.accuracy_evals <= evaluations


def test_the_published_fall_is_taken_where_no_budget_says_otherwise() -> None:
    by_itself, published = make_problem(), make_problem()

    plan = Netadapt(n_plans=30, short_epochs=0.0, proposals=2).compress(by_itself)

    assert plan == Netadapt(n_plans=30, short_epochs=0.0, proposals=2, initial_reduction=0.025).compress(published)
