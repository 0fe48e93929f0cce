"""Types of numpy arrays, whose shapes stand in docstrings, and arrays in parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


def parts_of(rows: NDArray[Any], most: int) -> list[NDArray[Any]]:
    """An array in parts of so many rows at most: what is made of each fits the cache. At least one, if an empty one."""
    return [rows[first : first + most] for first in range(0, max(len(rows), 1), most)]
