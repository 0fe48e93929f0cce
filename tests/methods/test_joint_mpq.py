from __future__ import annotations

import pytest
import torch
from hdapbench_methods.joint_mpq import JointMpq

from hdapbench.cost.hardware import hardware_cost, reference_cost
from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.run.evaluate import Evaluation, compact, evaluate, quantize, use_of
from hdapbench.testing import MethodContract, tiny_data, tiny_workbench
from tests.methods.worlds import limited, share_used


class TestJointMpq(MethodContract):
    @pytest.fixture
    def method(self) -> JointMpq:
        return JointMpq(epochs=1.0)


@pytest.mark.parametrize(("kind", "share"), [("size", 0.2), ("mpic", 0.6), ("ne16", 0.7), ("ram", 0.8), ("flash", 0.7)])
@pytest.mark.parametrize("model", ["residual", "depthwise", "concat"])
def test_a_limit_on_any_cost_is_met_and_used(kind, share, model):
    asked = limited(f"{share}x {kind}", model)

    plan = JointMpq(epochs=2.0).compress(asked)

    assert 0.9 < share_used(plan, asked, model) <= 1.0
    assert asked.budget.spent.train_epochs == 2.0


def test_several_limits_hold_at_once_and_one_of_them_is_used():
    asked = limited("0.5x size + 0.8x ram + 0.9x mpic")

    plan = JointMpq(epochs=1.0).compress(asked)

    bench = tiny_workbench("residual")
    use = use_of(asked.limit, bench, quantize(bench, compact(bench, plan)), seed=0)
    assert list(use.shares) == ["size", "mpic", "ram"]
    assert 0.9 < use.share == max(use.shares.values()) <= 1.0
    assert use.excess is None


def test_a_plan_above_one_of_several_limits_says_which():
    asked = limited("0.9x size + 0.5x ram")
    plan = JointMpq(epochs=0.5).compress(limited("0.9x size"))

    bench = tiny_workbench("residual")
    use = use_of(asked.limit, bench, quantize(bench, compact(bench, plan)), seed=0)

    assert use.shares["size"] <= 1.0 < use.shares["ram"]
    assert "(ram), above the target of" in use.excess
    assert "(size)" not in use.excess


def test_latency_beside_other_limits_is_skipped_with_the_reason():
    assert JointMpq().skip(limited("0.9x size + 0.9x latency")) == "meets latency alone, not together with other limits"


@pytest.mark.parametrize("choose", ["channel", "layer", "fixed", "sequence", "ilp", "sigma"])
def test_rivals_meet_the_same_limit_in_their_own_way(choose):
    asked = limited("0.4x size")

    plan = JointMpq(choose=choose, epochs=1.0).compress(asked)

    kinds = {name: set(bits) for name, bits in plan.weight_bits.items()}
    dense = {name: group.n_channels for name, group in asked.groups.items()}
    removed = sum(dense[name] - len(kept) for name, kept in plan.kept.items())
    assert share_used(plan, asked) <= 1.0
    assert (removed > 0) == (choose == "sequence")
    if choose == "fixed":
        assert set().union(*kinds.values()) == {2}
    if choose in {"layer", "ilp", "sigma"}:
        assert all(len(bits) == 1 for bits in kinds.values())
    assert asked.budget.spent.train_epochs == pytest.approx(3.0 if choose == "sequence" else 1.0)


def test_a_limit_below_every_assignment_is_out_of_reach():
    with pytest.raises(TargetUnreachableError, match="with the fewest bits"):
        JointMpq(epochs=0.5).compress(limited("0.001x size"))
    with pytest.raises(TargetUnreachableError, match="2 bits everywhere"):
        JointMpq(choose="fixed").compress(limited("0.1x size"))


def test_no_group_dies_at_the_strongest_limit():
    bench = tiny_workbench("residual")
    layers = bench.quantizer.folded.layers
    fewest = torch.tensor([[s.n_channels - 1, 1] if s.prunable else [0, s.n_channels] for s in layers.selectors])
    least = float(hardware_cost("stored")(layers, layers.counts(fewest, (0, 2)))) / reference_cost("stored", layers)

    plan = JointMpq(epochs=0.5).compress(limited(f"{1.1 * least}x size"))

    assert all(len(kept) >= 1 for kept in plan.kept.values())


def test_training_is_charged_before_it_happens():
    with pytest.raises(BudgetExceededError):
        JointMpq(epochs=2.0).compress(limited("0.3x size", train_epochs=1.5))


def test_the_search_leaves_an_account_of_its_strength():
    asked = limited("0.3x size")

    JointMpq(epochs=4.0).compress(asked)

    costs = [cost for cost, _ in asked.decisions["cost_and_strength"]]
    assert costs[-1] < costs[0]
    assert sum(asked.decisions["channels_at_bits"].values()) == 12 + 10 + 4


def test_activation_bits_are_part_of_the_plan():
    asked = limited("0.5x mpic")

    plan = JointMpq(epochs=2.0, activation_bits="2,4,8").compress(asked)

    assert set(plan.activation_bits.values()) <= {2, 4, 8}
    assert share_used(plan, asked) <= 1.0


def test_a_network_of_an_unknown_node_is_skipped_with_its_name():
    asked = limited("0.3x size")
    bench = tiny_workbench("residual")
    broken = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.GroupNorm(2, 4))
    asked.quantization.folded = lambda: bench.quantizer.fold(broken)

    assert "GroupNorm" in str(JointMpq().skip(asked))


@pytest.mark.parametrize("choose", ["joint", "sequence"])
def test_a_plan_becomes_an_integer_model_whose_weights_cost_what_was_planned(choose):
    asked = limited("0.25x size")
    plan = JointMpq(choose=choose, epochs=2.0).compress(asked)

    evaluation = evaluate(Evaluation(tiny_workbench("residual"), tiny_data(), asked.limit, seed=0), plan)

    bits = evaluation.metrics.bits
    assert bits is not None
    assert bits.stored_bytes == pytest.approx(share_used(plan, asked) * asked.limit.amount)
    assert evaluation.metrics.size_bytes == bits.packed_bytes > bits.stored_bytes > bits.weight_bytes
    assert bits.n_compared == 16
    assert bits.argmax_differences <= 1
    assert evaluation.integer is not None
    assert set(bits.channels_at_bits) <= {2, 4, 8}


def test_the_weights_of_the_search_reach_the_runner():
    asked = limited("0.9x size")
    plan = JointMpq(epochs=3.0).compress(asked)
    dense, _ = tiny_workbench("residual").compactor.apply(plan.model_copy(update={"weights": None}))
    trained, _ = tiny_workbench("residual").compactor.apply(plan)

    x = asked.training.example_input()
    with torch.no_grad():
        assert not torch.allclose(dense(x), trained(x), atol=1e-3)


def test_parameters_survive_the_way_through_a_trial():
    method = JointMpq(weight_bits="2,8", choose="channel")

    assert JointMpq(**method.model_dump(mode="json")) == method


@pytest.mark.parametrize("text", ["", "8,4", "3", "2,2", "0,2"])
def test_bit_widths_that_are_no_ascending_choice_are_refused(text):
    with pytest.raises(ValueError, match="weight_bits"):
        JointMpq(weight_bits=text)
