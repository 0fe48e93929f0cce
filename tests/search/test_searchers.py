from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.errors import TargetUnreachableError
from hdapbench.search import SearchSpace, minimise
from hdapbench.search.ncs import _least_distance

SIZES = {"a": 16, "b": 24, "c": 12}


def chain() -> CostModel:
    """Cost model of three 1x1 convolutions in a row, for maps of 4x4."""
    counts = [ChannelCount(3), *(ChannelCount(0, {name: 1}) for name in SIZES)]
    records = [LayerRecord(name, "conv", (), counts[i], counts[i + 1], 4, 4, 4, 4) for i, name in enumerate(SIZES)]
    return CostModel.from_records(records, SIZES)


def space(target: float = 0.4, least: float = 0.0) -> SearchSpace:
    """Search whose objective likes b wide and everything else narrow."""
    cost = chain()
    prefer = np.array([3.0, -1.0, 2.0])
    return SearchSpace(
        cost=cost,
        target_flops=int(target * cost.dense.flops),
        objective=lambda widths: 100.0 + widths @ prefer,
        least_flops=int(least * target * cost.dense.flops),
    )


def brute_force(found: SearchSpace) -> float:
    """Least objective over every plan that satisfies the constraints."""
    grid = np.stack(np.meshgrid(*(np.arange(1, n + 1) for n in SIZES.values()), indexing="ij"), -1).reshape(-1, 3)
    return float(found.objective(grid[found.violation(grid) <= 0]).min())


@pytest.mark.parametrize("algorithm", ["genetic", "ncs", "random"])
def test_no_searcher_returns_a_plan_above_the_target(algorithm: str) -> None:
    for seed in range(5):
        found = minimise(
            space(),
            start=np.array([[16, 24, 12]]),
            n_evaluations=500,
            rng=np.random.default_rng(seed),
            algorithm=algorithm,  # type: ignore[arg-type]
        )
        assert chain().flops(found.widths)[0] <= space().target_flops
        assert (chain().flops(found.runners_up) <= space().target_flops).all()


@pytest.mark.parametrize("algorithm", ["genetic", "ncs", "random"])
def test_the_same_seed_gives_the_same_plan_and_trace(algorithm: str) -> None:
    runs = [
        minimise(
            space(),
            start=np.array([[4, 6, 3]]),
            n_evaluations=400,
            rng=np.random.default_rng(3),
            algorithm=algorithm,  # type: ignore[arg-type]
        )
        for _ in range(2)
    ]

    assert runs[0].trace == runs[1].trace
    assert (runs[0].widths == runs[1].widths).all()


@pytest.mark.parametrize("least", [0.0, 0.97])
def test_the_genetic_search_finds_the_optimum_of_a_small_problem(least: float) -> None:
    found = minimise(space(least=least), start=np.array([[8, 8, 8]]), n_evaluations=3000, rng=np.random.default_rng(0))

    assert found.value == brute_force(space(least=least))


def test_the_genetic_search_beats_random_search_at_equal_evaluations() -> None:
    def best(algorithm: str) -> float:
        values = [
            minimise(
                space(least=0.97),
                start=np.array([[8, 8, 8]]),
                n_evaluations=300,
                rng=np.random.default_rng(seed),
                algorithm=algorithm,  # type: ignore[arg-type]
            ).value
            for seed in range(5)
        ]
        return float(np.mean(values))

    assert best("genetic") < best("random")


def test_constraints_that_no_plan_satisfies_are_said() -> None:
    impossible = space()
    impossible = SearchSpace(
        cost=impossible.cost,
        target_flops=impossible.target_flops,
        objective=impossible.objective,
        retained=lambda widths: np.zeros(len(widths)),
        least_retained=1.0,
    )

    with pytest.raises(TargetUnreachableError, match="lower the importance guard"):
        minimise(impossible, start=np.array([[8, 8, 8]]), n_evaluations=100, rng=np.random.default_rng(0))


def test_the_distance_of_two_equal_climbers_is_zero_and_grows_with_their_distance() -> None:
    points = np.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.5]])
    sigma = np.full(3, 0.1)

    distance = _least_distance(points, points, sigma)

    assert distance[0] == pytest.approx(0.0)
    assert distance[2] == pytest.approx(0.4**2 / (8 * 0.1**2))
