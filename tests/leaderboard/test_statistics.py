"""Formulas of boards against closed forms, scipy and cases that are known by hand."""

from __future__ import annotations

from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats

from hdapbench.leaderboard.statistics import (
    Outcomes,
    Spread,
)
from hdapbench.leaderboard.statistics.simultaneous import satterthwaite, tukey_critical, tukey_p

UNKNOWN = Spread(0.0, 0.0, 0)


def bits(n_right: int, n: int) -> Outcomes:
    """A row of one seed."""
    return Outcomes(np.array([n_right / n]), np.arange(n)[None] < n_right)


def rows_of(*per_image: np.ndarray) -> list[Outcomes]:
    return [Outcomes(of.mean(axis=1), of) for of in per_image]


class TestSimultaneous:
    @pytest.mark.parametrize(("n_rows", "degrees"), [(2, 3), (10, 1), (10, 9), (10, inf), (40, 60)])
    def test_the_studentized_range_is_scipys(self, n_rows: int, degrees: float) -> None:
        ratios = np.array([1.0, 2.0, 3.0, 4.0])

        assert tukey_p(ratios, n_rows, degrees) == pytest.approx(
            stats.studentized_range.sf(ratios * sqrt(2), n_rows, degrees), abs=1e-4
        )
        assert tukey_critical(n_rows, degrees) == pytest.approx(
            stats.studentized_range.isf(0.05, n_rows, degrees) / sqrt(2), rel=1e-4
        )

    def test_two_rows_are_compared_by_students_t(self) -> None:
        assert tukey_critical(2, 7) == pytest.approx(stats.t.isf(0.025, 7), rel=1e-4)
        assert tukey_p(-2.5, 2, 7) == pytest.approx(2 * stats.t.sf(2.5, 7), abs=1e-4)

    def test_degrees_of_two_samples_of_unequal_variance_are_welchs(self) -> None:
        a, b = np.array([1.0, 2.0, 4.0]), np.array([3.0, 9.0, 4.0, 8.0, 1.0])
        parts = [(a.var(ddof=1) / 3, 2.0), (b.var(ddof=1) / 5, 4.0)]

        welch = stats.ttest_ind(a, b, equal_var=False)

        assert satterthwaite(sum(part for part, _ in parts), parts) == pytest.approx(welch.df)
