from __future__ import annotations

import numpy as np
import pytest
import torch
from hdapbench_methods.halp import Halp, bn_taylor
from torch import nn

from hdapbench.testing import tiny_problem
from tests.methods.worlds import bench_of, problem_on, share_of_uniform, widths_of

FINGERPRINT_QUERIES = 36


def test_the_importance_is_the_taylor_term_of_batch_norms_added_over_tied_layers() -> None:
    problem = tiny_problem("residual")

    scores = bn_taylor(problem, None, 64)

    model = problem.model()
    images, labels = next(iter(problem.training.batches(64)))
    torch.autograd.backward(problem.training.loss(model(images), labels))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    terms = [(norm.weight * norm.weight.grad + norm.bias * norm.bias.grad).abs().detach().numpy() for norm in norms]
    first, inner = problem.groups
    assert scores[first] == pytest.approx(terms[0] + terms[2], rel=1e-4)  # stem and the layer added to it
    assert scores[inner] == pytest.approx(terms[1], rel=1e-4)


def test_channels_that_a_plan_removes_score_nothing() -> None:
    problem = tiny_problem("residual")
    plan = problem.plan_by_widths(np.array([5, 4]), "l1")

    scores = bn_taylor(problem, plan, 64)

    for name, kept in plan.kept.items():
        assert set(np.flatnonzero(scores[name])) <= set(kept)
        assert scores[name][list(kept)].max() > 0


def test_one_device_is_charged_once_per_plan_and_the_fleet_once_per_cluster() -> None:
    single, fleet = (problem_on(bench_of("resnet20")) for _ in range(2))

    Halp(n_plans=20, steps=2).compress(single)
    Halp(n_plans=20, steps=2, fleet=True).compress(fleet)

    assert single.budget.spent.device_queries == 20  # a nominal device needs no fingerprint of the fleet
    assert fleet.budget.spent.device_queries == FINGERPRINT_QUERIES + 20 * len(fleet.devices.cluster_weights)
    assert single.budget.spent.train_epochs == pytest.approx(2.0)  # 64 images a step, which are all there are


def test_widths_are_bundles_and_use_the_target() -> None:
    problem = problem_on(bench_of("resnet20"))

    widths = widths_of(Halp(n_plans=40).compress(problem), problem)

    assert (widths % (problem.cost.sizes // 8) == 0).all()
    assert widths[0] == problem.cost.sizes[0]
    assert 0.97 * problem.target_flops <= problem.cost.flops(widths)[0] <= problem.target_flops


def test_the_first_group_is_given_up_where_the_target_is_out_of_reach_otherwise() -> None:
    problem = problem_on(bench_of("resnet20"), 0.03)

    widths = widths_of(Halp(n_plans=20, steps=2).compress(problem), problem)

    assert widths[0] < problem.cost.sizes[0]


@pytest.mark.parametrize("parameters", [{}, {"fleet": True}, {"table": "measured"}], ids=str)
def test_halp_is_truly_faster_than_uniform_at_equal_flops(parameters: dict[str, object]) -> None:
    problem = problem_on(bench_of("mobilenetv1"))

    plan = Halp.model_validate({"steps": 2, **parameters}).compress(problem)

    assert share_of_uniform(plan, problem, bench_of("mobilenetv1")) < 0.98
