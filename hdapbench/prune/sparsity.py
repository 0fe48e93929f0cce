"""What training with group sparsity works on: all weights of a channel, in every layer that produces or reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdapbench.axes.layers import sides_of
from hdapbench.groups import GroupSet


@dataclass(frozen=True, eq=False)
class _Slice:
    """Places of a parameter along a dimension, and the channel of a group that each follows."""

    group: str
    parameter: nn.Parameter
    dimension: int
    places: Tensor
    channels: Tensor

    def squares(self) -> Tensor:
        """Sum of squares at each place, shape (n_places,)."""
        others = [number for number in range(self.parameter.dim()) if number != self.dimension]
        squares = self.parameter.detach().double().square()
        return (squares.sum(others) if others else squares).cpu()[self.places]

    def pull(self, factors: Tensor) -> None:
        """Add to the gradient the parameter itself times the factor of its channel, shape (n_channels,)."""
        if self.parameter.grad is None:
            return
        by_place = torch.zeros(self.parameter.shape[self.dimension], dtype=factors.dtype)
        by_place[self.places] = factors[self.channels]
        shape = [-1 if number == self.dimension else 1 for number in range(self.parameter.dim())]
        self.parameter.grad.add_(self.parameter.detach() * by_place.to(self.parameter).view(shape))


class ChannelWeights:
    """All weights of each channel of a model that is being trained: those that a cut would take away.

    Parameters
    ----------
    model
        In the dense shapes; its parameters must stay the same objects.
    groups
        Its channel groups. Parameters of no known layer are left out.
    """

    def __init__(self, model: nn.Module, groups: GroupSet) -> None:
        modules = dict(model.named_modules())
        self._sizes = groups.sizes
        self._slices = [
            _Slice(group.name, part.tensor, part.dimension, torch.tensor(places), torch.tensor(channels))
            for group in groups
            for member in group.members
            for part in sides_of(modules[member.layer])
            if part.side == member.side and isinstance(part.tensor, nn.Parameter)
            for places, channels in [part.placed(member.indices, member.channels)]
        ]

    def norms(self) -> dict[str, Tensor]:
        """Norm of all weights of each channel: group -> shape (n_channels,)."""
        squares = {name: torch.zeros(size, dtype=torch.float64) for name, size in self._sizes.items()}
        for part in self._slices:
            squares[part.group].index_add_(0, part.channels, part.squares())
        return {name: found.sqrt() for name, found in squares.items()}

    def pull(self, factors: Mapping[str, Tensor]) -> None:
        """Add to the gradients the weights themselves times the factor of their channel.

        Parameters
        ----------
        factors
            Group -> factor of each channel, shape (n_channels,): twice a strength for that of squares, strength over
            norm for that of norms.
        """
        for part in self._slices:
            part.pull(factors[part.group])
