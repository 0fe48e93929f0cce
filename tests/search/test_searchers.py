from __future__ import annotations

import importlib.util
import sys
from typing import get_args

import numpy as np
import pytest

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.errors import MissingExtraError, SearchError, TargetUnreachableError
from hdapbench.search import AdditiveImportance, Algorithm, SearchResult, SearchSpace, minimise

SIZES = {"a": 16, "b": 24, "c": 12}
WIDE = {"a": 64, "b": 96, "c": 48, "d": 40}
DEEP = {f"g{number}": size for number, size in enumerate([24, 32, 64, 16, 48, 40, 96, 24, 64, 32])}
NEEDS_CMA = pytest.mark.skipif(importlib.util.find_spec("cma") is None, reason="cma is not installed")
HEURISTICS = [
    pytest.param(name, marks=NEEDS_CMA) if name == "cma-es" else name for name in get_args(Algorithm) if name != "exact"
]


def chain(sizes: dict[str, int]) -> CostModel:
    """Cost model of 1x1 convolutions in a row, for maps of 4x4."""
    counts = [ChannelCount(3), *(ChannelCount(0, {name: 1}) for name in sizes)]
    records = [LayerRecord(name, "conv", (), counts[i], counts[i + 1], 4, 4, 4, 4) for i, name in enumerate(sizes)]
    return CostModel.from_records(records, sizes)


class Counted:
    """Objective that likes b wide, everything else narrow, and multiples of 8; it counts what it is asked."""

    def __init__(self) -> None:
        self.n_plans = 0

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        self.n_plans += len(widths)
        prefer = np.resize([3.0, -1.0, 2.0, 1.0, 0.2], widths.shape[1])
        return np.asarray(1000.0 + widths @ prefer + (widths % 8 > 0).sum(axis=1))


def space(
    target: float = 0.4,
    *,
    sizes: dict[str, int] = SIZES,
    least: float = 0.0,
    guarded: bool = False,
    round_to: int = 1,
    least_widths: np.ndarray | None = None,
) -> SearchSpace:
    """Search under a target, a least share of it, and a share of importance."""
    cost = chain(sizes)
    rng = np.random.default_rng(5)
    importance = AdditiveImportance.of_scores([rng.exponential(size=size) for size in sizes.values()])
    return SearchSpace(
        cost=cost,
        target_flops=int(target * cost.dense.flops),
        objective=Counted(),
        least_flops=int(least * int(target * cost.dense.flops)),
        retained=importance if guarded else None,
        least_retained=0.75 if guarded else 0.0,
        least_widths=least_widths,
        round_to=round_to,
    )


def search(problem: SearchSpace, algorithm: str, *, n_evaluations: int = 300, seed: int = 0) -> SearchResult:
    return minimise(
        problem,
        start=problem.cost.sizes[None],
        n_evaluations=n_evaluations,
        rng=np.random.default_rng(seed),
        algorithm=algorithm,  # type: ignore[arg-type]
    )


def brute_force(problem: SearchSpace) -> float:
    """Least objective over every plan that satisfies the constraints."""
    grid = np.stack(np.meshgrid(*(np.arange(1, n + 1) for n in SIZES.values()), indexing="ij"), -1).reshape(-1, 3)
    return float(problem.objective(grid[problem.violation(grid) <= 0]).min())


@pytest.mark.parametrize("algorithm", HEURISTICS)
@pytest.mark.parametrize("limits", [{}, {"guarded": True}, {"least": 0.97}, {"guarded": True, "least": 0.97}])
def test_every_plan_of_every_searcher_keeps_all_limits(algorithm: str, limits: dict[str, float]) -> None:
    for seed in range(3):
        problem = space(**limits)  # type: ignore[arg-type]

        found = search(problem, algorithm, seed=seed)

        plans = np.concatenate([found.widths[None], found.runners_up])
        assert (problem.cost.flops(plans) <= problem.target_flops).all()
        assert (problem.cost.flops(plans) >= problem.least_flops).all()
        assert (problem.violation(plans) == 0).all()
        assert len(np.unique(plans, axis=0)) == len(plans)
        assert found.value == problem.objective(found.widths[None])[0]
        assert found.bound is None


@pytest.mark.parametrize("algorithm", HEURISTICS)
@pytest.mark.parametrize("round_to", [8, 16, 32])
def test_every_searcher_keeps_to_the_width_grid(algorithm: str, round_to: int) -> None:
    least = np.array([9, 1, 1, 33])
    problem = space(0.6, sizes=WIDE, round_to=round_to, least_widths=least)

    found = search(problem, algorithm)

    plans = np.concatenate([found.widths[None], found.runners_up])
    assert ((plans % round_to == 0) | (plans == problem.cost.sizes)).all()
    assert (plans >= least).all()
    assert (problem.cost.flops(plans) <= problem.target_flops).all()


