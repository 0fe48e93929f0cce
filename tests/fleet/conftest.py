from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.records import ChannelCount


@pytest.fixture(scope="session")
def kernels() -> KernelModel:
    """A residual network of four stages at 112 x 112 with eight groups: one inside and one across each stage."""
    groups, sizes, made = [], [], []
    before = ChannelCount(3)
    for stage in range(4):
        extent = 56 >> stage
        across, inside = f"s{stage}.across", f"s{stage}.inside"
        groups += [across, inside]
        sizes += [64 << stage, 32 << stage]
        wide, narrow = ChannelCount(0, {across: 1}), ChannelCount(0, {inside: 1})
        enter = extent if stage == 0 else extent * 2
        made.append(Kernel(f"s{stage}.enter", "conv", before, wide, enter, enter, extent, extent, 1, enter // extent))
        for block in range(2):
            name = f"s{stage}.{block}"
            made += [
                Kernel(f"{name}.a", "conv", wide, narrow, extent, extent, extent, extent, 1, 1),
                Kernel(f"{name}.b", "conv", narrow, narrow, extent, extent, extent, extent, 9, 1),
                Kernel(f"{name}.c", "conv", narrow, wide, extent, extent, extent, extent, 1, 1, residual=True),
            ]
        before = wide
    made += [
        Kernel("gap", "gap", before, before, 7, 7, 1, 1, 49, 7),
        Kernel("fc", "fc", before, ChannelCount(100), 1, 1, 1, 1, 1, 1),
    ]
    return KernelModel(tuple(groups), np.array(sizes, dtype=np.int64), tuple(made))
