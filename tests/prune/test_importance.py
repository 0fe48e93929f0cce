from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from hdapbench.errors import ModelError
from hdapbench.prune.importance import CRITERIA, importance
from hdapbench.prune.trace import find_groups
from tests.prune.small_networks import SHAPE, Concat, Flatten, Plain, Residual, grouped, seeded


def batches(n_batches: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.randn(4, *SHAPE, generator=generator), torch.randint(0, 5, (4,), generator=generator))
        for _ in range(n_batches)
    ]


def filters_of(layer: torch.nn.Module) -> np.ndarray:
    return layer.weight.detach().flatten(1).double().numpy()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_channel_of_every_group_gets_a_finite_score(criterion):
    model, group_set = grouped(Concat if criterion == "bn_scale" else Plain)
    if criterion == "bn_scale":
        group_set = type(group_set)(group_set.groups[:2])

    scores = importance(model, group_set, criterion, batches=batches())

    assert {name: score.shape for name, score in scores.items()} == {n: (s,) for n, s in group_set.sizes.items()}
    assert all(np.isfinite(score).all() and (score >= 0).all() for score in scores.values())


def test_l1_and_l2_are_the_norms_of_the_filters():
    model, group_set = grouped(Plain)
    filters = filters_of(model.first)

    l1, l2 = (importance(model, group_set, criterion)["first"] for criterion in ("l1", "l2"))

    np.testing.assert_allclose(l1, np.abs(filters).sum(1))
    np.testing.assert_allclose(l2, np.sqrt((filters**2).sum(1)))


def test_layers_that_make_the_same_channels_add_their_scores():
    model, group_set = grouped(Residual)

    scores = importance(model, group_set, "l1")["stem"]

    expected = np.abs(filters_of(model.stem)).sum(1) + np.abs(filters_of(model.outer)).sum(1)
    np.testing.assert_allclose(scores, expected)


def test_fpgm_is_the_sum_of_distances_to_the_other_filters():
    model = seeded(Plain)
    filters = filters_of(model.second)

    scores = importance(model, find_groups(model, SHAPE), "fpgm")["second"]

    expected = [sum(np.linalg.norm(one - other) for other in filters) for one in filters]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_fpgm_scores_a_duplicated_filter_below_its_distance_from_zero():
    """The criterion is about redundancy: two equal large filters are near each other, however large."""
    model = seeded(Plain)
    with torch.no_grad():
        model.first.weight.fill_(9.0)
        model.first.weight[0] = -9.0

    scores = importance(model, find_groups(model, SHAPE), "fpgm")["first"]

    assert np.argmax(scores) == 0


def test_lamp_divides_by_the_sum_of_the_filters_that_are_not_smaller():
    model = seeded(Plain)
    squared = (filters_of(model.first) ** 2).sum(1)

    scores = importance(model, find_groups(model, SHAPE), "lamp")["first"]

    expected = [value / squared[squared >= value].sum() for value in squared]
    np.testing.assert_allclose(scores, expected)
    assert scores.max() == 1.0


def test_taylor_is_the_sum_of_weight_times_gradient_of_the_summed_loss():
    model = seeded(Plain)
    twin = copy.deepcopy(model)
    sum(functional.cross_entropy(twin(x), y) for x, y in batches()).backward()
    expected = (twin.first.weight * twin.first.weight.grad).abs().flatten(1).sum(1)

    group_set = find_groups(model, SHAPE)
    taylor = importance(model, group_set, "taylor", batches=batches())
    root = importance(model, group_set, "sqrt_taylor", batches=batches())

    np.testing.assert_allclose(taylor["first"], expected.detach().numpy(), rtol=1e-4)
    np.testing.assert_allclose(root["first"], np.sqrt(taylor["first"]))


def test_taylor_follows_the_loss_it_is_given():
    model, group_set = grouped(Plain)

    scores = importance(model, group_set, "taylor", batches=batches(), loss=lambda outputs, _: outputs.sum() * 0.0)

    assert scores["first"].max() == 0.0


def test_bn_scale_follows_the_norm_behind_a_concat():
    model, group_set = grouped(Concat)
    branches = type(group_set)(group_set.groups[:2])

    scores = importance(model, branches, "bn_scale")

    scale = model.norm.weight.detach().abs().double().numpy()
    np.testing.assert_allclose(np.concatenate([scores["left"], scores["right"]]), scale)


def test_bn_scale_names_the_group_that_has_no_batch_norm():
    model = seeded(Plain)

    with pytest.raises(ModelError, match="needs batch norm after 'second'"):
        importance(model, find_groups(model, SHAPE), "bn_scale")


