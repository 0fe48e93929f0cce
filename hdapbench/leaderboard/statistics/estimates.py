"""Mean and interval over seeds alone, and whether two intervals overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with the half-width of its 95 % interval; None with a single seed."""

    mean: float
    half_width: float | None
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval; the mean itself with a single seed."""
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the mean itself with a single seed."""
        return self.mean + (self.half_width or 0.0)

    def overlaps(self, other: Estimate) -> bool:
        """Whether the intervals share a value; False while neither spread is known."""
        known = self.half_width is not None or other.half_width is not None
        return known and self.low <= other.high and other.low <= self.high


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval (Student's t) of values from independent seeds."""
    n = len(values)
    if n < 2:
        return Estimate(values[0], None, n)
    return Estimate(fmean(values), student_95(n - 1) * stdev(values) / sqrt(n), n)


def student_95(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t distribution, to the three decimals that printed tables have."""
    from scipy.special import stdtrit

    return round(float(stdtrit(degrees, 0.975)), 3)  # boards made with a printed table keep their bytes
