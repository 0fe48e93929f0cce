"""How often boards are wrong: simulated boards whose truth is known.

Ten methods, with a spread of 0.5 % between the plans of a method's seeds, a shift of 0.75 % between sessions, measurement
noise of 0.04 %; accuracies of 92 %, 0.3 points apart between seeds, test images whose difficulty all methods share. Cells
are missing on every second board of several seeds. The truth of several seeds is the mean over all seeds (of latency, in
the sessions that were held). One seed says nothing of others: its truth is the plan that was measured and the network
that was trained. Bounds are 93 to 97 % and 5 %, the latter with three standard errors of so many boards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log1p, nan, sqrt

import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from hdapbench.leaderboard.statistics import (
    Cell,
    Lead,
    Outcomes,
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

pytestmark = pytest.mark.slow

N_METHODS = 10
MEASUREMENT = 4e-4
DIFFICULTY, OWN_IMAGES, FLIPS, SEEDS = 1.0, 0.25, 0.2, 0.03
"""Deviations of what decides whether an image is right: the image, method and image, all three, and method and seed."""


def at_most_five_percent(n_claims: int, n_boards: int) -> bool:
    return n_claims / n_boards <= 0.05 + 3 * sqrt(0.05 * 0.95 / n_boards)


def without_some(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One cell of ten is missing, but no row misses all."""
    missing = rng.random(values.shape) < 0.1
    missing[missing.all(axis=1)] = False
    return np.where(missing, nan, values)


@dataclass
class Count:
    """What was seen over all boards."""

    held: int = 0
    intervals: int = 0
    boards_with_false_claims: int = 0
    found: int = 0

    @property
    def coverage(self) -> float:
        return self.held / self.intervals