def test_a_random_score_depends_on_the_seed_alone():
    model, group_set = grouped(Plain)

    first, again, other = (importance(model, group_set, "random", seed=seed)["first"] for seed in (1, 1, 2))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_linear_layers_are_scored_by_their_rows():
    model = seeded(Flatten)

    scores = importance(model, find_groups(model, SHAPE), "l1")["hidden"]

    np.testing.assert_allclose(scores, np.abs(filters_of(model.hidden)).sum(1))


def test_an_unknown_criterion_lists_the_known_ones():
    model = seeded(Plain)

    with pytest.raises(ModelError, match=r"unknown importance criterion 'l3'\. Known: l1, l2, bn_scale"):
        importance(model, find_groups(model, SHAPE), "l3")


@pytest.mark.parametrize("given", [None, []])
def test_gradient_criteria_without_batches_are_refused(given):
    model = seeded(Plain)

    with pytest.raises(ModelError, match="batch"):
        importance(model, find_groups(model, SHAPE), "taylor", batches=given)


def test_weights_without_gradients_are_an_error_and_not_a_score_of_zero():
    model = seeded(Plain)
    model.first.requires_grad_(False)

    with pytest.raises(ModelError, match="'first' gets none"):
        importance(model, find_groups(model, SHAPE), "taylor", batches=batches())


def test_the_model_keeps_weights_statistics_and_mode_and_loses_its_gradients():
    model = seeded(Plain).train()
    group_set = find_groups(model, SHAPE)
    before = copy.deepcopy(model.state_dict())

    importance(model, group_set, "taylor", batches=batches())

    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


class TestFisher:
    def test_is_the_mean_square_over_samples_of_the_slope_along_a_gate(self) -> None:
        model, group_set = grouped(Residual)
        data = batches()
        scores = importance(model, group_set, "fisher", batches=data)

        step = 1e-2
        for group in group_set:
            for channel in range(0, group.n_channels, 3):
                slopes = [
                    (
                        gated_loss(model, group, channel, 1 + step, x, y)
                        - gated_loss(model, group, channel, 1 - step, x, y)
                    )
                    / (2 * step)
                    for images, labels in data
                    for x, y in zip(images.split(1), labels.split(1), strict=True)
                ]
                assert scores[group.name][channel] == pytest.approx(np.mean(np.square(slopes)), rel=0.02, abs=1e-7)

    def test_leaves_no_gradients_and_no_hooks_behind(self) -> None:
        model = seeded(Plain)

        importance(model, find_groups(model, SHAPE), "fisher", batches=batches())

        assert all(parameter.grad is None for parameter in model.parameters())
        assert not any(module._forward_pre_hooks for module in model.modules())

    def test_needs_a_loss_that_depends_on_the_layers(self) -> None:
        model = seeded(Plain)
        groups = find_groups(model, SHAPE)

        with pytest.raises(ModelError, match="at least one batch"):
            importance(model, groups, "fisher", batches=[])
        with pytest.raises(ModelError, match="make sure that the loss depends on the layer"):
            importance(
                model,
                groups,
                "fisher",
                batches=batches(),
                loss=lambda outputs, _: outputs.sum().detach().requires_grad_(),
            )


def gated_loss(model, group, channel, gate, images, labels) -> float:
    """Loss in float64 with one channel of a group scaled in all layers that consume it."""
    twin = copy.deepcopy(model).double()
    modules = dict(twin.named_modules())
    for member in group.members:
        if member.side == "in":
            scale = torch.ones(modules[member.layer].weight.shape[1], dtype=torch.float64)
            for index, follows in zip(member.indices, member.channels, strict=True):
                scale[index] = gate if follows == channel else 1.0
            weight = modules[member.layer].weight
            weight.data *= scale.reshape(1, -1, *[1] * (weight.ndim - 2))
    with torch.no_grad():
        return float(functional.cross_entropy(twin(images.double()), labels))


class ChannelsLast(torch.nn.Module):
    """Linear layers on maps that have their channels last; gates scale the channels between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.f1, self.f2 = torch.nn.Conv2d(3, 6, 3), torch.nn.Linear(6, 6), torch.nn.Linear(6, 5)

    def forward(self, x: torch.Tensor, gate: torch.Tensor | float = 1.0) -> torch.Tensor:
        x = self.a(x).relu().permute(0, 2, 3, 1)  # (n, 6, 6, 6): as many rows and columns as channels
        return self.f2(input=self.f1(x).relu() * gate).mean((1, 2))


def test_fisher_scores_of_layers_with_channels_last_are_those_of_channels():
    model = seeded(ChannelsLast)
    images, labels = batches(1)[0]

    found = importance(model, find_groups(model, SHAPE), "fisher", batches=[(images, labels)])["f1"]

    wanted = np.zeros(6)
    for image, label in zip(images, labels, strict=True):
        gate = torch.ones(6, requires_grad=True)
        functional.cross_entropy(model(image[None], gate), label[None]).backward()
        wanted += gate.grad.numpy() ** 2 / len(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
