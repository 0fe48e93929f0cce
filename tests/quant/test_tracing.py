from __future__ import annotations

import re

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from hdapbench.errors import ModelError, UnknownLayerError
from hdapbench.quant.graph.capture import trace_graph
from hdapbench.quant.graph.fold import fold_batch_norm
from hdapbench.quant.graph.walk import LayerShape, float_rectify, run_graph
from tests.quant.quant_networks import KINDS, SHAPE, images, network


def run_float(model: nn.Module, x: Tensor) -> Tensor:
    """Output of the traced operations without any quantisation."""
    graph = trace_graph(model, tuple(x.shape[1:]))
    modules = dict(model.named_modules())

    def layer(name: str, value: Tensor) -> Tensor:
        return LayerShape.of(modules[name]).apply(value, modules[name].weight, modules[name].bias)

    return run_graph(graph, x, layer=layer, quantize=float_rectify)


@pytest.mark.parametrize("kind", KINDS)
def test_folding_batch_norm_changes_nothing_but_rounding(kind):
    model = network(kind)

    folded = fold_batch_norm(model)

    assert torch.allclose(folded(images()), model(images()), atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_a_norm_whose_layer_has_other_readers_is_left_alone():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.norm(x) + x

    assert isinstance(fold_batch_norm(Shared()).norm, nn.BatchNorm2d)


@pytest.mark.parametrize("kind", KINDS)
def test_the_traced_operations_compute_what_the_model_computes(kind):
    model = fold_batch_norm(network(kind))

    assert torch.allclose(run_float(model, images()), model(images()), atol=1e-5)


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "efficientnet_b0"])
def test_torchvision_models_are_traced_exactly(name):
    torch.manual_seed(0)
    model = fold_batch_norm(getattr(torchvision.models, name)(weights=None, num_classes=4))
    x = torch.randn(2, 3, 64, 64)

    with torch.no_grad():
        expected = model(x)
        found = run_float(model, x)

    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_relus_are_absorbed_and_the_output_has_no_grid():
    graph = trace_graph(fold_batch_norm(network("residual")), SHAPE)

    assert not any(o.op == "relu" for o in graph)
    assert graph.by_name["body.0.0"].relu
    assert graph.operations[-1].quantizer is None


def test_parts_of_a_concat_share_one_grid():
    graph = trace_graph(fold_batch_norm(network("mixed")), SHAPE)

    left, right = graph.by_name["left"], graph.by_name["right"]
    assert left.quantizer == right.quantizer
    assert left.relu
    assert not right.relu


def test_a_relu6_keeps_its_cap():
    graph = trace_graph(fold_batch_norm(network("mixed")), SHAPE)

    assert graph.by_name["stem"].cap == 6.0
    assert graph.by_name["stem"].relu


class Chunked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norm(self.conv(x)).cumsum(1).chunk(2, 1)
        return first + second


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.relu(self.conv(x)))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(x)
        return x, x


def test_what_has_no_integer_counterpart_is_refused_by_name_all_at_once():
    with pytest.raises(UnknownLayerError) as caught:
        trace_graph(Chunked(), SHAPE)

    text = str(caught.value)
    assert "node 'norm' (module 'norm', GroupNorm) has no integer counterpart" in text
    assert "node 'cumsum' (method cumsum) has no integer counterpart" in text


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Twice(), "node 'conv_1' calls the layer 'conv' a second time"),
        (Pair(), "the output is not a single tensor"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(3)), "AdaptiveAvgPool2d"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")), "'0', Conv2d"),
        (nn.Sequential(nn.Linear(8, 4)), "'0', Linear"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.PReLU()), "PReLU"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unflatten(1, (2, 2)), nn.Flatten(), nn.Linear(256, 2)), "moved about"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Unflatten(1, (2, 2))), "'_1' moves values about"),
    ],
)
def test_unsupported_nodes_are_named(model, message):
    with pytest.raises(UnknownLayerError, match=re.escape(message)):
        trace_graph(model, SHAPE)


def test_densenet_is_refused_with_the_norms_that_follow_a_concat():
    model = fold_batch_norm(torchvision.models.densenet121(weights=None))

    with pytest.raises(UnknownLayerError, match=r"denseblock1\.denselayer1\.norm1', BatchNorm2d"):
        trace_graph(model, (3, 64, 64))


def test_control_flow_that_depends_on_data_is_refused():
    with pytest.raises(ModelError, match=r"cannot be traced by torch\.fx"):
        trace_graph(Branching(), SHAPE)
