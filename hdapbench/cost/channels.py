"""Channels of a tensor, followed through operations that cost nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hdapbench.cost.records import ChannelCount


@dataclass(frozen=True)
class Channels:
    """Channels of a tensor: how many, and in which dimension they lie; 1, or the last of maps with channels last."""

    count: ChannelCount
    axis: int = 1

    def extent(self, tensor: Tensor) -> tuple[int, int]:
        """Height and width of a map; of what is no map its positions, as a height. Batches are stacked."""
        rest = [size for number, size in enumerate(tensor.shape) if number not in {0, self.axis}]
        width = rest[-1] if len(rest) > 1 else 1
        return tensor.numel() // max(tensor.shape[self.axis] * width, 1), width

    def moved(self, x: Tensor, y: Tensor) -> Channels:
        """Channels of a map that was written anew: the same, or those that pixel shuffling makes of them."""
        before, after = x.shape[self.axis], y.shape[self.axis]
        if before == after:
            return self
        if after > before:
            return Channels(self.count.scaled(after // before), self.axis)
        try:
            return Channels(self.count.divided(before // after), self.axis)
        except ValueError:  # a group that holds parts of what becomes one channel
            return Channels(ChannelCount(after), self.axis)

    def carried(self, x: Tensor, y: Tensor, order: list[int] | None) -> Channels:
        """Channels after an operation that costs nothing: the same, flattened, or, where unknown, the dense number.

        Parameters
        ----------
        order
            Where the dimensions of ``y`` come from, where the operation only changed their order.
        """
        if y.dim() < 2 or x.dim() < 2:
            return Channels(ChannelCount(y.shape[-1] if y.dim() else 1))
        if order is not None:
            return Channels(self.count, order.index(self.axis))
        size = x.shape[self.axis]
        if y.dim() == x.dim() and y.shape[self.axis] == size:
            return self
        if self.axis == x.dim() - 1 and y.shape[-1] == size < x.numel() == y.numel():
            return Channels(self.count, y.dim() - 1)
        return self._viewed(x, y)

    def _viewed(self, x: Tensor, y: Tensor) -> Channels:
        size, start = x.shape[self.axis], math.prod(x.shape[: self.axis])
        for axis in range(1, y.dim()):  # of a view: the dimension that holds all channels, alone or with positions
            before = math.prod(y.shape[:axis])
            covers = before <= start and before * y.shape[axis] >= start * size
            if y.numel() == x.numel() and covers and y.shape[axis] % size == 0:
                return Channels(self.count.scaled(y.shape[axis] // size), axis)
        if y.dim() < x.dim() and size in y.shape[1:]:
            return Channels(self.count, y.shape.index(size, 1))
        return Channels(ChannelCount(y.shape[1]))


def dimensions(x: Tensor, chosen: tuple[Any, ...]) -> list[int]:
    """Dimensions that an operation names as a number or a list of them, counted from the front; all where none."""
    named = chosen[0] if chosen else None
    numbers = [named] if isinstance(named, int) else named or range(x.dim())
    return [number % x.dim() for number in numbers]


def order_of(operation: str, x: Tensor, args: tuple[Any, ...]) -> list[int] | None:
    """Where the dimensions of a result come from, for operations that only change their order."""
    if operation == "permute":
        return dimensions(x, args[1:2])
    if operation in {"transpose", "t"}:
        first, second = dimensions(x, ([*args[1:3]] or [0, 1],))
        order = list(range(x.dim()))
        order[first], order[second] = second, first
        return order
    return None
