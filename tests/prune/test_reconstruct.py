from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hdapbench.errors import ModelError
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.reconstruct import input_statistics, reconstructed
from hdapbench.prune.surgery import mask_model
from hdapbench.prune.trace import find_groups
from tests.prune.small_networks import SHAPE, Concat, Depthwise, Flatten, Plain, Residual, grouped, seeded
from tests.zoo import random_plan

NETWORKS = (Plain, Residual, Depthwise, Concat, Flatten)


def images(n_batches: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(16, *SHAPE, generator=generator) for _ in range(n_batches)]


def outputs(model: nn.Module, layer: str, dense: nn.Module, kept: Plan, group_set: GroupSet) -> torch.Tensor:
    """What a layer of ``model`` gives for the inputs that it has in ``dense``, removed ones zero."""
    taken: list[torch.Tensor] = []
    handle = dict(dense.named_modules())[layer].register_forward_pre_hook(
        lambda module, inputs: taken.append(inputs[0])
    )
    with torch.no_grad():
        for batch in images():
            dense.eval()(batch)
    handle.remove()
    masked = mask_model(model, group_set, kept)
    with torch.no_grad():
        return torch.cat([dict(masked.named_modules())[layer](inputs) for inputs in taken])


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_give_nearly_what_they_gave_from_all_their_inputs(network: type[nn.Module]) -> None:
    model, group_set = grouped(network)
    statistics = input_statistics(model, group_set, images(), positions=10_000)
    n_better = 0
    for seed in range(5):
        plan = random_plan(group_set, seed, least=0.4)
        changed = reconstructed(model, group_set, plan, statistics, ridge=1e-6)
        for layer in statistics.layers:
            # A plan that removes what the layer consumes, and nothing of what it produces.
            inputs = Plan(kept=_only_inputs(plan, group_set, layer))
            if inputs.kept == {name: tuple(range(size)) for name, size in group_set.sizes.items()}:
                continue
            wanted = outputs(model, layer, model, Plan(kept=_all(group_set)), group_set)
            plain, fitted = (outputs(m, layer, model, inputs, group_set) for m in (model, changed))
            errors = [_error(found, wanted) for found in (fitted, plain)]
            assert errors[0] <= errors[1] * (1 + 1e-4), layer
            n_better += errors[0] < 0.98 * errors[1]
    assert n_better >= 3


def _all(group_set: GroupSet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(range(size)) for name, size in group_set.sizes.items()}


def _only_inputs(plan: Plan, group_set: GroupSet, layer: str) -> dict[str, tuple[int, ...]]:
    """The plan where a group feeds the layer and does not hold what it makes; all channels elsewhere."""
    kept = _all(group_set)
    for group in group_set:
        sides = {member.side for member in group.members if member.layer == layer}
        if sides == {"in"}:
            kept[group.name] = plan.kept[group.name]
    return kept


def _error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean squared difference up to a constant per channel, which batch norms and biases take up."""
    difference = found - wanted
    dimensions = [0, 2, 3] if difference.ndim == 4 else [0]
    return float((difference - difference.mean(dimensions, keepdim=True)).square().mean())


def test_a_channel_that_repeats_another_is_made_up_for_exactly() -> None:
    model, group_set = grouped(Plain)
    with torch.no_grad():
        for tensor in (model.first.weight, *model.norm.state_dict().values()):
            if tensor.ndim:
                tensor[4] = tensor[1]
    plan = Plan(kept=_all(group_set) | {"first": tuple(i for i in range(group_set.sizes["first"]) if i != 4)})
    statistics = input_statistics(model, group_set, images(), positions=10_000)

    changed = reconstructed(model, group_set, plan, statistics, ridge=1e-9)

    batch = images(1)[0]
    with torch.no_grad():
        wanted, plain = model(batch), mask_model(model, group_set, plan)(batch)
        found = mask_model(changed, group_set, plan)(batch)
    assert float((plain - wanted).abs().max()) > 1e-2
    assert torch.allclose(found, wanted, atol=1e-3)


def test_a_bias_takes_up_what_a_constant_channel_gave() -> None:
    model, group_set = grouped(Plain)
    last = model.classifier.weight.shape[1] - 1
    statistics = input_statistics(model, group_set, images())
    seen = statistics.layers["classifier"]
    plan = Plan(kept=_all(group_set) | {"second": tuple(range(last))})

    changed = reconstructed(model, group_set, plan, statistics, ridge=1e12)  # so that only the bias moves

    mean = seen.sums[last] / seen.n_rows
    assert torch.allclose(changed.classifier.bias, model.classifier.bias + model.classifier.weight[:, last] * mean)


def test_a_plan_that_removes_nothing_changes_nothing() -> None:
    model, group_set = grouped(Residual)

    changed = reconstructed(model, group_set, Plan(kept=_all(group_set)), input_statistics(model, group_set, images()))

    assert all(torch.equal(value, changed.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_model_that_is_looked_at_stays_as_it_was() -> None:
    model = seeded(Concat).train()
    group_set = find_groups(model, SHAPE)
    before = copy.deepcopy(model.state_dict())

    statistics = input_statistics(model, group_set, images())
    reconstructed(model, group_set, random_plan(group_set, 0, least=0.4), statistics)

    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_same_seed_looks_at_the_same_places() -> None:
    model, group_set = grouped(Plain)

    first, again, other = (input_statistics(model, group_set, images(), seed=seed, positions=2) for seed in (0, 0, 1))

    assert torch.equal(first.layers["second"].products, again.layers["second"].products)
    assert not torch.equal(first.layers["second"].products, other.layers["second"].products)


def test_without_images_nothing_can_be_reconstructed() -> None:
    model = seeded(Plain)

    with pytest.raises(ModelError, match="from images only"):
        input_statistics(model, find_groups(model, SHAPE), [])


def test_padding_that_is_not_of_zeros_is_refused_by_name() -> None:
    model, group_set = grouped(Plain)
    model.second.padding_mode = "reflect"

    with pytest.raises(ModelError, match="reflect"):
        input_statistics(model, group_set, images())


def test_a_last_batch_of_one_image_does_not_stop_recalibration() -> None:
    from hdapbench.testing import tiny_workbench

    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    batch, one = torch.randn(8, 4), torch.randn(1, 4)

    tiny_workbench("plain").trainer.recalibrate(model, [(batch, torch.zeros(8)), (one, torch.zeros(1))])

    assert torch.allclose(model[2].running_mean, model[1](batch).mean(0))
