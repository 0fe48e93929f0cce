"""Plan -> physically smaller model, and the masked model that it must agree with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdapbench.axes.labels import find_tensor
from hdapbench.axes.layers import BATCH_NORMS, CONVOLUTIONS, INSTANCE_NORMS, is_depthwise, sides_of
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
    """
    smaller: dict[int, object] = {
        id(cut.tensor): _without(cut.tensor, cut.removed) for cut in _cuts(model, groups, plan)
    }
    blocks = groups.removed_blocks(plan.kept)
    for block in blocks:
        rest = nn.ReLU() if block.after == "relu" else nn.Identity()
        smaller[id(model.get_submodule(block.name))] = rest.train(model.training)
    compact = deepcopy(model, smaller)  # the copy takes these for copies that it has made already
    modules = dict(compact.named_modules())
    for (layer, side), removed in _removed_channels(groups, plan).items():
        _shrink(modules[layer], side, len(removed))
    for group in groups:
        n_kept = len(plan.kept[group.name])
        for size in group.sizes:
            if any(block.holds(size.module) for block in blocks):
                continue
            own = modules[size.module]
            held = int(getattr(own, size.attribute))
            setattr(own, size.attribute, held - size.per_channel * (group.n_channels - n_kept))
    return compact


def mask_model(model: nn.Module, groups: GroupSet, plan: Plan) -> nn.Module:
    """Deep copy of ``model`` in its dense shapes, with everything that belongs to removed channels set to zero.

    Both ends are zeroed: what produces a removed channel and what consumes it; of a removed block, all parameters.
    Norms whose statistics run over channels still count the zeros: `over_kept_channels` keeps them from it while the
    model runs.

    Raises
    ------
    PlanError
        When the plan does not fit the groups.
    """
    masked = deepcopy(model)
    with torch.no_grad():
        for cut in _cuts(masked, groups, plan, statistics=False):
            for dimension, index in cut.removed.items():
                cut.tensor.index_fill_(dimension, torch.tensor(index), 0.0)
        for block in groups.removed_blocks(plan.kept):
            for parameter in masked.get_submodule(block.name).parameters():
                parameter.zero_()
    return masked


@contextmanager
def over_kept_channels(masked: nn.Module, compact: nn.Module, groups: GroupSet, plan: Plan) -> Iterator[None]:
    """Let norms of a masked model whose statistics run over channels run over those that the plan keeps.

    Parameters
    ----------
    compact
        Model of the plan, whose norms do it.
    """
    dimensions = {
        member.layer: member.dimension for group in groups for member in group.members if member.dimension is not None
    }
    removed = {layer: gone for (layer, _), gone in _removed_channels(groups, plan).items() if layer in dimensions}
    modules = dict(masked.named_modules())
    norms = dict(compact.named_modules())
    handles = []
    for layer, gone in removed.items():
        hook = _norm_of_kept(norms[layer], dimensions[layer], gone)
        handles.append(modules[layer].register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _norm_of_kept(norm: nn.Module, dimension: int, gone: set[int]) -> Callable[..., Tensor]:
    """Hook that puts what a smaller norm makes of the kept channels in place of the output, and zeros elsewhere."""

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        index = torch.tensor([i for i in range(output.shape[dimension]) if i not in gone], device=output.device)
        return torch.zeros_like(output).index_copy(dimension, index, norm(inputs[0].index_select(dimension, index)))

    return hook


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
    masked = mask_model(model, groups, plan)
    with over_kept_channels(masked, compact, groups, plan):
        difference, largest = largest_difference(masked, compact, probe)
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
            return main_outputs(model(probe))
    finally:
        model.train(training)


def main_outputs(outputs: object) -> list[Tensor]:
    """Floating-point tensors of what a model returned, as `output_tensors` does."""
    if isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
        outputs = outputs[0]
    return [tensor for tensor in _flatten(outputs) if tensor.is_floating_point()]


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
    """(Layer, side) -> indices to remove, gathered over all groups: a concat's consumer belongs to several.

    Layers of removed blocks are left out: they go as they are.
    """
    plan.check(groups.sizes, groups.removable)
    blocks = groups.removed_blocks(plan.kept)
    removed: dict[tuple[str, Side], set[int]] = defaultdict(set)
    for group in groups:
        kept = set(plan.kept[group.name])
        if len(kept) == group.n_channels:
            continue
        for member in group.members:
            if any(block.holds(member.layer) for block in blocks):
                continue
            gone = {i for i, channel in zip(member.indices, member.channels, strict=True) if channel not in kept}
            removed[(member.layer, member.side)] |= gone
    return removed


@dataclass(frozen=True, eq=False)
class _Cut:
    """A tensor of a model, and what is removed of it.

    Attributes
    ----------
    removed
        Dimension -> places that go.
    """

    tensor: Tensor
    removed: dict[int, list[int]]


def _cuts(model: nn.Module, groups: GroupSet, plan: Plan, *, statistics: bool = True) -> list[_Cut]:
    """What a plan removes of each tensor, one that several layers share taken once."""
    modules = dict(model.named_modules())
    found: dict[int, _Cut] = {}

    def remove(tensor: Tensor, dimension: int, places: Iterable[int]) -> None:
        cut = found.setdefault(id(tensor), _Cut(tensor, {}))
        cut.removed[dimension] = sorted({*cut.removed.get(dimension, ()), *places})

    for (layer, side), gone in _removed_channels(groups, plan).items():
        for part in sides_of(modules[layer]):
            if part.side == side and (statistics or isinstance(part.tensor, nn.Parameter)):
                remove(part.tensor, part.dimension, part.placed(list(gone), list(gone))[0])
    blocks = groups.removed_blocks(plan.kept)
    for group in groups:
        kept = set(plan.kept[group.name])
        for piece in group.parameters:
            if any(block.holds(piece.name) for block in blocks):
                continue
            pairs = zip(piece.indices, piece.channels, strict=True)
            gone = {index for index, channel in pairs if channel not in kept}
            if gone:
                remove(find_tensor(model, piece.name), piece.dimension, gone)
    return list(found.values())


def _without(tensor: Tensor, removed: Mapping[int, list[int]]) -> Tensor:
    """The tensor without some places along its dimensions; a parameter stays one."""
    smaller = tensor.detach()
    for dimension, places in removed.items():
        keep = torch.ones(smaller.shape[dimension], dtype=torch.bool)
        keep[places] = False
        smaller = smaller.index_select(dimension, keep.nonzero().flatten().to(tensor.device))
    return nn.Parameter(smaller, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else smaller


def _shrink(module: nn.Module, side: Side, n_gone: int) -> None:
    """Lower the numbers of channels that a known layer notes of itself."""
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = (*module.normalized_shape[:-1], module.normalized_shape[-1] - n_gone)
        return
    by_kind: list[tuple[tuple[type[nn.Module], ...], dict[str, set[Side]]]] = [
        (CONVOLUTIONS, {"in_channels": {"in", "both"}, "out_channels": {"out", "both"}}),
        ((nn.Linear,), {"in_features": {"in"}, "out_features": {"out"}}),
        ((nn.GroupNorm,), {"num_channels": {"both"}}),
        ((nn.PReLU,), {"num_parameters": {"both"}}),
        ((*BATCH_NORMS, *INSTANCE_NORMS), {"num_features": {"both"}}),
    ]
    if is_depthwise(module) and side != "out":
        module.groups -= n_gone
    for kinds, attributes in by_kind:
        for attribute, sides in attributes.items():
            if isinstance(module, kinds) and side in sides:
                setattr(module, attribute, getattr(module, attribute) - n_gone)
