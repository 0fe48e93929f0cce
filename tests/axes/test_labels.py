from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from hdapbench.axes.follow import note
from hdapbench.axes.labels import AxisLabels, tensors_in
from hdapbench.errors import ModelError
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.expand import expand_weights
from hdapbench.prune.surgery import apply_plan, checked_apply
from hdapbench.prune.trace import find_groups
from tests.axes.networks import (
    SHAPE,
    Gates,
    HardCoded,
    Mixer,
    Norms,
    Recurrent,
    Sequence,
    Shuffle,
    Transformer,
    UNet,
    Windows,
)
from tests.zoo import random_plan

GROUPS = {
    Transformer: {"patches": 12, "attention.qkv": 3, "fc1": 16},
    Windows: {"stem": 8, "qkv": 2, "reduction": 16},
    Norms: {"first": 4, "second": 6, "third": 10},
    Shuffle: {"stem": 4, "grouped": 3, "inner": 7, "tail": 6},
    UNet: {"inner": 6, "down": 8, "up": 5, "both": 3, "last": 4},
    Gates: {"stem": 8, "squeeze": 4, "gate": 6},
    Sequence: {"first": 8, "second": 8, "query": 6, "encode": 10},
    Recurrent: {"first": 6, "second": 8, "hidden": 6},
    HardCoded: {"free": 8, "noted": 8},
    Mixer: {"patches": 8, "tokens1": 12, "fc1": 10},
}
networks = pytest.mark.parametrize("network", list(GROUPS), ids=lambda network: network.__name__)


def seeded(network: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return network().eval()


@networks
def test_groups_and_their_sizes(network: type[nn.Module]) -> None:
    found = find_groups(seeded(network), SHAPE)

    assert found.sizes == GROUPS[network], found.frozen


@networks
def test_any_plan_computes_what_the_masked_model_computes(network: type[nn.Module]) -> None:
    model = seeded(network)
    groups = find_groups(model, SHAPE)
    for seed in range(10):
        _, difference = checked_apply(model, groups, random_plan(groups, seed), torch.randn(2, *SHAPE))
        assert difference < 1e-4


@networks
def test_weights_put_back_give_the_compact_model_again(network: type[nn.Module]) -> None:
    model = seeded(network)
    groups = find_groups(model, SHAPE)
    plan = random_plan(groups, 0)
    compact = apply_plan(model, groups, plan)
    with torch.no_grad():
        for parameter in compact.parameters():
            parameter.add_(1.0)

    again = apply_plan(expand_weights(model, compact, groups, plan), groups, plan)

    assert all(torch.equal(value, again.state_dict()[name]) for name, value in compact.state_dict().items())


@networks
def test_sizes_of_all_tensors_follow_from_the_widths(network: type[nn.Module]) -> None:
    model = seeded(network)
    groups = find_groups(model, SHAPE)
    plan = random_plan(groups, 1, least=0.4)  # einsum takes another way where a width is 1

    expected = _sizes(model, groups, plan)
    found = _Shapes()
    compact = apply_plan(model, groups, plan)
    with torch.no_grad(), found:
        compact(torch.zeros(1, *SHAPE))

    assert len(found.shapes) > 10
    assert expected == found.shapes


def test_attention_loses_width_in_every_head_where_that_is_asked_for() -> None:
    model = seeded(Transformer)
    groups = find_groups(model, SHAPE, attention="width")

    _, difference = checked_apply(model, groups, random_plan(groups, 0), torch.randn(2, *SHAPE))

    assert groups.sizes == {"patches": 12, "attention.qkv": 4, "fc1": 16}
    assert difference < 1e-4


def test_a_layer_whose_code_has_numbers_is_frozen_with_what_failed() -> None:
    reasons = {group.name: group.reason for group in find_groups(seeded(HardCoded), SHAPE).frozen}

    assert "the pruned model fails: shape '[1, 6, 64]' is invalid" in reasons["fixed"]


def test_an_operation_without_a_rule_freezes_what_runs_through_it_and_nothing_else() -> None:
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.fft.rfft2(self.first(x)).abs()
            return self.third(torch.relu(self.second(x))).mean((2, 3))

    groups = find_groups(Spectrum(), SHAPE)

    assert groups.sizes == {"second": 6}
    assert "no rule for _fft_r2c in 'Spectrum'" in groups.frozen[0].reason


def test_a_network_with_constants_of_one_precision_in_its_code_is_pruned() -> None:
    class Constants(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            filters = torch.ones(3, 1, 1, 1)
            return self.second(torch.relu(self.first(functional.conv2d(x, filters, groups=3)))).mean((2, 3))

    assert find_groups(Constants(), SHAPE).sizes == {"first": 8}


def test_a_network_that_does_not_run_is_one_error() -> None:
    with pytest.raises(ModelError, match="Norms cannot be traced: "):
        find_groups(seeded(Norms), (4, 8, 8))


class _Shapes(TorchDispatchMode):
    """Shapes of the outputs of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        self.shapes.extend(tuple(tensor.shape) for tensor in tensors_in(output))
        return output


class _Counts(TorchDispatchMode):
    """Sizes of the outputs of all operations, as functions of widths."""

    def __init__(self, labels: AxisLabels) -> None:
        super().__init__()
        self.labels = labels
        self.counts: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        note(self.labels, func, args, kwargs, output)
        self.counts.extend(self.labels.counts(tensor) for tensor in tensors_in(output))
        return output


def _sizes(model: nn.Module, groups: GroupSet, plan: Plan) -> list[tuple[int, ...]]:
    labels = AxisLabels.of_groups(model, groups)
    recorder = _Counts(labels)
    with torch.no_grad(), labels.following(), recorder:
        model(torch.zeros(1, *SHAPE))
    widths = {name: len(kept) for name, kept in plan.kept.items()}
    return [
        tuple(constant + sum(n * widths[group] for group, n in multiples.items()) for constant, multiples in count)
        for count in recorder.counts
    ]
