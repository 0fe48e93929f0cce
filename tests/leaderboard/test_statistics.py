"""Formulas of boards against closed forms, scipy and cases that are known by hand."""

from __future__ import annotations

from math import exp, inf, log, nan, sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.interpolate import PchipInterpolator

from hdapbench.leaderboard.statistics import (
    Cell,
    Interval,
    Outcomes,
    Spread,
    accuracy_differences,
    accuracy_interval,
    bootstrap_fronts,
    equal_accuracy_lead,
    fit_two_way,
    latency_interval,
    latency_ratios,
    measurement_variance_of,
    seed_spreads,
)
from hdapbench.leaderboard.statistics.simultaneous import satterthwaite, tukey_critical, tukey_p

UNKNOWN = Spread(0.0, 0.0, 0)


def bits(*n_right: int, n: int) -> Outcomes:
    """A row that answers the first images right, in every seed so many."""
    per_image = np.arange(n) < np.array(n_right)[:, None]
    return Outcomes(per_image.mean(axis=1), per_image)


def known(interval: Interval | None) -> Interval:
    assert interval is not None
    return interval


class TestSimultaneous:
    @pytest.mark.parametrize(("n_rows", "degrees"), [(2, 3), (10, 1), (10, 9), (10, inf), (40, 60)])
    def test_the_studentized_range_is_scipys(self, n_rows: int, degrees: float) -> None:
        for ratio in (1.0, 3.0, -4.0):
            exact = stats.studentized_range.sf(abs(ratio) * sqrt(2), n_rows, degrees)
            assert tukey_p(ratio, n_rows, degrees) == pytest.approx(exact, abs=3e-4)
        assert tukey_critical(n_rows, degrees) == pytest.approx(
            stats.studentized_range.isf(0.05, n_rows, degrees) / sqrt(2), rel=5e-3
        )

    def test_two_rows_are_compared_by_students_t(self) -> None:
        assert tukey_critical(2, 7) == pytest.approx(stats.t.isf(0.025, 7), rel=1e-3)
        assert tukey_p(-2.5, 2, 7) == pytest.approx(2 * stats.t.sf(2.5, 7), abs=3e-4)

    def test_degrees_of_two_samples_of_unequal_variance_are_welchs(self) -> None:
        a, b = np.array([1.0, 2.0, 4.0]), np.array([3.0, 9.0, 4.0, 8.0, 1.0])
        parts = [(a.var(ddof=1) / 3, 2.0), (b.var(ddof=1) / 5, 4.0)]

        welch = stats.ttest_ind(a, b, equal_var=False)

        assert satterthwaite(sum(part for part, _ in parts), parts) == pytest.approx(welch.df)


