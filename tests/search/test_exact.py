"""The exact search against brute force: every plan of small random models is enumerated."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.errors import TargetUnreachableError
from hdapbench.search import AdditiveImportance, SearchSpace, TableObjective, solve_exact

SHAPES = ("chain", "residual", "concat")


class RandomTables(TableObjective):
    """A random cost for every kernel and pair of channel counts."""

    def __init__(self, kernels: KernelModel, rng: np.random.Generator) -> None:
        self.kernels = kernels
        self.constant = float(rng.uniform(0, 5))
        in_channels, out_channels = (counts[0] for counts in kernels.channels(kernels.sizes))
        self._tables = []
        for kernel, (rows, columns) in enumerate(zip(in_channels, out_channels, strict=True)):
            smooth = np.arange(rows + 1)[:, None] * (1 + np.arange(columns + 1)) * rng.uniform(0, 2)
            rough = rng.uniform(0, 1, (rows + 1, columns + 1)) * rng.uniform(0, 40)
            self._tables.append(smooth + (np.floor(rough) if kernel % 2 else rough))

    def kernel_cost(self, number: int, in_channels: np.ndarray, out_channels: np.ndarray) -> np.ndarray:
        return self._tables[number][in_channels, out_channels]


def model(shape: str, rng: np.random.Generator) -> tuple[CostModel, KernelModel]:
    """Random small model: convolutions in a row, with shared widths, or after concatenations."""
    n_groups = int(rng.integers(3, 6))
    sizes = {f"g{number}": int(rng.integers(3, 9)) for number in range(n_groups)}
    width = {name: ChannelCount(0, {name: 1}) for name in sizes}
    names = list(sizes)
    path = [ChannelCount(3), *width.values(), ChannelCount(10)]
    if shape == "residual":  # the stage's width comes back after every block
        stage = width[names[0]]
        path = [ChannelCount(3), stage]
        for name in names[1:]:
            path += [width[name], stage] if rng.random() < 0.7 else [width[name]]
    pairs = list(pairwise(path))
    if shape == "concat":
        for _ in range(int(rng.integers(1, 3))):
            picked = rng.choice(names, size=3, replace=False)
            pairs.append((width[picked[0]] + width[picked[1]] + ChannelCount(2), width[picked[2]]))
    area = rng.integers(1, 5, size=len(pairs))
    records = [
        LayerRecord(
            f"c{i}",
            "conv",
            (i - 1,),
            in_channels,
            out_channels,
            1,
            int(area[i]),
            1,
            int(area[i]),
            kernel_area=int(rng.choice([1, 9])),
        )
        for i, (in_channels, out_channels) in enumerate(pairs)
    ]
    depthwise = width[names[-1]]
    records.append(LayerRecord("dw", "depthwise", (len(records) - 1,), depthwise, depthwise, 2, 2, 2, 2, kernel_area=9))
    return CostModel.from_records(records, sizes), KernelModel.from_records(records, sizes)


def instance(seed: int) -> SearchSpace:
    """Random problem: with or without a FLOPs band, importance, least widths and a width grid."""
    rng = np.random.default_rng(seed)
    cost, kernels = model(SHAPES[seed % 3], rng)
    importance = AdditiveImportance.of_scores([rng.exponential(1, size=size) for size in cost.sizes])
    span = cost.dense.flops - cost.minimum_flops
    target = cost.minimum_flops + int(span * rng.uniform(0.2, 0.7))
    return SearchSpace(
        cost=cost,
        target_flops=target,
        objective=RandomTables(kernels, rng),
        least_flops=int(0.85 * target) if rng.random() < 0.5 else 0,
        retained=importance if rng.random() < 0.6 else None,
        least_retained=float(rng.uniform(0.3, 0.6)),
        least_widths=rng.integers(1, 3, size=len(cost.sizes)) if rng.random() < 0.3 else None,
        round_to=int(rng.choice([1, 1, 2])),
    )


def every_plan(space: SearchSpace) -> np.ndarray:
    """All plans on the width grid, shape (n_plans, n_groups)."""
    axes = [np.unique([*range(space.round_to, int(size) + 1, space.round_to), int(size)]) for size in space.cost.sizes]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def best_by_brute_force(space: SearchSpace) -> float | None:
    plans = every_plan(space)
    allowed = plans[space.violation(plans) <= 0]
    return float(space.objective(allowed).min()) if len(allowed) else None


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_the_exact_search_finds_the_optimum_of_two_hundred_random_models(first: int) -> None:
    for seed in range(first, first + 20):
        space = instance(seed)
        truth = best_by_brute_force(space)
        if truth is None:
            with pytest.raises(TargetUnreachableError):
                solve_exact(space, tolerance=0.0)
            continue

        found = solve_exact(space, tolerance=0.0)

        assert found.value == pytest.approx(truth, rel=1e-8), seed
        assert space.violation(found.widths[None])[0] == 0, seed
        assert space.objective(found.widths[None])[0] == found.value, seed
        assert found.bound is not None, seed
        assert found.bound <= truth * (1 + 1e-12), seed
        assert found.gap < 1e-8, seed
