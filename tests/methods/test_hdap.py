from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hdapbench_methods.hdap import Hdap
from hdapbench_methods.hdap.judging import Candidate, Judge
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hdapbench.cost.ranking import keep_best
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.errors import BudgetExceededError
from hdapbench.method import Plan, Problem
from hdapbench.method.decisions import read_decisions
from hdapbench.method.plans import flops_of
from hdapbench.spec import BudgetSpec
from tests.methods.worlds import bench_of, bench_on, problem_on, widths_of

QUICK = Hdap(
    n_plans=30, evaluations=800, active_plans=8, plans_per_round=4, criterion="l1", choice="guard", guard_levels=(1.0,)
)
NEEDS_CMA = pytest.mark.skipif(importlib.util.find_spec("cma") is None, reason="cma is not installed")
N_CLUSTERS = 3
FINGERPRINT_QUERIES = 36
"""Three probes on the twelve devices of the tiny fleet."""


def make_problem(budget: BudgetSpec | None = None, *, on_progress: Callable[[str], None] | None = None) -> Problem:
    """ResNet20 on the tiny fleet: enough groups that plans differ, few enough that a search takes moments."""
    return problem_on(bench_of("resnet20"), budget=budget, on_progress=on_progress)


def uniform_widths(problem: Problem) -> np.ndarray:
    share = largest_share(problem.cost, problem.target_flops)
    return fill(problem.cost, widths_at_share(problem.cost, share), problem.target_flops)