class TestAccuracyOfOneRow:
    @pytest.mark.parametrize(("n_right", "n"), [(354, 359), (0, 359), (359, 359), (1, 4), (2500, 5000)])
    def test_one_seed_has_wilsons_interval(self, n_right: int, n: int) -> None:
        wilson = stats.binomtest(n_right, n).proportion_ci(method="wilson")

        for row in (bits(n_right, n=n), Outcomes(np.array([n_right / n]), n_images=n)):
            found = known(accuracy_interval(row, UNKNOWN))
            assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high), abs=1e-8)

    def test_seeds_that_answer_alike_are_worth_one(self) -> None:
        rows = [bits(300, 300, 300, n=400), bits(310, 310, 310, n=400)]
        spread = seed_spreads(rows)[0]

        assert spread == Spread(0.0, 0.0, 4)
        assert known(accuracy_interval(rows[0], spread)) == accuracy_interval(bits(300, n=400), UNKNOWN)

    def test_seeds_that_answer_independently_are_worth_as_many_images(self) -> None:
        rng = np.random.default_rng(0)
        rows = [Outcomes(of.mean(axis=1), of) for of in rng.random((40, 4, 20_000)) < 0.8]

        found = known(accuracy_interval(rows[0], seed_spreads(rows)[0]))

        assert found.high - found.low == pytest.approx(2 * 1.96 * sqrt(0.8 * 0.2 / 80_000), rel=0.1)

    def test_the_spread_is_pooled_so_that_two_seeds_are_no_excuse(self) -> None:
        rows = [Outcomes(np.array([0.70 + 0.001 * row, 0.72 + 0.001 * row]), n_images=10**9) for row in range(10)]
        spread = seed_spreads(rows)[0]

        found = known(accuracy_interval(rows[0], spread))

        assert (spread.variance, spread.degrees) == (pytest.approx(0.0002), 10)
        assert (found.high - found.low) / 2 == pytest.approx(stats.t.isf(0.025, 10) * sqrt(0.0002 / 2), rel=0.02)

    def test_a_row_of_one_seed_takes_the_spread_of_the_others(self) -> None:
        alone = Outcomes(np.array([0.7, nan]), n_images=1000)
        others = [Outcomes(np.array([0.70, 0.72]), n_images=1000)] * 5

        with_spread = known(accuracy_interval(alone, seed_spreads([alone, *others])[0]))
        without = known(accuracy_interval(alone, UNKNOWN))

        assert with_spread.low < without.low < 0.7 < without.high < with_spread.high

    def test_a_row_that_varies_more_than_the_others_neither_widens_theirs_nor_is_sure_itself(self) -> None:
        """Of three seeds it has two degrees of freedom of its own, and half of one of the whole table."""
        noise = np.random.default_rng(0).normal(0, 0.003, (8, 3))
        rows = [Outcomes(0.8 + of) for of in noise[:7]] + [Outcomes(np.array([0.9, 0.8, 0.7]))]

        *others, wide = seed_spreads(rows)

        assert (others[0].degrees, sqrt(others[0].variance)) == (14, pytest.approx(0.003, rel=0.3))
        assert others == [others[0]] * 7
        whole = (2 * 0.01 + 14 * others[0].variance) / 16
        assert (wide.is_own, wide.degrees) == (True, 2.5)
        assert wide.variance == pytest.approx((2 * 0.01 + 0.5 * whole) / 2.5)
        found = accuracy_differences(rows, 0)
        assert found[7].high - found[7].low > 10 * (found[1].high - found[1].low)

    @pytest.mark.parametrize("by_seed", [[1.0, 1.0], [0.0, 0.0], [0.999, 1.0], [0.0, 0.02]])
    def test_no_interval_leaves_the_possible_or_is_a_point(self, by_seed: list[float]) -> None:
        row = Outcomes(np.array(by_seed), n_images=100)

        for spread in (UNKNOWN, seed_spreads([row])[0], Spread(0.01, 0.0, 1)):
            found = known(accuracy_interval(row, spread))
            assert 0 <= found.low <= found.value <= found.high <= 1
            assert found.high - found.low > 0.01

    def test_nothing_is_said_where_nothing_is_known(self) -> None:
        assert accuracy_interval(Outcomes(np.array([0.9])), UNKNOWN) is None

    def test_numbers_of_groups_give_nearly_students_interval(self) -> None:
        pseudo = np.random.default_rng(1).normal(0.4, 0.1, (1, 50))
        row = Outcomes(pseudo.mean(axis=1), pseudo)

        found = known(accuracy_interval(row, UNKNOWN))

        student = stats.ttest_1samp(pseudo[0], 0).confidence_interval()
        assert (found.low, found.high) == pytest.approx((student.low, student.high), abs=2e-3)


