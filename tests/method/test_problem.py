from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hdapbench.bench.limit import Limit
from hdapbench.errors import BudgetExceededError, PlanError, TargetUnreachableError
from hdapbench.method import Plan
from hdapbench.method.plans import filled, flops_of, weakest_that_meets
from hdapbench.method.problem import top_channels
from hdapbench.run.evaluate import Evaluation, evaluate
from hdapbench.spec import BudgetSpec, Recipe
from hdapbench.testing import RecordingProblem, tiny_data, tiny_problem, tiny_workbench


def test_global_scores_remove_channels_until_the_target_is_met_and_no_more() -> None:
    problem = tiny_problem("residual", target=0.6)
    rng = np.random.default_rng(0)
    scores = {name: rng.random(group.n_channels) for name, group in problem.groups.items()}

    plan = problem.plan_by_scores(scores)

    removed = [scores[name][c] for name, kept in plan.kept.items() for c in range(len(scores[name])) if c not in kept]
    stays = [scores[name][c] for name, kept in plan.kept.items() for c in kept if c != np.argmax(scores[name])]
    assert max(removed) <= min(stays)
    last = max(removed)
    one_more = {
        name: tuple(c for c in range(len(scores[name])) if c in plan.kept[name] or scores[name][c] == last)
        for name in scores
    }
    assert flops_of(problem, plan) <= problem.target_flops < flops_of(problem, Plan(kept=one_more))


def test_filling_up_keeps_what_the_plan_keeps_and_adds_the_best() -> None:
    problem = tiny_problem("residual", target=0.6)
    scores = {name: np.arange(group.n_channels, dtype=float) for name, group in problem.groups.items()}
    sparse = Plan(kept=dict.fromkeys(problem.groups, (0,)))

    full = filled(problem, sparse, scores)

    assert all(kept[0] == 0 for kept in full.kept.values())
    assert all(
        set(kept[1:]) == set(range(problem.groups[name].n_channels - len(kept) + 1, problem.groups[name].n_channels))
        for name, kept in full.kept.items()
    )
    assert flops_of(problem, full) <= problem.target_flops


def test_equal_scores_keep_the_lower_channel() -> None:
    assert top_channels(np.array([1.0, 2.0, 1.0, 2.0]), 3) == (0, 1, 3)


def test_the_first_look_at_the_clusters_is_charged_once() -> None:
    problem = tiny_problem("plain")

    assert len(problem.devices.cluster_weights) == 3
    assert problem.devices.cluster_weights.sum() == pytest.approx(1.0)
    assert problem.budget.spent.device_queries == 36  # twelve devices, three probes


