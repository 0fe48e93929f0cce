from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.hrank import rank_importance
from hdapbench.prune.importance import importance
from hdapbench.prune.reconstruct import RIDGE, InputStatistics, input_statistics, reconstructed
from hdapbench.prune.selection import exchanged, selection_importance
from hdapbench.testing import tiny_problem
from tests.prune.small_networks import SHAPE, Concat, Depthwise, Flatten, Plain, Residual, grouped


def images(n_batches: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(16, *SHAPE, generator=generator) for _ in range(n_batches)]


def looked_at(network: type[nn.Module]) -> tuple[nn.Module, GroupSet, InputStatistics]:
    model, groups = grouped(network)
    return model, groups, input_statistics(model, groups, images())


def without(groups: GroupSet, name: str, gone: set[int]) -> Plan:
    """Plan that removes some channels of one group."""
    return Plan(
        kept={
            group.name: tuple(c for c in range(group.n_channels) if group.name != name or c not in gone)
            for group in groups
        }
    )


def lost(model: nn.Module, groups: GroupSet, seen: InputStatistics, name: str, gone: set[int]) -> float:
    """Penalised error of the outputs after reconstruction, relative to their variance, added over the layers."""
    fitted = reconstructed(model, groups, without(groups, name, gone), seen)
    group = next(group for group in groups if group.name == name)
    total = 0.0
    for member in group.members:
        if member.side != "in" or member.layer not in seen.layers:
            continue
        before, after = (m.get_submodule(member.layer).weight.detach().flatten(1).double() for m in (model, fitted))
        area = (
            before.shape[1]
            // len(seen.layers[member.layer].sums)
            * model.get_submodule(member.layer).weight[0, 0].numel()
        )
        removed = [i for i, channel in zip(member.indices, member.channels, strict=True) if channel in gone]
        for index in removed:
            after[:, index * area : (index + 1) * area] = 0.0
        covariance = seen.layers[member.layer].covariance().double()
        covariance.diagonal().add_(RIDGE * covariance.diagonal().mean())
        change = after - before
        total += float(0.5 * ((change @ covariance) * change).sum() / ((before @ covariance) * before).sum())
    return total


@pytest.mark.parametrize("network", [Plain, Residual, Depthwise, Concat, Flatten])
def test_osscar_scores_the_first_channel_by_what_reconstruction_cannot_make_up_for(network: type[nn.Module]) -> None:
    model, groups, seen = looked_at(network)

    scores = selection_importance(model, groups, seen, "osscar")

    for name, found in scores.items():
        alone = [lost(model, groups, seen, name, {channel}) for channel in range(len(found))]
        assert int(np.argmin(found)) == int(np.argmin(alone))
        assert min(found) == pytest.approx(min(alone), rel=0.1)  # the ridge is relative to all inputs, not those kept


def test_a_channel_that_others_can_stand_in_for_goes_first_however_large() -> None:
    model, groups = grouped(Plain)
    with torch.no_grad():  # channels 0 and 1 carry the same, channel 0 much of it
        model.first.weight[0] = 3 * model.first.weight[1]
        model.norm.weight.fill_(1.0)
        model.norm.bias.zero_()
        model.second.weight[:, 0] *= 5

    found = importance(model, groups, "osscar", batches=[(batch, torch.zeros(16)) for batch in images()])["first"]

    assert set(np.argsort(found)[:1].tolist()) <= {0, 1}
    assert np.argmax(importance(model, groups, "consumers")["first"]) == 0


