"""Pareto fronts, and the lead of one front over another at equal accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, nan

import numpy as np

from hdapbench.arrays import Floats
from hdapbench.leaderboard.statistics.accuracy import Outcomes, Spread, seed_spreads
from hdapbench.leaderboard.statistics.interval import CONFIDENCE
from hdapbench.leaderboard.statistics.latency import fit_two_way


@dataclass(frozen=True, eq=False)
class Cell:
    """What the bootstrap draws one point of a front from: one method at one target, or the dense model.

    Attributes
    ----------
    method
        Its seeds are drawn together over all its targets.
    log_ms
        Shape (n_seeds,): log of latency, or of whatever the fronts are about; NaN for a missing seed.
    measurement_variance
        Shape (n_seeds,): variance of each `log_ms`; 0 for what is counted rather than measured.
    outcomes
        Accuracy of the same seeds.
    is_fixed
        Whether no seed changes the model, as the dense one: its accuracy has no part of the spread between seeds.
    """

    method: str
    log_ms: Floats
    measurement_variance: Floats
    outcomes: Outcomes
    is_fixed: bool = False


@dataclass(frozen=True)
class Lead:
    """How much faster a front is than another at equal accuracy.

    Attributes
    ----------
    value, low, high
        0.31 is 31 % faster: the other takes 1.31 times as long. The interval is one of 95 %, NaN without replicates.
    accuracy_low, accuracy_high
        Accuracies over which the lead is the mean.
    overlaps
        Whether both fronts span them; otherwise one front is more accurate throughout.
    """

    value: float
    low: float
    high: float
    accuracy_low: float
    accuracy_high: float
    overlaps: bool


PART = 1 << 20
"""Numbers that are drawn at once."""

POINT = 1e-9
"""Accuracies over which a front that is a single point is compared with another."""


def dominates(point: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether a point is nowhere above another, and is another one; less is better in every coordinate."""
    return point != other and all(mine <= theirs for mine, theirs in zip(point, other, strict=True))


