"""Depth: which blocks go, and that everything about plans without blocks goes a trial's whole way."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hdapbench_methods.depth import Depth, _least_lost

from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.method.plans import flops_of
from hdapbench.spec import BudgetSpec
from tests.methods.worlds import bench_of, problem_on, widths_of


def test_the_blocks_removed_are_those_of_least_loss_among_all_sets_that_save_enough() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        saved, lost = rng.integers(1, 9, 8), rng.normal(0.3, 0.5, 8)
        needed = int(rng.integers(0, saved.sum() + 3))
        sets = np.array(list(product((False, True), repeat=8)))
        enough = sets[sets @ saved >= needed]

        found = _least_lost(saved, lost, needed)

        assert (found is None) == (len(enough) == 0)
        if found is not None:
            assert found @ saved >= needed
            assert found @ lost == pytest.approx((enough @ lost).min())


def test_a_target_above_uniform_prunings_reach_is_met_by_removing_blocks() -> None:
    bench = bench_of("resnet20")
    cost = bench.network.cost
    least = cost.minimum_flops
    problem = problem_on(bench, (least - 1) / cost.dense.flops)

    plan = Depth(criterion="l1", candidates=2).compress(problem)

    assert flops_of(problem, plan) < least
    assert problem.decisions["removed blocks"]


def test_what_is_chosen_is_the_fastest_of_the_candidates_close_to_the_least_loss() -> None:
    problem = problem_on(bench_of("resnet20"), 0.5)

    plan = Depth(criterion="l1", candidates=4, loss_tolerance=0.02).compress(problem)

    seen = problem.decisions["candidates"]
    close = [one for one in seen if one["loss"] <= 1.02 * min(other["loss"] for other in seen)]
    assert problem.decisions["removed blocks"] == min(close, key=lambda one: one["latency_ms"])["removed"]
    assert len({tuple(one["removed"]) for one in seen}) == len(seen) > 2
    assert 0.97 < flops_of(problem, plan) / problem.target_flops <= 1


def test_a_block_that_gives_nothing_adds_no_loss_when_it_is_left_out() -> None:
    bench = bench_of("resnet20")
    problem = problem_on(bench, 0.8)
    norm = bench.network.model.layer2[1].bn2
    before = norm.weight.detach().clone()
    try:
        norm.weight.data.zero_()
        norm.bias.data.zero_()
        Depth(criterion="l1", candidates=2).compress(problem)
    finally:
        norm.weight.data.copy_(before)

    added = problem.decisions["loss added without a block"]
    assert added["layer2.1"] == 0.0
    assert all(added[name] != 0.0 for name in added if name != "layer2.1")


def test_out_of_reach_is_said_and_networks_without_blocks_are_skipped_before_anything_is_spent() -> None:
    problem = problem_on(bench_of("resnet20"), 1e-6)
    with pytest.raises(TargetUnreachableError):
        Depth().compress(problem)
    assert problem.budget.spent.train_epochs == 0
    assert "no residual block" in str(Depth().skip(problem_on(bench_of("mobilenetv1", 32))))


def test_reconstruction_is_paid_for_before_anything_that_is_of_no_use_without_it() -> None:
    bench = bench_of("resnet20")
    spent = problem_on(bench, 0.5, budget=BudgetSpec(train_epochs=0.01))
    with pytest.raises(BudgetExceededError):
        Depth(reconstruct=True).compress(spent)
    assert spent.budget.spent.train_epochs == 0

    plan = Depth(criterion="l1", candidates=2, reconstruct=True, loss_tolerance=1e9).compress(problem_on(bench, 0.5))

    assert plan.weights is not None
    assert np.isfinite(bench.compactor.apply(plan)[1])
    assert widths_of(plan, spent).min() == 0
