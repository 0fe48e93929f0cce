"""Plan -> physically smaller model, and the masked model that it must agree with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn

from hdapbench.errors import SurgeryError
from hdapbench.groups import GroupSet, Side
from hdapbench.plan import Plan

RELATIVE_TOLERANCE = 2e-4
"""Largest difference between masked and compact model, relative to the largest output: float32 rounding, with room."""


def apply_plan(model: nn.Module, groups: GroupSet, plan: Plan) -> nn.Module:
    """Physically smaller deep copy of ``model`` that keeps exactly the plan's channels.

    Raises
    ------
    PlanError
        When the plan does not fit the groups.
    SurgeryError
        When a layer is of a kind that cannot be cut.
    """
    compact = deepcopy(model)
    modules = dict(compact.named_modules())
    for (layer, side), removed in _removed_channels(groups, plan).items():
        _cut(layer, modules[layer], side, removed)
    return compact


def mask_model(model: nn.Module, groups: GroupSet, plan: Plan) -> nn.Module:
    """Deep copy of ``model`` in its dense shapes, with everything that belongs to removed channels set to zero.

    Both ends are zeroed: what produces a removed channel and what consumes it.

    Raises
    ------
    PlanError
        When the plan does not fit the groups.
    """
    masked = deepcopy(model)
    modules = dict(masked.named_modules())
    with torch.no_grad():
        for (layer, side), removed in _removed_channels(groups, plan).items():
            module, index = modules[layer], sorted(removed)
            if side == "in":
                module.get_parameter("weight")[:, index] = 0.0
            else:
                for parameter in module.parameters(recurse=False):
                    parameter[index] = 0.0
    return masked


def largest_difference(masked: nn.Module, compact: nn.Module, probe: Tensor) -> tuple[float, float]:
    """Largest absolute difference of two models' outputs on a probe, and the largest absolute output.

    Raises
    ------
    SurgeryError
        When the outputs differ in number or shape, or are not finite.
    """
    expected, found = output_tensors(masked, probe), output_tensors(compact, probe)
    if [tensor.shape for tensor in expected] != [tensor.shape for tensor in found]:
        raise SurgeryError("pruning changes the output shape")
    difference = max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))
    largest = max(float(tensor.abs().max()) for tensor in expected)
    if not (math.isfinite(difference) and math.isfinite(largest)):
        raise SurgeryError("the model's output is not finite on the probe")
    return difference, largest


def checked_apply(model: nn.Module, groups: GroupSet, plan: Plan, probe: Tensor) -> tuple[nn.Module, float]:
    """Compact model of a plan, and its largest absolute difference from the masked model on the probe.

    Parameters
    ----------
    probe
        Inputs, shape (n, channels, height, width).

    Raises
    ------
    SurgeryError
        When the two differ by more than rounding.
    """
    compact = apply_plan(model, groups, plan)
    difference, largest = largest_difference(mask_model(model, groups, plan), compact, probe)
    if difference > RELATIVE_TOLERANCE * max(largest, 1.0):
        raise SurgeryError(
            f"masked and compact model differ by {difference:.3g} where outputs reach {largest:.3g}; "
            "this is a defect of the channel groups, please report it with the model"
        )
    return compact, difference


def output_tensors(model: nn.Module, probe: Tensor) -> list[Tensor]:
    """Floating-point tensors that a model returns in eval mode, nested containers flattened; its mode is restored.

    Of a tuple that begins with a tensor only that tensor counts: detection heads return their predictions first and
    then the feature maps that they came from.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            outputs = model(probe)
            if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
                outputs = outputs[0]
            return [tensor for tensor in _flatten(outputs) if tensor.is_floating_point()]
    finally:
        model.train(training)


def _flatten(outputs: object) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        yield outputs
    elif isinstance(outputs, dict):
        for value in outputs.values():
            yield from _flatten(value)
    elif isinstance(outputs, list | tuple):
        for value in outputs:
            yield from _flatten(value)


def _removed_channels(groups: GroupSet, plan: Plan) -> dict[tuple[str, Side], set[int]]:
    """(Layer, side) -> indices to remove, gathered over all groups: a concat's consumer belongs to several."""
    plan.check(groups.sizes)
    removed: dict[tuple[str, Side], set[int]] = defaultdict(set)
    for group in groups:
        kept = set(plan.kept[group.name])
        if len(kept) == group.n_channels:
            continue
        for member in group.members:
            gone = {i for i, channel in zip(member.indices, member.channels, strict=True) if channel not in kept}
            removed[(member.layer, member.side)] |= gone
    return removed


def _cut(name: str, module: nn.Module, side: Side, removed: set[int]) -> None:
    """Remove channels of one layer in place."""
    if isinstance(module, nn.Conv2d):
        dimension = 1 if side == "in" else 0
        keep = _kept(module.in_channels if side == "in" else module.out_channels, removed)
        _select(module, "weight", dimension, keep)
        if side != "in":
            _select(module, "bias", 0, keep)
            module.out_channels = len(keep)
        if side != "out":
            module.in_channels = len(keep)
        if side == "both":
            module.groups = len(keep)
    elif isinstance(module, nn.Linear):
        keep = _kept(module.in_features if side == "in" else module.out_features, removed)
        _select(module, "weight", 1 if side == "in" else 0, keep)
        if side == "in":
            module.in_features = len(keep)
        else:
            _select(module, "bias", 0, keep)
            module.out_features = len(keep)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        keep = _kept(module.num_features, removed)
        for parameter in ("weight", "bias", "running_mean", "running_var"):
            _select(module, parameter, 0, keep)
        module.num_features = len(keep)
    else:
        raise SurgeryError(f"channels of '{name}' ({type(module).__name__}) cannot be cut")


def _kept(size: int, removed: set[int]) -> Tensor:
    return torch.tensor([index for index in range(size) if index not in removed])


def _select(module: nn.Module, attribute: str, dimension: int, keep: Tensor) -> None:
    tensor = getattr(module, attribute)
    if tensor is None:
        return
    selected = tensor.detach().index_select(dimension, keep.to(tensor.device))
    if isinstance(tensor, nn.Parameter):
        selected = nn.Parameter(selected, requires_grad=tensor.requires_grad)
    setattr(module, attribute, selected)
