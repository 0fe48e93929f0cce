"""What studies work on: traced networks, simulated fleets, drawn importance, and plans held to uniform pruning's importance."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.network import Network, trace
from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.target import fill, largest_share, widths_at_share
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.models import build_model
from hdapbench.search import AdditiveImportance, SearchSpace
from hdapbench.spec import ModelSpec, SimulatedFleetSpec

MODELS = {"ResNet50": "torchvision:resnet50", "MobileNetV1": "mobilenetv1"}


@cache
def network(model: str, shape: tuple[int, int, int] = (3, 224, 224), n_classes: int = 1000) -> Network:
    """A traced model with random weights."""
    torch.manual_seed(0)
    spec = ModelSpec(name=MODELS.get(model, model), input_shape=shape)
    return trace(build_model(spec, n_classes=n_classes, base_dir=Path()).eval(), shape)


def target_flops(model: str) -> int:
    """1.0 G for ResNet50, half of all for the others."""
    return 10**9 if model == "ResNet50" else network(model).cost.dense.flops // 2


def simulated_fleet(**fields: Any) -> SimulatedFleet:
    """Fleet of a spec's fields: ``sku``, ``scenario``, ``n_devices``, ``seed`` and others."""
    return SimulatedFleet(SimulatedFleetSpec.model_validate({"name": "f", "kind": "simulated"} | fields))


def pruned(kernels: KernelModel, n_models: int, rng: np.random.Generator) -> Workloads:
    """Models pruned at random: an overall share, and layers that depart from it."""
    shares = rng.uniform(0.1, 1.0, size=(n_models, 1)) ** rng.uniform(0, 2, size=(n_models, len(kernels.sizes)))
    widths = np.maximum(1, (kernels.sizes * shares).astype(np.int64))
    return Workloads(kernels, widths, tuple(f"m{number}" for number in range(n_models)))


def one_by_one(models: Workloads) -> list[Workloads]:
    """Each model alone, to be measured in a session of its own: devices drift in between."""
    return [Workloads(models.kernels, models.widths[k : k + 1], models.ids[k : k + 1]) for k in range(len(models))]


def drawn_scores(sizes: Iterable[int], rng: np.random.Generator) -> list[Floats]:
    """Gamma(2) within groups; groups differ by a lognormal factor of 0.5, and wide ones have less per channel."""
    return [rng.gamma(2.0, 1.0, size) * np.exp(0.5 * rng.standard_normal()) / np.sqrt(size) for size in sizes]


def space_beside_uniform(
    cost: CostModel, target: int, objective: Callable[[Integers], Floats], importance: AdditiveImportance, **limits: Any
) -> tuple[SearchSpace, Integers]:
    """Space of plans that keep at least the importance of uniform pruning, and the widths of uniform pruning."""
    uniform = fill(cost, widths_at_share(cost, largest_share(cost, target)), target)
    least = float(importance(uniform)[0])
    space = SearchSpace(
        cost=cost, target_flops=target, objective=objective, retained=importance, least_retained=least, **limits
    )
    return space, uniform
