"""Kernels of a model as plain values, so that a file can hold them and the model need not be built again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.records import ChannelCount
from hdapbench.errors import FleetError

_STORED = {"kernel_area": "taps"}
"""Field of a kernel -> its name in files, where that is another."""
_FIELDS = {stored: name for name, stored in _STORED.items()}


def kernels_to_dict(kernels: KernelModel) -> dict[str, Any]:
    """JSON-able values of a model's kernels."""
    return {
        "groups": {name: int(size) for name, size in zip(kernels.groups, kernels.sizes, strict=True)},
        "kernels": [
            {_STORED.get(name, name): value for name, value in asdict(kernel).items()} for kernel in kernels.kernels
        ],
    }


def kernels_from_dict(values: dict[str, Any]) -> KernelModel:
    """Kernels of `kernels_to_dict`.

    Raises
    ------
    FleetError
        When the values are of something else.
    """
    try:
        kernels = []
        for entry in values["kernels"]:
            fields = {_FIELDS.get(name, name): value for name, value in entry.items()}
            fields |= {name: ChannelCount(**entry[name]) for name in ("channels_in", "channels_out")}
            kernels.append(Kernel(**fields))
        groups: dict[str, int] = values["groups"]
        return KernelModel(tuple(groups), np.array(list(groups.values()), dtype=np.int64), tuple(kernels))
    except (KeyError, TypeError) as error:
        raise FleetError(f"these are not the kernels of a model: {error}") from None
