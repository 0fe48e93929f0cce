"""Rows that vary clearly more than the others of their table: they are set apart, and have a variance of their own."""

from __future__ import annotations

import numpy as np

from hdapbench.arrays import Booleans, Floats

FEWEST_ROWS = 4
"""Rows of which one may be set apart."""

PRIOR = 2.0
"""Degrees of freedom of the table's variance beside one degree of a row's own; fewer beside more of them."""


def set_apart(squares: Floats, degrees: Floats) -> Booleans:
    """Rows whose variance is greater than that of the others, shape (n_rows,), found one by one.

    Parameters
    ----------
    squares, degrees
        Shape (n_rows,): sum of squares of each row about its own mean, and its degrees of freedom.
    """
    is_own = np.zeros(len(squares), dtype=bool)
    while True:
        left = np.flatnonzero(~is_own)
        own, free = squares[left], degrees[left]
        worst = most_unlike(own, free, own.sum() - own, free.sum() - free)
        if worst is None:
            return is_own
        is_own[left[worst]] = True


def most_unlike(squares: Floats, degrees: Floats, others: Floats, other_degrees: Floats) -> int | None:
    """Row that varies most, if more than the others do by more than chance; at 1 % for the whole table (Bonferroni).

    An F test of each row's mean square against that of the rows besides it.

    Parameters
    ----------
    squares, degrees
        Shape (n_rows,): sum of squares of each row, and its degrees of freedom.
    others, other_degrees
        Shape (n_rows,): those of all rows besides it.
    """
    from scipy.special import fdtrc

    testable = np.flatnonzero((degrees > 0) & (other_degrees > 0))
    if len(squares) < FEWEST_ROWS or not len(testable):
        return None
    own = squares[testable] / degrees[testable]
    p = fdtrc(
        degrees[testable],
        other_degrees[testable],
        own / (np.maximum(others[testable], 1e-300) / other_degrees[testable]),
    )
    return int(testable[np.argmin(p)]) if p.min() * len(squares) < 0.01 else None


def moderated(variance: float, degrees: float, of_table: float) -> tuple[float, float]:
    """A row's own variance and its degrees of freedom, moderated by the variance of the whole table.

    Smyth 2004, "Linear models and empirical Bayes methods", Statistical Applications in Genetics and Molecular Biology
    3: with one degree of freedom alone, an interval would reach from nothing to everything.
    """
    prior = PRIOR / degrees**2
    return (degrees * variance + prior * of_table) / (degrees + prior), degrees + prior
