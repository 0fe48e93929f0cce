"""Models that parity is shown on: random weights from a seed, so that anybody gets the same tables without a download."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import nn

from hdapbench.bench.limit import Limit
from hdapbench.bench.network import Network, trace
from hdapbench.data import DataSplits, ImageSet
from hdapbench.method import Problem
from hdapbench.models import build_model
from hdapbench.spec import ModelSpec
from hdapbench.testing import RecordingProblem, tiny_workbench

SUBJECTS = {
    "ResNet50": ("torchvision:resnet50", 224, 1000),
    "VGG16": ("vgg16", 32, 10),
    "MobileNetV1": ("mobilenetv1", 64, 1000),
    "ResNet56": ("resnet56", 32, 10),
    "YOLOv8n": ("ultralytics:yolov8n.yaml", 160, 80),
}
"""Name in the tables -> model, side of its square input, classes. Channels do not depend on the side; time does."""


@cache
def network(name: str, side: int | None = None) -> Network:
    """Traced model; batch norm scales are drawn too, for all equal ones would leave their criterion nothing to rank."""
    model_name, usual, n_classes = SUBJECTS[name]
    shape = (3, side or usual, side or usual)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        spec = ModelSpec(name=model_name, input_shape=shape)
        model = build_model(spec, n_classes=n_classes, base_dir=Path()).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return trace(model.requires_grad_(True), shape)


def problem(name: str, side: int | None = None, *, target: float = 0.5, seed: int = 0) -> Problem:
    """Problem on a subject with 32 random images, unlimited in its budget."""
    net = network(name, side)
    generator = torch.Generator().manual_seed(5)

    def images(n: int) -> ImageSet:
        return ImageSet(
            images=torch.randint(0, 256, (n, *net.input_shape), generator=generator, dtype=torch.uint8),
            labels=torch.randint(0, 10, (n,), generator=generator),
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
        )

    data = DataSplits(train=images(32), search=images(8), test=images(8), n_classes=10, content_hash="parity")
    bench = replace(tiny_workbench("plain"), network=net, train=data.train, search=data.search)
    return RecordingProblem(bench, Limit.on_flops(int(target * net.cost.dense.flops)), seed=seed)
