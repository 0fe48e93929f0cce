"""Medians with intervals that need no assumption on how times are distributed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
FEWEST = 6
"""Values that an interval of 95 % takes: of fewer not even least and greatest enclose the median that often."""


@dataclass(frozen=True)
class Interval:
    """A median and the interval that holds the true one.

    Attributes
    ----------
    median, low, high
        In the unit of the values.
    confidence
        Probability that such an interval holds the true median; at least 0.95 where there are enough values.
    """

    median: float
    low: float
    high: float
    confidence: float

    @property
    def half_width(self) -> float:
        """Half the interval's length."""
        return (self.high - self.low) / 2

    def holds(self, value: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


def median_interval(values: ArrayLike) -> Interval:
    """Median and interval between two order statistics, after the sign test.

    The true median exceeds each value with probability one half, whatever the distribution; so the number of values
    below it is binomial, and the k-th least and k-th greatest enclose it with a probability that can be counted
    (Conover, Practical Nonparametric Statistics, section 3.2). Values need only be independent.

    Parameters
    ----------
    values
        Shape (n,), n at least 1. With fewer than `FEWEST` the interval is from least to greatest, and its confidence
        says how little that means.
    """
    found = np.sort(np.asarray(values, dtype=np.float64))
    n = len(found)
    rank, outside = 1, 2 * 0.5**n  # probability of the median lying beyond the rank-th least or greatest
    below = 0.5**n
    while rank < (n + 1) // 2:
        below += comb(n, rank) * 0.5**n
        if 2 * below > 1 - CONFIDENCE:
            break
        rank, outside = rank + 1, 2 * below
    return Interval(float(np.median(found)), float(found[rank - 1]), float(found[n - rank]), max(0.0, 1 - outside))