class TestAccuracyOfRowsAgainstEachOther:
    def test_one_seed_has_mcnemars_exact_p(self) -> None:
        right = np.zeros((2, 1, 500), dtype=bool)
        right[0, 0, :430], right[1, 0, 12:400] = True, True  # 42 images that only the first knows; none the second
        right[1, 0, 430:450] = True  # 20 that only the second knows
        rows = [Outcomes(of.mean(axis=1), of) for of in right]

        found = accuracy_differences(rows, 0)

        exact = stats.binomtest(20, 62).pvalue
        assert (found[0].value, found[0].low, found[0].high, found[0].p) == (0.0, 0.0, 0.0, 1.0)
        assert found[1].value == pytest.approx((20 - 42) / 500)
        assert found[1].p == pytest.approx(exact, rel=1e-2)
        assert found[1].differs

    def test_the_same_images_tell_more_than_the_intervals_do(self) -> None:
        rows = [bits(4600, n=5000), bits(4540, n=5000)]

        found = accuracy_differences(rows, 0)[1]
        intervals = [known(accuracy_interval(row, UNKNOWN)) for row in rows]

        assert found.differs
        assert intervals[1].high > intervals[0].low

    def test_equal_answers_on_few_images_prove_little(self) -> None:
        found = accuracy_differences([bits(90, n=100), bits(90, n=100)], 0)[1]

        assert (found.value, found.p) == (0.0, 1.0)
        assert found.low < -0.01
        assert found.high > 0.01

    def test_a_p_below_five_percent_and_an_interval_without_zero_are_the_same(self) -> None:
        rows = [bits(300, n=360)] + [bits(300 - worse, n=360) for worse in range(3, 30)]

        found = accuracy_differences(rows, 0)[1:]

        assert [of.differs for of in found] == [of.p < 0.05 for of in found]
        assert len({of.differs for of in found}) == 2

    def test_seeds_add_what_images_do_not_have(self) -> None:
        rng = np.random.default_rng(0)
        by_seed = np.array([[0.90, 0.92, 0.91], [0.89, 0.90, 0.92], [0.88, 0.91, 0.90]])
        one = rng.random((1, 10**5))
        rows = [Outcomes(of, one < of[:, None]) for of in by_seed]  # bits of a seed differ by its accuracy alone
        rows = [Outcomes(row.per_image.mean(axis=1), row.per_image) for row in rows if row.per_image is not None]

        found = accuracy_differences(rows, 0)[1]

        values = np.array([row.by_seed for row in rows])
        left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        by_seeds_alone = tukey_critical(3, 4) * sqrt(2 * (left**2).sum() / 4 / 3)
        assert found.high - found.value == pytest.approx(by_seeds_alone, rel=0.02)

    def test_rows_are_compared_on_the_seeds_that_both_have(self) -> None:
        whole, part, other = bits(80, 60, n=100), bits(70, 0, n=100), bits(0, 50, n=100)
        part = Outcomes(np.array([0.7, nan]), part.per_image)
        other = Outcomes(np.array([nan, 0.5]), other.per_image)

        against_whole = accuracy_differences([whole, part, other], 0)
        against_part = accuracy_differences([whole, part, other], 1)

        assert [of.value for of in against_whole] == pytest.approx([0.0, -0.1, -0.1])
        assert (against_part[2].low, against_part[2].high, against_part[2].p) == (-1.0, 1.0, 1.0)

    def test_rows_of_which_only_totals_are_known_are_not_paired(self) -> None:
        rows = [Outcomes(np.array([0.92]), n_images=5000), Outcomes(np.array([0.90]), n_images=5000)]

        found = accuracy_differences(rows, 0)[1]

        assert found.p == pytest.approx(2 * stats.norm.sf(0.02 / sqrt((0.92 * 0.08 + 0.9 * 0.1) / 5000)), rel=0.05)


