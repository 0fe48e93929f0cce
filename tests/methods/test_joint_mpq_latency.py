from __future__ import annotations

import numpy as np
import pytest
import torch
from hdapbench_methods.joint_mpq import JointMpq
from hdapbench_methods.joint_mpq.latency import ROUNDS, FleetLatency, WidthCost

from hdapbench.errors import TargetUnreachableError
from hdapbench.method import Plan, Problem
from hdapbench.testing import tiny_workbench
from tests.methods.worlds import limited, share_used


def n_kept(plan: Plan) -> int:
    return sum(len(kept) for kept in plan.kept.values())


def gradient(cost: WidthCost, widths: list[float]) -> np.ndarray:
    leaf = torch.tensor(widths, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(cost(leaf), leaf)
    return found.numpy()


def test_the_gradient_of_a_smooth_cost_is_that_of_finite_differences():
    def predict(widths):
        return 0.5 * widths[:, 0] + 0.01 * widths[:, 0] * widths[:, 1] + 3.0

    at = [20.0, 7.0]
    steps = np.eye(2, dtype=np.int64)
    whole = np.array(at, dtype=np.int64)
    differences = [(predict((whole + step)[None]) - predict((whole - step)[None]))[0] / 2 for step in steps]

    assert gradient(WidthCost(predict, np.array([32, 16])), at) == pytest.approx(differences)


@pytest.mark.parametrize("width", [1.0, 16.0, 33.4, 47.9, 64.0])
def test_the_gradient_on_a_staircase_is_what_tiles_cost_however_far_the_next_step(width):
    cost = WidthCost(lambda widths: np.ceil(widths[:, 0] / 32) * 5.0, np.array([64]))

    assert gradient(cost, [width]) == pytest.approx([5.0 / 32])


def test_a_group_of_one_channel_has_no_slope():
    assert gradient(WidthCost(lambda widths: widths[:, 0].astype(float), np.array([1])), [1.0]) == [0.0]


def test_soft_counts_pay_for_kept_channels_whatever_their_bits():
    asked = limited("0.97x latency")
    latency = FleetLatency.fitted(asked, n_plans=30, least_channels=1)
    layers = asked.quantization.folded().layers
    sizes = torch.tensor([[float(s.n_channels)] for s in layers.selectors], dtype=torch.float64)
    channels = (sizes * torch.tensor([[0.4, 0.1, 0.2, 0.3]], dtype=torch.float64)).requires_grad_()

    (found,) = torch.autograd.grad(latency(layers, layers.counts(channels, (0, 2, 4, 8))), channels)

    prunable = torch.tensor([selector.prunable for selector in layers.selectors])
    assert bool((found[:, 0] == 0).all())
    assert bool((found[:, 1:] == found[:, 1:2]).all())
    assert bool((found[prunable, 1] > 0).all())
    assert bool((found[~prunable] == 0).all())
    dense = layers.counts(sizes, (8,))
    assert float(latency(layers, dense)) == pytest.approx(1.0)


@pytest.mark.parametrize("model", ["residual", "depthwise", "concat"])
def test_the_measured_latency_holds_the_limit_and_kept_channels_have_the_greatest_bits(model):
    asked = limited("0.96x latency", model, train_epochs=2.0)

    plan = JointMpq(epochs=2.0).compress(asked)

    assert 0.95 < share_used(plan, asked, model) <= 1.0
    assert {value for bits in plan.weight_bits.values() for value in bits} == {8}
    assert asked.decisions["measured_latency_shares"]


def test_wider_limits_keep_more_channels():
    kept = [n_kept(JointMpq(epochs=2.0).compress(limited(f"{share}x latency"))) for share in (0.92, 0.96, 1.0)]

    assert kept[0] < kept[1] < kept[2] == tiny_workbench("residual").network.cost.sizes.sum()


def test_an_absolute_limit_is_met_in_ms():
    bench = tiny_workbench("residual")
    allowed_ms = 0.95 * bench.measurer.average_ms(bench.network.cost.sizes, session=("score", 0))

    plan = JointMpq(epochs=1.0).compress(limited(f"{allowed_ms:.6f}ms latency"))

    assert bench.measurer.average_ms(plan.widths(list(plan.kept)), session=("score", 0)) <= allowed_ms


def test_descent_meets_a_latency_too():
    asked = limited("0.96x latency")

    plan = JointMpq(epochs=2.0, preset="paper").compress(asked)

    assert share_used(plan, asked) <= 1.0


@pytest.mark.parametrize("target", ["0.3x size", "0.8x mpic", "0.8x ne16"])
def test_a_limit_that_knows_no_fleet_costs_no_device_queries(target):
    asked = limited(target, device_queries=0)

    JointMpq(epochs=1.0).compress(asked)

    assert asked.budget.spent.device_queries == 0


def test_a_latency_below_that_of_single_channels_is_refused_before_anything_is_trained():
    asked = limited("0.5x latency")

    with pytest.raises(TargetUnreachableError, match=r"fewest channels the fleet still takes .* above the limit of 50"):
        JointMpq(epochs=2.0).compress(asked)
    assert asked.budget.spent.train_epochs == 0.0
    assert asked.budget.spent.device_queries == 36 + 2 * 3  # the fingerprint, and two plans on three devices


@pytest.mark.parametrize("choose", ["channel", "layer", "fixed", "sequence"])
def test_rivals_that_choose_bits_are_skipped_under_a_latency(choose):
    assert "choose: joint" in str(JointMpq(choose=choose).skip(limited("0.9x latency")))


def held(asked: Problem, find) -> dict[str, tuple[int, ...]]:
    names = [selector.name for selector in asked.quantization.folded().layers.selectors]
    cost = WidthCost(lambda widths: widths.sum(1) / asked.cost.sizes.sum(), asked.cost.sizes)
    return FleetLatency(asked, cost, tuple(names.index(name) for name in asked.groups), 0.9).held(find)


def test_predictions_that_err_are_made_up_for_by_what_is_measured():
    asked = limited("0.95x latency")
    aims = []

    def find(limit: float) -> dict[str, tuple[int, ...]]:
        aims.append(limit)  # as if latency fell by a tenth of what channels fall
        share = min(1.0, max(0.0, 1.0 - 8.0 * (0.98 - limit)))
        return {
            name: tuple(8 * (channel < max(1, round(share * group.n_channels))) for channel in range(group.n_channels))
            for name, group in asked.groups.items()
        }

    bits = held(asked, find)

    plan = Plan(kept={name: tuple(c for c, b in enumerate(bits[name]) if b) for name in asked.groups})
    assert share_used(plan, asked) <= 1.0
    assert asked.decisions["measured_latency_shares"][0] > 0.95
    assert len(aims) > 1
    assert aims[1] < aims[0]


def test_a_search_that_never_holds_the_limit_says_what_was_measured():
    asked = limited("0.95x latency")
    dense = {name: (8,) * group.n_channels for name, group in asked.groups.items()}
    aims = []

    with pytest.raises(TargetUnreachableError, match=r"holds the limit of 95\.00% .*: 100\.00%"):
        held(asked, lambda limit: (aims.append(limit), dense)[1])
    assert len(aims) == ROUNDS
    assert asked.budget.spent.device_queries == 36 + 4 * 2 * 3  # the same channels are measured once


def test_ids_of_trials_from_before_latency_targets_stay():
    later = {"n_plans", "removal_factor", "preset", "warm_up"}
    assert later.isdisjoint(JointMpq().model_dump(mode="json"))
    assert JointMpq(**JointMpq(n_plans=20).model_dump(mode="json")).n_plans == 20
