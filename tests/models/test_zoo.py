from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hdapbench.errors import MissingExtraError, ModelError
from hdapbench.models import ZOO, build_model
from hdapbench.models import yolo as yolo_module
from hdapbench.spec import ModelSpec


def build(name: str, input_shape: tuple[int, int, int] = (3, 32, 32), n_classes: int = 10, **arguments: object):
    spec = ModelSpec(name=name, input_shape=input_shape, arguments=arguments)
    return build_model(spec, n_classes=n_classes, base_dir=Path())


def multiply_accumulates(model: torch.nn.Module, input_shape: tuple[int, int, int]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *input_shape))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "input_shape", "n_classes", "flops", "params"),
    [
        ("resnet20", (3, 32, 32), 10, 40_813_184, 272_474),
        ("resnet56", (3, 32, 32), 10, 125_747_840, 855_770),
        ("vgg16", (3, 32, 32), 10, 313_201_664, 14_724_042),
        ("vgg7", (1, 16, 16), 10, 8_333_824, 1_128_938),
        ("mobilenetv1", (3, 224, 224), 1000, 568_740_352, 4_231_976),
        ("torchvision:resnet50", (3, 224, 224), 1000, 4_089_184_256, 25_557_032),
        ("resnet8", (3, 32, 32), 10, 12_501_632, 78_058),
        ("dscnn", (1, 49, 10), 12, 2_656_768, 23_756),
        ("resnet18-64px", (3, 64, 64), 200, 2_221_772_800, 11_271_432),
    ],
)
def test_models_have_the_published_costs(name, input_shape, n_classes, flops, params):
    model = build(name, input_shape, n_classes)

    assert sum(parameter.numel() for parameter in model.parameters()) == params
    assert multiply_accumulates(model, input_shape) == flops


def test_resnet56_with_padding_shortcuts_has_the_published_costs():
    model = build("resnet56", shortcuts="padding")

    assert sum(parameter.numel() for parameter in model.parameters()) == 853_018
    assert multiply_accumulates(model, (3, 32, 32)) == 125_485_696


@pytest.mark.parametrize(
    ("name", "input_shape", "n_classes", "weights"),
    [
        ("resnet8", (3, 32, 32), 10, [432, 2304, 2304, 4608, 9216, 512, 18432, 36864, 2048, 640]),
        ("dscnn", (1, 49, 10), 12, [2560, *[576, 4096] * 4, 768]),
    ],
)
def test_tiny_models_have_the_published_layers(name, input_shape, n_classes, weights):
    model = build(name, input_shape, n_classes)

    assert [p.numel() for key, p in model.named_parameters() if key.endswith("weight") and p.ndim > 1] == weights


def test_ds_cnn_works_on_maps_of_25_by_5():
    shapes = []
    model = build("dscnn", (1, 49, 10), 12)
    model.pool.register_forward_pre_hook(lambda _, inputs: shapes.append(tuple(inputs[0].shape)))

    model(torch.zeros(2, 1, 49, 10))

    assert shapes == [(2, 64, 25, 5)]


@pytest.mark.parametrize(
    ("name", "arguments", "input_shape"),
    [
        ("resnet20", {}, (1, 16, 16)),
        ("mobilenetv1", {"small_input": True}, (1, 16, 16)),
        ("mobilenetv1", {"small_input": True}, (3, 32, 32)),
        ("vgg16", {}, (1, 48, 32)),
    ],
)
def test_input_channels_come_from_the_input_shape(name, arguments, input_shape):
    model = build(name, input_shape, 7, **arguments)

    assert model(torch.zeros(2, *input_shape)).shape == (2, 7)


def test_equal_seeds_give_equal_initial_weights():
    weights = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        weights.append(build("resnet20").conv1.weight)

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("resnet20", {"shortcuts": "none"}, "write projection or padding"),
        ("resnet57", {}, "did you mean 'resnet56'"),
        ("mobilenetv1", {"width": 2}, r"\['width'\]; it takes: small_input"),
        ("vgg16", {"input_shape": (3, 16, 16)}, "32x32"),  # its poolings use up smaller images
        ("vgg7", {"input_shape": (1, 7, 7)}, "8x8"),
        ("torchvision:resnet5O", {}, "did you mean 'resnet50'"),
        ("torchvision:resnet18", {"input_shape": (1, 32, 32)}, "3 input channels"),
        ("torchvision:resnet18", {"widht": 2}, "widht"),
    ],
)
def test_models_that_cannot_be_are_refused_with_what_could_be_meant(name, given, message):
    with pytest.raises(ModelError, match=message):
        build(name, **given)


def test_the_error_for_an_unknown_name_lists_the_whole_zoo():
    with pytest.raises(ModelError) as caught:
        build("transformer")

    assert all(name in str(caught.value) for name in ZOO)


def test_ultralytics_models_without_the_package_name_the_extra(monkeypatch):
    monkeypatch.setattr(yolo_module, "find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"hdapbench\[yolo\]"):
        build("ultralytics:yolov8n.yaml")
