from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hdapbench.errors import PlanError, SurgeryError
from hdapbench.groups import ChannelGroup, GroupMember, GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan, checked_apply, largest_difference, mask_model
from hdapbench.prune.trace import find_groups
from tests.prune.small_networks import SHAPE, Concat, Depthwise, Flatten, Plain, Residual, grouped, seeded


def plan_of(group_set: GroupSet, **kept: tuple[int, ...]) -> Plan:
    """Plan that keeps everything except in the groups named."""
    return Plan(kept={name: tuple(range(size)) for name, size in group_set.sizes.items()} | kept)


def probe() -> torch.Tensor:
    return torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(5))


def test_a_kept_filter_keeps_its_weights_bias_and_statistics():
    model, group_set = grouped(Plain)

    compact = apply_plan(model, group_set, plan_of(group_set, first=(1, 4), second=(0, 3)))

    assert torch.equal(compact.first.weight, model.first.weight[[1, 4]])
    assert torch.equal(compact.second.weight, model.second.weight[[0, 3]][:, [1, 4]])
    assert torch.equal(compact.second.bias, model.second.bias[[0, 3]])
    assert torch.equal(compact.norm.running_var, model.norm.running_var[[1, 4]])
    assert torch.equal(compact.classifier.weight, model.classifier.weight[:, [0, 3]])
    assert torch.equal(compact.classifier.bias, model.classifier.bias)


def test_the_attributes_of_layers_follow_their_weights():
    model, group_set = grouped(Depthwise)

    compact = apply_plan(model, group_set, plan_of(group_set, first=(0, 2, 5), last=(1, 2)))

    assert (compact.first.in_channels, compact.first.out_channels) == (3, 3)
    assert (compact.depthwise.in_channels, compact.depthwise.out_channels, compact.depthwise.groups) == (3, 3, 3)
    assert tuple(compact.depthwise.weight.shape) == (3, 1, 3, 3)
    assert (compact.last.in_channels, compact.classifier.in_features) == (3, 2)


def test_the_original_is_left_alone():
    model, group_set = grouped(Concat)
    before = copy.deepcopy(model.state_dict())

    for change in (apply_plan, mask_model):
        change(model, group_set, plan_of(group_set, left=(0,), right=(3,)))

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_plan_that_keeps_everything_changes_no_output():
    model, group_set = grouped(Residual)

    compact = apply_plan(model, group_set, plan_of(group_set))

    assert torch.equal(compact(probe()), model(probe()))


def test_mode_and_trainability_are_carried_over():
    model = seeded(Plain).train()
    model.first.weight.requires_grad_(False)
    group_set = find_groups(model, SHAPE)

    compact = apply_plan(model, group_set, plan_of(group_set, first=(0, 1)))

    assert compact.training
    assert not compact.first.weight.requires_grad
    assert compact.second.weight.requires_grad


def test_a_compact_model_can_be_trained():
    model, group_set = grouped(Depthwise)
    compact = apply_plan(model, group_set, plan_of(group_set, first=(0, 3), last=(2, 4))).train()

    compact(probe()).sum().backward()

    assert all(parameter.grad.shape == parameter.shape for parameter in compact.parameters())


def test_masking_zeroes_what_makes_and_what_reads_a_removed_channel():
    model, group_set = grouped(Plain)

    masked = mask_model(model, group_set, plan_of(group_set, first=(0, 1, 2, 3, 4)))

    assert masked.first.weight[5].abs().max() == 0
    assert masked.norm.weight[5] == masked.norm.bias[5] == 0
    assert masked.second.weight[:, 5].abs().max() == 0
    assert torch.equal(masked.second.weight[:, :5], model.second.weight[:, :5])


def test_a_channel_that_feeds_a_flatten_is_masked_at_every_position():
    model, group_set = grouped(Flatten)

    masked = mask_model(model, group_set, plan_of(group_set, conv=(0, 1, 3, 4, 5)))

    assert (masked.hidden.weight.abs().sum(0) == 0).nonzero().flatten().tolist() == list(range(32, 48))


def test_groups_that_mistake_a_channel_are_caught_when_they_are_applied():
    model = seeded(Plain)
    right = find_groups(model, SHAPE)
    members = tuple(
        GroupMember("second", "in", entry.indices, tuple(reversed(entry.channels))) if entry.side == "in" else entry
        for entry in right.groups[0].members
    )
    wrong = GroupSet((ChannelGroup("first", 6, members), right.groups[1]))

    with pytest.raises(SurgeryError, match="masked and compact model differ"):
        checked_apply(model, wrong, plan_of(wrong, first=(0, 1)), probe())


def test_outputs_of_different_shape_are_a_surgery_error():
    with pytest.raises(SurgeryError, match="output shape"):
        largest_difference(nn.Linear(4, 3), nn.Linear(4, 2), torch.zeros(1, 4))


def test_outputs_that_are_not_finite_are_a_surgery_error():
    broken = nn.Linear(4, 3)
    nn.init.constant_(broken.weight, float("nan"))

    with pytest.raises(SurgeryError, match="not finite"):
        largest_difference(broken, broken, torch.ones(1, 4))


def test_the_difference_is_reported_with_the_scale_of_the_outputs():
    one, other = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(one.weight, -8.0)
    nn.init.constant_(other.weight, -7.5)

    assert largest_difference(one, other, torch.ones(1, 1)) == (0.5, 8.0)


@pytest.mark.parametrize("change", [apply_plan, mask_model])
@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"first": (0,)}, "group 'second' is not planned"),
        ({"first": (0,), "second": ()}, "keeps no channel"),
        ({"first": (0, 6), "second": (0,)}, "outside 0..5"),
        ({"first": (0,), "second": (0,), "third": (0,)}, "does not exist"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_before_anything_is_cut(change, kept, message):
    model = seeded(Plain)

    with pytest.raises(PlanError, match=message):
        change(model, find_groups(model, SHAPE), Plan(kept=kept))
