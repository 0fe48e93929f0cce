"""Architectures beyond the zoo: traced with verified groups and exact costs, or refused by name."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.bench.network import trace
from hdapbench.errors import ModelError, UnknownLayerError
from hdapbench.models import build_model, yolo
from hdapbench.prune.grouping import find_groups
from hdapbench.prune.surgery import checked_apply
from hdapbench.spec import ModelSpec
from tests.cost.live_counts import counted, random_plans

SIDE = 64

needs_yolo = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the yolo extra")


def build(name: str, **arguments: object) -> torch.nn.Module:
    torch.manual_seed(0)
    spec = ModelSpec(name=name, input_shape=(3, SIDE, SIDE), arguments=arguments)
    return build_model(spec, n_classes=10, base_dir=Path()).eval()


@pytest.mark.parametrize(
    ("name", "n_groups", "arguments"),
    [
        ("densenet121", 120, {}),
        ("efficientnet_b0", 40, {}),
        ("googlenet", 57, {}),
        ("mobilenet_v2", 25, {}),
        ("mobilenet_v3_small", 27, {}),
        ("squeezenet1_1", 25, {}),
        ("resnext50_32x4d", 5, {}),
        ("regnet_y_400mf", 21, {}),
    ],
)
def test_networks_of_many_shapes_are_traced_exactly(name, n_groups, arguments):
    model = build(f"torchvision:{name}", **arguments)
    net = trace(model, (3, SIDE, SIDE))
    probe = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))

    plans = random_plans(net, 3)
    costs = net.cost.evaluate(np.array([plan.widths(net.cost.groups) for plan in plans]))
    found = np.stack([costs.flops, costs.params, costs.parameter_bytes, costs.activation_bytes], axis=1)
    real = [counted(checked_apply(model, net.group_set, plan, probe)[0], net.input_shape) for plan in plans]

    assert len(net.group_set) == n_groups
    assert found.tolist() == [list(row) for row in real]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("convnext_tiny", UnknownLayerError, r"no cost rule for the parameters of 'features\.1\.0' \(CNBlock\)"),
        ("swin_t", UnknownLayerError, r"no cost rule for the parameters of 'features\.1\.0\.attn'"),
        (
            "shufflenet_v2_x1_0",
            ModelError,
            r"ShuffleNetV2 cannot be traced by torch-pruning at a reshape after 'stage4\.1\.branch2\.6'",
        ),
    ],
)
def test_what_cannot_be_counted_or_traced_is_refused_by_name(name, error, message):
    with pytest.raises(error, match=message):
        trace(build(f"torchvision:{name}"), (3, SIDE, SIDE))


@needs_yolo
def test_stock_yolo_blocks_are_frozen_and_what_stays_is_pruned_rightly(monkeypatch):
    monkeypatch.setattr(yolo, "split_blocks", lambda _: 0)
    model = build("ultralytics:yolov8n.yaml")
    probe = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))

    net = trace(model, (3, SIDE, SIDE))

    frozen = {group.name for group in net.group_set.frozen}
    blocks = {f"model.{number}.cv1.conv" for number in (2, 4, 6, 8, 12, 15, 18, 21)}
    assert blocks <= frozen
    assert not blocks & set(net.group_set.sizes)
    for plan in random_plans(net, 2):
        checked_apply(model, net.group_set, plan, probe)


@needs_yolo
def test_the_outputs_of_a_detection_head_are_frozen_and_the_rest_of_it_is_not():
    group_set = find_groups(build("ultralytics:yolov8n.yaml"), (3, SIDE, SIDE))

    frozen = {group.name for group in group_set.frozen}
    assert len(group_set) == 59
    assert frozen == {"model.22.cv2.0.2", "model.22.cv3.0.2"}
    outputs = {f"model.22.{branch}.{scale}.2" for branch in ("cv2", "cv3") for scale in range(3)} | {
        "model.22.dfl.conv"
    }
    assert not outputs & {producer for group in group_set for producer in group.producers}
