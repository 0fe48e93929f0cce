"""Linear fits of latency to columns, for all clusters at once: ridge and non-negative least squares.

Both minimise relative errors, leave a constant unpenalised, and pull the weights of one family of columns together: a
kernel shape that was seen little takes what its relatives cost per unit of work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hdapbench.arrays import Floats, Integers

LEAST_FREEDOM_SHARE = 0.2
"""Ridge strengths that leave fewer degrees of freedom per plan are not tried.

With more columns than plans the score of cross-validation tends to 0/0 there and may pick the interpolating fit:
13 to 17 % cross-validated error instead of 2 % on ResNet50 with 105 plans, 25 of them from active rounds.
"""
RIDGE_STRENGTHS = np.logspace(-8, 1, 28)
NON_NEGATIVE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
FAMILY_SCALE = 10.0
"""How much further than a column from its family a family's common weight may stray from zero, in ridge."""
N_FOLDS = 5


@dataclass(frozen=True)
class LinearFit:
    """``columns @ coefficients + constants``.

    Attributes
    ----------
    coefficients
        Shape (n_columns, n_clusters).
    constants
        Shape (n_clusters,), in ms.
    strength
        The penalty that was chosen.
    """

    coefficients: Floats
    constants: Floats
    strength: float

    def predict(self, columns: Floats) -> Floats:
        """Latency in ms, shape (n_plans, n_clusters)."""
        return np.asarray(columns @ self.coefficients + self.constants)


def fit_ridge(columns: Floats, latency_ms: Floats, weights: Floats, *, family: Integers | None = None) -> LinearFit:
    """Ridge regression, its strength by generalised cross-validation of the average (Golub, Heath, Wahba 1979).

    Parameters
    ----------
    columns
        Shape (n_plans, n_columns), of comparable units within a family.
    latency_ms
        Shape (n_plans, n_clusters).
    weights
        Share of the fleet in each cluster, shape (n_clusters,).
    family
        Columns of equal numbers share a common weight to which theirs are pulled, shape (n_columns,); None: to zero.
    """
    spread = np.eye(columns.shape[1])
    if family is not None:
        spread = np.concatenate([spread, FAMILY_SCALE * np.eye(int(family.max()) + 1)[family]], axis=1)
    average = latency_ms @ weights
    rows = (1.0 / average)[:, None]  # errors count relative to the average latency
    share = rows[:, 0] ** 2 / (rows**2).sum()
    mean, offset = share @ columns, share @ latency_ms
    design = (columns - mean) @ spread * rows
    wanted = (latency_ms - offset) * rows
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    projected = left.T @ wanted
    n_plans = len(columns)
    best, chosen = np.inf, float(RIDGE_STRENGTHS[-1])
    for strength in RIDGE_STRENGTHS:
        shrink = singular**2 / (singular**2 + strength * singular[0] ** 2)
        freedom = n_plans - 1 - shrink.sum()  # the constant is fitted too
        if freedom < LEAST_FREEDOM_SHARE * n_plans:
            continue
        residual = (wanted - left @ (shrink[:, None] * projected)) @ weights
        score = float(residual @ residual) / freedom**2
        if score < best:
            best, chosen = score, float(strength)
    scaled = singular / np.maximum(singular**2 + chosen * singular[0] ** 2, np.finfo(float).tiny)
    coefficients = spread @ (right.T @ (scaled[:, None] * projected))
    return LinearFit(coefficients, offset - mean @ coefficients, chosen)


def fit_non_negative(
    columns: Floats,
    latency_ms: Floats,
    weights: Floats,
    *,
    family: Integers | None = None,
    strength: float | None = None,
) -> LinearFit:
    """Least squares with non-negative weights (Lawson and Hanson 1974): work cannot make a kernel faster.

    Parameters
    ----------
    columns, latency_ms, weights
        As for `fit_ridge`.
    family
        Columns of equal numbers are pulled to a common weight, itself free, shape (n_columns,); None: to zero.
    strength
        Strength of that pull; None takes the one of least cross-validated error of the average.
    """
    own = np.zeros(columns.shape[1], dtype=np.int64) if family is None else family
    pull = _pull_rows(columns, own, shared=family is not None)
    average = latency_ms @ weights
    if strength is None:
        strength = min(NON_NEGATIVE_STRENGTHS, key=lambda value: _fold_error(columns, average, pull, value))
    parts = [_non_negative(columns, latency, pull, strength) for latency in latency_ms.T]
    solved = np.stack(parts, axis=1)
    return LinearFit(solved[: columns.shape[1]], solved[-1], strength)


def _pull_rows(columns: Floats, family: Integers, *, shared: bool) -> Floats:
    """Rows that pull each column's weight to its family's, shape (n_columns, n_columns + n_families + 1)."""
    n_columns, n_families = columns.shape[1], int(family.max()) + 1
    # A column that hardly moves latency may stray far: what is pulled is its share of the latency.
    size = np.abs(columns).mean(axis=0)
    rows = np.zeros((n_columns, n_columns + n_families + 1))
    every = np.arange(n_columns)
    rows[every, every] = size
    if shared:
        rows[every, n_columns + family] = -size
    return rows


def _non_negative(columns: Floats, latency_ms: Floats, pull: Floats, strength: float) -> Floats:
    """Weights of columns, families and the constant for one cluster, shape (n_columns + n_families + 1,)."""
    from scipy.optimize import nnls

    n_plans, n_columns = columns.shape
    design = np.zeros((n_plans + n_columns, pull.shape[1]))
    design[:n_plans, :n_columns] = columns / latency_ms[:, None]
    design[:n_plans, -1] = 1.0 / latency_ms
    design[n_plans:] = pull * (np.sqrt(strength * n_plans) / latency_ms.mean())
    wanted = np.concatenate([np.ones(n_plans), np.zeros(n_columns)])
    return np.asarray(nnls(design, wanted, maxiter=30 * design.shape[1])[0])


def _fold_error(columns: Floats, latency_ms: Floats, pull: Floats, strength: float) -> float:
    """Mean squared relative error of plans left out in turn."""
    fold = np.arange(len(latency_ms)) % N_FOLDS
    error = np.empty_like(latency_ms)
    n_columns = columns.shape[1]
    for number in range(N_FOLDS):
        out = fold == number
        solved = _non_negative(columns[~out], latency_ms[~out], pull, strength)
        error[out] = (columns[out] @ solved[:n_columns] + solved[-1]) / latency_ms[out] - 1.0
    return float((error**2).mean())