def latency_boards(
    n_seeds: int, *, lead: float = 0.0, missing: bool = False, spread: ArrayLike = 0.005, n_boards: int = 1000
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Log latency, shape (n_methods, n_seeds), and true log latency of each method; the first leads."""
    rng = np.random.default_rng(n_seeds)
    mean = np.full((N_METHODS, 1), 2.0)
    mean[0] -= log1p(lead)
    for board in range(n_boards):
        plans = mean + rng.standard_normal((N_METHODS, n_seeds)) * np.reshape(spread, (-1, 1))
        sessions = rng.normal(0, 0.0075, n_seeds)
        measured = plans + sessions + rng.normal(0, MEASUREMENT, plans.shape)
        truth = (mean[:, 0] if n_seeds > 1 else plans[:, 0]) + sessions.mean()
        yield without_some(measured, rng) if missing and board % 2 else measured, truth


def seen_latency(boards: Iterator[tuple[np.ndarray, np.ndarray]]) -> Count:
    count = Count()
    for measured, truth in boards:
        fit = fit_two_way(measured, np.full(measured.shape, MEASUREMENT**2))
        intervals = [latency_interval(fit, row) for row in range(N_METHODS)]
        count.held += sum(of.low <= exp(true) <= of.high for of, true in zip(intervals, truth, strict=True))
        count.intervals += N_METHODS
        best = int(np.argmin(fit.row_means))
        shown = [row for row, of in enumerate(latency_ratios(fit, best)) if of.differs]
        count.boards_with_false_claims += any(truth[row] <= truth[best] for row in shown)
        count.found += len(shown) if best == 0 else 0
    return count


class TestLatency:
    @pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
    def test_intervals_hold_the_truth_and_equal_methods_are_said_to_differ_on_few_boards(self, n_seeds: int) -> None:
        count = seen_latency(latency_boards(n_seeds, missing=n_seeds > 1))

        assert 0.93 <= count.coverage <= 0.97
        assert at_most_five_percent(count.boards_with_false_claims, 1000)

    @pytest.mark.parametrize(("n_devices", "n_repeats"), [(1, 3), (4, 7), (16, 7)])
    def test_one_seed_of_equal_plans_has_the_noise_that_few_repeats_tell(self, n_devices: int, n_repeats: int) -> None:
        """Variances from few repeats are too large rather than too small: up to 98.5 % of intervals hold the truth."""
        rng = np.random.default_rng(n_devices)
        weights, held, claims = np.full(n_devices, 1 / n_devices), 0, 0
        for _ in range(300):
            repeats = 5 * np.exp(rng.normal(0, 0.01, (N_METHODS, n_devices, n_repeats)))
            noise = np.array([[measurement_variance_of(list(of), weights)] for of in repeats])
            fit = fit_two_way(np.log(np.median(repeats, axis=2) @ weights)[:, None], noise)
            intervals = [latency_interval(fit, row) for row in range(N_METHODS)]
            held += sum(of.low <= 5 <= of.high for of in intervals)
            claims += any(of.differs for of in latency_ratios(fit, int(np.argmin(fit.row_means))))

        assert 0.93 <= held / 300 / N_METHODS <= 0.985
        assert at_most_five_percent(claims, 300)

    @pytest.mark.parametrize("n_seeds", [3, 5])
    def test_one_method_that_draws_its_plans_at_random_is_not_said_to_differ(self, n_seeds: int) -> None:
        """Of two seeds, one board of six says so: two values may agree by luck, whatever they are drawn from."""
        count = seen_latency(latency_boards(n_seeds, spread=[0.02, *[0.001] * 9], n_boards=500))

        assert 0.93 <= count.coverage <= 0.97
        assert at_most_five_percent(count.boards_with_false_claims, 500)

    def test_two_seeds_find_a_lead_of_two_percent_on_half_of_the_boards(self) -> None:
        count = seen_latency(latency_boards(2, lead=0.02))

        assert 0.45 <= count.found / 9 / 1000 <= 0.6
        assert at_most_five_percent(count.boards_with_false_claims, 1000)

    @pytest.mark.parametrize(("n_seeds", "power"), [(1, 0.95), (3, 0.8), (5, 0.95)])
    def test_one_seed_or_several_find_a_lead_of_two_percent(self, n_seeds: int, power: float) -> None:
        count = seen_latency(latency_boards(n_seeds, lead=0.02, n_boards=300))

        assert count.found / 9 / 300 > power


def accuracy_boards(
    n_seeds: int,
    n_images: int,
    *,
    lead: float = 0.0,
    n_boards: int = 1000,
    missing: bool = False,
    seeds: ArrayLike = SEEDS,
) -> Iterator[tuple[list[Outcomes], np.ndarray]]:
    """Rows, and the true accuracy of each; the first leads."""
    rng = np.random.default_rng(n_images + n_seeds)
    means = np.full(N_METHODS, 0.92 - lead)
    means[0] = 0.92
    seeds = np.broadcast_to(np.reshape(seeds, (-1, 1)), (N_METHODS, 1))
    within = sqrt(DIFFICULTY**2 + OWN_IMAGES**2 + FLIPS**2)
    for board in range(n_boards):
        levels = ndtri(means)[:, None] * np.sqrt(within**2 + seeds**2) + seeds * rng.standard_normal(
            (N_METHODS, n_seeds)
        )
        score = rng.standard_normal((N_METHODS, n_seeds, n_images), dtype=np.float32) * np.float32(FLIPS)
        score += rng.standard_normal((N_METHODS, 1, n_images), dtype=np.float32) * np.float32(OWN_IMAGES)
        score += rng.standard_normal(n_images, dtype=np.float32) * np.float32(DIFFICULTY)
        right = score > -levels[:, :, None].astype(np.float32)
        by_seed = right.mean(axis=2)
        by_seed = without_some(by_seed, rng) if missing and board % 2 else by_seed
        truth = means if n_seeds > 1 else ndtr(levels[:, 0] / within)
        yield [Outcomes(*row) for row in zip(by_seed, right, strict=True)], truth


def seen_accuracy(boards: Iterator[tuple[list[Outcomes], np.ndarray]], *, but: int | None = None) -> Count:
    """What is seen of all rows; the coverage is that of all but one."""
    count = Count()
    for rows, truth in boards:
        for row, true, spread in zip(rows, truth, seed_spreads(rows), strict=True):
            interval = accuracy_interval(row, spread)
            assert interval is not None
            if but is None or row is not rows[but]:
                count.held += interval.low <= true <= interval.high
                count.intervals += 1
        best = int(np.argmax([np.nanmean(row.by_seed) for row in rows]))
        shown = [row for row, of in enumerate(accuracy_differences(rows, best)) if of.differs]
        count.boards_with_false_claims += any(truth[row] >= truth[best] for row in shown)
        count.found += len(shown) if best == 0 else 0
    return count


class TestAccuracy:
    @pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
    @pytest.mark.parametrize(("n_images", "n_boards"), [(360, 1000), (5000, 300)])
    def test_intervals_hold_the_truth_and_equal_methods_are_said_to_differ_on_few_boards(
        self, n_seeds: int, n_images: int, n_boards: int
    ) -> None:
        """With one seed, methods that are equal are networks that are."""
        boards = accuracy_boards(
            n_seeds, n_images, n_boards=n_boards, missing=n_seeds > 1, seeds=SEEDS if n_seeds > 1 else 0.0
        )

        count = seen_accuracy(boards)

        assert 0.93 <= count.coverage <= 0.97
        assert at_most_five_percent(count.boards_with_false_claims, n_boards)

    @pytest.mark.parametrize(("n_seeds", "n_images", "n_boards"), [(3, 360, 500), (5, 360, 500), (5, 5000, 300)])
    def test_a_row_of_five_times_the_spread_makes_the_others_neither_too_sure_nor_too_unsure(
        self, n_seeds: int, n_images: int, n_boards: int
    ) -> None:
        """Few seeds may agree by luck: of three seeds and 5,000 images, one board of six says that the row differs."""
        boards = accuracy_boards(n_seeds, n_images, n_boards=n_boards, seeds=[*[SEEDS] * 9, 5 * SEEDS])

        count = seen_accuracy(boards, but=9)

        assert 0.93 <= count.coverage <= 0.97
        assert at_most_five_percent(count.boards_with_false_claims, n_boards)

    def test_one_seed_finds_a_lead_of_a_point_and_a_half_on_5000_images(self) -> None:
        count = seen_accuracy(accuracy_boards(1, 5000, lead=0.015, n_boards=200, seeds=0.0))

        assert count.found / 9 / 200 > 0.8


FRONT = np.array([(0.93, 0.0), (0.92, -0.3), (0.90, -0.6), (0.86, -0.9)])
"""True accuracy and log latency of the dense model and of the slowest method's three targets."""


def front_board(n_seeds: int, n_images: int, lead: float, rng: np.random.Generator) -> tuple[list[Cell], np.ndarray]:
    """Cells of the dense model and of six methods, the first without the lead; and what is true of each cell."""
    difficulty, sessions = rng.standard_normal(n_images), rng.normal(0, 0.0075, n_seeds)
    within = sqrt(DIFFICULTY**2 + OWN_IMAGES**2 + FLIPS**2)
    cells, truths = [], []
    for method, target in [(-1, 0)] + [(method, target) for method in range(6) for target in (1, 2, 3)]:
        accuracy, latency = FRONT[target] - (0, log1p(lead) if method > 0 else 0)
        fixed = method < 0
        plans = latency + rng.normal(0, 0 if fixed else 0.005, n_seeds)
        levels = ndtri(accuracy) * sqrt(within**2 + (0 if fixed else SEEDS**2)) + rng.normal(
            0, 0 if fixed else SEEDS, n_seeds
        )
        flips = FLIPS * rng.standard_normal((1 if fixed else n_seeds, n_images))
        right = levels[:, None] + difficulty + OWN_IMAGES * rng.standard_normal(n_images) + flips > 0
        log_ms = plans + sessions + rng.normal(0, MEASUREMENT, n_seeds)
        noise = np.full(n_seeds, MEASUREMENT**2)
        cells.append(Cell(f"method {method}", log_ms, noise, Outcomes(right.mean(axis=1), right), is_fixed=fixed))
        truths.append((accuracy, latency) if n_seeds > 1 else (ndtr(levels[0] / within), plans[0]))
    return cells, np.array(truths)[None]


@pytest.mark.parametrize("n_seeds", [1, 2, 5])
def test_intervals_of_leads_at_equal_accuracy_hold_the_truth(n_seeds: int) -> None:
    """Leads of a board share its reference, so that fewer are independent than there are."""
    rng = np.random.default_rng(n_seeds)
    held = []
    for _ in range(120):
        cells, truth = front_board(n_seeds, 2000, 0.2, rng)
        drawn = bootstrap_fronts(cells, rng, 200)
        for method in range(1, 6):
            own, other = [0, *range(1 + 3 * method, 4 + 3 * method)], [0, 1, 2, 3]
            lead, true = (equal_accuracy_lead(of[:, own], of[:, other]) for of in (drawn, truth))
            assert isinstance(true, Lead)
            held.append(lead.low <= true.value <= lead.high)

    assert 0.915 <= np.mean(held) <= 0.985
