"""Types of numpy arrays, whose shapes stand in docstrings, and arrays in parts."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
Copied = TypeVar("Copied")


def own_copy(value: Copied) -> Copied:
    """Copy that shares nothing with the value; it is, or its attributes are, arrays that refuse to be written to."""
    copied = deepcopy(value)
    parts: list[Any] = [copied] if isinstance(copied, np.ndarray) else list(vars(copied).values())
    for part in parts:
        if isinstance(part, np.ndarray):
            part.flags.writeable = False
    return copied


def parts_of(rows: NDArray[Any], most: int) -> list[NDArray[Any]]:
    """An array in parts of so many rows at most: what is made of each fits the cache. At least one, if an empty one."""
    return [rows[first : first + most] for first in range(0, max(len(rows), 1), most)]
