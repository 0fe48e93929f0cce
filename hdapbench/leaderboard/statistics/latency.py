"""Latency of rows: a board's rows share session and devices, so they are compared as ratios within seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike

from hdapbench.arrays import Floats, Integers
from hdapbench.leaderboard.statistics.interval import CONFIDENCE, Interval
from hdapbench.leaderboard.statistics.simultaneous import Evidence, errors_of, satterthwaite, tukey_critical
from hdapbench.leaderboard.statistics.two_way import TwoWayEffects, row_variances, two_way


@dataclass(frozen=True)
class Ratio:
    """Latency of a row over that of the reference: 1.02 is a row that takes 2 % longer.

    Attributes
    ----------
    value, low, high
        The ratio and its interval; 95 % for all rows of the table together.
    evidence
        That the latencies are not equal.
    """

    value: float
    low: float
    high: float
    evidence: Evidence

    @property
    def p(self) -> float:
        """Tukey's p value of equal latencies."""
        return self.evidence.p

    @property
    def differs(self) -> bool:
        """Whether the table shows the row to be slower or faster than the reference."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True, eq=False)
class TwoWay:
    """Log latency of a table's rows, by least squares over rows and seeds; from `fit_two_way`.

    Attributes
    ----------
    row_means
        Shape (n_rows,), log ms: the mean over seeds, adjusted for those that a row misses; NaN for an empty row.
    seed_effects
        Shape (n_seeds,): what all rows share in a seed's session, as difference from the mean over seeds.
    residual_variance, degrees
        Variance of one cell's log latency that neither row nor seed explains, pooled over the table; 0 degrees with one
        seed.
    effects
        The fit that row means are of; its `weights_of` a row are those of its mean as a sum over cells.
    cell_variance
        Shape (n_cells,): the pooled variance, or the row's own if it varies clearly more than the others (see
        `row_variances`), or the cell's measurement variance where that is greater; infinite where none is known.
    cell_source
        Shape (n_cells,): whose the variance is: -1 the measurement's, 0 the pool's, else of a row, one plus its index.
    source_degrees
        Shape (1 + n_rows,): degrees of freedom of the pool and of each row's own variance.
    part
        Shape (n_rows,): rows of one number are connected through common seeds.
    """

    row_means: Floats
    seed_effects: Floats
    residual_variance: float
    degrees: int
    effects: TwoWayEffects
    cell_variance: Floats
    cell_source: Integers
    source_degrees: Floats
    part: Integers


def measurement_variance_of(samples: Sequence[ArrayLike], weights: ArrayLike) -> float:
    """Variance of the log of a fleet's mean latency, from the repeats of its devices.

    The mean is the weighted sum of the devices' medians; the variance of its logarithm is by the delta method that of
    the sum over its square. The variance of a median is that of Maritz and Jarrett, "A note on estimating the variance
    of the sample median" (JASA 73, 1978): the bootstrap's, in closed form over the order statistics. Of few repeats it
    is on average too large, for normal ones by a third of seven and a fifth of fifteen.

    Parameters
    ----------
    samples
        Of each device its repeats in ms, shape (n_repeats,). They must be independent: where repeats share rounds, the
        medians of rounds.
    weights
        Shape (n_devices,): share of each device in the mean.

    Returns
    -------
    float
        NaN if some device was measured once only: one repeat says nothing of noise.
    """
    found = [medians(np.asarray(of, dtype=np.float64)) for of in samples]
    return float(variance_of_mean(np.array([of[0] for of in found]), np.array([of[1] for of in found]), weights))


def medians(repeats: Floats) -> tuple[Floats, Floats]:
    """Medians over the last axis, and Maritz and Jarrett's variances of them; NaN of one value."""
    ordered = np.sort(repeats, axis=-1)
    n = ordered.shape[-1]
    middles = np.asarray((ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2)
    if n < 2:
        return middles, np.full(middles.shape, nan)
    left = ordered - middles[..., None]  # squares of what is small lose no digits
    return middles, np.asarray(left**2 @ _median_shares(n) - (left @ _median_shares(n)) ** 2)


def variance_of_mean(middles: Floats, variances: Floats, weights: ArrayLike) -> Floats:
    """Variance of the log of a weighted mean of medians over the last axis: see `measurement_variance_of`."""
    shares = np.asarray(weights, dtype=np.float64)
    return np.asarray(variances @ shares**2 / (middles @ shares) ** 2)


@cache
def _median_shares(n: int) -> Floats:
    """Probability that each of n ordered values is the median of a resample, shape (n,)."""
    from scipy.special import betainc

    return np.asarray(np.diff(betainc((n + 1) / 2, (n + 1) / 2, np.arange(n + 1) / n)))


def fit_two_way(log_ms: Floats, measurement_variance: Floats) -> TwoWay:
    """Log latency of a table's rows with its residual variance pooled over all rows.

    All rows of a seed share its session, devices and drift: the seed's effect takes what is common, and what is left is
    pooled with (rows - 1) (seeds - 1) degrees of freedom, less the missing cells. No cell is taken for surer than its
    measurement, nor for surer than the table's median one: few repeats may agree by luck. With one seed measurements
    are all that is known. A row that varies clearly more than the others has a variance of its own (`row_variances`).

    Parameters
    ----------
    log_ms
        Shape (n_rows, n_seeds): log of each trial's latency in ms; NaN where there is none.
    measurement_variance
        Shape (n_rows, n_seeds): variance of each from `measurement_variance_of`; NaN where it is not known, and the
        table's median stands for it.
    """
    effects = two_way(log_ms)
    measured = measurement_variance[effects.present]
    told = measured[~np.isnan(measured)]
    usual = float(np.median(told)) if len(told) else 0.0 if effects.degrees else inf
    known = np.fmax(measured, usual)
    rows = row_variances(log_ms, effects)
    which = np.nonzero(effects.present)[0]
    residual = rows.variance[which]
    is_residual = (residual >= known) & (rows.degrees[which] > 0)
    pooled = int(np.argmin(rows.is_own))
    return TwoWay(
        effects.row_means,
        effects.seed_effects,
        float(rows.variance[pooled]),
        int(rows.degrees[pooled]),
        effects,
        np.where(is_residual, residual, known),
        np.where(is_residual, np.where(rows.is_own[which], which + 1, 0), -1),
        np.append(rows.degrees[pooled], rows.degrees),
        effects.part,
    )


def _error(fit: TwoWay, weights: Floats) -> tuple[float, float]:
    """Standard error of a sum over cells, and its degrees of freedom."""
    cells = np.flatnonzero(weights)
    parts, source = weights[cells] ** 2 * fit.cell_variance[cells], fit.cell_source[cells]
    estimated = [
        (float(parts[source == of].sum()), float(fit.source_degrees[of])) for of in np.unique(source) if of >= 0
    ]
    variance = float(parts.sum())
    return sqrt(variance), satterthwaite(variance, estimated)


def latency_ratios(fit: TwoWay, reference: int) -> list[Ratio]:
    """Latency of each row over that of one row, with intervals that hold for the whole table at once.

    Tukey-Kramer intervals on the log scale: in at most 5 % of tables of equal rows is any pair said to differ,
    whichever row is the reference and however it was chosen (see `simultaneous`). The reference itself is exactly 1.

    Parameters
    ----------
    fit
        From `fit_two_way`.
    reference
        Row to which the others are compared. A row that no seed connects with it gets an interval without bounds.
    """
    n_rows = len(fit.row_means)
    unknown = Evidence(nan, n_rows, inf)
    ratios = []
    for row in range(n_rows):
        if row == reference:
            ratios.append(Ratio(1.0, 1.0, 1.0, unknown))
            continue
        difference = float(fit.row_means[row] - fit.row_means[reference])
        error, degrees = _error(fit, fit.effects.weights_of(row) - fit.effects.weights_of(reference))
        if fit.part[row] != fit.part[reference] or not np.isfinite(error):
            ratios.append(Ratio(exp(difference), 0.0, inf, unknown))
            continue
        reach = tukey_critical(n_rows, degrees) * error
        evidence = Evidence(errors_of(difference, error), n_rows, degrees)
        ratios.append(Ratio(exp(difference), exp(difference - reach), exp(difference + reach), evidence))
    return ratios


def latency_interval(fit: TwoWay, row: int) -> Interval:
    """A row's latency in ms with its 95 % interval, over the seeds of the table.

    Student's t interval of the least-squares mean on the log scale. It is about the sessions that were held: what a
    session does to all rows alike (a warm room, other clocks) moves all of them and is no part of the interval.
    """
    from scipy.special import stdtrit

    error, degrees = _error(fit, fit.effects.weights_of(row))
    mean = float(fit.row_means[row])
    reach = float(stdtrit(min(degrees, 1e9), (1 + CONFIDENCE) / 2)) * error
    return Interval(exp(mean), exp(mean - reach), exp(mean + reach) if reach < 700 else inf)
