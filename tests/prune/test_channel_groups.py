from __future__ import annotations

import contextlib
import copy
import signal

import pytest
import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.groups import ChannelGroup, GroupMember, GroupSet
from hdapbench.plan import Plan
from hdapbench.prune import trace as grouping
from hdapbench.prune.surgery import checked_apply
from hdapbench.prune.trace import find_groups
from hdapbench.prune.verify import verify_groups
from tests.prune.small_networks import (
    SHAPE,
    Chunk,
    Concat,
    Depthwise,
    Flatten,
    Grouped,
    Hushed,
    Narrow,
    OverChannels,
    Plain,
    Residual,
    ZeroPadded,
    grouped,
    seeded,
)
from tests.zoo import random_plan


def reasons(group_set: GroupSet) -> dict[str, str]:
    return {group.name: group.reason for group in group_set.frozen}


def member(group_set: GroupSet, group: str, layer: str) -> GroupMember:
    members = {entry.name: entry for entry in group_set}[group].members
    return next(entry for entry in members if entry.layer == layer)


@pytest.mark.parametrize(
    ("network", "sizes"),
    [
        (Plain, {"first": 6, "second": 4}),
        (Residual, {"stem": 6, "inner": 5}),
        (Depthwise, {"first": 8, "last": 6}),
        (Concat, {"left": 5, "right": 4, "tail": 6}),
        (Flatten, {"conv": 6, "hidden": 7}),
    ],
)
def test_groups_come_in_order_of_execution_with_their_sizes(network, sizes):
    group_set = find_groups(seeded(network), SHAPE)

    assert list(group_set.sizes.items()) == list(sizes.items())


@pytest.mark.parametrize("network", [Plain, Residual, Depthwise, Concat, Flatten, Chunk, ZeroPadded, Grouped, Narrow])
def test_any_plan_of_the_found_groups_computes_what_the_masked_model_computes(network):
    model, group_set = grouped(network)
    probe = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))

    differences = [checked_apply(model, group_set, random_plan(group_set, seed), probe)[1] for seed in range(10)]

    assert max(differences) < 1e-5


def test_an_addition_ties_its_producers_together():
    group_set = find_groups(seeded(Residual), SHAPE)

    assert {group.name: group.producers for group in group_set} == {"stem": ("stem", "outer"), "inner": ("inner",)}


def test_a_depthwise_convolution_loses_both_sides_at_once():
    group_set = find_groups(seeded(Depthwise), SHAPE)

    assert member(group_set, "first", "depthwise").side == "both"


def test_the_consumer_of_a_concat_knows_where_each_branch_begins():
    group_set = find_groups(seeded(Concat), SHAPE)

    assert member(group_set, "left", "tail").indices == (0, 1, 2, 3, 4)
    assert member(group_set, "right", "tail").indices == (5, 6, 7, 8)
    assert member(group_set, "right", "norm").channels == (0, 1, 2, 3)


