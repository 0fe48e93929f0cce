"""Plans brought within all limits: FLOPs always, importance and least FLOPs where the model allows. Pure numpy.

Every width of a plan is scaled by one factor: down to the FLOPs target, and to just the importance that is asked for,
since more of it only costs latency. Where one factor cannot meet both, widths are tilted towards groups whose channels
carry much importance per multiply-accumulate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers
from hdapbench.cost.model import CostModel
from hdapbench.cost.target import check_reachable, widths_at_share
from hdapbench.search.space import SearchSpace

_SCALE_STEPS, _TILT_STEPS = 15, 4
_LARGEST_LOG_SCALE = 5.0
_TILT_ROUNDS = 4
_SMALLEST_SHARE = 1e-4


def repaired(space: SearchSpace, widths: Floats | Integers) -> Integers:
    """Whole widths on the grid that meet the FLOPs target, and as far as possible all other limits.

    Parameters
    ----------
    widths
        Wanted widths, shape (n_plans, n_groups).

    Raises
    ------
    TargetUnreachableError
        When even the smallest widths exceed the target.
    """
    check_reachable(space.cost, space.target_flops, round_to=space.round_to)
    shares = np.clip(np.atleast_2d(np.asarray(widths, dtype=float)) / space.cost.sizes, _SMALLEST_SHARE, 1.0)
    family = _Family(space, shares, np.ones_like(shares))
    if not space.demands_more:
        return family.largest(0.0)
    plans = family.smallest()
    over = space.cost.flops(plans) > space.target_flops
    if over.any():
        plans[over] = _tilted(space, shares[over])
    return plans


@dataclass(frozen=True)
class _Family:
    """Plans with one knob each: the logarithm of a factor on all widths.

    ``shares`` are the kept shares at 0, ``tilt`` further factors, both of shape (n_plans, n_groups).
    """

    space: SearchSpace
    shares: Floats
    tilt: Floats

    def at(self, log_scale: Floats | float) -> Integers:
        """Widths, shape (n_plans, n_groups), at knobs of shape (n_plans,)."""
        factor = np.exp(np.broadcast_to(log_scale, len(self.shares)))[:, None]
        return self.space.rounded(np.minimum(self.shares * self.tilt * factor, 1.0))

    def largest(self, most: float) -> Integers:
        """Widths of the largest knob up to ``most`` that meets the FLOPs target."""
        space = self.space

        def met(plans: Integers) -> Booleans:
            return space.cost.flops(plans) <= space.target_flops

        plans = self.at(most)
        over = ~met(plans)
        if over.any():
            part = _Family(space, self.shares[over], self.tilt[over])
            low = np.full(int(over.sum()), -_LARGEST_LOG_SCALE)
            low, _ = _bisected(part.at, met, low, np.full(len(low), most))
            plans[over] = part.at(low)
            left = space.cost.flops(plans) > space.target_flops
            plans[left] = widths_at_share(space.cost, 0.0, round_to=space.round_to)
        return plans

    def smallest(self) -> Integers:
        """Widths of the smallest knob that keeps the importance and the FLOPs asked for; dense where none does."""
        low = np.full(len(self.shares), -_LARGEST_LOG_SCALE)
        _, high = _bisected(self.at, self.space.lacks, low, -low)
        return self.at(high)


def _bisected(
    at: Callable[[Floats], Integers], passes: Callable[[Integers], Booleans], low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Knobs around the place where plans stop to pass, for a property that low knobs have and high ones lack."""
    for _ in range(_SCALE_STEPS):
        middle = (low + high) / 2
        passed = passes(at(middle))
        low, high = np.where(passed, middle, low), np.where(passed, high, middle)
    return low, high


def _tilted(space: SearchSpace, shares: Floats) -> Integers:
    """Widths tilted no more than needed for all limits; those of the FLOPs target where no tilt is enough."""
    plans = _Family(space, shares, np.ones_like(shares)).largest(0.0)
    left = np.arange(len(shares))
    for _ in range(_TILT_ROUNDS):
        efficiency = _importance_per_flop(space, shares)
        tilted, met = _least_tilt(space, shares, efficiency)
        plans[left[met]] = tilted[met]
        left, shares = left[~met], (shares * efficiency)[~met]
        if not len(left):
            break
        shares = np.clip(shares / shares.max(axis=1, keepdims=True), _SMALLEST_SHARE, 1.0)
    return plans


def _least_tilt(space: SearchSpace, shares: Floats, efficiency: Floats) -> tuple[Integers, Booleans]:
    """Widths of the least tilt that meets the FLOPs target with all that is asked for; whether there is one."""
    low, high = np.zeros(len(shares)), np.ones(len(shares))
    plans = _Family(space, shares, efficiency).smallest()
    possible = space.cost.flops(plans) <= space.target_flops
    for _ in range(_TILT_STEPS if possible.any() else 0):
        middle = (low + high) / 2
        tilted = _Family(space, shares, efficiency ** middle[:, None]).smallest()
        met = space.cost.flops(tilted) <= space.target_flops
        plans[met] = tilted[met]
        low, high = np.where(met, low, middle), np.where(met, middle, high)
    return plans, possible


def _importance_per_flop(space: SearchSpace, shares: Floats) -> Floats:
    """Importance over multiply-accumulates that a little more of each group brings, relative to the plan's mean."""
    widths = shares * space.cost.sizes
    flops = flops_gradient(space.cost, widths)
    if space.retained is None:
        gain = np.ones_like(flops)
    else:
        plans = space.rounded(shares)
        base = space.retained(plans)
        gain = np.empty_like(flops)
        for group, size in enumerate(space.cost.sizes.tolist()):
            step = max(size // 16, 1)
            moved = plans.copy()
            # At the dense width the step is taken downwards.
            moved[:, group] = np.where(plans[:, group] + step <= size, plans[:, group] + step, plans[:, group] - step)
            moved[:, group] = np.maximum(moved[:, group], 1)
            n_moved = np.maximum(np.abs(moved[:, group] - plans[:, group]), 1)
            gain[:, group] = np.abs(space.retained(moved) - base) / n_moved
    ratio = np.log(np.maximum(gain, 1e-12)) - np.log(np.maximum(flops, 1e-12))
    return np.asarray(np.exp(np.clip(ratio - ratio.mean(axis=1, keepdims=True), -4.0, 4.0) / 2))


def flops_gradient(cost: CostModel, widths: Floats) -> Floats:
    """Multiply-accumulates per additional channel of each group, shape (n_plans, n_groups)."""
    counts = cost.channel_counts(widths)  # (n_counts, n_plans)
    per_count = np.repeat(cost.single_flops[:, None].astype(float), counts.shape[1], axis=1)
    flops = cost.pair_flops[:, None]
    np.add.at(per_count, cost.pair_first, flops * counts[cost.pair_second])
    np.add.at(per_count, cost.pair_second, flops * counts[cost.pair_first])
    return np.asarray(per_count.T @ cost.counts_coefficients.astype(float))
