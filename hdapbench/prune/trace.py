"""Model -> channel groups, found by torch-pruning's dependency graph and each verified by really pruning it."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.errors import ModelError
from hdapbench.groups import ChannelGroup, FrozenGroup, GroupMember, GroupSet, Side
from hdapbench.prune.verify import verify_groups

PROBE_SEED = 20_250
SEARCH_SECONDS = 180.0
"""Processor time after which the search for groups is given up: torch-pruning's walks may branch without end."""


def find_groups(model: nn.Module, input_shape: tuple[int, int, int]) -> GroupSet:
    """Channel groups of a model, in order of execution; groups that cannot be pruned are frozen, with a reason.

    A group passes when removing a random half of its channels leaves the output shape as it is and the compact model
    equal to the masked one. ``model`` is not changed.

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
    copy = deepcopy(model).float().cpu().eval().requires_grad_(True)
    probe = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(PROBE_SEED))
    with _within(SEARCH_SECONDS, type(model).__name__):
        candidates, frozen = _candidate_groups(copy, probe)
        groups, rejected = verify_groups(copy, candidates, probe)
    rejected = [_explained(group, candidates, dict(copy.named_modules())) for group in rejected]
    if not groups:
        reasons = "; ".join(f"{group.name}: {group.reason}" for group in [*frozen, *rejected][:3])
        raise ModelError(f"no channel group of {type(model).__name__} can be pruned ({reasons or 'no layer found'})")
    return GroupSet(groups=tuple(groups), frozen=(*frozen, *rejected))


class _TimeIsUp(BaseException):
    """The search for groups took too long."""


@contextmanager
def _within(seconds: float, name: str) -> Iterator[None]:
    """Give the search for groups up after so much processor time; in the main thread only.

    Raises
    ------
    ModelError
        When the time is up.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() != threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: Any) -> None:
        raise _TimeIsUp

    handler = signal.signal(signal.SIGVTALRM, ring)
    timer = signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    except _TimeIsUp:
        raise ModelError(
            f"the channel groups of {name} were not found within {seconds:g} s of processor time: too many paths lead "
            "through it for torch-pruning"
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, *timer)
        signal.signal(signal.SIGVTALRM, handler)


def _candidate_groups(model: nn.Module, probe: Tensor) -> tuple[list[ChannelGroup], list[FrozenGroup]]:
    import torch_pruning

    names = {id(module): name for name, module in model.named_modules()}
    try:
        graph = torch_pruning.DependencyGraph()
        graph.build_dependency(model, example_inputs=probe, verbose=False)
    except Exception as error:  # any failure inside the tracer is one answer: it cannot be traced
        text = " ".join(str(error).split())[:200]
        place = _place(error, names)
        raise ModelError(f"{type(model).__name__} cannot be traced by torch-pruning{place}: {text}") from error

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


def _place(error: Exception, names: dict[int, str]) -> str:
    """Where the tracer failed: the operation, and the layers that it takes its channels from; empty when unknown.

    The tracer's errors name nothing: the node that it was at is found in the frames of the traceback.
    """
    from torch_pruning.dependency.node import Node

    frame, found = error.__traceback__, None
    while frame is not None:
        nodes = [value for value in frame.tb_frame.f_locals.values() if isinstance(value, Node)]
        found, frame = (nodes[0] if nodes else found), frame.tb_next
    if found is None:
        return ""
    if id(found.module) in names:
        return f" at '{names[id(found.module)]}'"
    layers: list[str] = []
    seen, front = {id(found)}, [found]
    while front:
        node = front.pop(0)
        if id(node.module) in names:
            layers.append(names[id(node.module)])
            continue
        fresh = [source for source in node.inputs if id(source) not in seen]
        seen.update(id(source) for source in fresh)
        front += fresh
    operation = type(found.module).__name__.strip("_").removesuffix("Op").lower()
    return f" at a {operation} after " + ", ".join(f"'{layer}'" for layer in layers)


def _members(graph: Any, found: Any, names: dict[int, str]) -> tuple[GroupMember, ...]:
    """Members of a dependency group that have parameters or statistics of their own."""
    members: dict[tuple[str, Side], GroupMember] = {}
    for item in found:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            raise ModelError("a bare parameter depends on these channels")
        is_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)  # holds statistics even without parameters
        if id(module) not in names or not (is_norm or any(True for _ in module.parameters(recurse=False))):
            continue
        side: Side = "out" if graph.is_out_channel_pruning_fn(item.dep.handler) else "in"
        if is_norm or _is_depthwise(module):
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
    return next(filter(None, (_member_defect(group, member, modules, claimed) for member in group.members)), None)


def _member_defect(
    group: ChannelGroup, member: GroupMember, modules: dict[str, nn.Module], claimed: dict[str, set[int]]
) -> str | None:
    module = modules[member.layer]
    reason = None
    if not isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm1d | nn.BatchNorm2d):
        reason = f"{member.layer} ({type(module).__name__}) mixes or normalises over channels"
    elif isinstance(module, nn.Conv2d) and module.groups > 1 and not _is_depthwise(module):
        reason = f"{member.layer} is a grouped convolution ({module.groups} groups)"
    elif len(set(Counter(member.channels).values())) > 1 or len(set(member.channels)) != group.n_channels:
        reason = f"{member.layer} sees some channels more often than others"
    elif member.side == "out" and claimed.get(member.layer, set()) & set(member.indices):
        reason = f"{member.layer} belongs to another group as well"
    elif member.indices[-1] >= _n_channels(module, member.side):
        reason = f"{member.layer} has no channel {member.indices[-1]}: the dependency graph mis-indexes it"
    return reason


def _explained(frozen: FrozenGroup, candidates: list[ChannelGroup], modules: dict[str, nn.Module]) -> FrozenGroup:
    """The frozen group, with a better reason than that it fails where layers of several widths are added up."""
    group = next(candidate for candidate in candidates if candidate.name == frozen.name)
    widths = sorted({_n_channels(modules[layer], "out") for layer in group.producers})
    if len(widths) == 1:
        return frozen
    text = ", ".join(str(width) for width in widths)
    reason = f"layers of {text} channels are added up: shortcuts that pad with zeros fix the widths of these stages"
    return FrozenGroup(frozen.name, frozen.n_channels, f"{reason} ({frozen.reason})")


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
