"""What seeds share and what rows have: additive effects by least squares, cells may be missing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Booleans, Floats, Integers
from hdapbench.leaderboard.statistics.variances import moderated, most_unlike


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
        Shape (n_rows, n_cells): row means as sums over the cells that are there, in their order; None where no cell is
        missing, so that each mean is that of the row's own cells.
    present
        Shape (n_rows, n_seeds): cells that are there.
    part
        Shape (n_rows,): rows with the same number are connected through seeds; others cannot be compared.
    residuals
        Shape (n_rows, n_seeds): what neither row nor seed explains; 0 where a cell is missing.
    residual_variance, degrees
        Mean square of the residuals and its degrees of freedom: (rows - 1) (seeds - 1) if no cell is missing. The
        variance is 0 where there are no degrees.
    """

    row_means: Floats
    seed_effects: Floats
    weights: Floats | None
    present: Booleans
    part: Integers
    residuals: Floats
    residual_variance: float
    degrees: int

    def weights_of(self, row: int) -> Floats:
        """Mean of a row as a sum over the cells that are there, shape (n_cells,)."""
        if self.weights is not None:
            return np.asarray(self.weights[row])
        n_rows, n_seeds = self.present.shape
        found = np.zeros(n_rows * n_seeds)
        found[row * n_seeds : (row + 1) * n_seeds] = 1 / n_seeds
        return found

    def row_means_of(self, noise: Floats) -> Floats:
        """Row means of values in all cells, shape (n, n_rows) for (n, n_rows, n_seeds); missing cells do not count."""
        if self.weights is None:
            return np.asarray(noise.mean(axis=2))
        return np.asarray(noise[:, self.present] @ self.weights.T)


def two_way(values: Floats) -> TwoWayEffects:
    """Least-squares means of rows over the seeds of a table.

    The additive model of a two-way layout without replicates, unbalanced where cells are missing (Searle, Linear Models
    for Unbalanced Data, 1987, chapter 4: least squares means, and connectedness).

    Parameters
    ----------
    values
        Shape (n_rows, n_seeds), NaN where a cell is missing.
    """
    present = ~np.isnan(values)
    if values.size and present.all():
        return _complete(values, present)
    from scipy.sparse.csgraph import connected_components

    n_rows, n_seeds = values.shape
    incidence = present.astype(np.float64)
    n_parts, part = connected_components(incidence @ incidence.T > 0, directed=False)
    rows, seeds = np.nonzero(present)
    design = np.zeros((len(rows), n_rows + n_seeds))
    design[np.arange(len(rows)), rows] = design[np.arange(len(rows)), n_rows + seeds] = 1.0
    inverse = np.linalg.pinv(design.T @ design, hermitian=True) @ design.T  # (n_rows + n_seeds, n_cells)

    connected = ((part[:, None] == part) @ incidence > 0).astype(np.float64)
    share = connected / np.maximum(connected.sum(axis=1, keepdims=True), 1.0)  # (n_rows, n_seeds)
    weights = inverse[:n_rows] + share @ inverse[n_rows:]
    weights[np.abs(weights) < 1e-12] = 0.0  # cells of other parts, but for rounding
    known = values[present]
    effects = inverse @ known
    residuals = np.zeros(values.shape)
    residuals[present] = known - design @ effects
    empty_rows, empty_seeds = int((~present.any(axis=1)).sum()), int((~present.any(axis=0)).sum())
    rank = (n_rows - empty_rows) + (n_seeds - empty_seeds) - (n_parts - empty_rows)
    degrees = len(known) - rank
    means = np.where(present.any(axis=1), weights @ known, np.nan)
    seed_effects = effects[n_rows:] - effects[n_rows:].mean()
    variance = float((residuals**2).sum()) / degrees if degrees else 0.0
    return TwoWayEffects(means, seed_effects, weights, present, part.astype(np.int64), residuals, variance, degrees)


def _complete(values: Floats, present: Booleans) -> TwoWayEffects:
    """The fit where no cell is missing: means of rows and seeds."""
    n_rows, n_seeds = values.shape
    means = values.mean(axis=1)
    seed_effects = values.mean(axis=0) - values.mean()
    degrees = (n_rows - 1) * (n_seeds - 1)
    residuals = values - means[:, None] - seed_effects if degrees else np.zeros(values.shape)
    variance = float((residuals**2).sum()) / degrees if degrees else 0.0
    part = np.zeros(n_rows, dtype=np.int64)
    return TwoWayEffects(means, seed_effects, None, present, part, residuals, variance, degrees)


@dataclass(frozen=True, eq=False)
class RowVariances:
    """Variance of one cell of each row about what row and seed explain.

    Attributes
    ----------
    variance, degrees
        Shape (n_rows,): pooled over all rows that may have the same, or a row's own; with degrees of freedom.
    is_own
        Shape (n_rows,): rows that vary more than the others do, so that nothing is pooled with them.
    """

    variance: Floats
    degrees: Floats
    is_own: Booleans


def row_variances(values: Floats, effects: TwoWayEffects) -> RowVariances:
    """Residual variance of a table, pooled over its rows but for those that vary clearly more.

    A method that draws its plans at random would make all others look unsure, and itself sure. A row's variance is
    compared by F test with that of the rows besides it, whose sum of squares is the table's less the row's own times
    rows / (rows - 1), exactly so if no cell is missing; rows are set apart one by one (`most_unlike`). Its own variance
    is about the seeds' effects on the other rows, and moderated by that of the whole table (`moderated`).

    Parameters
    ----------
    values
        Shape (n_rows, n_seeds), NaN where a cell is missing.
    effects
        Their `two_way`.
    """
    is_own = np.zeros(len(values), dtype=bool)
    fit = effects
    while (worst := _unlike_the_others(fit)) is not None:
        is_own[np.flatnonzero(~is_own)[worst]] = True
        fit = two_way(values[~is_own])
    variance, degrees = np.full(len(values), fit.residual_variance), np.full(len(values), float(fit.degrees))
    for row in np.flatnonzero(is_own):
        left = (values[row] - fit.seed_effects)[~np.isnan(values[row])]
        variance[row], degrees[row] = moderated(left.var(ddof=1), len(left) - 1, effects.residual_variance)
    return RowVariances(variance, degrees, is_own)


def _unlike_the_others(fit: TwoWayEffects) -> int | None:
    """Row that varies most, if more than the others do by more than chance."""
    n_rows = len(fit.residuals)
    degrees = fit.present.sum(axis=1) - 1.0
    own = (fit.residuals**2).sum(axis=1) * n_rows / max(1, n_rows - 1)
    return most_unlike(own, degrees, fit.residual_variance * fit.degrees - own, fit.degrees - degrees)
