"""Architectures beyond the zoo: traced with verified groups and exact costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models import VisionTransformer

from hdapbench.bench.network import trace
from hdapbench.models import yolo
from hdapbench.models.attention import separate_heads
from hdapbench.prune.surgery import apply_plan, checked_apply
from tests.cost.live_counts import counted
from tests.zoo import built, needs_yolo, random_plan, traced

SHAPE = (3, 64, 64)


@pytest.mark.parametrize(
    ("name", "n_groups"),
    [
        ("densenet121", 120),
        ("efficientnet_b0", 40),
        ("googlenet", 57),
        ("mobilenet_v2", 25),
        ("mobilenet_v3_small", 27),
        ("squeezenet1_1", 25),
        ("resnext50_32x4d", 37),
        ("regnet_y_400mf", 53),
        ("shufflenet_v2_x0_5", 20),
        ("convnext_tiny", 22),
    ],
)
def test_networks_of_many_shapes_are_traced_exactly(name, n_groups):
    net = traced(f"torchvision:{name}", SHAPE)
    probe = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))

    plans = [random_plan(net.group_set, seed) for seed in range(3)]
    costs = net.cost.evaluate(np.array([plan.widths(net.cost.groups) for plan in plans]))
    found = np.stack([costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes], axis=1)
    real = [counted(checked_apply(net.model, net.group_set, plan, probe)[0], net.input_shape) for plan in plans]

    assert len(net.group_set) == n_groups
    assert found.tolist() == [list(row) for row in real]


@pytest.mark.parametrize("n_replaced", [0, 2])
def test_a_small_vision_transformer_is_traced_exactly(n_replaced):
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 4, "hidden_dim": 32, "mlp_dim": 48}
    model, shape = VisionTransformer(**sizes, num_classes=10).eval(), (3, 32, 32)
    assert not n_replaced or separate_heads(model) == n_replaced

    net = trace(model, shape)
    plans = [random_plan(net.group_set, seed) for seed in range(5)]
    costs = net.cost.evaluate(np.array([plan.widths(net.cost.groups) for plan in plans]))
    found = np.stack([costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes], axis=1)

    assert found.tolist() == [list(counted(apply_plan(model, net.group_set, plan), shape)) for plan in plans]


@needs_yolo
def test_stock_yolo_blocks_are_traced_exactly(monkeypatch):
    monkeypatch.setattr(yolo, "split_blocks", lambda _: 0)
    model = built("ultralytics:yolov8n.yaml", SHAPE)
    probe = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))

    net = trace(model, SHAPE)

    for seed in range(2):
        plan = random_plan(net.group_set, seed)
        compact, _ = checked_apply(model, net.group_set, plan, probe)
        costs = net.cost.evaluate(plan.widths(net.cost.groups))
        assert (costs.flops[0], costs.params[0]) == counted(compact, SHAPE)[:2]
