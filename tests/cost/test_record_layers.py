from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.cost.trace import check_operations, record_layers
from hdapbench.errors import UnknownLayerError
from hdapbench.groups import GroupSet
from hdapbench.prune.trace import find_groups

SHAPE = (3, 8, 8)
NO_GROUPS = GroupSet(())


class Branches(nn.Module):
    """Two branches, one added to the stem, both concatenated, pooled, upsampled and classified."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.left, self.right = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 4, 1)
        self.pool = nn.MaxPool2d(2)
        self.classifier = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        x = torch.cat([x + self.left(x), self.right(x)], 1)
        x = functional.interpolate(self.pool(x), scale_factor=2.0)
        return self.classifier(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def records_of(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> tuple[LayerRecord, ...]:
    return record_layers(model, NO_GROUPS, shape)


def costs_of(model: nn.Module, shape: tuple[int, int, int] = SHAPE) -> tuple[int, int]:
    """FLOPs and parameters of a model without groups."""
    dense = CostModel.from_records(records_of(model, shape), {}).dense
    return dense.flops, dense.params


class Calls(nn.Module):
    """One layer, and a forward pass given as a function."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)
        self.function = forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layers, x)


def test_operations_are_noted_in_order_of_execution():
    records = records_of(Branches())

    assert [record.kind for record in records] == [
        "conv",
        "norm",
        "conv",
        "add",
        "conv",
        "concat",
        "pool",
        "elementwise",
        "global_pool",
        "linear",
    ]
    assert [record.name for record in records if record.kind in {"conv", "norm", "linear"}] == [
        "stem",
        "norm",
        "left",
        "right",
        "classifier",
    ]


def test_operations_know_whose_outputs_they_read():
    records = records_of(Branches())
    names = [record.name for record in records]
    added, joined = (next(record for record in records if record.kind == kind) for kind in ("add", "concat"))

    assert set(added.inputs) == {names.index("norm"), names.index("left")}
    assert set(joined.inputs) == {names.index("add"), names.index("right")}
    assert records[0].inputs == (-1,)


def test_channels_are_functions_of_the_groups_widths():
    model = Branches()
    group_set = find_groups(model, SHAPE)
    records = {record.name: record for record in record_layers(model, group_set, SHAPE)}

    assert records["stem"].channels_in == ChannelCount(3)
    assert records["stem"].channels_out == ChannelCount(0, {"stem": 1})
    assert records["add"].channels_out == ChannelCount(0, {"stem": 1})
    assert records["pool"].channels_out == ChannelCount(0, {"stem": 1, "right": 1})
    assert records["classifier"].channels_in == ChannelCount(0, {"stem": 1, "right": 1})


def test_sizes_windows_and_strides_are_noted():
    records = {record.name: record for record in records_of(Branches())}

    stem, pool = records["stem"], records["pool"]
    assert (stem.height_in, stem.width_in, stem.height_out, stem.width_out) == (8, 8, 4, 4)
    assert (stem.kernel_area, stem.stride, stem.bias) == (9, 2, False)
    assert (pool.kernel_area, pool.area_in, pool.area_out) == (4, 16, 4)
    assert records["left"].bias


def test_records_are_plain_json():
    records = records_of(Branches())

    assert json.loads(json.dumps([dataclasses.asdict(record) for record in records]))[0]["name"] == "stem"


def test_the_model_is_left_alone():
    model = Branches().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    records_of(model)

    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_layer_that_runs_twice_costs_twice_and_is_stored_once():
    conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)

    once = costs_of(Calls(lambda layers, x: layers["conv"](x), conv=conv))
    twice = costs_of(Calls(lambda layers, x: layers["conv"](layers["conv"](x)), conv=conv))

    assert once == (81 * 64, 81)
    assert twice == (2 * 81 * 64, 81)


def test_a_layer_that_never_runs_costs_parameters_alone():
    model = Calls(lambda layers, x: layers["a"](x), a=nn.Conv2d(3, 2, 1), b=nn.Linear(10, 10))

    assert costs_of(model) == (6 * 64, 8 + 110)


@pytest.mark.parametrize(
    ("layer", "flops", "params"),
    [
        (nn.Conv2d(3, 5, (1, 3), padding=(0, 1)), 3 * 5 * 3 * 64, 3 * 5 * 3 + 5),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 6 * 9 * 64, 6 * 9 + 6),  # two filters per channel
        (nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), 3 * 9 * 64, 27),
        (nn.Conv2d(3, 5, 3, padding=2, dilation=2), 3 * 5 * 9 * 64, 3 * 5 * 9 + 5),
        (nn.Linear(8, 4), 3 * 8 * 8 * 4, 36),  # applied to 3 x 8 positions
        (nn.BatchNorm2d(3), 0, 6),
        (nn.BatchNorm2d(3, affine=False), 0, 0),
        (nn.GroupNorm(1, 3), 0, 6),
        (nn.LayerNorm(8), 0, 16),
        (nn.LayerNorm([3, 8, 8]), 0, 384),
    ],
)
def test_every_known_layer_is_counted_exactly(layer, flops, params):
    assert costs_of(nn.Sequential(layer)) == (flops, params)
    assert params == sum(parameter.numel() for parameter in layer.parameters())


