"""The batch norms of channel groups: what sparse training and batch norm criteria work on."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from hdapbench.groups import ChannelGroup, GroupMember

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def norm_members(model: nn.Module, group: ChannelGroup) -> list[tuple[GroupMember, Norm]]:
    """Batch norms with affine weights that a group's channels run through, each with its place in the group."""
    modules = dict(model.named_modules())
    found = [(member, modules[member.layer]) for member in group.members]
    return [(member, module) for member, module in found if isinstance(module, Norm) and module.affine]


def first_without_norm(model: nn.Module, groups: Iterable[ChannelGroup]) -> str | None:
    """Name of the first group whose channels run through no affine batch norm, or None."""
    return next((group.name for group in groups if not norm_members(model, group)), None)


def first_shared_norm(model: nn.Module, groups: Iterable[ChannelGroup]) -> str | None:
    """Name of the first batch norm that holds channels of several groups (a concatenation's), or None."""
    members = (member for group in groups for member, _ in norm_members(model, group))
    widths = {name: len(module.weight) for name, module in model.named_modules() if isinstance(module, Norm)}
    return next((member.layer for member in members if len(member.indices) < widths[member.layer]), None)


def shrink_scales(model: nn.Module, penalty: float) -> None:
    """Add to the gradients of all batch norm scales that of ``penalty`` times the sum of their absolute values."""
    for module in model.modules():
        if isinstance(module, Norm) and module.affine and module.weight.grad is not None:
            module.weight.grad.add_(module.weight.detach().sign(), alpha=penalty)
