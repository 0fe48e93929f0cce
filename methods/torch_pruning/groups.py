"""Our channel groups in torch-pruning's form: its own where its graph finds the same, built from ours elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch_pruning import DependencyGraph
from torch_pruning._helpers import GroupItem, _HybridIndex
from torch_pruning.dependency.dependency import Dependency
from torch_pruning.dependency.group import Group
from torch_pruning.dependency.node import Node
from torch_pruning.pruner import function

if TYPE_CHECKING:
    from hdapbench.groups import ChannelGroup
    from hdapbench.method import Plan, Problem


def is_followed(problem: Problem) -> bool:
    """Whether torch-pruning's graph can be trusted with all groups.

    It is not where channels are tied within a layer (heads, halves, conv groups) or held by bare parameters: 1.6.1
    maps their indices wrongly, or stops.
    """
    modules = dict(problem.model().named_modules())
    return all(
        not group.parameters
        and not group.sizes
        and all(member.dimension is None for member in group.members)
        and _n_filters(modules[group.name]) == group.n_channels
        for group in problem.groups.values()
    )


def torch_pruning_groups(problem: Problem, model: nn.Module, plan: Plan) -> dict[str, Any]:
    """Group of torch-pruning for each of ours.

    Parameters
    ----------
    model
        The network pruned by ``plan``; it is put into eval mode with its gradients enabled.
    """
    model.eval().requires_grad_(True)
    if is_followed(problem):
        graph = DependencyGraph()
        graph.build_dependency(model, problem.training.example_input(), verbose=False)
        return {name: _found(graph, model.get_submodule(name)) for name in problem.groups}
    return dict(_built(model, problem.groups, plan))


def _found(graph: Any, root: nn.Module) -> Any:
    """torch-pruning's group of all channels that a layer produces."""
    pruner = graph.get_pruner_of_module(root)
    return graph.get_pruning_group(root, pruner.prune_out_channels, list(range(pruner.get_out_channels(root))))


def _built(model: nn.Module, groups: Mapping[str, ChannelGroup], plan: Plan) -> Iterable[tuple[str, Any]]:
    """Groups whose items are our members, in the pruned model's numbers."""
    modules = dict(model.named_modules())
    known = {name: _handlers(module) for name, module in modules.items()}
    handlers = {name: pair for name, pair in known.items() if pair is not None}
    nodes = {name: Node(modules[name], None, name) for name in handlers}
    gone: dict[tuple[str, str], set[int]] = {}
    for name, group in groups.items():
        kept = set(plan.kept[name])
        for member in group.members:
            pairs = zip(member.indices, member.channels, strict=True)
            gone.setdefault((member.layer, member.side), set()).update(i for i, channel in pairs if channel not in kept)
    for name, group in groups.items():
        place = {channel: number for number, channel in enumerate(plan.kept[name])}
        found = Group()
        for member in group.members:
            if member.layer not in nodes:
                continue
            left = [i for i in range(max(member.indices) + 1) if i not in gone[member.layer, member.side]]
            number = {index: position for position, index in enumerate(left)}
            pairs = zip(member.indices, member.channels, strict=True)
            indices = [_HybridIndex(number[i], place[channel]) for i, channel in pairs if channel in place]
            handler = handlers[member.layer][member.side == "in"]
            node = nodes[member.layer]
            item = GroupItem(dep=Dependency(handler, handler, node, node), idxs=[index.idx for index in indices])
            item.root_idxs = [index.root_idx for index in indices]
            found.items.append(item)
        yield name, found


def _handlers(module: nn.Module) -> tuple[Any, Any] | None:
    """What torch-pruning calls the pruning of a layer's outputs and inputs, by which its criteria tell layers apart."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and 1 < module.groups == module.in_channels:
        return function.prune_depthwise_conv_out_channels, function.prune_depthwise_conv_in_channels
    kinds: list[tuple[Any, tuple[Any, Any]]] = [
        (nn.modules.conv._ConvNd, (function.prune_conv_out_channels, function.prune_conv_in_channels)),
        (nn.Linear, (function.prune_linear_out_channels, function.prune_linear_in_channels)),
        (_BatchNorm, (function.prune_batchnorm_out_channels, function.prune_batchnorm_in_channels)),
        (nn.LayerNorm, (function.prune_layernorm_out_channels, function.prune_layernorm_in_channels)),
    ]
    return next((handlers for kind, handlers in kinds if isinstance(module, kind)), None)


def _n_filters(module: nn.Module) -> int:
    return int(getattr(module, "out_channels", 0) or getattr(module, "out_features", 0))
