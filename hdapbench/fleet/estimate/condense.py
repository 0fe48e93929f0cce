"""A million points made few: a weighted grid, and samples that follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers

CONDENSE_ABOVE = 20_000
"""Fleets up to this size are clustered device by device."""
_FINEST = 1e-3  # logarithms: a tenth of a percent, far below the noise of a median
_GROWTH = 1.3
_POINTS_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class Cells:
    """Points gathered in the cells of a regular grid.

    Attributes
    ----------
    points
        Weighted mean of each cell's points, shape (n_cells, n_dimensions), sorted by cell.
    weights
        Total weight of each cell, shape (n_cells,).
    cell_of
        Cell of each point, shape (n_points,).
    width
        Side of the cells; 0 when every point is a cell of its own.
    """

    points: Floats
    weights: Floats
    cell_of: Integers
    width: float


def condense(points: Floats, weights: Floats, *, n_most: int = CONDENSE_ABOVE) -> Cells:
    """Cells of the finest grid that has at most ``n_most`` of them occupied.

    Points that are few enough stay as they are.

    Parameters
    ----------
    points
        Shape (n_points, n_dimensions).
    weights
        Shape (n_points,).
    """
    if len(points) <= n_most:
        return Cells(points, weights, np.arange(len(points), dtype=np.int64), 0.0)
    lowest = points.min(axis=0)
    span = points.max(axis=0) - lowest
    width = max(_FINEST, float(span.max()) * 1e-6)
    while True:
        codes = _codes(points, lowest, span, width)
        names, cell_of = np.unique(codes, return_inverse=True)
        if len(names) <= n_most:
            break
        # Occupied cells fall by at most the dimension-th power of the width: a step that cannot overshoot by much.
        width *= max(_GROWTH, (len(names) / n_most) ** (1 / points.shape[1]))
    total = np.bincount(cell_of, weights=weights)
    centres = np.stack([np.bincount(cell_of, weights=weights * column) for column in points.T], axis=1)
    middle = centres / np.asarray(total)[:, None]
    return Cells(middle, np.asarray(total, dtype=float), np.asarray(cell_of, dtype=np.int64), width)


def systematic_sample(weights: Floats, n_sample: int) -> Integers:
    """Positions, shape (n_sample,), drawn in proportion to weights, evenly along their order; large weights repeat.

    Cells are sorted by place, so that the sample is spread like the points (systematic sampling).
    """
    reached = np.cumsum(weights)
    wanted = (np.arange(n_sample) + 0.5) / n_sample * reached[-1]
    return np.asarray(np.minimum(np.searchsorted(reached, wanted), len(weights) - 1), dtype=np.int64)


def _codes(points: Floats, lowest: Floats, span: Floats, width: float) -> Integers:
    """Number of the grid cell of each point; cells beyond 2**62 share numbers, which a wider grid ends."""
    steps = np.floor(span / width).astype(np.int64) + 1
    codes = np.zeros(len(points), dtype=np.int64)
    for first in range(0, len(points), _POINTS_AT_A_TIME):
        part = slice(first, first + _POINTS_AT_A_TIME)
        for column, (low, n_steps) in enumerate(zip(lowest, steps, strict=True)):
            codes[part] = codes[part] * n_steps + np.floor((points[part, column] - low) / width).astype(np.int64)
    return codes
