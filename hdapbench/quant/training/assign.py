"""Bits of channel groups -> a plan's kept channels and bits per layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.searchable import channel_of_row

Bits = Mapping[str, Sequence[int]]


def kept_channels(folded: FoldedModel, bits: Bits) -> dict[str, tuple[int, ...]]:
    """Channel group -> channels with more than 0 bits.

    Parameters
    ----------
    bits
        Selector -> bits of each channel, 0 for those that go.
    """
    return {group.name: tuple(i for i, b in enumerate(bits[group.name]) if b) for group in folded.group_set}


def layer_bits(folded: FoldedModel, bits: Bits) -> dict[str, tuple[int, ...]]:
    """Layer -> bits of each output channel that stays.

    Parameters
    ----------
    bits
        Selector -> bits of each channel, 0 for those that go.
    """
    of_channel = [value for selector in folded.layers.selectors for value in bits[selector.name]]
    rows = channel_of_row(folded).tolist()
    found, start = {}, 0
    for name in folded.graph.layers:
        stop = start + folded.graph.by_name[name].shape[0]
        found[name] = tuple(of_channel[row] for row in rows[start:stop] if of_channel[row])
        start = stop
    return found
