"""Networks of the zoo with weights of one seed, traced, and random plans for them: what tests of several folders work on."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.bench.network import Network, trace
from hdapbench.groups import GroupSet
from hdapbench.models import build_model
from hdapbench.plan import Plan
from hdapbench.spec import ModelSpec

Shape = tuple[int, int, int]

needs_yolo = pytest.mark.skipif(find_spec("ultralytics") is None, reason="needs the yolo extra")


def built(name: str, shape: Shape = (3, 32, 32), n_classes: int = 10, *, seed: int = 0) -> nn.Module:
    """Model with random weights, in eval mode."""
    torch.manual_seed(seed)
    return build_model(ModelSpec(name=name, input_shape=shape), n_classes=n_classes, base_dir=Path()).eval()


def with_statistics(model: nn.Module, *, deviation: float = 0.1) -> nn.Module:
    """The model, its batch norms no longer the identity: means and biases of this deviation, scales from 0.5 to 1.5."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, deviation)
            nn.init.normal_(module.running_mean, 0.0, deviation)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


@cache
def traced(name: str, shape: Shape = (3, 32, 32), n_classes: int = 10) -> Network:
    """The same, traced; it is shared, so leave its weights alone."""
    return trace(built(name, shape, n_classes), shape)


def random_plan(group_set: GroupSet, seed: int, *, least: float = 0.0) -> Plan:
    """Plan that keeps random channels: of every group one at least, and at least a share of it."""
    rng = np.random.default_rng(seed)
    widths = {name: max(1, round(rng.uniform(least, 1) * size)) for name, size in group_set.sizes.items()}
    kept = {
        name: tuple(sorted(rng.choice(group_set.sizes[name], width, replace=False).tolist()))
        for name, width in widths.items()
    }
    return Plan(kept=kept)
