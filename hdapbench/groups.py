"""Channel groups: channels that must be kept or removed together. Plain values, no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    dimension
        Of a norm whose statistics run over channels: the dimension of its input that they lie along.
    """

    layer: str
    side: Side
    indices: tuple[int, ...]
    channels: tuple[int, ...]
    dimension: int | None = None


@dataclass(frozen=True)
class ParameterMember:
    """Places along one dimension of a parameter or buffer of no known layer, such as a class token.

    Attributes
    ----------
    name
        Dotted name of the parameter or buffer.
    dimension
        Dimension that the places lie along.
    indices
        Places.
    channels
        For each of ``indices``, the channel of the group that it follows.
    """

    name: str
    dimension: int
    indices: tuple[int, ...]
    channels: tuple[int, ...]


@dataclass(frozen=True)
class SizeMember:
    """Attribute of a module that its code reads as a size, such as a number of heads: so many for every channel."""

    module: str
    attribute: str
    per_channel: int


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are kept or removed together, named after the first layer that produces them."""

    name: str
    n_channels: int
    members: tuple[GroupMember, ...]
    parameters: tuple[ParameterMember, ...] = ()
    sizes: tuple[SizeMember, ...] = ()

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
class ResidualBlock:
    """A module that adds its shortcut, the identity, to what its layers give, so that it can be removed as a whole.

    A plan removes it by keeping no channel of any of its groups. The groups that its output belongs to stay as planned.

    Attributes
    ----------
    name
        Dotted name of the module.
    groups
        Channel groups that lie in it entirely; no other block has them.
    after
        What is left of it: what it does after the addition.
    """

    name: str
    groups: tuple[str, ...]
    after: Literal["identity", "relu"]

    def holds(self, name: str) -> bool:
        """Whether a module or parameter of this name lies in it, or is the block."""
        return name == self.name or name.startswith(f"{self.name}.")


@dataclass(frozen=True)
class GroupSet:
    """All channel groups of a model: those that can be pruned, in order of execution, and the frozen ones.

    ``blocks`` are the residual blocks that can be removed.
    """

    groups: tuple[ChannelGroup, ...]
    frozen: tuple[FrozenGroup, ...] = ()
    blocks: tuple[ResidualBlock, ...] = ()

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Group -> channels in the dense model."""
        return {group.name: group.n_channels for group in self.groups}

    @property
    def removable(self) -> tuple[tuple[str, ...], ...]:
        """Groups of each removable block: what `hdapbench.plan.Plan.check` allows to be empty together."""
        return tuple(block.groups for block in self.blocks)

    def removed_blocks(self, kept: Mapping[str, Sequence[int]]) -> tuple[ResidualBlock, ...]:
        """Blocks of whose groups no channel is kept."""
        return tuple(block for block in self.blocks if not any(kept[name] for name in block.groups))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the prunable groups, in order."""
        return tuple(group.name for group in self.groups)

    def __iter__(self) -> Iterator[ChannelGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)
