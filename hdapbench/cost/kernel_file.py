"""Kernels of a model as plain values, so that a file can hold them and the model need not be built again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.errors import FleetError

_STORED = {"kernel_area": "taps"}
"""Field of a kernel -> its name in files, where that is another."""
_GROUPS = TypeAdapter(dict[str, int])
_KERNELS = TypeAdapter(list[Kernel])
_MOST = 1 << 31
_FIELDS = {stored: name for name, stored in _STORED.items()}


def kernels_to_dict(kernels: KernelModel, *, with_blocks: bool) -> dict[str, Any]:
    """JSON-able values of a model's kernels.

    Parameters
    ----------
    with_blocks
        Whether they tell which residual blocks can be removed: only plans that remove some need it.
    """
    return {
        "groups": {name: int(size) for name, size in zip(kernels.groups, kernels.sizes, strict=True)},
        "kernels": [
            {_STORED.get(name, name): value for name, value in asdict(kernel).items() if name != "block" or with_blocks}
            for kernel in kernels.kernels
        ],
    }


def kernels_from_dict(values: Any) -> KernelModel:
    """Kernels of `kernels_to_dict`.

    Raises
    ------
    FleetError
        When the values are of something else.
    """
    try:
        groups = _GROUPS.validate_python(values["groups"], strict=True)
        kernels = _KERNELS.validate_python(
            [{_FIELDS.get(name, name): value for name, value in entry.items()} for entry in values["kernels"]]
        )
        sizes = np.array(list(groups.values()), dtype=np.int64)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise FleetError(f"these are not the kernels of a model: {' '.join(str(error).split())[:200]}") from None
    counts = [count for kernel in kernels for count in (kernel.channels_in, kernel.channels_out)]
    strangers = {name for count in counts for name in count.multiplicity} - set(groups)
    strangers |= {name for kernel in kernels for name in kernel.block} - set(groups)
    numbers = [value for kernel in kernels for value in asdict(kernel).values() if isinstance(value, int)]
    numbers += [value for count in counts for value in (count.constant, *count.multiplicity.values())]
    if (
        strangers
        or not all(0 <= value <= _MOST for value in numbers)
        or not all(0 < n <= _MOST for n in groups.values())
    ):
        unknown = f"; groups {', '.join(sorted(strangers)[:3])} are unknown" if strangers else ""
        raise FleetError(f"these are not the kernels of a model: numbers of kernels are 0 to {_MOST:,}{unknown}")
    return KernelModel(tuple(groups), sizes, tuple(kernels))