@pytest.mark.parametrize("algorithm", HEURISTICS)
@pytest.mark.parametrize("n_evaluations", [1, 7, 40, 300])
def test_evaluations_are_charged_exactly(algorithm: str, n_evaluations: int) -> None:
    problem = space()

    found = search(problem, algorithm, n_evaluations=n_evaluations)

    assert isinstance(problem.objective, Counted)
    assert found.n_evaluations == problem.objective.n_plans == n_evaluations
    assert found.history[-1][1] == found.value
    assert [n for n, _ in found.history] == sorted({n for n, _ in found.history})
    assert all(later < earlier for (_, earlier), (_, later) in zip(found.history, found.history[1:], strict=False))


@pytest.mark.parametrize("algorithm", HEURISTICS)
def test_the_same_seed_gives_the_same_plans_and_trace_and_another_seed_others(algorithm: str) -> None:
    first, again, other = (search(space(sizes=WIDE, guarded=True), algorithm, seed=seed) for seed in (3, 3, 4))

    assert first.history == again.history
    assert (first.widths == again.widths).all()
    assert (first.runners_up == again.runners_up).all()
    assert (first.history, first.runners_up.tolist()) != (other.history, other.runners_up.tolist())


@pytest.mark.parametrize("algorithm", HEURISTICS)
def test_no_searcher_touches_the_global_random_state(algorithm: str) -> None:
    state = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]  # noqa: NPY002 - the one under test

    search(space(), algorithm, n_evaluations=60)

    assert (np.random.get_state()[1] == state).all()  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("algorithm", ["genetic", "greedy"])
@pytest.mark.parametrize("least", [0.0, 0.97])
def test_searches_with_refinement_find_the_optimum_of_a_small_problem(algorithm: str, least: float) -> None:
    found = search(space(least=least), algorithm, n_evaluations=3000)

    assert found.value == brute_force(space(least=least))


@pytest.mark.parametrize("algorithm", [name for name in HEURISTICS if name != "random"])
def test_every_searcher_beats_random_search_at_equal_evaluations(algorithm: str) -> None:
    def mean(name: str) -> float:
        return float(np.mean([search(space(sizes=DEEP, least=0.97), name, seed=seed).value for seed in range(3)]))

    assert mean(algorithm) < mean("random")


@pytest.mark.parametrize("algorithm", HEURISTICS)
def test_where_there_are_few_plans_each_is_valued_once_and_the_best_is_found(algorithm: str) -> None:
    problem = space(sizes={"a": 16, "b": 24}, guarded=True, least_widths=np.array([3, 5]), round_to=4)
    every = problem.every_plan(1000)
    assert every is not None

    found = search(problem, algorithm, n_evaluations=10_000)

    assert {tuple(plan) for plan in every.tolist()} == {(a, b) for a in range(4, 17, 4) for b in range(8, 25, 4)}
    assert found.n_evaluations == len(every) == 20
    assert found.value == problem.objective(every[problem.violation(every) <= 0]).min()


def test_what_cannot_be_searched_exactly_says_why_and_who_searched_instead() -> None:
    found = search(space(), "exact", n_evaluations=100)

    assert found.n_evaluations == 100
    assert "no sum of tables" in found.reason
    assert "'genetic'" in found.reason
    assert found.gap is None


@pytest.mark.parametrize("algorithm", HEURISTICS)
def test_constraints_that_no_plan_satisfies_are_said(algorithm: str) -> None:
    problem = space()
    impossible = SearchSpace(
        cost=problem.cost,
        target_flops=problem.target_flops,
        objective=problem.objective,
        retained=lambda widths: np.zeros(len(widths)),
        least_retained=1.0,
    )

    with pytest.raises(TargetUnreachableError, match="lower the importance guard"):
        search(impossible, algorithm, n_evaluations=100)


@pytest.mark.parametrize("algorithm", HEURISTICS)
def test_a_target_below_the_smallest_plan_is_said(algorithm: str) -> None:
    with pytest.raises(TargetUnreachableError, match="out of reach"):
        search(space(0.02, round_to=8), algorithm)


def test_bad_input_is_said() -> None:
    problem = space()
    rng = np.random.default_rng(0)

    with pytest.raises(SearchError, match="'annealing'; known: exact, genetic"):
        search(problem, "annealing")
    with pytest.raises(SearchError, match="at least one evaluation"):
        search(problem, "ncs", n_evaluations=0)
    with pytest.raises(SearchError, match=r"shape \(1, 2\); it must hold plans of 3 widths"):
        minimise(problem, start=np.array([[4, 4]]), n_evaluations=10, rng=rng)
    with pytest.raises(SearchError, match="it must hold plans"):
        minimise(problem, start=np.zeros((0, 3), dtype=np.int64), n_evaluations=10, rng=rng)
    with pytest.raises(SearchError, match="round_to is 0"):
        space(round_to=0)
    with pytest.raises(SearchError, match="at least 6"):
        SearchSpace(cost=problem.cost, target_flops=5, objective=problem.objective, least_flops=6)
    with pytest.raises(SearchError, match="but there are 3 groups"):
        space(least_widths=np.ones(2, dtype=np.int64))


def test_cma_es_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cma", None)

    with pytest.raises(MissingExtraError, match=r"pip install 'hdapbench\[cma\]'"):
        search(space(), "cma-es")