@pytest.mark.parametrize("network", [Plain, Residual, Concat])
def test_exchanges_never_end_worse_than_they_began_and_often_at_the_best_of_all_choices(
    network: type[nn.Module],
) -> None:
    model, groups, seen = looked_at(network)
    scores = selection_importance(model, groups, seen, "osscar")
    n_best = n_all = 0
    for name, size in groups.sizes.items():
        for width in range(1, size):
            begun = set(np.argsort(scores[name])[: size - width].tolist())

            kept = exchanged(model, groups, seen, without(groups, name, begun).kept)[name]

            gone = set(range(size)) - set(kept)
            assert len(kept) == width
            errors = [
                lost(model, groups, seen, name, set(choice))
                for choice in itertools.combinations(range(size), size - width)
            ]
            found = lost(model, groups, seen, name, gone)
            assert found <= lost(model, groups, seen, name, begun) * 1.02
            n_best += found <= min(errors) * 1.02
            n_all += 1
    assert n_best >= 0.7 * n_all


@pytest.mark.parametrize("network", [Plain, Flatten])
def test_thinet_scores_add_up_to_the_mean_square_of_what_removed_channels_gave(network: type[nn.Module]) -> None:
    model, groups, seen = looked_at(network)
    name, layer = ("first", "second") if network is Plain else (groups.names[-1], None)
    group = next(group for group in groups if group.name == name)
    layer = layer or next(member.layer for member in group.members if member.side == "in")
    weight = model.get_submodule(layer).weight.detach().flatten(1).double()
    products = seen.layers[layer].products.double()

    found = selection_importance(model, groups, seen, "thinet")[name]

    squares = []
    for channel in range(group.n_channels):
        member = next(member for member in group.members if member.layer == layer)
        area = len(products) // (max(member.indices) + 1)
        own = torch.zeros(len(products), dtype=torch.bool)
        for index, followed in zip(member.indices, member.channels, strict=True):
            if followed == channel:
                own[index * area : (index + 1) * area] = True
        squares.append(float(((weight * own) @ products * (weight * own)).sum() / ((weight @ products) * weight).sum()))
    assert int(np.argmin(found)) == int(np.argmin(squares))
    assert min(found) == pytest.approx(min(squares), rel=1e-4)


def test_hrank_is_the_mean_rank_of_what_consumers_read() -> None:
    model, groups = grouped(Plain)
    taken = []
    model.second.register_forward_pre_hook(lambda _module, inputs: taken.append(inputs[0]))
    with torch.no_grad():
        model(torch.cat(images()))

    found = rank_importance(model, groups, images())

    ranks = [[np.linalg.matrix_rank(image[channel].numpy()) for image in taken[0]] for channel in range(6)]
    assert found["first"] == pytest.approx(np.mean(ranks, axis=1))
    assert found["second"].min() > 1  # read by a linear layer after pooling: ranked where it is still a map


def test_criteria_that_look_at_images_say_what_they_lack() -> None:
    model, groups = grouped(Plain)

    with pytest.raises(ModelError, match="needs batches"):
        importance(model, groups, "thinet")
    with pytest.raises(ModelError, match="needs images"):
        rank_importance(model, groups, [])


def test_choosing_by_reconstruction_and_reconstructing_pay_for_the_same_images_once() -> None:
    problem = tiny_problem("residual")

    plan = problem.plan_by_widths(np.array([8, 6]), "osscar")
    problem.importance("thinet")
    problem.training.reconstructed(plan)

    assert problem.budget.spent.train_epochs == pytest.approx(1 / 3, abs=1e-6)  # all 64 images, looked at
    problem.importance("osscar", model=problem.model())
    assert problem.budget.spent.train_epochs == pytest.approx(2 / 3, abs=1e-6)
    problem.importance("hrank")
    assert problem.budget.spent.train_epochs == pytest.approx(1.0, abs=1e-6)


def test_the_kept_channels_are_those_of_the_local_search_where_the_criterion_is_named() -> None:
    problem = tiny_problem("residual")
    widths = dict(zip(problem.groups, (5, 4), strict=True))

    plan = problem.plan_by_widths(widths, "osscar")

    groups, seen = GroupSet(tuple(problem.groups.values())), problem.training.inputs()
    begun = problem.plan_by_widths(widths, selection_importance(problem.model(), groups, seen, "osscar"))
    assert plan.kept == exchanged(problem.model(), groups, seen, begun.kept)