def pareto_front(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether each point is dominated by no other; less is better, equal points stand or fall together."""
    return [not any(dominates(other, point) for other in points) for point in points]


def equal_accuracy_lead(front: Floats, reference: Floats | Curves) -> Lead:
    """Lead of a front over a reference, as mean difference of log latency over the accuracies that both reach.

    The mean difference between two curves is Bjontegaard's (VCEG-M33, 2001), who interpolated by a cubic polynomial;
    monotone piecewise cubics (PCHIP: Fritsch and Carlson, SIAM Journal on Numerical Analysis 17, 1980) do not overshoot
    and are what later practice takes. Only Pareto-optimal points are kept. The interval is the bootstrap's
    percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13); on simulated boards
    it holds the truth at least as evenly as the bias-corrected one.

    Parameters
    ----------
    front, reference
        Shape (1 + n_replicates, n_points, 2): accuracy and log latency of every target, the dense model among them. The
        first entry is the estimate, the others are replicates from `bootstrap_fronts`, if any. `Curves` of a reference
        serve many fronts.

    Returns
    -------
    Lead
        Over the accuracies that both fronts span or, where one is more accurate throughout, at the other's greatest.
    """
    own, other = Curves(front), reference if isinstance(reference, Curves) else Curves(reference)
    low, high = _common(own, other)
    mean = (other.areas(low, high) - own.areas(low, high)) / (high - low)
    tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    ends = np.exp(np.quantile(mean[1:], tails)) - 1 if len(mean) > 1 else (nan, nan)
    overlaps = bool(max(own.low[0], other.low[0]) < min(own.high[0], other.high[0]))
    return Lead(exp(mean[0]) - 1, float(ends[0]), float(ends[1]), float(low[0]), float(high[0]), overlaps)


def _common(own: Curves, other: Curves) -> tuple[Floats, Floats]:
    """Accuracies over which fronts are compared, shape (n,): those that both span.

    Where one is more accurate throughout, the other's greatest: its fastest point reaches that, and more. Over all that
    the other spans it would be compared with points that nobody chooses who wants its accuracy.
    """
    low, high = np.maximum(own.low, other.low), np.minimum(own.high, other.high)
    own_is_less = (own.high < other.high) | ((own.high == other.high) & (own.low < other.low))
    high = np.where(low >= high, np.where(own_is_less, own.high, other.high), high)
    return np.minimum(low, high - POINT), high


class Curves:
    """Pareto-optimal points of each replicate's front by rising accuracy, in groups of equally many.

    Attributes
    ----------
    low, high
        Shape (n,): least and greatest accuracy of each; equal where one point is left.
    """

    def __init__(self, fronts: Floats) -> None:
        order = np.lexsort((fronts[..., 1], -fronts[..., 0]), axis=-1)  # most accurate first, of equal ones the fastest
        ordered = np.take_along_axis(fronts, order[..., None], axis=1)
        least = np.minimum.accumulate(ordered[..., 1], axis=1)
        keep = np.concatenate([np.ones((len(fronts), 1), dtype=bool), ordered[:, 1:, 1] < least[:, :-1]], axis=1)
        counts = keep.sum(axis=1)
        self.groups = []
        self.low, self.high = np.empty(len(fronts)), ordered[:, 0, 0]
        for count in np.unique(counts):
            members = np.flatnonzero(counts == count)
            points = ordered[members][keep[members]].reshape(len(members), count, 2)[:, ::-1]
            x, y = points[..., 0], points[..., 1]
            self.groups.append((members, x, y, _pchip_slopes(x, y) if count > 1 else y))
            self.low[members] = points[:, 0, 0]

    def areas(self, low: Floats, high: Floats) -> Floats:
        """Integral of each curve from its low to its high accuracy, shape (n,).

        Below its least accurate point a curve is as fast as there: that point reaches any lower accuracy too.
        """
        found = np.empty(len(self.low))
        for members, x, y, slope in self.groups:
            ends = [bound[members] for bound in (low, high)]
            lower, upper = (y[:, 0] * np.minimum(end - x[:, 0], 0) for end in ends)
            found[members] = upper - lower
            if x.shape[1] > 1:
                lower, upper = (_area(x, y, slope, np.maximum(end, x[:, 0])) for end in ends)
                found[members] += upper - lower
        return found


def _area(x: Floats, y: Floats, slope: Floats, end: Floats) -> Floats:
    """Integral of monotone piecewise cubics from their first x to the end, shape (n,); x and y rise along each row."""
    step = np.diff(x)
    s = np.clip((end[:, None] - x[:, :-1]) / step, 0, 1)
    square = s * s
    cube, fourth = square * s, square * square
    from_values = y[:, :-1] * (fourth / 2 - cube + s) + y[:, 1:] * (cube - fourth / 2)
    from_slopes = slope[:, :-1] * (fourth / 4 - 2 * cube / 3 + square / 2) + slope[:, 1:] * (fourth / 4 - cube / 3)
    return np.asarray((step * (from_values + step * from_slopes)).sum(axis=1))


def _pchip_slopes(x: Floats, y: Floats) -> Floats:
    """Slopes of PCHIP at its points, for many rising curves at once: those of scipy.interpolate.PchipInterpolator.

    Within, the weighted harmonic mean of both sides' secants (Fritsch and Butland, SIAM Journal on Scientific and
    Statistical Computing 5, 1984); at the ends, the parabola's through three points, not below zero.
    """
    step = np.diff(x)
    secant = np.diff(y) / step
    if secant.shape[1] == 1:
        return np.repeat(secant, 2, axis=1)
    before, after = 2 * step[:, 1:] + step[:, :-1], step[:, 1:] + 2 * step[:, :-1]
    inner = (before + after) / (before / secant[:, :-1] + after / secant[:, 1:])
    ends = [
        np.maximum(0, ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1))[:, None]
        for h0, h1, d0, d1 in (
            (step[:, 0], step[:, 1], secant[:, 0], secant[:, 1]),
            (step[:, -1], step[:, -2], secant[:, -1], secant[:, -2]),
        )
    ]
    return np.concatenate([ends[0], inner, ends[1]], axis=1)


def bootstrap_fronts(cells: Sequence[Cell], rng: np.random.Generator, n_replicates: int = 500) -> Floats:
    """Accuracy and log latency of all cells, first as they are and then in replicates.

    Test images are drawn for all cells together, by weights that are exponential instead of multinomial (the Bayesian
    bootstrap: Rubin, Annals of Statistics 9, 1981), so that no image ever vanishes. Few seeds cannot be drawn from
    themselves: two give three samples, with half the variance. So seeds are parametric: normal, with the variances that
    `fit_two_way` and `seed_spreads` pool over all cells, each replicate's variance drawn by its degrees of freedom, and
    with the correlation that a method's targets show. What a seed's session does to all cells alike is no part of it.

    Parameters
    ----------
    cells
        Of all fronts; the dense model once.
    rng
        Source of all draws.
    n_replicates
        How many follow the estimate.

    Returns
    -------
    ndarray, shape (1 + n_replicates, n_cells, 2)
        For `equal_accuracy_lead`: take the cells of one front.
    """
    log_ms = np.array([cell.log_ms for cell in cells])
    methods = [cell.method for cell in cells]
    fit = fit_two_way(log_ms, np.array([cell.measurement_variance for cell in cells]))
    present = ~np.isnan(log_ms)
    deviation = np.zeros(log_ms.shape)
    deviation[present] = np.sqrt(np.where(np.isfinite(fit.cell_variance), fit.cell_variance, 0.0))
    seeds = _SeedNoise(methods, log_ms.shape, rng, n_replicates)
    latency = fit.row_means + seeds.drawn(
        _correlation(log_ms, methods), fit.degrees, lambda noise: fit.effects.row_means_of(noise * deviation)
    )

    by_seed = np.array([cell.outcomes.by_seed for cell in cells])
    is_free = np.array([not cell.is_fixed for cell in cells])
    spreads = seed_spreads([cell.outcomes for cell in cells if not cell.is_fixed])
    spread = next((of for of in spreads if not of.is_own), Spread(0.0, 0.0, 0.0))
    flips_apart = spread.variance / spread.excess if spread.excess else 1.0  # flips of different models are independent
    here = ~np.isnan(by_seed)
    share_of_mean = here / np.maximum(here.sum(axis=1, keepdims=True), 1.0)
    share_of_mean[is_free] *= np.sqrt([[of.excess] for of in spreads]) if spreads else 0.0
    share_of_mean[~is_free] = 0.0
    noise = seeds.drawn(
        min(1.0, _correlation(by_seed, methods) * flips_apart),
        spread.degrees,
        lambda noise: np.einsum("ncs,cs->nc", noise, share_of_mean),
    )
    accuracy = np.clip(_drawn_by_images([cell.outcomes for cell in cells], rng, n_replicates) + noise, 0, 1)

    estimate = np.stack([np.nanmean(by_seed, axis=1), fit.row_means], axis=-1)
    return np.concatenate([estimate[None], np.stack([accuracy, latency], axis=-1)])


@dataclass(frozen=True)
class _SeedNoise:
    """Draws of what seeds do to cells, shape (n, n_cells, n_seeds), a few replicates at a time."""

    methods: Sequence[str]
    shape: tuple[int, ...]
    rng: np.random.Generator
    n: int

    def drawn(self, share: float, degrees: float, means: Callable[[Floats], Floats]) -> Floats:
        """Means over seeds, shape (n, n_cells), of draws in units of their deviation.

        Parameters
        ----------
        share
            Of the variance, what a method and seed have in common.
        degrees
            Of the estimated deviation, which each replicate draws too; 0 where it is known.
        means
            From draws to their means: linear.
        """
        names, which = np.unique(self.methods, return_inverse=True)
        n_cells, n_seeds = self.shape
        drawn = np.sqrt(1 - share) * self._in_parts(n_cells, n_seeds, means)
        drawn += np.sqrt(share) * self._in_parts(len(names), n_seeds, lambda noise: means(noise[:, which]))
        if degrees:
            drawn *= np.sqrt(degrees / self.rng.chisquare(degrees, self.n))[:, None]
        return np.asarray(drawn)

    def _in_parts(self, n_rows: int, n_seeds: int, means: Callable[[Floats], Floats]) -> Floats:
        step = max(1, PART // (self.shape[0] * n_seeds))
        room = np.empty((min(step, self.n), n_rows, n_seeds))
        found = []
        for start in range(0, self.n, step):
            here = room[: self.n - start]
            self.rng.standard_normal(out=here)
            found.append(means(here))
        return np.concatenate(found)


def _correlation(values: Floats, methods: Sequence[str]) -> float:
    """Correlation of residuals of a method and seed at different targets, pooled over methods and seeds; at least 0."""
    centred = values - np.nanmean(values, axis=1, keepdims=True)
    here = (~np.isnan(values)).astype(np.float64)
    left = np.nan_to_num(centred - np.nansum(centred, axis=0) / np.maximum(here.sum(axis=0), 1.0))
    groups = (np.unique(methods)[:, None] == np.array(methods)).astype(np.float64)  # (n_methods, n_cells)
    products = float(((groups @ left) ** 2).sum() - (left**2).sum())
    pairs = float(((groups @ here) ** 2).sum() - here.sum())
    mean_square = float((left**2).sum() / here.sum())
    return min(1.0, max(0.0, products / pairs / mean_square)) if pairs and mean_square else 0.0


def _drawn_by_images(rows: Sequence[Outcomes], rng: np.random.Generator, n: int) -> Floats:
    """Accuracies of rows over resampled images, shape (n, n_rows); rows without images get binomial draws."""
    drawn = np.empty((n, len(rows)))
    stored = [index for index, row in enumerate(rows) if row.per_image is not None]
    means = [
        np.asarray(row.per_image[row.present], np.float32).mean(axis=0) for row in rows if row.per_image is not None
    ]
    if stored:
        weights = rng.standard_exponential((n, len(means[0])), dtype=np.float32)
        weights /= weights.sum(axis=1, keepdims=True)
        drawn[:, stored] = weights @ np.array(means).T
    for index in set(range(len(rows))) - set(stored):
        p, n_images = float(np.nanmean(rows[index].by_seed)), rows[index].n
        drawn[:, index] = rng.binomial(n_images, p, n) / n_images if n_images else p
    return drawn
