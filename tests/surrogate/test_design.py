from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import qmc

from hdapbench.cost.model import CostModel
from hdapbench.errors import TargetUnreachableError
from hdapbench.surrogate.design import neighbours, plans_at_flops, random_plans, training_plans
from tests.surrogate.surrogate_worlds import small_model
from tests.zoo import traced


def share_of(cost: CostModel, target: float) -> int:
    return int(target * cost.dense.flops)


@pytest.mark.parametrize("target", [0.1, 0.5, 0.9, 1.0])
def test_training_plans_meet_tight_and_loose_targets_and_spread_up_to_them(target: float) -> None:
    cost = traced("resnet56").cost

    plans = training_plans(cost, share_of(cost, target), 200, seed=0)

    used = cost.flops(plans) / share_of(cost, target)
    assert used.max() <= 1.0
    assert np.quantile(used, 0.9) > 0.9  # loose targets too are reached from below
    assert np.quantile(used, 0.1) == pytest.approx(0.46, abs=0.06)
    assert 0.65 < np.median(used) < 0.75


def test_training_plans_cover_every_group_more_evenly_than_independent_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target shapes the plans whatever is drawn: what the sequence adds shows against draws shaped alike."""
    cost, _ = small_model()
    target = share_of(cost, 0.6)

    class Independent:
        def __init__(self, n_axes: int, *, scramble: bool, rng: np.random.Generator) -> None:
            self.n_axes, self.rng = n_axes, rng

        def random_base2(self, exponent: int) -> np.ndarray:
            return self.rng.random((2**exponent, self.n_axes))

    def unevenness() -> float:
        """How much the mean logarithm of a group's share differs between seeds."""
        means = [np.log(training_plans(cost, target, 64, seed=seed) / cost.sizes).mean(axis=0) for seed in range(8)]
        return float(np.std(means, axis=0).mean())

    ours = unevenness()
    monkeypatch.setattr(qmc, "Sobol", Independent)

    assert ours < 0.6 * unevenness()


def test_training_plans_hold_nearly_empty_and_nearly_whole_groups() -> None:
    cost = traced("resnet56").cost

    shares = training_plans(cost, share_of(cost, 0.5), 128, seed=0) / cost.sizes

    assert (shares.min(axis=0) < 0.15).all()
    assert (shares.max(axis=0) > 0.9).all()


def test_half_of_the_training_plans_stand_on_a_grid_of_widths() -> None:
    cost, _ = small_model()

    plans = training_plans(cost, share_of(cost, 0.7), 256, seed=1)

    wide = cost.sizes >= 64
    on_grid = ((plans[:, wide] % 8 == 0) | (plans[:, wide] == cost.sizes[wide])).all(axis=1)
    assert 0.4 < on_grid.mean() < 0.6


@pytest.mark.parametrize("round_to", [8, 16])
def test_widths_are_multiples_of_the_finest_grid(round_to: int) -> None:
    cost, _ = small_model()

    plans = training_plans(cost, share_of(cost, 0.6), 64, seed=2, round_to=round_to)

    assert (plans % round_to == 0).all()
    assert (plans >= round_to).all()
    assert (cost.flops(plans) <= share_of(cost, 0.6)).all()


def test_the_same_seed_gives_the_same_plans_and_another_gives_others() -> None:
    cost = traced("resnet56").cost

    first, again, other = (training_plans(cost, share_of(cost, 0.5), 30, seed=seed) for seed in (4, 4, 5))

    assert np.array_equal(first, again)
    assert (first != other).any(axis=1).all()


def test_more_training_plans_keep_those_of_fewer() -> None:
    cost = traced("resnet56").cost

    fewer, more = (training_plans(cost, share_of(cost, 0.5), n, seed=4) for n in (20, 50))

    assert np.array_equal(more[:20], fewer)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_any_number_of_training_plans_can_be_asked_for(n: int) -> None:
    cost = traced("resnet56").cost

    assert training_plans(cost, share_of(cost, 0.5), n, seed=0).shape == (n, len(cost.sizes))


def test_a_target_below_the_smallest_plan_is_out_of_reach() -> None:
    cost, _ = small_model()

    with pytest.raises(TargetUnreachableError, match="out of reach"):
        training_plans(cost, cost.minimum_flops - 1, 4, seed=0)


def test_random_plans_use_the_target_up() -> None:
    cost = traced("resnet56").cost

    plans = random_plans(cost, share_of(cost, 0.5), 100, rng=np.random.default_rng(0))

    used = cost.flops(plans) / share_of(cost, 0.5)
    assert used.max() <= 1.0
    assert used.mean() > 0.97
    assert used.min() > 0.92  # one channel more of a residual stage would exceed the target


def test_plans_are_brought_to_their_flops_from_both_sides_and_keep_their_order() -> None:
    cost = traced("resnet56").cost
    shares = np.random.default_rng(0).uniform(0.1, 1.0, size=(50, len(cost.sizes)))

    for target in (0.05, 0.3, 0.95):
        plans = plans_at_flops(cost, shares, share_of(cost, target), limit=share_of(cost, target))
        used = cost.flops(plans) / share_of(cost, target)
        assert used.max() <= 1.0
        assert np.median(used) > 0.97
        assert used.min() > 0.8  # at 5 %, one channel more of a residual stage is a sixth of all FLOPs
        wide = np.flatnonzero(cost.sizes == 64)
        order = np.argsort(shares[:, wide], axis=1)
        assert (np.diff(np.take_along_axis(plans[:, wide], order, axis=1), axis=1) >= 0).all()


def test_neighbours_are_new_plans_near_the_centre_within_the_limit() -> None:
    cost = traced("resnet56").cost
    centre = np.maximum(cost.sizes // 2, 1)
    limit = int(1.05 * cost.flops(centre)[0])

    plans = neighbours(cost, centre, 60, rng=np.random.default_rng(0), limit=limit)

    changed = plans != centre
    assert plans.shape == (60, len(cost.sizes))
    assert (cost.flops(plans) <= limit).all()
    assert 0.05 < changed.mean() < 0.25
    assert ((plans >= 1) & (plans <= cost.sizes)).all()


def test_neighbours_of_a_plan_on_the_limit_still_come() -> None:
    cost = traced("resnet56").cost
    centre = np.ones_like(cost.sizes)

    plans = neighbours(cost, centre, 5, rng=np.random.default_rng(0), limit=int(cost.flops(centre)[0]))

    assert (plans == centre).all()  # nothing else fits, and that ends
