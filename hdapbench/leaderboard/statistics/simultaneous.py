"""All rows of a table compared at once: Tukey's studentized range.

Whichever rows are compared, and were they chosen after looking, at most 5 % of tables without differences show one
(Tukey 1953; for unequal variances Kramer 1956, shown to be conservative by Hayter, Annals of Statistics 12, 1984).
"""

from __future__ import annotations

from functools import cache
from math import inf

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats
from hdapbench.leaderboard.statistics.interval import CONFIDENCE

MOST_DEGREES = 1000
"""Degrees of freedom that pass for infinite: their quantiles differ by less than 0.3 %."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_REACH = 9.0
"""Standard deviations beyond which a normal variable is not expected."""


def tukey_p(ratio: ArrayLike, n_rows: int, degrees: ArrayLike) -> Floats:
    """Probability that some pair of equal rows differs by so many standard errors of a difference.

    One minus the distribution function of the studentized range at sqrt(2) times the ratio. The distribution of the
    range is integrated over where its least value lies, and over the standard deviation's chi distribution, by
    Gauss-Legendre quadrature: scipy.stats.studentized_range has the same numbers, and takes a hundred times as long.

    Parameters
    ----------
    ratio
        Shape (n,): difference over its standard error, of either sign.
    n_rows
        Rows of the table, at least 2.
    degrees
        Of the standard error, shape (n,) or one for all; rounded down, as tables of the distribution have them.
    """
    from scipy.special import gammaincinv, ndtr

    ratios, found = np.broadcast_arrays(np.abs(np.asarray(ratio, dtype=np.float64)), np.asarray(degrees, np.float64))
    half = np.maximum(np.floor(found), 1.0)[..., None] / 2
    share = (_NODES + 1) / 2
    chi = np.where(half < MOST_DEGREES / 2, np.sqrt(gammaincinv(np.minimum(half, MOST_DEGREES), share) / half), 1.0)
    width = np.minimum(np.sqrt(2) * ratios[..., None] * chi, 4 * _REACH)[..., None]  # (n, nodes of chi, 1)
    least = _NODES * _REACH
    density = _WEIGHTS * _REACH * np.exp(-(least**2) / 2) / np.sqrt(2 * np.pi)
    within = n_rows * ((ndtr(least + width) - ndtr(least)) ** (n_rows - 1) @ density)  # (n, nodes of chi)
    return np.asarray(np.clip(1 - within @ (_WEIGHTS / 2), 0.0, 1.0))


@cache
def _critical(n_rows: int, degrees: float) -> float:
    from scipy.optimize import brentq

    return float(brentq(lambda ratio: float(tukey_p(ratio, n_rows, degrees)) - (1 - CONFIDENCE), 0.1, 200.0, xtol=1e-6))


def tukey_critical(n_rows: int, degrees: ArrayLike) -> Floats:
    """Standard errors of a difference beyond which `tukey_p` is less than 5 %; shape of the degrees."""
    whole = np.maximum(np.floor(np.asarray(degrees, dtype=np.float64)), 1.0)
    flat = [_critical(n_rows, inf if of >= MOST_DEGREES else float(of)) for of in whole.ravel()]
    return np.array(flat).reshape(whole.shape)


def satterthwaite(variance: float, parts: list[tuple[float, float]]) -> float:
    """Degrees of freedom of a variance that is a sum of independent mean squares.

    Satterthwaite, Biometrics Bulletin 2, 1946: the squared sum over the sum of each part's square over its degrees.

    Parameters
    ----------
    variance
        The sum.
    parts
        Each part, scaled as in the sum, with its degrees of freedom; infinite for what is known.
    """
    doubt = sum(part**2 / degrees for part, degrees in parts if part > 0)
    return variance**2 / doubt if doubt > 0 else inf