def test_latency_is_charged_per_plan_and_cluster_and_repeats_for_a_seed() -> None:
    first, second = tiny_problem("plain"), tiny_problem("plain")

    latency = first.latency(np.stack([first.cost.sizes, first.cost.sizes // 2 + 1]))

    assert latency.shape == (2, 3)
    assert first.budget.spent.device_queries == 36 + 6
    assert (latency == second.latency(np.stack([first.cost.sizes, first.cost.sizes // 2 + 1]))).all()
    assert not (
        latency == first.latency(np.stack([first.cost.sizes, first.cost.sizes // 2 + 1]))
    ).all()  # another session


def test_a_call_beyond_the_budget_charges_nothing_and_says_what_is_left() -> None:
    problem = tiny_problem("plain", budget=BudgetSpec(train_epochs=0.5))

    with pytest.raises(BudgetExceededError, match=r"1 train_epochs asked for, 0.5 left of 0.5"):
        problem.train(problem.model(), epochs=1.0)
    assert problem.budget.spent.train_epochs == 0


def test_the_time_limit_stops_a_method_at_its_next_sign_of_life() -> None:
    problem = tiny_problem("plain", budget=BudgetSpec(wall_seconds=1e-9))

    with pytest.raises(BudgetExceededError, match="time limit"):
        problem.progress("still here")


def test_gradient_importances_are_charged_as_a_share_of_an_epoch() -> None:
    problem = tiny_problem("plain")

    problem.importance("taylor")

    assert problem.budget.spent.train_epochs == 1.0  # all 64 training images


def test_a_family_that_never_meets_the_target_is_out_of_reach() -> None:
    problem = tiny_problem("plain")

    with pytest.raises(TargetUnreachableError, match="at the strongest setting"):
        weakest_that_meets(problem, lambda knob: problem.plan_by_widths(problem.cost.sizes, "l1"))


def test_trained_weights_reach_the_evaluation_through_their_handle() -> None:
    problem = tiny_problem("plain", target=1.0)
    model = problem.model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.get_parameter("classifier.bias")[2] = 1.0  # always answers class 2
    plan = Plan(
        kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()},
        weights=problem.training.keep_weights(model),
    )

    evaluation = evaluate(Evaluation(tiny_workbench("plain"), tiny_data(), None, seed=0), plan)

    assert evaluation.metrics.accuracy == 0.25  # one class in four
    assert evaluation.metrics.mask_difference == 0.0


def test_weights_of_another_shape_are_refused() -> None:
    problem = tiny_problem("plain")

    with pytest.raises(PlanError, match="dense model's shapes"):
        problem.training.keep_weights(torch.nn.Linear(2, 2))


def test_an_evaluation_holds_raw_latencies_of_every_representative() -> None:
    problem = tiny_problem("residual", target=0.6)
    plan = problem.plan_by_importance(dict.fromkeys(problem.groups, problem.solve_ratio()), "l1")

    bench = tiny_workbench("residual")
    evaluation = evaluate(Evaluation(bench, tiny_data(), problem.limit, seed=0), plan)

    metrics = evaluation.metrics
    assert len(evaluation.devices) == 3
    assert all(len(device.samples_ms) == 5 for device in evaluation.devices)
    medians = [float(np.median(device.samples_ms)) for device in evaluation.devices]
    assert metrics.latency_ms == pytest.approx(bench.measurer.clusters.average(np.array([medians])).mean_ms[0])
    assert sum(device.weight for device in evaluation.devices) == pytest.approx(1.0)
    assert metrics.latency_low_ms <= metrics.latency_ms <= metrics.latency_high_ms
    assert metrics.worst_cluster_ms == max(medians)
    assert sum(parameter.numel() for parameter in evaluation.model.parameters()) == metrics.params


def test_gradients_and_training_over_the_same_images_are_charged_alike() -> None:
    bench = replace(tiny_workbench("residual"), recipe=Recipe(epochs=1.0, batch_size=8, max_train_images=16))
    problem = RecordingProblem(bench, Limit.on_flops(bench.network.cost.dense.flops))

    problem.train(problem.model(), 1.0)
    trained = problem.budget.spent.train_epochs
    problem.importance("taylor", n_images=16)

    assert problem.training.n_train_images == 16
    assert trained == problem.budget.spent.train_epochs - trained == 1.0


def test_recalibration_is_charged_alike_before_a_loss_and_before_an_accuracy() -> None:
    by_loss, by_accuracy = tiny_problem("plain"), tiny_problem("plain")
    plan = by_loss.plan_by_widths(by_loss.cost.sizes, "l1")

    by_loss.training.recalibrated_loss(plan)
    by_accuracy.accuracy(plan, recalibrate=64)

    assert by_loss.budget.spent.train_epochs == by_accuracy.budget.spent.train_epochs == pytest.approx(1 / 3, abs=1e-6)


def test_the_last_third_of_a_budget_pays_for_one_evaluation_whatever_rounding_left() -> None:
    problem = tiny_problem("plain", budget=BudgetSpec(train_epochs=0.7, accuracy_evals=3))
    plan = problem.plan_by_widths(problem.cost.sizes, "l1")

    for _ in range(3):  # three times 0.7 / 3 is a little more than 0.7
        problem.accuracy(plan, 0.7 / 3 + 2e-10)

    assert problem.budget.spent.accuracy_evals == 3
