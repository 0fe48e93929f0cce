"""The linear program of the cutting-plane method: the highest point below planes over a box of prices. Pure numpy.

It is solved by the simplex method. The dual's prices are two or three numbers, its planes a few dozen: a general solver
spends a hundred times longer on checks than on pivots.
"""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Floats

_MOST_PIVOTS = 200
_ROUNDING = 1e-10


def solve_cutting_planes(offsets: Floats, slopes: Floats, box: float) -> tuple[float, Floats]:
    """Largest value over ``0 <= price <= box`` of the least ``offset + slope @ price``, and the prices there.

    The weights of planes that mix to no slope are the variables (the program's dual, with one row per price), so a new
    plane is a new column. Should rounding keep pivots from ending, the prices reached are returned with their value:
    a bound, though not the tightest.

    Parameters
    ----------
    offsets
        Shape (n_planes,).
    slopes
        Shape (n_planes, n_prices).
    """
    n_planes, n_prices = slopes.shape
    # Columns: planes, then per price a slack (the mixed slope may be negative) and an excess (at the cost of the box).
    unit = np.eye(n_prices + 1)[:, :n_prices]
    columns = np.concatenate([np.vstack([slopes.T, np.ones(n_planes)]), unit, -unit], axis=1)
    cost = np.concatenate([offsets, np.zeros(n_prices), np.full(n_prices, box)])
    start = int(np.argmin(offsets))
    basis = np.array(
        [n_planes + row + (n_prices if slopes[start, row] > 0 else 0) for row in range(n_prices)] + [start],
        dtype=np.int64,
    )
    right = np.zeros(n_prices + 1)
    right[-1] = 1.0
    prices = np.zeros(n_prices)
    for pivot in range(_MOST_PIVOTS):
        inverse = np.linalg.inv(columns[:, basis])
        value = inverse @ right
        multipliers = cost[basis] @ inverse
        prices = -multipliers[:n_prices]
        reduced = cost - multipliers @ columns
        tolerance = _ROUNDING * (1.0 + abs(multipliers).max())
        entering = _entering(reduced, tolerance, first=pivot > _MOST_PIVOTS // 2)
        if entering < 0:
            break
        direction = inverse @ columns[:, entering]
        growing = direction > _ROUNDING
        if not growing.any():
            break
        ratio = np.where(growing, np.maximum(value, 0.0) / np.where(growing, direction, 1.0), np.inf)
        ties = np.flatnonzero(ratio <= ratio.min() + _ROUNDING)
        basis[ties[np.argmin(basis[ties])]] = entering
    prices = np.clip(prices, 0.0, box)
    return float((offsets + slopes @ prices).min()), prices


def _entering(reduced: Floats, tolerance: float, *, first: bool) -> int:
    """Column to enter: the steepest, or the first (Bland's rule, which cannot cycle); -1 when none helps."""
    if first:
        helpful = np.flatnonzero(reduced < -tolerance)
        return int(helpful[0]) if len(helpful) else -1
    steepest = int(np.argmin(reduced))
    return steepest if reduced[steepest] < -tolerance else -1
