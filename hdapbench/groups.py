"""Channel groups: channels that must be kept or removed together. Plain values, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Side = Literal["out", "in", "both"]
"""Which channels of a layer: those it produces, those it consumes, or both at once (batch norm, depthwise)."""


@dataclass(frozen=True)
class GroupMember:
    """The channels of one layer that belong to a group.

    Attributes
    ----------
    layer
        Dotted name of the module.
    side
        Produced channels, consumed channels, or both at once.
    indices
        Channel indices in the layer.
    channels
        For each of ``indices``, the channel of the group that it follows.
    """

    layer: str
    side: Side
    indices: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are kept or removed together, named after the first layer that produces them."""

    name: str
    n_channels: int
    members: tuple[GroupMember, ...]

    @property
    def producers(self) -> tuple[str, ...]:
        """Convolution and linear layers whose filters are the channels of this group."""
        return tuple(member.layer for member in self.members if member.side == "out")


@dataclass(frozen=True)
class FrozenGroup:
    """Channels that cannot be pruned, and why."""

    name: str
    n_channels: int
    reason: str


@dataclass(frozen=True)
class GroupSet:
    """All channel groups of a model: those that can be pruned, in order of execution, and the frozen ones."""

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenGroup, ...] = ()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Group -> channels in the dense model."""
        return {group.name: group.n_channels for group in self.groups}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the prunable groups, in order."""
        return tuple(group.name for group in self.groups)

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)
