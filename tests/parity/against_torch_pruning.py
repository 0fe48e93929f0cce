"""Kept channels of the method torch-pruning beside those of a script that calls torch-pruning 1.6 directly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from hdapbench_methods.torch_pruning.method import TorchPruning
from torch import Tensor, nn

from hdapbench.prune.surgery import apply_plan
from tests.parity.subjects import network, problem

SETTINGS: tuple[dict[str, Any], ...] = (
    {"importance": "magnitude", "scope": "local", "pruning_ratio": 0.5},
    {"importance": "magnitude", "scope": "local", "pruning_ratio": 0.3, "round_to": 8},
    {"importance": "magnitude", "scope": "global", "pruning_ratio": 0.4},
    {"importance": "magnitude", "scope": "isomorphic", "pruning_ratio": 0.4},
    {"importance": "bn-scale", "scope": "local", "pruning_ratio": 0.5},
    {"importance": "lamp", "scope": "global", "pruning_ratio": 0.4},
    {"importance": "fpgm", "scope": "local", "pruning_ratio": 0.5},
    {"importance": "taylor", "scope": "global", "pruning_ratio": 0.4, "n_images": 16},
    {"importance": "activation", "scope": "global", "pruning_ratio": 0.4, "n_images": 16},
    {"importance": "hessian", "scope": "global", "pruning_ratio": 0.4, "n_images": 1},
    {"importance": "obd-c", "scope": "global", "pruning_ratio": 0.4, "n_images": 8},
    {"importance": "magnitude", "scope": "local", "pruning_ratio": 0.5, "iterative_steps": 4},
)
LEFT_OUT = {
    "activation": {"YOLOv8n"},  # 1.6.1 scores four copies of the channels that SPPF joins with themselves
    "taylor": {"YOLOv8n"},  # its loss needs boxes
    "hessian": {"YOLOv8n"},
    "obd-c": {"YOLOv8n", "MobileNetV1"},  # 1.6.1 stops at depthwise layers
}
IMPORTANCES: dict[str, Callable[[], Any]] = {
    "magnitude": tp.importance.GroupMagnitudeImportance,
    "bn-scale": tp.importance.BNScaleImportance,
    "lamp": tp.importance.LAMPImportance,
    "fpgm": tp.importance.FPGMImportance,
    "taylor": tp.importance.GroupTaylorImportance,
    "activation": tp.importance.ActivationImportance,
    "hessian": tp.importance.GroupHessianImportance,
    "obd-c": tp.importance.OBDCImportance,
}


@dataclass(frozen=True)
class Comparison:
    """How two ways to prune agree.

    Attributes
    ----------
    n_groups, n_channels
        Of the dense model's prunable groups.
    kept, kept_directly
        Channels kept through the framework and by the direct script.
    differing
        Channels that one keeps and the other removes.
    weights_equal
        Whether the two pruned models hold the same tensors, all of them.
    """

    model: str
    setting: str
    n_groups: int
    n_channels: int
    kept: int
    kept_directly: int
    differing: int
    weights_equal: bool


def compare(name: str, setting: dict[str, Any], side: int | None = None) -> Comparison:
    """Prune a subject through the method and directly."""
    net = network(name, side)
    ours = problem(name, side)
    plan = TorchPruning(**setting).compress(ours)
    compact = apply_plan(net.model, net.group_set, plan)
    direct, kept = prune_directly(net.model, set(net.group_set.names), batch(ours, setting), setting)
    mine = {group: set(channels) for group, channels in plan.kept.items()}
    states = compact.state_dict(), direct.state_dict()
    return Comparison(
        model=name,
        setting=describe(setting),
        n_groups=len(net.group_set),
        n_channels=sum(net.group_set.sizes.values()),
        kept=sum(map(len, mine.values())),
        kept_directly=sum(map(len, kept.values())),
        differing=sum(len(mine[group] ^ kept[group]) for group in mine),
        weights_equal=all(
            tensor.shape == states[1][key].shape and torch.equal(tensor, states[1][key])
            for key, tensor in states[0].items()
        ),
    )


def prune_directly(
    dense: nn.Module, roots: set[str], images: tuple[Tensor, Tensor], setting: dict[str, Any]
) -> tuple[nn.Module, dict[str, set[int]]]:
    """What a user of torch-pruning writes: pruned model, and the channels that every root layer keeps."""
    model = deepcopy(dense).eval()
    names = {module: key for key, module in model.named_modules()}
    scorer = IMPORTANCES[setting["importance"]]()
    pruner = tp.pruner.BasePruner(
        model,
        images[0][:2],
        importance=scorer,
        pruning_ratio=setting["pruning_ratio"],
        global_pruning=setting["scope"] != "local",
        isomorphic=setting["scope"] == "isomorphic",
        iterative_steps=setting.get("iterative_steps", 1),
        round_to=setting.get("round_to"),
        ignored_layers=outputs_of(model),
        in_channel_groups={},
        out_channel_groups={},
        num_heads={},
        channel_groups={},
    )
    read_data(setting["importance"], scorer, pruner, model, images)
    alive = {key: list(range(module.weight.shape[0])) for key, module in model.named_modules() if key in roots}
    for _ in range(setting.get("iterative_steps", 1)):
        for group in pruner.step(interactive=True):
            gone: dict[str, set[int]] = defaultdict(set)
            for dependency, channels in group:
                key = names.get(dependency.target.module)
                if key in roots and pruner.DG.is_out_channel_pruning_fn(dependency.handler):
                    gone[key].update(channels)
            group.prune()
            for key, channels in gone.items():
                alive[key] = [c for position, c in enumerate(alive[key]) if position not in channels]
    return model, {key: set(channels) for key, channels in alive.items()}


def read_data(criterion: str, scorer: Any, pruner: Any, model: nn.Module, images: tuple[Tensor, Tensor]) -> None:
    """Bring a scorer what it wants to see of one batch, as torch-pruning's examples do."""
    if criterion == "activation":
        with scorer.compute_importance(model):
            model(images[0])
    if criterion in {"taylor", "hessian"}:
        torch.autograd.backward(nn.functional.cross_entropy(model(images[0]), images[1]))
    if criterion == "hessian":
        scorer.accumulate_grad(model)
    if criterion == "obd-c":
        # 1.6.1 gives None where there is no attention.
        pruner._downstream_node_as_root_if_attention = lambda group: group
        scorer._prepare_model(model, pruner)
        outputs = model(images[0])
        scorer.num_classes = outputs.shape[1]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.multinomial(outputs.detach().softmax(1), 1, generator=generator)[:, 0]
        torch.autograd.backward(nn.functional.cross_entropy(outputs, drawn))
        scorer.step()
        scorer._rm_hooks(model)


def outputs_of(model: nn.Module) -> list[nn.Module]:
    """Layers that a user of torch-pruning tells it to leave alone: the classifier, or the ends of a YOLO head."""
    head = getattr(model, "model", None)
    if head is not None and hasattr(head[-1], "dfl"):
        ends: list[nn.Module] = [branch[-1] for branches in (head[-1].cv2, head[-1].cv3) for branch in branches]
        return [*ends, head[-1].dfl]
    return [[module for module in model.modules() if isinstance(module, nn.Linear)][-1]]


def batch(ours: Any, setting: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The images that the method reads too, in one batch."""
    images: tuple[Tensor, Tensor] = next(iter(ours.training.batches(setting.get("n_images", 2))))
    return images


def describe(setting: dict[str, Any]) -> str:
    """A setting as one cell of a table."""
    words = [str(setting["importance"]), str(setting["scope"]), f"ratio {setting['pruning_ratio']}"]
    words += [f"multiples of {setting['round_to']}"] if "round_to" in setting else []
    words += [f"{setting['iterative_steps']} rounds"] if "iterative_steps" in setting else []
    return ", ".join(words)
