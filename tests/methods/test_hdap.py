from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.budget import Budget
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.method import Plan, Problem
from hdapbench.models import build_model
from hdapbench.network import trace
from hdapbench.spec import BudgetSpec, ModelSpec
from hdapbench.testing import SIDE, tiny_workbench
from hdapbench.workbench import Workbench
from methods.hdap import Hdap

QUICK = Hdap(n_plans=30, evaluations=800, active_plans=8, plans_per_round=4, criterion="l1", shortlist=1)
NEEDS_CMA = pytest.mark.skipif(importlib.util.find_spec("cma") is None, reason="cma is not installed")
N_CLUSTERS = 3
FINGERPRINT_QUERIES = 36
"""Three probes on the twelve devices of the tiny fleet."""


@cache
def bench() -> Workbench:
    """ResNet20 on the tiny fleet: enough groups that plans differ, few enough that a search takes moments."""
    torch.manual_seed(0)
    shape = (3, SIDE, SIDE)
    model = build_model(ModelSpec(name="resnet20", input_shape=shape), n_classes=4, base_dir=Path()).eval()
    return replace(tiny_workbench("plain"), network=trace(model, shape))


def make_problem(budget: BudgetSpec | None = None, *, on_progress: Callable[[str], None] | None = None) -> Problem:
    target = bench().network.cost.dense.flops // 2
    return Problem(bench(), target_flops=target, seed=0, budget=Budget(budget or BudgetSpec()), on_progress=on_progress)


def uniform_widths(problem: Problem) -> np.ndarray:
    share = largest_share(problem.cost, problem.target_flops)
    return fill(problem.cost, widths_at_share(problem.cost, share), problem.target_flops)


def widths_of(plan: Plan, problem: Problem) -> np.ndarray:
    return np.array(plan.widths(list(problem.groups)))


