"""How a reshape moves dimensions: the smallest runs of old and new ones that hold the same values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Integers

Axis = Integers | None
"""Label of every index along a dimension, shape (size,), -1 where there is none; None where none has one."""


@dataclass(frozen=True)
class Block:
    """Dimensions of the old shape that become dimensions of the new one; those of size 1 are left out."""

    old: tuple[int, ...]
    new: tuple[int, ...]


def blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[Block]:
    """Smallest runs of dimensions that a reshape maps onto each other, in order."""
    olds = [number for number, size in enumerate(old) if size != 1]
    news = [number for number, size in enumerate(new) if size != 1]
    first_old = first_new = 0
    while first_old < len(olds) and first_new < len(news):
        last_old, last_new = first_old + 1, first_new + 1
        while (n_old := math.prod(old[number] for number in olds[first_old:last_old])) != (
            n_new := math.prod(new[number] for number in news[first_new:last_new])
        ):
            last_old, last_new = (last_old + 1, last_new) if n_old < n_new else (last_old, last_new + 1)
        yield Block(tuple(olds[first_old:last_old]), tuple(news[first_new:last_new]))
        first_old, first_new = last_old, last_new


def flat(axis: Integers, position: int, sizes: Sequence[int]) -> Integers:
    """Labels of one dimension among others, over all of them in order, shape (product of sizes,)."""
    shape = [1] * len(sizes)
    shape[position] = -1
    return np.broadcast_to(axis.reshape(shape), tuple(sizes)).reshape(-1)


def varying(grid: Integers) -> list[int]:
    """Dimensions of a grid of labels along which they are not all the same."""
    return [number for number in range(grid.ndim) if (grid != grid.take([0], number)).any()]
