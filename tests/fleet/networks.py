"""Random networks, their widths, and their kernels as the scalar reference takes them."""

from __future__ import annotations

import numpy as np

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.records import ChannelCount
from tests.fleet.reference import Shape

KINDS = ("conv", "conv", "dw", "fc", "pool", "gap", "ew")


def random_network(rng: np.random.Generator, n_kernels: int = 24) -> KernelModel:
    """Kernels of every kind over six groups; some counts are constant or multiples, as concat and flatten make them."""
    sizes = rng.integers(3, 700, size=6)
    groups = tuple(f"g{number}" for number in range(6))
    kernels = []
    for number in range(n_kernels):
        kind = KINDS[number % len(KINDS)]
        window = int(rng.choice([1, 3, 5])) if kind in ("conv", "dw", "pool") else 1
        stride = int(rng.choice([1, 2])) if kind in ("conv", "dw", "pool") else 1
        extent = 1 if kind == "fc" else int(rng.choice([2, 7, 15, 28, 56]))
        in_channels = ChannelCount(int(rng.integers(0, 40)), {str(rng.choice(groups)): int(rng.integers(1, 3))})
        out_channels = ChannelCount(0, {str(rng.choice(groups)): 1})
        if kind not in ("conv", "fc"):
            out_channels = in_channels
        out = 1 if kind == "gap" else -(-extent // stride)
        kernel_area = extent**2 if kind == "gap" else window**2
        residual = kind == "conv" and bool(rng.random() < 0.4)
        kernels.append(
            Kernel(
                f"k{number}",
                kind,
                in_channels,
                out_channels,
                extent,
                extent,
                out,
                out,
                kernel_area,
                stride,
                residual=residual,
            )
        )
    return KernelModel(groups, sizes.astype(np.int64), tuple(kernels))


def shapes_of(kernels: KernelModel, widths: np.ndarray) -> list[Shape]:
    """One plan's kernels as the scalar reference takes them."""
    width = dict(zip(kernels.groups, (int(value) for value in widths), strict=True))

    def channels(count: ChannelCount) -> int:
        return count.constant + sum(times * width[name] for name, times in count.multiplicity.items())

    return [
        Shape(
            t=kernel.kind,
            ci=channels(kernel.channels_in),
            co=channels(kernel.channels_out),
            k=round(kernel.kernel_area**0.5),
            s=kernel.stride,
            hi=kernel.height_in,
            wi=kernel.width_in,
            ho=kernel.height_out,
            wo=kernel.width_out,
            res=kernel.residual,
        )
        for kernel in kernels.kernels
    ]


def random_widths(rng: np.random.Generator, kernels: KernelModel, n_plans: int) -> np.ndarray:
    return np.maximum(1, (kernels.sizes * rng.uniform(0.02, 1.0, size=(n_plans, 6))).astype(np.int64))
