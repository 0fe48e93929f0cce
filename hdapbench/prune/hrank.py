"""HRank importance: how much a channel's feature maps hold, as the mean rank of them as matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from hdapbench.arrays import Floats
from hdapbench.errors import ModelError
from hdapbench.groups import ChannelGroup, GroupMember, GroupSet
from hdapbench.prune.norms import norm_members


def rank_importance(model: nn.Module, groups: GroupSet, images: Iterable[Tensor]) -> dict[str, Floats]:
    """Mean rank of the feature maps of every channel: group -> array of shape (n_channels,).

    Feature maps are what layers that consume the channel read (Lin et al. 2020, "HRank"), the mean over these layers.
    Where none reads a map of more than one place, they are what the channel's batch norms (or producers) give, negative
    values as zeros.

    Parameters
    ----------
    model
        Its mode is restored.
    images
        Batches of normalised images, shape (n, channels, height, width) each.

    Raises
    ------
    ModelError
        When there are no images, or a group's channels are never maps.
    """
    read: dict[str, list[Tensor]] = {}
    given: dict[str, list[Tensor]] = {}
    training = model.training
    model.eval()
    with _watched(model, groups, read, given), torch.no_grad():
        for batch in images:
            model(batch)
    model.train(training)
    if not read and not given:
        raise ModelError("the criterion 'hrank' needs images, and there are none")
    return {group.name: _scores(model, group, read, given) for group in groups}


def without_maps(model: nn.Module, groups: GroupSet, image: Tensor) -> tuple[str, ...]:
    """Groups whose channels are never maps, as in attention: these ranks say nothing of them.

    Parameters
    ----------
    image
        One input with its batch, shape (1, channels, height, width).
    """
    read: dict[str, list[Tensor]] = {}
    given: dict[str, list[Tensor]] = {}
    training = model.training
    model.eval()
    with _watched(model, groups, read, given), torch.no_grad():
        model(image)
    model.train(training)
    return tuple(group.name for group in groups if not _ranks(model, group, read, given))


def _ranks(
    model: nn.Module, group: ChannelGroup, read: dict[str, list[Tensor]], given: dict[str, list[Tensor]]
) -> list[tuple[GroupMember, list[Tensor]]]:
    """Ranks of the maps that a group's consumers read, or else of those that its makers give."""
    consumers = [member for member in group.members if member.side == "in" and read.get(member.layer)]
    return [(member, read[member.layer]) for member in consumers] or [
        (member, given[member.layer]) for member in _makers(model, group) if given.get(member.layer)
    ]


def _scores(
    model: nn.Module, group: ChannelGroup, read: dict[str, list[Tensor]], given: dict[str, list[Tensor]]
) -> Floats:
    """Mean ranks of a group's channels, shape (n_channels,)."""
    ranks = _ranks(model, group, read, given)
    if not ranks:
        raise ModelError(f"the criterion 'hrank' needs feature maps, and '{group.name}' gives none")
    total = np.zeros(group.n_channels)
    for member, found in ranks:
        mean = torch.cat(found).mean(0).double().cpu().numpy()  # (n_layer_channels,)
        sums = np.bincount(member.channels, weights=mean[list(member.indices)], minlength=group.n_channels)
        total += sums / np.bincount(member.channels, minlength=group.n_channels)
    return total / len(ranks)


def _makers(model: nn.Module, group: ChannelGroup) -> list[GroupMember]:
    """Batch norms that a group's channels run through, or else the layers that produce them."""
    return [member for member, _ in norm_members(model, group)] or [m for m in group.members if m.side == "out"]


@contextmanager
def _watched(
    model: nn.Module, groups: GroupSet, read: dict[str, list[Tensor]], given: dict[str, list[Tensor]]
) -> Iterator[None]:
    """Note the ranks of what consumers read, and of what makers of groups without such maps give."""
    modules = dict(model.named_modules())
    consumers = {member.layer for group in groups for member in group.members if member.side == "in"}
    without = [
        group
        for group in groups
        if not any(member.side == "in" and _reads_maps(modules[member.layer]) for member in group.members)
    ]
    makers = {member.layer for group in without for member in _makers(model, group)}
    latest: list[tuple[Tensor, Tensor]] = []  # a map that several layers read is looked at once

    def note(place: list[Tensor], maps: Tensor) -> None:
        if maps.dim() != 4:
            return
        if not latest or latest[0][0] is not maps:
            latest[:] = [(maps, torch.linalg.matrix_rank(maps.float()).float())]
        place.append(latest[0][1])

    def reader(name: str) -> Callable[..., None]:
        return lambda _module, arguments, named: note(
            read.setdefault(name, []), arguments[0] if arguments else named["input"]
        )

    def giver(name: str) -> Callable[..., None]:
        return lambda _module, _arguments, output: note(given.setdefault(name, []), output.clamp_min(0))

    handles = [
        modules[name].register_forward_pre_hook(reader(name), with_kwargs=True)
        for name in sorted(consumers)
        if _reads_maps(modules[name])
    ]
    handles += [modules[name].register_forward_hook(giver(name)) for name in sorted(makers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _reads_maps(module: nn.Module) -> bool:
    """Whether a layer is a convolution, and so reads more than one place of each channel."""
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
