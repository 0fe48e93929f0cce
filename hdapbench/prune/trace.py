"""Model -> channel groups, found by torch-pruning's dependency graph and each verified by really pruning it."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError, SurgeryError
from hdapbench.plan import Plan
from hdapbench.prune.groups import ChannelGroup, FrozenGroup, GroupMember, GroupSet, Side
from hdapbench.prune.surgery import RELATIVE_TOLERANCE, apply_plan, largest_difference, mask_model

PROBE_SEED = 20_250


def find_groups(model: nn.Module, input_shape: tuple[int, int, int]) -> GroupSet:
    """Channel groups of a model, in order of execution; groups that cannot be pruned are frozen, with a reason.

    A group passes when removing one of its channels leaves the output shape as it is and the compact model equal to
    the masked one. ``model`` is not changed.

    Parameters
    ----------
    input_shape
        Channels, height and width of one input.

    Raises
    ------
    ModelError
        When the model cannot be traced, or no group can be pruned.
    """
    # Gradients must be on: with frozen parameters the graph comes out empty, without an error.
    copy = deepcopy(model).float().eval().requires_grad_(True)
    probe = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(PROBE_SEED))
    candidates, frozen = _candidate_groups(copy, probe)
    groups, rejected = _verified(copy, candidates, probe)
    if not groups:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in [*frozen, *rejected][:3])
        raise ModelError(f"no channel group of {type(model).__name__} can be pruned ({reasons or 'no layer found'})")
    return GroupSet(groups=tuple(groups), frozen=tuple([*frozen, *rejected]))


def _candidate_groups(model: nn.Module, probe: Tensor) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    import torch_pruning

    names = {id(module): name for name, module in model.named_modules()}
    try:
        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(model, example_inputs=probe, verbose=False)
    except Exception as error:  # noqa: BLE001 - any failure inside the tracer is one answer: it cannot be traced
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"{type(model).__name__} cannot be traced by torch-pruning: {text}") from error

    position = {name: number for number, name in enumerate(_execution_order(model, probe))}
    roots = [m for m in graph.module2node if isinstance(m, nn.Conv2d | nn.Linear) and id(m) in names]
    roots.sort(key=lambda module: position.get(names[id(module)], len(position)))
    groups: list[ChannelGroup] = []
    frozen: list[FrozenGroup] = []
    claimed: dict[str, set[int]] = {}
    for root in roots:
        name = names[id(root)]
        n_channels = root.out_channels if isinstance(root, nn.Conv2d) else root.out_features
        if name in claimed or _is_depthwise(root):
            continue
        try:
            pruner = graph.get_pruner_of_module(root)
            found = graph.get_pruning_group(root, pruner.prune_out_channels, list(range(n_channels)))
            members = _members(graph, found, names)
        except (AssertionError, IndexError, KeyError, ValueError, RuntimeError, ModelError) as error:
            frozen.append(FrozenGroup(name, n_channels, " ".join(str(error).split())[:160] or type(error).__name__))
            claimed.setdefault(name, set())
            continue
        group = ChannelGroup(name, n_channels, members)
        reason = _defect(group, dict(model.named_modules()), claimed)
        for member in members:
            if member.side == "out":
                claimed.setdefault(member.layer, set()).update(member.indices)
        if reason is None:
            groups.append(group)
        else:
            frozen.append(FrozenGroup(name, n_channels, reason))
    return groups, frozen


def _members(graph: Any, found: Any, names: dict[int, str]) -> tuple[GroupMember, ...]:
    """Members of a dependency group that have parameters of their own."""
    members: dict[tuple[str, Side], GroupMember] = {}
    for item in found:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            raise ModelError("a bare parameter depends on these channels")
        if id(module) not in names or not any(True for _ in module.parameters(recurse=False)):
            continue
        side: Side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) or _is_depthwise(module):
            side = "both"
        pairs = dict(zip((int(i) for i in item.idxs), (int(c) for c in item.root_idxs), strict=True))
        key = (names[id(module)], side)
        if key in members:
            pairs |= dict(zip(members[key].indices, members[key].channels, strict=True))
        indices = tuple(sorted(pairs))
        members[key] = GroupMember(key[0], side, indices, tuple(pairs[index] for index in indices))
    return tuple(members.values())


def _defect(group: ChannelGroup, modules: dict[str, nn.Module], claimed: dict[str, set[int]]) -> str | None:
    """Reason why a group cannot be pruned that shows without running it, or None."""
    if group.n_channels < 2:
        return "has a single channel"
    if not any(member.side == "in" for member in group.members):
        return "is the model's output: no layer consumes its channels"
    for member in group.members:
        module = modules[member.layer]
        if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
            return f"{member.layer} ({type(module).__name__}) mixes or normalises over channels"
        if isinstance(module, nn.Conv2d) and module.groups > 1 and not _is_depthwise(module):
            return f"{member.layer} is a grouped convolution ({module.groups} groups)"
        if len(set(Counter(member.channels).values())) > 1 or len(set(member.channels)) != group.n_channels:
            return f"{member.layer} sees some channels more often than others"
        if member.side == "out" and claimed.get(member.layer, set()) & set(member.indices):
            return f"{member.layer} belongs to another group as well"
        if member.indices[-1] >= _n_channels(module, member.side):
            return f"{member.layer} has no channel {member.indices[-1]}: the dependency graph mis-indexes it"
    return None


def _verified(
    model: nn.Module, candidates: list[ChannelGroup], probe: Tensor
) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    """Candidates that survive losing a channel, and the others with their reasons; halved until the culprit shows."""
    if not candidates:
        return [], []
    reason = _reason_against(model, candidates, probe)
    if reason is None:
        return candidates, []
    if len(candidates) == 1:
        group = candidates[0]
        return [], [FrozenGroup(group.name, group.n_channels, reason)]
    middle = len(candidates) // 2
    good_left, bad_left = _verified(model, candidates[:middle], probe)
    good_right, bad_right = _verified(model, candidates[middle:], probe)
    return good_left + good_right, bad_left + bad_right


def _reason_against(model: nn.Module, groups: list[ChannelGroup], probe: Tensor) -> str | None:
    """Why these groups cannot each lose a channel at the same time, or None."""
    group_set = GroupSet(tuple(groups))
    plan = Plan(kept={group.name: tuple(range(1, group.n_channels)) for group in groups})
    try:
        compact = apply_plan(model, group_set, plan)
        difference, largest = largest_difference(mask_model(model, group_set, plan), compact, probe)
    except SurgeryError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - whatever a wrongly cut model raises is the reason
        return f"the pruned model fails: {' '.join(str(error).split())[:140]}"
    if difference > RELATIVE_TOLERANCE * max(largest, 1e-6):
        return f"masked and compact model differ by {difference:.2g} where outputs reach {largest:.2g}"
    return None


def _execution_order(model: nn.Module, probe: Tensor) -> list[str]:
    """Names of the layers with parameters of their own, in the order of their first call."""
    order: dict[str, None] = {}
    handles = [
        module.register_forward_pre_hook(lambda _module, _inputs, name=name: order.setdefault(name))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            model(probe)
    finally:
        for handle in handles:
            handle.remove()
    return list(order)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels == module.out_channels


def _n_channels(module: nn.Module, side: Side) -> int:
    if isinstance(module, nn.Conv2d):
        return module.in_channels if side == "in" else module.out_channels
    if isinstance(module, nn.Linear):
        return module.in_features if side == "in" else module.out_features
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)  # noqa: S101 - `_defect` let no other kind through
    return module.num_features
