"""The dimension of a tensor in which its channels lie, followed through operations that cost nothing."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor


def extent(tensor: Tensor, axis: int) -> tuple[int, int]:
    """Height and width of a map whose channels lie in one dimension; of what is no map its positions, as a height.

    Batches are stacked.
    """
    rest = [size for number, size in enumerate(tensor.shape) if number not in {0, axis}]
    width = rest[-1] if len(rest) > 1 else 1
    return tensor.numel() // max(tensor.shape[axis] * width, 1), width


def carried(x: Tensor, y: Tensor, axis: int, order: list[int] | None) -> int:
    """Dimension of the channels after an operation that costs nothing; 1 where it is unknown.

    Parameters
    ----------
    order
        Where the dimensions of ``y`` come from, where the operation only changed their order.
    """
    if y.dim() < 2 or x.dim() < 2:
        return 1
    if order is not None:
        return order.index(axis)
    size = x.shape[axis]
    if y.dim() == x.dim() and y.shape[axis] == size:
        return axis
    if axis == x.dim() - 1 and y.shape[-1] == size < x.numel() == y.numel():
        return y.dim() - 1
    return _viewed(x, y, axis)


def _viewed(x: Tensor, y: Tensor, axis: int) -> int:
    size, start = x.shape[axis], math.prod(x.shape[:axis])
    for number in range(1, y.dim()):  # of a view: the dimension that holds all channels, alone or with positions
        before = math.prod(y.shape[:number])
        covers = before <= start and before * y.shape[number] >= start * size
        if y.numel() == x.numel() and covers and y.shape[number] % size == 0:
            return number
    return y.shape.index(size, 1) if y.dim() < x.dim() and size in y.shape[1:] else 1


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
