from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord
from hdapbench.search import AdditiveImportance, SearchSpace
from hdapbench.search.exchange import _least_wide, _moves
from hdapbench.search.ncs import _least_distance
from hdapbench.search.repair import repaired

SIZES = {"a": 32, "b": 64, "c": 24, "d": 48}


def space(target: float, *, kept: float = 0.0, least: float = 0.0, round_to: int = 1) -> SearchSpace:
    """Problem over 3x3 convolutions on maps that shrink, under limits as shares of the dense model."""
    counts = [ChannelCount(3), *(ChannelCount(0, {name: 1}) for name in SIZES)]
    sides = [8, 8, 4, 4]
    records = [
        LayerRecord(name, "conv", (), counts[i], counts[i + 1], sides[i], sides[i], sides[i], sides[i], kernel_area=9)
        for i, name in enumerate(SIZES)
    ]
    cost = CostModel.from_records(records, SIZES)
    rng = np.random.default_rng(1)
    flops = int(target * cost.dense.flops)
    return SearchSpace(
        cost=cost,
        target_flops=flops,
        objective=lambda widths: widths.sum(axis=1).astype(float),
        least_flops=int(least * flops),
        retained=AdditiveImportance.of_scores([rng.exponential(size=size) for size in SIZES.values()]),
        least_retained=kept,
        round_to=round_to,
    )


def random_plans(problem: SearchSpace, n_plans: int = 200) -> np.ndarray:
    """Wanted widths, anything from one channel to all, shape (n_plans, n_groups)."""
    return np.random.default_rng(2).uniform(0.02, 1.0, size=(n_plans, len(SIZES))) * problem.cost.sizes


@pytest.mark.parametrize("round_to", [1, 8])
@pytest.mark.parametrize(("kept", "least"), [(0.0, 0.0), (0.8, 0.0), (0.0, 0.98), (0.8, 0.98), (0.999, 0.0)])
def test_flops_stay_within_the_target_whatever_else_is_asked(kept: float, least: float, round_to: int) -> None:
    problem = space(0.4, kept=kept, least=least, round_to=round_to)

    plans = repaired(problem, random_plans(problem))

    assert (problem.cost.flops(plans) <= problem.target_flops).all()
    assert ((plans % round_to == 0) | (plans == problem.cost.sizes)).all()


def test_plans_keep_the_importance_that_is_asked_for_and_hardly_more() -> None:
    problem = space(0.5, kept=0.7)
    assert problem.retained is not None

    kept = problem.retained(repaired(problem, random_plans(problem)))

    assert (kept >= 0.7).mean() > 0.95
    assert (kept < 0.74).mean() > 0.95


def test_a_plan_that_no_one_factor_repairs_is_tilted_towards_importance_per_flop() -> None:
    problem = space(0.35, kept=0.72)
    assert problem.retained is not None
    lopsided = np.array([[32.0, 64.0, 2.0, 6.0]])
    shares = lopsided / problem.cost.sizes
    scaled = np.concatenate(
        [problem.rounded(np.minimum(shares * factor, 1.0)) for factor in np.linspace(0.05, 20, 400)]
    )
    assert (problem.violation(scaled) > 0).all()

    assert problem.violation(repaired(problem, lopsided))[0] == 0


def test_plans_on_the_grid_within_the_target_are_left_alone_when_nothing_else_is_asked() -> None:
    problem = space(0.5)
    plans = np.array([[8, 8, 8, 8], [1, 2, 3, 4]])

    assert (repaired(problem, plans) == plans).all()


def test_a_move_gives_the_other_group_the_least_width_that_suffices() -> None:
    problem = space(0.5, kept=0.7)
    assert problem.retained is not None
    plans = repaired(problem, random_plans(problem, 40))
    plans[:, 0] = np.maximum(plans[:, 0] - 3, 1)
    groups = np.full(len(plans), 1)

    moved = _least_wide(problem, plans, groups)

    for before, after in zip(plans, moved, strict=True):
        every = np.repeat(before[None], SIZES["b"], axis=0)
        every[:, 1] = np.arange(1, SIZES["b"] + 1)
        enough = every[problem.retained(every) >= 0.7]
        assert (after == (enough[0] if len(enough) else every[-1])).all()


def test_moves_differ_from_the_plan_and_violate_nothing_more() -> None:
    problem = space(0.5, kept=0.7, least=0.9, round_to=4)
    plan = repaired(problem, random_plans(problem, 1))[0]
    violation = float(problem.violation(plan[None])[0])

    moves = _moves(problem, plan, violation, np.random.default_rng(0))

    assert 8 <= len(moves) <= 32
    assert (moves != plan).any(axis=1).all()
    assert (problem.violation(moves) <= violation).all()
    assert ((moves % 4 == 0) | (moves == problem.cost.sizes)).all()


def test_the_distance_of_climbers_is_bhattacharyyas_between_gaussians() -> None:
    rng = np.random.default_rng(3)
    points, sigma = rng.uniform(size=(4, 5)), rng.uniform(0.05, 0.3, size=4)

    distances = _least_distance(points, points, sigma)

    def general(i: int, j: int) -> float:
        first, second = sigma[i] ** 2 * np.eye(5), sigma[j] ** 2 * np.eye(5)
        mean = (first + second) / 2
        difference = points[i] - points[j]
        determinants = np.linalg.det(mean) / np.sqrt(np.linalg.det(first) * np.linalg.det(second))
        return float(difference @ np.linalg.inv(mean) @ difference / 8 + np.log(determinants) / 2)

    expected = [min(general(i, j) for j in range(4) if j != i) for i in range(4)]
    assert distances == pytest.approx(expected)
