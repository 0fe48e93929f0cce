"""What seeds share and what rows have: additive effects by least squares, cells may be missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers


@dataclass(frozen=True, eq=False)
class TwoWayEffects:
    """Least-squares fit of ``value = row + seed + residual``.

    Attributes
    ----------
    row_means
        Shape (n_rows,): what a row's mean were if it had every seed; NaN for a row without values.
    seed_effects
        Shape (n_seeds,): difference of a seed from the mean over seeds, at equal rows.
    weights
        Shape (n_rows, n_cells): row means as sums over the cells that are there, in their order.
    present
        Shape (n_rows, n_seeds): cells that are there.
    part
        Shape (n_rows,): rows with the same number are connected through seeds; others cannot be compared.
    residual_variance, degrees
        Mean square of the residuals and its degrees of freedom: (rows - 1) (seeds - 1) if no cell is missing. The
        variance is 0 where there are no degrees.
    """

    row_means: Floats
    seed_effects: Floats
    weights: Floats
    present: Booleans
    part: Integers
    residual_variance: float
    degrees: int


def two_way(values: Floats) -> TwoWayEffects:
    """Least-squares means of rows over the seeds of a table.

    The additive model of a two-way layout without replicates, unbalanced where cells are missing (Searle, Linear Models
    for Unbalanced Data, 1987, chapter 4: least squares means, and connectedness).

    Parameters
    ----------
    values
        Shape (n_rows, n_seeds), NaN where a cell is missing.
    """
    from scipy.sparse.csgraph import connected_components

    present = ~np.isnan(values)
    n_rows, n_seeds = values.shape
    incidence = present.astype(np.float64)
    n_parts, part = connected_components(incidence @ incidence.T > 0, directed=False)
    rows, seeds = np.nonzero(present)
    design = np.zeros((len(rows), n_rows + n_seeds))
    design[np.arange(len(rows)), rows] = design[np.arange(len(rows)), n_rows + seeds] = 1.0
    inverse = np.linalg.pinv(design.T @ design, hermitian=True) @ design.T  # (n_rows + n_seeds, n_cells)

    connected = np.array([present[part == part[row]].any(axis=0) for row in range(n_rows)], dtype=np.float64)
    share = connected / np.maximum(connected.sum(axis=1, keepdims=True), 1.0)  # (n_rows, n_seeds)
    weights = inverse[:n_rows] + share @ inverse[n_rows:]
    weights[np.abs(weights) < 1e-12] = 0.0  # cells of other parts, but for rounding
    known = values[present]
    effects = inverse @ known
    residuals = known - design @ effects
    empty_rows, empty_seeds = int((~present.any(axis=1)).sum()), int((~present.any(axis=0)).sum())
    rank = (n_rows - empty_rows) + (n_seeds - empty_seeds) - (n_parts - empty_rows)
    degrees = len(known) - rank
    means = np.where(present.any(axis=1), weights @ known, np.nan)
    seed_effects = effects[n_rows:] - effects[n_rows:].mean()
    variance = float(residuals @ residuals) / degrees if degrees else 0.0
    return TwoWayEffects(means, seed_effects, weights, present, part.astype(np.int64), variance, degrees)