class TestLatency:
    def test_on_whole_tables_the_fit_is_the_analysis_of_variance_and_tukeys_intervals(self) -> None:
        rng = np.random.default_rng(0)
        log_ms = rng.normal(2, 0.1, (4, 1)) + rng.normal(0, 0.5, (1, 3)) + rng.normal(0, 0.01, (4, 3))

        fit = fit_two_way(log_ms, np.zeros((4, 3)))
        found = latency_ratios(fit, 1)

        left = log_ms - log_ms.mean(axis=0) - log_ms.mean(axis=1, keepdims=True) + log_ms.mean()
        mean_square = (left**2).sum() / 6
        reach = stats.studentized_range.isf(0.05, 4, 6) * sqrt(mean_square / 3)
        assert (fit.residual_variance, fit.degrees) == (pytest.approx(mean_square), 6)
        assert fit.row_means == pytest.approx(log_ms.mean(axis=1))
        assert fit.seed_effects == pytest.approx(log_ms.mean(axis=0) - log_ms.mean())
        assert found[1].value == found[1].low == found[1].high == 1
        assert log(found[2].value) == pytest.approx(log_ms[2].mean() - log_ms[1].mean())
        assert log(found[2].high / found[2].value) == pytest.approx(reach, rel=1e-3)
        q = abs(log(found[2].value)) / sqrt(mean_square / 3)
        assert found[2].p == pytest.approx(stats.studentized_range.sf(q, 4, 6), abs=1e-4)
        own = latency_interval(fit, 2)
        assert log(own.high / own.value) == pytest.approx(stats.t.isf(0.025, 6) * sqrt(mean_square / 3))

    def test_a_row_that_varies_more_than_the_others_neither_hides_their_differences_nor_is_sure_itself(self) -> None:
        noise = np.random.default_rng(0).normal(0, 0.001, (8, 3))
        log_ms = np.linspace(1, 1.07, 8)[:, None] + noise + [[0, 0.3, 0.6]]
        log_ms[7] += [0.2, -0.2, 0.0]

        fit = fit_two_way(log_ms, np.zeros((8, 3)))
        found = latency_ratios(fit, 0)

        assert (fit.degrees, sqrt(fit.residual_variance)) == (12, pytest.approx(0.001, rel=0.3))
        assert [of.differs for of in found] == [False, *[True] * 6, False]
        # Two degrees of its own (variance 0.04), half of one of the whole table (0.08 of squares over 14 degrees).
        moderated = (2 * 0.04 + 0.5 * 0.08 * 7 / 8 / 14) / 2.5
        assert log(latency_interval(fit, 7).high) - 1.37 == pytest.approx(
            stats.t.isf(0.025, 2.5) * sqrt(moderated / 3), rel=0.05
        )

    def test_a_row_that_missed_the_fast_session_is_no_slower_for_it(self) -> None:
        log_ms = np.array([[1.0, 1.2], [1.01, 1.21], [1.02, 1.22], [nan, 1.2]])

        fit = fit_two_way(log_ms, np.full((4, 2), 1e-8))

        assert fit.row_means == pytest.approx([1.1, 1.11, 1.12, 1.1])
        assert fit.degrees == 2
        assert latency_ratios(fit, 0)[3].value == pytest.approx(1.0)

    def test_rows_without_a_common_session_are_not_compared(self) -> None:
        fit = fit_two_way(np.array([[1.0, nan], [1.1, nan], [nan, 2.0], [nan, nan]]), np.full((4, 2), 1e-8))

        found = latency_ratios(fit, 0)

        assert found[1].differs
        assert [(of.low, of.high, of.p) for of in found[2:]] == [(0.0, inf, 1.0)] * 2

    def test_one_session_has_the_measurement_alone_and_none_is_surer_than_the_median(self) -> None:
        log_ms = np.array([[1.0], [1.02], [1.3], [1.4]])
        noise = np.array([[0.001**2], [0.003**2], [0.004**2], [nan]])

        found = latency_ratios(fit_two_way(log_ms, noise), 2)
        unknown = latency_ratios(fit_two_way(log_ms, np.full((4, 1), nan)), 2)

        for row in (0, 1, 3):
            assert log(found[row].high / found[row].value) == pytest.approx(tukey_critical(4, inf) * 0.005)
            assert (unknown[row].low, unknown[row].high, unknown[row].p) == (0.0, inf, 1.0)

    def test_agreement_by_luck_does_not_make_rows_surer_than_their_measurement(self) -> None:
        fit = fit_two_way(np.array([[1.0, 1.1], [1.02, 1.12]]), np.full((2, 2), 0.01**2))

        found = latency_ratios(fit, 0)[1]

        assert fit.residual_variance == pytest.approx(0, abs=1e-20)
        assert log(found.high / found.value) == pytest.approx(tukey_critical(2, inf) * 0.01)

    def test_noise_of_a_fleets_mean_is_found_from_its_repeats(self) -> None:
        rng = np.random.default_rng(0)
        scale, weights = np.array([5.0, 10.0, 20.0]), np.array([0.5, 0.3, 0.2])

        draws = scale[:, None] * np.exp(rng.normal(0, 0.01, (2000, 3, 15)))
        truth = np.log(np.median(draws, axis=2) @ weights).var()

        found = [measurement_variance_of(list(draw), weights) for draw in draws[:500]]
        assert np.mean(found) == pytest.approx(1.2 * truth, rel=0.1)  # as the docstring says

    def test_a_device_that_was_measured_once_says_nothing_of_noise(self) -> None:
        assert np.isnan(measurement_variance_of([[1.0, 1.1, 1.0], [2.0]], [0.5, 0.5]))


def front(*points: tuple[float, float]) -> np.ndarray:
    """A front without replicates, from accuracies and latencies."""
    return np.array([[(accuracy, log(latency)) for accuracy, latency in points]])


