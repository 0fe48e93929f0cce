from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.cost.trace import record_layers
from hdapbench.groups import GroupSet
from hdapbench.prune.surgery import apply_plan
from tests.zoo import needs_yolo, random_plan, traced

NETWORKS = [
    pytest.param("torchvision:resnet50", 64, id="resnet50"),
    pytest.param("mobilenetv1", 64, id="mobilenetv1"),
    pytest.param("resnet56", 32, id="resnet56"),
    pytest.param("vgg16", 32, id="vgg16"),
    pytest.param("ultralytics:yolov8n.yaml", 64, id="yolov8n", marks=needs_yolo),
    pytest.param("torchvision:densenet121", 64, id="densenet121"),
    pytest.param("torchvision:efficientnet_b0", 64, id="efficientnet_b0"),
]


def kernels_of(model: nn.Module, shape: tuple[int, int, int]) -> KernelModel:
    """Kernels of a model as it is, without groups."""
    return KernelModel.from_records(record_layers(model, GroupSet(()), shape), {})


def kinds(kernels: KernelModel) -> dict[str, int]:
    return dict(Counter(kernel.kind for kernel in kernels.kernels))


def residuals(kernels: KernelModel) -> list[str]:
    return [kernel.name for kernel in kernels.kernels if kernel.residual]


@pytest.mark.parametrize(("name", "side"), NETWORKS)
def test_kernels_of_a_plan_are_those_of_the_really_pruned_model(name, side):
    net = traced(name, (3, side, side))
    for seed in range(3):
        plan = random_plan(net.group_set, seed, least=0.1)  # a depthwise layer of one channel is an ordinary one

        in_channels, out_channels = net.kernels.channels(plan.widths(net.kernels.groups))
        real = kernels_of(apply_plan(net.model, net.group_set, plan), net.input_shape)

        real_in, real_out = real.channels(np.zeros((1, 0)))
        assert np.array_equal(in_channels, real_in)
        assert np.array_equal(out_channels, real_out)
        for column, values in net.kernels.table.items():
            assert np.array_equal(values, real.table[column]), column
        assert [kernel.name for kernel in net.kernels.kernels] == [kernel.name for kernel in real.kernels]


def test_resnet50_is_its_convolutions_two_poolings_and_a_classifier():
    kernels = traced("torchvision:resnet50", (3, 64, 64)).kernels

    assert kinds(kernels) == {"conv": 53, "pool": 1, "gap": 1, "fc": 1}


def test_the_addition_of_a_block_is_read_by_the_convolution_that_runs_last():
    kernels = traced("torchvision:resnet50", (3, 64, 64)).kernels

    assert len(residuals(kernels)) == 16
    assert residuals(kernels)[:3] == ["layer1.0.downsample.0", "layer1.1.conv3", "layer1.2.conv3"]


def test_depthwise_convolutions_are_kernels_of_their_own_kind():
    assert kinds(traced("mobilenetv1", (3, 64, 64)).kernels) == {"conv": 14, "dw": 13, "gap": 1, "fc": 1}


@needs_yolo
def test_concatenations_of_yolo_are_free_and_resizes_are_not():
    kernels = traced("ultralytics:yolov8n.yaml", (3, 64, 64)).kernels

    assert kinds(kernels) == {"conv": 72, "pool": 3, "ew": 2}
    assert len(residuals(kernels)) == 6


def test_batch_norm_behind_a_concat_cannot_be_fused():
    n_norms = sum(
        isinstance(module, nn.BatchNorm2d) for module in traced("torchvision:densenet121", (3, 64, 64)).model.modules()
    )

    found = kinds(traced("torchvision:densenet121", (3, 64, 64)).kernels)

    # Each dense layer norms a concat and then its own first convolution; each transition and the end norm a concat.
    assert n_norms == 121
    assert found["ew"] == 62
    assert found["conv"] == 120


class Tail(nn.Module):
    """A convolution, and what a test does with its output."""

    def __init__(self, function, n_outputs: int = 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, n_outputs, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.first(x))


SHAPE = (3, 6, 6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda _, x: functional.relu(x), {"conv": 1}),
        (lambda _, x: functional.silu(x) * 2.0, {"conv": 1}),
        (lambda m, x: x + m.second(x), {"conv": 2}),
        (lambda m, x: x * m.second(x), {"conv": 2, "ew": 1}),
        (lambda _, x: functional.avg_pool2d(x, 2), {"conv": 1, "pool": 1}),
        (lambda _, x: functional.adaptive_avg_pool2d(x, 1), {"conv": 1, "gap": 1}),
        (lambda _, x: x.mean((2, 3)), {"conv": 1, "gap": 1}),
        (lambda _, x: functional.interpolate(x, scale_factor=2.0), {"conv": 1, "ew": 1}),
        (lambda _, x: torch.cat([x, x], 1), {"conv": 1}),
        (lambda _, x: functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2), {"conv": 1, "pool": 2, "ew": 1}),
    ],
)
def test_what_is_fused_and_what_is_a_kernel_of_its_own(function, expected):
    torch.manual_seed(0)

    assert kinds(kernels_of(Tail(function), SHAPE)) == expected


def test_one_convolution_reads_one_residual_and_a_second_addition_is_a_kernel():
    kernels = kernels_of(Tail(lambda m, x: x + m.second(x) + x), SHAPE)

    assert residuals(kernels)[0] == "second"
    assert kinds(kernels) == {"conv": 2, "ew": 1}


def test_a_kernel_keeps_its_geometry():
    kernels = kernels_of(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1)), (3, 9, 5))

    assert {name: values.tolist() for name, values in kernels.table.items()} == {
        "kind": ["conv"],
        "kernel_area": [9],
        "stride": [2],
        "height_out": [5],
        "width_out": [3],
        "area_in": [45],
        "area_out": [15],
        "residual": [0],
    }


def small_kernels() -> KernelModel:
    """A 3x3 convolution of group a with a residual, a depthwise one, and a classifier."""
    wide = ChannelCount(0, {"a": 1})
    records = (
        LayerRecord("conv", "conv", (-1,), ChannelCount(3), wide, 4, 4, 4, 4, kernel_area=9),
        LayerRecord("add", "add", (0, -1), wide, wide, 4, 4, 4, 4),
        LayerRecord("dw", "depthwise", (1,), wide, wide, 4, 4, 4, 4, kernel_area=9),
        LayerRecord("pool", "global_pool", (2,), wide, wide, 4, 4, 1, 1, kernel_area=16),
        LayerRecord("fc", "linear", (3,), wide, ChannelCount(5)),
    )
    return KernelModel.from_records(records, {"a": 8})


def test_channels_come_in_one_row_per_plan_and_one_column_per_kernel():
    in_channels, out_channels = small_kernels().channels([[8], [3]])

    assert in_channels.tolist() == [[3, 8, 8, 8], [3, 3, 3, 3]]
    assert out_channels.tolist() == [[8, 8, 8, 5], [3, 3, 3, 5]]
