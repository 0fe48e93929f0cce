"""Kernels of a model as plain values, so that a file can hold them and no network has to be traced again."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.records import ChannelCount
from hdapbench.errors import FleetError


def kernels_to_dict(kernels: KernelModel) -> dict[str, Any]:
    """JSON-able values of a model's kernels."""
    return {
        "groups": {name: int(size) for name, size in zip(kernels.groups, kernels.sizes, strict=True)},
        "kernels": [asdict(kernel) for kernel in kernels.kernels],
    }


def kernels_from_dict(values: dict[str, Any]) -> KernelModel:
    """Kernels of `kernels_to_dict`.

    Raises
    ------
    FleetError
        When the values are of something else.
    """
    try:
        made = []
        for entry in values["kernels"]:
            channels = {key: ChannelCount(**entry[key]) for key in ("channels_in", "channels_out")}
            made.append(Kernel(**(entry | channels)))
        groups: dict[str, int] = values["groups"]
        return KernelModel(tuple(groups), np.array(list(groups.values()), dtype=np.int64), tuple(made))
    except (KeyError, TypeError) as error:
        raise FleetError(f"these are not the kernels of a model: {error}") from None