def record_measured(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Widths that the problem is asked to measure, one array per call, filled while the method runs."""
    asked: list[np.ndarray] = []
    measure = problem.latency

    def latency(widths: np.ndarray) -> np.ndarray:
        asked.append(np.array(widths))
        return measure(widths)

    monkeypatch.setattr(problem, "latency", latency)
    return asked


@pytest.mark.parametrize("criterion", ["l1", "fisher"])
@pytest.mark.parametrize("guard", ["ranking", "uniform"])
def test_the_plan_loses_no_more_importance_than_its_reference(criterion: str, guard: str) -> None:
    problem = make_problem()

    widths = widths_of(QUICK.model_copy(update={"criterion": criterion, "guard": guard}).compress(problem), problem)

    scores = problem.importance(criterion)
    reference = uniform_widths(problem)
    if guard == "ranking":
        kept = keep_best(problem.cost, scores, problem.target_flops)
        reference = np.array([len(kept[name]) for name in problem.groups])

    def lost(of: np.ndarray) -> float:
        """Importance lost: Fisher scores as they are, else each group's share of its own squared."""
        total = 0.0
        for name, width in zip(problem.groups, of, strict=True):
            ordered = np.sort(scores[name])[::-1]
            share = float(ordered[width:].sum()) / float(ordered.sum())
            total += float(ordered.sum()) * (share if criterion == "fisher" else share**2)
        return total

    assert (widths != uniform_widths(problem)).any()
    assert lost(widths) <= lost(reference) * (1 + 1e-9)
    assert problem.cost.flops(widths)[0] <= problem.target_flops


def test_least_widths_and_least_flops_are_kept() -> None:
    problem = make_problem()

    method = QUICK.model_copy(update={"least_width_share": 0.6, "least_flops_share": 0.97, "guard": "uniform"})
    widths = widths_of(method.compress(problem), problem)

    assert (widths >= np.maximum(np.floor(0.6 * uniform_widths(problem)), 1)).all()
    assert 0.97 * problem.target_flops - 1 <= problem.cost.flops(widths)[0] <= problem.target_flops


def test_training_plans_spread_around_the_target_and_hold_uniform_and_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = make_problem()
    asked = record_measured(problem, monkeypatch)

    QUICK.compress(problem)

    first = asked[0]
    assert len(first) == QUICK.n_plans
    assert any((row == uniform_widths(problem)).all() for row in first)
    assert any((row == problem.cost.sizes).all() for row in first)
    flops = np.sort(problem.cost.flops(first) / problem.target_flops)
    assert flops[2] < 0.6
    assert 0.95 < flops[-2] <= 1.0 < flops[-1]  # only the dense model exceeds the target
    assert ((first / problem.cost.sizes).std(axis=0) > 0.1).all()


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
    assert any((row == problem.cost.sizes).all() for row in asked[0][:3])
    assert flops_of(problem, plan) <= problem.target_flops
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


def test_a_guard_that_no_plan_meets_gives_a_reference() -> None:
    lines: list[str] = []
    problem = make_problem(on_progress=lines.append)

    plan = QUICK.model_copy(update={"guard_levels": (0.01,)}).compress(problem)

    assert flops_of(problem, plan) <= problem.target_flops
    assert any(line.startswith("the search ends early") and "importance guard" in line for line in lines)
    assert "the search ended early" in problem.decisions["why"]


class TestTheComparison:
    METHOD = QUICK.model_copy(
        update={"choice": "accuracy", "guard_levels": (1.5, 1.0), "shortlist_epochs": 0.0, "guard": "uniform"}
    )

    def run(
        self, monkeypatch: pytest.MonkeyPatch, *, losses: dict[str, float], accuracies: dict[str, float]
    ) -> tuple[str, list[str], Problem]:
        """Compress with stubbed losses and accuracies by name; name of the chosen, names fine-tuned, the problem.

        Candidates are named by their place in the order of latency; what is not named gets the value of ``other``.
        """
        problem = make_problem()
        tuned: list[str] = []
        judged = judge_names(monkeypatch)

        def loss(plan: Plan, *, reconstruct: bool) -> float:
            return losses.get(judged(plan, problem), losses["other"])

        def accuracy(plan: Plan, epochs: float, *, reconstruct: bool) -> float:
            tuned.append(judged(plan, problem))
            return accuracies.get(tuned[-1], accuracies.get("other", 0.0))

        monkeypatch.setattr(problem.training, "recalibrated_loss", loss)
        monkeypatch.setattr(problem, "accuracy", accuracy)
        chosen = self.METHOD.compress(problem)
        return judged(chosen, problem), tuned, problem

    def test_the_fastest_plan_as_accurate_as_the_best_reference_wins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The tiny search split has 16 images: at 90 % accuracy a standard error of it is 7.5 points.
        chosen, tuned, problem = self.run(
            monkeypatch,
            losses={"uniform": 1.0, "other": 1.0},
            accuracies={"uniform": 0.9, "ranking": 0.5, "other": 0.83},
        )

        assert [name for name in tuned if name != "ranking"] == ["uniform", "fastest"]
        assert chosen == "fastest"
        assert "as accurate as 'uniform'" in problem.decisions["why"]

    def test_the_fastest_plan_of_low_loss_is_tried_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chosen, tuned, problem = self.run(
            monkeypatch,
            losses={"uniform": 1.0, "ranking": 9.0, "fastest": 1.12, "other": 1.08},
            accuracies={"fastest": 0.0, "ranking": 0.0, "other": 0.9},
        )

        assert [name for name in tuned if name not in {"uniform", "ranking"}] == ["second", "fastest"]
        assert chosen == "second"
        assert {entry["accuracy"] for entry in problem.decisions["accuracies"] if "accuracy" in entry} == {0.9, 0.0}

    def test_the_reference_wins_when_all_others_are_less_accurate(self, monkeypatch: pytest.MonkeyPatch) -> None:
        chosen, _, problem = self.run(
            monkeypatch, losses={"uniform": 1.0, "other": 1.0}, accuracies={"uniform": 0.9, "other": 0.5}
        )

        assert chosen == "uniform"
        assert "no faster plan was as accurate" in problem.decisions["why"]

    def test_a_spent_accuracy_budget_still_gives_a_plan_under_the_target(self) -> None:
        problem = make_problem(BudgetSpec(accuracy_evals=1))

        plan = self.METHOD.compress(problem)

        assert problem.budget.spent.accuracy_evals == 1
        assert flops_of(problem, plan) <= problem.target_flops
        assert "the search ended early" in problem.decisions["why"]

    def test_a_tight_accuracy_budget_compares_fewer_plans_and_still_fine_tunes(self) -> None:
        lines: list[str] = []
        problem = make_problem(BudgetSpec(accuracy_evals=10), on_progress=lines.append)

        self.METHOD.model_copy(update={"guard_levels": (2.0, 1.5, 1.25, 1.0, 0.9)}).compress(problem)

        seen = problem.decisions["accuracies"]
        assert any(line.startswith("the budget allows to compare 4 of") for line in lines)  # 10, less 4 + 2 fine-tuned
        assert len(seen) == 4
        assert sum("accuracy" in entry for entry in seen) >= 2
        assert "the search ended early" not in problem.decisions["why"]

    def test_loss_alone_decides_without_fine_tuning(self) -> None:
        problem = make_problem()

        self.METHOD.model_copy(update={"choice": "loss"}).compress(problem)

        seen = problem.decisions["accuracies"]
        assert len(seen) >= 3
        assert all("recalibrated_loss" in entry and "accuracy" not in entry for entry in seen)
        assert problem.budget.spent.accuracy_evals == len(seen)


class TestHalving:
    @staticmethod
    def by_accuracy(accuracies: list[float], *, most: int, losses: list[float] | None = None) -> tuple[str, int]:
        """Name of the chosen of candidates with these accuracies, fastest first, and how many were fine-tuned.

        The reference comes last, with an accuracy of 0.9 and a loss of 0; a standard error is 0.003. Without ``losses``
        they fall with latency.
        """
        tuned: list[int] = []

        def accuracy(widths: np.ndarray, epochs: float) -> float:
            assert epochs == 1.0
            tuned.append(int(widths[0]))
            return 0.9 if widths[0] < 0 else accuracies[widths[0]]

        problem = SimpleNamespace(training=SimpleNamespace(n_search_images=10_000), progress=lambda text: None)
        stage: Any = SimpleNamespace(accuracy=accuracy)
        n = len(accuracies)
        candidates = [Candidate(stage, np.array([k]), 1.0 + k, f"candidate {k}") for k in range(n)]
        candidates.append(Candidate(stage, np.array([-1]), 99.0, "uniform", is_reference=True))
        judge = Judge(problem, epochs=1.0, tolerance=0.0, loss_tolerance=0.1)  # type: ignore[arg-type]
        chosen, rival = judge.by_accuracy(candidates, [*(losses or range(n, 0, -1)), 0.0], most)
        assert rival.name == "uniform"
        assert len(set(tuned)) == len(tuned)
        return chosen.name, len(tuned) - 1

    @given(n_good=st.integers(0, 12), n_bad=st.integers(0, 12))
    def test_enough_tries_find_the_fastest_accurate_plan(self, n_good: int, n_bad: int) -> None:
        most = 1 + int(np.ceil(np.log2(n_good + n_bad + 1)))

        chosen, n_tuned = self.by_accuracy([0.5] * n_bad + [0.9] * n_good, most=most)

        assert chosen == (f"candidate {n_bad}" if n_good else "uniform")
        assert n_tuned <= most

    def test_plans_that_are_slower_and_lose_more_are_not_tried(self) -> None:
        assert self.by_accuracy([0.5, 0.9, 0.9, 0.9], most=9, losses=[3.0, 4.0, 5.0, 3.0]) == ("uniform", 1)

    def test_few_tries_give_an_accurate_plan_if_not_the_fastest(self) -> None:
        assert self.by_accuracy([0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9], most=1) == ("candidate 3", 1)

    def test_a_budget_that_ends_in_between_leaves_the_best_plan_so_far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original, calls = Judge._accuracy, []

        def accuracy(judge: Judge, candidate: Candidate) -> float:
            calls.append(candidate.name)
            if len(calls) > 2:
                raise BudgetExceededError("nothing is left")
            return original(judge, candidate)

        monkeypatch.setattr(Judge, "_accuracy", accuracy)

        assert self.by_accuracy([0.9, 0.9, 0.9], most=3)[0] == "candidate 1"

    def test_a_difference_below_a_standard_error_is_none(self) -> None:
        assert self.by_accuracy([0.898, 0.9], most=2)[0] == "candidate 0"
        assert self.by_accuracy([0.896, 0.9], most=2)[0] == "candidate 1"


class TestTheCriterion:
    METHOD = QUICK.model_copy(update={"criterion": "auto", "choice": "loss", "guard_levels": (1.0,)})

    def test_auto_compares_plans_of_several_criteria(self) -> None:
        problem = make_problem()

        self.METHOD.compress(problem)

        tried = {entry["plan"] for entry in problem.decisions["accuracies"]}
        assert {"ranking by fisher", "ranking by bn_scale", "candidate 1 by fisher", "candidate 1 by bn_scale"} <= tried
        assert problem.decisions["criterion"] in {"fisher", "bn_scale"}

    def test_without_a_budget_for_gradients_auto_does_without_them(self) -> None:
        problem = make_problem(BudgetSpec(train_epochs=0.0))

        self.METHOD.compress(problem)

        assert problem.decisions["criterion"] == "bn_scale"


def judge_names(monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan, Problem], str]:
    """A function that names plans: uniform, ranking, or the place among the faster candidates in order of latency."""
    places: dict[tuple[int, ...], str] = {}
    original = Hdap._candidates

    def candidates(self: Hdap, *arguments: object) -> list[Candidate]:
        found = original(self, *arguments)  # type: ignore[arg-type]
        for candidate in found:
            if candidate.is_reference:
                places[tuple(candidate.widths.tolist())] = candidate.name
        others = sorted((c for c in found if not c.is_reference), key=lambda c: c.latency)
        for candidate, place in zip(others, ["fastest", "second", *map(str, range(3, 99))], strict=False):
            places[tuple(candidate.widths.tolist())] = place
        return found

    monkeypatch.setattr(Hdap, "_candidates", candidates)
    return lambda plan, problem: places[tuple(widths_of(plan, problem).tolist())]