def record_measured(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Widths that the problem is asked to measure, one array per call, filled while the method runs."""
    asked: list[np.ndarray] = []
    measure = problem.latency

    def latency(widths: np.ndarray) -> np.ndarray:
        asked.append(np.array(widths))
        return measure(widths)

    monkeypatch.setattr(problem, "latency", latency)
    return asked


def measured_ms(asked: list[np.ndarray], problem: Problem) -> dict[tuple[int, ...], float]:
    """True average latency of every plan that was measured."""
    from hdapbench.fleet.base import Workloads
    from hdapbench.fleet.simulated import SimulatedFleet

    fleet = bench().fleet
    assert isinstance(fleet, SimulatedFleet)
    widths = np.concatenate(asked)
    workloads = Workloads(problem.kernels, widths, tuple(f"w{number}" for number in range(len(widths))))
    return {
        tuple(row.tolist()): value for row, value in zip(widths, fleet.true_latency_ms(workloads).mean(0), strict=True)
    }


def test_the_plan_keeps_the_importance_of_uniform_and_its_least_widths() -> None:
    problem = make_problem()

    widths = widths_of(QUICK.compress(problem), problem)

    scores, uniform = problem.importance("l1"), uniform_widths(problem)

    def lost(of: np.ndarray) -> float:
        """Importance lost, each group's share of its own squared."""
        total = 0.0
        for name, width in zip(problem.groups, of, strict=True):
            ordered = np.sort(scores[name])[::-1]
            total += float(ordered.sum()) * (float(ordered[width:].sum()) / float(ordered.sum())) ** 2
        return total

    assert (widths != uniform).any()
    assert lost(widths) <= lost(uniform) * (1 + 1e-12)
    assert (widths >= np.maximum(np.floor(0.6 * uniform), 1)).all()
    assert 0.97 * problem.target_flops - 1 <= problem.cost.flops(widths)[0] <= problem.target_flops


def test_training_plans_spread_around_the_target_and_hold_uniform_and_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem()
    asked = record_measured(problem, monkeypatch)

    QUICK.compress(problem)

    first = asked[0]
    assert len(first) == QUICK.n_plans
    assert any((row == uniform_widths(problem)).all() for row in first)
    assert any((row == problem.sizes).all() for row in first)
    flops = np.sort(problem.cost.flops(first) / problem.target_flops)
    assert flops[2] < 0.6
    assert 0.95 < flops[-2] <= 1.0 < flops[-1]  # only the dense model exceeds the target
    assert ((first / problem.sizes).std(axis=0) > 0.1).all()


def test_what_the_search_found_is_measured_before_it_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem()
    asked = record_measured(problem, monkeypatch)

    widths = widths_of(QUICK.compress(problem), problem)

    assert any((row == widths).all() for batch in asked for row in batch)
    assert len(asked) > 2
    assert sum(len(batch) for batch in asked[1:-1]) <= QUICK.active_plans


def test_a_short_budget_measures_the_first_plans_asked_for_and_still_gives_one(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = FINGERPRINT_QUERIES + 12 * N_CLUSTERS
    problem = make_problem(BudgetSpec(device_queries=queries))
    asked = record_measured(problem, monkeypatch)

    plan = QUICK.compress(problem)

    assert [len(batch) for batch in asked] == [12]
    assert (asked[0][0] == uniform_widths(problem)).all()
    assert (asked[0][1] == problem.sizes).all()
    assert problem.costs([plan]).flops[0] <= problem.target_flops
    assert problem.budget.spent.device_queries == queries


@pytest.mark.parametrize("affordable", [1, 8, 15])
def test_a_budget_that_ends_within_the_rounds_is_used_up_and_still_gives_a_measured_plan(
    affordable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = QUICK.model_copy(update={"active_plans": 60, "plans_per_round": 12, "tolerance": 0.0})
    queries = FINGERPRINT_QUERIES + (method.n_plans + affordable) * N_CLUSTERS
    problem = make_problem(BudgetSpec(device_queries=queries))
    asked = record_measured(problem, monkeypatch)

    widths = widths_of(method.compress(problem), problem)

    assert problem.budget.spent.device_queries == queries
    assert sum(len(batch) for batch in asked) == method.n_plans + affordable
    assert any((row == widths).all() for batch in asked for row in batch)
    assert problem.decisions["why"].startswith("the search ended early")


def test_a_guard_that_no_plan_meets_gives_uniform_pruning() -> None:
    lines: list[str] = []
    problem = make_problem(on_progress=lines.append)

    plan = QUICK.model_copy(update={"importance_guard": 5.0}).compress(problem)

    assert (widths_of(plan, problem) == uniform_widths(problem)).all()
    assert any(line.startswith("the search ends early") and "importance guard" in line for line in lines)


class TestTheShortlist:
    METHOD = QUICK.model_copy(update={"shortlist": 2, "shortlist_epochs": 0.0})

    @pytest.fixture
    def problem(self) -> Problem:
        return make_problem()

    def run(self, problem: Problem, monkeypatch: pytest.MonkeyPatch, accuracies: dict[str, float]) -> list[np.ndarray]:
        """Compress with stubbed accuracies of the fastest, the second and the uniform plan; plans in order judged."""
        judged: list[np.ndarray] = []

        def accuracy(plan: Plan, fine_tune_epochs: float = 0.0) -> float:
            widths = widths_of(plan, problem)
            if (widths == uniform_widths(problem)).all():
                return accuracies["uniform"]
            judged.append(widths)
            return accuracies["fastest" if len(judged) % 2 else "second"]

        monkeypatch.setattr(problem, "accuracy", accuracy)
        judged.append(widths_of(self.METHOD.compress(problem), problem))
        return judged

    # The tiny search split has 16 images: at 90 % accuracy a standard error of it is 7.5 points.

    def test_the_fastest_wins_within_a_standard_error(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        fastest, _, chosen = self.run(problem, monkeypatch, {"fastest": 0.83, "second": 0.9, "uniform": 0.9})

        assert (chosen == fastest).all()

    def test_the_second_wins_when_the_fastest_loses_more(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _, second, chosen = self.run(problem, monkeypatch, {"fastest": 0.8, "second": 0.9, "uniform": 0.9})

        assert (chosen == second).all()

    def test_uniform_wins_when_it_is_more_accurate_than_all_however_often_the_guard_rises(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        judged = self.run(problem, monkeypatch, {"fastest": 0.7, "second": 0.7, "uniform": 0.9})

        assert (judged[-1] == uniform_widths(problem)).all()
        assert len(judged) - 1 > 2  # a raised guard made it judge other plans

    def test_the_shortlist_is_sorted_by_measured_latency(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = record_measured(problem, monkeypatch)

        fastest, second, _ = self.run(problem, monkeypatch, {"fastest": 0.9, "second": 0.9, "uniform": 0.9})

        latency = measured_ms(asked, problem)
        # Measured with noise: the order may only differ from the truth within it.
        assert latency[tuple(fastest.tolist())] < 1.03 * latency[tuple(second.tolist())]
        assert latency[tuple(fastest.tolist())] < latency[tuple(uniform_widths(problem).tolist())]

    def test_a_spent_accuracy_budget_still_gives_a_plan_under_the_target(self) -> None:
        problem = make_problem(BudgetSpec(accuracy_evals=1))

        plan = self.METHOD.compress(problem)

        assert problem.budget.spent.accuracy_evals == 1
        assert problem.costs([plan]).flops[0] <= problem.target_flops


def test_a_plan_is_certified_and_its_story_is_remembered() -> None:
    problem = make_problem()

    plan = QUICK.compress(problem)

    search, rounds = problem.decisions["search"], problem.decisions["rounds"]
    assert search["algorithm"] == "exact"
    assert search["bound_ms"] <= search["value_ms"]
    assert search["gap"] < 0.02
    assert 1 <= len(rounds) <= QUICK.active_plans
    assert all(entry["predicted_ms"] == pytest.approx(entry["measured_ms"], rel=0.2) for entry in rounds)
    assert list(problem.decisions["uniform_widths"].values()) == uniform_widths(problem).tolist()
    assert "fastest accurate plan" in problem.decisions["why"]
    assert set(plan.kept) == set(problem.decisions["dense_widths"])


def test_trees_are_no_sum_over_kernels_and_are_searched_otherwise() -> None:
    problem = make_problem()

    QUICK.model_copy(update={"surrogate": "gbrt-on-ratios"}).compress(problem)

    assert problem.decisions["search"]["algorithm"] == "genetic"
    assert "not exact: the objective is no sum of tables" in problem.decisions["search"]["reason"]


def test_the_paper_preset_sets_what_was_not_given() -> None:
    paper = Hdap.model_validate({"preset": "paper", "n_plans": 50})

    assert (paper.surrogate, paper.searcher, paper.evaluations) == ("gbrt-on-ratios", "ncs", 300)
    assert (paper.n_plans, paper.cluster_weights) == (50, "equal")
    assert Hdap() == Hdap(preset="default")


@pytest.mark.parametrize(
    ("changes", "queries_per_plan"), [({"devices": "one_cluster"}, 1), ({"devices": "nominal"}, 1), ({}, N_CLUSTERS)]
)
def test_ablations_ask_one_device_where_hdap_asks_every_cluster(changes: dict, queries_per_plan: int) -> None:
    problem = make_problem()

    plan = QUICK.model_copy(update={**changes, "active_plans": 0}).compress(problem)

    spent = problem.budget.spent.device_queries - (FINGERPRINT_QUERIES if "nominal" not in changes.values() else 0)
    n_plans = QUICK.n_plans + 1  # the optimum, and then uniform beside the fastest
    assert spent % queries_per_plan == 0
    assert n_plans < spent / queries_per_plan <= n_plans + 1 + 4 * QUICK.shortlist
    assert problem.costs([plan]).flops[0] <= problem.target_flops


def test_flops_as_the_goal_asks_no_device() -> None:
    problem = make_problem()

    plan = QUICK.model_copy(update={"goal": "flops"}).compress(problem)

    assert problem.budget.spent.device_queries == 0
    assert problem.costs([plan]).flops[0] <= problem.target_flops


@pytest.mark.parametrize(
    "searcher", ["exact", "genetic", pytest.param("cma-es", marks=NEEDS_CMA), "ncs", "greedy", "random"]
)
@pytest.mark.parametrize("least_flops_share", [0.0, 0.98])
def test_every_searcher_can_be_chosen_with_flops_free_or_held_below_the_target(
    searcher: str, least_flops_share: float
) -> None:
    problem = make_problem()
    chosen = {"searcher": searcher, "least_flops_share": least_flops_share, "evaluations": 200, "active_plans": 0}
    method = Hdap.model_validate(QUICK.model_dump() | chosen)

    widths = widths_of(method.compress(problem), problem)

    assert method.skip(problem) is None
    assert problem.decisions["search"]["algorithm"] == searcher
    assert least_flops_share * problem.target_flops - 1 <= problem.cost.flops(widths)[0] <= problem.target_flops


def test_cma_es_without_its_package_skips_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert "pip install 'hdapbench[cma]'" in (Hdap(searcher="cma-es").skip(make_problem()) or "")
    assert Hdap().skip(make_problem()) is None