def test_layers_called_by_keyword_are_counted():
    assert costs_of(Calls(lambda layers, x: layers["conv"](input=x), conv=nn.Conv2d(3, 2, 1))) == (6 * 64, 8)


def test_pooling_that_returns_indices_is_traced():
    model = Calls(lambda layers, x: layers["pool"](x)[0], pool=nn.MaxPool2d(2, return_indices=True))

    assert [record.kind for record in records_of(model)] == ["pool"]


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: torch.dot(x.flatten(), x.flatten()), "dot"),
        (lambda x: x[0, 0] @ x[0, 0, 0], "mv"),
        (lambda x: torch.cdist(x[0], x[0]), "cdist"),
        (lambda x: torch.fft.fft2(x).real, "fft"),
        (lambda x: functional.bilinear(x, x, torch.ones(4, 8, 8)), "trilinear"),
        (torch.linalg.inv, "linalg_inv"),
        (lambda x: torchvision.ops.deform_conv2d(x, torch.ones(1, 2, 8, 8), torch.ones(4, 3, 1, 1)), "deform_conv2d"),
    ],
)
def test_arithmetic_without_a_rule_is_an_error_that_names_operation_and_module(operation, name):
    with pytest.raises(UnknownLayerError, match=rf"no cost rule for the operation '\w*{name}\w*' in Calls"):
        records_of(Calls(lambda _, x: operation(x)))


def test_a_squeeze_and_excitation_gate_is_an_elementwise_operation():
    model = Calls(
        lambda layers, x: x * torch.sigmoid(layers["gate"](layers["pool"](x))),
        pool=nn.AdaptiveAvgPool2d(1),
        gate=nn.Conv2d(3, 3, 1),
    )

    records = records_of(model)

    assert [record.kind for record in records] == ["global_pool", "conv", "elementwise"]
    assert records[-1].area_out == 64


def channels_last(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    x = layers["a"](x).permute(0, 2, 3, 1)
    x = x + layers["f"](x)
    x = torch.cat([x, x], 3)
    return layers["g"](x.transpose(1, 3).mean((2, 3), keepdim=True).flatten(1))


def channels_first(layers: nn.ModuleDict, x: Tensor) -> Tensor:
    x = layers["a"](x)
    x = x + layers["f"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    x = torch.cat([x, x], 1)
    return layers["g"](x.transpose(2, 3).mean((2, 3), keepdim=True).flatten(1))


def test_maps_with_channels_last_are_noted_as_those_with_channels_first():
    shape = (3, 8, 10)
    made = [
        Calls(run, a=nn.Conv2d(3, 6, 3), f=nn.Linear(6, 6), g=nn.Linear(12, 5))
        for run in (channels_last, channels_first)
    ]
    last, first = (records_of(model, shape) for model in made)

    assert [record.kind for record in last] == ["conv", "linear", "add", "concat", "global_pool", "linear"]
    area = [(record.height_in * record.width_in, record.channels_out) for record in last]
    assert area == [(record.height_in * record.width_in, record.channels_out) for record in first]
    assert last[2].height_out * last[2].width_out == 6 * 8


@pytest.mark.parametrize(
    ("wide", "told"),
    [
        (lambda layers, x: x.sum() == 0, "Python reads a value of the image itself"),
        (lambda layers, x: layers["a"](x).max().item() > 1e9, r"Python reads a value after 'layers\.a'"),
        (lambda layers, x: x.numpy().max() > 8, r"\(control flow on data\), first at 'layers\.[ab]'"),
        (lambda layers, x: x.numpy().mean() < 0, r"\(control flow on data\), first at 'layers\.[ab]'"),
    ],
)
def test_a_network_whose_operations_depend_on_the_image_is_refused(wide, told):
    layers = {"a": nn.Conv2d(3, 4, 3), "b": nn.Conv2d(3, 4, 1)}
    model = Calls(lambda layers, x: layers["a"](x) if wide(layers, x) else layers["b"](x), **layers)

    with pytest.raises(UnknownLayerError, match=f"computes depends on the image.*{told}"):
        check_operations(model, SHAPE)