class TestIterations:
    METHOD = QUICK.model_copy(update={"iterations": 2, "iteration_epochs": 0.5, "n_plans": 40, "criterion": "fisher"})

    def test_flops_fall_in_steps_and_what_was_removed_stays_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = make_problem()
        between: list[Plan] = []
        original = problem.training.fine_tuned

        def fine_tuned(plan: Plan, epochs: float) -> Plan:
            between.append(original(plan, epochs))
            return between[-1]

        monkeypatch.setattr(problem.training, "fine_tuned", fine_tuned)

        plan = self.METHOD.compress(problem)

        assert len(between) == 1
        dense, target = problem.cost.dense.flops, problem.target_flops
        assert target < flops_of(problem, between[0]) <= (dense * target) ** 0.5 * (1 + 1e-9)
        assert flops_of(problem, plan) <= target
        assert all(set(plan.kept[name]) <= set(between[0].kept[name]) for name in problem.groups)
        assert problem.training.recalibrated_loss(plan) != problem.training.recalibrated_loss(
            plan.model_copy(update={"weights": None})
        )
        assert problem.budget.spent.train_epochs > 0.5

    def test_a_budget_without_training_prunes_on_with_the_dense_weights(self) -> None:
        problem = make_problem(BudgetSpec(train_epochs=0.0))

        plan = self.METHOD.model_copy(update={"criterion": "l1"}).compress(problem)

        assert plan.weights is None
        assert flops_of(problem, plan) <= problem.target_flops