class TestLeadsAtEqualAccuracy:
    DENSE = (0.93, 10.0)
    REFERENCE = (DENSE, (0.92, 7.0), (0.89, 5.0), (0.80, 4.0))

    def test_a_front_that_is_faster_by_a_factor_leads_by_it(self) -> None:
        faster = front(*((accuracy, latency / 1.31) for accuracy, latency in self.REFERENCE))

        lead = equal_accuracy_lead(faster, front(*self.REFERENCE))

        assert (lead.value, lead.accuracy_low, lead.accuracy_high) == pytest.approx((0.31, 0.80, 0.93))

    def test_the_mean_is_that_of_scipys_monotone_curves_over_common_accuracies(self) -> None:
        own = front(self.DENSE, (0.925, 6.5), (0.85, 3.9))

        lead = equal_accuracy_lead(own, front(*self.REFERENCE))

        curves = [PchipInterpolator(of[::-1, 0], of[::-1, 1]) for of in (own[0], front(*self.REFERENCE)[0])]
        mean = (curves[1].integrate(0.85, 0.93) - curves[0].integrate(0.85, 0.93)) / 0.08
        assert lead.value == pytest.approx(exp(mean) - 1)

    def test_points_that_are_dominated_do_not_count(self) -> None:
        useless = front(*self.REFERENCE, (0.85, 7.0), (0.93, 11.0))

        lead = equal_accuracy_lead(useless, front(*self.REFERENCE))

        assert lead.value == pytest.approx(0)

    @pytest.mark.parametrize(
        ("own", "lead", "accuracy"),
        [
            (front((0.70, 3.0), (0.60, 2.0)), 4 / 3 - 1, 0.70),
            (front((0.96, 3.0), (0.95, 2.0)), 10 / 2 - 1, 0.93),
            (front((0.93, 2.0), (0.90, 3.0)), 10 / 2 - 1, 0.93),
        ],
    )
    def test_the_fastest_of_a_front_that_is_more_accurate_throughout_meets_the_most_accurate_of_the_other(
        self, own: np.ndarray, lead: float, accuracy: float
    ) -> None:
        found = equal_accuracy_lead(own, front(*self.REFERENCE))

        assert not found.overlaps
        assert (found.accuracy_low, found.accuracy_high) == pytest.approx((accuracy, accuracy))
        assert found.value == pytest.approx(lead)

    def test_a_lead_does_not_jump_where_fronts_begin_to_overlap(self) -> None:
        apart, touching = front((0.9301, 2.0), (0.95, 3.0)), front((0.9299, 2.0), (0.95, 3.0))

        leads = [equal_accuracy_lead(own, front(*self.REFERENCE)) for own in (apart, touching)]

        assert [lead.overlaps for lead in leads] == [False, True]
        assert leads[0].value == pytest.approx(leads[1].value, rel=0.02)


class TestTheBootstrapOfFronts:
    def cells(self, n_seeds: int, n_images: int = 2000, *, deviation: float = 0.005) -> list[Cell]:
        rng = np.random.default_rng(n_seeds)
        difficulty = rng.normal(size=n_images)
        made = []
        for method in ("a", "b", "c", "d"):
            for target in range(3):
                seeds = rng.normal(0, 0.02, (n_seeds, 1))
                right = 1.4 - 0.2 * target + seeds + difficulty + rng.normal(0, 0.3, (n_seeds, n_images)) > 0
                log_ms = 2 - 0.3 * target + rng.normal(0, deviation, n_seeds)
                made.append(Cell(method, log_ms, np.full(n_seeds, 1e-6), Outcomes(right.mean(axis=1), right)))
        return made

    def test_the_estimate_comes_first_and_replicates_spread_about_it(self) -> None:
        cells = self.cells(3)

        drawn = bootstrap_fronts(cells, np.random.default_rng(0), 2000)

        spread = seed_spreads([cell.outcomes for cell in cells])[0]
        fit = fit_two_way(np.array([cell.log_ms for cell in cells]), np.full((12, 3), 1e-6))
        images = [cell.outcomes.per_image.mean(axis=0).var() / 2000 for cell in cells]
        assert drawn[0, :, 0] == pytest.approx([cell.outcomes.by_seed.mean() for cell in cells])
        assert drawn[0, :, 1] == pytest.approx([cell.log_ms.mean() for cell in cells])
        assert drawn[1:].mean(axis=0) == pytest.approx(drawn[0], abs=1e-3)
        assert drawn[1:, :, 0].var(axis=0) == pytest.approx(np.array(images) + spread.excess / 3, rel=0.2)
        assert drawn[1:, :, 1].var(axis=0) == pytest.approx(np.full(12, fit.residual_variance / 3), rel=0.25)

    def test_images_are_drawn_for_all_cells_together(self) -> None:
        drawn = bootstrap_fronts(self.cells(1), np.random.default_rng(0), 2000)[1:, :, 0]

        assert np.corrcoef(drawn[:, 0], drawn[:, 3])[0, 1] > 0.6

    def test_one_seed_has_the_noise_of_its_measurement(self) -> None:
        drawn = bootstrap_fronts(self.cells(1), np.random.default_rng(0), 2000)[1:, :, 1]

        assert drawn.std(axis=0) == pytest.approx(np.full(12, 1e-3), rel=0.1)

    def test_missing_seeds_and_totals_without_images_are_drawn_too(self) -> None:
        cells = self.cells(3)
        cells[0] = Cell(
            "a",
            np.array([nan, *cells[0].log_ms[1:]]),
            np.full(3, 1e-6),
            Outcomes(np.array([nan, 0.8, 0.81]), None, 500),
        )

        drawn = bootstrap_fronts(cells, np.random.default_rng(0), 500)

        assert np.isfinite(drawn).all()
        assert drawn[1:, 0, 0].std() > sqrt(0.8 * 0.2 / 500) * 0.9
        lead = equal_accuracy_lead(drawn[:, 3:6], drawn[:, :3])
        assert lead.low < lead.value < lead.high
