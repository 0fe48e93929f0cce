"""All rows of a table compared at once: Tukey's studentized range.

Whichever rows are compared, and were they chosen after looking, at most 5 % of tables without differences show one
(Tukey 1953; for unequal variances Kramer 1956, shown to be conservative by Hayter, Annals of Statistics 12, 1984).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import copysign, floor, inf, isnan, nan

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.leaderboard.statistics.interval import CONFIDENCE

MOST_DEGREES = 1000
"""Degrees of freedom that pass for infinite: their quantiles differ by less than 0.3 %."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_CHI_NODES, _CHI_WEIGHTS = np.polynomial.legendre.leggauss(32)
_REACH = 9.0
"""Standard deviations beyond which a normal variable is not expected."""


def tukey_p(ratio: float, n_rows: int, degrees: float) -> float:
    """Probability that some pair of equal rows differs by so many standard errors of a difference.

    One minus the distribution function of the studentized range at sqrt(2) times the ratio. The distribution of the
    range is integrated over where its least value lies, and over the standard deviation's chi distribution, by
    Gauss-Legendre quadrature, to 0.0003: scipy.stats.studentized_range is more exact and takes twenty times as long.

    Parameters
    ----------
    ratio
        Difference over its standard error, of either sign.
    n_rows
        Rows of the table, at least 2.
    degrees
        Of the standard error; rounded down to two digits.
    """
    from scipy.special import ndtr

    chi, share = _chi(_rounded(degrees))
    width = np.minimum(np.sqrt(2) * abs(ratio) * chi, 4 * _REACH)[:, None]  # (n_nodes, 1)
    least = _NODES * _REACH
    density = _WEIGHTS * _REACH * np.exp(-(least**2) / 2) / np.sqrt(2 * np.pi)
    within = n_rows * ((ndtr(least + width) - ndtr(least)) ** (n_rows - 1) @ density)
    return float(np.clip(1 - within @ share, 0.0, 1.0))


def tukey_critical(n_rows: int, degrees: float) -> float:
    """Standard errors of a difference beyond which `tukey_p` is less than 5 %."""
    return _critical(n_rows, _rounded(degrees))


def _rounded(degrees: float) -> float:
    """Degrees rounded down to two digits, so that few differ, and at least 1; infinite if there are many."""
    if degrees >= MOST_DEGREES:
        return inf
    step = 0.1 if degrees < 10 else 1.0 if degrees < 100 else 10.0
    return max(1.0, floor(degrees / step + 1e-9) * step)


@cache
def _chi(degrees: float) -> tuple[Floats, Floats]:
    """Nodes and weights of an estimated standard deviation over the true one."""
    from scipy.special import gammaincinv

    if degrees == inf:
        return np.ones(1), np.ones(1)
    return np.sqrt(gammaincinv(degrees / 2, (_CHI_NODES + 1) / 2) * 2 / degrees), _CHI_WEIGHTS / 2


@cache
def _critical(n_rows: int, degrees: float) -> float:
    """See `tukey_critical`."""
    from scipy.optimize import brentq

    return float(brentq(lambda ratio: tukey_p(ratio, n_rows, degrees) - (1 - CONFIDENCE), 0.1, 1e3, xtol=1e-6))


@dataclass(frozen=True)
class Evidence:
    """That a row of a table differs from another.

    Attributes
    ----------
    errors
        Standard errors by which they differ; NaN where nothing is known.
    n_rows, degrees
        See `tukey_p`.
    least_p
        Below which the p value is not.
    """

    errors: float
    n_rows: int
    degrees: float
    least_p: float = 0.0

    @property
    def p(self) -> float:
        """P value of equal rows, adjusted for the table."""
        return 1.0 if isnan(self.errors) else max(self.least_p, tukey_p(self.errors, self.n_rows, self.degrees))


def errors_of(difference: float, error: float) -> float:
    """Standard errors by which rows differ: infinitely many where the error is 0, NaN where they do not differ then."""
    return difference / error if error else copysign(inf, difference) if difference else nan


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