def test_the_public_recipe_weighs_accuracy_as_a_penalty() -> None:
    problem = make_problem()
    method = Hdap.model_validate(
        {"preset": "paper", "n_plans": 40, "evaluations": 60, "iterations": 2, "shortlist": 3, "iteration_epochs": 0.0}
    )

    plan = method.compress(problem)

    assert "penalty" in problem.decisions["why"]
    assert 1 <= sum("accuracy_at_once" in entry for entry in problem.decisions["accuracies"]) <= 3
    assert 0.97 * problem.target_flops <= flops_of(problem, plan) <= problem.target_flops


def test_a_network_of_fewer_plans_than_a_surrogate_needs_gets_the_fastest_measured_one() -> None:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)]
    problem = problem_on(bench_on(nn.Sequential(*layers)), 0.9)

    plan = QUICK.model_copy(update={"round_to": 4}).compress(problem)

    assert plan.widths(list(problem.groups)) == (4, 4)
    assert "a surrogate needs at least 5 measured plans" in problem.decisions["why"]
    assert "the fastest measured plan within the guard" in problem.decisions["why"]


def test_a_plan_is_certified_and_its_story_is_remembered() -> None:
    problem = make_problem()

    plan = QUICK.compress(problem)

    search, rounds = problem.decisions["search"], problem.decisions["rounds"]
    assert search["algorithm"] == "exact"
    assert search["bound"] <= search["value"]
    assert search["gap"] < 0.02
    assert 1 <= len(rounds) <= QUICK.active_plans
    assert all(entry["predicted_ms"] == pytest.approx(entry["measured_ms"], rel=0.2) for entry in rounds)
    assert list(problem.decisions["uniform_widths"].values()) == uniform_widths(problem).tolist()
    assert "the fastest plan" in problem.decisions["why"]
    assert set(plan.kept) == set(problem.decisions["dense_widths"])

    card = read_decisions(problem.decisions)[0].surrogate
    assert card.optimum_error == pytest.approx(rounds[-1]["predicted_ms"] / rounds[-1]["measured_ms"] - 1)
    assert QUICK.n_plans <= card.n_plans <= QUICK.n_plans + QUICK.active_plans
    assert card.plans.mape < 0.2
    assert card.devices is not None
    assert len(card.learning_curve) > 1
    truth = bench_of("resnet20").measurer.on_clusters(widths_of(plan, problem)[None], session=(1,)).latency_ms[0]
    np.testing.assert_allclose(problem.decisions["predicted_ms"], truth, rtol=0.2)


def test_without_active_rounds_the_optimum_is_still_measured_and_its_error_known() -> None:
    problem = make_problem()

    QUICK.model_copy(update={"active_plans": 0}).compress(problem)

    assert len(problem.decisions["rounds"]) == 1
    assert read_decisions(problem.decisions)[0].surrogate.optimum_error is not None


def test_one_device_has_no_prediction_for_the_fleets_clusters() -> None:
    problem = make_problem()

    QUICK.model_copy(update={"devices": "nominal", "active_plans": 0}).compress(problem)

    assert "predicted_ms" not in problem.decisions
    assert read_decisions(problem.decisions)[0].surrogate.devices is None


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
    assert flops_of(problem, plan) <= problem.target_flops


def test_flops_as_the_goal_asks_no_device() -> None:
    problem = make_problem()

    plan = QUICK.model_copy(update={"goal": "flops"}).compress(problem)

    assert problem.budget.spent.device_queries == 0
    assert flops_of(problem, plan) <= problem.target_flops


@pytest.mark.parametrize(
    "searcher", ["exact", "genetic", pytest.param("cma-es", marks=NEEDS_CMA), "ncs", "ncs-refined", "greedy", "random"]
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
