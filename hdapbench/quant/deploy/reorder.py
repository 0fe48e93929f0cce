"""Channels sorted by bit-width, in every layer that makes or reads them, so that equal bits lie side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hdapbench.groups import ChannelGroup, GroupSet


@dataclass(frozen=True)
class LayerOrder:
    """Where the filters and inputs of one layer come from, after sorting.

    Attributes
    ----------
    rows : Tensor of int64, shape (n_out,)
        Old filter at each new position.
    columns : Tensor of int64, shape (n_in,)
        Old input at each new position; for depthwise layers 0 alone.
    """

    rows: Tensor
    columns: Tensor


def sort_channels(
    groups: GroupSet, weights: Mapping[str, Tensor], weight_bits: Mapping[str, Sequence[int]]
) -> dict[str, LayerOrder]:
    """New order of every layer's channels: by bits, and by their old order among equal bits.

    The channels of a group move together, in layers that make them and in layers that read them. Channels that belong
    to no group, the network's outputs among them, keep their place.

    Parameters
    ----------
    weights
        Layer -> weight, filters first.
    weight_bits
        Layer -> bits of each filter.
    """
    rows = {name: list(range(len(weight))) for name, weight in weights.items()}
    columns = {name: list(range(weight.shape[1])) for name, weight in weights.items()}
    for group in groups:
        order = _order(group, weight_bits)
        for member in group.members:
            if member.layer not in weights:
                continue  # a norm that could not be folded would have been refused
            slots: dict[int, list[int]] = defaultdict(list)
            for index, channel in sorted(zip(member.indices, member.channels, strict=True)):
                slots[channel].append(index)
            target = (columns if member.side == "in" else rows)[member.layer]
            # Groups of a convolution lose and swap the same channels, and share its columns.
            for new, old in enumerate(order):
                for place, source in zip(slots[new], slots[old], strict=True):
                    target[place % len(target)] = source % len(target)
    return {name: LayerOrder(torch.tensor(rows[name]), torch.tensor(columns[name])) for name in weights}


def _order(group: ChannelGroup, weight_bits: Mapping[str, Sequence[int]]) -> list[int]:
    """Old channel at each new position of a group."""
    member = next(member for member in group.members if member.side == "out" and member.layer in weight_bits)
    bits = {
        channel: weight_bits[member.layer][index]
        for index, channel in zip(member.indices, member.channels, strict=True)
    }
    return sorted(range(group.n_channels), key=lambda channel: (bits[channel], channel))
