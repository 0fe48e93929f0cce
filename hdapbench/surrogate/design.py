"""Which plans to measure: spread evenly under a FLOPs target for training, random ones for testing, neighbours of one.

Optimisers go to corners: some groups nearly whole, some nearly empty, widths on the edges of tiles, FLOPs left over. A
surrogate that has seen only plans of even shares at the target is asked to extrapolate there. Training plans therefore
spread over the logarithms of shares, over FLOPs up to the target, and, half of them, over grids of widths.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.model import CostModel
from hdapbench.cost.target import check_reachable

LEAST_SHARE = 0.03
LEAST_FLOPS_SHARE = 0.4
"""Training plans need between this share of the target and all of it: the best plans of a study needed 0.55 to 1."""
GRIDS = (1, 8, 16, 32, 64)
GRID_SHARES = (0.5, 0.125, 0.125, 0.125, 0.125)
LEAST_POWER, MOST_POWER = 0.25, 16.0
"""Powers of the uniform coordinate in the exponent of a share: from nearly all groups empty to nearly all whole."""
LEAST_STEPS = 4
"""A grid leaves a group at least this many widths, or it takes the next finer one."""
_BISECTIONS = 40


def training_plans(
    cost: CostModel, target_flops: int, n_plans: int, *, seed: int, round_to: int = 1, least_share: float = LEAST_SHARE
) -> Integers:
    """Widths of plans to train a surrogate on, shape (n_plans, n_groups): a scrambled Sobol sequence under the target.

    Every plan meets the target. Its coordinates are the logarithm of each group's share, the FLOPs that it is brought
    to, and the grid that its widths stand on.

    Parameters
    ----------
    round_to
        The finest grid.
    least_share
        The smallest share drawn; scaling to the FLOPs may go below.

    Raises
    ------
    TargetUnreachableError
        When even the smallest widths exceed the target.
    """
    from scipy.stats import qmc

    n_groups = len(cost.sizes)
    sequence = qmc.Sobol(n_groups + 2, scramble=True, rng=np.random.default_rng(seed))
    points = sequence.random_base2(max(0, int(np.ceil(np.log2(max(n_plans, 1))))))[:n_plans]
    top = min(target_flops, cost.dense.flops)
    flops = top * (LEAST_FLOPS_SHARE + (1.0 - LEAST_FLOPS_SHARE) * points[:, n_groups])
    drawn = np.searchsorted(np.cumsum(GRID_SHARES), points[:, n_groups + 1], side="right")
    grids = _grids(cost, np.maximum(np.array(GRIDS)[np.minimum(drawn, len(GRIDS) - 1)], round_to), round_to)

    def shares(knob: Floats) -> Floats:
        """Shares that rise from nothing to one; in between, some groups stay nearly empty and some nearly whole."""
        power = LEAST_POWER * (MOST_POWER / LEAST_POWER) ** np.clip(knob - 1.0, 0.0, 1.0)
        spread = least_share ** ((1.0 - points[:, :n_groups]) ** power)
        return np.asarray(spread ** (3.0 - np.maximum(knob, 2.0)) * np.minimum(knob, 1.0))

    return _at_flops(cost, shares, flops, grids=grids, limit=target_flops, knob_end=3.0)


def random_plans(cost: CostModel, target_flops: int, n_plans: int, *, rng: np.random.Generator) -> Integers:
    """Widths of random plans that use the target up, shape (n_plans, n_groups): what surrogates are tested on.

    Shares are uniform in [0.1, 1] and brought to between 97 and 100 % of the target, or one channel below it.
    """
    shares = rng.uniform(0.1, 1.0, size=(n_plans, len(cost.sizes)))
    top = min(target_flops, cost.dense.flops)
    return plans_at_flops(cost, shares, rng.uniform(0.97, 1.0, n_plans) * top, limit=target_flops)


def neighbours(
    cost: CostModel, widths: ArrayLike, n_plans: int, *, rng: np.random.Generator, limit: int | None = None
) -> Integers:
    """Plans near one, shape (n_plans, n_groups): a few groups wider or narrower, by half on average, on some grid.

    Parameters
    ----------
    widths
        The plan, shape (n_groups,).
    limit
        FLOPs that a neighbour may need; None: as many as the dense model.
    """
    centre = np.asarray(widths, dtype=float)
    n_groups = len(centre)
    found: list[Integers] = []
    most = cost.dense.flops if limit is None else limit
    spread = 0.5
    while len(found) < n_plans:
        changed = rng.random(n_groups) < max(3 / n_groups, 0.15)
        changed[rng.integers(n_groups)] = True
        wanted = np.where(changed, centre * np.exp(spread * rng.standard_normal(n_groups)), centre)
        grid = _grids(cost, rng.choice(GRIDS, size=1), 1)[0]
        rounded = np.where(changed, np.maximum(np.rint(wanted / grid) * grid, 1), centre)
        plan = np.minimum(rounded, cost.sizes).astype(np.int64)
        if int(cost.flops(plan)[0]) <= most:
            found.append(plan)
        else:
            spread *= 0.95  # the plan is close to the limit: try smaller steps
    return np.array(found, dtype=np.int64).reshape(n_plans, n_groups)


def plans_at_flops(cost: CostModel, shares: Floats, flops: ArrayLike, *, limit: int) -> Integers:
    """Widths of these proportions that need at most, and nearly, so many FLOPs; shape (n_plans, n_groups).

    One knob per plan goes from nothing (all shares times zero) over the shares as they are to the dense model (shares
    to the power of zero), so that every target is reached from both sides.

    Parameters
    ----------
    shares
        In (0, 1], shape (n_plans, n_groups).
    flops
        Per plan, shape (n_plans,), or one number.
    limit
        What no plan may exceed; one whose smallest widths need more than its ``flops`` may need this.

    Raises
    ------
    TargetUnreachableError
        When even the smallest widths exceed the limit.
    """

    def scaled(knob: Floats) -> Floats:
        return np.asarray(shares ** (2.0 - np.maximum(knob, 1.0)) * np.minimum(knob, 1.0))

    ones = np.ones((1, len(cost.sizes)), dtype=np.int64)
    return _at_flops(cost, scaled, np.broadcast_to(flops, len(shares)), grids=ones, limit=limit, knob_end=2.0)


def _at_flops(
    cost: CostModel,
    shares: Callable[[Floats], Floats],
    flops: Floats,
    *,
    grids: Integers,
    limit: int,
    knob_end: float,
) -> Integers:
    """Plans of a family with one knob each, brought to their FLOPs by bisection.

    Parameters
    ----------
    shares
        Knobs of shape (n_plans, 1), from 0 to ``knob_end`` -> shares that rise with them, from 0 to 1.
    grids
        Widths are multiples of these, or the dense width; broadcasts to (n_plans, n_groups).
    """
    check_reachable(cost, limit, round_to=int(grids.min(initial=1)))

    def at(knob: Floats) -> Integers:
        widths = np.maximum(np.rint(shares(knob) * cost.sizes / grids) * grids, grids)
        return np.asarray(np.minimum(widths, cost.sizes), dtype=np.int64)

    low, high = np.zeros((len(flops), 1)), np.full((len(flops), 1), knob_end)
    wanted = np.minimum(np.maximum(flops, cost.flops(at(low))), limit)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        met = (cost.flops(at(middle)) <= wanted)[:, None]
        low, high = np.where(met, middle, low), np.where(met, high, middle)
    return at(low)


def _grids(cost: CostModel, wanted: Integers, round_to: int) -> Integers:
    """Grid of every group in plans that want one, shape (n_plans, n_groups): none that leaves too few widths."""
    known = np.array([grid for grid in GRIDS if grid >= round_to] or [round_to])
    room = np.searchsorted(known * LEAST_STEPS, cost.sizes, side="right") - 1
    return np.asarray(np.minimum(wanted[:, None], known[np.maximum(room, 0)][None]), dtype=np.int64)
