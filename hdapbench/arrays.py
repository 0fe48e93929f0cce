"""Types of numpy arrays; shapes stand in docstrings."""

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
