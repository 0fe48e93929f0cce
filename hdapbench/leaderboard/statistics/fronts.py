"""Pareto fronts, and the lead of one front over another at equal accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, inf, nan

import numpy as np

from hdapbench.arrays import Floats, Integers
from hdapbench.leaderboard.statistics.accuracy import Outcomes, seed_spread
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


def dominates(point: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether a point is nowhere above another, and is another one; less is better in every coordinate."""
    return point != other and all(mine <= theirs for mine, theirs in zip(point, other, strict=True))


def pareto_front(points: Sequence[tuple[float, ...]]) -> list[bool]:
    """Whether each point is dominated by no other; less is better, equal points stand or fall together."""
    return [not any(dominates(other, point) for other in points) for point in points]


def equal_accuracy_lead(front: Floats, reference: Floats) -> Lead:
    """Lead of a front over a reference, as mean difference of log latency over the accuracies that both reach.

    The mean difference between two curves is Bjontegaard's (VCEG-M33, 2001), who interpolated by a cubic polynomial;
    monotone piecewise cubics (PCHIP: Fritsch and Carlson, SIAM Journal on Numerical Analysis 17, 1980) do not overshoot
    and are what later practice takes. Only Pareto-optimal points are kept. The interval is the bootstrap's
    bias-corrected one (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14).

    Parameters
    ----------
    front, reference
        Shape (1 + n_replicates, n_points, 2): accuracy and log latency of every target, the dense model among them. The
        first entry is the estimate, the others are replicates from `bootstrap_fronts`, if any.

    Returns
    -------
    Lead
        Over the accuracies that both fronts span or, where one is more accurate throughout, that the other spans.
    """
    low, high, value = _lead(_pareto(front[0]), _pareto(reference[0]))
    drawn = np.array(
        [_lead(_pareto(own), _pareto(other))[2] for own, other in zip(front[1:], reference[1:], strict=True)]
    )
    ends = _bias_corrected(drawn, value) if len(drawn) else (nan, nan)
    own, other = _pareto(front[0])[:, 0], _pareto(reference[0])[:, 0]
    overlaps = bool(max(own[0], other[0]) < min(own[-1], other[-1]))
    return Lead(exp(value) - 1, exp(ends[0]) - 1, exp(ends[1]) - 1, low, high, overlaps)


def _pareto(points: Floats) -> Floats:
    """Points that none is at least as accurate and as fast as, by rising accuracy."""
    order = points[np.lexsort((points[:, 1], -points[:, 0]))]  # most accurate first
    fastest_before = np.minimum.accumulate(np.append(inf, order[:-1, 1]))
    return np.asarray(order[order[:, 1] < fastest_before][::-1])


def _lead(front: Floats, reference: Floats) -> tuple[float, float, float]:
    """Accuracies over which two fronts are compared, and the mean of log latency of the reference less the front's.

    They are those that both fronts span. Where one is more accurate throughout, it is compared at its fastest point
    over what the other spans: it reaches all of that, and more.
    """
    low, high = max(float(front[0, 0]), float(reference[0, 0])), min(float(front[-1, 0]), float(reference[-1, 0]))
    if low >= high:
        less = front if front[-1, 0] <= reference[0, 0] else reference
        low, high = float(less[0, 0]), float(less[-1, 0])
    return low, high, _mean(reference, low, high) - _mean(front, low, high)


def _mean(front: Floats, low: float, high: float) -> float:
    """Mean log latency over a range of accuracies; below its least accurate point a front is as fast as there."""
    from scipy.interpolate import PchipInterpolator

    least, fastest = float(front[0, 0]), float(front[0, 1])
    if len(front) == 1 or high <= least:
        return fastest
    curve = PchipInterpolator(front[:, 0], front[:, 1])
    if low == high:
        return float(curve(low))
    start = max(low, least)
    return (float(curve.integrate(start, high)) + fastest * (start - low)) / (high - low)


def _bias_corrected(drawn: Floats, value: float) -> Floats:
    """Ends of the bias-corrected bootstrap interval."""
    from scipy.special import ndtr, ndtri

    below = float(((drawn < value).sum() + 0.5) / (len(drawn) + 1))
    z = float(ndtri((1 + CONFIDENCE) / 2))
    return np.asarray(np.quantile(drawn, ndtr(2 * float(ndtri(below)) + np.array([-z, z]))))


def bootstrap_fronts(cells: Sequence[Cell], rng: np.random.Generator, n_replicates: int = 500) -> Floats:
    """Accuracy and log latency of all cells, first as they are and then in replicates.

    Test images are drawn for all cells together, by weights that are exponential instead of multinomial (the Bayesian
    bootstrap: Rubin, Annals of Statistics 9, 1981), so that no image ever vanishes. Few seeds cannot be drawn from
    themselves: two give three samples, with half the variance. So seeds are parametric: normal, with the variances that
    `fit_two_way` and `seed_spread` pool over all cells, each replicate's variance drawn by its degrees of freedom, and
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
    noise = _seed_noise(log_ms, methods, fit.degrees, rng, n_replicates)[:, present]
    latency = fit.row_means + (noise * deviation[present]) @ fit.weights.T  # (n_replicates, n_cells)

    by_seed = np.array([cell.outcomes.by_seed for cell in cells])
    spread = seed_spread([cell.outcomes for cell in cells if not cell.is_fixed])
    noise = _seed_noise(by_seed, methods, spread.degrees, rng, n_replicates) * np.sqrt(spread.excess)
    noise[:, np.isnan(by_seed)] = nan
    noise[:, np.array([cell.is_fixed for cell in cells])] = 0.0
    accuracy = np.clip(
        _drawn_by_images([cell.outcomes for cell in cells], rng, n_replicates) + np.nanmean(noise, axis=2), 0, 1
    )

    estimate = np.stack([np.nanmean(by_seed, axis=1), fit.row_means], axis=-1)
    return np.concatenate([estimate[None], np.stack([accuracy, latency], axis=-1)])


def _seed_noise(values: Floats, methods: Sequence[str], degrees: int, rng: np.random.Generator, n: int) -> Floats:
    """Draws of residuals in units of their deviation, shape (n, n_cells, n_seeds); those of a method are correlated."""
    names, which = np.unique(methods, return_inverse=True)
    share = _correlation(values, which)
    own = rng.standard_normal((n, *values.shape))
    common = rng.standard_normal((n, len(names), values.shape[1]))[:, which]
    scale = np.sqrt(degrees / rng.chisquare(degrees, n)) if degrees else np.ones(n)
    return np.asarray((np.sqrt(1 - share) * own + np.sqrt(share) * common) * scale[:, None, None])


def _correlation(values: Floats, which: Integers) -> float:
    """Correlation of residuals of a method and seed at different targets, pooled over methods and seeds; at least 0."""
    centred = values - np.nanmean(values, axis=1, keepdims=True)
    here = (~np.isnan(values)).astype(np.float64)
    left = np.nan_to_num(centred - np.nansum(centred, axis=0) / np.maximum(here.sum(axis=0), 1.0))
    groups = np.eye(int(which.max()) + 1)[:, which]  # (n_methods, n_cells)
    products = float(((groups @ left) ** 2).sum() - (left**2).sum())
    pairs = float(((groups @ here) ** 2).sum() - here.sum())
    mean_square = float((left**2).sum() / here.sum())
    return float(np.clip(products / pairs / mean_square, 0, 1)) if pairs and mean_square else 0.0


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
