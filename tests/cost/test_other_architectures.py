"""Architectures beyond the zoo: traced with verified groups and exact costs, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hdapbench.bench.network import trace
from hdapbench.errors import ModelError
from hdapbench.models import yolo
from hdapbench.prune.surgery import checked_apply
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
        ("resnext50_32x4d", 5),
        ("regnet_y_400mf", 21),
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


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "shufflenet_v2_x1_0",
            ModelError,
            r"ShuffleNetV2 cannot be traced by torch-pruning at a reshape after 'stage4\.1\.branch2\.6'",
        ),
    ],
)
def test_what_cannot_be_counted_or_traced_is_refused_by_name(name, error, message):
    with pytest.raises(error, match=message):
        traced(f"torchvision:{name}", SHAPE)


@needs_yolo
def test_stock_yolo_blocks_are_frozen_and_what_stays_is_pruned_rightly(monkeypatch):
    monkeypatch.setattr(yolo, "split_blocks", lambda _: 0)
    model = built("ultralytics:yolov8n.yaml", SHAPE)
    probe = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(2))

    net = trace(model, SHAPE)

    frozen = {group.name for group in net.group_set.frozen}
    blocks = {f"model.{number}.cv1.conv" for number in (2, 4, 6, 8, 12, 15, 18, 21)}
    assert blocks <= frozen
    assert not blocks & set(net.group_set.sizes)
    for seed in range(2):
        checked_apply(model, net.group_set, random_plan(net.group_set, seed), probe)