def test_flattening_gives_each_channel_all_its_positions():
    found = member(find_groups(seeded(Flatten), SHAPE), "conv", "hidden")

    assert found.indices == tuple(range(96))
    assert found.channels == tuple(index // 16 for index in range(96))


def test_the_last_layer_is_frozen_because_its_channels_are_the_output():
    assert "output" in reasons(find_groups(seeded(Plain), SHAPE))["classifier"]


def test_zero_padded_shortcuts_freeze_the_residual_stream_and_leave_the_rest():
    group_set = find_groups(seeded(ZeroPadded), SHAPE)

    assert list(group_set.sizes) == [f"blocks.{number}.conv1" for number in range(4)]
    assert reasons(group_set)["stem"] == "is padded to another width by constant_pad_nd in 'blocks.1'"


def test_a_wrong_group_is_found_even_where_no_output_shows_it():
    every = tuple(range(8))
    wrong = ChannelGroup(
        "stem", 8, (GroupMember("stem", "out", every, every), GroupMember("block.conv1", "in", every, every[::-1]))
    )

    good, bad = verify_groups(seeded(Hushed), [wrong], torch.randn(1, *SHAPE))

    assert not good
    assert "differ" in bad[0].reason or "fails" in bad[0].reason


def test_the_halves_of_a_chunk_lose_the_same_channels():
    group_set = find_groups(seeded(Chunk), SHAPE)

    assert group_set.sizes == {"stem": 8, "split": 8, "inner": 8, "tail": 6}
    assert member(group_set, "split", "split").channels == (*range(8), *range(8))


def test_channels_that_a_softmax_normalises_over_are_frozen():
    group_set = find_groups(seeded(OverChannels), SHAPE)

    assert list(group_set.sizes) == ["second"]
    assert reasons(group_set)["first"] == "its channels meet in _softmax in 'OverChannels'"


def test_grouped_convolutions_lose_as_many_channels_in_every_group():
    group_set = find_groups(seeded(Grouped), SHAPE)

    assert group_set.sizes == {"first": 4, "grouped": 4, "last": 6, "tail": 6}
    assert member(group_set, "first", "grouped").channels == (*range(4), *range(4))


def test_a_group_of_one_channel_is_frozen():
    group_set = find_groups(seeded(Narrow), SHAPE)

    assert list(group_set.sizes) == ["second"]
    assert reasons(group_set)["first"] == "has a single channel"


def test_batch_norm_without_scale_and_shift_is_pruned_with_its_producer():
    bare = nn.BatchNorm2d(8, affine=False)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), bare, nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    bare.running_mean.uniform_(0.5, 1.0)
    group_set = find_groups(model, SHAPE)

    compact, difference = checked_apply(model, group_set, Plan(kept={"0": (2, 3)}), torch.randn(2, *SHAPE))

    assert compact[1].num_features == 2
    assert difference < 1e-6


def test_the_model_is_left_as_it_was():
    model = seeded(Depthwise).train()
    model.first.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())

    find_groups(model, SHAPE)

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert [parameter.requires_grad for parameter in model.first.parameters()] == [False, False]
    assert model.first.weight.grad is None
    assert not model.first._forward_hooks
    assert not model.first._forward_pre_hooks


def test_frozen_parameters_do_not_hide_groups():
    model = seeded(Residual).requires_grad_(False)

    assert list(find_groups(model, SHAPE).sizes) == ["stem", "inner"]


def test_double_precision_models_can_be_traced():
    assert list(find_groups(seeded(Plain).double(), SHAPE).sizes) == ["first", "second"]


def test_finding_groups_twice_gives_the_same():
    model = seeded(Concat)

    assert find_groups(model, SHAPE) == find_groups(model, SHAPE)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), SHAPE, r"no channel group of Sequential can be .*output"),
        (nn.Flatten(), SHAPE, "no layer found"),
        (Plain(), (1, 8, 8), "Plain cannot be traced"),
    ],
)
def test_a_model_that_cannot_be_pruned_is_one_error_with_the_reason(model, shape, message):
    with pytest.raises(ModelError, match=message):
        find_groups(model, shape)


def test_groups_that_exclude_each_other_are_not_all_kept():
    """Each alone may lose its channels, the two together may not: only one of them can be offered."""

    class Exclusive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.tail = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(12, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = self.left(x), self.right(x)
            if left.shape[1] < 6 and right.shape[1] < 6:
                raise ValueError("one side must be whole")
            return self.tail(torch.cat([left, right], 1)).mean((2, 3))

    every = tuple(range(6))
    candidates = [
        ChannelGroup(
            name,
            6,
            (
                GroupMember(name, "out", every, every),
                GroupMember("tail", "in", tuple(index + start for index in every), every),
            ),
        )
        for name, start in (("left", 0), ("right", 6))
    ]

    good, bad = verify_groups(Exclusive().eval(), candidates, torch.randn(1, *SHAPE))

    assert [group.name for group in good] == ["left"]
    assert [(group.name, "conflicts" in group.reason) for group in bad] == [("right", True)]


def test_a_search_for_groups_that_does_not_end_is_given_up_in_one_line(monkeypatch):
    def endless(*_arguments: object) -> None:
        while True:
            with contextlib.suppress(Exception):
                sum(range(100))

    monkeypatch.setattr(grouping, "candidates_of", endless)
    monkeypatch.setattr(grouping, "SEARCH_SECONDS", 0.2)

    with pytest.raises(ModelError, match=r"groups of Plain were not found within 0\.2 s"):
        find_groups(seeded(Plain), SHAPE)
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
