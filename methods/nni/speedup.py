"""NNI's ModelSpeedup on a plan's masks, and how its model compares with ours."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hdapbench.groups import GroupSet
from hdapbench.prune.surgery import apply_plan, largest_difference

from .masks import Masks, quiet

if TYPE_CHECKING:
    from hdapbench.method import Plan, Problem


def plan_masks(problem: Problem, model: nn.Module, plan: Plan) -> Masks:
    """Masks of NNI's form that remove exactly what a plan removes: all layers of a group agree."""
    masks: Masks = {}
    modules = dict(model.named_modules())
    for name, group in problem.groups.items():
        kept = set(plan.kept[name])
        for member in group.members:
            layer = modules[member.layer]
            if member.side == "in" or not isinstance(layer, nn.Conv2d | nn.Linear):  # NNI infers the rest from these
                continue
            gone = [
                index for index, channel in zip(member.indices, member.channels, strict=True) if channel not in kept
            ]
            entry = masks.setdefault(
                member.layer, {key: torch.ones_like(value) for key, value in layer.named_parameters(recurse=False)}
            )
            for mask in entry.values():
                mask.data[gone] = 0.0
    return {name: {key: mask.detach() for key, mask in entry.items()} for name, entry in masks.items()}


def sped_up(problem: Problem, model: nn.Module, plan: Plan) -> nn.Module:
    """Compact model by NNI's ModelSpeedup; ``model`` is left as it is.

    NNI's own tracer fails under new versions of torch, so it is given a graph of torch.fx.

    Raises
    ------
    Exception
        Whatever torch.fx or NNI raise for a model that they cannot follow.
    """
    traced: Any = torch.fx.symbolic_trace(copy.deepcopy(model).eval())
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.training.seed)  # NNI tells constant channels by random inputs
        from nni.compression.speedup import ModelSpeedup

        logger = logging.getLogger("nni.silent")
        logger.setLevel(logging.CRITICAL)
        example = problem.training.example_input()
        speedup = ModelSpeedup(
            traced,
            example,
            plan_masks(problem, model, plan),
            graph_module=traced,
            batch_size=len(example),
            logger=logger,
        )
        compact: nn.Module = speedup.speedup_model()
    return compact.eval()


def compared(problem: Problem, model: nn.Module, plan: Plan) -> dict[str, object]:
    """What ModelSpeedup makes of a plan beside our path, as facts for ``explain``.

    ``traced`` says whether it could follow the model, and ``reason`` why not. ``same_parameters`` says whether both
    compact models have equally many, ``largest_difference`` is that of their outputs, which reach ``largest_output``.
    """
    ours = apply_plan(model, GroupSet(tuple(problem.groups.values())), plan).eval()
    try:
        theirs = sped_up(problem, model, plan)
    except Exception as error:  # noqa: BLE001 - torch.fx and NNI raise anything at what they cannot follow
        return {"traced": False, "reason": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    difference, largest = largest_difference(ours, theirs, problem.training.example_input())
    counts = [sum(parameter.numel() for parameter in compact.parameters()) for compact in (ours, theirs)]
    return {
        "traced": True,
        "same_parameters": counts[0] == counts[1],
        "largest_difference": difference,
        "largest_output": largest,
    }
