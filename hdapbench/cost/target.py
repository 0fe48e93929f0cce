"""Widths that meet a FLOPs target exactly: by one share, by repair, by filling up. Pure numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Integers
from hdapbench.cost.model import CostModel
from hdapbench.errors import TargetUnreachableError


def widths_at_share(cost: CostModel, share: ArrayLike, *, round_to: int = 1) -> Integers:
    """Widths that keep a share of every group, rounded to the nearest multiple, at least one of it.

    Parameters
    ----------
    share
        Kept share in [0, 1]: a number, or an array of shape (n_groups,) or (n_plans, n_groups).
    round_to
        Widths are multiples of this, except in groups smaller than it, and never above the dense width.
    """
    return rounded_widths(np.asarray(share, dtype=float) * cost.sizes, cost.sizes, round_to)


def rounded_widths(widths: ArrayLike, sizes: Integers, round_to: int = 1) -> Integers:
    """Nearest multiples of ``round_to``, at least one of it and never above the dense widths; the shape of ``widths``.

    Groups smaller than ``round_to`` stay dense.
    """
    rounded = np.maximum(np.rint(np.asarray(widths, dtype=float) / round_to) * round_to, round_to)
    return np.asarray(np.minimum(rounded, sizes), dtype=np.int64)


def check_reachable(cost: CostModel, target_flops: int, *, round_to: int = 1) -> None:
    """Raise `TargetUnreachableError` when even the smallest widths exceed the target."""
    minimum = int(cost.flops(widths_at_share(cost, 0.0, round_to=round_to))[0])
    if minimum > target_flops:
        raise TargetUnreachableError(
            f"the target of {target_flops:,} FLOPs is out of reach: with the fewest channels "
            f"(multiples of {round_to}) the model still needs {minimum:,} of {cost.dense.flops:,}"
        )


def largest_share(cost: CostModel, target_flops: int, *, steps: int = 12, round_to: int = 1) -> float:
    """Largest share, within ``2**-steps``, that every group may keep under the target; in [0, 1].

    Raises
    ------
    TargetUnreachableError
        When even the smallest widths exceed the target.
    """
    check_reachable(cost, target_flops, round_to=round_to)
    low, high = 0.0, 1.0
    if int(cost.flops(widths_at_share(cost, 1.0, round_to=round_to))[0]) <= target_flops:
        return 1.0
    for _ in range(steps):
        middle = (low + high) / 2
        if int(cost.flops(widths_at_share(cost, middle, round_to=round_to))[0]) <= target_flops:
            low = middle
        else:
            high = middle
    return low


def fill(cost: CostModel, widths: ArrayLike, target_flops: int, *, round_to: int | Integers = 1) -> Integers:
    """Widths with channels added back while the target allows, shape (n_groups,).

    The group that keeps the smallest share of its channels goes first, so that proportions stay.

    Parameters
    ----------
    round_to
        Groups grow to the next multiple of this; a number, or one per group, shape (n_groups,).
    """
    filled = np.array(widths, dtype=np.int64).reshape(-1)
    step = np.broadcast_to(np.asarray(round_to, dtype=np.int64), filled.shape)
    following = (filled // step + 1) * step
    open_groups = following <= cost.sizes
    while open_groups.any():
        share = np.where(open_groups, filled / np.maximum(cost.sizes, 1), np.inf)
        group = int(np.argmin(share))
        before = filled[group]
        filled[group] = following[group]
        if int(cost.flops(filled)[0]) > target_flops:
            filled[group] = before
            open_groups[group] = False
            continue
        following[group] += step[group]
        open_groups[group] = following[group] <= cost.sizes[group]
    return filled


def repair(cost: CostModel, widths: ArrayLike, target_flops: int, *, steps: int = 24, round_to: int = 1) -> Integers:
    """Widths scaled down, each plan by one factor, until it meets the target; shape (n_plans, n_groups).

    Plans that meet it already are returned as they are.

    Raises
    ------
    TargetUnreachableError
        When even the smallest widths exceed the target.
    """
    check_reachable(cost, target_flops, round_to=round_to)
    plans = np.atleast_2d(np.asarray(widths, dtype=np.int64))
    over = cost.flops(plans) > target_flops
    if not over.any():
        return plans.copy()
    wanted = plans[over] / cost.sizes
    low, high = np.zeros(len(wanted)), np.ones(len(wanted))
    for _ in range(steps):
        middle = (low + high) / 2
        met = cost.flops(widths_at_share(cost, wanted * middle[:, None], round_to=round_to)) <= target_flops
        low, high = np.where(met, middle, low), np.where(met, high, middle)
    repaired = plans.copy()
    repaired[over] = widths_at_share(cost, wanted * low[:, None], round_to=round_to)
    return repaired
